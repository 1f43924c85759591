"""Numba kernels of the `words` family; `__init__` documents the ops."""

from __future__ import annotations

import numpy as np

from affectcore.kernels.dispatch import inline, jit
from affectcore.kernels.memory import (
    HIGH,
    byte_mask,
    count_ones,
    digit_mask,
    gather_bits,
    keep_bytes,
    leading_zeros,
    load8,
    load32,
    load64,
    load_upto,
    lower_mask,
    range_mask,
    trailing_zeros,
    upper_mask,
)

from .tables import (
    ALL_CAPS,
    CONTRACTED_NOT,
    EMOJI_SHIFT,
    ENDS_SENTENCE,
    HASH_MULTIPLIER,
    HASH_SEED,
    LOWER,
    PUNCT,
    SHOUTED,
    SPACE,
    UPPER,
    Alphabet,
    Normalized,
    Vocabulary,
    WordStream,
)

_SEED = np.uint64(HASH_SEED)
_MULTIPLIER = np.uint64(HASH_MULTIPLIER)
_HALF = np.uint64(32)
_APOSTROPHES = np.uint64(0x2727272727272727)
# White space of ASCII: tab to carriage return, file separator to space.
_FROM_TAB, _PAST_RETURN = np.uint64(0x7777777777777777), np.uint64(0x7272727272727272)
_FROM_FS, _PAST_SPACE = np.uint64(0x6464646464646464), np.uint64(0x5F5F5F5F5F5F5F5F)
_BELOW_SPACE = np.uint64(0x2121212121212121)
_FULL_STOPS = np.uint64(0x2E2E2E2E2E2E2E2E)
_EXCLAIMS = np.uint64(0x2121212121212121)
_QUESTIONS = np.uint64(0x3F3F3F3F3F3F3F3F)
_ONES = np.uint64(0x0101010101010101)
_ZERO = np.uint64(0)
_KELVIN, _CURLY_APOSTROPHE, _VARIATION_SELECTOR = 0x212A, 0x2019, 0xFE0F


@inline
def _decode(at, end):
    """Return (code point, bytes) of the character at an address; (-1, bytes) for a maximal invalid subpart."""
    c = int(load8(at))
    if c < 0x80:
        return c, 1
    if c < 0xC2 or c > 0xF4:
        return -1, 1
    if c < 0xE0:
        need, low, high, cp = 1, 0x80, 0xBF, c & 0x1F
    elif c < 0xF0:
        need, low, high, cp = 2, 0x80, 0xBF, c & 0x0F
        if c == 0xE0:
            low = 0xA0
        elif c == 0xED:
            high = 0x9F
    else:
        need, low, high, cp = 3, 0x80, 0xBF, c & 0x07
        if c == 0xF0:
            low = 0x90
        elif c == 0xF4:
            high = 0x8F
    for k in range(1, need + 1):
        if at + k >= end:
            return -1, k
        b = int(load8(at + k))
        if b < low or b > high:
            return -1, k
        low, high = 0x80, 0xBF
        cp = (cp << 6) | (b & 0x3F)
    return cp, need + 1


@inline
def _entry(cp, page, data):
    return int(load32(data + 4 * (load32(page + 4 * (cp >> 8)) + (cp & 255))))


@inline
def _changes(cp, page, data, corrected):
    if cp < 0 or cp == _KELVIN or (corrected and (cp == _CURLY_APOSTROPHE or cp == _VARIATION_SELECTOR)):
        return True
    return _entry(cp, page, data) >> EMOJI_SHIFT != 0


@inline
def _needs_rewrite(at, end, page, data, corrected):
    while at < end:
        if at + 8 <= end and load64(at) & HIGH == np.uint64(0):
            at += 8
            continue
        stop = min(at + 8, end)
        while at < stop:
            if load8(at) < 0x80:
                at += 1
            else:
                cp, n = _decode(at, end)
                if _changes(cp, page, data, corrected):
                    return True
                at += n
    return False


@jit
def _measure(text, offsets, alphabet, corrected, sizes, n_invalid, n_words):
    """Fill the sizes after normalization; return whether any document changes."""
    page, data, text_offsets = alphabet.page.ctypes.data, alphabet.data.ctypes.data, alphabet.text_offsets
    changed = False
    for d in range(offsets.shape[0] - 1):
        at, end = text + offsets[d], text + offsets[d + 1]
        sizes[d] = end - at
        n_invalid[d] = 0
        n_words[d] = -1
        if not _needs_rewrite(at, end, page, data, corrected):
            continue
        changed = True
        size, invalid, words, in_word, after_space = 0, 0, 0, False, True
        while at < end:
            if at + 8 <= end and load64(at) & HIGH == _ZERO:
                # Eight ASCII bytes: count the words that start in them.
                x = load64(at)
                space = range_mask(x, _FROM_TAB, _PAST_RETURN) | range_mask(x, _FROM_FS, _PAST_SPACE)
                inside = gather_bits(~space & HIGH)
                before = (inside << np.uint64(1)) | np.uint64(in_word)
                words += count_ones(inside & ~before)
                in_word = inside >> np.uint64(7) != _ZERO
                after_space = x >> np.uint64(56) == np.uint64(32)
                size += 8
                at += 8
                continue
            cp, n = _decode(at, end)
            is_space = False
            if cp < 0:
                size += 3
                invalid += n
            else:
                entry = _entry(cp, page, data)
                emoji = entry >> EMOJI_SHIFT
                is_space = entry & SPACE != 0
                if emoji:
                    size += text_offsets[emoji + 1] - text_offsets[emoji]
                    size += int(not after_space) + int(corrected)
                elif cp == _KELVIN or (corrected and cp == _CURLY_APOSTROPHE):
                    size += 1
                elif not (corrected and cp == _VARIATION_SELECTOR):
                    size += n
            after_space = cp == 32
            words += int(not is_space and not in_word)
            in_word = not is_space
            at += n
        sizes[d] = size
        n_invalid[d] = invalid
        n_words[d] = words
    return changed


@jit
def _rewrite(text, offsets, alphabet, corrected, n_words, out, out_offsets):
    page, data = alphabet.page.ctypes.data, alphabet.data.ctypes.data
    descriptions, text_offsets = alphabet.text, alphabet.text_offsets
    for d in range(offsets.shape[0] - 1):
        at, end = text + offsets[d], text + offsets[d + 1]
        o = out_offsets[d]
        if n_words[d] < 0:
            for k in range(end - at):
                out[o + k] = load8(at + k)
            continue
        after_space = True
        while at < end:
            if at + 8 <= end and load64(at) & HIGH == _ZERO:
                for k in range(8):
                    out[o + k] = load8(at + k)
                after_space = load8(at + 7) == 32
                o += 8
                at += 8
                continue
            cp, n = _decode(at, end)
            emoji = _entry(cp, page, data) >> EMOJI_SHIFT if cp >= 0 else 0
            if cp < 0:
                out[o], out[o + 1], out[o + 2] = 0xEF, 0xBF, 0xBD
                o += 3
            elif emoji:
                if not after_space:
                    out[o] = 32
                    o += 1
                for k in range(text_offsets[emoji], text_offsets[emoji + 1]):
                    out[o] = descriptions[k]
                    o += 1
                if corrected:
                    out[o] = 32
                    o += 1
            elif cp == _KELVIN:
                out[o] = 75
                o += 1
            elif corrected and cp == _CURLY_APOSTROPHE:
                out[o] = 39
                o += 1
            elif not (corrected and cp == _VARIATION_SELECTOR):
                for k in range(n):
                    out[o + k] = load8(at + k)
                o += n
            after_space = cp == 32
            at += n


def normalize(values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, corrected: bool = False) -> Normalized:
    """See `affectcore.kernels.words.normalize`."""
    n = len(offsets) - 1
    values = np.ascontiguousarray(values)
    sizes, n_invalid, n_words = np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int32)
    if not _measure(values.ctypes.data, offsets, alphabet, corrected, sizes, n_invalid, n_words):
        return Normalized(values, offsets, n_invalid, n_words)
    out_offsets = np.zeros(n + 1, np.int64)
    np.cumsum(sizes, out=out_offsets[1:])
    out = np.empty(out_offsets[-1], np.uint8)
    _rewrite(values.ctypes.data, offsets, alphabet, corrected, n_words, out, out_offsets)
    return Normalized(out, out_offsets, n_invalid, n_words)


@inline
def _to_lower(x):
    return x | (upper_mask(x) >> np.uint64(2))


@inline
def _ascii_run(x):
    """Count the bytes of `x` before the first that is white space, control or outside ASCII."""
    return trailing_zeros((((x - _BELOW_SPACE) & ~x) | x) & HIGH) >> 3


@inline
def _hash_lane(h, x):
    h = (h ^ x) * _MULTIPLIER
    return h ^ (h >> _HALF)


@inline
def _is_full_stop(c):
    return c == 33 or c == 46 or c == 63


@inline
def _case_flags(capitals, lower):
    if lower != _ZERO:
        return 0
    return (ALL_CAPS if capitals > 0 else 0) | (SHOUTED if capitals > 1 else 0)


@inline
def _find_contracted_not(at, end):
    for i in range(at + 1, end - 1):
        if load8(i) == 39 and load8(i - 1) | 32 == 110 and load8(i + 1) | 32 == 116:
            return True
    return False


@inline
def _is_ascii_space(c):
    return c == 32 or 9 <= c <= 13 or 28 <= c <= 31


@inline
def _space(at, end, page, data):
    """Return the bytes of the white space character at an address, or 0."""
    c = load8(at)
    if c < 0x80:
        return int(_is_ascii_space(c))
    cp, n = _decode(at, end)
    return n if _entry(cp, page, data) & SPACE else 0


@inline
def _is_medium(at, end, size_end):
    """Tell whether an ASCII word of eight to 15 bytes, the first a letter or digit, stands here, a space behind it."""
    if at + 16 > size_end:
        return False
    n = 8 + _ascii_run(load64(at + 8))
    c = load8(at)
    is_solid = 97 <= c | 32 <= 122 or 48 <= c <= 57
    return is_solid and n < 16 and at + n < end and _is_ascii_space(load8(at + n))


@inline
def _scan(at, end, size_end, page, data):
    """Walk to the end of a word. Returns (address of it, capitals, small letters, apostrophes, whether all ASCII)."""
    n_upper = 0
    lower = _ZERO
    apostrophes = _ZERO
    ascii_only = True
    while at < end:
        x = load_upto(at, min(8, end - at), size_end)
        n = min(_ascii_run(x), end - at)
        x = keep_bytes(x, n)
        n_upper += count_ones(upper_mask(x))
        lower |= lower_mask(x)
        apostrophes |= byte_mask(x, _APOSTROPHES)
        at += n
        if n == 8 or at >= end:
            continue
        c = int(load8(at))
        if c < 0x80:
            if _is_ascii_space(c):
                break
            at += 1  # a control character that is no white space
        else:
            cp, n = _decode(at, end)
            entry = _entry(cp, page, data)
            if entry & SPACE:
                break
            n_upper += int(entry & UPPER != 0)
            lower |= np.uint64(entry & LOWER)
            ascii_only = False
            at += n
    return at, n_upper, lower, apostrophes, ascii_only


@inline
def _describe(start, end, size_end, page, data, ascii_only):
    """Strip and hash a word. Returns (hash, three lanes, bytes skipped at its start, length, flags)."""
    # Strip punctuation from the edges if more than two characters remain. (Bytes outside ASCII are never taken for
    # punctuation: the characters 0x80 to 0xFF are none.)
    a, b = start, end
    flag = 0
    while a < b and load32(data + 4 * int(load8(a))) & PUNCT:
        a += 1
    while b > a and load32(data + 4 * int(load8(b - 1))) & PUNCT:
        b -= 1
    for k in range(b if a < b else start, end):
        if _is_full_stop(load8(k)):
            flag = ENDS_SENTENCE
    if b - a <= 8:
        n_chars = b - a
        if not ascii_only:
            for k in range(a, b):
                n_chars -= int(load8(k) & 0xC0 == 0x80)
        if n_chars <= 2:
            a, b = start, end

    length = b - a
    h = _SEED ^ (np.uint64(length) * _MULTIPLIER)
    x0 = x1 = x2 = _ZERO
    for k in range(0, length, 8):
        x = _to_lower(load_upto(a + k, min(8, length - k), size_end))
        h = _hash_lane(h, x)
        x0 = x if k == 0 else x0
        x1 = x if k == 8 else x1
        x2 = x if k == 16 else x2
    return h, x0, x1, x2, a - start, length, flag


@jit
def _words(text, size, offsets, alphabet, vocabulary, spans, out_offsets, ids, flags, hashes, starts, lengths):
    displacement, slots, known, numbers = vocabulary
    bucket_bits = 0
    while (1 << bucket_bits) < displacement.shape[0]:
        bucket_bits += 1
    bucket_shift = np.uint64(64 - bucket_bits)
    slot_mask = np.uint64(slots.shape[0] - 1)
    page, data = alphabet.page.ctypes.data, alphabet.data.ctypes.data
    size_end = text + size
    w = 0
    for d in range(offsets.shape[0] - 1):
        out_offsets[d] = w
        at, end = text + offsets[d], text + offsets[d + 1]
        while at < end:
            x1 = x2 = _ZERO
            n = 8
            if at + 8 <= size_end:
                x = load64(at)
                n = _ascii_run(x)
            if 0 < n < 8 and at + n < end and _is_ascii_space(load8(at + n)):
                # Most words: fewer than eight bytes, all ASCII, a space behind. No loop and hardly a branch.
                start = at
                x = keep_bytes(x, n)
                upper = upper_mask(x)
                lower = lower_mask(x)
                # Whatever is not punctuation: of ASCII that is letters, digits and DEL.
                solid = upper | lower | digit_mask(x) | ((x + _ONES) & HIGH)
                first = trailing_zeros(solid) >> 3
                last = 7 - (leading_zeros(solid) >> 3)
                stripped = last - first > 1  # more than two characters remain
                skip = first if stripped else 0
                length = last - first + 1 if stripped else n
                x0 = keep_bytes(_to_lower(x) >> np.uint64(8 * skip), length)
                h = _hash_lane(_SEED ^ (np.uint64(length) * _MULTIPLIER), x0)
                stops = byte_mask(x, _FULL_STOPS) | byte_mask(x, _EXCLAIMS) | byte_mask(x, _QUESTIONS)
                flag = ENDS_SENTENCE if stops >> np.uint64(8 * last + 8) else 0
                flag |= _case_flags(count_ones(upper), lower)
                at += n + 1
                if byte_mask(x, _APOSTROPHES):
                    flag |= CONTRACTED_NOT if _find_contracted_not(start, start + n) else 0
            elif n == 8 and _is_medium(at, end, size_end):
                # Words of eight to 15 bytes, likewise, that begin with a letter or a digit.
                start = at
                y = load64(at + 8)
                n = _ascii_run(y)
                y = keep_bytes(y, n)
                lower = lower_mask(x)
                capitals = upper_mask(x)
                solid = capitals | lower | digit_mask(x) | ((x + _ONES) & HIGH)
                more = upper_mask(y) | lower_mask(y) | digit_mask(y) | ((y + _ONES) & HIGH)
                solid_end = 8 - (leading_zeros(solid) >> 3) if more == _ZERO else 16 - (leading_zeros(more) >> 3)
                length = solid_end if solid_end > 2 else 8 + n
                skip = 0
                x0 = keep_bytes(_to_lower(x), length)
                h = _hash_lane(_SEED ^ (np.uint64(length) * _MULTIPLIER), x0)
                if length > 8:
                    x1 = keep_bytes(_to_lower(y), length - 8)
                    h = _hash_lane(h, x1)
                at += 8 + n
                flag = _case_flags(count_ones(capitals) + count_ones(upper_mask(y)), lower | lower_mask(y))
                for k in range(start + solid_end, at):
                    flag |= ENDS_SENTENCE if _is_full_stop(load8(k)) else 0
                if byte_mask(x, _APOSTROPHES) | byte_mask(y, _APOSTROPHES):
                    flag |= CONTRACTED_NOT if _find_contracted_not(start, at) else 0
                at += 1
            else:
                n = _space(at, end, page, data)
                if n > 0:
                    at += n
                    continue
                start = at
                at, capitals, lower, apostrophes, ascii_only = _scan(at, end, size_end, page, data)
                h, x0, x1, x2, skip, length, flag = _describe(start, at, size_end, page, data, ascii_only)
                flag |= _case_flags(capitals, lower)
                if apostrophes:
                    flag |= CONTRACTED_NOT if _find_contracted_not(start, at) else 0

            # Look the word up without branches: whether it is known is hard for a processor to guess.
            step = ((h >> np.uint64(20)) & slot_mask) | np.uint64(1)
            slot = slots[(h + np.uint64(displacement[h >> bucket_shift]) * step) & slot_mask]
            key = slot & np.uint64(0xFFFFFFFF)  # 0 in a free slot: the row of no word
            wrong = (known[key, 0] ^ x0) | (known[key, 1] ^ x1) | (known[key, 2] ^ x2)
            wrong |= known[key, 3] ^ np.uint64(length)
            ids[w] = numbers[key] if wrong == _ZERO else np.int32(0)
            flags[w] = flag
            if spans:
                hashes[w] = h
                starts[w] = start + skip - text
                lengths[w] = length
            w += 1
    out_offsets[offsets.shape[0] - 1] = w
    return w


def words(
    values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, vocabulary: Vocabulary, spans: bool = True
) -> WordStream:
    """See `affectcore.kernels.words.words`."""
    n = len(offsets) - 1
    values = np.ascontiguousarray(values)
    # Words are separated by at least a byte, so this many suffice; pages that stay untouched cost no memory.
    most = int(offsets[-1] - offsets[0] + n + 1) // 2 + 1
    out_offsets = np.empty(n + 1, np.int64)
    ids, flags = np.empty(most, np.int32), np.empty(most, np.uint8)
    most = most if spans else 0
    hashes, starts, lengths = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int32)
    text = values.ctypes.data, len(values)
    w = _words(*text, offsets, alphabet, vocabulary, spans, out_offsets, ids, flags, hashes, starts, lengths)
    return WordStream(out_offsets, ids[:w], flags[:w], hashes[:w], starts[:w], lengths[:w])
