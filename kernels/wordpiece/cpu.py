"""Numba kernel of the `wordpiece` family; `__init__` documents the op.

ASCII words of fewer than 24 bytes are read eight bytes at a time, lower-cased by masks and looked up whole: one probe.
A word that the vocabulary does not hold whole is cut up, and a small cache, verified on the word's bytes, keeps its
pieces for the next time. Everything else is read character by character through the table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from affectcore.kernels.dispatch import inline, jit
from affectcore.kernels.memory import (
    HIGH,
    digit_mask,
    equal_mask,
    keep_bytes,
    load8,
    load32,
    load64,
    load_upto,
    lower_mask,
    trailing_zeros,
)
from affectcore.kernels.prepared import prepared
from affectcore.kernels.words.cpu import _decode, _entry

from .tables import (
    BARRIER,
    BEGINNING_SHIFT,
    CLASS_SHIFT,
    CONTINUATION,
    CONTINUATION_SEED,
    DROP,
    HASH_MULTIPLIER,
    HASH_SEED,
    ISOLATED,
    KIND_BITS,
    LANE,
    ORDINARY,
    SEQUENCE,
    SIMPLE,
    SPACE,
    VALUE_SHIFT,
    TokenStream,
    WordPiece,
)

_SEED = np.uint64(HASH_SEED)
_CONTINUATION_SEED = np.uint64(CONTINUATION_SEED)
_MULTIPLIER = np.uint64(HASH_MULTIPLIER)
_HALF = np.uint64(32)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_BEGINNING_SHIFT = np.uint64(BEGINNING_SHIFT)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_TO_LOWER = np.uint64(0x2020202020202020)
_ONES = np.uint64(0x0101010101010101)
_KIND = (1 << KIND_BITS) - 1
_CLASS = (1 << VALUE_SHIFT - CLASS_SHIFT) - 1
_REPLACEMENT = 0xFFFD

_SHORT = 3 * LANE  # bytes of a word that fits into registers
_CACHED_PIECES = 8
_MOST_CACHED = 4096


class _Model(NamedTuple):
    """A `WordPiece` by addresses: one specialization for writable and read-only arrays."""

    page: int
    data: int
    sequences: int
    slots: int
    last_slot: int
    rows: int
    stride: int  # bytes of a row
    beginnings: int
    last_bit: int
    ascii_ids: int
    added: int
    added_offsets: int
    added_ids: int
    n_added: int
    first_byte: int  # of all added tokens; -1 if they differ
    prefix: int
    n_prefix: int
    suffix: int
    n_suffix: int
    unknown: int
    max_chars: int
    lowercase: int


class _Scratch(NamedTuple):
    """Memory that the kernel works in."""

    keys: Any  # uint64 (n_cached, 4): words of the cache, as three lanes, then length | (number of pieces << 8)
    pieces: Any  # int32 (n_cached, _CACHED_PIECES)
    chars: Any  # int32 (max_chars,): code points of a word
    classes: Any  # int32 (max_chars,): their combining classes
    word: Any  # uint64: a word's bytes
    bytes: Any  # uint8: the same memory


@inline
def _hash_lane(h, x):
    h = (h ^ x) * _MULTIPLIER
    return h ^ (h >> _HALF)


@inline
def _hash_short(x0, x1, x2, n):
    """Hash a word of at most three lanes."""
    h = _hash_lane(_SEED, x0)
    if n > 8:
        h = _hash_lane(h, x1)
        if n > 16:
            h = _hash_lane(h, x2)
    return h


@inline
def _find_short(h, x0, x1, x2, n, model):
    """Return the id of a word of at most three lanes, or -1."""
    last = np.uint64(model.last_slot)
    at = h & last
    while True:
        slot = load64(model.slots + 8 * np.int64(at))
        if slot == _ZERO:
            return -1
        if (slot ^ h) >> _HALF == _ZERO:
            row = model.rows + model.stride * np.int64(slot & _LOW_HALF)
            first = load64(row)
            wrong = (load64(row + 8) ^ x0) | (load64(row + 16) ^ x1) | (load64(row + 24) ^ x2)
            if wrong | ((first & _LOW_HALF) ^ np.uint64(n)) == _ZERO:
                return np.int64(first >> _HALF)
        at = (at + _ONE) & last


@inline
def _find(h, word, n, flag, model):
    """Return the id of the key of `n` bytes at an address that has hash `h`, or -1. Eight bytes behind it are read."""
    last = np.uint64(model.last_slot)
    at = h & last
    while True:
        slot = load64(model.slots + 8 * np.int64(at))
        if slot == _ZERO:
            return -1
        if (slot ^ h) >> _HALF == _ZERO:
            row = model.rows + model.stride * np.int64(slot & _LOW_HALF)
            first = load64(row)
            same = first & _LOW_HALF == np.uint64(n | flag)
            k = 0
            while same and k < n:
                same = keep_bytes(load64(word + k), n - k) == load64(row + 8 + k)
                k += 8
            if same:
                return np.int64(first >> _HALF)
        at = (at + _ONE) & last


@jit
def _cut(word, n, ids, w, model):
    """Cut the word of `n` bytes at an address into the longest pieces; return how many, 0 if it cannot be cut."""
    start, count = 0, 0
    while start < n:
        h = _CONTINUATION_SEED if start else _SEED
        flag = CONTINUATION if start else 0
        piece, piece_end = np.int64(-1), 0
        x = _ZERO
        for end in range(start + 1, n + 1):
            shift = (end - start - 1) & 7
            if shift == 0 and end - start > 1:
                h = _hash_lane(h, x)
                x = _ZERO
            x |= np.uint64(load8(word + end - 1)) << np.uint64(8 * shift)
            mixed = _hash_lane(h, x)
            bit = np.int64(mixed >> _BEGINNING_SHIFT) & model.last_bit
            if not (load8(model.beginnings + (bit >> 3)) >> np.uint8(bit & 7)) & 1:
                break  # no key begins like this
            found = _find(mixed, word + start, end - start, flag, model)
            if found >= 0:
                piece, piece_end = found, end
        if piece < 0:
            return 0
        ids[w + count] = piece
        count += 1
        start = piece_end
    return count


@jit
def _rare_word(x0, x1, x2, n, h, model, scratch, ids, w):
    """Write the tokens of a word of at most three lanes that is no key; return how many."""
    keys, pieces, word = scratch.keys, scratch.pieces, scratch.word
    place = np.int64(h >> np.uint64(40)) & (keys.shape[0] - 1)
    if (keys[place, 0] ^ x0) | (keys[place, 1] ^ x1) | (keys[place, 2] ^ x2) == _ZERO:
        known = np.int64(keys[place, 3])
        if known & 0xFF == n:
            count = known >> 8
            for k in range(count):
                ids[w + k] = pieces[place, k]
            return count
    word[0], word[1], word[2], word[3] = x0, x1, x2, _ZERO
    count = _cut(word.ctypes.data, n, ids, w, model)
    if count == 0:
        ids[w] = model.unknown
        count = 1
    if count <= _CACHED_PIECES:
        keys[place, 0], keys[place, 1], keys[place, 2] = x0, x1, x2
        keys[place, 3] = np.uint64(n | (count << 8))
        for k in range(count):
            pieces[place, k] = ids[w + k]
    return count


@inline
def _put(cp, word, o):
    """Write a code point as UTF-8; return the place behind it."""
    if cp < 0x80:
        word[o] = cp
        return o + 1
    if cp < 0x800:
        word[o], word[o + 1] = 0xC0 | (cp >> 6), 0x80 | (cp & 0x3F)
        return o + 2
    if cp < 0x10000:
        word[o], word[o + 1], word[o + 2] = 0xE0 | (cp >> 12), 0x80 | ((cp >> 6) & 0x3F), 0x80 | (cp & 0x3F)
        return o + 3
    word[o], word[o + 1] = 0xF0 | (cp >> 18), 0x80 | ((cp >> 12) & 0x3F)
    word[o + 2], word[o + 3] = 0x80 | ((cp >> 6) & 0x3F), 0x80 | (cp & 0x3F)
    return o + 4


@jit
def _any_word(n_chars, model, scratch, ids, w):
    """Write the tokens of the word of `n_chars` code points in `scratch.chars`; return how many."""
    if n_chars > model.max_chars:
        ids[w] = model.unknown
        return 1
    chars, word, bytes_ = scratch.chars, scratch.word, scratch.bytes
    n = 0
    for k in range(n_chars):
        n = _put(chars[k], bytes_, n)
    for k in range(n, (n + 15) & ~7):
        bytes_[k] = 0
    if n <= _SHORT:
        x0 = word[0]
        x1 = word[1] if n > 8 else _ZERO
        x2 = word[2] if n > 16 else _ZERO
        h = _hash_short(x0, x1, x2, n)
        found = _find_short(h, x0, x1, x2, n, model)
        if found < 0:
            return _rare_word(x0, x1, x2, n, h, model, scratch, ids, w)
        ids[w] = found
        return 1
    count = _cut(bytes_.ctypes.data, n, ids, w, model)
    if count == 0:
        ids[w] = model.unknown
        return 1
    return count


@inline
def _is_ending(kind):
    """Tell whether a kind of character ends the word before it."""
    return kind == SPACE or kind == ISOLATED


@jit
def _any_text(at, end, model, scratch, ids, w):
    """Read characters of all kinds up to the end of a word; return (address behind, place behind the tokens)."""
    chars, classes, word, bytes_ = scratch.chars, scratch.classes, scratch.word, scratch.bytes
    n_chars = 0
    run = 0  # where the combining marks behind the last other character begin
    ended = False
    while at < end and not (ended and n_chars == 0):
        cp, n = _decode(at, end)
        at += n
        if cp < 0:
            cp = _REPLACEMENT
        entry = _entry(cp, model.page, model.data)
        part, count = 0, 1
        if entry & _KIND == SEQUENCE:
            part = model.sequences + 4 * (entry >> VALUE_SHIFT)
            count = np.int64(load32(part))
        for _ in range(count):
            if part:
                part += 4
                entry = np.int64(load32(part))
                cp = entry >> VALUE_SHIFT
            kind, mark = entry & _KIND, (entry >> CLASS_SHIFT) & _CLASS
            if kind == SIMPLE:
                cp, kind, mark = entry >> VALUE_SHIFT, ORDINARY, 0
            if kind == ORDINARY:
                i = n_chars
                n_chars += 1
                if n_chars > model.max_chars:
                    continue
                if mark:
                    # Canonical order: a mark goes before those of a higher class.
                    while i > run and classes[i - 1] > mark:
                        chars[i], classes[i] = chars[i - 1], classes[i - 1]
                        i -= 1
                else:
                    run = n_chars
                chars[i], classes[i] = cp, mark
            elif kind == BARRIER:
                run = n_chars
            elif _is_ending(kind):
                if n_chars:
                    w += _any_word(n_chars, model, scratch, ids, w)
                if kind == ISOLATED:
                    word[0] = _ZERO
                    n = _put(cp, bytes_, 0)
                    x = word[0]
                    found = _find_short(_hash_lane(_SEED, x), x, _ZERO, _ZERO, n, model)
                    ids[w] = found if found >= 0 else model.unknown
                    w += 1
                n_chars, run, ended = 0, 0, True
    if n_chars:
        w += _any_word(n_chars, model, scratch, ids, w)
    return at, w


@inline
def _starts_with(at, end, token, n):
    if at + n > end:
        return False
    for k in range(n):
        if load8(at + k) != load8(token + k):
            return False
    return True


@jit
def _next_added(at, end, model):
    """Return (address of the next added token, its number), or (end, -1).

    The longest token comes first among those that start at the same place.
    """
    if model.n_added == 0:
        return end, -1
    repeated = np.uint64(model.first_byte & 0xFF) * _ONES
    while at < end:
        if model.first_byte >= 0:
            hit = _ZERO
            while at + 8 <= end:
                hit = equal_mask(load64(at), repeated)
                if hit:
                    at += trailing_zeros(hit) >> 3
                    break
                at += 8
            if hit == _ZERO:
                while at < end and load8(at) != model.first_byte:
                    at += 1
        for number in range(model.n_added):
            first = np.int64(load32(model.added_offsets + 4 * number))
            n = np.int64(load32(model.added_offsets + 4 * number + 4)) - first
            if _starts_with(at, end, model.added + first, n):
                return at, number
        at += 1
    return end, -1


@inline
def _is_edge(at, end, model):
    """Tell whether the character at an address ends the word before it."""
    c = int(load8(at))
    if c == 32:
        return True
    if c >= 0x80:
        c, _ = _decode(at, end)
        if c < 0:
            c = _REPLACEMENT
    return _is_ending(_entry(c, model.page, model.data) & _KIND)


@inline
def _word_lane(x, to_lower):
    """Return eight bytes in lower case, and how many letters and digits they begin with."""
    letters = lower_mask(x | _TO_LOWER)
    n = trailing_zeros(~(letters | digit_mask(x)) & HIGH) >> 3
    return x | ((letters >> np.uint64(2)) & to_lower), n


@jit
def _encode(text, size, offsets, n_documents, model, limit, special, scratch, ids, out_offsets):
    to_lower = _TO_LOWER if model.lowercase else _ZERO
    short = min(_SHORT - 1, model.max_chars)
    size_end = text + size
    w = 0
    for d in range(n_documents):
        out_offsets[d] = w
        if special:
            for k in range(model.n_prefix):
                ids[w] = load32(model.prefix + 4 * k)
                w += 1
        stop = w + limit
        at, document_end = text + np.int64(load64(offsets + 8 * d)), text + np.int64(load64(offsets + 8 * d + 8))
        while at < document_end and w < stop:
            end, number = _next_added(at, document_end, model)
            while at < end and w < stop:
                x0, n = _word_lane(load_upto(at, min(8, end - at), size_end), to_lower)
                if n == 0:
                    c = np.int64(x0 & np.uint64(0xFF))
                    if c == 32:
                        at += 1
                        continue
                    if c < 0x80:
                        kind = load32(model.data + 4 * c) & _KIND
                        if kind == ISOLATED:
                            ids[w] = load32(model.ascii_ids + 4 * c)
                            w += 1
                        if kind == ISOLATED or kind == SPACE or kind == DROP:
                            at += 1
                            continue
                else:
                    x1 = x2 = _ZERO
                    if n == 8 and at + 8 < end:
                        x1, m = _word_lane(load_upto(at + 8, min(8, end - at - 8), size_end), to_lower)
                        x1 = keep_bytes(x1, m)
                        n += m
                        if m == 8 and at + 16 < end:
                            x2, m = _word_lane(load_upto(at + 16, min(8, end - at - 16), size_end), to_lower)
                            x2 = keep_bytes(x2, m)
                            n += m
                    x0 = keep_bytes(x0, n)
                    if n <= short and (at + n >= end or _is_edge(at + n, end, model)):
                        h = _hash_short(x0, x1, x2, n)
                        found = _find_short(h, x0, x1, x2, n, model)
                        if found >= 0:
                            ids[w] = found
                            w += 1
                        else:
                            w += _rare_word(x0, x1, x2, n, h, model, scratch, ids, w)
                        at += n
                        continue
                at, w = _any_text(at, end, model, scratch, ids, w)
            if number >= 0 and w < stop:
                ids[w] = load32(model.added_ids + 4 * number)
                w += 1
                first = load32(model.added_offsets + 4 * number)
                end += np.int64(load32(model.added_offsets + 4 * number + 4) - first)
            at = end
        w = min(w, stop)
        if special:
            for k in range(model.n_suffix):
                ids[w] = load32(model.suffix + 4 * k)
                w += 1
    out_offsets[n_documents] = w
    return w


@prepared
def _model(table: WordPiece) -> _Model:
    unknown, max_chars, lowercase = table.settings.tolist()
    first = {int(table.added[k]) for k in table.added_offsets[:-1].tolist()}
    return _Model(
        page=table.page.ctypes.data,
        data=table.data.ctypes.data,
        sequences=table.sequences.ctypes.data,
        slots=table.slots.ctypes.data,
        last_slot=len(table.slots) - 1,
        rows=table.rows.ctypes.data,
        stride=table.rows.strides[0],
        beginnings=table.beginnings.ctypes.data,
        last_bit=8 * len(table.beginnings) - 1,
        ascii_ids=table.ascii_ids.ctypes.data,
        added=table.added.ctypes.data,
        added_offsets=table.added_offsets.ctypes.data,
        added_ids=table.added_ids.ctypes.data,
        n_added=len(table.added_ids),
        first_byte=first.pop() if len(first) == 1 else -1,
        prefix=table.prefix.ctypes.data,
        n_prefix=len(table.prefix),
        suffix=table.suffix.ctypes.data,
        n_suffix=len(table.suffix),
        unknown=unknown,
        max_chars=max_chars,
        lowercase=lowercase,
    )


def wordpiece(
    values: np.ndarray, offsets: np.ndarray, table: WordPiece, max_tokens: int | None = None, special: bool = True
) -> TokenStream:
    """See `affectcore.kernels.wordpiece.wordpiece`."""
    n, n_bytes = len(offsets) - 1, int(offsets[-1] - offsets[0])
    values, bounds, model = np.ascontiguousarray(values), np.ascontiguousarray(offsets, np.int64), _model(table)
    n_special = model.n_prefix + model.n_suffix if special else 0
    limit = np.iinfo(np.int64).max >> 1 if max_tokens is None else max_tokens - n_special
    n_cached = 64
    while n_cached < min(_MOST_CACHED, n_bytes >> 5):
        n_cached *= 2
    word = np.empty(model.max_chars // 2 + 4, np.uint64)
    scratch = _Scratch(
        keys=np.zeros((n_cached, 4), np.uint64),
        pieces=np.empty((n_cached, _CACHED_PIECES), np.int32),
        chars=np.empty(model.max_chars, np.int32),
        classes=np.empty(model.max_chars, np.int32),
        word=word,
        bytes=word.view(np.uint8),
    )
    # No character becomes more tokens than it has bytes; pages that stay untouched cost no memory.
    ids, out_offsets = np.empty(n_bytes + n * n_special + 1, np.int32), np.empty(n + 1, np.int64)
    text = values.ctypes.data, len(values), bounds.ctypes.data, n
    w = _encode(*text, model, limit, bool(special), scratch, ids, out_offsets)
    return TokenStream(ids[:w], out_offsets)
