"""What the checks of Arrow data cost: `python bench/checks.py --mb 50`.

Dumps of long answers, of short texts and of chats, as IPC (mapped), Feather (lz4) and Parquet, are scored as
`affectcore score` does it, and the CPU time that passes within the checks (`affectcore.io.formats.damage`, and `pages`
of Parquet's page headers) is set against that of the process: the medians of some rounds, after one that warms up.
Whole runs with and without checks differ by less than the noise of a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from affectcore.io.formats import damage, ipc, parquet
from affectcore.pipeline.run import score_dataset
from affectcore.scorer import Scorer

_PLACES = ((ipc, "check_batch"), (parquet, "check_batch"), (parquet, "check_pages"), (damage, "check"))
_spent = [0.0]
_within = threading.local()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=50, help="text in a dump")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for module, name in _PLACES:
        setattr(module, name, _timed(getattr(module, name)))
    shown = Table("dump", "format", "model", "CPU s of the run", "CPU ms in the checks", "share")
    with tempfile.TemporaryDirectory() as scratch:
        for shape, table in _tables(int(args.mb * 1e6)).items():
            for kind in ("arrow", "feather", "parquet"):
                path = Path(scratch, f"dump.{kind}")
                _write(table, path)
                for model in ("none", "static"):
                    scorer = Scorer(model, unit="turn" if shape == "chats" else "document")
                    run, within = _measured(path, scorer, args.rounds)
                    shown.add_row(shape, kind, model, f"{run:.2f}", f"{within * 1000:.1f}", f"{within / run:.2%}")
                path.unlink()
    Console(width=120).print(shown)


def _measured(path: Path, scorer: Scorer, rounds: int) -> tuple[float, float]:
    """Return CPU seconds of a run and of the checks in it."""
    found = []
    for _ in range(rounds + 1):
        _spent[0], begun = 0.0, time.process_time()
        score_dataset(path, path.with_name("out.parquet"), scorer=scorer, overwrite=True)
        found.append((time.process_time() - begun, _spent[0]))
    runs, checks = zip(*found[1:])
    return statistics.median(runs), statistics.median(checks)


def _timed(call: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any) -> Any:
        if getattr(_within, "check", False):  # counts there
            return call(*args)
        begun, _within.check = time.thread_time(), True
        try:
            return call(*args)
        finally:
            _within.check = False
            _spent[0] += time.thread_time() - begun

    return timed


def _tables(n_bytes: int) -> dict[str, pa.Table]:
    answers = corpus.load()
    texts = answers.replicated(n_bytes)
    texts = texts.slice(0, max(1, int(len(texts) * n_bytes / texts.nbytes)))
    words = " ".join(answers.texts[:400]).split()
    short = [" ".join(words[i : i + 10]) for i in range(0, len(words) - 10, 5)]
    each = sum(len(text.encode()) for text in short) / len(short)
    few = pa.array(short).take(pa.array([i % len(short) for i in range(int(n_bytes / each))]))
    said = pa.StructArray.from_arrays(
        [pa.array(["user", "assistant"] * (len(few) // 2)), few[: len(few) // 2 * 2]], ["role", "content"]
    )
    offsets = pa.array(range(0, len(said) + 1, 4), pa.int32())
    return {
        "long answers": _with_columns({"text": texts}),
        "short texts": _with_columns({"text": few}),
        "chats": _with_columns({"messages": pa.ListArray.from_arrays(offsets, said)}),
    }


def _with_columns(columns: dict[str, Any]) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"id": range(n), "model": [f"model {i % 7}" for i in range(n)], **columns})


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=50_000)
    else:
        feather.write_feather(table, path, compression="lz4" if path.suffix == ".feather" else "uncompressed")


if __name__ == "__main__":
    main()
