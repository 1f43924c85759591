"""Hostile texts and names through real commands: none steers the terminal, runs in a spreadsheet, or is markup."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from texts import NASTY, STEERS

from affectcore.cli.main import main
from affectcore.comparison import compare
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE

ALL = " / ".join(NASTY.values())
BY = "\x1b[31mmodel|<img src=x onerror=alert(1)>\u202e"
METRIC = "=cmd|\x1b[2J[x](javascript:alert(1)) </script><script>alert(1)</script>"
# What stands behind each name on the terminal, in Markdown, in pages and figures.
PARTS = ("␛[2J␛[31mred", "[U+009B]31m", "harmless␍EVIL", "[U+202E]gpj.exe", "a[U+200B]b[U+FEFF]", "␉=1+1", "a␊␊# h")

Said = Callable[..., tuple[str, str]]


def calm(*texts: str) -> None:
    for text in texts:
        assert re.findall(STEERS, text) == []


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command and return what it printed, which may not steer the terminal."""

    def run(code: int | tuple[int, ...], *args: str | Path) -> tuple[str, str]:
        assert main([str(arg) for arg in args]) in (code if isinstance(code, tuple) else (code,))
        captured = capsys.readouterr()
        calm(captured.out, captured.err)
        return captured.out, captured.err

    return run


class Page(HTMLParser):
    """What a page does beside showing text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def harmless(self) -> None:
        for tag, attributes in self.tags:
            assert tag not in ("iframe", "object", "embed", "svg", "img", "link", "base", "form"), tag
            for name, value in attributes.items():
                assert not name.startswith("on")
                assert name not in ("href", "src") or (value or "").startswith("#")


def rendered(path: Path) -> Page:
    """Return a Markdown file as a renderer shows it."""
    source = path.read_text()
    calm(source)
    page = Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source))
    page.harmless()
    assert {tag for tag, _ in page.tags} <= {
        *("p", "strong", "h1", "h2", "table", "thead", "tbody", "tr", "th", "td", "code")
    }
    return page


def cells(path: Path) -> list[list[str]]:
    """Return the cells of a CSV file of which a spreadsheet may run none, whatever separator it takes."""
    calm(path.read_text())
    for separator in ",;\t|":
        with path.open(newline="") as file:
            for row in csv.reader(file, delimiter=separator):
                for cell in row:
                    if re.match('[\\s"]*[=+\\-@\t\r＝＋－＠]', cell):
                        float(cell.split(",")[0])  # a number, or the rest of a line that begins with one
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    rows = [
        {BY: name, METRIC: (i * 7 + p * p) % 11 / 11 - 0.5, "prompt_id": p, "turn": p % 2, "set": "x"}
        for i, name in enumerate(NASTY.values())
        for p in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


OPTIONS = ("--by", BY, "--metric", METRIC, "--resamples", "40")


def test_compare_on_the_terminal(scores: Path, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    prices = tmp_path / "pri\x1bces\u202e.csv"
    with prices.open("w", newline="") as file:
        csv.writer(file).writerows([["model", "price\x1b[2J"], *([name, i] for i, name in enumerate(NASTY.values()))])
    options = ["--cost", prices, "--baseline", NASTY["csi"], "--facet", "turn", "--against", scores]
    out, _ = said(EXIT_DONE, "compare", scores, *OPTIONS, *options)
    for part in ("␛[2J␛[31mred", "harmless␍EVIL", "[bold red]a[/]", "price␛[2J", "-2+3"):
        assert part in out
    assert out.count(NASTY["rich"]) >= 2


def test_compare_for_users_of_rich_and_print(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compare(scores, BY, METRIC, n_resamples=40, baseline=NASTY["osc"])
    Console(width=200).print(result.to_rich())
    print(result)
    shown = capsys.readouterr().out
    calm(shown)
    for part in PARTS:
        assert part in shown


def test_compare_csv(scores: Path, said: Said, tmp_path: Path) -> None:
    target = tmp_path / "report.csv"
    said(EXIT_DONE, "compare", scores, *OPTIONS, "--facet", "turn", "-o", target)
    rows = cells(target)
    assert len(rows) == 1 + 3 * len(NASTY)
    at = rows[0].index("mean")
    means = sorted(float(row[at]) for row in rows[1:])
    assert means[0] < -0.2 and not any("'" in row[at] for row in rows)
    table = pv.read_csv(target, parse_options=pv.ParseOptions(newlines_in_values=True))
    assert {f.name for f in table.schema if pa.types.is_floating(f.type)} >= {
        "mean",
        "ci_low",
        "ci_high",
        "diff_to_best",
    }
    assert {str(f.type) for f in table.schema if f.name in ("n", "rank", "facet")} == {"int64"}
    named = dict.fromkeys(table["by"].to_pylist())
    assert {"'@SUM(1+1)", "'-2+3", "'＝1+1", "'+1+cmd|' /C calc'!A0"} <= set(named)


def test_compare_csv_for_pandas(scores: Path, said: Said, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    target = tmp_path / "report.csv"
    said(EXIT_DONE, "compare", scores, *OPTIONS, "-o", target)
    frame = pandas.read_csv(target)
    assert len(frame) == len(NASTY) and str(frame["mean"].dtype) == "float64" and str(frame["n"].dtype) == "int64"


def test_names_come_back_from_a_csv_report(said: Said, tmp_path: Path) -> None:
    """A report is read as scores, and its names meet those of the scores that it was made from."""
    names = ["@cf/meta/llama", "=a", "'=a", "-b", "-0.5", "a;=b", "plain, name", '"q"']
    rows = [{"model": name, "x": float(i), "prompt_id": p} for i, name in enumerate(names) for p in range(3)]
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.Table.from_pylist(rows), whole)
    target = tmp_path / "report.csv"
    said(EXIT_DONE, "compare", whole, "--metric", "x", "-o", target)
    assert set(compare(target, "by", "mean", "rows").table["by"].to_pylist()) == set(names)
    with target.open(newline="") as file:
        costs = [(row["by"], row["n"]) for row in csv.DictReader(file)]
    prices = tmp_path / "prices.csv"
    with prices.open("w", newline="") as file:
        csv.writer(file).writerows([("model", "USD"), *costs])
    out, _ = said(EXIT_DONE, "compare", whole, "--metric", "x", "--cost", prices)
    assert "left out" not in out and "without scores" not in out


def test_compare_markdown(scores: Path, said: Said, tmp_path: Path) -> None:
    target = tmp_path / "report.md"
    said(EXIT_DONE, "compare", scores, *OPTIONS, "--facet", BY, "--where", "set!=<b>\x1b[2J", "-o", target)
    page = rendered(target)
    for part in (*PARTS, NASTY["script"], NASTY["link"], NASTY["marks"], NASTY["reference"], "=cmd|␛[2J"):
        assert part in page.text


def test_compare_json_and_parquet(scores: Path, said: Said, tmp_path: Path) -> None:
    said(EXIT_DONE, "compare", scores, *OPTIONS, "-o", tmp_path / "report.json")
    said(EXIT_DONE, "compare", scores, *OPTIONS, "-o", tmp_path / "report.parquet")
    calm((tmp_path / "report.json").read_text())
    content = json.loads((tmp_path / "report.json").read_text())
    assert {row["by"] for row in content["leaderboard"]} == set(NASTY.values())
    assert set(pq.read_table(tmp_path / "report.parquet")["by"].to_pylist()) == set(NASTY.values())


def test_compare_html_and_figures(scores: Path, said: Said, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    target, folder = tmp_path / "report.html", tmp_path / "figures"
    said(EXIT_DONE, "compare", scores, *OPTIONS, "-o", target, "--figures", folder)
    page = Page(target.read_text())
    page.harmless()
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    calm("".join(re.sub(r"(?s)<(script|style).*?</\1>", "", target.read_text())))
    written = list(folder.iterdir())
    assert len(written) >= 2 and {path.parent for path in tmp_path.rglob("*.svg")} == {folder}
    for path in written:
        assert re.fullmatch(r"[\w.-]+", path.name) and len(path.name.encode()) < 255
    for path in folder.glob("*.svg"):
        calm(path.read_text())
        for element in ElementTree.parse(path).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "image", "a")
            assert not [name for name in element.attrib if name.rpartition("}")[2].startswith(("on", "href"))]
    shown = " ".join(
        "".join(e.itertext()) for path in folder.glob("forest*.svg") for e in ElementTree.parse(path).iter()
    )
    for part in (*PARTS, NASTY["script"]):
        assert part in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_explain(as_json: bool, said: Said, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(f"I am so sad. {ALL}\n\n```\n\x1b[2J\n```\n\n\x1b]0;t\x07 I give up.\n", newline="")
    out, _ = said(EXIT_DONE, "explain", "--file", tmp_path / "text", "--metric", "valence", *(["--json"] * as_json))
    if as_json:
        assert any("\x1b[2J" in segment["text"] for segment in json.loads(out)["segments"])
    else:
        assert "␛" in out


def answers(path: Path) -> Path:
    names = [name for name in NASTY.values() if name.strip()]
    rows = [{"model": n, "question_id": q, "answer": "A" if (i + j) % 3 else n} for i, n in enumerate(names)
            for j, q in enumerate(["1", "2", NASTY["csi"]])]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_quiz(said: Said, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"1": "A", "2": "A"}))
    options = [
        "--key",
        key,
        "--baseline",
        "0.5",
        "--baseline-name",
        NASTY["csi"] + NASTY["script"],
        "--resamples",
        "100",
    ]
    dump = answers(tmp_path / "answers.jsonl")
    for ending in ("csv", "md", "json"):
        out, _ = said(EXIT_PARTIAL, "quiz", dump, *options, "-o", tmp_path / f"report.{ending}")
    assert "to ␛[2J␛[31mred" in out and NASTY["rich"] in out
    check_reports(tmp_path)


def test_eqbench(said: Said, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    scale = {f"emotion{i}": name for i, name in enumerate(("Calm", "Joy", "Fear", "Anger"), 1)}
    scale |= {f"emotion{i}_score": i for i in range(1, 5)}
    key.write_text(json.dumps({q: {"reference_answer_fullscale": scale} for q in "12"}))
    dump = answers(tmp_path / "answers.jsonl")
    for ending in ("csv", "md", "json"):
        out, _ = said(EXIT_PARTIAL, "eqbench", dump, "--questions", key, "--resamples", "100", "-o",
                      tmp_path / f"report.{ending}")  # fmt: skip
    assert "␛[2J␛[31mred" in out
    check_reports(tmp_path)


def check_reports(folder: Path) -> None:
    table = cells(folder / "report.csv")
    assert "'@SUM(1+1)" in [row[table[0].index("model")] for row in table]
    page = rendered(folder / "report.md")
    assert NASTY["script"] in page.text and "␛[2J␛[31mred" in page.text
    text = (folder / "report.json").read_text()
    calm(text)
    assert NASTY["osc"] in {row["model"] for row in json.loads(text)["ranking"]}


def test_train_eval_and_models(said: Said, tmp_path: Path) -> None:
    """Labels and columns of others end in a card, which `models` prints; so does a card that others wrote."""
    labels = [label for label in NASTY.values() if label.strip() == label]
    rows = [{"te\x1bxt": f"{ALL[i : i + 30]} {label}", "la\x1bbel|<b>": label} for i in range(12) for label in labels]
    data, model = tmp_path / "da\x1bta\u202e.jsonl", tmp_path / "he\x1bad"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--data", data, "--label", "la\x1bbel|<b>", "--text", "te\x1bxt", "--resamples", "20"]
    out, err = said(EXIT_DONE, "train", *options, "--head", "mine", "-o", model, "--licence", ALL)
    assert "da␛ta[U+202E].jsonl" in (model / "README.md").read_text()
    assert f"--model $'{tmp_path}/he\\x1bad'" in err
    page = rendered(model / "README.md")
    assert NASTY["script"] in page.text and NASTY["link"] in page.text
    out, _ = said(EXIT_DONE, "eval", *options, "--model", model, "-o", tmp_path / "report.md")
    assert "␛[2J␛[31mred" in out
    assert NASTY["link"] in rendered(tmp_path / "report.md").text
    card = f"# Card\n\n{ALL}\n\ttab\r\n\x1b]0;t\x07end \ud800".encode("utf-8", "surrogatepass") + b"\xff"
    (model / "README.md").write_bytes(card)
    out, _ = said(EXIT_DONE, "models", model)
    assert "# Card\n\n" in out and "\ttab\n␛]0;t␇end" in out
    out, _ = said(EXIT_DONE, "models", model, "--json")
    assert "\x1b]0;t\x07end" in json.loads(out)["card"]


@pytest.mark.parametrize(
    "args",
    [
        ["score", "{folder}/no\x1b[2Jt\u202e\nhere.jsonl", "-o", "x.parquet"],
        ["score", "{folder}/a\x1b[2J\u202e.jsonl", "-o", "{folder}/x.parquet", "--text", "\x9b31m\ncolumn"],
        ["score", "{folder}/a\x1b[2J\u202e.jsonl", "-o", "{folder}/x.p\x1b[2Jq"],
        ["score", "{folder}/a\x1b[2J\u202e.jsonl", "-o", "x.parquet", "--threads", "\x1b[2J"],
        ["score", "{folder}/a\x1b[2J\u202e.jsonl", "-o", "{folder}/x.parquet", "--model", "\x1b[2J\udcff"],
        ["compare", "{folder}/a\x1b[2J\u202e.jsonl", "--by", "\x1b[2J"],
        ["compare", "{folder}/a\x1b[2J\u202e.jsonl", "-o", "\x1b[2J.x\u202e"],
        ["metrics", "\x1b[2Jhed\u200bges"],
        ["models", "\x1b[2J"],
        ["\x1b[2J"],
        ["explain", "--file", "{folder}/\x1b[2J\udcff"],
        ["explain", "x", "--metric", "\x9d0;t\x9c"],
    ],
)
def test_errors(args: list[str], said: Said, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\u202e.jsonl").write_text(json.dumps({"text\x1b[2J": "x", "other\x9b\u202e": "y"}) + "\n")
    _, err = said((EXIT_FAILED, EXIT_USAGE), *(arg.format(folder=tmp_path) for arg in args))
    assert all(line.startswith(("error: ", "hint: ")) for line in err.splitlines())  # no name begins a line


def test_score_says_where_and_errors_file(said: Said, tmp_path: Path) -> None:
    source, target = tmp_path / "in\x1b[2J\u202e\n.jsonl", tmp_path / "out\x1b[2J\u202e.parquet"
    source.write_bytes(b'{"text": "I am glad.", "model": "a"}\nnot \x1b[2J \xff\xe2\x80\xae json\n')
    _, err = said(EXIT_PARTIAL, "score", source, "-o", target, "--model", "none")
    assert "hint: affectcore compare $'" in err and "out\\x1b[2J" in err and "to " in err
    listed = Path(f"{target}.errors.jsonl").read_text()
    calm(listed)
    assert json.loads(listed)["file"] == str(source)


def test_scores_as_json_lines(said: Said, tmp_path: Path) -> None:
    rows = [{"text": "I am glad.", "model": n, "x": {"y": [n]}} for n in NASTY.values()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "out.jsonl"
    said(EXIT_DONE, "score", tmp_path / "in.jsonl", "-o", target, "--keep", "model,x", "--model", "none")
    calm(target.read_text())
    kept = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["model"] for row in kept] == [row["x"]["y"][0] for row in kept] == list(NASTY.values())


def test_a_terminal_gets_the_styles_only(scores: Path) -> None:
    """On a real terminal styles are the only codes; with NO_COLOR, or in a pipe, there are none."""
    pty = pytest.importorskip("pty", reason="no pseudo terminals here")
    command = [sys.executable, "-m", "affectcore", "compare", str(scores), *OPTIONS, "--preset", "warmth"]

    def shown(**environment: str) -> str:
        here, there = pty.openpty()
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
        with subprocess.Popen(
            command, stdout=there, stderr=there, env={**kept, "TERM": "xterm-256color", **environment}
        ):
            os.close(there)
            parts = []
            while True:
                try:
                    part = os.read(here, 1 << 16)
                except OSError:  # the other end has gone
                    break
                if not part:
                    break
                parts.append(part)
        os.close(here)
        return b"".join(parts).decode().replace("\r\n", "\n")

    styled, plain = shown(), shown(NO_COLOR="1")
    assert "\x1b[1m" in styled and "␛[2J" in styled
    calm(re.sub(r"\x1b\[[0-9;]*m", "", styled), plain)
    assert re.sub(r"\x1b\[[0-9;]*m", "", styled) == plain
    assert set(re.findall(r"\x1b\[([0-9;]*)m", styled)) <= {"0", "1"}


def test_names_that_the_encoding_lacks(scores: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "affectcore", "compare", str(scores), *OPTIONS]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == EXIT_DONE and done.stdout.isascii() and b"\\u241b[2J" in done.stdout
