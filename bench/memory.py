"""Peak memory and start-up times, each in a process of its own: `python bench/memory.py --json FILE [--full]`.

The peak is VmHWM, which the process reads from /proc/self/status before it ends (Linux only). `ru_maxrss` would not do:
a child starts with its parent's value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import corpus
import machine
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

STARTS = 5
ROWS = 100_000
FULL_ROWS = 1_000_000
DOCUMENT_BYTES = 100_000_000

_CHILD = """
import runpy, sys
report = sys.argv.pop(1)
module = sys.argv.pop(1)
try:
    if module == "-c":
        exec(sys.argv.pop(1))
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status, open(report, "w") as out:
        out.write(next(line for line in status if line.startswith("VmHWM:")).split()[1])
"""

Row = dict[str, Any]


def main() -> None:
    """Measure, and write the rows as JSON."""
    parser = argparse.ArgumentParser(description="Peak memory and start-up times of affectcore.")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the rows go")
    parser.add_argument("--full", action="store_true", help=f"also {FULL_ROWS:,} rows (about 3 GB of free disk)")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.exit(1, "bench/memory.py reads /proc/self/status, which this system does not have\n")
    console = Console(stderr=True)
    stamp = machine.stamp()
    rows: list[Row] = []
    busy: dict[str, float | None] = {}

    def done(row: Row) -> None:
        rows.append(row)
        peak = f", {row['peak_bytes'] / 1e6:,.0f} MB" if "peak_bytes" in row else ""
        console.print(f"{row['name']}: {row['seconds'][len(row['seconds']) // 2]:.2f} s{peak}", highlight=False)

    with tempfile.TemporaryDirectory(prefix="affectcore-bench-") as name:
        folder = Path(name)
        neighbours = machine.Neighbours()
        start_up(done, folder)
        busy["Start-up"] = neighbours.cores()
        neighbours = machine.Neighbours()
        memory(done, folder, [ROWS, FULL_ROWS] if args.full else [ROWS])
        busy["Memory"] = neighbours.cores()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({**stamp, "neighbours": busy, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def start_up(done: Callable[[Row], None], folder: Path) -> None:
    """Time what happens before the first text is scored."""
    for name, command in [
        ("python, nothing else", ["-c", "pass"]),
        ("import affectcore", ["-c", "import affectcore"]),
        ("affectcore --help", ["-m", "affectcore", "--help"]),
    ]:
        done({"section": "Start-up", "name": name, "seconds": sorted(_time(command) for _ in range(STARTS))})
    cache = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    first = _time(["-m", "affectcore", "demo"], cache)
    again = sorted(_time(["-m", "affectcore", "demo"], cache) for _ in range(STARTS))
    note = "compiles the kernels"
    done({"section": "Start-up", "name": "affectcore demo, first run", "seconds": [first], "note": note})
    done({"section": "Start-up", "name": "affectcore demo, later runs", "seconds": again})


def memory(done: Callable[[Row], None], folder: Path, sizes: Sequence[int]) -> None:
    """Measure the peak memory of commands on dumps of these many rows, and on one long document."""
    answers = corpus.load()
    done(_peak("import pyarrow.parquet, numba", ["-c", "import pyarrow.parquet, numba"], folder, note="the floor"))
    dump, scores = folder / "dump.parquet", folder / "scores.parquet"
    for n in sizes:
        n_bytes = answers.write_parquet(dump, n)
        command = ["affectcore", "score", str(dump), "-o", str(scores), "--quiet", "--overwrite"]
        done(_peak(f"affectcore score, {n:,} rows", command, folder, n_bytes, n))
        dump.unlink()
        command = ["affectcore", "compare", str(scores), "--by", "model"]
        done(_peak(f"affectcore compare, {n:,} rows", command, folder, 0, n))
    text = "\n\n".join(answers.texts)
    text = (text * (DOCUMENT_BYTES // len(text) + 1))[:DOCUMENT_BYTES]
    pq.write_table(pa.table({"response": pa.array([text], pa.large_string())}), dump)
    command = ["affectcore", "score", str(dump), "-o", str(scores), "--quiet", "--overwrite"]
    done(_peak("affectcore score, one document", command, folder, len(text.encode()), 1))


def _time(command: Sequence[str], environment: dict[str, str] | None = None) -> float:
    start = time.perf_counter()
    process = subprocess.run([sys.executable, *command], env=environment, capture_output=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.decode()}")
    return seconds


def _peak(name: str, command: Sequence[str], folder: Path, n_bytes: int = 0, n_docs: int = 0, note: str = "") -> Row:
    report = folder / "peak"
    seconds = _time(["-c", _CHILD, str(report), *command])
    return {
        "section": "Memory",
        "name": name,
        "seconds": [seconds],
        "n_bytes": n_bytes,
        "n_docs": n_docs,
        "peak_bytes": int(report.read_text()) * 1024,
        "note": note,
    }


if __name__ == "__main__":
    main()
