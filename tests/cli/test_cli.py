from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from typer.testing import CliRunner

from affectcore._version import __version__
from affectcore.cli.console import MODEL_COLUMNS, err, model_column, progress, split_names
from affectcore.cli.main import app, main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_USAGE

COMMANDS = ["score", "compare", "metrics", "doctor", "demo"]


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AFFECTCORE_") and k != "COLUMNS"}
    return subprocess.run(
        [sys.executable, "-m", "affectcore", *args], capture_output=True, text=True, env={**clean, **env}, timeout=120
    )


def said(stderr: str) -> str:
    """Return what was written to stderr, without the two lines of a first run on a machine."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("compiling kernels for this CPU", "compiled ")))


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        {"model": f"maker/model-{m}", "prompt_id": p, "vader_compound": 0.2 * m + 0.1 * rng.normal(), "self_blame": 0.1}
        for m in range(3)
        for p in range(25)
    ]
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.jsonl"
    texts = ["What a GREAT answer!", "I am sorry, it failed again.", "The index maps keys to rows.", ""]
    rows = [{"model": m, "prompt_id": p, "response": t} for m in ("a", "b") for p, t in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# Help, version, wrong usage


@pytest.mark.parametrize("args", [["--help"], *([c, "--help"] for c in COMMANDS)], ids=lambda a: a[0])
def test_help_is_fast_and_imports_nothing_heavy(args: list[str]) -> None:
    run(*args)  # the first start may have to compile bytecode
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = run(*args)
        seconds.append(time.perf_counter() - started)
        assert done.returncode == EXIT_DONE and "Usage: affectcore" in done.stdout and done.stderr == ""
    assert min(seconds) < 0.5
    code = f"import sys\nfrom affectcore.cli.main import main\nmain({args!r})\nprint('HEAVY', [m for m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    modules = loaded.split("HEAVY", 1)[1]
    for heavy in ("numpy", "pyarrow", "numba", "torch"):
        assert f"'{heavy}'" not in modules


def test_every_option_has_an_environment_twin_and_shows_its_default() -> None:
    for command in COMMANDS:
        text = " ".join(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout.split())
        click_command = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
        for parameter in click_command.params:
            if parameter.param_type_name == "argument" or parameter.name == "help":
                continue
            long = max(parameter.opts, key=len).removeprefix("--").replace("-", "_").upper()
            assert parameter.envvar == f"AFFECTCORE_{long}"
            assert f"env var: AFFECTCORE_{long}; {'required' if parameter.required else 'default: '}" in text


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (EXIT_DONE, f"affectcore {__version__}\n")


def test_without_command_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and "Commands:" in captured.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["scor"], "No such command 'scor'"),
        (["score"], "Missing argument 'INPUT'"),
        (["score", "x.jsonl"], "Missing option"),
        (["score", "x.jsonl", "-o", "y.parquet", "--overwrite", "--resume"], "give one of them"),
        (["score", "x.jsonl", "-o", "y.parquet", "--metrics", "vadr"], "did you mean 'vader'"),
        (["score", "x.jsonl", "-o", "y.parquet", "--threads", "0"], "--threads"),
        (["compare", "x.parquet", "-o", "y.xls"], r"known are .json, .csv, .md, .parquet, .html"),
        (["compare", "x.parquet", "--resamples", "ten"], "--resamples"),
        (["metrics", "hedge"], "did you mean 'hedges'"),
    ],
)
def test_wrong_usage(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.strip().splitlines()
    assert first.startswith("error: ") and message in first
    command = args[0] if args[0] in COMMANDS else ""
    assert second.startswith("hint: " + f"affectcore {command}".strip() + " --help")


# compare


def test_compare_prints_the_leaderboard_on_stdout_only(scores: Path) -> None:
    done = run("compare", str(scores), "--by", "model", "--metric", "vader_compound", "--metric", "self_blame")
    assert done.returncode == EXIT_DONE and said(done.stderr) == "" and "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("vader_compound (score): highest first")
    ranked = [line.split()[:2] for line in lines[2:5]]
    assert ranked == [["1", "maker/model-2"], ["2", "maker/model-1"], ["3", "maker/model-0"]]
    assert any(line.startswith("self_blame (per 100 words): lowest first") for line in lines)
    assert "25 clusters (by prompt_id, paired across models); 2,000 bootstrap replicates" in " ".join(lines)


def test_a_terminal_without_a_width(scores: Path) -> None:
    assert run("compare", str(scores), COLUMNS="0").stdout == run("compare", str(scores), COLUMNS="80").stdout != ""


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    rows = pa.table({"model": ["\x1b[31mred", "a\nb"], "vader_compound": [0.1, 0.2], "\x1b[2J": [1, 1]})
    pq.write_table(rows, tmp_path / "scores.parquet")
    done = run("compare", str(tmp_path / "scores.parquet"), "--facet", "model")
    assert done.returncode == EXIT_DONE
    assert "No interval for ␛[31mred, a␊b" in " ".join(done.stdout.split())
    failed = run("compare", str(tmp_path / "scores.parquet"), "--by", "nothing")
    assert failed.stderr.splitlines()[0].startswith("error: ")
    assert "␛[2J" in failed.stderr
    assert "\x1b" not in done.stdout + done.stderr + failed.stderr


def test_no_color_is_honoured(scores: Path) -> None:
    done = run("compare", str(scores), FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", done.stdout)


@pytest.mark.parametrize("suffix", ["json", "csv", "md"])
def test_compare_writes_a_report(scores: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = scores.with_name(f"report.{suffix}")
    report.write_text("old")
    assert main(["compare", str(scores), "-o", str(report), "--seed", "5"]) == EXIT_DONE
    captured = capsys.readouterr()
    assert captured.err == f"wrote {report}\n" and "seed 5" in captured.out
    from affectcore.comparison import compare

    result = compare(scores, seed=5)
    expected = {"json": result.to_json, "csv": result.to_csv, "md": result.to_markdown}[suffix]()
    assert report.read_text(encoding="utf-8") == expected
    assert sorted(p.name for p in scores.parent.iterdir()) == sorted([report.name, scores.name])
    assert report.stat().st_mode & 0o777 == scores.stat().st_mode & 0o777


def test_compare_report_that_cannot_be_written(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(scores), "-o", str(scores / "below" / "a.json")]) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and "cannot be written" in captured.err


def test_compare_errors_and_their_codes(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(scores), "--by", "modle"]) == EXIT_USAGE
    message = capsys.readouterr().err
    assert "no column 'modle'" in message and "did you mean 'model'" in message and "prompt_id" in message
    assert main(["compare", str(scores.with_name("absent.parquet"))]) == EXIT_FAILED
    assert capsys.readouterr().err.splitlines()[1] == "hint: check the path"
    scores.write_bytes(scores.read_bytes()[:400])
    assert main(["compare", str(scores)]) == EXIT_FAILED
    assert "Traceback" not in capsys.readouterr().err


def test_environment_twins_set_options(scores: Path) -> None:
    done = run("compare", str(scores), AFFECTCORE_SEED="9", AFFECTCORE_RESAMPLES="300", AFFECTCORE_METRIC="self_blame")
    assert "300 bootstrap replicates, seed 9" in " ".join(done.stdout.split())
    assert done.stdout.startswith("self_blame")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.parquet")
    plain, debug = run("compare", absent), run("compare", absent, AFFECTCORE_DEBUG="1")
    assert plain.returncode == EXIT_FAILED and "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr and "InputError" in debug.stderr


def test_a_reader_that_goes_away(scores: Path) -> None:
    code = (
        "import os, sys\nfrom affectcore.cli.main import main\nread, write = os.pipe()\nos.close(read)\n"
        f"os.dup2(write, 1)\nsys.exit(main(['compare', {str(scores)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_FAILED and done.stderr == ""


# metrics


def test_metrics_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    from affectcore.metrics.registry import METRICS, ON_REQUEST

    assert main(["metrics"]) == EXIT_DONE
    listed = capsys.readouterr().out
    names = [line.split()[0] for line in listed.splitlines()[1:] if line and not line.startswith(" ")]
    assert names == [metric.name for metric in METRICS.values() if metric.group not in ON_REQUEST]
    assert "emonet (40)" in listed
    assert main(["metrics", "vader_compound"]) == EXIT_DONE
    text = " ".join(capsys.readouterr().out.split())
    for part in ("Hutto & Gilbert 2014", "exact to vaderSentiment 3.3.2", "version 1", "[-1, 1]"):
        assert part in text
    assert main(["metrics", "--json"]) == EXIT_DONE
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(METRICS)
    assert main(["metrics", "surface", "--json"]) == EXIT_DONE
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["exclaims", "questions", "caps"]


# score


def test_score_then_the_hinted_command(dump: Path) -> None:
    output = dump.with_name("scores.parquet")
    done = run("score", str(dump), "-o", str(output))
    assert done.returncode == EXIT_DONE and done.stdout == ""
    lines = done.stderr.splitlines()
    assert re.fullmatch(rf"scored 8 rows \(.* MB of text in .* s, .* MB/s\) to {re.escape(str(output))}", lines[0])
    assert lines[1:] == ["texts: column response", "", f"hint: affectcore compare {output} --by model"]
    assert pq.read_table(output)["model"].to_pylist() == ["a"] * 4 + ["b"] * 4
    assert run("compare", str(output), "--by", "model").returncode == EXIT_DONE


def test_score_options_reach_the_engine(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = dump.with_name("out")
    args = ["score", str(dump), "-o", str(output), "--metrics", "caps,counts", "--keep", "prompt_id", "--threads", "1"]
    args += ["--text", "response"]
    assert main([*args, "--quiet"]) == EXIT_DONE
    assert capsys.readouterr().err == ""
    (part,) = output.glob("*.parquet")
    assert pq.read_schema(part).names == [
        *("prompt_id", "caps", "n_bytes", "n_words", "n_segments", "n_tokens", "n_excluded_bytes", "n_invalid_bytes")
    ]
    assert main([*args, "--resume"]) == EXIT_DONE
    message = capsys.readouterr().err
    assert "scored 0 rows" in message or "finished by an earlier run" in message
    assert "--by COLUMN" in message  # no kept column names a model


def test_score_keeps_an_output_that_exists(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = dump.with_name("scores.parquet")
    output.write_text("precious")
    assert main(["score", str(dump), "-o", str(output)]) == EXIT_FAILED
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "--overwrite" in message and "--resume" in message
    assert output.read_text() == "precious"
    assert main(["score", str(dump), "-o", str(output), "--overwrite"]) == EXIT_DONE
    assert pq.read_metadata(output).num_rows == 8


def test_score_with_bad_lines_exits_3(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with dump.open("a") as file:
        file.write('{"model": "c", "response": \n')
    output = dump.with_name("scores.parquet")
    assert main(["score", str(dump), "-o", str(output)]) == EXIT_PARTIAL
    message = capsys.readouterr().err
    errors = Path(f"{output}.errors.jsonl")
    assert f"1 problem is listed in {errors}" in message
    assert len(errors.read_text().splitlines()) == 1
    assert pq.read_metadata(output).num_rows == 8


def test_score_names_the_columns_there_are(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(dump), "-o", str(dump.with_name("s.parquet")), "--text", "respons"]) == EXIT_USAGE
    message = capsys.readouterr().err
    assert "respons" in message and "prompt_id" in message and "model" in message


@pytest.mark.parametrize(
    ("option", "value"), [("--backend", "numbe"), ("--unit", "documnt"), ("--vader", "exakt"), ("--model", "nonee")]
)
def test_score_rejects_unknown_names(dump: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    output = dump.with_name("s.parquet")
    assert main(["score", str(dump), "-o", str(output), option, value]) in (EXIT_USAGE, EXIT_FAILED)
    message = capsys.readouterr().err
    assert message.startswith("error: ") and value in message and "unexpected" not in message
    assert not output.exists()


# doctor, demo


def test_doctor_finds_this_installation_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == EXIT_DONE
    captured = capsys.readouterr()
    text = captured.out
    assert "BROKEN" not in text and said(captured.err) == ""
    for what in (
        "affectcore",
        "Python",
        "numba",
        "cores",
        "backend reference",
        "encoders, numba",
        "JIT cache",
        "word lists",
        "self-check",
    ):
        assert what in text
    assert "3 sentences score as vaderSentiment 3.3.2 does" in " ".join(text.split())


def test_doctor_sees_a_broken_installation(tmp_path: Path) -> None:
    # A copy of the package whose list is gone: the check fails, the others still report, the exit code says so.
    import affectcore

    package = Path(affectcore.__file__).parent
    shutil.copytree(package, tmp_path / "affectcore", ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    (tmp_path / "affectcore" / "lexicons" / "flattery.txt").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "affectcore", "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == EXIT_FAILED
    assert "BROKEN" in done.stdout and "flattery.txt" in done.stdout and "Python" in done.stdout
    assert "checks failed" in done.stderr or "check failed" in done.stderr


def test_demo_ranks_the_made_up_models(tmp_path: Path) -> None:
    done = run("demo")
    assert done.returncode == EXIT_DONE
    boards = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\w+ \(", line)]
    assert boards == ["vader_compound", "flattery", "self_blame"]
    for model in ("demo/sunny-1", "demo/steady-2", "demo/gloomy-3", "demo/flatter-4"):
        assert len(re.findall(rf"^\d+ +{model}", done.stdout, re.MULTILINE)) == 3
    worst = [line.split() for line in done.stdout.splitlines() if line.startswith("4 ")]
    assert [row[1] for row in worst[1:]] == ["demo/flatter-4", "demo/gloomy-3"]
    assert "made up" in done.stderr and "affectcore score YOUR_DUMP.jsonl" in done.stderr

    kept = run("demo", "--keep-files", str(tmp_path / "kept"))
    assert kept.returncode == EXIT_DONE and kept.stdout == done.stdout
    visible = {p.name for p in (tmp_path / "kept").iterdir() if not p.name.startswith(".")}
    assert visible == {"demo.jsonl", "demo-scores.parquet"}
    hinted = next(line for line in kept.stderr.splitlines() if "affectcore compare" in line).split("affectcore ")[1]
    assert run(*hinted.split()).returncode == EXIT_DONE


def test_demo_folder_that_cannot_be_made(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--keep-files", str(dump / "below")]) == EXIT_FAILED
    assert "cannot be made" in capsys.readouterr().err


# The shared pieces


def test_interrupt_exits_130_at_once(scores: Path) -> None:
    code = "import sys\nfrom affectcore.cli.main import main\nprint('up', flush=True)\nsys.exit(main(sys.argv[1:]))"
    args = ["compare", str(scores), "--resamples", "2000000"]  # half a minute of work
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert (process.returncode, out, errors.strip()) == (EXIT_INTERRUPTED, "", "interrupted")


def test_progress_logs_lines_when_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(err(), every=0.0) as callback:
        assert callback is not None
        callback(1_234, 5_600_000, 1)
    assert capsys.readouterr().err.startswith("scored 1,234 rows, 5.6 MB, ")
    with progress(err()) as callback:
        assert callback is not None
        callback(1, 1, 1)
    assert capsys.readouterr().err == ""  # less than a minute has passed
    with progress(err(), quiet=True) as callback:
        assert callback is None


def test_model_column_and_split_names() -> None:
    assert model_column(["id", "generator", "model_id"]) == "model_id"
    assert model_column(["id"]) is None
    assert MODEL_COLUMNS[0] == "model"
    assert split_names(["a, b", "c,"]) == ["a", "b", "c"]
    assert split_names([]) is None


@pytest.mark.parametrize(
    ("arguments", "wrong", "meant"),
    [
        (["compare", "x.parquet", "--by", "model", "--preset", "stabilty"], "stabilty", "stability"),
        (["score", "x.jsonl", "-o", "y", "--metrics", "distres"], "distres", "distress"),
        (["score", "x.jsonl", "-o", "y", "--taxonomy", "ekmann"], "ekmann", "ekman"),
        (["score", "x.jsonl", "-o", "y", "--model", "statik"], "statik", "static"),
        (["score", "x.jsonl", "-o", "y", "--backend", "nunba"], "nunba", "numba"),
        (["score", "x.jsonl", "-o", "y", "--text", "repley"], "repley", "reply"),
        (["score", "x.jsonl", "-o", "y", "--text", "reply", "--keep", "mode"], "mode", "model"),
    ],
)
def test_what_was_meant_follows_what_was_mistyped(
    arguments: list[str],
    wrong: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text('{"reply": "fine", "model": "a"}\n{"reply": ["x"], "model": "b"}\n')
    pq.write_table(pa.table({"model": ["a"], "distress": [0.5]}), "x.parquet")
    assert main(arguments) == 2
    assert f"'{wrong}' (did you mean '{meant}'?)" in capsys.readouterr().err
