"""Triton kernels of the `words` family on torch tensors; `__init__` documents the ops.

One program owns one document and walks over it in blocks, carrying its counts along: no atomics, and the same result
whatever the block size. Words are then described by one lane each.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import tables
from .tables import Alphabet, Normalized, Vocabulary, WordStream

SPACE = tl.constexpr(tables.SPACE)
PUNCT = tl.constexpr(tables.PUNCT)
UPPER = tl.constexpr(tables.UPPER)
LOWER = tl.constexpr(tables.LOWER)
EMOJI_SHIFT = tl.constexpr(tables.EMOJI_SHIFT)
ALL_CAPS = tl.constexpr(tables.ALL_CAPS)
CONTRACTED_NOT = tl.constexpr(tables.CONTRACTED_NOT)
ENDS_SENTENCE = tl.constexpr(tables.ENDS_SENTENCE)
SHOUTED = tl.constexpr(tables.SHOUTED)
SEED = tl.constexpr(tables.HASH_SEED)
MULTIPLIER = tl.constexpr(tables.HASH_MULTIPLIER)
KELVIN = tl.constexpr(0x212A)
CURLY_APOSTROPHE = tl.constexpr(0x2019)
VARIATION_SELECTOR = tl.constexpr(0xFE0F)

BLOCK = 256  # bytes a program looks at in one step
WORDS = 128  # words described by one program
WARPS = 4


@triton.jit
def _byte(text, i, size):
    return tl.load(text + i, mask=(i >= 0) & (i < size), other=0).to(tl.int32)


@triton.jit
def _decode(text, i, size):
    """Code point (-1: invalid) and bytes of the character that starts at each `i`, if one does; 0 bytes outside."""
    c = _byte(text, i, size)
    inside = (i >= 0) & (i < size)
    need = tl.where((c >= 0xC2) & (c < 0xE0), 1, tl.where((c >= 0xE0) & (c < 0xF0), 2, tl.where(c >= 0xF0, 3, 0)))
    need = tl.where(c > 0xF4, 0, need)
    bad = (c >= 0x80) & (need == 0)
    low = tl.where(c == 0xE0, 0xA0, tl.where(c == 0xF0, 0x90, 0x80))
    high = tl.where(c == 0xED, 0x9F, tl.where(c == 0xF4, 0x8F, 0xBF))
    cp = tl.where(need == 0, c, c & (0x3F >> need))
    n = tl.where(inside, 1, 0)
    for k in tl.static_range(1, 4):
        b = _byte(text, i + k, size)
        wanted = (need >= k) & ~bad
        good = wanted & (b >= low) & (b <= high)
        bad |= wanted & ~good
        n += tl.where(good, 1, 0)
        cp = tl.where(good, (cp << 6) | (b & 0x3F), cp)
        low = tl.full(low.shape, 0x80, tl.int32)
        high = tl.full(high.shape, 0xBF, tl.int32)
    return tl.where(bad | ~inside, -1, cp), n


@triton.jit
def _entry(page, data, cp):
    known = cp >= 0
    row = tl.load(page + (cp >> 8), mask=known, other=0)
    return tl.load(data + row + (cp & 255), mask=known, other=0)


@triton.jit
def _is_space(text, i, size, page, data):
    """Tell for each byte whether it belongs to white space; positions outside the document do."""
    inside = (i >= 0) & (i < size)
    c = _byte(text, i, size)
    space = (tl.load(data + c, mask=inside & (c < 0x80), other=0) & SPACE) != 0
    if tl.max(c, 0) >= 0x80:
        for k in tl.static_range(0, 3):  # white space has three bytes at most
            cp, n = _decode(text, i - k, size)
            space |= (n > k) & (n > 1) & ((_entry(page, data, cp) & SPACE) != 0)
    return space | ~inside


@triton.jit
def _starts_character(text, i, size):
    """Tell for each byte whether it starts a character, that is, no sequence before has consumed it."""
    start = (i >= 0) & (i < size)
    for k in tl.static_range(1, 4):
        _, n = _decode(text, i - k, size)
        lead = _byte(text, i - k, size) >= 0xC2
        start &= ~(lead & (n > k))
    return start


@triton.jit
def _output(text, i, size, page, data, text_offsets, CORRECTED: tl.constexpr):
    """What each character becomes: (code point, bytes in, bytes out, emoji number, needs a space before)."""
    cp, n = _decode(text, i, size)
    start = _starts_character(text, i, size)
    emoji = _entry(page, data, cp) >> EMOJI_SHIFT
    is_emoji = start & (emoji > 0)
    before = _byte(text, i - 1, size)
    lead = is_emoji & (i > 0) & (before != 32)
    out = tl.where(cp < 0, 3, n)
    out = tl.where(cp == KELVIN, 1, out)
    if CORRECTED:
        out = tl.where(cp == CURLY_APOSTROPHE, 1, out)
        out = tl.where(cp == VARIATION_SELECTOR, 0, out)
    length = tl.load(text_offsets + emoji + 1, mask=is_emoji, other=0) - tl.load(
        text_offsets + emoji, mask=is_emoji, other=0
    )
    if CORRECTED:
        length += 1
    out = tl.where(is_emoji, length + lead.to(tl.int32), out)
    changed = start & ((cp < 0) | (cp == KELVIN) | is_emoji)
    if CORRECTED:
        changed |= start & ((cp == CURLY_APOSTROPHE) | (cp == VARIATION_SELECTOR))
    return cp, n, tl.where(start, out, 0), tl.where(is_emoji, emoji, 0), lead, start, changed


@triton.jit
def _measure_kernel(
    values,
    offsets,
    page,
    data,
    text_offsets,
    sizes,
    n_invalid,
    n_words,
    CORRECTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    d = tl.program_id(0).to(tl.int64)  # byte offsets of a batch outgrow 32 bits; those inside a document do not
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    text = values + lo
    out_size = lo * 0
    invalid = 0
    words = 0
    any_changed = 0
    for base in range(0, size, BLOCK):
        i = base + tl.arange(0, BLOCK)
        space = _is_space(text, i, size, page, data)
        previous = _is_space(text, i - 1, size, page, data)
        words += tl.sum((~space & previous).to(tl.int32), 0)
        if tl.max(_byte(text, i, size), 0) < 0x80:
            out_size += tl.minimum(size - base, BLOCK)
        else:
            cp, n, out, emoji, lead, start, changed = _output(text, i, size, page, data, text_offsets, CORRECTED)
            out_size += tl.sum(out, 0)
            invalid += tl.sum(tl.where(start & (cp < 0), n, 0), 0)
            any_changed |= tl.max(changed.to(tl.int32), 0)
    tl.store(sizes + d, out_size)
    tl.store(n_invalid + d, invalid)
    tl.store(n_words + d, tl.where(any_changed > 0, words, -1))


@triton.jit
def _rewrite_kernel(
    values,
    offsets,
    page,
    data,
    descriptions,
    text_offsets,
    out_offsets,
    result,
    CORRECTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    text = values + lo
    at = result + tl.load(out_offsets + d)
    for base in range(0, size, BLOCK):
        i = base + tl.arange(0, BLOCK)
        cp, n, out, emoji, lead, start, changed = _output(text, i, size, page, data, text_offsets, CORRECTED)
        to = at + (tl.cumsum(out, 0) - out)
        at += tl.sum(out, 0)
        for k in tl.static_range(0, 4):
            b = tl.where(cp == KELVIN, 75, _byte(text, i + k, size))
            if CORRECTED:
                b = tl.where(cp == CURLY_APOSTROPHE, 39, b)
            b = tl.where(cp < 0, 0xEF if k == 0 else 0xBF if k == 1 else 0xBD, b)
            tl.store(to + k, b.to(tl.uint8), mask=start & (emoji == 0) & (k < out))
        if tl.max(emoji, 0) > 0:
            is_emoji = emoji > 0
            space = tl.full(emoji.shape, 32, tl.uint8)
            tl.store(to, space, mask=lead)
            to += lead.to(tl.int32)
            first = tl.load(text_offsets + emoji, mask=is_emoji, other=0)
            length = tl.load(text_offsets + emoji + 1, mask=is_emoji, other=0) - first
            for j in range(0, tl.max(length, 0)):
                described = is_emoji & (j < length)
                tl.store(to + j, tl.load(descriptions + first + j, mask=described, other=0), mask=described)
            if CORRECTED:
                tl.store(to + length, space, mask=is_emoji)


def normalize(values: Any, offsets: Any, alphabet: Alphabet, corrected: bool = False) -> Normalized:
    """See `affectcore.kernels.words.normalize`."""
    n = len(offsets) - 1
    sizes = torch.empty(n, dtype=torch.int64, device=values.device)
    n_invalid, n_words = (torch.empty(n, dtype=torch.int32, device=values.device) for _ in range(2))
    if n == 0:
        return Normalized(values, offsets, n_invalid, n_words)
    page, data, text, text_offsets = alphabet
    _measure_kernel[(n,)](
        values, offsets, page, data, text_offsets, sizes, n_invalid, n_words, corrected, BLOCK, num_warps=WARPS
    )
    if not bool((n_words >= 0).any()):
        return Normalized(values, offsets, n_invalid, n_words)
    out_offsets = torch.zeros(n + 1, dtype=torch.int64, device=values.device)
    torch.cumsum(sizes, 0, out=out_offsets[1:])
    result = torch.empty(int(out_offsets[-1]), dtype=torch.uint8, device=values.device)
    _rewrite_kernel[(n,)](
        values, offsets, page, data, text, text_offsets, out_offsets, result, corrected, BLOCK, num_warps=WARPS
    )
    return Normalized(result, out_offsets, n_invalid, n_words)


@triton.jit
def _count_kernel(values, offsets, page, data, n_words, BLOCK: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    words = lo * 0
    for base in range(0, size, BLOCK):
        i = base + tl.arange(0, BLOCK)
        space = _is_space(values + lo, i, size, page, data)
        previous = _is_space(values + lo, i - 1, size, page, data)
        words += tl.sum((~space & previous).to(tl.int32), 0)
    tl.store(n_words + d, words)


@triton.jit
def _bounds_kernel(values, offsets, page, data, word_offsets, starts, ends, BLOCK: tl.constexpr):
    """Write where each word starts and ends, punctuation at its edges included."""
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    size = (tl.load(offsets + d + 1) - lo).to(tl.int32)
    text = values + lo
    w = tl.load(word_offsets + d)
    for base in range(0, size, BLOCK):
        i = base + tl.arange(0, BLOCK)
        inside = ~_is_space(text, i, size, page, data)
        begins = inside & _is_space(text, i - 1, size, page, data)
        stops = inside & _is_space(text, i + 1, size, page, data)
        number = tl.cumsum(begins.to(tl.int32), 0) - 1
        tl.store(starts + w + number, lo + i, mask=begins)
        tl.store(ends + w + number, lo + i + 1, mask=stops)
        w += tl.sum(begins.to(tl.int32), 0)


@triton.jit(do_not_specialize=["slot_mask", "bucket_shift"])
def _describe_kernel(
    values,
    starts,
    ends,
    n_words,
    page,
    data,
    displacement,
    slots,
    vocabulary,
    numbers,
    slot_mask,
    bucket_shift,
    ids,
    flags,
    hashes,
    word_starts,
    lengths,
    SPANS: tl.constexpr,
    WORDS: tl.constexpr,
):
    w = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    live = w < n_words
    lo = tl.load(starts + w, mask=live, other=0)
    size = (tl.load(ends + w, mask=live, other=0) - lo).to(tl.int32)

    # One step a byte: the edges without punctuation, the case of the letters, "n't", the end of a sentence.
    none = tl.full((WORDS,), 0, tl.int32)
    first = none - 1
    last = none
    chars = none
    chars_at_last = none
    upper = none
    lower = none
    contracted = none
    ends_sentence = none
    previous = none
    before = none
    for k in range(0, tl.max(size, 0)):
        inside = live & (k < size)
        c = _byte(values + lo, none + k, size)
        entry = tl.load(data + c, mask=inside & (c < 0x80), other=0)
        if tl.max(c, 0) >= 0x80:
            cp, n = _decode(values + lo, none + k, size)
            entry = tl.where(c >= 0xC2, _entry(page, data, cp), entry)
        word_like = inside & ((c >= 0x80) | ((entry & PUNCT) == 0))
        first = tl.where(word_like & (first < 0), k, first)
        chars += tl.where(inside & (first >= 0) & ((c & 0xC0) != 0x80), 1, 0)
        last = tl.where(word_like, k + 1, last)
        chars_at_last = tl.where(word_like, chars, chars_at_last)
        upper += tl.where((entry & UPPER) != 0, 1, 0)
        lower |= entry & LOWER
        contracted |= tl.where(inside & ((c | 32) == 116) & (previous == 39) & (before == 110), 1, 0)
        stop = inside & ((c == 33) | (c == 46) | (c == 63))
        ends_sentence = tl.where(word_like, 0, tl.where(stop, 1, ends_sentence))
        before = previous | 32
        previous = tl.where(c == 39, c, c | 32)
    stripped = chars_at_last > 2
    first = tl.where(stripped, first, 0)
    length = tl.where(stripped, last - first, size)
    word = values + lo + first

    multiplier = tl.full((WORDS,), MULTIPLIER, tl.uint64)
    h = tl.full((WORDS,), SEED, tl.uint64) ^ (length.to(tl.uint64) * multiplier)
    x0 = tl.full((WORDS,), 0, tl.uint64)
    x1 = x0
    x2 = x0
    for q in range(0, tl.max(length, 0), 8):
        x = tl.full((WORDS,), 0, tl.uint64)
        for j in tl.static_range(0, 8):
            b = _byte(word, none + q + j, length)
            b = tl.where((b >= 65) & (b <= 90), b + 32, b)
            x |= b.to(tl.uint64) << (8 * j)
        mixed = (h ^ x) * multiplier
        h = tl.where(q < length, mixed ^ (mixed >> 32), h)
        x0 = tl.where(q == 0, x, x0)
        x1 = tl.where(q == 8, x, x1)
        x2 = tl.where(q == 16, x, x2)
    moved = tl.load(displacement + (h >> bucket_shift.to(tl.uint64)).to(tl.int64), mask=live, other=0)
    mask = slot_mask.to(tl.uint64)
    step = ((h >> 20) & mask) | 1
    place = (h + moved.to(tl.uint64) * step) & mask
    slot = tl.load(slots + place.to(tl.int64), mask=live, other=0).to(tl.uint64, bitcast=True)
    key = (slot & 0xFFFFFFFF).to(tl.int64)
    hit = live & ((slot >> 32) == (h >> 32))
    hit &= tl.load(vocabulary + key * 4 + 3, mask=hit, other=0) == length
    hit &= tl.load(vocabulary + key * 4, mask=hit, other=0).to(tl.uint64, bitcast=True) == x0
    hit &= tl.load(vocabulary + key * 4 + 1, mask=hit, other=0).to(tl.uint64, bitcast=True) == x1
    hit &= tl.load(vocabulary + key * 4 + 2, mask=hit, other=0).to(tl.uint64, bitcast=True) == x2
    tl.store(ids + w, tl.load(numbers + key, mask=hit, other=0), mask=live)
    flag = tl.where((upper != 0) & (lower == 0), ALL_CAPS, 0)
    flag |= tl.where((upper > 1) & (lower == 0), SHOUTED, 0)
    flag |= tl.where(contracted != 0, CONTRACTED_NOT, 0) | tl.where(ends_sentence != 0, ENDS_SENTENCE, 0)
    tl.store(flags + w, flag.to(tl.uint8), mask=live)
    if SPANS:
        tl.store(hashes + w, h.to(tl.int64, bitcast=True), mask=live)
        tl.store(word_starts + w, lo + first, mask=live)
        tl.store(lengths + w, length, mask=live)


def words(values: Any, offsets: Any, alphabet: Alphabet, vocabulary: Vocabulary, spans: bool = True) -> WordStream:
    """See `affectcore.kernels.words.words`."""

    def empty(size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=values.device)

    n = len(offsets) - 1
    page, data = alphabet.page, alphabet.data
    n_words = empty(n, torch.int64)
    if n:
        _count_kernel[(n,)](values, offsets, page, data, n_words, BLOCK, num_warps=WARPS)
    word_offsets = torch.zeros(n + 1, dtype=torch.int64, device=values.device)
    torch.cumsum(n_words, 0, out=word_offsets[1:])
    total = int(word_offsets[-1])
    starts, ends = empty(total, torch.int64), empty(total, torch.int64)
    ids, flags = empty(total, torch.int32), empty(total, torch.uint8)
    kept = total if spans else 0
    hashes, word_starts, lengths = empty(kept, torch.int64), empty(kept, torch.int64), empty(kept, torch.int32)
    if total:
        _bounds_kernel[(n,)](values, offsets, page, data, word_offsets, starts, ends, BLOCK, num_warps=WARPS)
        _describe_kernel[(triton.cdiv(total, WORDS),)](
            values,
            starts,
            ends,
            total,
            page,
            data,
            vocabulary.displacement,
            vocabulary.slots,
            vocabulary.words,
            vocabulary.ids,
            len(vocabulary.slots) - 1,
            64 - (len(vocabulary.displacement) - 1).bit_length(),
            ids,
            flags,
            hashes,
            word_starts,
            lengths,
            spans,
            WORDS,
            num_warps=WARPS,
        )
    return WordStream(word_offsets, ids, flags, hashes.view(torch.uint64), word_starts, lengths)
