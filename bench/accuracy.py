"""Agreement of `vader_compound` with people: `python bench/accuracy.py`.

Pearson's and Spearman's correlation with the mean human ratings that VADER's authors published, in the exact and the
corrected mode, with 95% bootstrap intervals. The ratings are those of the sets `vader/gold` under AFFECTCORE_DATA.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from corpus import DATA
from rich import box
from rich.console import Console
from rich.table import Table

from affectcore.scorer import Scorer

MODES = ("exact", "corrected")
RESAMPLES = 1000
SEED = 0


def main() -> None:
    """Print the table."""
    files = sorted(DATA.glob("vader/gold/*_GroundTruth.txt"))
    if not files:
        raise SystemExit(f"no vader/gold/*_GroundTruth.txt under AFFECTCORE_DATA (here: {DATA})")
    scorers = [Scorer(metrics="vader_compound", vader=mode) for mode in MODES]
    columns = ["set", "sentences", "measure", *MODES, "corrected minus exact", "changed"]
    table = Table(*columns, box=box.SIMPLE_HEAD, caption_justify="left")
    table.caption = (
        f"Correlation with mean human ratings; 95% percentile intervals, {RESAMPLES:,} resamples of sentences, "
        "the same for both modes."
    )
    for path in files:
        ratings, texts = _read(path)
        scores = [scorer.score(texts)["vader_compound"].to_numpy() for scorer in scorers]
        changed = f"{(scores[0] != scores[1]).sum():,}"
        title, size = path.stem.removesuffix("_GroundTruth"), f"{len(texts):,}"
        for measure, values in _correlations(ratings, scores).items():
            differences = values[:, 1] - values[:, 0]
            cells = [_with_interval(v) for v in (values[:, 0], values[:, 1], differences)]
            table.add_row(title, size, measure, *cells, changed)
            title = size = changed = ""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(table, highlight=False)


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the mean ratings and the sentences of one set."""
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return np.array([float(row[1]) for row in rows]), [row[2] for row in rows]


def _correlations(ratings: np.ndarray, scores: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return `(1 + RESAMPLES, modes)` per measure: the estimate first, then the resamples."""
    random = np.random.default_rng(SEED)
    n = len(ratings)
    # Values as ranks of the distinct ones: ranks within a resample then take counting only, no sorting.
    columns = [ratings, *(column.astype(np.float64) for column in scores)]
    codes = [np.unique(column, return_inverse=True)[1] for column in columns]
    pearson, spearman = [], []
    for k in range(1 + RESAMPLES):
        rows = np.arange(n) if k == 0 else random.integers(0, n, n)
        rating, *drawn = (column[rows] for column in columns)
        pearson.append([np.corrcoef(rating, column)[0, 1] for column in drawn])
        rating, *drawn = (_ranks(code[rows]) for code in codes)
        spearman.append([np.corrcoef(rating, column)[0, 1] for column in drawn])
    return {"Pearson": np.array(pearson), "Spearman": np.array(spearman)}


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Return the rank of each of the codes (small integers), ties at their mean rank."""
    counts = np.bincount(codes)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def _with_interval(values: np.ndarray) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.4f} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    main()
