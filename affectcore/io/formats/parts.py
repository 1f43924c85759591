"""Reasoning and answer: what a model wrote between the tags of its reasoning, and what it wrote after."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_ANY = r"</?(?:think|thinking|reasoning)>|<\|(?:begin|end)_of_thought\|>"
_TAG = re.compile(_ANY.encode())
_NAMES = {b"<|begin_of_thought|>": b"thought", b"<|end_of_thought|>": b"thought"}
_FENCE = re.compile(rb"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_TICKS = re.compile(rb"`+")
_SPACE = re.compile(rb"\s*")


class Split(NamedTuple):
    """Two arrays of the type and length of the texts, null where a text has no such part."""

    answer: pa.Array
    reasoning: pa.Array | None  # None: no text has any


class _Tag(NamedTuple):
    begin: int
    end: int
    name: bytes
    opens: bool
    code: int  # 0: outside of code, 1: in a code block, 2: in code within a line


def split(texts: pa.Array) -> Split:
    """Split texts into the reasoning before the answer, and the answer.

    Reasoning is what stands in ``<think>``, ``<thinking>``, ``<reasoning>`` or ``<|begin_of_thought|>`` at the
    beginning of a text, in one block or several. Where chat templates put the opening tag into the prompt, a text
    begins with reasoning and only closes it: all before the closing tag is reasoning. A block that is never closed goes
    to the end, and there is no answer. Tags elsewhere, in backticks or in code blocks, are text like any other.

    Parameters
    ----------
    texts
        string, large_string, binary or large_binary array. Texts without tags cost one look at the array.

    Returns
    -------
    Split
        White space between the parts belongs to neither. A block of nothing but white space is no reasoning. A null
        text has neither part; one that was closed and ends there has an empty answer.
    """
    tagged = pc.fill_null(pc.match_substring_regex(texts, _ANY), False)
    if not pc.any(tagged).as_py():
        return Split(texts, None)
    wide = _wide(texts.type)
    before = texts.filter(tagged).cast(wide)
    cuts = [_cut(text) for text in before.to_pylist()]
    answers, found = (pa.array(part, wide) for part in zip(*cuts))
    if found.null_count == len(found) and answers.equals(before):
        return Split(texts, None)
    # Views: a string column may hold bytes that are no UTF-8, which casts refuse.
    answer = pc.replace_with_mask(texts, tagged, answers.view(texts.type))
    if found.null_count == len(found):
        return Split(answer, None)
    return Split(answer, pc.replace_with_mask(pa.nulls(len(texts), texts.type), tagged, found.view(texts.type)))


def _wide(dtype: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(dtype) or pa.types.is_large_binary(dtype) else pa.binary()


def _cut(text: bytes) -> tuple[bytes | None, bytes | None]:
    """Return the answer and the reasoning of one text."""
    tags = _tags(text)
    blocks: list[bytes] = []
    i = at = 0
    while i < len(tags) and tags[i].code:
        i += 1
    if i < len(tags) and not tags[i].opens:
        blocks.append(text[: tags[i].begin].strip())
        at = tags[i].end
    else:
        i = 0
    while True:
        start = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        while i < len(tags) and tags[i].begin < start:
            i += 1
        if i == len(tags) or tags[i].begin > start or not tags[i].opens:
            break
        closing = _closing(tags, i)
        end = len(text) if closing is None else closing.begin
        blocks.append(text[tags[i].end : end].strip())
        if closing is None:
            return None, b"\n\n".join(filter(None, blocks)) or None
        at = closing.end
    if at == 0:
        return text, None
    return text[start:], b"\n\n".join(filter(None, blocks)) or None


def _closing(tags: list[_Tag], opening: int) -> _Tag | None:
    """Return the tag that ends a block: the first outside of code, else the first in a code block.

    Reasoning that breaks off within a code block leaves its fence open, and the answer's code seems to close it.
    """
    fallback = None
    for i in range(opening + 1, len(tags)):
        if tags[i].name == tags[opening].name and not tags[i].opens:
            if tags[i].code == 0:
                return tags[i]
            if tags[i].code == 1 and fallback is None:
                fallback = tags[i]
    return fallback


def _tags(text: bytes) -> list[_Tag]:
    spans = _fenced(text) if b"```" in text or b"~~~" in text else []
    tags: list[_Tag] = []
    line_end = k = 0
    inline: list[tuple[int, int]] = []
    for found in _TAG.finditer(text):
        at = found.start()
        if at >= line_end:
            line = text.rfind(b"\n", 0, at) + 1
            line_end = text.find(b"\n", at) + 1 or len(text) + 1
            inline = _inline(text, line, line_end)
        while inline and inline[0][1] <= at:
            inline.pop(0)
        while k < len(spans) and spans[k][1] <= at:
            k += 1
        code = 0
        if inline and inline[0][0] <= at:
            code = 2
        elif k < len(spans) and spans[k][0] <= at:
            code = 1
        raw = found[0]
        name = _NAMES.get(raw, raw.strip(b"</>"))
        tags.append(_Tag(at, found.end(), name, not raw.startswith((b"</", b"<|end")), code))
    return tags


def _fenced(text: bytes) -> list[tuple[int, int]]:
    """Return the code blocks between fences that are closed."""
    spans = []
    fence, begin = b"", 0
    for found in _FENCE.finditer(text):
        if not fence:
            # A fence of backticks has none behind it: that would be code within a line.
            if found[1][:1] == b"~" or b"`" not in found[2]:
                fence, begin = found[1], found.start()
        elif found[1].startswith(fence) and not found[2].strip():
            spans.append((begin, found.end()))
            fence = b""
    return spans


def _inline(text: bytes, begin: int, end: int) -> list[tuple[int, int]]:
    """Return the code within a line: from a run of backticks to the next run as long."""
    runs = [found.span() for found in _TICKS.finditer(text, begin, end)]
    last = {stop - start: i for i, (start, stop) in enumerate(runs)}
    spans: list[tuple[int, int]] = []
    i = 0
    while i < len(runs):
        length = runs[i][1] - runs[i][0]
        if last[length] > i:
            j = next(j for j in range(i + 1, len(runs)) if runs[j][1] - runs[j][0] == length)
            spans.append((runs[i][0], runs[j][1]))
            i = j
        i += 1
    return spans
