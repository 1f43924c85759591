"""Numba kernels of the `words` family; `__init__` documents the ops."""

from __future__ import annotations

import numpy as np

from affectcore.kernels.bytes64 import (
    HIGH,
    byte_mask,
    count_ones,
    digit_mask,
    keep_bytes,
    leading_zeros,
    load64,
    load_upto,
    lower_mask,
    trailing_zeros,
    upper_mask,
)
from affectcore.kernels.dispatch import inline, jit

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
_BELOW_SPACE = np.uint64(0x2121212121212121)
_APOSTROPHES = np.uint64(0x2727272727272727)
_FULL_STOPS = np.uint64(0x2E2E2E2E2E2E2E2E)
_EXCLAIMS = np.uint64(0x2121212121212121)
_QUESTIONS = np.uint64(0x3F3F3F3F3F3F3F3F)
_ONES = np.uint64(0x0101010101010101)
_ZERO = np.uint64(0)
_KELVIN, _CURLY_APOSTROPHE, _VARIATION_SELECTOR = 0x212A, 0x2019, 0xFE0F


@inline
def _decode(values, i, end):
    """Return (code point, bytes) of the character at `i`; (-1, bytes) for a maximal invalid subpart."""
    c = int(values[i])
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
        if i + k >= end:
            return -1, k
        b = int(values[i + k])
        if b < low or b > high:
            return -1, k
        low, high = 0x80, 0xBF
        cp = (cp << 6) | (b & 0x3F)
    return cp, need + 1


@inline
def _changes(alphabet, cp, corrected):
    if cp < 0 or cp == _KELVIN or (corrected and (cp == _CURLY_APOSTROPHE or cp == _VARIATION_SELECTOR)):
        return True
    return alphabet.data[alphabet.page[cp >> 8] + (cp & 255)] >> EMOJI_SHIFT != 0


@inline
def _needs_rewrite(values, start, end, alphabet, corrected):
    i = start
    while i < end:
        if i + 8 <= end and load64(values, i) & HIGH == np.uint64(0):
            i += 8
            continue
        stop = min(i + 8, end)
        while i < stop:
            if values[i] < 0x80:
                i += 1
            else:
                cp, n = _decode(values, i, end)
                if _changes(alphabet, cp, corrected):
                    return True
                i += n
    return False


@jit
def _measure(values, offsets, alphabet, corrected, sizes, n_invalid, n_words):
    """Fill the sizes after normalization; return whether any document changes."""
    changed = False
    for d in range(offsets.shape[0] - 1):
        start, end = offsets[d], offsets[d + 1]
        sizes[d] = end - start
        n_invalid[d] = 0
        n_words[d] = -1
        if not _needs_rewrite(values, start, end, alphabet, corrected):
            continue
        changed = True
        size, invalid, words, in_word, after_space = 0, 0, 0, False, True
        i = start
        while i < end:
            cp, n = _decode(values, i, end)
            is_space = False
            if cp < 0:
                size += 3
                invalid += n
            else:
                entry = alphabet.data[alphabet.page[cp >> 8] + (cp & 255)]
                emoji = entry >> EMOJI_SHIFT
                is_space = entry & SPACE != 0
                if emoji:
                    size += alphabet.text_offsets[emoji + 1] - alphabet.text_offsets[emoji]
                    size += int(not after_space) + int(corrected)
                elif cp == _KELVIN or (corrected and cp == _CURLY_APOSTROPHE):
                    size += 1
                elif not (corrected and cp == _VARIATION_SELECTOR):
                    size += n
            after_space = cp == 32
            words += int(not is_space and not in_word)
            in_word = not is_space
            i += n
        sizes[d] = size
        n_invalid[d] = invalid
        n_words[d] = words
    return changed


@jit
def _rewrite(values, offsets, alphabet, corrected, n_words, out, out_offsets):
    for d in range(offsets.shape[0] - 1):
        start, end = offsets[d], offsets[d + 1]
        o = out_offsets[d]
        if n_words[d] < 0:
            out[o : o + end - start] = values[start:end]
            continue
        after_space = True
        i = start
        while i < end:
            cp, n = _decode(values, i, end)
            emoji = alphabet.data[alphabet.page[cp >> 8] + (cp & 255)] >> EMOJI_SHIFT if cp >= 0 else 0
            if cp < 0:
                out[o], out[o + 1], out[o + 2] = 0xEF, 0xBF, 0xBD
                o += 3
            elif emoji:
                if not after_space:
                    out[o] = 32
                    o += 1
                for k in range(alphabet.text_offsets[emoji], alphabet.text_offsets[emoji + 1]):
                    out[o] = alphabet.text[k]
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
                    out[o + k] = values[i + k]
                o += n
            after_space = cp == 32
            i += n


def normalize(values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, corrected: bool = False) -> Normalized:
    """See `affectcore.kernels.words.normalize`."""
    n = len(offsets) - 1
    sizes, n_invalid, n_words = np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int32)
    if not _measure(values, offsets, alphabet, corrected, sizes, n_invalid, n_words):
        return Normalized(values, offsets, n_invalid, n_words)
    out_offsets = np.zeros(n + 1, np.int64)
    np.cumsum(sizes, out=out_offsets[1:])
    out = np.empty(out_offsets[-1], np.uint8)
    _rewrite(values, offsets, alphabet, corrected, n_words, out, out_offsets)
    return Normalized(out, out_offsets, n_invalid, n_words)


@inline
def _to_lower(x):
    return x | (upper_mask(x) >> np.uint64(2))


@inline
def _hash_lane(h, x):
    h = (h ^ x) * _MULTIPLIER
    return h ^ (h >> _HALF)


@inline
def _look_up(h, x0, x1, x2, length, displacement, bucket_shift, slots, words):
    """Return the id of a word, without branches: whether a word is known is hard for a processor to guess."""
    mask = np.uint64(slots.shape[0] - 1)
    step = ((h >> np.uint64(20)) & mask) | np.uint64(1)
    slot = slots[(h + np.uint64(displacement[h >> bucket_shift]) * step) & mask]
    key = np.int64(slot & np.uint64(0xFFFFFFFF))  # 0 in a free slot: the row of no word
    wrong = (words[key, 0] ^ x0) | (words[key, 1] ^ x1) | (words[key, 2] ^ x2) | (words[key, 3] ^ np.uint64(length))
    return key if wrong == np.uint64(0) else 0


@inline
def _is_full_stop(c):
    return c == 33 or c == 46 or c == 63


@inline
def _find_contracted_not(values, start, end):
    for i in range(start + 1, end - 1):
        if values[i] == 39 and values[i - 1] | 32 == 110 and values[i + 1] | 32 == 116:
            return True
    return False


@jit
def _words(values, offsets, alphabet, vocabulary, spans, out_offsets, ids, flags, hashes, starts, lengths):
    data, page = alphabet.data, alphabet.page
    displacement, slots, known = vocabulary
    bucket_bits = 0
    while (1 << bucket_bits) < displacement.shape[0]:
        bucket_bits += 1
    bucket_shift = np.uint64(64 - bucket_bits)
    size = values.shape[0]
    w = 0
    for d in range(offsets.shape[0] - 1):
        out_offsets[d] = w
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            # Most words: fewer than eight bytes, all ASCII, a space behind. No loop and hardly a branch.
            if i + 8 <= size:
                x = load64(values, i)
                stops = (((x - _BELOW_SPACE) & ~x) | x) & HIGH
                n = trailing_zeros(stops) >> 3
                if 0 < n < 8 and i + n < end and values[i + n] < 0x80 and data[values[i + n]] & SPACE:
                    x = keep_bytes(x, n)
                    upper = upper_mask(x)
                    lower = lower_mask(x)
                    # Whatever is not punctuation; of ASCII that is letters, digits and DEL.
                    solid = upper | lower | digit_mask(x) | ((x + _ONES) & HIGH)
                    first = trailing_zeros(solid) >> 3
                    last = 7 - (leading_zeros(solid) >> 3)
                    stripped = last - first > 1
                    skip = first if stripped else 0
                    length = last - first + 1 if stripped else n
                    x0 = keep_bytes(_to_lower(x) >> np.uint64(8 * skip), length)
                    h = _hash_lane(_SEED ^ (np.uint64(length) * _MULTIPLIER), x0)
                    full_stops = byte_mask(x, _FULL_STOPS) | byte_mask(x, _EXCLAIMS) | byte_mask(x, _QUESTIONS)
                    flag = ENDS_SENTENCE if full_stops >> np.uint64(8 * last + 8) else 0
                    capitals = count_ones(upper) if lower == np.uint64(0) else 0
                    flag |= (ALL_CAPS if capitals > 0 else 0) | (SHOUTED if capitals > 1 else 0)
                    if byte_mask(x, _APOSTROPHES) and _find_contracted_not(values, i, i + n):
                        flag |= CONTRACTED_NOT
                    ids[w] = _look_up(h, x0, _ZERO, _ZERO, length, displacement, bucket_shift, slots, known)
                    flags[w] = flag
                    if spans:
                        hashes[w] = h
                        starts[w] = i + skip
                        lengths[w] = length
                    w += 1
                    i += n + 1
                    continue

            # Between words: skip white space.
            c = values[i]
            if c < 0x80:
                if data[c] & SPACE:
                    i += 1
                    continue
            else:
                cp, n = _decode(values, i, end)
                if data[page[cp >> 8] + (cp & 255)] & SPACE:
                    i += n
                    continue
            start = i

            # Inside a word: eight bytes a step, up to the next white space or character outside ASCII.
            n_upper = 0
            lower = np.uint64(0)
            apostrophes = np.uint64(0)
            ascii_only = True
            while i < end:
                if i + 8 <= size:
                    x = load64(values, i)
                    stops = (((x - _BELOW_SPACE) & ~x) | x) & HIGH
                    n = min(trailing_zeros(stops) >> 3, end - i)
                    x = keep_bytes(x, n)
                else:
                    n = 0
                    while n < 8 and i + n < end and values[i + n] > 32 and values[i + n] < 0x80:
                        n += 1
                    x = load_upto(values, i, n)
                n_upper += count_ones(upper_mask(x))
                lower |= lower_mask(x)
                apostrophes |= byte_mask(x, _APOSTROPHES)
                i += n
                if n == 8 or i >= end:
                    continue
                c = values[i]
                if c < 0x80:
                    if data[c] & SPACE:
                        break
                    i += 1  # a control character that is no white space
                else:
                    cp, n = _decode(values, i, end)
                    entry = data[page[cp >> 8] + (cp & 255)]
                    if entry & SPACE:
                        break
                    n_upper += int(entry & UPPER != 0)
                    lower |= np.uint64(entry & LOWER)
                    ascii_only = False
                    i += n

            # Strip punctuation from the edges if more than two characters remain. (No byte of a character outside
            # ASCII is punctuation: those of page 0 from 0x80 on are letters and signs.)
            a, b = start, i
            flag = 0
            if (data[values[a]] | data[values[b - 1]]) & PUNCT:
                ends_sentence = False
                while a < b and data[values[a]] & PUNCT:
                    a += 1
                while b > a and data[values[b - 1]] & PUNCT:
                    ends_sentence |= _is_full_stop(values[b - 1])
                    b -= 1
                if a == i:  # nothing but punctuation
                    for k in range(start, i):
                        ends_sentence |= _is_full_stop(values[k])
                flag = ENDS_SENTENCE if ends_sentence else 0
                if b - a <= 8:
                    n_chars = b - a
                    if not ascii_only:
                        for k in range(a, b):
                            n_chars -= int(values[k] & 0xC0 == 0x80)
                    if n_chars <= 2:
                        a, b = start, i

            # Hash the lower-cased bytes; look the word up in its one slot and verify the bytes.
            length = b - a
            h = _SEED ^ (np.uint64(length) * _MULTIPLIER)
            x0 = np.uint64(0)
            x1 = np.uint64(0)
            x2 = np.uint64(0)
            for k in range(0, length, 8):
                x = _to_lower(load_upto(values, a + k, min(8, length - k)))
                h = _hash_lane(h, x)
                x0 = x if k == 0 else x0
                x1 = x if k == 8 else x1
                x2 = x if k == 16 else x2
            ids[w] = _look_up(h, x0, x1, x2, length, displacement, bucket_shift, slots, known)

            if lower == np.uint64(0):
                flag |= (ALL_CAPS if n_upper > 0 else 0) | (SHOUTED if n_upper > 1 else 0)
            if apostrophes and _find_contracted_not(values, a, b):
                flag |= CONTRACTED_NOT
            flags[w] = flag
            if spans:
                hashes[w] = h
                starts[w] = a
                lengths[w] = length
            w += 1
    out_offsets[offsets.shape[0] - 1] = w
    return w


def words(
    values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, vocabulary: Vocabulary, spans: bool = True
) -> WordStream:
    """See `affectcore.kernels.words.words`."""
    n = len(offsets) - 1
    # Words are separated by at least a byte, so this many suffice; pages that stay untouched cost no memory.
    most = int(offsets[-1] - offsets[0] + n + 1) // 2 + 1
    out_offsets = np.empty(n + 1, np.int64)
    ids, flags = np.empty(most, np.int32), np.empty(most, np.uint8)
    most = most if spans else 0
    hashes, starts, lengths = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int32)
    w = _words(values, offsets, alphabet, vocabulary, spans, out_offsets, ids, flags, hashes, starts, lengths)
    return WordStream(out_offsets, ids[:w], flags[:w], hashes[:w], starts[:w], lengths[:w])
