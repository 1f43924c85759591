"""Numba kernels of the `segments` family; `__init__` documents the ops."""

from __future__ import annotations

import numpy as np

from affectcore.kernels.dispatch import inline, jit
from affectcore.kernels.memory import load8

from .tables import CODE, LONGEST, MOST_DIGITS, MOST_LETTERS, QUOTE, TABLE, TEXT, URL, Segments, packed_abbreviations

_ABBREVIATIONS = packed_abbreviations()

_STOP, _WORD, _LETTER, _URL_END, _TRAILING, _CLOSER, _LOOK = 1, 2, 4, 8, 16, 32, 64


def _classes() -> np.ndarray:
    out = np.zeros(256, np.uint8)
    for c in b".!?":
        out[c] |= _STOP | _LOOK
    for c in range(256):
        if chr(c).isalpha() and c < 128:
            out[c] |= _LETTER
        if c >= 128 or chr(c).isalnum():
            out[c] |= _WORD
    for c in b' \t\n\v\f\r<>"`)]':
        out[c] |= _URL_END
    for c in b".,;:!?'":
        out[c] |= _TRAILING
    for c in b"\"')]*_}":
        out[c] |= _CLOSER
    for c in b"hw\xe2\xe3\xef":
        out[c] |= _LOOK
    return out


_CLASS = _classes()


@inline
def _is_space(c):
    return c == 32 or 9 <= c <= 13


@inline
def _fence(at, end):
    """Return the bytes of the fence at an address, and whether it opens and closes code by what stands behind it."""
    c = load8(at)
    behind = at
    while behind < end and load8(behind) == c:
        behind += 1
    size = behind - at
    opens = closes = size >= 3
    while behind < end:
        opens &= c != 96 or load8(behind) != 96
        closes &= _is_space(load8(behind))
        behind += 1
    return size, opens, closes


@inline
def _matches(at, end, word):
    if at + len(word) > end:
        return False
    for k in range(len(word)):
        if load8(at + k) != word[k]:
            return False
    return True


@inline
def _stop(at, end, classes):
    """Return the bytes of a sentence mark at an address (0: none), and whether it needs no space behind."""
    c = load8(at)
    if classes[c] & _STOP:
        return 1, False
    if at + 3 <= end:
        d, e = load8(at + 1), load8(at + 2)
        if c == 0xE2 and d == 0x80 and e == 0xA6:
            return 3, False
        if (c == 0xE3 and d == 0x80 and e == 0x82) or (c == 0xEF and d == 0xBC and (e == 0x81 or e == 0x9F)):
            return 3, True
    return 0, False


@inline
def _closer(at, end, classes):
    """Return the bytes of a closing quotation mark, bracket or emphasis at an address, or 0."""
    c = load8(at)
    if classes[c] & _CLOSER:
        return 1
    if at + 3 <= end and c == 0xE2 and load8(at + 1) == 0x80 and (load8(at + 2) == 0x9D or load8(at + 2) == 0x99):
        return 3
    return 0


@inline
def _is_abbreviated(at, start, line, behind, end, classes, abbreviations):
    """Tell whether the full stop at an address ends no sentence.

    `start` is where the piece begins, `line` where the line does, and `behind` the first byte after the white space.
    """
    # A small letter behind the space: the sentence goes on.
    if behind < end and 97 <= load8(behind) <= 122:
        return True
    n = 0
    packed = np.uint64(0)
    while n <= MOST_LETTERS and at - n > start and classes[load8(at - n - 1)] & _LETTER:
        n += 1
        packed = (packed << np.uint64(8)) | np.uint64(load8(at - n) | 32)
    before = load8(at - n - 1) if at - n > start else 32
    if n == 0:
        # A list number at the start of a line.
        while n < MOST_DIGITS and at - n > line and 48 <= load8(at - n - 1) <= 57:
            n += 1
        if n == 0:
            return False
        k = at - n
        while k > line and (load8(k - 1) == 32 or load8(k - 1) == 9) and at - k < 64:
            k -= 1
        return k == line
    if classes[before] & _WORD:
        return False
    if n == 1:
        return True  # an initial, or the last letter of e.g. and i.e.
    if n > MOST_LETTERS:
        return False
    k = np.searchsorted(abbreviations, packed)
    return k < abbreviations.shape[0] and abbreviations[k] == packed


@inline
def _emit(n, first, begin, seen, end, kind, text, bounds, kinds, classes):
    """Close the piece from address `begin` to `end`; return (segments so far, whether the piece is used up).

    Up to `seen` it is known to hold no word.
    """
    if end <= begin:
        return n, True
    if kind == TEXT:
        k = max(begin, seen)
        while k < end and not classes[load8(k)] & _WORD:
            k += 1
        if k == end:
            # Nothing but space and punctuation: part of the segment before, if there is one.
            if n > first:
                bounds[n] = end - text
                return n, True
            return n, False
        while end - begin > LONGEST:
            cut = begin + LONGEST
            while cut > begin and not _is_space(load8(cut - 1)):
                cut -= 1
            if cut == begin:
                cut = begin + LONGEST
                back = 0
                while back < 3 and load8(cut) & 0xC0 == 0x80:
                    cut -= 1
                    back += 1
                if load8(cut) & 0xC0 == 0x80:
                    cut = begin + LONGEST
            kinds[n] = TEXT
            n += 1
            bounds[n] = cut - text
            begin = cut
    kinds[n] = kind
    n += 1
    bounds[n] = end - text
    return n, True


@jit
def _segments(text, offsets, classes, abbreviations, first, bounds, kinds):
    n = 0
    bounds[0] = offsets[0]
    for d in range(offsets.shape[0] - 1):
        first[d] = n
        head = n
        at, end = text + offsets[d], text + offsets[d + 1]
        begin = seen = at  # of the piece that is not closed yet
        state = TEXT
        first_byte = length = 0  # of the lines that the state goes on with; of the fence that opened it
        while at < end:
            # A line: from `line` to `stop`, its break included.
            line = at
            stop = at
            while stop < end and load8(stop) != 10:
                stop += 1
            stop += int(stop < end)
            word = line
            while word < stop and (load8(word) == 32 or load8(word) == 9):
                word += 1
            c = int(load8(word)) if word < stop else 10
            fence, opens, closes = _fence(word, stop) if c == 96 or c == 126 else (0, False, False)
            if state == CODE:
                at = stop
                if closes and c == first_byte and fence >= length:
                    n, _ = _emit(n, head, begin, begin, stop, CODE, text, bounds, kinds, classes)
                    begin, state = stop, TEXT
                continue
            if state != TEXT:
                if c == first_byte:
                    at = stop
                    continue
                n, _ = _emit(n, head, begin, begin, line, state, text, bounds, kinds, classes)
                begin, state = line, TEXT
            # A line that is all of a document quotes nothing.
            if opens or c == 124 or (c == 62 and (line > text + offsets[d] or stop < end)):
                state = CODE if opens else TABLE if c == 124 else QUOTE
                first_byte, length = c, fence
                at = stop
                continue
            while at < stop:
                c = int(load8(at))
                if not classes[c] & _LOOK:
                    at += 1
                    continue
                if c == 104 or c == 119:
                    before = int(load8(at - 1)) if at > line else 32
                    at += 1
                    if classes[before] & _WORD:
                        continue
                    url = at - 1
                    if not (
                        _matches(url, stop, b"http://")
                        or _matches(url, stop, b"https://")
                        or _matches(url, stop, b"www.")
                    ):
                        continue
                    last = url
                    while last < stop and not classes[load8(last)] & _URL_END:
                        last += 1
                    while last > url and classes[load8(last - 1)] & _TRAILING:
                        last -= 1
                    n, done = _emit(n, head, begin, seen, url, TEXT, text, bounds, kinds, classes)
                    n, _ = _emit(n, head, url if done else begin, url, last, URL, text, bounds, kinds, classes)
                    begin = seen = at = last
                    continue
                size, always = _stop(at, stop, classes)
                if size == 0:
                    at += 1
                    continue
                mark = at
                while size:
                    at += size
                    size, more = _stop(at, stop, classes) if at < stop else (0, False)
                    always |= more
                plain = at - mark == 1 and load8(mark) == 46
                k = _closer(at, stop, classes) if at < stop else 0
                while k:
                    at += k
                    k = _closer(at, stop, classes) if at < stop else 0
                behind = at
                while behind < stop and _is_space(load8(behind)):
                    behind += 1
                if not always and behind == at and at < stop:
                    continue
                if plain and behind < stop and _is_abbreviated(mark, begin, line, behind, stop, classes, abbreviations):
                    continue
                at = behind
                n, done = _emit(n, head, begin, seen, at, TEXT, text, bounds, kinds, classes)
                begin = at if done else begin
                seen = at
            n, done = _emit(n, head, begin, seen, stop, TEXT, text, bounds, kinds, classes)
            begin = stop if done else begin
            seen = stop
            at = stop
        if begin < end:
            if state == TEXT:
                # Space and punctuation alone.
                kinds[n] = TEXT
                n += 1
                bounds[n] = end - text
            else:
                n, _ = _emit(n, head, begin, begin, end, state, text, bounds, kinds, classes)
    first[offsets.shape[0] - 1] = n
    return n


def segments(values: np.ndarray, offsets: np.ndarray) -> Segments:
    """See `affectcore.kernels.segments.segments`."""
    values = np.ascontiguousarray(values)
    n_bytes = int(offsets[-1] - offsets[0])
    first = np.empty(len(offsets), np.int64)
    # As many as there are bytes at most; memory that is not written to is not taken.
    bounds, kinds = np.empty(n_bytes + 1, np.int64), np.empty(n_bytes, np.uint8)
    n = _segments(values.ctypes.data, offsets, _CLASS, _ABBREVIATIONS, first, bounds, kinds)
    return Segments(bounds[: n + 1].copy(), first, kinds[:n].copy())


@jit
def _passages(offsets, first, kind, longest, out_offsets, out_first, out_kind):
    n = 0
    out_offsets[0] = offsets[0]
    for d in range(first.shape[0] - 1):
        out_first[d] = n
        head = n
        for s in range(first[d], first[d + 1]):
            joins = n > head and kind[s] == TEXT and out_kind[n - 1] == TEXT
            if joins and offsets[s + 1] - out_offsets[n - 1] <= longest:
                out_offsets[n] = offsets[s + 1]
            else:
                out_kind[n] = kind[s]
                n += 1
                out_offsets[n] = offsets[s + 1]
    out_first[first.shape[0] - 1] = n
    return n


def passages(offsets: np.ndarray, first: np.ndarray, kind: np.ndarray, longest: int) -> Segments:
    """See `affectcore.kernels.segments.passages`."""
    out_offsets, out_first, out_kind = np.empty_like(offsets), np.empty_like(first), np.empty_like(kind)
    n = _passages(offsets, first, kind, longest, out_offsets, out_first, out_kind)
    return Segments(out_offsets[: n + 1].copy(), out_first, out_kind[:n].copy())
