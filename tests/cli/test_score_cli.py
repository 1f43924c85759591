"""What `affectcore score` and `affectcore demo` say about files that are not theirs, and about being interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import affectcore
from affectcore.cli.main import main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED

FAST = ("--model", "none", "--metrics", "hedges")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{{"model": "m", "text": "{text}"}}\n')
    return path


def test_notes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dumps, out = tmp_path / "dumps", tmp_path / "out"
    write(dumps / "a.jsonl", "perhaps")
    gone = write(dumps / "b.jsonl", "surely")
    assert main(["score", str(dumps), "-o", str(out), *FAST]) == EXIT_DONE
    gone.unlink()
    (out / "mine.parquet").write_bytes((out / "a-00000.parquet").read_bytes())
    assert main(["score", str(dumps), "-o", str(out), "--resume", "--verify", *FAST]) == EXIT_DONE
    told = capsys.readouterr().err
    assert "note: no checksum is on record of 1 of the inputs" in told
    assert f"note: {out} has files that no run on record wrote: mine.parquet; they stay" in told
    assert f"note: {out} has scores of inputs that are no longer there: b.jsonl" in told
    assert main(["compare", str(out), "--by", "model", "--metric", "hedges"]) == EXIT_DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert "scores of inputs that are no longer there, b.jsonl." in shown
    assert "files that its manifest does not count, mine.parquet." in shown


def test_a_file_of_others_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump, out = write(tmp_path / "a.jsonl", "perhaps"), tmp_path / "table.parquet"
    out.write_bytes(b"mine")
    assert main(["score", str(dump), "-o", str(out), "--resume", *FAST]) == EXIT_FAILED
    assert "--resume leaves it alone; write to another place, or pass --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


def test_the_demo_leaves_files_of_others_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("demo.jsonl", "demo-scores.parquet"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        assert main(["demo", "--keep-files", str(folder)]) == EXIT_FAILED
        assert f"{name} exists and is not the demo's" in capsys.readouterr().err
        assert [(p.name, p.read_text()) for p in folder.iterdir()] == [(name, "mine")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_an_interrupted_run_says_what_is_kept(tmp_path: Path) -> None:
    dump, out = tmp_path / "a.parquet", tmp_path / "out" / "scores.parquet"
    pq.write_table(pa.table({"text": ["perhaps it is, perhaps it is not. " * 300] * 20_000}), dump)
    environment = {**os.environ, "PYTHONPATH": str(Path(affectcore.__file__).parents[1])}
    command = [sys.executable, "-m", "affectcore", "score", str(dump), "-o", str(out), *FAST]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 120
        while not list(tmp_path.rglob(".*.tmp")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == EXIT_INTERRUPTED
    assert "interrupted\nhint: an output file is written at the end, as a whole, so the same command begins" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
