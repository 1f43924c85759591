"""Reasoning and answer of single texts."""

from __future__ import annotations

import json
import re
import time

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts_by_rule import split_one
from texts import DATA

from affectcore.io.formats.parts import split

# text, answer, reasoning
CASES: dict[str, tuple[str | None, str | None, str | None]] = {
    "none": ("plain", "plain", None),
    "null": (None, None, None),
    "empty": ("", "", None),
    "block": ("<think>a</think>b", "b", "a"),
    "white space": (" \n<think>\na b\n</think>\n\nc \n", "c \n", "a b"),
    "thinking": ("<thinking>a</thinking>b", "b", "a"),
    "reasoning": ("<reasoning>a</reasoning>b", "b", "a"),
    "thought": ("<|begin_of_thought|>a<|end_of_thought|>\nb", "b", "a"),
    "several": ("<think>a</think>\n<think>b</think>c", "c", "a\n\nb"),
    "opened in the prompt": ("a\n</think>\n\nb", "b", "a"),
    "opened in the prompt, then a block": ("a</think><think>b</think>c", "c", "a\n\nb"),
    "never closed": ("<think>a, and then", None, "a, and then"),
    "second never closed": ("<think>a</think><think>b", None, "a\n\nb"),
    "closed by another name": ("<thinking>a</think>b", None, "a</think>b"),
    "nothing after": ("<think>a</think>", "", "a"),
    "nothing after but space": ("<think>a</think>\n", "", "a"),
    "nothing in it": ("<think>\n\n</think>\n\nb", "b", None),
    "nothing at all": ("<think></think>", "", None),
    "mentioned later": ("It writes <think>a</think> first.", "It writes <think>a</think> first.", None),
    "opened later": ("b\n<think>a", "b\n<think>a", None),
    "in backticks": ("`<think>` opens, `</think>` closes", "`<think>` opens, `</think>` closes", None),
    "in two backticks": ("``a ` </think>`` b", "``a ` </think>`` b", None),
    "one backtick is no code": ("it's ` </think> b", "b", "it's `"),
    "backticks before": ("use `x` </think> b", "b", "use `x`"),
    "in a code block": ("```xml\n<think>a</think>\n```\nb", "```xml\n<think>a</think>\n```\nb", None),
    "closing tag in a code block": ("b:\n```\na</think>\n```\n", "b:\n```\na</think>\n```\n", None),
    "in tildes": ("~~~\na</think>\n~~~", "~~~\na</think>\n~~~", None),
    "nested fences": (
        "````md\n```\na</think>\n```\nx</think>\n````\nb",
        "````md\n```\na</think>\n```\nx</think>\n````\nb",
        None,
    ),
    "closing tag quoted in reasoning": ("<think>I end with `</think>`, so</think>b", "b", "I end with `</think>`, so"),
    "closing tag in code of reasoning": ("<think>\n```\n</think>\n```\na</think>b", "b", "```\n</think>\n```\na"),
    "code of reasoning breaks off": (
        "<think>```python\nx</think>\n```python\ny\n```",
        "```python\ny\n```",
        "```python\nx",
    ),
    "only quoted closing tags": ("<think>a `</think>` b", None, "a `</think>` b"),
    "answer mentions the tag": ("<think>a</think>I used `<think>` here", "I used `<think>` here", "a"),
    "capitals": ("<THINK>a</Think>b", "b", "a"),
    "attributes": ('<think time="1">a</think>b', "b", "a"),
    "byte order mark": ("\ufeff<think>a</think>b", "b", "a"),
    "byte order mark of a text without reasoning": ("\ufeffb `<think>`", "\ufeffb `<think>`", None),
    "another tag": ("<thinker>a</thinker>b", "<thinker>a</thinker>b", None),
    "EXAONE": ("<thought>\na\n</thought>\n\nb", "b", "a"),
    "Seed": ("<seed:think>a</seed:think>b", "b", "a"),
    "MiniMax": ("<mm:think>a</mm:think>b", "b", "a"),
    "Mistral": ("[THINK]a\nb[/THINK]c", "c", "a\nb"),
    "Mistral, never closed": ("[THINK]a", None, "a"),
    "Mistral's tag is in capitals": ("[think]a[/think]b", "[think]a[/think]b", None),
    "Mistral, mentioned": ("Write [THINK]a[/THINK] first.", "Write [THINK]a[/THINK] first.", None),
    "Kimi": ("◁think▷a◁/think▷b", "b", "a"),
    "Cohere": ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "b", "a"),
    "Cohere without reasoning": ("<|START_RESPONSE|>b<|END_RESPONSE|>", "b", None),
    "Gemma": ("<|channel>thought\na<channel|>b", "b", "a"),
    "answer": ("<think>a</think>\n<answer>\nb\n</answer>\n", "b", "a"),
    "answer, in capitals": ("<Thought>a</Thought>\n<Output>b</Output>", "b", "a"),
    "answer, never closed": ("<think>a</think><answer> b", "b", "a"),
    "answer, and more": ("<think>a</think><answer>b</answer>\n\nc", "b\n\nc", "a"),
    "answer, empty": ("<think>a</think><answer></answer>", "", "a"),
    "answer alone": ("<answer>b</answer>", "b", None),
    "answer alone, never closed": ("<answer>b", "<answer>b", None),
    "answer alone, and more": ("<answer>b</answer> c", "<answer>b</answer> c", None),
    "output alone": ("<output>b</output>", "<output>b</output>", None),
    "answers": ("<think>a</think><answer>b</answer><answer>c</answer>", "<answer>b</answer><answer>c</answer>", "a"),
    "answer in a sentence": ("<think>a</think>I write <answer>b</answer>", "I write <answer>b</answer>", "a"),
    "harmony": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
        "b",
        "a",
    ),
    "harmony from the start": ("<|start|>assistant<|channel|>final<|message|>b<|return|>", "b", None),
    "harmony, cut off": ("<|channel|>analysis<|message|>a", None, "a"),
    "harmony with a call": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
        '<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json<|message|>{"x": 1}<|call|>'
        '<|start|>functions.f to=assistant<|channel|>commentary<|message|>{"y": 2}<|end|>'
        "<|start|>assistant<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>d",
        "b\n\nd",
        "a\n\nc",
    ),
    "harmony, mentioned": (
        "It says <|channel|>final<|message|>x<|return|>",
        "It says <|channel|>final<|message|>x<|return|>",
        None,
    ),
    "closing tag in quotation marks": ('It ends with "</think>", says he.', 'It ends with "</think>", says he.', None),
    "closing tag in curly quotation marks": ("It ends with “</think>”.", "It ends with “</think>”.", None),
    "closing tag between two quotations": ('he says "a"</think>"b"', '"b"', 'he says "a"'),
    "closing tag in a quoted line": ("> a </think> b\n\nc", "> a </think> b\n\nc", None),
    "closing tag quoted in a block": (
        '<think>I close with "</think>" then</think>b',
        "b",
        'I close with "</think>" then',
    ),
    "not ASCII": ("<think>日本 😀</think>é", "é", "日本 😀"),
}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_cases(kind: pa.DataType) -> None:
    texts, answers, reasoning = ([case[i] for case in CASES.values()] for i in range(3))
    found = split(pa.array(["<think>x</think>y", *texts, "z"]).cast(kind).slice(1, len(texts)))
    assert found.reasoning is not None
    assert found.answer.type == found.reasoning.type == kind
    told = found.answer.cast(pa.large_binary()).to_pylist(), found.reasoning.cast(pa.large_binary()).to_pylist()
    for name, text, a, r in zip(CASES, texts, *told):
        said = tuple(None if part is None else part.decode() for part in (a, r))
        assert said == CASES[name][1:], (name, text)
    assert answers.count(None) == found.answer.null_count
    assert reasoning.count(None) == found.reasoning.null_count


def test_texts_without_tags_are_handed_on() -> None:
    texts = pa.array(["no tags", None, "x < y > z"])
    assert split(texts).answer is texts
    assert split(texts).reasoning is None
    mentioned = pa.array(["`<think>`", None])
    assert split(mentioned).answer is mentioned


def test_empty_array() -> None:
    found = split(pa.array([], pa.large_string()))
    assert (len(found.answer), found.reasoning) == (0, None)


def test_bytes_that_are_no_utf8_stay() -> None:
    broken = pa.array([b"<think>\xff</think>\xfe", b"\xfd", None])
    for texts in (broken, broken.view(pa.string())):
        found = split(texts)
        assert found.answer.view(pa.binary()).to_pylist() == [b"\xfe", b"\xfd", None]
        assert found.reasoning is not None
        assert found.reasoning.view(pa.binary()).to_pylist() == [b"\xff", None, None]


TAGS = [
    *(f"<{slash}{name}>" for name in ("think", "thinking", "thought", "reasoning") for slash in ("", "/")),
    *("<seed:think>", "</seed:think>", "<mm:think>", "</mm:think>", "<THINK>", "</Think>", "<Thought>", "</THOUGHT>"),
    *('<think time="1">', "</think >", "<thinking\nx>", "[THINK]", "[/THINK]", "◁think▷", "◁/think▷"),
    *("<|begin_of_thought|>", "<|end_of_thought|>", "<|START_THINKING|>", "<|END_THINKING|>"),
    *("<|channel>thought", "<channel|>", "<answer>", "</answer>", "<Response>", "</response>", "<output>", "</output>"),
    *("<|begin_of_solution|>", "<|end_of_solution|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    *("<|START_TEXT|>", "<|END_TEXT|>"),
]
HARMONY = [
    *("<|start|>", "assistant", "<|channel|>", "analysis", "final", " to=f", "<|constrain|>", "<|message|>"),
    *("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    *("<|end|>", "<|return|>", "<|call|>"),
]
AROUND = [
    *("> ", " >", '"', "'", "“", "”", "«", "»", "(", "`", "``", "```", "```\n", "````\n", "~~~\n", "  ~~~~ x\n"),
    *("\n", "\n\n", "\r\n", " ", "\t", "word ", "é", "<", "</", ">", "<|", "|>", "\ufeff"),
]
HEADS = ["", "<think>", "\ufeff", " \n", "<think>\n", "[THINK]", "◁think▷", "<|channel|>analysis<|message|>"]


@settings(max_examples=1500, deadline=None)
@given(
    st.builds(
        lambda head, pieces: head + "".join(pieces),
        st.sampled_from(HEADS),
        st.lists(
            st.sampled_from(["<think>", "</think>"]) | st.sampled_from(TAGS) | st.sampled_from(AROUND), max_size=20
        )
        | st.lists(st.sampled_from(HARMONY) | st.sampled_from(AROUND + TAGS), max_size=20)
        | st.lists(st.sampled_from(["<think>", "</think>", "`", "``", "```", "\n", "> ", '"']), max_size=30),
    )
)
def test_the_rules_hold(text: str) -> None:
    found = split(pa.array([text]))
    told = None if found.reasoning is None else found.reasoning.to_pylist()[0]
    assert (found.answer.to_pylist()[0], told) == split_one(text)


PIECES = [
    "<think>",
    "</think>",
    "<thinking>",
    "</reasoning>",
    "[THINK]",
    "</THINK>",
    "> ",
    '"',
    "`",
    "```\n",
    "\n",
    " ",
    "word ",
    "~~~\n",
    "``",
    "é",
    "<",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_nothing_is_made_up(text: str) -> None:
    (answer,), reasoning = split(pa.array([text]))[0].to_pylist(), split(pa.array([text])).reasoning
    told = None if reasoning is None else reasoning.to_pylist()[0]
    if told is None:  # a tag and nothing behind it: neither
        assert answer is not None or not re.split(r"[>\]]", text)[-1].strip()
    if answer is not None:
        assert text.endswith(answer)
    for block in (told or "").split("\n\n"):
        assert block in text
    # White space before makes no difference, and an answer that is split again stays whole or has tags of its own.
    again = split(pa.array(["\n " + text]))
    assert (again.reasoning is None) == (reasoning is None)
    if reasoning is not None:
        assert again.answer.to_pylist() == [answer]


def growth(head: str, unit: str) -> float:
    """Return how many times as long eight times as much of something takes: 8 in linear, 64 in quadratic time."""
    texts = [pa.array([head + unit * (size // len(unit.encode()) + 1)]) for size in (1 << 16, 1 << 19)]
    split(texts[0])
    least = [float("inf")] * 2
    for _ in range(3):
        for i, text in enumerate(texts):
            started = time.process_time()
            split(text)
            least[i] = min(least[i], time.process_time() - started)
    return least[1] / max(least[0], 0.002)


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        ("", "<think>"),
        ("", "<think></think>"),
        ("", "`</think>`"),
        ("", "```\n</think>\n"),
        ("<think>", "`"),
        ("", "<|channel|>final<|message|>"),
        ("<|channel|>final<|message|>", "<|end|>"),
        ("<|channel|>final<|message|>", "<|return|> \n"),
        ("<|channel|>analysis<|message|>", "a<|call|>" + " " * 500),
        ("", "<|start|>"),
        ("", "<|channel|>a<|constrain|>"),
        ("", "<think "),
        ("<think></think><answer>", "</answer>"),
        ("<think></think><answer>", "<answer>"),
        ("", '"</think>"'),
        ("", "“</think>”"),
        ("", "".join("`" * (i % 70) + "</think>" for i in range(140))),
        ("<think>\n", "> </think><think>\n"),
        ("<think>\n", "```\n</think><think>\n```\n"),
        ("[THINK]", "`[/THINK]`\n> [/THINK][THINK]"),
        ("", " "),
        ("<think>", "</think> \n"),
    ],
    ids=range(22),
)
def test_time_grows_as_texts_do(head: str, unit: str) -> None:
    assert growth(head, unit) < 20


@settings(max_examples=25, deadline=None)
@given(
    head=st.sampled_from(HEADS),
    unit=st.lists(st.sampled_from(TAGS) | st.sampled_from(HARMONY) | st.sampled_from(AROUND), min_size=1, max_size=5),
    around=st.sampled_from(["{}", '"{}"', "`{}`", "``{}``", "> {}\n", "```\n{}\n```\n", "~~~\n{}\n", "“{}”", "({}\n"]),
)
def test_time_grows_as_any_text_does(head: str, unit: list[str], around: str) -> None:
    assert growth(head, around.format("".join(unit))) < 20


def test_a_case_of_45_seconds() -> None:
    path = DATA.parent / "cases/slow/slow_closers.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there: see AFFECTCORE_DATA")
    texts = pa.array([json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()])
    started = time.process_time()
    split(texts)
    assert time.process_time() - started < 4
