"""What the checks of Arrow data cost: `python bench/checks.py --mb 50`.

Dumps of long answers, of short texts and of chats, as IPC (mapped), Feather (lz4) and Parquet, are scored as
`affectcore score` does it, in turn with the checks and without them (`affectcore.io.formats.damage`, and `pages` of
Parquet's page headers). The CPU time of the process is compared, of the fastest rounds, since other processes then
matter little; beside it stands the CPU time that passed within the checks. The first round warms up.
"""

from __future__ import annotations

import argparse
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
_REAL = [getattr(module, name) for module, name in _PLACES]
_spent = [0.0]
_within = threading.local()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=50, help="text in a dump")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    shown = Table("dump", "format", "model", "CPU s without", "CPU s with", "difference", "ms in the checks", "share")
    with tempfile.TemporaryDirectory() as scratch:
        for shape, table in _tables(int(args.mb * 1e6)).items():
            for kind in ("arrow", "feather", "parquet"):
                path = Path(scratch, f"dump.{kind}")
                _write(table, path)
                for model in ("none", "static"):
                    scorer = Scorer(model, unit="turn" if shape == "chats" else "document")
                    without, with_them, within = _measured(path, scorer, args.rounds)
                    row = [f"{without:.3f}", f"{with_them:.3f}", f"{with_them / without - 1:+.1%}"]
                    shown.add_row(shape, kind, model, *row, f"{within * 1000:.1f}", f"{within / with_them:.2%}")
                path.unlink()
    Console(width=120).print(shown)


def _measured(path: Path, scorer: Scorer, rounds: int) -> tuple[float, float, float]:
    """Return CPU seconds without and with the checks, and within them: the least of the rounds."""
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for k in range(2 * rounds + 2):
        checking = bool(k % 2)
        for (module, name), real in zip(_PLACES, _REAL):
            setattr(module, name, _timed(real) if checking else _nothing)
        _spent[0], begun = 0.0, time.process_time()
        score_dataset(path, path.with_name("out.parquet"), scorer=scorer, overwrite=True)
        if k >= 2:
            found[checking].append((time.process_time() - begun, _spent[0]))
    return min(found[False])[0], min(found[True])[0], min(spent for _, spent in found[True])


def _nothing(*args: Any) -> None:
    """Check nothing."""


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
