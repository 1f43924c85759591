"""EQ-Bench v2 scores beside those its authors published: `python bench/eqbench.py`.

Every result file of the set `eqbench-v2` under AFFECTCORE_DATA: its published score, ours from the answers as they were
given, the difference, and what is odd about the file. Exits with 1 if a complete file is off by more than 0.1.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from corpus import DATA
from rich import box
from rich.console import Console
from rich.table import Table

from affectcore.exams import eqbench

TOLERANCE = 0.1


def main() -> None:
    """Print the table."""
    folder = DATA / "eqbench-v2"
    questions = folder / "data" / "eq_bench_v2_questions_171.json"
    results = folder / "results" / "eq-bench"
    if not questions.is_file() or not results.is_dir():
        raise SystemExit(f"no eqbench-v2 under AFFECTCORE_DATA (here: {DATA})")
    scores = eqbench.score(results, questions)
    published = _published_counts(results)
    extra = Counter(row["model"] for row in scores.questions.to_pylist() if "also rates" in (row["detail"] or ""))
    rows = sorted(scores.table.to_pylist(), key=lambda row: row["file"])

    columns = ["file", "published", "ours", "difference", "parseable", "as published", "remark"]
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="left" if name in ("file", "remark") else "right", overflow="fold")
    failed = 0
    for row in rows:
        name = Path(row["file"]).name.removesuffix("_eqbench_v2_results.json")
        difference = row["score"] - row["published"]
        remarks = []
        if row["n_missing"]:
            remarks.append(f"incomplete: {row['n_missing']} questions without a stored answer")
        if row["n_parseable"] != published[row["file"]]:
            remarks.append(_fewer(scores, row["model"]))
        if extra[row["model"]]:
            remarks.append(f"{extra[row['model']]} answers rate more than was asked, which is passed over")
        if abs(difference) > TOLERANCE:
            failed += not row["n_missing"]
            remarks.append("NOT REPRODUCED")
        table.add_row(
            name,
            f"{row['published']:.2f}",
            f"{row['score']:.2f}",
            f"{difference:+.3f}",
            f"{row['n_parseable']:g}",
            f"{published[row['file']]:g}",
            "; ".join(remarks),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    console.print(table, highlight=False)

    ours, theirs = (np.array([row[name] for row in rows]) for name in ("score", "published"))
    complete = np.array([row["n_missing"] == 0 for row in rows])
    gap = np.abs(ours - theirs)
    for what, chosen in (("complete", complete), ("incomplete", ~complete)):
        within = (gap[chosen] <= TOLERANCE).sum()
        console.print(
            f"{what} files within {TOLERANCE} of the published score: {within} of {chosen.sum()}; largest difference "
            f"{gap[chosen].max():.3f}",
            highlight=False,
        )
    # A score is 100 - scale * distance, so the scale that fits the published ones is read off directly.
    fitted = eqbench.SCALE * ((100 - ours) @ (100 - theirs)) / ((100 - ours) @ (100 - ours))
    console.print(
        f"The published scores fit a scale of {fitted:.5f}; the published code, and ours, has {eqbench.SCALE}.",
        highlight=False,
    )
    raise SystemExit(1 if failed else 0)


def _published_counts(folder: Path) -> dict[str, float]:
    """Return the number of parseable answers that each file states."""
    from affectcore.exams import read_json

    return {str(path): read_json(path)["n_questions_parseable"] for path in folder.glob("*.json")}


def _fewer(scores: eqbench.Scores, model: str) -> str:
    """Say which answers have no score in the pass that counts."""
    (run,) = (row for row in scores.iterations.to_pylist() if row["model"] == model)
    without: list[dict[str, Any]] = [
        row
        for row in scores.questions.to_pylist()
        if row["model"] == model and row["status"] != "missing" and row[run["counts"]] is None
    ]
    details = "; ".join(f"{row['question_id']}: {row['detail'] or 'no ratings'}" for row in without)
    return f"in the pass that counts, not parseable ({details})"


if __name__ == "__main__":
    main()
