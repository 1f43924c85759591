"""Compiling ahead, and what commands say while kernels are compiled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import affectcore as ac
from affectcore.errors import UsageError

ROWS = ["I love this! 😊", "It isn't bad, but I hate it.", None, "```\ncode\n```\nSee https://a.org", "中文 café"]
USUAL = """
import json, sys
import affectcore as ac
from affectcore.cli.main import main
from affectcore.kernels import compilation
model, folder = sys.argv[1:]
for unit, source, target in (
    ("document", "rows.jsonl", "a.parquet"), ("segment", "rows.parquet", "b.arrow"),
    ("turn", "chats.jsonl", "c.jsonl"), ("conversation", "chats.arrow", "d.parquet"),
):
    assert main(["score", f"{folder}/{source}", "-o", f"{folder}/{target}", "--unit", unit, "--model", model]) == 0
assert main(["compare", f"{folder}/a.parquet", "--by", "model"]) == 0
if model != "none":
    assert main(["explain", "I am so sad. It is hopeless."]) == 0
assert main(["doctor"]) == 0
sys.stderr.write(json.dumps(compilation.state().compiled))
"""


def dumps(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"model": f"m{i % 2}", "text": text} for i, text in enumerate(ROWS * 4)]
    chats = [
        {
            "model": row["model"],
            "messages": [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": row["text"]}] * 2,
        }
        for row in rows
    ]
    for name, made in (("rows", rows), ("chats", chats)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    table = pa.Table.from_pylist(chats)
    with pa.OSFile(str(folder / "chats.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("model", ["none", pytest.param("static", marks=pytest.mark.slow)])
def test_after_a_warm_up_nothing_is_compiled(model: str, tmp_path: Path) -> None:
    dumps(tmp_path)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    ahead = [sys.executable, "-c", f"import affectcore as ac; print(len(ac.warm_up({model!r}).kernels))"]
    first = subprocess.run(ahead, env=env, capture_output=True, text=True, check=True)
    assert int(first.stdout) >= (8 if model == "none" else 20)
    assert first.stderr == ""
    again = subprocess.run(ahead, env=env, capture_output=True, text=True, check=True)
    assert int(again.stdout) == 0
    usual = [sys.executable, "-c", USUAL, model, str(tmp_path)]
    # The doctor checks itself with the default model's Scorer, of which VADER's kernels are part of any warm-up.
    done = subprocess.run(usual, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert "compiling" not in done.stderr


@pytest.mark.slow
def test_the_doctor_warms_up(tmp_path: Path) -> None:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    command = [sys.executable, "-m", "affectcore", "doctor", "--warm", "--model", "none"]
    told = []
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        told.append(next(line for line in done.stdout.splitlines() if "warm-up" in line))
    assert re.fullmatch(
        r"ok +warm-up +\d+ kernels compiled in [\d.]+ s, for model none, all units, and compare", told[0]
    )
    assert told[1].split(maxsplit=2)[2] == "nothing to compile, for model none, all units, and compare"


def test_a_warm_up_of_nothing_that_exists() -> None:
    with pytest.raises(UsageError, match="static"):
        ac.warm_up("statik")
    with pytest.raises(UsageError, match="nonsense"):
        ac.warm_up("none", "nonsense")


def test_a_warm_up_of_metrics_that_only_some_units_have() -> None:
    assert ac.warm_up("none", "n_turns,vader_compound").seconds > 0


def command(tmp_path: Path, cache: str) -> tuple[list[str], dict[str, str]]:
    dumps(tmp_path)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / cache)}
    asked = [str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out.parquet"), "--model", "none"]
    asked += ["--metrics", "questions", "--overwrite"]  # few kernels
    return [sys.executable, "-m", "affectcore", "score", *asked], env


def test_the_first_run_says_so_and_does_not_count_it(tmp_path: Path) -> None:
    score, env = command(tmp_path, "kernels")
    first = subprocess.run(score, env=env, capture_output=True, text=True, check=True).stderr.splitlines()
    assert first[0] == "compiling kernels for this CPU (once)"
    compiled = re.fullmatch(r"compiled (\d+) kernels in ([\d.]+) s", first[1])
    assert compiled
    assert int(compiled[1]) >= 3
    whole = "\n".join(first)
    scored = re.search(r"of text in ([\d.]+) s", whole)
    took = re.search(r"^compiling kernels for this CPU took ([\d.]+) s, once; that is not counted$", whole, re.M)
    assert scored
    assert took
    assert float(took[1]) == pytest.approx(float(compiled[2]), abs=1.0)
    assert float(scored[1]) < float(took[1])
    second = subprocess.run(score, env=env, capture_output=True, text=True, check=True).stderr
    assert "compil" not in second
    quiet = subprocess.run(
        [*score, "--quiet"], env={**env, "NUMBA_CACHE_DIR": str(tmp_path / "other")}, capture_output=True, text=True
    )
    assert quiet.stderr == ""


def test_a_terminal_shows_a_count(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    score, env = command(tmp_path, "kernels")
    leader, follower = pty.openpty()
    done = subprocess.Popen(score, env={**env, "TERM": "xterm", "COLUMNS": "100"}, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # as Linux says that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert done.wait() == 0
    counts = re.findall(r"compiling kernels for this CPU \(once\): (\d+) of about (\d+)", shown.decode())
    assert len({n for n, _ in counts}) >= 3
    assert all(int(n) <= int(about) for n, about in counts)
    assert "not counted" in shown.decode()


def test_the_engine_logs_and_does_not_print(tmp_path: Path) -> None:
    code = (
        "import logging, sys; import affectcore as ac; scorer = ac.Scorer('none', 'questions')\n"
        "form = '%(name)s %(levelname)s %(message)s'\n"
        "if sys.argv[1] == 'log': logging.basicConfig(level=logging.INFO, format=form)\n"
        "scorer.score(['Why?'])"
    )
    for how, told in (
        ("silent", ""),
        ("log", "affectcore INFO compiling kernels for this CPU (once); affectcore.warm_up does so ahead\n"),
    ):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / how)}
        done = subprocess.run([sys.executable, "-c", code, how], env=env, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", told)
