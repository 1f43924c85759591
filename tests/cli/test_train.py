from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from stand_in import StandIn, texts
from typer.testing import CliRunner

from affectcore.cli.main import app, main
from affectcore.cli.models import describe
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, InputError
from affectcore.models import base

COMMANDS = ["train", "eval", "models"]


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in, load = StandIn(), base.load
    monkeypatch.setattr(base, "load", lambda name: stand_in if str(name) == "stand-in" else load(name))
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("DATA", "MODEL", "TEXT"):
        monkeypatch.delenv(f"AFFECTCORE_{name}", raising=False)
    return stand_in


@pytest.fixture
def data(tmp_path: Path) -> Path:
    written = texts(400)
    x = StandIn().features(pa.array(written))
    table = pa.table(
        {
            "answer": written,
            "y": [" ".join(c for j, c in enumerate("abc") if row[j] > 1) for row in x],
            "mood": [("up", "down")[int(row[0] > row[1])] for row in x],
            "score": x[:, 4] - x[:, 5],
            "prompt": np.arange(400) // 2,
        }
    )
    path = tmp_path / "labelled.parquet"
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_fast_and_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys, time; t = time.process_time()\nfrom affectcore.cli.main import main\n"
        f"main([{command!r}, '--help'])\nprint('HEAVY', time.process_time() - t, [m for m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        shown, tail = done.stdout.split("HEAVY ", 1)
        assert "Usage: affectcore" in shown and done.stderr == ""
        seconds.append(float(tail.split()[0]))
        for heavy in ("numpy", "pyarrow", "numba", "torch"):
            assert f"'{heavy}'" not in tail
    assert min(seconds) < 0.5


def test_every_option_has_an_environment_twin_and_shows_its_default() -> None:
    for command in COMMANDS:
        text = " ".join(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout.split())
        for parameter in typer.main.get_command(app).commands[command].params:  # type: ignore[attr-defined]
            if parameter.param_type_name == "argument" or parameter.name == "help":
                continue
            long = max(parameter.opts, key=len).removeprefix("--").replace("-", "_").upper()
            # AFFECTCORE_DATA names the folder of the published data sets.
            assert parameter.envvar == f"AFFECTCORE_{long.replace('DATA', 'LABELLED')}"
            assert f"env var: {parameter.envvar}; {'required' if parameter.required else 'default: '}" in text


def test_train_eval_models(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data.parent
    monkeypatch.chdir(folder)
    args = ["--data", str(data), "--label", "y", "--sep", " "]
    train = ["train", *args, "--head", "letters", "--model", "stand-in", "--group", "prompt", "--resamples", "60"]
    assert main([*train, "--licence", "CC0"]) == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.err.startswith("wrote letters\n") and "hint: affectcore score" in captured.err
    shown = captured.out
    for part in ("letters: multi-label, 3 outputs", "rows of a prompt together", "L2 penalty", "calibration"):
        assert part in shown
    assert "Test, evaluated once" in shown and "macro-F1" in shown and re.search(r"rows in \d+ clusters", shown)
    assert max(map(len, shown.splitlines())) <= 100

    report = folder / "report.json"
    judge = ["eval", "--model", "letters", *args, "--resamples", "40", "--seed", "3"]
    assert main([*judge, "-o", str(report)]) == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.err == f"wrote {report}\n" and "mean score" in captured.out and "seed 3" in captured.out
    content = json.loads(report.read_text())
    assert content["n"] == 400 and content["head"] == "letters" and content["model"]["name"] == "letters"
    assert content["overall"]["macro_f1"]["value"] > 0.7
    assert len(content["reliability"]["a"]) == 15
    assert main([*judge, "-o", str(folder / "report.md")]) == EXIT_DONE
    assert "| macro-F1 |" in (folder / "report.md").read_text()
    capsys.readouterr()

    assert main(["models", "letters"]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert "letters (3); on stand-in" in " ".join(shown.split()) and "CC0" in shown and "## Test" in shown
    assert main(["models", "letters", "--json"]) == EXIT_DONE
    record = json.loads(capsys.readouterr().out)
    assert record["content_hash"] == base.content_hash(folder / "letters")
    assert record["heads"][0]["columns"] == ["letters_a", "letters_b", "letters_c"]
    assert main(["models"]) == EXIT_DONE
    listed = capsys.readouterr().out
    assert listed.splitlines()[0].split() == ["model", "size", "hash", "heads", "licence"]
    assert [line.split()[0] for line in listed.splitlines()[1:] if not line.startswith(" ")] == base.embedded()


@pytest.mark.parametrize(("label", "figure"), [("mood", "accuracy"), ("score", "Pearson r")])
def test_other_kinds(data: Path, label: str, figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = data.parent / "mine"
    args = ["--data", str(data), "--label", label, "--resamples", "20"]
    assert main(["train", *args, "--head", "mine", "--model", "stand-in", "-o", str(out)]) == EXIT_DONE
    assert figure in capsys.readouterr().out
    assert main(["eval", *args, "--model", str(out)]) == EXIT_DONE
    assert figure in capsys.readouterr().out


def test_rows_that_cannot_be_read_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"text": t, "y": t.count("a") > 1}) for t in texts(200)]
    path.write_text("\n".join([*lines, '{"text": ', ""]))
    args = ["--data", str(path), "--label", "y", "--resamples", "0"]
    mine = str(tmp_path / "mine")
    assert main(["train", *args, "--head", "mine", "--model", "stand-in", "-o", mine]) == EXIT_PARTIAL
    assert "could not be read: 1; the first:" in capsys.readouterr().out
    assert main(["eval", *args, "--model", mine]) == EXIT_PARTIAL


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--label", "y", "--head", "h"], "Missing option '--data'"),
        (["train", "--data", "DATA", "--label", "moood", "--head", "h"], "did you mean 'mood'"),
        (["train", "--data", "DATA", "--label", "mood", "--head", "H 1"], "lower-case letters"),
        (["train", "--data", "DATA", "--label", "mood", "--head", "h", "--kind", "regression"], "which is no number"),
        (["train", "--data", "DATA", "--label", "mood", "--head", "h", "--seed", "-1"], "--seed must be at least 0"),
        (["train", "--data", "DATA", "--label", "mood", "--head", "h", "--split", "mood"], "use train, dev or test"),
        (["train", "--data", "DATA", "--label", "mood", "--head", "h", "--text", "answr"], "did you mean 'answer'"),
        (["eval", "--data", "DATA", "--label", "mood", "--model", "nosuch"], "unknown model 'nosuch'"),
        (["eval", "--data", "DATA", "--label", "mood", "-o", "report.csv"], "known are .json, .md"),
        (["models", "nosuch"], "unknown model 'nosuch'"),
    ],
)
def test_wrong_usage(args: list[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(data) if a == "DATA" else a for a in args]
    if args[0] == "train" and "--model" not in args:
        given += ["--model", "stand-in", "-o", str(data.parent / "out")]
    assert main(given) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.strip().splitlines()
    assert first.startswith("error: ") and message in first
    assert second == f"hint: affectcore {args[0]} --help explains the arguments and options"
    assert not (data.parent / "out").exists()


def test_an_output_that_exists_is_kept(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = data.parent / "precious"
    target.mkdir()
    args = ["train", "--data", str(data), "--label", "mood", "--head", "h", "--model", "stand-in", "-o", str(target)]
    assert main(args) == EXIT_FAILED
    assert "--overwrite" in capsys.readouterr().err
    assert main([*args, "--overwrite"]) == EXIT_FAILED
    assert "no model directory" in capsys.readouterr().err and list(target.iterdir()) == []


def test_a_damaged_model_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tmp_path)]) == EXIT_FAILED
    assert "affect.json" in capsys.readouterr().err
    (tmp_path / "affect.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match="heads is missing"):
        describe(tmp_path)
    started = time.perf_counter()
    assert main(["models", str(tmp_path / "absent")]) == EXIT_USAGE
    assert time.perf_counter() - started < 5
