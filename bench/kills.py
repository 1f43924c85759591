"""Kill runs and resume them: the scores must be those of a run that nobody disturbed.

    python bench/kills.py --random 40 --calls 1000

Real processes get a real SIGKILL, at random times (``--random``, so many per scene) and before single calls that
change the file system (``--calls``: at every call of a scene, or at so many of them, evenly spaced). Each is then
resumed until it ends. Every file that the undisturbed run wrote must be there byte for byte, `affectcore compare` must
read exactly its rows, other people's files must be as they were, and nothing temporary may stay. Prints a line per
scene; exit code 1 where something differs. Only for systems with fork.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from affectcore.io.scorefiles import open_scores
from affectcore.pipeline.run import score_dataset

CHANGES = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "open", "fsync")


class Lengths:
    """A scorer that is small, and real: how many bytes a text has."""

    schema = pa.schema([("n_len", pa.int32())], metadata={"affectcore": '{"scorer": "lengths"}'})

    def score_units(self, texts: Any) -> tuple[Any, Any]:
        time.sleep(0.001)
        length = pc.binary_length(texts.cast(pa.large_binary())).cast(pa.int32())
        return pa.RecordBatch.from_arrays([length], schema=self.schema), None

    def provenance(self) -> dict[str, str]:
        return {"scorer": "lengths"}


def table(n: int, first: int = 0) -> pa.Table:
    ids = list(range(first, first + n))
    return pa.table({"id": ids, "model": ["m"] * n, "text": [f"{'e' * (i % 5)} text {i}" for i in ids]})


def lines(data: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in data.to_pylist()).encode()


def write_dumps(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    pq.write_table(table(300), folder / "a.parquet", row_group_size=40)
    (folder / "b.jsonl").write_bytes(lines(table(200, 1000)).replace(b'"id": 1100', b'"id" 1100'))
    (folder / "sub" / "c.jsonl").write_bytes(lines(table(120, 2000)))


def shorten(folder: Path) -> None:
    """Change the dumps: one is shorter, one is gone, one is new."""
    pq.write_table(table(90), folder / "a.parquet", row_group_size=40)
    (folder / "sub" / "c.jsonl").unlink()
    (folder / "d.jsonl").write_bytes(lines(table(50, 3000)))


def score(dumps: Path, out: Path, **options: Any) -> None:
    score_dataset(dumps, out, scorer=Lengths(), batch_bytes=300, part_bytes=600, threads=2, **options)


# -- scenes: what was there, what is run -----------------------------------------------------------------------------


def fresh(dumps: Path, out: Path) -> dict[str, Any]:
    return {}


def changed(dumps: Path, out: Path) -> dict[str, Any]:
    score(dumps, out)
    shorten(dumps)
    return {"resume": True}


def overwritten(dumps: Path, out: Path) -> dict[str, Any]:
    score(dumps, out)
    if out.is_dir():
        (out / "mine.parquet").write_bytes(b"not a table")
    shorten(dumps)
    return {"overwrite": True}


SCENES: dict[str, tuple[Callable[[Path, Path], dict[str, Any]], str]] = {
    f"{scene.__name__}, {kind}": (scene, name)
    for scene in (fresh, changed, overwritten)
    for kind, name in (("folder", "out"), ("file", "out.parquet"))
}


# -- processes -------------------------------------------------------------------------------------------------------


def forked(dumps: Path, out: Path, options: dict[str, Any], at: int | None = None, count: int | None = None) -> int:
    """Begin a run in a process of its own; it kills itself before its call number `at`, or counts calls to a pipe."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        seen = 0

        def before(event: str, *arguments: Any) -> None:
            nonlocal seen
            if event == "open":
                flags = arguments[2] if isinstance(arguments[2], int) else 0
                if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return
            if event not in CHANGES or (event != "fsync" and str(out.parent) not in str(arguments[0])):
                return
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        sys.addaudithook(lambda event, arguments: before(event, *arguments) if event in CHANGES else None)
        fsync = os.fsync

        def sync(handle: int) -> None:
            before("fsync")
            fsync(handle)

        os.fsync = sync  # type: ignore[assignment]  # it raises no event
        score(dumps, out, **options)
        if count is not None:
            os.write(count, str(seen).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a process and return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def set_up(scene: Callable[[Path, Path], dict[str, Any]], name: str) -> Iterator[tuple[Path, Path, dict[str, Any]]]:
    folder = Path(tempfile.mkdtemp(prefix="affectcore-kills-"))
    try:
        dumps, out = folder / "dumps", folder / "scores" / name
        write_dumps(dumps)
        # What an earlier run wrote is written in another process too: forking wants a process without threads.
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, json.dumps(scene(dumps, out)).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            options = json.loads(pipe.read())
        assert ended(child) == 0
        yield dumps, out, options
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def written(dumps: Path, out: Path) -> dict[str, bytes]:
    """Return what a run writes for its users: bytes by name."""
    folder = out if out.is_dir() else out.parent
    there = [p for p in folder.iterdir() if not p.name.startswith(".") and "manifest" not in p.name]
    return {p.name: p.read_bytes().replace(str(dumps).encode(), b"dumps") for p in there}


def rows(out: Path) -> list[int]:
    """Return the ids that `affectcore compare` reads, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        scores = open_scores(out)
        ids = [i for batch in scores.batches(["id"], []) for i in batch["id"].to_pylist()]
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps(sorted(ids)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found: list[int] = json.loads(pipe.read())
    assert ended(child) == 0
    return found


def differs(dumps: Path, out: Path, wanted: Undisturbed) -> str:
    found = written(dumps, out)
    wrong = [name for name, data in wanted.files.items() if found.get(name) != data]
    if wrong:
        return f"other bytes in {wrong}"
    if rows(out) != wanted.ids:
        return f"compare reads {len(rows(out))} rows for {len(wanted.ids)}"
    folder = out if out.is_dir() else out.parent
    rubbish = [p.name for p in folder.iterdir() if p.name.startswith(".") and not p.name.endswith("manifest.jsonl")]
    return f"{rubbish} stay" if rubbish else ""


class Undisturbed(NamedTuple):
    seconds: float
    calls: int
    files: dict[str, bytes]
    ids: list[int]


def undisturbed(scene: str) -> Undisturbed:
    begin, name = SCENES[scene]
    reader, writer = os.pipe()
    with set_up(begin, name) as (dumps, out, options):
        clock = time.monotonic()
        assert ended(forked(dumps, out, options, count=writer)) == 0
        seconds = time.monotonic() - clock
        os.close(writer)
        with os.fdopen(reader) as pipe:
            return Undisturbed(seconds, int(pipe.read()), written(dumps, out), rows(out))


def killed(scene: str, wanted: Undisturbed, at: int | None, *times: float) -> str:
    """Kill a run before a call or at a time, and its resumption at another, and say what is wrong in the end."""
    begin, name = SCENES[scene]
    with set_up(begin, name) as (dumps, out, options):
        for number, seconds in enumerate(times):
            child = forked(dumps, out, {"resume": True} if number else options, None if number else at)
            if at is None or number:
                time.sleep(seconds * wanted.seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            if ended(child) not in (0, -signal.SIGKILL):
                return "it failed before it was killed"
        if ended(forked(dumps, out, {"resume": True})) != 0:
            return "--resume fails"
        return differs(dumps, out, wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=7, metavar="N", help="kills at random times, per scene")
    parser.add_argument(
        "--calls", type=int, default=1000, metavar="N", help="kills at single calls, per scene, at most"
    )
    parser.add_argument("--scene", action="append", choices=list(SCENES), help="some scenes only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    draw = random.Random(options.seed)
    bad = 0
    for scene in options.scene or SCENES:
        wanted = undisturbed(scene)
        step = max(1, -(-wanted.calls // options.calls)) if options.calls else wanted.calls
        kills: list[tuple[Any, ...]] = [
            (at, 0.0) for at in range(0 if options.calls else wanted.calls, wanted.calls, step)
        ]
        kills += [(None, *(draw.random() for _ in range(1 + n % 2))) for n in range(options.random)]
        faults = [(kill, fault) for kill in kills if (fault := killed(scene, wanted, *kill))]
        same = f"{len(kills)} kills, {len(kills) - len(faults)} of them resumed to the same scores"
        print(f"{scene}: {wanted.calls} calls, {wanted.seconds:.2f} s; {same}", flush=True)
        for (at, *times), fault in faults:
            when = f"call {at}" if at is not None else " and ".join(f"{t:.0%}" for t in times) + " of the time"
            print(f"  at {when}: {fault}", flush=True)
        bad += len(faults)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
