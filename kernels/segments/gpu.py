"""Triton kernels of the `segments` family on torch tensors; `__init__` documents the ops.

One program owns one document and walks over its bytes one by one, as the CPU does: the rules carry a state from byte to
byte, and a dump has documents enough to fill a GPU. Segments are counted first, and written by a second run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import cpu, tables
from .tables import Segments

TEXT = tl.constexpr(tables.TEXT)
CODE = tl.constexpr(tables.CODE)
TABLE = tl.constexpr(tables.TABLE)
URL = tl.constexpr(tables.URL)
QUOTE = tl.constexpr(tables.QUOTE)
LONGEST = tl.constexpr(tables.LONGEST)
MOST_LETTERS = tl.constexpr(tables.MOST_LETTERS)
MOST_DIGITS = tl.constexpr(tables.MOST_DIGITS)
STOP = tl.constexpr(cpu._STOP)
WORD = tl.constexpr(cpu._WORD)
LETTER = tl.constexpr(cpu._LETTER)
URL_END = tl.constexpr(cpu._URL_END)
TRAILING = tl.constexpr(cpu._TRAILING)
CLOSER = tl.constexpr(cpu._CLOSER)
LOOK = tl.constexpr(cpu._LOOK)
NUMBER_BLANKS = tl.constexpr(64)
ABBREVIATIONS = 64  # lanes that compare a word with the list


@triton.jit
def _byte(text, at, end):
    """The byte at `at`; 0 outside of the document."""
    return tl.load(text + at, mask=(at >= 0) & (at < end), other=0).to(tl.int32)


@triton.jit
def _is(classes, c, bits):
    return tl.load(classes + c).to(tl.int32) & bits != 0


@triton.jit
def _is_space(c):
    return (c == 32) | ((c >= 9) & (c <= 13))


@triton.jit
def _fence(text, at, end, c):
    """Bytes of the fence at `at` that begins with `c`, and whether it opens and closes code by what stands behind."""
    behind = at
    while (behind < end) & (_byte(text, behind, end) == c):
        behind += 1
    size = behind - at
    opens = size >= 3
    closes = size >= 3
    while behind < end:
        e = _byte(text, behind, end)
        opens &= (c != 96) | (e != 96)
        closes &= _is_space(e)
        behind += 1
    return size, opens, closes


@triton.jit
def _stop(text, at, end, classes):
    """Bytes of a sentence mark, plus 8 if it needs no space behind; 0 if there is none."""
    c = _byte(text, at, end)
    d = _byte(text, at + 1, end)
    e = _byte(text, at + 2, end)
    size = tl.where(_is(classes, c, STOP), 1, 0)
    size = tl.where((c == 0xE2) & (d == 0x80) & (e == 0xA6), 3, size)
    wide = (c == 0xE3) & (d == 0x80) & (e == 0x82)
    wide |= (c == 0xEF) & (d == 0xBC) & ((e == 0x81) | (e == 0x9F))
    return tl.where(wide, 11, size)


@triton.jit
def _closer(text, at, end, classes):
    c = _byte(text, at, end)
    e = _byte(text, at + 2, end)
    quote = (c == 0xE2) & (_byte(text, at + 1, end) == 0x80) & ((e == 0x9D) | (e == 0x99))
    return tl.where(_is(classes, c, CLOSER), 1, tl.where(quote, 3, 0))


@triton.jit
def _url(text, at, end, classes):
    """Bytes of the address at `at`, or 0."""
    w = _byte(text, at, end) == 119
    w &= (_byte(text, at + 1, end) == 119) & (_byte(text, at + 2, end) == 119) & (_byte(text, at + 3, end) == 46)
    h = (_byte(text, at, end) == 104) & (_byte(text, at + 1, end) == 116)
    h &= (_byte(text, at + 2, end) == 116) & (_byte(text, at + 3, end) == 112)
    k = at + 4 + tl.where(_byte(text, at + 4, end) == 115, 1, 0)
    h &= (_byte(text, k, end) == 58) & (_byte(text, k + 1, end) == 47) & (_byte(text, k + 2, end) == 47)
    last = at
    if w | h:
        while (last < end) & ~_is(classes, _byte(text, last, end), URL_END):
            last += 1
        while (last > at) & _is(classes, _byte(text, last - 1, end), TRAILING):
            last -= 1
    return last - at


@triton.jit
def _is_abbreviated(text, at, start, line, behind, end, classes, abbreviations, N: tl.constexpr):
    c = _byte(text, behind, end)
    goes_on = (c >= 97) & (c <= 122)
    n = at * 0
    packed = tl.cast(at * 0, tl.int64)
    while (n <= MOST_LETTERS) & (at - n > start) & _is(classes, _byte(text, at - n - 1, end), LETTER):
        n += 1
        packed = (packed << 8) | (_byte(text, at - n, end) | 32).to(tl.int64)
    if n == 0:
        while (n < MOST_DIGITS) & (at - n > line) & (tl.abs(2 * _byte(text, at - n - 1, end) - 105) <= 9):
            n += 1
        if n > 0:
            k = at - n
            before = _byte(text, k - 1, end)
            while (k > line) & ((before == 32) | (before == 9)) & (at - k < NUMBER_BLANKS):
                k -= 1
                before = _byte(text, k - 1, end)
            goes_on |= k == line
    else:
        alone = (at - n <= start) | ~_is(classes, _byte(text, at - n - 1, end), WORD)
        j = tl.arange(0, N)
        known = tl.sum((tl.load(abbreviations + j) == packed).to(tl.int32), 0) > 0
        goes_on |= alone & ((n == 1) | ((n <= MOST_LETTERS) & known))
    return goes_on


@triton.jit
def _put(bounds, kinds, n, end, kind, WRITE: tl.constexpr):
    if WRITE:
        tl.store(kinds + n, tl.cast(kind, tl.uint8))
        tl.store(bounds + n + 1, end)
    return n + 1


@triton.jit
def _emit(n, begin, seen, end, kind, text, size, lo, bounds, kinds, classes, WRITE: tl.constexpr):
    """Close the piece; returns (segments so far, where the next piece begins). Up to `seen` it holds no word."""
    if end > begin:
        wordless = kind == TEXT
        k = tl.maximum(begin, seen)
        while wordless & (k < end):
            wordless = ~_is(classes, _byte(text, k, size), WORD)
            k += 1
        if wordless:
            if n > 0:
                if WRITE:
                    tl.store(bounds + n, lo + end)
                begin = end
        else:
            while (kind == TEXT) & (end - begin > LONGEST):
                cut = begin + LONGEST
                while (cut > begin) & ~_is_space(_byte(text, cut - 1, size)):
                    cut -= 1
                if cut == begin:
                    cut = begin + LONGEST
                    back = 0
                    while (back < 3) & (_byte(text, cut, size) & 0xC0 == 0x80):
                        cut -= 1
                        back += 1
                    cut = tl.where(_byte(text, cut, size) & 0xC0 == 0x80, begin + LONGEST, cut)
                n = _put(bounds, kinds, n, lo + cut, TEXT, WRITE)
                begin = cut
            n = _put(bounds, kinds, n, lo + end, kind, WRITE)
            begin = end
    return n, begin


@triton.jit
def _segments_kernel(
    values, offsets, classes, abbreviations, counts, first, out_bounds, out_kinds, WRITE: tl.constexpr, N: tl.constexpr
):
    d = tl.program_id(0).to(tl.int64)  # byte offsets of a batch outgrow 32 bits; those inside a document do not
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    text = values + lo
    bounds = out_bounds
    kinds = out_kinds
    if WRITE:
        bounds += tl.load(first + d)
        kinds += tl.load(first + d)
    n = size * 0
    at = size * 0
    begin = size * 0
    seen = size * 0
    state = size * 0 + TEXT
    first_byte = size * 0  # of the lines that the state goes on with
    length = size * 0  # of the fence that opened it
    while at < size:
        line = at
        stop = at
        while (stop < size) & (_byte(text, stop, size) != 10):
            stop += 1
        stop = tl.where(stop < size, stop + 1, stop)
        word = line
        c = _byte(text, word, stop)
        while (word < stop) & ((c == 32) | (c == 9)):
            word += 1
            c = _byte(text, word, stop)
        fence = size * 0
        opens = fence > 0
        closes = fence > 0
        if (c == 96) | (c == 126):
            fence, opens, closes = _fence(text, word, stop, c)
        if state == CODE:
            if closes & (c == first_byte) & (fence >= length):
                n, begin = _emit(n, begin, begin, stop, state, text, size, lo, bounds, kinds, classes, WRITE)
                state = state * 0 + TEXT
        else:
            if (state != TEXT) & (c != first_byte):
                n, begin = _emit(n, begin, begin, line, state, text, size, lo, bounds, kinds, classes, WRITE)
                state = state * 0 + TEXT
            # A line that is all of a document quotes nothing.
            if opens | (c == 124) | ((c == 62) & ((line > 0) | (stop < size))):
                state = tl.where(opens, CODE, tl.where(c == 124, TABLE, QUOTE))
                first_byte = c
                length = fence
            else:
                while at < stop:
                    c = _byte(text, at, stop)
                    if ~_is(classes, c, LOOK):
                        at += 1
                    elif (c == 104) | (c == 119):
                        length = at * 0
                        if (at == line) | ~_is(classes, _byte(text, at - 1, stop), WORD):
                            length = _url(text, at, stop, classes)
                        if length > 0:
                            n, begin = _emit(n, begin, seen, at, TEXT, text, size, lo, bounds, kinds, classes, WRITE)
                            seen = at
                            at += length
                            n, begin = _emit(n, begin, seen, at, URL, text, size, lo, bounds, kinds, classes, WRITE)
                            seen = at
                        else:
                            at += 1
                    else:
                        mark = at
                        always = at * 0
                        found = _stop(text, at, stop, classes)
                        if found == 0:
                            at += 1
                        else:
                            while found > 0:
                                always |= found & 8
                                at += found & 7
                                found = _stop(text, at, stop, classes)
                            plain = (at - mark == 1) & (_byte(text, mark, stop) == 46)
                            k = _closer(text, at, stop, classes)
                            while k > 0:
                                at += k
                                k = _closer(text, at, stop, classes)
                            behind = at
                            while (behind < stop) & _is_space(_byte(text, behind, stop)):
                                behind += 1
                            ends = (always > 0) | (behind > at) | (at >= stop)
                            if ends & plain & (behind < stop):
                                ends = ~_is_abbreviated(
                                    text, mark, begin, line, behind, stop, classes, abbreviations, N
                                )
                            if ends:
                                at = behind
                                n, begin = _emit(
                                    n, begin, seen, at, TEXT, text, size, lo, bounds, kinds, classes, WRITE
                                )
                                seen = at
                n, begin = _emit(n, begin, seen, stop, TEXT, text, size, lo, bounds, kinds, classes, WRITE)
                seen = stop
        at = stop
    if begin < size:
        n = _put(bounds, kinds, n, lo + size, state, WRITE)
    if not WRITE:
        tl.store(counts + d, n.to(tl.int64))


@triton.jit
def _passages_kernel(offsets, first, kind, counts, out_first, out_offsets, out_kind, longest, WRITE: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    begin = tl.load(first + d)
    end = tl.load(first + d + 1)
    n = begin * 0
    if WRITE:
        n += tl.load(out_first + d)
    head = n
    start = tl.load(offsets + begin)  # of the passage before
    before = tl.cast(0, tl.int32)
    for s in range(begin, end):
        own = tl.load(kind + s).to(tl.int32)
        stop = tl.load(offsets + s + 1)
        joins = (n > head) & (own == TEXT) & (before == TEXT) & (stop - start <= longest)
        if ~joins:
            start = tl.load(offsets + s)
            n += 1
            if WRITE:
                tl.store(out_kind + n - 1, own.to(tl.uint8))
        if WRITE:
            tl.store(out_offsets + n, stop)
        before = own
    if not WRITE:
        tl.store(counts + d, n)


def _from_counts(counts: torch.Tensor) -> torch.Tensor:
    first = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=first[1:])
    return first


def _empty(n: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.empty(n + 1, dtype=torch.int64, device=like.device),
        torch.empty(n, dtype=torch.uint8, device=like.device),
    )


def segments(values: Any, offsets: Any) -> Segments:
    """See `affectcore.kernels.segments.segments`."""
    n = len(offsets) - 1
    device = values.device
    classes = torch.from_numpy(cpu._CLASS.copy()).to(device)
    words = torch.from_numpy(cpu._ABBREVIATIONS.view("int64").copy()).to(device)
    # As many as a program's lanes: a power of two.
    words = torch.nn.functional.pad(words, (0, ABBREVIATIONS - len(words)), value=-1)
    counts = torch.zeros(n, dtype=torch.int64, device=device)
    if n:
        none = torch.empty(0, dtype=torch.int64, device=device)
        _segments_kernel[(n,)](
            values, offsets, classes, words, counts, none, none, none.to(torch.uint8), False, ABBREVIATIONS, num_warps=1
        )
    first = _from_counts(counts)
    bounds, kinds = _empty(int(first[-1]), values)
    bounds[0] = offsets[0]
    if n:
        _segments_kernel[(n,)](
            values, offsets, classes, words, counts, first, bounds, kinds, True, ABBREVIATIONS, num_warps=1
        )
    return Segments(bounds, first, kinds)


def passages(offsets: Any, first: Any, kind: Any, longest: int) -> Segments:
    """See `affectcore.kernels.segments.passages`."""
    n = len(first) - 1
    counts = torch.zeros(n, dtype=torch.int64, device=offsets.device)
    if n:
        _passages_kernel[(n,)](offsets, first, kind, counts, first, offsets, kind, longest, False, num_warps=1)
    out_first = _from_counts(counts)
    out_offsets, out_kind = _empty(int(out_first[-1]), offsets)
    out_offsets[0] = offsets[0]
    if n:
        _passages_kernel[(n,)](
            offsets, first, kind, counts, out_first, out_offsets, out_kind, longest, True, num_warps=1
        )
    return Segments(out_offsets, out_first, out_kind)
