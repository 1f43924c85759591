"""The `segments` ops with regular expressions: slow, and close to the rules as `__init__` tells them."""

from __future__ import annotations

import re

import numpy as np

from .tables import ABBREVIATIONS, CODE, LONGEST, MOST_DIGITS, QUOTE, TABLE, TEXT, URL, Segments

_OPENS = re.compile(rb"[ \t]*(`{3,}(?=[^`]*\Z)|~{3,})")
_CLOSES = re.compile(rb"[ \t]*(`{3,}|~{3,})[ \t-\r]*\Z")
_RUNS = {TABLE: re.compile(rb"[ \t]*\|"), QUOTE: re.compile(rb"[ \t]*>")}  # kinds made of lines of the same beginning
_URL = rb"(?<![0-9A-Za-z\x80-\xff])(?P<url>(?:https?://|www\.)[^ \t\n\v\f\r<>\"`)\]]*)"
_MARKS = rb"(?P<marks>(?:[.!?]|\xe2\x80\xa6|\xe3\x80\x82|\xef\xbc[\x81\x9f])+)(?:[\"')\]*_}]|\xe2\x80[\x9d\x99])*"
_NEXT = re.compile(_URL + rb"|" + _MARKS)
_ALWAYS = re.compile(rb"\xe3\x80\x82|\xef\xbc[\x81\x9f]")
_SPACE = re.compile(rb"[ \t-\r]*")
_WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]")
_INITIAL = re.compile(rb"(?<![0-9A-Za-z\x80-\xff])[A-Za-z]\Z")
_ABBREVIATION = re.compile(rb"(?<![0-9A-Za-z\x80-\xff])(?:" + "|".join(ABBREVIATIONS).encode() + rb")\Z", re.IGNORECASE)
_NUMBER = re.compile(rb"[ \t]{0,%d}[0-9]{1,%d}\Z" % (64, MOST_DIGITS))


class _Pieces:
    """The segments of one document, as they come."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.begin = 0
        self.ends: list[int] = []
        self.kinds: list[int] = []

    def close(self, end: int, kind: int) -> None:
        if end <= self.begin:
            return
        if kind == TEXT and not _WORD.search(self.document, self.begin, end):
            if self.ends:
                self.ends[-1] = self.begin = end
            return
        while kind == TEXT and end - self.begin > LONGEST:
            self.add(self._cut(), TEXT)
        self.add(end, kind)

    def add(self, end: int, kind: int) -> None:
        self.ends.append(end)
        self.kinds.append(kind)
        self.begin = end

    def _cut(self) -> int:
        most = self.begin + LONGEST
        spaces = [m.end() for m in re.finditer(rb"[ \t-\r]", self.document[self.begin : most])]
        if spaces:
            return self.begin + spaces[-1]
        for back in range(4):
            if self.document[most - back] & 0xC0 != 0x80:
                return most - back
        return most


def _goes_on(document: bytes, start: int, line: int, mark: int, behind: int) -> bool:
    """Tell whether the single full stop at `mark` ends no sentence."""
    if document[behind : behind + 1].islower():
        return True
    # Looks no further back than the segment's start, nor 80 bytes: longer words are no abbreviations.
    before = document[max(start, mark - 80) : mark]
    if _INITIAL.search(before) or _ABBREVIATION.search(before):
        return True
    return bool(_NUMBER.fullmatch(document, line, mark))


def _sentences(pieces: _Pieces, line: int, stop: int) -> None:
    document = pieces.document
    at = line
    while found := _NEXT.search(document[line:stop], at - line):
        if found["url"] is not None:
            begin = line + found.start()
            pieces.close(begin, TEXT)
            at = begin + len(found["url"].rstrip(b".,;:!?'"))
            pieces.close(at, URL)
            continue
        at = line + found.end()
        space = _SPACE.match(document, at, stop)
        assert space
        behind = space.end()
        if behind == at < stop and not _ALWAYS.search(found["marks"]):
            continue
        if (
            found["marks"] == b"."
            and behind < stop
            and _goes_on(document, pieces.begin, line, line + found.start(), behind)
        ):
            continue
        at = behind
        pieces.close(at, TEXT)
    pieces.close(stop, TEXT)


def segments(values: np.ndarray, offsets: np.ndarray) -> Segments:
    """See `affectcore.kernels.segments.segments`."""
    bounds, first = [int(offsets[0])], [0]
    kinds: list[int] = []
    for begin, end in zip(offsets.tolist(), offsets.tolist()[1:]):
        pieces = _Pieces(values[begin:end].tobytes())
        state, fence, at = TEXT, b"", 0
        for line in _lines(pieces.document):
            stop = at + len(line)
            if state == CODE:
                closed = _CLOSES.match(line)
                if closed and closed[1].startswith(fence):
                    pieces.close(stop, CODE)
                    state = TEXT
            else:
                opened = _OPENS.match(line)
                kind = next((kind for kind, run in _RUNS.items() if run.match(line)), TEXT)
                if kind == QUOTE and line == pieces.document:
                    kind = TEXT
                if state not in (TEXT, kind):
                    pieces.close(at, state)
                state = kind
                if opened:
                    state, fence = CODE, opened[1]
                elif state == TEXT:
                    _sentences(pieces, at, stop)
            at = stop
        if pieces.begin < at:
            pieces.add(at, state)
        bounds += [begin + e for e in pieces.ends]
        kinds += pieces.kinds
        first.append(len(kinds))
    return Segments(np.array(bounds, np.int64), np.array(first, np.int64), np.array(kinds, np.uint8))


def _lines(document: bytes) -> list[bytes]:
    """Split behind line feeds, and nowhere else."""
    parts = document.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def passages(offsets: np.ndarray, first: np.ndarray, kind: np.ndarray, longest: int) -> Segments:
    """See `affectcore.kernels.segments.passages`."""
    bounds, heads = [int(offsets[0])], [0]
    kinds: list[int] = []
    for begin, end in zip(first.tolist(), first.tolist()[1:]):
        for s in range(begin, end):
            stop = int(offsets[s + 1])
            if s > begin and kind[s] == TEXT == kinds[-1] and stop - bounds[-2] <= longest:
                bounds[-1] = stop
            else:
                bounds.append(stop)
                kinds.append(int(kind[s]))
        heads.append(len(kinds))
    return Segments(np.array(bounds, np.int64), np.array(heads, np.int64), np.array(kinds, np.uint8))
