"""Do two versions of the code write the same: `python bench/same_bytes.py OUT --root CHECKOUT`, then `... A B`.

With --root, scores and compares real dumps (AFFECTCORE_DATA) through the command line of a checkout of this repository
and leaves the files in OUT; it takes minutes. With two such folders, says which files differ, and in which columns.
Provenance is left out of it: versions and hashes may differ. Exit code 1 if anything else does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from spiral import conversations

MODELS = ("none", "static")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="to write, or the two to compare")
    parser.add_argument("--root", type=Path, help="checkout whose code runs")
    args = parser.parse_args()
    if (args.root is None) != (len(args.folders) == 2):
        parser.error("give one folder and --root, or two folders")
    if args.root is not None:
        write(args.folders[0].resolve(), args.root.resolve(), Path(os.environ["AFFECTCORE_DATA"]).resolve())
        return 0
    return differences(*args.folders)


def write(out: Path, root: Path, data: Path) -> None:
    """Write the files of a checkout."""
    out.mkdir(parents=True)
    arena, talks = data / "arena-hard-auto", out / "talks.parquet"
    columns = ("model", "conversation_id", "messages")
    pq.write_table(pa.Table.from_pylist([{c: t[c] for c in columns} for t in conversations(data)]), talks)

    def run(name: str, *command: Any) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "affectcore", *map(str, command)],
            env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "100"},
            cwd=root,
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 3):  # 3: not everything is a dump
            raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr}")
        (out / f"{name}.txt").write_text(done.stdout.replace(str(out), "OUT"))

    def score(name: str, *command: Any) -> None:
        run(name, "score", *command, "-o", out / f"{name}.parquet", "-q")

    for model in MODELS:
        for unit in ("document", "segment"):
            score(f"arena-{model}-{unit}", arena, "--model", model, "--unit", unit)
        for unit in ("turn", "conversation"):
            score(f"spiral-{model}-{unit}", talks, "--model", model, "--unit", unit)
        score(f"spiral-{model}-everybody", talks, "--model", model, "--unit", "turn", "--roles", "all")
    replies = (data / "llm-outputs", "--text", "reply", "--keep", "id,model")
    score("llm-both", *replies, "--unit", "turn", "--parts", "both", "--roles", "all")
    score("llm-logits", *replies, "--taxonomy", "ekman", "--logits")
    sample = arena / "data" / "arena-hard-v0.1" / "model_answer" / "gpt-4-0613.jsonl"
    for unit in ("document", "segment"):
        score(f"arena-mini-{unit}", sample, "--model", "mini", "--unit", unit)
    run(
        "compare", "compare", out / "arena-static-document.parquet", "--preset", "stability", "-o", out / "compare.json"
    )
    run("compare-turns", "compare", out / "spiral-static-turn.parquet", "--metric", "tone", "-o", out / "turns.json")
    questions = data / "eqbench-v2" / "data" / "eq_bench_v2_questions_171.json"
    run("eqbench", "eqbench", data / "eqbench-v2" / "results", "--questions", questions, "-o", out / "eqbench.json")
    run("demo", "demo", "--keep-files", out / "demo")


def differences(first: Path, second: Path) -> int:
    """Print how two folders differ; return 1 if they do."""
    console, bad = Console(width=150), 0
    files = (p.relative_to(d) for d in (first, second) for p in d.rglob("*") if p.is_file())
    names = sorted({str(p) for p in files if not p.name.endswith(".manifest.jsonl")})  # of a run, not of its scores
    for name in names:
        a, b = first / name, second / name
        if not (a.exists() and b.exists()):
            said = f"only in {first if a.exists() else second}"
        elif name.endswith(".parquet"):
            said = _tables(pq.read_table(a), pq.read_table(b))
        elif name.endswith(".json"):
            said = _documents(json.loads(a.read_text()), json.loads(b.read_text()))
        else:
            said = "" if a.read_bytes() == b.read_bytes() else "other bytes"
        console.print(f"{name}: {said or 'the same'}", highlight=False, markup=False)
        bad += bool(said)
    console.print(f"{len(names) - bad} of {len(names)} files are the same", highlight=False)
    return 1 if bad else 0


def _tables(a: pa.Table, b: pa.Table) -> str:
    if a.schema.names != b.schema.names:
        same = set(a.schema.names) == set(b.schema.names)
        said = "other order of columns" if same else f"columns {set(a.schema.names) ^ set(b.schema.names)}"
        shared = [name for name in a.schema.names if name in b.schema.names]
        return ", ".join(filter(None, (said, _tables(a.select(shared), b.select(shared)))))
    if a.num_rows != b.num_rows:
        return f"{a.num_rows:,} rows and {b.num_rows:,}"
    return ", ".join(name for name in a.schema.names if not _same(a[name], b[name]))


def _same(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    if not pa.types.is_floating(a.type) or a.type != b.type:
        return bool(a.equals(b))
    bits = f"u{a.type.bit_width // 8}"  # NaN equals itself, and -0 is not 0
    values = [c.combine_chunks().fill_null(0).to_numpy(zero_copy_only=False).view(bits) for c in (a, b)]
    return bool(a.is_null().equals(b.is_null()) and np.array_equal(*values))


def _documents(a: Any, b: Any, place: str = "") -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        names = [name for name in {**a, **b} if name not in ("provenance", "engine_version")]
        parts = (_documents(a.get(name), b.get(name), f"{place}.{name}") for name in names)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        parts = (_documents(x, y, f"{place}[{i}]") for i, (x, y) in enumerate(zip(a, b)))
    else:
        return "" if a == b or (a != a and b != b) else place
    return ", ".join([part for part in parts if part][:5])


if __name__ == "__main__":
    sys.exit(main())
