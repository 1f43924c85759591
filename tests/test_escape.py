"""Text is data: what each way out of `affectcore.escape` does to any text."""

from __future__ import annotations

import csv
import html as stdlib_html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import PurePosixPath, PureWindowsPath

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from texts import NASTY, STEERS

from affectcore import escape

ANY = st.one_of(
    st.text(max_size=60),
    st.text(
        st.sampled_from("\x1b[]()!<>/\\`*_|~#-+=.:;&\"'@$ {}\n\r\t\x9b\u202e\u200d\ufe0f\U000e0041ax1😀🏴é"),
        max_size=40,
    ),
    st.lists(st.sampled_from(list(NASTY.values())), max_size=4).map(" ".join),
)

ORDINARY = [
    "gpt-4.1-mini-2025-04-14, 100% (v2.0); meta-llama/Llama-3.3-70B_Instruct: 'ok' ~5°",
    "Ça va, Ærøskøbing? ſtraße naïve — “quoted” … €5\u00a0000",
    "模型 東京 サーバー 한국어 葛\U000e0100城",
    "العربية ١٢٣ می\u200cخواهم עִבְרִית क्\u200dष श्रीमान् ไทย ᠮᠠ\u180b",
    "👩\u200d🚀 👩🏽\u200d💻 🏳\ufe0f\u200d🌈 👁\ufe0f\u200d🗨\ufe0f 1\ufe0f\u20e3 ❤\ufe0f\u200d🔥 🙂\u200d↔\ufe0f 🇩🇪",
    "👨\u200d👩\u200d👧",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f flag",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    for way in (escape.terminal, escape.line, escape.csv, escape.from_csv):
        assert way(text) == text
    assert json.dumps(text, ensure_ascii=False) == escape.json(text)
    assert escape.markdown(text).replace("\\", "") == text
    assert stdlib_html.unescape(escape.html(text)) == text


@given(ANY)
def test_letters_marks_and_emoji_stay(text: str) -> None:
    import unicodedata

    kept = "".join(
        c for c in text if unicodedata.category(c)[0] in "LMNPS" and not re.match(f"{STEERS}|[\ufe00-\ufe0f]", c)
    )
    kept = re.sub("[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u180b-\u180f\U000e0000-\U000e0fff]", "", kept)
    assert escape.terminal(kept) == escape.line(kept) == kept


@given(ANY)
def test_terminal_and_line(text: str) -> None:
    shown, line = escape.terminal(text), escape.line(text)
    assert not re.search(STEERS, shown) and not re.search(f"{STEERS}|[\n\t]", line)
    assert escape.terminal(shown) == shown and escape.line(line) == line
    assert shown.count("\n") == text.count("\n")
    assert escape.rich(text).plain == line
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07\x7f\x9b1m\x85", "a␛[2J␇␡[U+009B]1m[U+0085]"),
        ("one\r\ntwo\rthree\tx", "one\ntwo␍three\tx"),
        ("\u202eab\u2066\u200b\ufeff\u2028", "[U+202E]ab[U+2066][U+200B][U+FEFF][U+2028]"),
        ("lone \ud800 \udcff", "lone \ufffd \ufffd"),
        ("a\u200db x\ufe0f 😀\ufe0f\ufe0f", "a[U+200D]b x[U+FE0F] 😀\ufe0f[U+FE0F]"),
        ("hidden\U000e0068\U000e0069", "hidden[U+E0068][U+E0069]"),
        ("\u3164\u115f\u034f\xad", "[U+3164][U+115F][U+034F][U+00AD]"),
    ],
)
def test_what_is_hidden_is_shown(text: str, shown: str) -> None:
    assert escape.terminal(text) == shown
    assert escape.line(text) == shown.replace("\n", "␍␊").replace("\t", "␉")


def runs(cell: str) -> bool:
    """Tell whether a spreadsheet would take a cell for a formula."""
    number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell, re.ASCII)
    return re.match("[\\s'\"]*[=+\\-@＝＋－＠﹦﹢﹣﹫]", cell) is not None and not cell.startswith("'") and not number


@given(st.lists(ANY, min_size=1, max_size=4))
@example(["-0.5", "'=x", "''+1", 'x";"=1+1', ";;@a"])
def test_csv(texts: list[str]) -> None:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow([*map(escape.csv, texts), escape.csv(-0.5), escape.csv(None)])
    (row,) = csv.reader(io.StringIO(target.getvalue()))
    assert row[-2:] == ["-0.5", ""]
    # Where the separator is another one, spreadsheets cut lines at that.
    cells = [*row, *next(csv.reader(io.StringIO(target.getvalue()), delimiter=";"))[1:]]
    assert not [cell for cell in cells if runs(cell)]
    back = [escape.from_csv(cell) for cell in row[:-2]]
    assert back == [escape.line(t) for t in texts]
    marked = pa.array(row[:-2], pa.string())
    assert pc.replace_substring_regex(marked, escape.CSV_MARK, r"\1\2").to_pylist() == back


@pytest.mark.parametrize("text", ["-0.5", "1e-3", "+3", ".5", "-1E+05", "7", "a-b", "x=1", "e@f"])
def test_numbers_and_names_get_no_mark(text: str) -> None:
    assert escape.csv(text) == text
    assert escape.csv(float(7)) == 7.0 and escape.csv(-3) == -3


class Rendered(HTMLParser):
    """What is in a piece of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@given(ANY)
@example("[a]: javascript:alert(1)")
@example("1) x")
@example("___")
@example("\\[x\\](y) \\`a\\`")
def test_markdown_shows_the_text_as_it_is(text: str) -> None:
    line = escape.line(text).strip()
    assume(line)
    paragraph = Rendered(MARKDOWN.render(f"{escape.markdown(text)}\n\n[a] [x]\n"))
    assert paragraph.tags == ["p", "p"]
    assert paragraph.text == f"{line}\n[a] [x]\n"
    cell = escape.markdown(text, cell=True)
    found = Rendered(MARKDOWN.render(f"| {cell} | {escape.code(text)} |\n|---|---|\n| {cell} | 1 |\n"))
    assert found.tags == ["table", "thead", "tr", "th", "th", "code", "tbody", "tr", "td", "td"]
    assert found.attributes == [] and found.text.count(line) >= 2


@given(ANY)
def test_html(text: str) -> None:
    found = Rendered(f"<p title=\"{escape.html(text)}\" lang='{escape.html(text)}'>{escape.html(text)}</p>")
    assert found.tags == ["p"] and found.text == escape.terminal(text)
    assert found.attributes == [("title", escape.terminal(text)), ("lang", escape.terminal(text))]


@given(ANY)
def test_json_gives_the_same_text_back(text: str) -> None:
    made = escape.json({text: [text, 1.5, None]}, indent=1)
    assert not re.search(STEERS, made)
    same = re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert json.loads(made) == {same: [same, 1.5, None]}


def test_json_has_no_nan() -> None:
    made = escape.json({"a": [float("nan"), float("inf")], "b": (1, {"c": -float("inf")}), "d": 0.5})
    assert made == '{"a": [null, null], "b": [1, {"c": null}], "d": 0.5}'


@given(ANY)
@example("con")
@example("LPT1.x")
@example("..")
@example("é" * 200)
def test_file_names_stay_in_their_folder(text: str) -> None:
    name = escape.file_name(text)
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert 0 < len(name.encode()) <= 181 and not re.search(f'{STEERS}|[\\s:*?"<>|]', name)
    assert not name.startswith(".") and not name.endswith(".")
    assert name.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt1")
    assert escape.file_name(name) == name


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("text", [*NASTY.values(), "a b", "it's", "\udcff\x1b'\\"])
def test_a_shell_gets_the_same_word(text: str) -> None:
    if "\0" in text:
        pytest.skip("no argument can hold it")
    word = escape.shell(text)
    assert not re.search(f"{STEERS}|\n", word)
    got = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert got == text.encode("utf-8", "surrogateescape")
