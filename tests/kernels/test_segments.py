"""Segments and passages: the rules, one by one; both fast backends against the reference; and real answers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import data, documents

from affectcore.kernels import dispatch, segments
from affectcore.kernels.segments import CODE, QUOTE, TABLE, TEXT, URL

PIECES = [
    *(
        b".",
        b"!",
        b"?",
        b" ",
        b"  ",
        b"\n",
        b"\n\n",
        b"Hello",
        b"world",
        b"e.g",
        b"i.e",
        b"Mr",
        b"I",
        b"etc",
        b"12",
        b"1",
    ),
    *(b"````", b"\n```\n", b"\n> ", b">", b"\n~~~~ \n", b"\n```py\n"),
    *(b"```", b"~~~", b"| a |", b"|", b"http://x.org/a", b"https://", b"http", b"www.", b"www.a.b).", b'"', b")", b"*"),
    *(
        "…".encode(),
        "。".encode(),
        "！".encode(),
        "”".encode(),
        "é".encode(),
        b"\xff",
        b"\xe2\x80",
        b"\x80",
        b"the",
        b"Dr",
    ),
    *(
        b"\t",
        b"\r",
        b"-",
        b"#",
        b"word " * 210,
        b"x" * 1100,
        "日".encode() * 400,
        b"\x80" * 1200,
        b" " * 70 + b"3",
        b"h",
        b"w",
    ),
]


def ragged(docs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(d) for d in docs], dtype=np.int64)
    return np.frombuffer(b"".join(docs), np.uint8), offsets


def cut(text: str | bytes, backend: str = "numba") -> list[tuple[int, str]]:
    """Return the kind and the text of each segment of one document."""
    raw = text.encode() if isinstance(text, str) else text
    found = segments.segments(*ragged([raw]), backend=backend)
    bounds = found.offsets.tolist()
    return [(int(k), raw[a:b].decode("utf-8", "replace")) for k, a, b in zip(found.kind, bounds, bounds[1:])]


def check(docs: list[bytes], backend: str) -> None:
    values, offsets = ragged(docs)
    wanted = segments.segments(values, offsets, backend="reference")
    found = segments.segments(*dispatch.place((values, offsets), backend), backend=backend)
    for name, a, b in zip(wanted._fields, wanted, dispatch.fetch(found)):
        np.testing.assert_array_equal(b, a, err_msg=name, strict=True)
    for longest in (16, 256):
        joined = segments.passages(*wanted, longest, backend="reference")
        other = segments.passages(*dispatch.place(tuple(wanted), backend), longest, backend=backend)
        for name, a, b in zip(joined._fields, joined, dispatch.fetch(other)):
            np.testing.assert_array_equal(b, a, err_msg=name, strict=True)
        assert joined.offsets[0] == wanted.offsets[0]
        assert joined.offsets[-1] == wanted.offsets[-1]


SHAPES: dict[str, list[bytes]] = {
    "no documents": [],
    "one empty document": [b""],
    "empty documents between others": [b"", b"A. B", b"", b"", b"x", b""],
    "white space only": [b" \n\t \n", b"\n"],
    "punctuation only": [b"...", b"!?", b"```"],
    "open fence": [b"a\n```\nb. c", b"~~~\n```\nx\n~~~\ny"],
    "fences of several lengths": [
        b"````\n```\nx\n```\n````\nA.",
        b"```\nx\n`````\nA.",
        b"~~~~\n~~~\n````\n~~~~~ \t\r\nA.",
        b"```\n```x\n```",
        b"```a`b\nA. B.\n",
        b"~~~ a`b\nA.\n~~~\nB.",
        b"``\nA. B.\n`` `\n",
        b"````",
        b"a\n```\n``",
    ],
    "quotes": [
        b"> a. b\n> c\nD. E",
        b">\n",
        b">",
        b"\n>",
        b">\n>",
        b"> One. Two\n",
        b"\n \n\t > a",
        b"> ```\n> x\nA.\n",
        b"> a\n```\n> b\n```\n> c",
        b"| a |\n> b\n| c |\n> d",
        b"> a\n\n> b\n...\n> c",
        b">>> x\n... y\n",
        b"> \xff\n>" + b"x" * 1100,
    ],
    "long": [b"word " * 210, b"x" * 1030, b"x" + "é".encode() * 515, b"\x80" * 1030],
    "marks at the end of lines": [b"One.\nTwo.) \nThree.*\n", b"a.b.c. D"],
    "cut sequences": [b"Hi\xe2\x80", b"Hi\xe3\x80", b"\xef\xbc", b"Hi.\xe2\x80\x9d Oh"],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_shapes(backend: str, shape: str) -> None:
    check(SHAPES[shape], backend)


@given(docs=st.lists(st.one_of(st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join), documents()), max_size=30))
@settings(max_examples=100)
def test_numba_on_made_texts(docs: list[bytes]) -> None:
    check(docs, "numba")


SHORT = [piece for piece in PIECES if len(piece) < 80]


@given(docs=st.lists(st.lists(st.sampled_from(SHORT), max_size=8).map(b"".join), min_size=1, max_size=3))
@settings(max_examples=15)
def test_triton_on_made_texts(docs: list[bytes]) -> None:
    check(docs, "triton")


def test_offsets_need_not_start_at_zero() -> None:
    values, offsets = ragged([b"Left out. ", b"One. Two.", b"Three."])
    found = segments.segments(values, offsets[1:])
    assert found.offsets.tolist() == [10, 15, 19, 25]
    assert found.first.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ("Wait... what? No", ["Wait... ", "what? ", "No"]),
        ("Really?! Yes.", ["Really?! ", "Yes."]),
        ('He said "Go." Then left.', ['He said "Go." ', "Then left."]),
        ("**Bold.** Next.", ["**Bold.** ", "Next."]),
        ("Dr. Who and Mr. Bean met. Fine.", ["Dr. Who and Mr. Bean met. ", "Fine."]),
        ("Use e.g. Python. Or i.e. C.", ["Use e.g. Python. ", "Or i.e. C."]),
        ("J. R. Tolkien wrote. I read.", ["J. R. Tolkien wrote. ", "I read."]),
        ("Version 3.11 is out. See.", ["Version 3.11 is out. ", "See."]),
        ("1. First point\n2. Second. Third", ["1. First point\n", "2. Second. ", "Third"]),
        ("It ends in 1999. Then", ["It ends in 1999. ", "Then"]),
        ("Line one\nline two\n\nPara", ["Line one\n", "line two\n\n", "Para"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Well… Then", ["Well… ", "Then"]),
        ("\n\n  Start. End", ["\n\n  Start. ", "End"]),
        ("Text\n***\nMore", ["Text\n***\n", "More"]),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert cut(text) == [(TEXT, part) for part in parts]


def test_code_tables_and_addresses() -> None:
    text = (
        "Look:\n```py\nx = 1. # Hi. There\n```\nAs a table:\n| a | b |\n|---|---|\n| 1. | 2 |\n"
        "See https://x.org/a?b=c.d, or www.y.org."
    )
    assert cut(text) == [
        (TEXT, "Look:\n"),
        (CODE, "```py\nx = 1. # Hi. There\n```\n"),
        (TEXT, "As a table:\n"),
        (TABLE, "| a | b |\n|---|---|\n| 1. | 2 |\n"),
        (TEXT, "See "),
        (URL, "https://x.org/a?b=c.d"),
        (TEXT, ", or "),
        (URL, "www.y.org."),
    ]


def test_quotes() -> None:
    text = (
        "You said:\n> I am sad. See www.x.org.\n>\n  > ```\n> > nested | a |\nI hear you. 3 > 2.\n\n"
        ">>> print(1)\n>>> 2\n1\n"
        "| a |\n> b\n```\n> no quote\n```\n> c"
    )
    assert cut(text) == [
        (TEXT, "You said:\n"),
        (QUOTE, "> I am sad. See www.x.org.\n>\n  > ```\n> > nested | a |\n"),
        (TEXT, "I hear you. "),
        (TEXT, "3 > 2.\n\n"),
        (QUOTE, ">>> print(1)\n>>> 2\n"),
        (TEXT, "1\n"),
        (TABLE, "| a |\n"),
        (QUOTE, "> b\n"),
        (CODE, "```\n> no quote\n```\n"),
        (QUOTE, "> c"),
    ]


def test_a_single_line_is_no_quote() -> None:
    assert cut("> One. Two.") == [(TEXT, "> One. "), (TEXT, "Two.")]
    assert cut(" >:( One\n") == [(TEXT, " >:( One\n")]
    assert cut("> One. Two.\n>") == [(QUOTE, "> One. Two.\n>")]
    assert cut("> One.\nTwo.") == [(QUOTE, "> One.\n"), (TEXT, "Two.")]


@pytest.mark.parametrize(
    ("code", "rest"),
    [
        ("````markdown\n```py\nx. Y\n```\n````\n", "After.\n"),
        ("```\nx\n`````\n", "After.\n"),
        ("~~~~\n~~~\n````\n~~~~ \t\r\n", "After.\n"),
        ("   - `x`\n", None),
        ("    ```py\n    x\n    ```\n", "After.\n"),
        ("```\n```py\n``` x\n```\n", "After.\n"),
        ("~~~ a`b\n~~~\n", "After.\n"),
        ("```sh -c 'x'``` runs it.\n", None),
        ("````\n```\nnot closed.\n", ""),
    ],
)
def test_fences(code: str, rest: str | None) -> None:
    """A fence closes at one that is as long at least, of the same character, alone in its line; None: no code."""
    parts = cut(code + (rest if rest is not None else "After.\n"))
    if rest is None:
        assert parts[-1] == (TEXT, "After.\n")
        assert {kind for kind, _ in parts} == {TEXT}
    else:
        assert parts == [(CODE, code)] + [(TEXT, rest)] * bool(rest)


def test_passages_join_sentences_only() -> None:
    raw = b"One. Two. Three.\n```\nx\n```\nFour. " + b"Five is long enough to stand alone here. " * 2
    found = segments.segments(*ragged([raw]))
    joined = segments.passages(*found, 40)
    parts = [raw[a:b] for a, b in zip(joined.offsets, joined.offsets[1:])]
    assert parts[0] == b"One. Two. Three.\n"
    assert joined.kind.tolist()[:3] == [TEXT, CODE, TEXT]
    assert b"".join(parts) == raw


@pytest.mark.parametrize(
    "piece",
    [
        *(b".", b"`", b"\n", b"|\n", b"www.", b"http://", b"a. ", b"(", b"1. ", b"\xe2\x80\xa6", b" ", b"x", b"\x80"),
        *(b"```\n", b">\n", b"```", b"~"),
    ],
)
def test_linear_time(piece: bytes) -> None:
    def seconds(n: int) -> float:
        values, offsets = ragged([piece * n])
        start = time.perf_counter()
        segments.segments(values, offsets)
        return time.perf_counter() - start

    seconds(10)
    # Eight times the text: quadratic time would be 64 times.
    short, long = (min(seconds(n) for _ in range(5)) for n in (20_000, 160_000))
    assert long < 30 * short + 0.01


def test_real_answers() -> None:
    from affectcore.training import data as sets

    texts = sets.answers(data("arena-hard-auto").parent)[::25]
    check([text.encode() for text in texts], "numba")


def test_unknown_kinds_do_not_exist() -> None:
    found: Any = segments.segments(*ragged([b"a\n```\nb\n```\n| c |\n> d\nwww.e.org"]))
    assert sorted(set(found.kind.tolist())) == [TEXT, CODE, TABLE, URL, QUOTE] == list(range(5))
