"""Reasoning and answer: what a model wrote between the tags of its reasoning, and what it wrote after."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.io.formats.base import offsets_of

_SOME = r"<(?i:/?(?:seed:|mm:)?(?:think|thought|reasoning|answer)|\|)"
_FIRST = "\\A(?:\ufeff)?\\s*(?:\\[THINK\\]|◁think▷)"
"""A text that is to be divided matches one of these: the first costs little, having a literal first byte."""
_LESS = re.compile(b"<")
_FIRST_BYTES = np.isin(np.arange(256), list(b"[\xe2\xef \t\n\v\f\r"))
_MARKS = {
    b"[THINK]": (b"[think]", True),  # Mistral
    b"[/THINK]": (b"[think]", False),
    "◁think▷".encode(): (b"kimi", True),
    "◁/think▷".encode(): (b"kimi", False),
    b"<|begin_of_thought|>": (b"thought|", True),  # Sky-T1, OpenThinker
    b"<|end_of_thought|>": (b"thought|", False),
    b"<|START_THINKING|>": (b"thinking|", True),  # Cohere
    b"<|END_THINKING|>": (b"thinking|", False),
    b"<|channel>thought": (b"channel|", True),  # Gemma 4
    b"<channel|>": (b"channel|", False),
}
_XML = rb"/?(?i:(?:seed:|mm:)?(?:think|thinking|thought|reasoning))(?:\s[^<>]{0,200})?>"
_ANGLED = b"<(?:" + b"|".join([_XML, *(re.escape(mark[1:]) for mark in _MARKS if mark.startswith(b"<"))]) + b")"
_TAG = re.compile(_ANGLED)  # a literal first byte makes it several times as fast as the next
_ANY_TAG = re.compile(b"|".join([_ANGLED, *(re.escape(mark) for mark in _MARKS if not mark.startswith(b"<"))]))
_HARMONY = re.compile(
    rb"(?:<\|start\|>(?P<role>[^<]*))?<\|channel\|>(?P<channel>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_HARMONY_ENDS = (b"<|end|>", b"<|return|>", b"<|call|>")
_OPENS = re.compile(rb"(?i:<(answer|response|output)>)|<\|begin_of_solution\|>|<\|START_(?:RESPONSE|TEXT)\|>")
_CLOSES = re.compile(rb"(?i:</(answer|response|output)>)|<\|end_of_solution\|>|<\|END_(?:RESPONSE|TEXT)\|>")
_QUOTES = ((b'"', b'"'), (b"'", b"'"), *((a.encode(), b.encode()) for a, b in ("“”", "‘’", "«»", "「」")))
_BEFORE = {opening[-1] for opening, _ in _QUOTES}
_QUOTED_LINE = re.compile(rb" {0,3}>")
_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*")
_FENCE = re.compile(rb"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_TICKS = re.compile(rb"`+")
_SPACE = re.compile(rb"\s*")


class Split(NamedTuple):
    """Two arrays of the type and length of the texts, null where a text has no such part."""

    answer: pa.Array
    reasoning: pa.Array | None  # None: no text has any


class _Tags(NamedTuple):
    """The tags of a text, of which there can be 100,000: plain values, which Python's collector does not go through."""

    begin: list[int]
    end: list[int]
    name: list[bytes]
    opens: list[bool]
    code: list[int]  # 0: outside of code, 1: in a code block or a quoted line, 2: in code or quotation marks in a line


def split(texts: pa.Array) -> Split:
    """Split texts into the reasoning before the answer, and the answer.

    Reasoning is what stands between a model's tags at the beginning of a text, in one block or several: ``<think>``,
    ``<thinking>``, ``<thought>``, ``<reasoning>`` (in capitals or with attributes, too), ``<seed:think>``,
    ``<mm:think>``, Mistral's ``[THINK]``, Kimi's ``◁think▷``, ``<|begin_of_thought|>``, Cohere's
    ``<|START_THINKING|>``, Gemma's ``<|channel>thought``; or what gpt-oss writes to its channel ``analysis``. Where
    chat templates put the opening tag into the prompt, a text begins with reasoning and only closes it: all before the
    closing tag is reasoning. A block that is never closed goes to the end, and there is no answer. Tags elsewhere, in
    code, quoted lines or quotation marks, are text like any other.

    Tags around the answer (``<answer>``, after reasoning also ``<response>`` and ``<output>``; those of Sky-T1 and
    Cohere) are left out of it, as are gpt-oss's calls of tools.

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
    if not _has_mark(texts):
        return Split(texts, None)
    tagged = pc.match_substring_regex(texts, _SOME)
    if _may_begin_so(texts):
        tagged = pc.or_(tagged, pc.match_substring_regex(texts, _FIRST))
    tagged = pc.fill_null(tagged, False)
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


def split_one(text: bytes) -> tuple[bytes | None, bytes | None]:
    """Split one text as `split` does: its answer and its reasoning, None where it has no such part."""
    if b"<" not in text and (not text or not _FIRST_BYTES[text[0]]):
        return text, None
    return _cut(text)


def _has_mark(texts: pa.Array) -> bool:
    """Tell whether some text has a byte that all tags but those of `_FIRST` begin with, or may begin as those do."""
    offsets = offsets_of(texts)
    data = texts.buffers()[2]
    if not data or not len(texts):
        return False
    return _LESS.search(memoryview(data), offsets[0], offsets[-1]) is not None or _may_begin_so(texts)


def _may_begin_so(texts: pa.Array) -> bool:
    """Tell whether some text has a first byte that `_FIRST` allows: a look at each text, and not at all of it."""
    data = texts.buffers()[2]
    if not data:
        return False
    starts = offsets_of(texts)[:-1]
    values = np.frombuffer(data, np.uint8)
    return bool(_FIRST_BYTES[values[np.minimum(starts, len(values) - 1)]].any())


def _wide(dtype: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(dtype) or pa.types.is_large_binary(dtype) else pa.binary()


def _cut(text: bytes) -> tuple[bytes | None, bytes | None]:
    """Return the answer and the reasoning of one text."""
    begin = _START.match(text).end()  # type: ignore[union-attr]
    if _HARMONY.match(text, begin):
        return _channels(text, begin)
    tags = _tags(text)
    n = len(tags.begin)
    endings = _endings(tags)
    blocks: list[bytes] = []
    i = at = 0
    while i < n and tags.code[i]:
        i += 1
    if i < n and not tags.opens[i]:
        blocks.append(text[: tags.begin[i]].strip())
        at = tags.end[i]
    else:
        i = 0
    while True:
        start = _SPACE.match(text, at).end() if at else begin  # type: ignore[union-attr]
        while i < n and tags.begin[i] < start:
            i += 1
        if i == n or tags.begin[i] > start or not tags.opens[i]:
            break
        closing = endings[i]
        end = len(text) if closing < 0 else tags.begin[closing]
        blocks.append(text[tags.end[i] : end].strip())
        if closing < 0:
            return None, b"\n\n".join(filter(None, blocks)) or None
        at = tags.end[closing]
    if at == 0:
        return _unwrapped(text, begin, False), None
    return _unwrapped(text, start, True), b"\n\n".join(filter(None, blocks)) or None


def _channels(text: bytes, begin: int) -> tuple[bytes | None, bytes | None]:
    """Return the answer and the reasoning of what gpt-oss wrote, in the format called harmony.

    Its messages go to the channels ``analysis``, ``final``, and ``commentary``, which is for calls of tools, which name
    a recipient, and for what is said before them.
    """
    parts: dict[bool, list[bytes]] = {True: [], False: []}
    head = _HARMONY.match(text, begin)
    while head is not None:
        following = _HARMONY.search(text, head.end())
        if b"to=" not in (head["role"] or b"") and b"to=" not in head["channel"]:
            end = _content_end(text, head.end(), len(text) if following is None else following.start())
            parts[head["channel"].strip() == b"analysis"].append(text[head.end() : end].strip())
        head = following
    reasoning = b"\n\n".join(filter(None, parts[True])) or None
    return (b"\n\n".join(filter(None, parts[False])) if parts[False] else None), reasoning


def _content_end(text: bytes, begin: int, end: int) -> int:
    """Return where the content of a message ends: before the marks of its end, of which there can be several."""
    while True:
        end = _stripped_end(text, begin, end)
        for mark in _HARMONY_ENDS:
            if text.endswith(mark, begin, end):
                end -= len(mark)
                break
        else:
            return end


def _stripped_end(text: bytes, begin: int, end: int) -> int:
    """Return `end` without the white space before it, looking at no more than that."""
    while end > begin:
        piece = text[max(begin, end - 64) : end]
        left = len(piece.rstrip())
        end -= len(piece) - left
        if left:
            break
    return end


def _unwrapped(text: bytes, start: int, reasoned: bool) -> bytes:
    """Return the answer that begins at `start`, without tags around it.

    Without reasoning before it, the text is returned as it is unless it is nothing but an answer between such tags.
    """
    whole = text[start:] if reasoned else text
    opening = _OPENS.match(text, start)
    if opening is None or _OPENS.search(text, opening.end()) is not None:
        return whole
    if not reasoned and (opening[1] or b"answer").lower() != b"answer":
        return whole
    closing = None
    for found in _CLOSES.finditer(text, opening.end()):
        closing = found
    if closing is None:
        return text[opening.end() :].lstrip() if reasoned else whole
    rest = text[closing.end() :]
    if rest.strip() and not reasoned:
        return whole
    return text[opening.end() : closing.start()].strip() + (rest if rest.strip() else b"")


def _endings(tags: _Tags) -> list[int]:
    """Number for each opening tag the one that ends its block, -1 for none.

    That is the next outside of code, else the next in a code block: reasoning that breaks off within a code block
    leaves its fence open, and the answer's code seems to close it.
    """
    outside: dict[bytes, int] = {}
    within: dict[bytes, int] = {}
    endings = [-1] * len(tags.begin)
    for i in range(len(endings) - 1, -1, -1):
        name = tags.name[i]
        if tags.opens[i]:
            endings[i] = outside.get(name, within.get(name, -1))
        elif tags.code[i] < 2:
            (within if tags.code[i] else outside)[name] = i
    return endings


def _tags(text: bytes) -> _Tags:
    block_begins, block_ends = _fenced(text) if b"```" in text or b"~~~" in text else ([], [])
    tags = _Tags([], [], [], [], [])
    line_end = j = k = 0
    quoted = False
    inline_begins: list[int] = []
    inline_ends: list[int] = []
    pattern = _ANY_TAG if b"THINK]" in text or "◁".encode() in text else _TAG
    for found in pattern.finditer(text):
        at, end = found.span()
        if at >= line_end:
            line = text.rfind(b"\n", 0, at) + 1
            line_end = text.find(b"\n", at) + 1 or len(text) + 1
            inline_begins, inline_ends = _inline(text, line, line_end)
            j = 0
            quoted = _QUOTED_LINE.match(text, line) is not None
        while j < len(inline_ends) and inline_ends[j] <= at:
            j += 1
        while k < len(block_ends) and block_ends[k] <= at:
            k += 1
        code = 0
        quotes = at > 0 and text[at - 1] in _BEFORE and _in_quotes(text, at, end)
        if quotes or (j < len(inline_ends) and inline_begins[j] <= at):
            code = 2
        elif quoted or (k < len(block_ends) and block_begins[k] <= at):
            code = 1
        raw = found[0]
        name, opens = _MARKS.get(raw) or (raw.strip(b"</>").split(None, 1)[0].lower(), not raw.startswith(b"</"))
        tags.begin.append(at)
        tags.end.append(end)
        tags.name.append(name)
        tags.opens.append(opens)
        tags.code.append(code)
    return tags


def _in_quotes(text: bytes, begin: int, end: int) -> bool:
    """Tell whether a tag, and nothing else, stands in quotation marks."""
    for opening, closing in _QUOTES:
        if text.startswith(closing, end) and text.endswith(opening, 0, begin):
            before = text[max(begin - len(opening) - 1, 0) : begin - len(opening)]
            # A straight mark behind a word ends a quotation.
            return opening != closing or not before or before in b" \t\n([{"
    return False


def _fenced(text: bytes) -> tuple[list[int], list[int]]:
    """Return where the code blocks between fences that are closed begin and end."""
    begins: list[int] = []
    ends: list[int] = []
    fence, begin = b"", 0
    for found in _FENCE.finditer(text):
        if not fence:
            # A fence of backticks has none behind it: that would be code within a line.
            if found[1][:1] == b"~" or b"`" not in found[2]:
                fence, begin = found[1], found.start()
        elif found[1].startswith(fence) and not found[2].strip():
            begins.append(begin)
            ends.append(found.end())
            fence = b""
    return begins, ends


def _inline(text: bytes, begin: int, end: int) -> tuple[list[int], list[int]]:
    """Return where the code within a line begins and ends: a run of backticks and the next run as long."""
    begins: list[int] = []
    ends: list[int] = []
    for found in _TICKS.finditer(text, begin, end):
        begins.append(found.start())
        ends.append(found.end())
    following = [0] * len(begins)  # the next run as long, 0 for none
    latest: dict[int, int] = {}
    for i in range(len(begins) - 1, -1, -1):
        length = ends[i] - begins[i]
        following[i] = latest.get(length, 0)
        latest[length] = i
    code: tuple[list[int], list[int]] = [], []
    i = 0
    while i < len(begins):
        if following[i]:
            code[0].append(begins[i])
            i = following[i]
            code[1].append(ends[i])
        i += 1
    return code
