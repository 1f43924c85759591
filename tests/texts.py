"""Texts for the tests: hypothesis strategies that reach VADER's rules, and the real data where it is present."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

from affectcore import lexicons

DATA = Path(os.environ.get("AFFECTCORE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))

EMOJI = "😀😂❤💔👍🏽😡☹🔛🙅™©Ⓜ🤷👲‼🥺💀🎉"
SPACES = " \t\n\r\v\f\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000"
MARKS = "\u0301\u0308\u200d\ufe0f\u200b\u20e3\u0345"
LETTERS = "aZñÉßİıǅªⅧкΣς日本\u212a\u2126ﬁ𝔄𐐀𞤀"
NAMED = (
    "no or nor never so this without doubt least at very but kind of the shit bomb bad ass bus stop yeah right kiss "
    "death to die for beating heart just enough sort badass not don't can't cannot AIN'T isn't neither rarely despite "
    "without hardly very really extremely uber good great bad terrible happy sad love hate lol :) :( :D <3 'n't n't "
    "don’t"
).split()


@lru_cache(maxsize=1)
def vocabulary() -> list[str]:
    """Words that some rule or list knows."""
    tables = [lexicons._read_table(name) for name in ("lexicon.tsv", "rules.tsv")]
    words = [row[0] for row in tables[0]] + [row[1] for row in tables[1]]
    for name in lexicons.LISTS:
        words += [phrase for kind in lexicons.read_list(name) for phrase in kind]
    return words


def pieces() -> st.SearchStrategy[str]:
    """One word-like piece: a known word in some shape, punctuation, emoji, odd characters, or anything at all."""
    known = st.one_of(st.sampled_from(NAMED), st.sampled_from(NAMED), st.sampled_from(vocabulary()))
    shaped = st.builds(
        lambda word, shape, left, right: left + shape(word) + right,
        known,
        st.sampled_from([str, str, str, str.upper, str.title, str.swapcase, lambda w: w.replace("k", "\u212a")]),
        st.sampled_from(["", "", "", "(", '"', "*", "...", "-"]),
        st.sampled_from(["", "", "", ",", ".", "!", "?", "!!!", "?!", "...", ")", "'s", ":"]),
    )
    odd = st.text(alphabet=EMOJI + MARKS + LETTERS + "!?.,'\"n't-_:;()<3Dd" + SPACES, min_size=1, max_size=6)
    return st.one_of(shaped, shaped, shaped, shaped, odd, st.text(max_size=4))


def texts() -> st.SearchStrategy[str]:
    """A text of pieces glued by all kinds of space, or by nothing."""
    glue = st.one_of(st.just(" "), st.just(" "), st.just(" "), st.sampled_from(["", "\n", *SPACES]))
    part = st.builds(str.__add__, pieces(), glue)
    # Lone surrogates cannot be encoded; no UTF-8 text holds one.
    return st.lists(part, max_size=14).map(lambda p: "".join(p).encode("utf-8", "ignore").decode())


def documents() -> st.SearchStrategy[bytes]:
    """Bytes of a document: mostly valid UTF-8, sometimes cut or damaged."""
    encoded = texts().map(str.encode)
    cut = st.builds(lambda b, k: b[k % (len(b) + 1) :], encoded, st.integers(0, 100))
    damaged = st.builds(bytes.__add__, cut, st.binary(max_size=6))
    return st.one_of(encoded, encoded, encoded, damaged)


def data(*parts: str) -> Path:
    """Return a path under the data folder, or skip the test that asks."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} under AFFECTCORE_DATA (here: {DATA}), see docs/data.md")
    return path


def vader_gold() -> list[str]:
    """The 23,703 sentences that VADER's authors had rated."""
    out = []
    for path in sorted(data("vader", "gold").glob("*GroundTruth.txt")):
        with path.open(encoding="utf-8", newline="\n") as file:
            out += [line.rstrip("\n").split("\t")[2] for line in file]
    return out


def arena_hard() -> list[str]:
    """The answers of four models to Arena-Hard's prompts."""
    out = []
    for path in sorted(data("arena-hard-auto").glob("data/*/model_answer/*.jsonl")):
        with path.open(encoding="utf-8", newline="\n") as file:
            contents = [json.loads(line)["messages"][-1]["content"] for line in file]
        out += [content if isinstance(content, str) else content["answer"] for content in contents]
    return out


def spiral_bench() -> list[str]:
    """All turns, of users and assistants, of Spiral-Bench's conversations."""
    out: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("content"), str) and "role" in node:
                out.append(node["content"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    for path in sorted(data("spiral-bench").glob("res_v*/*.json")):
        walk(json.loads(path.read_text(encoding="utf-8")))
    return out


# What others put into texts and names: each must be shown, and none may do anything.
NASTY = {
    "csi": "\x1b[2J\x1b[31mred",
    "osc": "\x1b]0;title\x07\x1b]8;;http://evil\x1b\\click",
    "c1": "\x9b31m \x9d0;t\x9c \x85next",
    "bell": "a\x07b\x08c\x0bd\x0ce\x7f",
    "nul": "a\0b",
    "cr": "harmless\rEVIL",
    "bidi": "\u202egpj.exe\u202c \u200f",
    "isolates": "\u2066a\u2069\u2067",
    "invisible": "a\u200bb\ufeffc\u2060d\u3164e",
    "joiner": "a\u200db\ufe0f",
    "tags": "a\U000e0041\U000e007f",
    "separators": "a\u2028b\u2029c",
    "formula": '=HYPERLINK("http://evil","click")',
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1+1)",
    "wide": "＝1+1",
    "tab": "\t=1+1",
    "line": "\r\n=1+1",
    "semicolon": 'a;=1+1;";"@x',
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "frame": "<iframe src=javascript:alert(1)>",
    "attribute": "\"'><svg onload=alert(1)>",
    "ends": "</script></style></textarea><!--",
    "entities": "&lt;script&gt; &#106;avascript:alert(1)",
    "link": "[x](javascript:alert(1))",
    "picture": "![x](javascript:alert(1))",
    "autolink": "<javascript:alert(1)>",
    "reference": "[x]: javascript:alert(1)",
    "block": "a\n\n# h\n\n<script>alert(1)</script>\n",
    "marks": "*a* _b_ `c` ~~d~~ $e$ a|b \\|c\\",
    "rich": "[bold red]a[/] [link=http://evil]b[/link] :smile:",
    "template": "{{ 7*7 }} {% raw %} @metric @cost",
    "path": "../../../etc/passwd",
}
# What must not reach a terminal, but for line feeds and tabs.
STEERS = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff]"
)
