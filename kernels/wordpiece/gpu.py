"""Triton kernels of the `wordpiece` family on torch tensors; `__init__` documents the op.

One program owns one document: it marks added tokens, then writes the normalized text with a blank around everything
that is a word of its own. After that a word is what stands between blanks, and one lane cuts one word up. An added
token becomes a byte that no UTF-8 holds, then its number. Documents with several combining marks that survive
normalization might need them reordered; those rare ones are left to the Numba kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from affectcore.kernels.dispatch import fetch
from affectcore.kernels.words.gpu import _byte, _decode, _entry, _starts_character

from . import cpu, tables
from .tables import TokenStream, WordPiece

SPACE = tl.constexpr(tables.SPACE)
DROP = tl.constexpr(tables.DROP)
ISOLATED = tl.constexpr(tables.ISOLATED)
BARRIER = tl.constexpr(tables.BARRIER)
SIMPLE = tl.constexpr(tables.SIMPLE)
SEQUENCE = tl.constexpr(tables.SEQUENCE)
KIND = tl.constexpr((1 << tables.KIND_BITS) - 1)
CLASS = tl.constexpr((1 << tables.VALUE_SHIFT) - (1 << tables.CLASS_SHIFT))
VALUE_SHIFT = tl.constexpr(tables.VALUE_SHIFT)
SEED = tl.constexpr(tables.HASH_SEED)
CONTINUATION_SEED = tl.constexpr(tables.CONTINUATION_SEED)
MULTIPLIER = tl.constexpr(tables.HASH_MULTIPLIER)
BEGINNING_SHIFT = tl.constexpr(tables.BEGINNING_SHIFT)
CONTINUATION = tl.constexpr(tables.CONTINUATION)
REPLACEMENT = tl.constexpr(0xFFFD)
ADDED = tl.constexpr(0xFF)  # stands before the number of an added token: four bytes of seven bits
ADDED_BYTES = tl.constexpr(7)  # with a blank on both sides

BLOCK = 256  # bytes a program looks at in one step
WORDS = 128  # words cut up by one program
WARPS = 4
# Loops go on while a lane needs them: one warp, in which asking is cheap, with four words to a lane to hide latency.
CUT_WARPS = 1


@triton.jit
def _mark_kernel(values, offsets, added, added_offsets, n_added, marks, BLOCK: tl.constexpr):
    """Mark added tokens, leftmost and longest first: number + 1 on the first byte, -1 on the others."""
    d = tl.program_id(0).to(tl.int64)  # byte offsets of a batch outgrow 32 bits; those inside a document do not
    base = tl.load(offsets)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    text = values + lo
    marks += lo - base
    free = 0  # where the next token may start
    for block in range(0, size, BLOCK):
        i = block + tl.arange(0, BLOCK)
        found = i * 0
        length = i * 0
        c = _byte(text, i, size)
        for k in range(0, n_added):
            token = n_added - 1 - k  # the longest comes last and wins
            first = tl.load(added_offsets + token)
            n = tl.load(added_offsets + token + 1) - first
            same = (c == tl.load(added + first).to(tl.int32)) & (i + n <= size)
            if tl.max(same.to(tl.int32), 0) > 0:
                for j in range(1, n):
                    same &= _byte(text, i + j, size) == tl.load(added + first + j).to(tl.int32)
                found = tl.where(same, token + 1, found)
                length = tl.where(same, n, length)
        open_ = (found > 0) & (i >= free)
        while tl.max(open_.to(tl.int32), 0) > 0:
            at = tl.min(tl.where(open_, i, block + BLOCK), 0)
            here = i == at
            tl.store(marks + i, found, mask=here)
            n = tl.max(tl.where(here, length, 0), 0)
            for j in range(1, n):
                tl.store(marks + at + j, -1)
            free = at + n
            open_ &= i >= free


@triton.jit
def _utf8_length(cp):
    return 1 + (cp >= 0x80).to(tl.int32) + (cp >= 0x800).to(tl.int32) + (cp >= 0x10000).to(tl.int32)


@triton.jit
def _size(entry, cp):
    """Bytes of normalized text that an entry for a code point makes."""
    kind = entry & KIND
    size = _utf8_length(cp)
    size = tl.where(kind == ISOLATED, size + 2, size)
    size = tl.where(kind == SPACE, 1, size)
    return tl.where((kind == DROP) | (kind == BARRIER), 0, size)


@triton.jit
def _character(text, i, size, page, data, marks):
    """What starts at each byte: (its entry, its code point, whether a character does, its mark)."""
    cp, _ = _decode(text, i, size)
    cp = tl.where(cp < 0, REPLACEMENT, cp)
    mark = tl.load(marks + i, mask=i < size, other=-1)
    start = _starts_character(text, i, size) & (mark == 0)
    entry = tl.where(start, _entry(page, data, cp), DROP)
    cp = tl.where((entry & KIND) == SIMPLE, entry >> VALUE_SHIFT, cp)
    return entry, cp, mark


@triton.jit
def _parts(entry, sequences):
    """Place in `sequences` and number of the parts of entries that are sequences; 0 and 0 of others."""
    several = (entry & KIND) == SEQUENCE
    place = tl.where(several, entry >> VALUE_SHIFT, 0)
    return place + 1, tl.load(sequences + place, mask=several, other=0)


@triton.jit
def _measure_kernel(values, offsets, page, data, sequences, marks, sizes, n_marks, BLOCK: tl.constexpr):
    """Bytes of normalized text, and combining marks that it keeps."""
    d = tl.program_id(0).to(tl.int64)
    base = tl.load(offsets)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    total = lo * 0
    combining = 0
    for block in range(0, size, BLOCK):
        i = block + tl.arange(0, BLOCK)
        entry, cp, mark = _character(values + lo, i, size, page, data, marks + (lo - base))
        place, count = _parts(entry, sequences)
        out = tl.where(count > 0, 0, _size(entry, cp))
        simple = ((entry & KIND) == 0) & ((entry & CLASS) != 0)
        combining += tl.sum(simple.to(tl.int32), 0)
        for k in range(0, tl.max(count, 0)):
            part = tl.load(sequences + place + k, mask=k < count, other=DROP)
            out += _size(part, part >> VALUE_SHIFT)
            combining += tl.sum((((part & KIND) == 0) & ((part & CLASS) != 0)).to(tl.int32), 0)
        out = tl.where(mark > 0, ADDED_BYTES, out)
        total += tl.sum(out, 0)
    tl.store(sizes + d, total)
    tl.store(n_marks + d, combining)


@triton.jit
def _write(to, entry, cp):
    """Write the normalized text of entries that are no sequences; return its bytes."""
    kind = entry & KIND
    n = _utf8_length(cp)
    size = _size(entry, cp)
    blank = tl.full(entry.shape, 32, tl.uint8)
    isolated = kind == ISOLATED
    tl.store(to, blank, mask=isolated | (kind == SPACE))
    tl.store(to + n + 1, blank, mask=isolated)
    to += isolated.to(tl.int32)
    some = (size > 0) & (kind != SPACE)
    lead = tl.where(n == 1, 0, tl.where(n == 2, 0xC0, tl.where(n == 3, 0xE0, 0xF0)))
    for k in tl.static_range(0, 4):
        bits = cp >> (6 * tl.maximum(n - 1 - k, 0))
        b = (lead | bits) if k == 0 else (0x80 | (bits & 0x3F))
        tl.store(to + k, b.to(tl.uint8), mask=some & (k < n))
    return size


@triton.jit
def _rewrite_kernel(values, offsets, page, data, sequences, marks, out_offsets, result, BLOCK: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    base = tl.load(offsets)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    at = result + tl.load(out_offsets + d)
    for block in range(0, size, BLOCK):
        i = block + tl.arange(0, BLOCK)
        entry, cp, mark = _character(values + lo, i, size, page, data, marks + (lo - base))
        place, count = _parts(entry, sequences)
        out = tl.where(count > 0, 0, _size(entry, cp))
        longest = tl.max(count, 0)
        for k in range(0, longest):
            part = tl.load(sequences + place + k, mask=k < count, other=DROP)
            out += _size(part, part >> VALUE_SHIFT)
        out = tl.where(mark > 0, ADDED_BYTES, out)
        to = at + (tl.cumsum(out, 0) - out)
        at += tl.sum(out, 0)
        _write(to, tl.where(count > 0, DROP, entry), cp)
        if tl.max(mark, 0) > 0:
            blank = tl.full(mark.shape, 32, tl.uint8)
            tl.store(to, blank, mask=mark > 0)
            tl.store(to + 1, tl.full(mark.shape, ADDED, tl.uint8), mask=mark > 0)
            for q in tl.static_range(0, 4):
                tl.store(to + 2 + q, (0x80 | (((mark - 1) >> (7 * q)) & 0x7F)).to(tl.uint8), mask=mark > 0)
            tl.store(to + 6, blank, mask=mark > 0)
        for k in range(0, longest):
            part = tl.load(sequences + place + k, mask=k < count, other=DROP)
            to += _write(to, part, part >> VALUE_SHIFT)


@triton.jit
def _is_blank(text, i, size):
    return (i < 0) | (i >= size) | (_byte(text, i, size) == 32)


@triton.jit
def _count_kernel(values, offsets, n_words, BLOCK: tl.constexpr):
    """Words of normalized text."""
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    words = lo * 0
    for block in range(0, size, BLOCK):
        i = block + tl.arange(0, BLOCK)
        begins = ~_is_blank(values + lo, i, size) & _is_blank(values + lo, i - 1, size)
        words += tl.sum(begins.to(tl.int32), 0)
    tl.store(n_words + d, words)


@triton.jit
def _bounds_kernel(values, offsets, word_offsets, starts, ends, BLOCK: tl.constexpr):
    """Write where each word of normalized text starts and ends."""
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    w = tl.load(word_offsets + d)
    for block in range(0, size, BLOCK):
        i = block + tl.arange(0, BLOCK)
        inside = ~_is_blank(values + lo, i, size)
        begins = inside & _is_blank(values + lo, i - 1, size)
        stops = inside & _is_blank(values + lo, i + 1, size)
        number = tl.cumsum(begins.to(tl.int32), 0) - 1
        tl.store(starts + w + number, lo + i, mask=begins)
        tl.store(ends + w + number, lo + i + 1, mask=stops)
        w += tl.sum(begins.to(tl.int32), 0)


@triton.jit
def _mix(h, x):
    h = (h ^ x) * tl.full(h.shape, MULTIPLIER, tl.uint64)
    return h ^ (h >> 32)


@triton.jit(do_not_specialize=["slot_mask"])
def _cut_kernel(
    values,
    starts,
    ends,
    n_words,
    slots,
    slot_mask,
    rows,
    stride,
    beginnings,
    last_bit,
    added_ids,
    unknown,
    max_chars,
    pieces,
    counts,
    WORDS: tl.constexpr,
):
    """Write the token ids of each word from the place of its first byte on, and how many they are."""
    w = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    live = w < n_words
    lo = tl.load(starts + w, mask=live, other=0)
    size = (tl.load(ends + w, mask=live, other=0) - lo).to(tl.int32)
    word = values + lo
    none = tl.full((WORDS,), 0, tl.int32)

    is_added = live & (_byte(word, none, size) == ADDED)
    number = none
    for q in tl.static_range(0, 4):
        number |= (_byte(word, none + 1 + q, size) & 0x7F) << (7 * q)
    chars = none
    for i in range(0, tl.max(size, 0)):
        chars += ((i < size) & ((_byte(word, none + i, size) & 0xC0) != 0x80)).to(tl.int32)
    known = live & ~is_added & (chars <= max_chars)

    start = none
    count = none
    going = known
    while tl.max(going.to(tl.int32), 0) > 0:
        seeds = tl.full((WORDS,), CONTINUATION_SEED, tl.uint64)
        h = tl.where(start > 0, seeds, tl.full((WORDS,), SEED, tl.uint64))
        flag = tl.where(start > 0, CONTINUATION, 0)
        x = tl.full((WORDS,), 0, tl.uint64)
        piece = none - 1
        piece_end = none
        begun = going
        k = 0
        while tl.max(begun.to(tl.int32), 0) > 0:
            if (k > 0) & (k % 8 == 0):
                h = _mix(h, x)
                x = tl.full((WORDS,), 0, tl.uint64)
            x |= tl.load(word + start + k, mask=begun, other=0).to(tl.uint64) << (8 * (k % 8))
            k += 1
            mixed = _mix(h, x)
            bit = (mixed >> BEGINNING_SHIFT).to(tl.int32) & last_bit
            begun &= ((tl.load(beginnings + (bit >> 3), mask=begun, other=0).to(tl.int32) >> (bit & 7)) & 1) != 0
            place = mixed & slot_mask.to(tl.uint64)
            searching = begun
            while tl.max(searching.to(tl.int32), 0) > 0:
                slot = tl.load(slots + place.to(tl.int64), mask=searching, other=0).to(tl.uint64, bitcast=True)
                searching &= slot != 0
                same = searching & ((slot >> 32) == (mixed >> 32))
                row = rows + (slot & 0xFFFFFFFF).to(tl.int64) * stride
                first = tl.load(row, mask=same, other=0)
                same &= (first & 0xFFFFFFFF) == (flag | k)
                for j in range(0, k * tl.max(same.to(tl.int32), 0)):
                    wanted = tl.load(row + 1 + j // 8, mask=same, other=0) >> (8 * (j % 8))
                    same &= (wanted & 0xFF) == tl.load(word + start + j, mask=same, other=0)
                piece = tl.where(same, (first >> 32).to(tl.int32), piece)
                piece_end = tl.where(same, start + k, piece_end)
                searching &= ~same
                place = (place + 1) & slot_mask.to(tl.uint64)
            begun &= start + k < size
        known &= ~going | (piece >= 0)
        going &= known
        tl.store(pieces + lo + count, piece, mask=going)
        count += going.to(tl.int32)
        start = tl.where(going, piece_end, start)
        going &= start < size
    alone = tl.where(is_added, tl.load(added_ids + number, mask=is_added, other=0), unknown)
    tl.store(pieces + lo, alone, mask=live & ~known)
    tl.store(counts + w, tl.where(known, count, 1), mask=live)


@triton.jit
def _gather_kernel(pieces, starts, counts, places, stops, n_words, ids, WORDS: tl.constexpr):
    """Copy the tokens of each word to their place, as far as its document has room."""
    w = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    live = w < n_words
    lo = tl.load(starts + w, mask=live, other=0)
    to = tl.load(places + w, mask=live, other=0)
    room = tl.load(stops + w, mask=live, other=0) - to
    count = tl.minimum(tl.load(counts + w, mask=live, other=0), room)
    for k in range(0, tl.max(count, 0).to(tl.int32)):
        wanted = live & (k < count)
        tl.store(ids + to + k, tl.load(pieces + lo + k, mask=wanted, other=0), mask=wanted)


def wordpiece(
    values: Any, offsets: Any, table: WordPiece, max_tokens: int | None = None, special: bool = True
) -> TokenStream:
    """See `affectcore.kernels.wordpiece.wordpiece`."""

    def empty(size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=values.device)

    def sums(counts: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(counts) + 1, dtype=torch.int64, device=values.device)
        torch.cumsum(counts, 0, out=out[1:])
        return out

    n = len(offsets) - 1
    if n == 0:
        return TokenStream(empty(0, torch.int32), torch.zeros(1, dtype=torch.int64, device=values.device))
    prefix, suffix = (table.prefix, table.suffix) if special else (table.prefix[:0], table.suffix[:0])
    unknown, max_chars, _ = table.settings.tolist()
    text = values, offsets, table.page, table.data, table.sequences

    marks = torch.zeros(int(offsets[-1] - offsets[0]), dtype=torch.int32, device=values.device)
    n_added = len(table.added_ids)
    if n_added:
        _mark_kernel[(n,)](values, offsets, table.added, table.added_offsets, n_added, marks, BLOCK, num_warps=WARPS)
    sizes, n_marks = empty(n, torch.int64), empty(n, torch.int32)
    _measure_kernel[(n,)](*text, marks, sizes, n_marks, BLOCK, num_warps=WARPS)
    bounds = sums(sizes)
    total = int(bounds[-1])
    normalized = empty(total, torch.uint8)
    _rewrite_kernel[(n,)](*text, marks, bounds, normalized, BLOCK, num_warps=WARPS)

    n_words = empty(n, torch.int64)
    _count_kernel[(n,)](normalized, bounds, n_words, BLOCK, num_warps=WARPS)
    word_offsets = sums(n_words)
    w = int(word_offsets[-1])
    starts, ends, counts, pieces = empty(w, torch.int64), empty(w, torch.int64), empty(w, torch.int64), marks[:0]
    if w:
        _bounds_kernel[(n,)](normalized, bounds, word_offsets, starts, ends, BLOCK, num_warps=WARPS)
        pieces = empty(total, torch.int32)
        _cut_kernel[(triton.cdiv(w, WORDS),)](
            normalized,
            starts,
            ends,
            w,
            table.slots,
            len(table.slots) - 1,
            table.rows,
            table.rows.shape[1],
            table.beginnings,
            8 * len(table.beginnings) - 1,
            table.added_ids,
            unknown,
            max_chars,
            pieces,
            counts,
            WORDS,
            num_warps=CUT_WARPS,
        )

    before = sums(counts)
    first = before[word_offsets[:-1]]
    kept = before[word_offsets[1:]] - first
    if max_tokens is not None:
        kept = kept.clamp(max=max_tokens - len(prefix) - len(suffix))
    # Marks in the wrong order, perhaps: see the module.
    odd = torch.nonzero(n_marks > 1).ravel()
    room = kept.clone()
    redone = _redo(values, offsets, table, odd, max_tokens, special)
    if redone:
        room[odd] = 0
        kept[odd] = torch.tensor([len(part) for part in redone], device=values.device)
    out_offsets = sums(kept + (len(prefix) + len(suffix)))
    ids = empty(int(out_offsets[-1]), torch.int32)
    if w:
        document = torch.repeat_interleave(torch.arange(n, device=values.device), n_words)
        begin = out_offsets[:-1] + len(prefix)
        places = before[:-1] + (begin - first)[document]
        stops = (begin + room)[document]
        _gather_kernel[(triton.cdiv(w, WORDS),)](pieces, starts, counts, places, stops, w, ids, WORDS, num_warps=WARPS)
    for k in range(len(prefix)):
        ids[out_offsets[:-1] + k] = prefix[k]
    for k in range(len(suffix)):
        ids[out_offsets[1:] - len(suffix) + k] = suffix[k]
    for at, part in zip((out_offsets[:-1] + len(prefix))[odd].tolist(), redone):
        ids[at : at + len(part)] = torch.from_numpy(part).to(values.device)
    return TokenStream(ids, out_offsets)


def _redo(
    values: Any, offsets: Any, table: WordPiece, odd: Any, max_tokens: int | None, special: bool
) -> list[np.ndarray]:
    """Return the tokens, without special ones, that the Numba kernel makes of some documents."""
    if not len(odd):
        return []
    host = fetch(table)
    host = host._replace(slots=host.slots.view(np.uint64), rows=host.rows.view(np.uint64))
    if max_tokens is not None and special:
        max_tokens -= len(table.prefix) + len(table.suffix)
    parts = []
    for a, b in zip(offsets[odd].tolist(), offsets[odd + 1].tolist()):
        document = fetch(values[a:b])
        parts.append(cpu.wordpiece(document, np.array([0, b - a], np.int64), host, max_tokens, False).ids)
    return parts
