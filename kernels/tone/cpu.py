"""Numba kernels of the `tone` family; `__init__` documents the ops."""

from __future__ import annotations

import math

import numpy as np

from affectcore.kernels.dispatch import inline, jit
from affectcore.kernels.memory import count_ones, equal_mask, load8, load32, load64, load_double
from affectcore.kernels.words.tables import ALL_CAPS, CONTRACTED_NOT, ENDS_SENTENCE

from .tables import (
    AFTER_BUT,
    AT,
    BEFORE_BUT,
    BOOSTER,
    BOOSTER_PHRASE,
    BUT,
    CAPS_INCREMENT,
    DOUBT,
    EXCLAIM_INCREMENT,
    IDIOM_PHRASE,
    IN_LEXICON,
    KIND,
    LEAST,
    MOST_EXCLAIMS,
    MOST_QUESTIONS,
    NAME_SHIFT,
    NEGATION,
    NEGATION_FACTOR,
    NEVER,
    NEVER_SO_FACTOR,
    NO,
    NOR,
    NORMALIZER,
    OF,
    OR,
    PHRASE,
    QUESTION_CEILING,
    QUESTION_INCREMENT,
    SECOND_DAMPING,
    SO,
    STARTS_PHRASE,
    THIRD_DAMPING,
    THIS,
    VERY,
    WITHOUT,
    Categories,
    Rules,
    Vader,
)

_EXCLAIM = np.uint64(0x2121212121212121)
_QUESTION = np.uint64(0x3F3F3F3F3F3F3F3F)


@jit
def _punctuation(text, offsets, exclaims, questions):
    for d in range(offsets.shape[0] - 1):
        i, end = offsets[d], offsets[d + 1]
        n_exclaims, n_questions = 0, 0
        while i + 8 <= end:
            x = load64(text + i)
            n_exclaims += count_ones(equal_mask(x, _EXCLAIM))
            n_questions += count_ones(equal_mask(x, _QUESTION))
            i += 8
        for k in range(i, end):
            n_exclaims += int(load8(text + k) == 33)
            n_questions += int(load8(text + k) == 63)
        exclaims[d] = n_exclaims
        questions[d] = n_questions


def punctuation(values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `affectcore.kernels.tone.punctuation`."""
    n = len(offsets) - 1
    exclaims, questions = np.empty(n, np.int32), np.empty(n, np.int32)
    values = np.ascontiguousarray(values)
    _punctuation(values.ctypes.data, offsets, exclaims, questions)
    return exclaims, questions


@inline
def _word(at, i):
    return np.int64(load32(at + 4 * i))


@inline
def _phrase(first, second, third, tables, kind):
    """Return the value of the phrase made of these words (third -1: of two words), and whether it is one."""
    _, _, _, phrases, kinds, values, n_phrases = tables
    for row in range(n_phrases):
        if (
            _word(phrases, 3 * row) == first
            and _word(phrases, 3 * row + 1) == second
            and _word(phrases, 3 * row + 2) == third
            and _word(kinds, row) == kind
        ):
            return load_double(values + 8 * row), True
    return 0.0, False


@inline
def _boost(role, word, flag, valence, cap_diff, boosters):
    if not role & BOOSTER:
        return 0.0
    scalar = load_double(boosters + 8 * word)
    if valence < 0:
        scalar = -scalar
    if flag & ALL_CAPS and cap_diff:
        scalar += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT
    return scalar


@inline
def _negates(role, flag):
    return role & NEGATION != 0 or flag & CONTRACTED_NOT != 0


@inline
def _idioms(valence, i, hi, ids, tables):
    """Apply the special cases around word `i`, which has at least three words before it."""
    w3, w2, w1, w0 = _word(ids, i - 3), _word(ids, i - 2), _word(ids, i - 1), _word(ids, i)
    value, found = _phrase(w1, w0, -1, tables, IDIOM_PHRASE)
    if not found:
        value, found = _phrase(w2, w1, w0, tables, IDIOM_PHRASE)
    if not found:
        value, found = _phrase(w2, w1, -1, tables, IDIOM_PHRASE)
    if not found:
        value, found = _phrase(w3, w2, w1, tables, IDIOM_PHRASE)
    if not found:
        value, found = _phrase(w3, w2, -1, tables, IDIOM_PHRASE)
    if found:
        valence = value
    if i + 1 < hi:
        value, found = _phrase(w0, _word(ids, i + 1), -1, tables, IDIOM_PHRASE)
        if found:
            valence = value
    if i + 2 < hi:
        value, found = _phrase(w0, _word(ids, i + 1), _word(ids, i + 2), tables, IDIOM_PHRASE)
        if found:
            valence = value
    value, found = _phrase(w3, w2, w1, tables, BOOSTER_PHRASE)
    valence += value
    value, found = _phrase(w3, w2, -1, tables, BOOSTER_PHRASE)
    valence += value
    value, found = _phrase(w2, w1, -1, tables, BOOSTER_PHRASE)
    return valence + value


@inline
def _valence(i, lo, hi, ids, flags, cap_diff, tables):
    """Return the sentiment of lexicon word `i` of the document that owns words lo to hi."""
    roles, valences, boosters = tables[:3]
    w0 = _word(ids, i)
    w1 = _word(ids, i - 1) if i - 1 >= lo else np.int64(0)
    w2 = _word(ids, i - 2) if i - 2 >= lo else np.int64(0)
    w3 = _word(ids, i - 3) if i - 3 >= lo else np.int64(0)
    r0, r1, r2, r3 = _word(roles, w0), _word(roles, w1), _word(roles, w2), _word(roles, w3)
    n1, n2, n3 = r1 >> NAME_SHIFT, r2 >> NAME_SHIFT, r3 >> NAME_SHIFT
    next_role = _word(roles, _word(ids, i + 1)) if i + 1 < hi else np.int64(0)
    name = r0 >> NAME_SHIFT
    if r0 & BOOSTER or (name == KIND and next_role >> NAME_SHIFT == OF):
        return 0.0
    valence = load_double(valences + 8 * w0)
    if n1 == NO or n2 == NO or (n3 == NO and (n1 == OR or n1 == NOR)):
        valence *= NEGATION_FACTOR
    elif name == NO and next_role & IN_LEXICON:
        valence = 0.0
    if load8(flags + i) & ALL_CAPS and cap_diff:
        valence += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT

    if i - 1 >= lo and not r1 & IN_LEXICON:
        flag = load8(flags + i - 1)
        valence += _boost(r1, w1, flag, valence, cap_diff, boosters)
        if _negates(r1, flag):
            valence *= NEGATION_FACTOR
    if i - 2 >= lo and not r2 & IN_LEXICON:
        flag = load8(flags + i - 2)
        valence += _boost(r2, w2, flag, valence, cap_diff, boosters) * SECOND_DAMPING
        if n2 == NEVER and (n1 == SO or n1 == THIS):
            valence *= NEVER_SO_FACTOR
        elif not (n2 == WITHOUT and n1 == DOUBT) and _negates(r2, flag):
            valence *= NEGATION_FACTOR
    if i - 3 >= lo and not r3 & IN_LEXICON:
        flag = load8(flags + i - 3)
        valence += _boost(r3, w3, flag, valence, cap_diff, boosters) * THIRD_DAMPING
        # As published, `and` binds tighter than `or`: "so" or "this" right before the word is enough.
        if (n3 == NEVER and (n2 == SO or n2 == THIS)) or n1 == SO or n1 == THIS:
            valence *= NEVER_SO_FACTOR
        elif not (n3 == WITHOUT and (n2 == DOUBT or n1 == DOUBT)) and _negates(r3, flag):
            valence *= NEGATION_FACTOR
        if (r0 | r1 | r2) & PHRASE:
            valence = _idioms(valence, i, hi, ids, tables)

    if n1 == LEAST and (i - 2 < lo or (n2 != AT and n2 != VERY)):
        valence *= NEGATION_FACTOR
    return valence


@inline
def _corrected_valence(i, start, lo, ids, flags, cap_diff, valence, tables):
    """Like `_valence` for a word or idiom that begins at `start` and ends at `i`, within its own sentence."""
    roles, _, boosters = tables[:3]
    factor = 1.0
    n_before = 0
    while n_before < 3 and start - 1 - n_before >= lo and not load8(flags + start - 1 - n_before) & ENDS_SENTENCE:
        n_before += 1
    n1 = _word(roles, _word(ids, start - 1)) >> NAME_SHIFT if n_before > 0 else np.int64(0)
    n2 = _word(roles, _word(ids, start - 2)) >> NAME_SHIFT if n_before > 1 else np.int64(0)
    n3 = _word(roles, _word(ids, start - 3)) >> NAME_SHIFT if n_before > 2 else np.int64(0)
    if load8(flags + i) & ALL_CAPS and cap_diff:
        valence += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT
    if n1 == NO or n2 == NO or (n3 == NO and (n1 == OR or n1 == NOR)):
        factor *= NEGATION_FACTOR
    for k in range(n_before):
        j = start - 1 - k
        word, flag = _word(ids, j), load8(flags + j)
        role = _word(roles, word)
        if role & IN_LEXICON:
            continue
        damping = 1.0 if k == 0 else SECOND_DAMPING if k == 1 else THIRD_DAMPING
        valence += _boost(role, word, flag, valence, cap_diff, boosters) * damping
        if k == 1 and role & PHRASE:
            value, _ = _phrase(word, _word(ids, j + 1), -1, tables, BOOSTER_PHRASE)
            valence += value if valence > 0 else -value
        name = role >> NAME_SHIFT
        if name == NEVER and ((k == 1 and (n1 == SO or n1 == THIS)) or (k == 2 and (n2 == SO or n2 == THIS))):
            factor *= NEVER_SO_FACTOR
        elif name == WITHOUT and ((k > 0 and n1 == DOUBT) or (k > 1 and n2 == DOUBT)):
            factor *= 1.0
        elif _negates(role, flag):
            factor *= NEGATION_FACTOR
    if n1 == LEAST and n2 != AT and n2 != VERY:
        factor *= NEGATION_FACTOR
    return valence * factor


@inline
def _meld(a, b, left, right):
    """Join two skew heaps whose keys are the node numbers; -1 is the empty heap. Return the root."""
    if a < 0:
        return b
    if b < 0:
        return a
    if b < a:
        a, b = b, a
    root = a
    while True:
        child = right[a]
        right[a] = left[a]
        if child < 0:
            left[a] = b
            return root
        if child < b:
            left[a] = child
            a = child
        else:
            left[a] = b
            a, b = b, child


@inline
def _find(table, keys, key):
    """Return the slot of `key` in an open-addressing table, claiming a free one if it is new."""
    mask = np.uint64(table.shape[0] - 1)
    h = np.float64(key).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    slot = (h >> np.uint64(32)) & mask
    while keys[slot] != key:
        if keys[slot] == 0.0:
            keys[slot] = key
            break
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def _shift_at_but(sentiments, places, m, but):
    """Halve the sentiments before the first "but" and raise those after it by half, as vaderSentiment does.

    It looks every value up again by `list.index`, so of equal values the first one is changed. A heap of places per
    value finds that first one in logarithmic time.
    """
    size = 16
    while size < 4 * m:
        size *= 2
    table = np.full(size, -1, np.int64)
    keys = np.zeros(size)
    left = np.full(m, -1, np.int64)
    right = np.full(m, -1, np.int64)
    for k in range(m):
        value = sentiments[k]
        slot = _find(table, keys, value)
        first = _meld(table[slot], k, left, right)
        table[slot] = _meld(left[first], right[first], left, right)
        left[first] = right[first] = -1
        if places[first] < but:
            value *= BEFORE_BUT
        elif places[first] > but:
            value *= AFTER_BUT
        sentiments[first] = value
        slot = _find(table, keys, value)
        table[slot] = _meld(table[slot], first, left, right)


@inline
def _round(x, scale):
    """Round x >= 0 to the nearest multiple of 1 / scale, ties to even, from its exact value as Python does."""
    product = x * scale
    # The rounding error of the product, exactly (Dekker 1971): it decides ties.
    t = x * 134217729.0
    high = t - (t - x)
    error = (high * scale - product) + (x - high) * scale
    whole = math.floor(product)
    excess = ((product - whole) - 0.5) + error
    if excess > 0.0 or (excess == 0.0 and whole % 2.0 == 1.0):
        whole += 1.0
    return whole / scale


@jit
def _vader(ids, flags, offsets, exclaims, questions, rules, corrected, compound, pos, neu, neg):
    ids, flags, roles = ids.ctypes.data, flags.ctypes.data, rules.role.ctypes.data
    phrases = (rules.phrase.ctypes.data, rules.phrase_kind.ctypes.data, rules.phrase_value.ctypes.data)
    tables = (roles, rules.valence.ctypes.data, rules.booster.ctypes.data, *phrases, rules.phrase.shape[0])
    most = 0
    for d in range(offsets.shape[0] - 1):
        most = max(most, offsets[d + 1] - offsets[d])
    sentiments = np.empty(most)
    places = np.empty(most, np.int64)
    for d in range(offsets.shape[0] - 1):
        lo, hi = offsets[d], offsets[d + 1]
        compound[d] = pos[d] = neu[d] = neg[d] = 0.0
        if lo == hi:
            continue
        n_caps = 0
        for i in range(lo, hi):
            n_caps += int(load8(flags + i) & ALL_CAPS)
        cap_diff = 0 < n_caps < hi - lo

        # Sentiments that are not zero, with their places; all other words count as neutral.
        m = 0
        but = -1
        if corrected:
            sentence = 0  # first sentiment of the sentence
            after_but = False
            i = lo
            while i < hi:
                word = _word(ids, i)
                role = _word(roles, word)
                end = i
                valence = 0.0
                if role & PHRASE:
                    found = False
                    if i + 2 < hi:
                        valence, found = _phrase(word, _word(ids, i + 1), _word(ids, i + 2), tables, IDIOM_PHRASE)
                        end = i + 2
                    if not found and i + 1 < hi:
                        valence, found = _phrase(word, _word(ids, i + 1), -1, tables, IDIOM_PHRASE)
                        end = i + 1
                    end = end if found else i
                if end == i and role & IN_LEXICON and not role & BOOSTER:
                    next_role = _word(roles, _word(ids, i + 1)) if i + 1 < hi else np.int64(0)
                    is_kind_of = role >> NAME_SHIFT == KIND and next_role >> NAME_SHIFT == OF
                    if not is_kind_of and not (role >> NAME_SHIFT == NO and next_role & IN_LEXICON):
                        valence = load_double(tables[1] + 8 * word)
                if valence != 0.0:
                    valence = _corrected_valence(end, i, lo, ids, flags, cap_diff, valence, tables)
                    sentiments[m] = valence * AFTER_BUT if after_but else valence
                    m += int(valence != 0.0)
                if role >> NAME_SHIFT == BUT and not after_but:
                    for k in range(sentence, m):
                        sentiments[k] *= BEFORE_BUT
                    after_but = True
                for k in range(i, end + 1):
                    if load8(flags + k) & ENDS_SENTENCE:
                        sentence, after_but = m, False
                i = end + 1
        else:
            for i in range(lo, hi):
                role = _word(roles, _word(ids, i))
                if role & IN_LEXICON:
                    valence = _valence(i, lo, hi, ids, flags, cap_diff, tables)
                    sentiments[m] = valence
                    places[m] = i
                    m += int(valence != 0.0)
                elif but < 0 and role >> NAME_SHIFT == BUT:
                    but = i
            if but >= 0:
                _shift_at_but(sentiments, places, m, but)

        total, positive, negative = 0.0, 0.0, 0.0
        for k in range(m):
            total += sentiments[k]
            if sentiments[k] > 0.0:
                positive += sentiments[k] + 1.0
            else:
                negative += sentiments[k] - 1.0
        neutral = float(hi - lo - m)

        emphasis = min(exclaims[d], MOST_EXCLAIMS) * EXCLAIM_INCREMENT
        if questions[d] > MOST_QUESTIONS:
            emphasis += QUESTION_CEILING
        elif questions[d] > 1:
            emphasis += questions[d] * QUESTION_INCREMENT
        if total > 0.0:
            total += emphasis
        elif total < 0.0:
            total -= emphasis
        if positive > -negative:
            positive += emphasis
        elif positive < -negative:
            negative -= emphasis
        norm = min(abs(total) / math.sqrt(total * total + NORMALIZER), 1.0)
        whole = positive - negative + neutral
        compound[d] = -_round(norm, 1e4) if total < 0.0 else _round(norm, 1e4)
        pos[d] = _round(positive / whole, 1e3)
        neu[d] = _round(neutral / whole, 1e3)
        neg[d] = _round(abs(negative) / whole, 1e3)


def vader(
    ids: np.ndarray,
    flags: np.ndarray,
    offsets: np.ndarray,
    exclaims: np.ndarray,
    questions: np.ndarray,
    rules: Rules,
    corrected: bool = False,
) -> Vader:
    """See `affectcore.kernels.tone.vader`."""
    out = Vader(*np.empty((4, len(offsets) - 1)))
    _vader(ids, flags, offsets, exclaims, questions, rules, corrected, *out)
    return out


_MEMBERS = ~STARTS_PHRASE


@jit
def _count(ids, offsets, categories, out):
    words, head, tail, bits, cancels, one = categories
    out[:] = 0
    for d in range(offsets.shape[0] - 1):
        hi = offsets[d + 1]
        for i in range(offsets[d], hi):
            word = ids[i]
            found = words[word]
            if found == 0:
                continue
            cancelled = np.int32(0)
            for row in range(head[word], head[word + 1]):
                k = 0
                while k < tail.shape[1] and tail[row, k] != 0 and i + 1 + k < hi and ids[i + 1 + k] == tail[row, k]:
                    k += 1
                if k == tail.shape[1] or tail[row, k] == 0:
                    found |= bits[row]
                    cancelled |= cancels[row]
            found &= _MEMBERS & ~cancelled
            if found:
                for c in range(one.shape[0]):
                    out[c, d] += np.int32(found & one[c] != 0)


def count(ids: np.ndarray, offsets: np.ndarray, categories: Categories) -> np.ndarray:
    """See `affectcore.kernels.tone.count`."""
    out = np.empty((len(categories.one), len(offsets) - 1), np.int32)
    _count(ids, offsets, categories, out)
    return out


@jit
def _count_flag(flags, offsets, flag, out):
    for d in range(offsets.shape[0] - 1):
        n = np.int32(0)
        for i in range(offsets[d], offsets[d + 1]):
            n += np.int32(flags[i] & flag != 0)
        out[d] = n


def count_flag(flags: np.ndarray, offsets: np.ndarray, flag: int) -> np.ndarray:
    """See `affectcore.kernels.tone.count_flag`."""
    out = np.empty(len(offsets) - 1, np.int32)
    _count_flag(flags, offsets, flag, out)
    return out
