"""What two runs at once, other people's files, kills and changes must not cost anybody."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import affectcore
from affectcore.errors import AffectcoreError, OutputError
from affectcore.io.scorefiles import open_scores
from affectcore.pipeline.run import Report, score_dataset

ROOT = Path(affectcore.__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes and links")

RUN = """
import os, signal, sys, time
from pathlib import Path
import pyarrow as pa, pyarrow.compute as pc
from affectcore.errors import AffectcoreError
from affectcore.pipeline.run import score_dataset

dumps, out, go, *flags = sys.argv[1:]
if go.startswith("remove "):  # it kills itself before it removes that many files
    removed, most, go = 0, int(go.split()[1]), "-"
    def watch(event, arguments):
        global removed
        if event == "os.remove" and str(arguments[0]).startswith(out):
            removed += 1
            if removed == most:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)

class Waits:
    # It scores some, says so by a file, and goes on when another file is there.
    schema = pa.schema([("n_len", pa.int32())], metadata={"affectcore": '{"scorer": "lengths"}'})
    batches = 0
    def score_units(self, texts):
        self.batches += 1
        if go != "-" and self.batches > 25:
            Path(go + ".waits").touch()
            while not Path(go).exists():
                time.sleep(0.01)
        return pa.RecordBatch.from_arrays([pc.binary_length(texts).cast(pa.int32())], schema=self.schema), None
    def provenance(self):
        return {"scorer": "lengths"}

try:
    score_dataset(dumps, out, scorer=Waits(), batch_bytes=200, part_bytes=1000, threads=1, **dict.fromkeys(flags, True))
except AffectcoreError as error:
    sys.exit(str(error))
except KeyboardInterrupt as stop:
    print("kept:", stop)
    sys.exit(130)
"""


class Lengths:
    schema = pa.schema([("n_len", pa.int32())], metadata={"affectcore": '{"scorer": "lengths"}'})

    def score_units(self, texts: pa.Array) -> tuple[pa.RecordBatch, Any]:
        return pa.RecordBatch.from_arrays([pc.binary_length(texts).cast(pa.int32())], schema=self.schema), None

    def provenance(self) -> dict[str, str]:
        return {"scorer": "lengths"}


def score(inputs: Any, out: Path, **options: Any) -> Report:
    return score_dataset(inputs, out, scorer=Lengths(), batch_bytes=200, part_bytes=1000, threads=1, **options)


@contextlib.contextmanager
def started(dumps: Path, out: Path, go: Path | str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a run in another process; it waits half-way until the file `go` is there.

    Where that is "-" it does not wait, and where it is "remove 2", it kills itself before it removes its second file.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", RUN, str(dumps), str(out), str(go), *flags]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            yield run
        finally:
            run.kill()


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    out, errors = run.communicate(timeout=120)
    return run.returncode, out + errors


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def table(n: int, first: int = 0) -> pa.Table:
    ids = list(range(first, first + n))
    return pa.table({"id": ids, "text": [f"{'e' * (i % 5)} text {i}" for i in ids]})


def write(path: Path, n: int, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in table(n, first).to_pylist()))
    return path


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    write(tmp_path / "dumps" / "a.jsonl", 600)
    write(tmp_path / "dumps" / "b.jsonl", 300, 1000)
    return tmp_path / "dumps"


def ids(out: Path) -> list[int]:
    """Return the ids that `affectcore compare` reads."""
    return sorted(i for batch in open_scores(out).batches(["id"], []) for i in batch["id"].to_pylist())


ALL = [*range(600), *range(1000, 1300)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def hidden(folder: Path) -> list[str]:
    return [p.name for p in folder.glob(".*") if not p.name.endswith(".manifest.jsonl")]


# -- two runs at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize(
    ("first", "second"), [("overwrite", "overwrite"), ("resume", "resume"), ("resume", "overwrite")]
)
def test_a_second_run_changes_nothing(dumps: Path, tmp_path: Path, name: str, first: str, second: str) -> None:
    out, go = tmp_path / "scores" / name, tmp_path / "go"
    if first == "overwrite":
        score(dumps / "b.jsonl", out)
    with started(dumps, out, go, first) as live:
        wait_for(Path(f"{go}.waits").exists)
        before = files(out.parent)
        with started(dumps / "a.jsonl", out, "-", second) as other:
            code, told = ended(other)
        assert (code, told.partition(" (")[0]) == (1, f"another run is writing to {out}")
        assert f"(process {live.pid} on " in told
        assert files(out.parent) == before
        go.touch()
        assert ended(live) == (0, "")
    assert ids(out) == ALL
    assert hidden(out.parent) + hidden(out) == []


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_killed_run_blocks_nobody(dumps: Path, tmp_path: Path, name: str) -> None:
    out, go = tmp_path / "scores" / name, tmp_path / "go"
    with started(dumps, out, go) as live:
        wait_for(Path(f"{go}.waits").exists)
        live.send_signal(signal.SIGKILL)
        live.wait()
    score(dumps, out, resume=True)
    assert ids(out) == ALL
    assert hidden(out.parent) + hidden(out) == []


def test_two_names_of_one_file_have_one_lock(dumps: Path, tmp_path: Path) -> None:
    out, go = tmp_path / "out.parquet", tmp_path / "go"
    score(dumps / "b.jsonl", out)
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.parquet"
    link.symlink_to(out)
    with started(dumps, out, go, "overwrite") as live:
        wait_for(Path(f"{go}.waits").exists)
        with pytest.raises(OutputError, match=f"another run is writing to {link}"):
            score(dumps, link, overwrite=True)
        go.touch()
        assert ended(live) == (0, "")
    assert link.is_symlink()
    assert len(score(dumps, link, resume=True).skipped) == 2


# -- other people's files ----------------------------------------------------------------------------------------


def test_resume_leaves_a_file_of_others_alone(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    pq.write_table(table(3), out)
    mine = out.read_bytes()
    with pytest.raises(OutputError, match=r"no record of a run that wrote it .*--resume leaves it alone; .*--over"):
        score(dumps, out, resume=True)
    assert out.read_bytes() == mine
    score(dumps, out, overwrite=True)  # an explicit wish
    assert ids(out) == ALL
    pq.write_table(table(3), out)  # the manifest is there, but it is of what was replaced
    with pytest.raises(OutputError, match="is not, or no longer, what the run on record wrote"):
        score(dumps, out, resume=True)
    assert out.read_bytes() == mine
    assert files(tmp_path).keys() == {"out.parquet", ".out.parquet.manifest.jsonl", "dumps/a.jsonl", "dumps/b.jsonl"}


def test_resume_leaves_a_folder_of_others_alone(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    pq.write_table(table(3), out / "a-00000.parquet")
    before = files(out)
    with pytest.raises(OutputError, match=r"no record of a run that could be resumed .*--overwrite"):
        score(dumps, out, resume=True)
    assert files(out) == before


def test_no_part_takes_the_place_of_another_file(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps / "b.jsonl", out)
    pq.write_table(table(3), out / "a-00000.parquet")
    mine = (out / "a-00000.parquet").read_bytes()
    report = score(dumps, out, resume=True)
    assert (out / "a-00000.parquet").read_bytes() == mine
    assert any("no run on record wrote: a-00000.parquet; they stay" in note for note in report.notes)
    assert ids(out) == ALL
    # Where a part of an input goes that has its name already, there is no other place.
    lost = sorted(out.glob("a.jsonl-*.parquet"))[0]
    lines = (out / "_manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "_manifest.jsonl").write_text("".join(line for line in lines if lost.name not in line))
    lost.write_bytes(mine)
    with pytest.raises(OutputError, match=rf"{lost} was not written by the run that is to be resumed.*move it away"):
        score(dumps, out, resume=True)
    assert lost.read_bytes() == mine
    lost.unlink()
    score(dumps, out, resume=True)
    assert ids(out) == ALL


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_file_that_appears_meanwhile_stays(dumps: Path, tmp_path: Path, name: str) -> None:
    out, go = tmp_path / name, tmp_path / "go"
    score(dumps, tmp_path / "whole")
    last = max((tmp_path / "whole").glob("a-*.parquet")).name
    place = out / last if name == "out" else out
    score(dumps / "b.jsonl", out)
    with started(dumps, out, go, "resume") as live:
        wait_for(Path(f"{go}.waits").exists)
        place.unlink(missing_ok=True)
        place.write_text("mine")
        go.touch()
        code, told = ended(live)
    assert code == 1
    assert f"{place} was " in told and "by somebody else meanwhile; move it away" in told
    assert place.read_text() == "mine"
    assert hidden(tmp_path) + hidden(out) == []


def test_overwrite_removes_what_is_on_record(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps, out)
    others = {"notes.txt": b"n", "b-00077.parquet": b"b", "z-00000.parquet": b"z", "b.parquet": b"p", ".hidden": b"h"}
    for name, data in others.items():
        (out / name).write_bytes(data)
    report = score(dumps / "b.jsonl", out, overwrite=True)
    found = files(out)
    assert {name: found[name] for name in others} == others
    assert {n for n in found if n.startswith("a-")} == set()
    assert any("b-00077.parquet, b.parquet, z-00000.parquet" in note for note in report.notes)
    assert ids(out) == list(range(1000, 1300))


@pytest.mark.parametrize("field", ["stem", "output"])
def test_a_manifest_leads_nowhere_else(dumps: Path, tmp_path: Path, field: str) -> None:
    deep = tmp_path / "x" / "y" / "out"
    score(dumps, deep)
    victim = "../../victim"
    (tmp_path / "x" / "victim-00000.parquet").write_text("mine")
    manifest = deep / "_manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "part" and line["stem"] == "a":
            line["fingerprint"] = "changed"
            line[field] = victim if field == "stem" else f"{victim}-00000.parquet"
        if line["kind"] != "run":
            line.pop("check", None)
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = {k: v for k, v in files(tmp_path).items() if "out" not in k}
    with contextlib.suppress(AffectcoreError):
        score(dumps, deep, resume=True)
    assert {k: v for k, v in files(tmp_path).items() if "out" not in k} == before
    score(dumps, deep, overwrite=True)
    assert {k: v for k, v in files(tmp_path).items() if "out" not in k} == before


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_planted_links_are_not_followed(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    victim = tmp_path / "victim"
    victim.write_text("mine")
    write(dumps / "c.jsonl", 3).write_text('{"id": 1, "text": "e"}\nno json\n')  # so that there is a list of errors
    score(dumps / "b.jsonl", out)
    folder = out if name == "out" else tmp_path
    made = ["a-00000.parquet", "_errors.jsonl", "_manifest.jsonl"] if name == "out" else [
        name, f"{name}.errors.jsonl", f".{name}.manifest.jsonl"]  # fmt: skip
    for each in made:
        (folder / f".{each}.{os.getpid()}.tmp").symlink_to(victim)
    score(dumps, out, overwrite=True)
    assert victim.read_text() == "mine"
    assert len(ids(out)) == len(ALL) + 1
    assert not any(p.is_symlink() for p in folder.iterdir())
    (folder / made[1]).unlink()
    (folder / made[1]).symlink_to(victim)
    score(dumps, out, overwrite=True)
    assert victim.read_text() == "mine"


# -- stale rows --------------------------------------------------------------------------------------------------


def test_a_part_without_a_line_is_made_again_or_goes(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps, out)
    assert len(list(out.glob("a-*.parquet"))) > 3
    manifest = out / "_manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    parts = [i for i, line in enumerate(lines) if '"stem": "a"' in line and '"kind": "part"' in line]
    # As a kill between the move of the last part and its line leaves it.
    manifest.write_text("".join(lines[: parts[-1]]))
    for path in out.glob("b-*.parquet"):
        path.unlink()
    write(dumps / "a.jsonl", 100)
    score(dumps, out, resume=True)
    assert ids(out) == [*range(100), *range(1000, 1300)]
    assert sum(pq.read_metadata(p).num_rows for p in out.glob("*.parquet")) == 400


@pytest.mark.parametrize("when", ["remove 1", "remove 2", "remove 5", "half-way"])
def test_overwrite_killed_and_resumed_with_fewer_inputs(dumps: Path, tmp_path: Path, when: str) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    write(dumps / "c.jsonl", 200, 2000)
    score(dumps, out)
    with started(dumps, out, go if when == "half-way" else when, "overwrite") as live:
        if when == "half-way":
            wait_for(Path(f"{go}.waits").exists)
            live.send_signal(signal.SIGKILL)
        assert live.wait(120) == -signal.SIGKILL
    (dumps / "c.jsonl").unlink()
    score(dumps, out, resume=True)
    assert ids(out) == ALL


def test_an_overwrite_that_was_cut_off_is_remembered(dumps: Path, tmp_path: Path) -> None:
    # Cut off when the new manifest stands and nothing of the older run has been removed yet.
    out = tmp_path / "out"
    score(dumps, out)
    older = {p: p.read_bytes() for p in out.glob("*.parquet")}
    write(dumps / "a.jsonl", 100)
    score(dumps, out, overwrite=True)
    lines = (out / "_manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "_manifest.jsonl").write_text("".join(line for line in lines if '"kind": "part"' not in line))
    for path, data in older.items():
        path.write_bytes(data)
    with pytest.raises(OutputError, match="not empty"):
        score(dumps, out)
    score(dumps, out, resume=True)
    assert ids(out) == [*range(100), *range(1000, 1300)]
    assert sum(pq.read_metadata(p).num_rows for p in out.glob("*.parquet")) == 400


def test_an_input_that_is_gone_is_told_and_not_ranked(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps, out)
    (dumps / "a.jsonl").rename(tmp_path / "a.jsonl")
    report = score(dumps, out, resume=True)
    assert [n for n in report.notes if "no longer there: a.jsonl; affectcore compare leaves them out" in n]
    assert ids(out) == list(range(1000, 1300))
    assert open_scores(out).notes == (f"Left out of {out}: scores of inputs that are no longer there, a.jsonl.",)
    (tmp_path / "a.jsonl").rename(dumps / "a.jsonl")
    report = score(dumps / "b.jsonl", out, resume=True)
    assert [n for n in report.notes if "not among these: a.jsonl; affectcore compare reads them too" in n]
    assert ids(out) == ALL


def test_compare_reads_what_is_finished(dumps: Path, tmp_path: Path) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    write(dumps / "0.jsonl", 50, 5000)
    with started(dumps, out, go) as live:
        wait_for(Path(f"{go}.waits").exists)
        live.send_signal(signal.SIGKILL)
        live.wait()
    pq.write_table(table(10), out / "mine.parquet")
    assert ids(out) == list(range(5000, 5050))
    told = open_scores(out).notes
    assert f"Left out of {out}: scores of unfinished inputs, a.jsonl, b.jsonl" in told[0]
    assert told[1] == f"Left out of {out}: files that its manifest does not count, mine.parquet."
    assert len(ids(out / "mine.parquet")) == 10  # files that are named are read as they are
    score(dumps, out, resume=True)
    assert ids(out) == sorted([*ALL, *range(5000, 5050)])


# -- small things ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_leftovers_of_every_kind_go(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    score(dumps / "b.jsonl", out)
    folder = out if name == "out" else tmp_path
    made = ["_errors.jsonl", "_manifest.jsonl", "b-00000.parquet"] if name == "out" else [
        "out.parquet", "out.parquet.errors.jsonl", ".out.parquet.manifest.jsonl"]  # fmt: skip
    for each in made:
        (folder / f".{each}.4000000.tmp").write_text("half of it")
    (folder / ".other.4000000.tmp").write_text("mine")
    score(dumps / "b.jsonl", out, resume=True)
    assert hidden(folder) == [".other.4000000.tmp"]


def test_long_names(tmp_path: Path) -> None:
    dumps, out = tmp_path / "dumps", tmp_path / "out"
    names = ["x" * 240, "x" * 239 + "y", "é" * 120]
    for number, name in enumerate(names):
        write(dumps / f"{name}.jsonl", 250, 1000 * number)
    report = score(dumps, out)
    assert len({p.name for p in report.outputs}) == len(report.outputs) > 3
    assert all(len(os.fsencode(p.name)) < 255 - len("..4194304.tmp") for p in report.outputs)
    before = files(out)
    assert len(score(dumps, out, resume=True).skipped) == 3
    assert files(out) == before
    assert len(ids(out)) == 750
    with pytest.raises(OutputError, match="the name is too long; choose one of at most 215 bytes"):
        score(dumps, tmp_path / f"{'x' * 240}.parquet")


def same_size_and_time(path: Path, data: bytes) -> None:
    status = path.stat()
    assert len(data) == status.st_size
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_verify(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    score(dumps, out, verify=True)
    before = ids(out)
    assert len(score(dumps, out, resume=True, verify=True).skipped) == 2
    b = dumps / "b.jsonl"
    same_size_and_time(b, b.read_bytes().replace(b'"id": 1000', b'"id": 9000'))
    assert len(score(dumps, out, resume=True).skipped) == 2  # neither size nor time has changed
    assert ids(out) == before
    report = score(dumps, out, resume=True, verify=True)
    assert [p.name for p in report.skipped] == (["a.jsonl"] if name == "out" else [])
    assert ids(out) == [*range(600), *range(1001, 1300), 9000]
    changed = out / "a-00001.parquet" if name == "out" else out
    data = changed.read_bytes()
    same_size_and_time(changed, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    if name == "out":
        assert [p.name for p in score(dumps, out, resume=True, verify=True).skipped] == ["b.jsonl"]
        assert changed.read_bytes() == data
    else:
        with pytest.raises(OutputError, match="no longer, what the run on record wrote"):
            score(dumps, out, resume=True, verify=True)


def test_verify_says_what_it_cannot_compare(dumps: Path, tmp_path: Path) -> None:
    for name in ("out", "out.parquet"):
        score(dumps, tmp_path / name)
        report = score(dumps, tmp_path / name, resume=True, verify=True)
        assert len(report.skipped) == 2
        assert report.notes[0].startswith("no checksum is on record of 2 of the inputs")


@pytest.mark.parametrize(
    ("name", "parts", "flags", "told"),
    [
        ("out", 0, (), "no part was finished yet: the same command begins again"),
        ("out", 1, (), "the same command with --resume goes on from the {n} finished parts"),
        (
            "out",
            1,
            ("overwrite",),
            "the same command with --resume in place of --overwrite goes on from the {n}",
        ),
        ("out.parquet", 1, (), "an output file is written at the end, as a whole, so the same command begins again"),
    ],
)
def test_ctrl_c_promises_what_is_true(
    dumps: Path, tmp_path: Path, name: str, parts: int, flags: tuple[str, ...], told: str
) -> None:
    out, go = tmp_path / name, tmp_path / "go"
    if not parts:  # one part of more batches than the run scores before it waits
        (dumps / "b.jsonl").unlink()
        write(dumps / "a.jsonl", 60).write_text("".join(json.dumps({"id": i, "text": "e"}) + "\n" for i in range(900)))
    with started(dumps, out, go, *flags) as live:
        wait_for(Path(f"{go}.waits").exists if parts else lambda: [*tmp_path.rglob(".*.tmp")])
        live.send_signal(signal.SIGINT)
        go.touch()
        code, text = ended(live)
    assert code == 130
    n = len(list(out.glob("*.parquet")))
    assert f"kept: {told.format(n=n)}" in text
    if "--resume" in told:
        score(dumps, out, resume=True)
    else:
        score(dumps, out)
    assert len(ids(out)) > 0


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_finished_run_in_a_read_only_place(name: str) -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        dump, out = write(Path(folder, "dumps", "a.jsonl"), 100), Path(folder, "scores", name)
        score(dump, out)
        place = out if name == "out" else out.parent
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        place.chmod(0o555)
        try:
            if root:
                os.seteuid(65534)  # permissions do not bind root
            report = score(dump, out, resume=True)
            assert [p.name for p in report.skipped] == ["a.jsonl"]
            assert report.notes == [f"{out} cannot be written to, so no lock guards it"]
            for options in ({"overwrite": True}, {"resume": True}):
                other = dump if "overwrite" in options else write_as(root, dump, 200)
                with pytest.raises(OutputError, match="no permission to write here"):
                    score(other, out, **options)
        finally:
            if root:
                os.seteuid(0)
            place.chmod(0o755)
        assert len(ids(out)) == 100


def write_as(root: bool, path: Path, n: int) -> Path:
    """Write a dump as the user who may."""
    if root:
        os.seteuid(0)
    write(path, n)
    if root:
        os.seteuid(65534)
    return path


# -- at length: bench/kills.py and bench/fuzz_manifests.py -----------------------------------------------------------


@pytest.mark.parametrize("command", [("kills.py", "--calls=5", "--random=1"), ("fuzz_manifests.py", "--mutations=40")])
def test_a_few_of_the_many(command: tuple[str, str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / command[0]), *command[1:]],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
