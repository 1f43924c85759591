"""Bad days, end to end: each ends with a clear message, the documented exit code, and nothing corrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMAND = [sys.executable, "-m", "affectcore"]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    return subprocess.run([*COMMAND, *arguments], env=settings, capture_output=True, text=True)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.parquet"
    pq.write_table(pa.table({"model": ["a", "b"] * 50, "text": ["Good.", None] * 50}), path)
    return path


def test_null_empty_and_invalid_texts(tmp_path: Path) -> None:
    path = tmp_path / "bytes.parquet"
    pq.write_table(pa.table({"text": pa.array([b"good \xff\xfe", b"", None, "née 😀".encode()], pa.binary())}), path)
    result = run("score", path, "-o", tmp_path / "out.parquet")
    assert result.returncode == 0, result.stderr
    scores = pq.read_table(tmp_path / "out.parquet")
    assert scores["n_invalid_bytes"].to_pylist() == [2, 0, None, 0]
    assert scores["vader_compound"].to_pylist()[1:3] == [0.0, None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.parquet", b"", "empty file"),
        ("empty.jsonl", b"", "empty file"),
        ("cut.parquet", None, "cut.parquet"),
        ("other.parquet", b"this is a text file, whatever its name says", "other.parquet"),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*I", "cut.jsonl.gz"),
    ],
)
def test_a_broken_file_alone_and_among_others(
    good: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    broken = tmp_path / name
    broken.write_bytes(good.read_bytes()[:-200] if content is None else content)
    alone = run("score", broken, "-o", tmp_path / "alone.parquet")
    assert alone.returncode == 1
    assert alone.stderr.startswith("error: ")
    assert message in alone.stderr
    assert "Traceback" not in alone.stderr
    assert not (tmp_path / "alone.parquet").exists()

    among = run("score", broken, good, "-o", tmp_path / "out")
    assert among.returncode == 3
    assert "_errors.jsonl" in among.stderr
    errors = [json.loads(line) for line in (tmp_path / "out" / "_errors.jsonl").read_text().splitlines()]
    assert [Path(error["file"]).name for error in errors] == [name]
    assert errors[0]["reason"]
    assert errors[0]["remedy"]
    assert pq.read_table(tmp_path / "out").num_rows == 100


def test_names_that_are_no_utf_8(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    odd = folder / os.fsdecode(b"a\xff.parquet")
    try:
        odd.write_bytes(good.read_bytes())
    except OSError:
        pytest.skip("no such names on this file system")
    (folder / "b.parquet").write_bytes(good.read_bytes())
    result = run("score", folder, "-o", tmp_path / "out")
    assert result.returncode == 3, result.stderr
    assert "its name is not UTF-8" in (tmp_path / "out" / "_errors.jsonl").read_text()
    assert pq.read_table(tmp_path / "out").num_rows == 100
    for result, code, said in (
        (run("score", odd, "-o", tmp_path / "one"), 1, "its name is not UTF-8"),
        (run("score", good, "-o", odd.with_stem("o\udcff")), 2, "the name of the output is not UTF-8"),
        (run("compare", odd), 1, "surrogates not allowed"),
        (run("explain", os.fsdecode(b"\xff sad")), 0, ""),
    ):
        assert result.returncode == code, result.stderr
        assert said in result.stderr
        assert "unexpected" not in result.stderr


def test_two_runs_to_one_file(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    runs = [subprocess.Popen([*COMMAND, "score", good, "-o", out], stderr=subprocess.PIPE) for _ in range(3)]
    for process in runs:
        process.communicate(timeout=60)
    assert sorted(process.returncode for process in runs) == [0, 1, 1]
    assert pq.read_table(out).num_rows == 100


def test_a_link_stays_a_link(good: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.parquet"
    link.symlink_to(tmp_path / "real.parquet")
    assert run("score", good, "-o", link).returncode == 0
    assert link.is_symlink()
    assert pq.read_table(tmp_path / "real.parquet").num_rows == 100


def test_utf_16(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nfine\n", encoding="utf-16")
    result = run("score", tmp_path / "a.csv", "-o", tmp_path / "out.parquet")
    assert result.returncode == 1
    assert "UTF-16" in result.stderr
    assert "iconv" in result.stderr


def test_summary_names_the_text_column_and_counts_nulls(good: Path, tmp_path: Path) -> None:
    result = run("score", good, "-o", tmp_path / "out.parquet")
    assert "texts: column text; 50 of the rows had no text, and their scores are null" in result.stderr
    assert run("score", good, "-o", "-").returncode == 2


def test_missing_column_names_those_there_are(good: Path, tmp_path: Path) -> None:
    result = run("score", good, "-o", tmp_path / "out.parquet", "--text", "txt")
    assert result.returncode == 2
    assert "model, text" in result.stderr
    assert "did you mean 'text'" in result.stderr


def test_existing_output_stays(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"precious")
    result = run("score", good, "-o", out)
    assert result.returncode == 1
    assert "--overwrite" in result.stderr
    assert "--resume" in result.stderr
    assert out.read_bytes() == b"precious"
    assert run("score", good, "-o", out, "--overwrite").returncode == 0
    assert pq.read_table(out).num_rows == 100


def test_a_folder_that_cannot_be_written(good: Path) -> None:
    result = run("score", good, "-o", "/proc/affectcore/out.parquet")
    assert result.returncode == 1
    assert "/proc/affectcore" in result.stderr
    assert "Traceback" not in result.stderr


def test_disk_full(good: Path, tmp_path: Path) -> None:
    big = tmp_path / "big.parquet"
    pq.write_table(pa.table({"id": range(400_000), "text": [f"good {k}" for k in range(400_000)]}), big)
    # A limit on the size of files stands in for a disk of that size.
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "from affectcore.cli.main import main\n"
        f"sys.exit(main(['score', {str(big)!r}, '-o', {str(tmp_path / 'out.parquet')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "out.parquet" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.parquet", "good.parquet"]


# The run says when it writes the second input's scores, and waits there for the interrupt, so that no time matters.
HELD = """
import sys
from affectcore.cli.main import main
from affectcore.io.writers import Writer

write = Writer.write

def held(self, batch):
    write(self, batch)
    if self.path.name.startswith("1-"):
        print("writing", flush=True)
        sys.stdin.read()

Writer.write = held
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_then_resume(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rows = ["I am not sure that this is good, but it may be."] * 400
    for k in range(6):
        pq.write_table(pa.table({"text": rows}), source / f"{k}.parquet", use_dictionary=False)
    out = tmp_path / "out"
    command = [sys.executable, "-c", HELD, "score", str(source), "-o", str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        stderr = process.stderr.read()  # its input stays open: nothing but the interrupt ends the wait
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
    done = sorted(out.glob("*.parquet"))
    assert [path.name for path in done] == ["0-00000.parquet"]
    assert sorted(path.name for path in out.iterdir()) == ["0-00000.parquet", "_manifest.jsonl"]  # nothing half written
    assert pq.read_table(done[0]).num_rows == 400
    before = done[0].stat().st_mtime_ns
    assert run("score", source, "-o", out, "--resume").returncode == 0
    assert len(list(out.glob("*.parquet"))) == 6
    assert done[0].stat().st_mtime_ns == before
    assert pq.read_table(out).num_rows == 2_400


def test_the_second_run_does_not_compile(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = "import affectcore as ac; ac.Scorer().score(['fine 😀']); ac.Scorer(vader='corrected').score(['fine'])"

    def once() -> float:
        start = time.monotonic()
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        return time.monotonic() - start

    first = once()
    compiled = {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}
    assert len(compiled) >= 7
    second = once()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")} == compiled
    assert second < first / 2
