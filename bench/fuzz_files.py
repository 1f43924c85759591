"""Damaged files through the real command line: `python bench/fuzz_files.py --n 1000 [--kind parquet] [--seed 0]`.

Valid small files of every format are made and mutated, with a bias to their structure, and read by `affectcore score`
in every unit, by `compare` (score files, costs) and by `quiz` and `eqbench` (answers, keys). A forked worker runs the
command line file by file, so that a signal or a hang is known to be one file's. Each file must end in scores or in an
error that is said: no signal, no hang, no fault of affectcore's, and no row that a reader which validates everything
does not vouch for. Exit code 1 and a list of files where that is not so; with --keep they stay.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_oracle
import pyarrow.parquet as pq
from fuzz_made import KINDS, Made, make, mutate
from rich.console import Console

from affectcore.cli.main import main as affectcore

limit = 5.0  # seconds for one file
_BASES = 24  # undamaged files of a kind


@dataclass
class Outcome:
    """What a kind's files came to."""

    n: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    findings: list[tuple[int, str]] = field(default_factory=list)


def main() -> int:
    """Run the command line."""
    global limit
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="mutated files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS, help="can be given several times; default: all")
    parser.add_argument("--only", type=int, help="number of one file, whose outcome is printed")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where files that were badly met are kept")
    parser.add_argument("--limit", type=float, default=limit, help="seconds that one file may take")
    args = parser.parse_args()
    limit = args.limit
    console = Console(width=150)
    bad = 0
    memory = Path("/dev/shm")  # where outputs need not reach a disk
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as scratch:
        for kind in args.kind or KINDS:
            started = time.monotonic()
            numbers = range(args.n) if args.only is None else range(args.only, args.only + 1)
            outcome = fuzz(kind, args.seed, numbers, Path(scratch), args.keep, echo=args.only is not None)
            codes = ", ".join(f"{n} x {code}" for code, n in sorted(outcome.codes.items()))
            console.print(
                f"{kind:10} {outcome.n:,} files in {time.monotonic() - started:.0f} s; exit codes: {codes}; "
                f"slowest {outcome.slowest:.2f} s; badly met: {len(outcome.findings)}",
                highlight=False,
            )
            for number, what in outcome.findings[:40]:
                console.print(
                    f"  --kind {kind} --seed {args.seed} --only {number}: {what}", highlight=False, markup=False
                )
            bad += len(outcome.findings)
    return 1 if bad else 0


def fuzz(kind: str, seed: int, numbers: range, scratch: Path, keep: Path | None = None, echo: bool = False) -> Outcome:
    """Damage files of a kind, and judge what the command line makes of each."""
    bases = {b: make(kind, b) for b in sorted({i % _BASES for i in numbers})}
    known = {b: _undamaged(made, scratch) for b, made in bases.items()}
    outcome = Outcome()
    todo = list(numbers)
    while todo:
        worker = _Worker([(i, bases[i % _BASES], known[i % _BASES]) for i in todo], f"{kind} {seed}", scratch, echo)
        for number, code, seconds, what in worker:
            outcome.n += 1
            outcome.codes[code] += 1
            outcome.slowest = max(outcome.slowest, seconds)
            if what:
                outcome.findings.append((number, what))
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    made = bases[number % _BASES]
                    (keep / f"{kind}-{seed}-{number}-{made.name}").write_bytes(_damaged(made, f"{kind} {seed}", number))
            todo.remove(number)
    return outcome


def _damaged(made: Made, seed: str, number: int) -> bytes:
    return mutate(made, f"{seed} {number}")


def _undamaged(made: Made, scratch: Path) -> dict[Any, list[Any]]:
    """Return the rows of an undamaged file by id; it must be scored without a word."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code, path, folder = _run(made, made.data, scratch)
    wrong = fuzz_oracle.verdict(made, path, folder, code, said.getvalue(), {})
    if code or wrong:
        raise SystemExit(f"undamaged {made.name}: exit code {code}, {wrong}\n{made.command}\n{said.getvalue()}")
    out = folder / "out.parquet"
    return fuzz_oracle.rows_of(pq.read_table(out)) if out.exists() else {}


def _run(made: Made, data: bytes, scratch: Path) -> tuple[int, Path, Path]:
    folder = scratch / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = scratch / made.name
    path.write_bytes(data)
    for name, content in made.beside:
        (folder / name).write_bytes(content)
    places = {"FILE": str(path)}
    command = [places.get(a, a.replace("OUT/", f"{folder}/")) for a in made.command]
    return affectcore(command), path, folder


class _Worker:
    """A forked process that reads files one after the other, until one of them ends it."""

    def __init__(self, files: list[tuple[int, Made, Any]], seed: str, scratch: Path, echo: bool) -> None:
        self._files, self._seed, self._scratch, self._echo = files, seed, scratch, echo

    def __iter__(self) -> Any:
        """Yield number, exit code (below 0: the signal), seconds and what is wrong."""
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            self._work(theirs)
        os.close(theirs)
        reading, held, killed = -1, b"", False
        begun = time.monotonic()
        while True:
            ready = select.select([ours], [], [], max(0.0, begun + limit - time.monotonic()))[0]
            if not ready:
                os.kill(child, signal.SIGKILL)
                killed = True
                break
            piece = os.read(ours, 1 << 16)
            if not piece:
                break
            held += piece
            *lines, held = held.split(b"\n")
            for line in lines:
                step = json.loads(line)
                if "begin" in step:
                    reading, begun = step["begin"], time.monotonic()
                else:
                    yield reading, step["code"], time.monotonic() - begun, step["what"]
                    reading = -1
        os.close(ours)
        status = os.waitpid(child, 0)[1]
        if reading >= 0:
            what = f"no end after {limit:g} s" if killed else f"signal {os.WTERMSIG(status)}: {self._last_words()}"
            yield reading, -os.WTERMSIG(status), time.monotonic() - begun, what

    def _last_words(self) -> str:
        said = self._scratch / "said"
        lines = said.read_text(errors="replace").splitlines() if said.exists() else []
        return " | ".join(line.strip() for line in lines[:60])

    def _work(self, pipe: int) -> None:
        import faulthandler

        said = os.open(self._scratch / "said", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if not self._echo:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr = open(said, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.dup2(said, 2)
        faulthandler.enable(sys.stderr)
        for number, made, base in self._files:
            os.ftruncate(said, 0)
            data = _damaged(made, self._seed, number)
            os.write(pipe, json.dumps({"begin": number}).encode() + b"\n")
            code, what = -1, None
            try:
                code, path, folder = _run(made, data, self._scratch)
                sys.stderr.flush()
                words = os.pread(said, 1 << 20, 0).decode(errors="replace")
                if self._echo:
                    print(made.name, made.command, f"exit code {code}", words, sep="\n", flush=True)
                what = fuzz_oracle.verdict(made, path, folder, code, words, base)
            except BaseException as error:
                what = f"the command or the verdict raised {type(error).__name__}: {error}"
                if self._echo:
                    import traceback

                    traceback.print_exc(file=sys.stdout)
            os.write(pipe, json.dumps({"code": code, "what": what}).encode() + b"\n")
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
