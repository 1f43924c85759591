"""The documentation says what the program does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from texts import data

import affectcore

ROOT = Path(affectcore.__file__).parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="not a checkout: there is no README")


def output(*arguments: str | Path, cwd: Path | None = None) -> str:
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "affectcore", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=True).stdout


def consoles() -> list[str]:
    return re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


def test_generated_parts_are_up_to_date() -> None:
    run = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_demo_prints_what_the_readme_shows() -> None:
    shown = consoles()[0].removeprefix("$ make demo\n").rstrip("\n")
    assert output("demo") == shown + "\n"


def test_arena_hard_prints_what_the_readme_shows(tmp_path: Path) -> None:
    folder = data("arena-hard-auto", "data")
    shown = next(block for block in consoles() if "arena.parquet --by model" in block)
    files = re.findall(r"\S+\.jsonl", shown)
    assert len(files) == 4
    output("score", *[folder / file for file in files], "-o", tmp_path / "arena.parquet")
    leaderboard = output("compare", tmp_path / "arena.parquet", "--by", "model", "--metric", "hedges")
    assert shown.split("--metric hedges\n")[1] == leaderboard


def test_python_session_prints_what_the_readme_shows() -> None:
    import doctest

    session = re.search(r"```python\n(>>> .*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert session
    test = doctest.DocTestParser().get_doctest(session[1], {}, "README", str(README), 0)
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert (runner.tries, runner.failures) == (6, 0)


def test_links_lead_somewhere() -> None:
    for page in (README, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for path in re.findall(
            r"(?<![\w-])((?:docs|bench|tests|kernels|affectcore)/[\w/.]+\w)", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), f"{page.name} names {path}"
