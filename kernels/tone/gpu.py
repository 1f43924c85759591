"""Triton kernels of the `tone` family on torch tensors; `__init__` documents the ops.

One program owns one document. Sentiments are computed a block of words at a time; what vaderSentiment does in reading
order (the shift at "but", the sums) runs in reading order, so that every rounding is the same.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from affectcore.kernels.dispatch import fetch
from affectcore.kernels.words import tables as words

from . import cpu, tables
from .tables import Categories, Rules, Vader

ALL_CAPS = tl.constexpr(words.ALL_CAPS)
CONTRACTED_NOT = tl.constexpr(words.CONTRACTED_NOT)
ENDS_SENTENCE = tl.constexpr(words.ENDS_SENTENCE)
IN_LEXICON = tl.constexpr(tables.IN_LEXICON)
BOOSTER = tl.constexpr(tables.BOOSTER)
NEGATION = tl.constexpr(tables.NEGATION)
PHRASE = tl.constexpr(tables.PHRASE)
NAME_SHIFT = tl.constexpr(tables.NAME_SHIFT)
NO, OR, NOR = tl.constexpr(tables.NO), tl.constexpr(tables.OR), tl.constexpr(tables.NOR)
NEVER, SO, THIS = tl.constexpr(tables.NEVER), tl.constexpr(tables.SO), tl.constexpr(tables.THIS)
WITHOUT, DOUBT = tl.constexpr(tables.WITHOUT), tl.constexpr(tables.DOUBT)
LEAST, AT, VERY = tl.constexpr(tables.LEAST), tl.constexpr(tables.AT), tl.constexpr(tables.VERY)
BUT, KIND, OF = tl.constexpr(tables.BUT), tl.constexpr(tables.KIND), tl.constexpr(tables.OF)
IDIOM_PHRASE = tl.constexpr(tables.IDIOM_PHRASE)
BOOSTER_PHRASE = tl.constexpr(tables.BOOSTER_PHRASE)
MAX_TAIL = tl.constexpr(tables.MAX_PHRASE - 1)

BYTES = 1024  # bytes or flags a counting program looks at in one step
WORDS = 64  # words whose sentiment is computed in one step
SCAN = 1024  # sentiments searched in one step at a "but"
WARPS = 4
# The shift at "but" searches all sentiments before each one here; the heap of the CPU kernel is the better tool for
# the rare document of more words than this.
LONG_DOCUMENT = 1 << 16


@triton.jit
def _punctuation_kernel(values, offsets, exclaims, questions, BYTES: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    hi = tl.load(offsets + d + 1)
    n_exclaims = 0
    n_questions = 0
    for base in range(lo, hi, BYTES):
        i = base + tl.arange(0, BYTES)
        c = tl.load(values + i, mask=i < hi, other=0)
        n_exclaims += tl.sum((c == 33).to(tl.int32), 0)
        n_questions += tl.sum((c == 63).to(tl.int32), 0)
    tl.store(exclaims + d, n_exclaims)
    tl.store(questions + d, n_questions)


def punctuation(values: Any, offsets: Any) -> tuple[Any, Any]:
    """See `affectcore.kernels.tone.punctuation`."""
    n = len(offsets) - 1
    exclaims, questions = (torch.empty(n, dtype=torch.int32, device=values.device) for _ in range(2))
    if n:
        _punctuation_kernel[(n,)](values, offsets, exclaims, questions, BYTES, num_warps=WARPS)
    return exclaims, questions


@triton.jit
def _phrase(first, second, third, kind, phrases, phrase_kind, phrase_value, n_phrases):
    """Tell where these words (third -1: two words) make a phrase of this kind, and its value."""
    found = first < 0
    value = tl.full(first.shape, 0.0, tl.float64)
    for row in range(0, n_phrases):
        # A row of another kind starts with a word that no text holds.
        head = tl.where(tl.load(phrase_kind + row) == kind, tl.load(phrases + 3 * row), -2)
        same = (first == head) & (second == tl.load(phrases + 3 * row + 1))
        same &= third == tl.load(phrases + 3 * row + 2)
        value = tl.where(same, tl.load(phrase_value + row), value)
        found |= same
    return found, value


@triton.jit
def _boost(word, role, flag, valence, cap_diff, booster, CAPS: tl.constexpr):
    is_booster = (role & BOOSTER) != 0
    scalar = tl.load(booster + word, mask=is_booster, other=0.0)
    scalar = tl.where(valence < 0, -scalar, scalar)
    loud = is_booster & ((flag & ALL_CAPS) != 0) & cap_diff
    caps = tl.full(valence.shape, CAPS, tl.float64)
    return tl.where(loud, scalar + tl.where(valence > 0, caps, -caps), scalar)


@triton.jit
def _negates(role, flag):
    return ((role & NEGATION) != 0) | ((flag & CONTRACTED_NOT) != 0)


@triton.jit
def _sentiment_kernel(
    ids,
    flags,
    offsets,
    valences,
    booster,
    role,
    phrases,
    phrase_kind,
    phrase_value,
    n_phrases,
    sentiments,
    CORRECTED: tl.constexpr,
    CAPS: tl.constexpr,
    NEGATION_FACTOR: tl.constexpr,
    NEVER_SO_FACTOR: tl.constexpr,
    SECOND: tl.constexpr,
    THIRD: tl.constexpr,
    WORDS: tl.constexpr,
):
    """The sentiment of every word, before "but": each lane looks at the words around its own."""
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    hi = tl.load(offsets + d + 1)
    n_caps = lo * 0
    for base in range(lo, hi, WORDS):
        i = base + tl.arange(0, WORDS)
        n_caps += tl.sum(tl.load(flags + i, mask=i < hi, other=0).to(tl.int32) & ALL_CAPS, 0)
    cap_diff = (n_caps > 0) & (n_caps < hi - lo)
    for base in range(lo, hi, WORDS):
        i = base + tl.arange(0, WORDS)
        w0 = tl.load(ids + i, mask=i < hi, other=0)
        r0 = tl.load(role + w0)
        last = i  # the last word of the idiom that starts here, or the word itself
        f0 = tl.load(flags + i, mask=i < hi, other=0).to(tl.int32)
        w1 = tl.load(ids + i - 1, mask=(i - 1 >= lo) & (i < hi), other=0)
        w2 = tl.load(ids + i - 2, mask=(i - 2 >= lo) & (i < hi), other=0)
        w3 = tl.load(ids + i - 3, mask=(i - 3 >= lo) & (i < hi), other=0)
        f1 = tl.load(flags + i - 1, mask=(i - 1 >= lo) & (i < hi), other=0).to(tl.int32)
        f2 = tl.load(flags + i - 2, mask=(i - 2 >= lo) & (i < hi), other=0).to(tl.int32)
        f3 = tl.load(flags + i - 3, mask=(i - 3 >= lo) & (i < hi), other=0).to(tl.int32)
        next1 = tl.load(ids + i + 1, mask=i + 1 < hi, other=0)
        next2 = tl.load(ids + i + 2, mask=i + 2 < hi, other=0)
        r1 = tl.load(role + w1)
        r2 = tl.load(role + w2)
        r3 = tl.load(role + w3)
        next_role = tl.load(role + next1)
        two = tl.full(w0.shape, -1, tl.int32)
        any_phrase = tl.max((r0 | r1 | r2) & PHRASE, 0)

        active = ((r0 & IN_LEXICON) != 0) & ((r0 & BOOSTER) == 0)
        active &= ~(((r0 >> NAME_SHIFT) == KIND) & ((next_role >> NAME_SHIFT) == OF))
        own = tl.load(valences + w0, mask=active, other=0.0)
        mute = ((r0 >> NAME_SHIFT) == NO) & ((next_role & IN_LEXICON) != 0)
        valence = tl.where(mute, 0.0, own)
        if CORRECTED:
            active &= ~mute
            if any_phrase != 0:
                is_two, value_two = _phrase(w0, next1, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                is_three, value_three = _phrase(
                    w0, next1, next2, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases
                )
                inside2, _ = _phrase(w1, w0, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                inside3, _ = _phrase(w1, w0, next1, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                tail3, _ = _phrase(w2, w1, w0, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                valence = tl.where(is_two, value_two, valence)
                valence = tl.where(is_three, value_three, valence)
                last = tl.where(is_three, i + 2, tl.where(is_two, i + 1, i))
                active = (active | is_two | is_three) & ~(inside2 | inside3 | tail3)
            active &= valence != 0.0
            # Nothing reaches across the end of a sentence.
            cut1 = (f1 & ENDS_SENTENCE) != 0
            cut2 = cut1 | ((f2 & ENDS_SENTENCE) != 0)
            cut3 = cut2 | ((f3 & ENDS_SENTENCE) != 0)
            w1, r1, f1 = tl.where(cut1, 0, w1), tl.where(cut1, 0, r1), tl.where(cut1, 0, f1)
            w2, r2, f2 = tl.where(cut2, 0, w2), tl.where(cut2, 0, r2), tl.where(cut2, 0, f2)
            w3, r3, f3 = tl.where(cut3, 0, w3), tl.where(cut3, 0, r3), tl.where(cut3, 0, f3)
            f0 = tl.load(flags + last, mask=active & (last < hi), other=0).to(tl.int32)
        n1 = r1 >> NAME_SHIFT
        n2 = r2 >> NAME_SHIFT
        n3 = r3 >> NAME_SHIFT
        after_no = (n1 == NO) | (n2 == NO) | ((n3 == NO) & ((n1 == OR) | (n1 == NOR)))
        factor = tl.full(w0.shape, 1.0, tl.float64)
        caps = tl.full(w0.shape, CAPS, tl.float64)
        negation = tl.full(w0.shape, NEGATION_FACTOR, tl.float64)
        never_so = tl.full(w0.shape, NEVER_SO_FACTOR, tl.float64)
        if CORRECTED:
            factor = tl.where(after_no, negation, factor)
        else:
            valence = tl.where(after_no, own * negation, valence)
        loud = ((f0 & ALL_CAPS) != 0) & cap_diff
        valence = tl.where(loud, valence + tl.where(valence > 0, caps, -caps), valence)

        free1 = (r1 & IN_LEXICON) == 0
        free2 = (r2 & IN_LEXICON) == 0
        free3 = (r3 & IN_LEXICON) == 0
        so1 = (n1 == SO) | (n1 == THIS)
        so2 = (n2 == SO) | (n2 == THIS)
        boost = _boost(w1, r1, f1, valence, cap_diff, booster, CAPS)
        valence = tl.where(free1, valence + boost, valence)
        negated = free1 & _negates(r1, f1)
        if CORRECTED:
            factor = tl.where(negated, factor * negation, factor)
        else:
            valence = tl.where(negated, valence * negation, valence)

        boost = _boost(w2, r2, f2, valence, cap_diff, booster, CAPS) * tl.full(w0.shape, SECOND, tl.float64)
        valence = tl.where(free2, valence + boost, valence)
        strengthened = free2 & (n2 == NEVER) & so1
        negated = free2 & ~strengthened & ~((n2 == WITHOUT) & (n1 == DOUBT)) & _negates(r2, f2)
        if CORRECTED:
            if any_phrase != 0:
                weak, increment = _phrase(w2, w1, two, BOOSTER_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                increment = tl.where(valence > 0, increment, -increment)
                valence = tl.where(weak & free2, valence + increment, valence)
            factor = tl.where(strengthened, factor * never_so, factor)
            factor = tl.where(negated, factor * negation, factor)
        else:
            valence = tl.where(strengthened, valence * never_so, valence)
            valence = tl.where(negated, valence * negation, valence)

        boost = _boost(w3, r3, f3, valence, cap_diff, booster, CAPS) * tl.full(w0.shape, THIRD, tl.float64)
        valence = tl.where(free3, valence + boost, valence)
        strengthened = free3 & (n3 == NEVER) & so2
        if not CORRECTED:
            strengthened = free3 & (i - 3 >= lo) & (((n3 == NEVER) & so2) | so1)
        negated = free3 & ~strengthened & ~((n3 == WITHOUT) & ((n2 == DOUBT) | (n1 == DOUBT))) & _negates(r3, f3)
        if CORRECTED:
            factor = tl.where(strengthened, factor * never_so, factor)
            factor = tl.where(negated, factor * negation, factor)
        else:
            valence = tl.where(strengthened, valence * never_so, valence)
            valence = tl.where(negated, valence * negation, valence)
            if any_phrase != 0:
                case, value = _phrase(w3, w2, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                this, v = _phrase(w3, w2, w1, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                this, v = _phrase(w2, w1, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                this, v = _phrase(w2, w1, w0, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                this, v = _phrase(w1, w0, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                this, v = _phrase(w0, next1, two, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                this, v = _phrase(w0, next1, next2, IDIOM_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                case, value = case | this, tl.where(this, v, value)
                special = free3 & (i - 3 >= lo)
                valence = tl.where(special & case, value, valence)
                this, v = _phrase(w3, w2, w1, BOOSTER_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                valence = tl.where(special & this, valence + v, valence)
                this, v = _phrase(w3, w2, two, BOOSTER_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                valence = tl.where(special & this, valence + v, valence)
                this, v = _phrase(w2, w1, two, BOOSTER_PHRASE, phrases, phrase_kind, phrase_value, n_phrases)
                valence = tl.where(special & this, valence + v, valence)

        least = (n1 == LEAST) & (n2 != AT) & (n2 != VERY)
        if CORRECTED:
            factor = tl.where(least, factor * negation, factor)
            valence = valence * factor
        else:
            # The word before must not be in the lexicon; "least" is not.
            valence = tl.where(least & free1, valence * negation, valence)
        tl.store(sentiments + i, tl.where(active, valence, 0.0), mask=i < hi)


@triton.jit
def _reduce_kernel(
    ids,
    flags,
    offsets,
    exclaims,
    questions,
    role,
    sentiments,
    compound,
    pos,
    neu,
    neg,
    long_document,
    CORRECTED: tl.constexpr,
    BEFORE_BUT: tl.constexpr,
    AFTER_BUT: tl.constexpr,
    EXCLAIM: tl.constexpr,
    MOST_EXCLAIMS: tl.constexpr,
    QUESTION: tl.constexpr,
    MOST_QUESTIONS: tl.constexpr,
    QUESTION_CEILING: tl.constexpr,
    NORMALIZER: tl.constexpr,
    WORDS: tl.constexpr,
    SCAN: tl.constexpr,
):
    """The shift at "but" and the sums, both in reading order."""
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    hi = tl.load(offsets + d + 1)
    but = hi
    for base in range(lo, hi, WORDS):
        i = base + tl.arange(0, WORDS)
        name = tl.load(role + tl.load(ids + i, mask=i < hi, other=0)) >> NAME_SHIFT
        but = tl.minimum(but, tl.min(tl.where(name == BUT, i, hi), 0))

    if CORRECTED:
        # In reading order: words before the first "but" of a sentence weigh less, those after it more.
        if but < hi:
            sentence = lo
            after_but = False
            for i in range(lo, hi):
                value = tl.load(sentiments + i)
                flag = tl.load(flags + i).to(tl.int32)
                if after_but:
                    tl.store(sentiments + i, value * AFTER_BUT)
                elif (tl.load(role + tl.load(ids + i)) >> NAME_SHIFT) == BUT:
                    for at in range(sentence, i, WORDS):
                        k = at + tl.arange(0, WORDS)
                        # The first half is always true. Without it Triton 3.6 drops `sentence`: it overlooks that the
                        # bounds of a loop are a use.
                        before = (k >= sentence) & (k < i)
                        earlier = tl.load(sentiments + k, mask=before, other=0.0)
                        tl.store(sentiments + k, earlier * BEFORE_BUT, mask=before)
                    after_but = True
                if (flag & ENDS_SENTENCE) != 0:
                    sentence = i + 1
                    after_but = False
            tl.debug_barrier()
    else:
        # As published: of equal values, the first one is changed.
        if (but < hi) & (hi - lo <= long_document):
            for k in range(lo, hi):
                value = tl.load(sentiments + k)
                if value != 0.0:
                    first = k + lo * 0
                    base = lo
                    while base < first:
                        j = base + tl.arange(0, SCAN)
                        other = tl.load(sentiments + j, mask=j < first, other=0.0)
                        first = tl.minimum(first, tl.min(tl.where(other == value, j, first), 0))
                        base += SCAN
                    factor_but = tl.where(first < but, BEFORE_BUT, AFTER_BUT).to(tl.float64)
                    factor_but = tl.where(first == but, 1.0, factor_but)
                    tl.debug_barrier()
                    tl.store(sentiments + first, value * factor_but)
                    tl.debug_barrier()

    total = tl.full((), 0.0, tl.float64)
    positive = tl.full((), 0.0, tl.float64)
    negative = tl.full((), 0.0, tl.float64)
    n_neutral = lo * 0
    for k in range(lo, hi):
        value = tl.load(sentiments + k)
        total += value
        positive += tl.where(value > 0.0, value + 1.0, 0.0)
        negative += tl.where(value < 0.0, value - 1.0, 0.0)
        n_neutral += tl.where(value == 0.0, 1, 0)
    neutral = n_neutral.to(tl.float64)

    n_exclaims = tl.minimum(tl.load(exclaims + d), MOST_EXCLAIMS).to(tl.float64)
    n_questions = tl.load(questions + d)
    emphasis = n_exclaims * tl.full((), EXCLAIM, tl.float64)
    some = n_questions.to(tl.float64) * tl.full((), QUESTION, tl.float64)
    asked = tl.where(n_questions > MOST_QUESTIONS, tl.full((), QUESTION_CEILING, tl.float64), some)
    emphasis += tl.where(n_questions > 1, asked, 0.0)
    total = tl.where(total > 0.0, total + emphasis, tl.where(total < 0.0, total - emphasis, total))
    more = positive > -negative
    fewer = positive < -negative
    positive = tl.where(more, positive + emphasis, positive)
    negative = tl.where(fewer, negative - emphasis, negative)
    size = tl.where(total < 0.0, -total, total)
    norm = tl.minimum(size / tl.sqrt(total * total + NORMALIZER), 1.0)
    whole = positive - negative + neutral
    whole = tl.where(hi > lo, whole, 1.0)
    rounded = _round(norm, 1e4)
    tl.store(compound + d, tl.where(total < 0.0, -rounded, rounded))
    tl.store(pos + d, _round(positive / whole, 1e3))
    tl.store(neu + d, _round(neutral / whole, 1e3))
    tl.store(neg + d, _round(tl.abs(negative) / whole, 1e3))


@triton.jit
def _round(x, SCALE: tl.constexpr):
    """Round x >= 0 to the nearest multiple of 1 / SCALE, ties to even, from its exact value."""
    scale = tl.full((), SCALE, tl.float64)
    product = x * scale
    t = x * tl.full((), 134217729.0, tl.float64)
    high = t - (t - x)
    error = (high * scale - product) + (x - high) * scale
    whole = product.to(tl.int64)
    excess = ((product - whole.to(tl.float64)) - 0.5) + error
    whole += tl.where((excess > 0.0) | ((excess == 0.0) & (whole % 2 == 1)), 1, 0)
    return whole.to(tl.float64) / scale


def vader(
    ids: Any, flags: Any, offsets: Any, exclaims: Any, questions: Any, rules: Rules, corrected: bool = False
) -> Vader:
    """See `affectcore.kernels.tone.vader`."""
    n = len(offsets) - 1
    out = Vader(*torch.zeros((4, n), dtype=torch.float64, device=ids.device))
    if n == 0:
        return out
    sentiments = torch.empty(len(ids), dtype=torch.float64, device=ids.device)
    _sentiment_kernel[(n,)](
        ids,
        flags,
        offsets,
        *rules,
        len(rules.phrase_kind),
        sentiments,
        **sentiment_constants(corrected),
        num_warps=1,
        enable_fp_fusion=False,  # a fused multiply-add rounds once where the reference rounds twice
    )
    _reduce_kernel[(n,)](
        ids,
        flags,
        offsets,
        exclaims,
        questions,
        rules.role,
        sentiments,
        *out,
        LONG_DOCUMENT,
        **reduce_constants(corrected),
        num_warps=1,
        enable_fp_fusion=False,
    )
    long = torch.nonzero(offsets[1:] - offsets[:-1] > LONG_DOCUMENT).flatten().tolist() if not corrected else []
    for d in long:
        a, b = int(offsets[d]), int(offsets[d + 1])
        one = (ids[a:b], flags[a:b], torch.tensor([0, b - a]), exclaims[d : d + 1], questions[d : d + 1], rules)
        host = cpu.vader(*fetch(one))
        for column, value in zip(out, host):
            column[d] = float(value[0])
    return out


def sentiment_constants(corrected: bool) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that computes sentiments."""
    return {
        "CORRECTED": corrected,
        "CAPS": tables.CAPS_INCREMENT,
        "NEGATION_FACTOR": tables.NEGATION_FACTOR,
        "NEVER_SO_FACTOR": tables.NEVER_SO_FACTOR,
        "SECOND": tables.SECOND_DAMPING,
        "THIRD": tables.THIRD_DAMPING,
        "WORDS": WORDS,
    }


def reduce_constants(corrected: bool) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that sums sentiments."""
    return {
        "CORRECTED": corrected,
        "BEFORE_BUT": tables.BEFORE_BUT,
        "AFTER_BUT": tables.AFTER_BUT,
        "EXCLAIM": tables.EXCLAIM_INCREMENT,
        "MOST_EXCLAIMS": tables.MOST_EXCLAIMS,
        "QUESTION": tables.QUESTION_INCREMENT,
        "MOST_QUESTIONS": tables.MOST_QUESTIONS,
        "QUESTION_CEILING": tables.QUESTION_CEILING,
        "NORMALIZER": tables.NORMALIZER,
        "WORDS": WORDS,
        "SCAN": SCAN,
    }


@triton.jit
def _count_kernel(
    ids,
    offsets,
    words,
    head,
    tail,
    bits,
    cancels,
    out,
    n,
    CATEGORIES: tl.constexpr,
    WIDTH: tl.constexpr,
    WORDS: tl.constexpr,
):
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    hi = tl.load(offsets + d + 1)
    category = tl.arange(0, WIDTH)
    totals = tl.full((WIDTH,), 0, tl.int32)
    for base in range(lo, hi, WORDS):
        i = base + tl.arange(0, WORDS)
        word = tl.load(ids + i, mask=i < hi, other=0)
        known = word != 0
        found = tl.load(words + word, mask=known, other=0)
        row = tl.load(head + word, mask=known, other=0)
        end = tl.load(head + word + 1, mask=known, other=0)
        cancelled = tl.full((WORDS,), 0, tl.int32)
        for _ in range(0, tl.max(end - row, 0)):
            here = row < end
            same = here
            for k in tl.static_range(0, MAX_TAIL):
                wanted = tl.load(tail + row * MAX_TAIL + k, mask=here, other=0)
                follower = tl.load(ids + i + 1 + k, mask=here & (i + 1 + k < hi), other=0)
                same &= (wanted == 0) | (wanted == follower)
            found |= tl.load(bits + row, mask=same, other=0)
            cancelled |= tl.load(cancels + row, mask=same, other=0)
            row += 1
        found &= ~cancelled
        totals += tl.sum((found[:, None] >> category[None, :]) & 1, 0)
    tl.store(out + category.to(tl.int64) * n + d, totals, mask=category < CATEGORIES)


def count(ids: Any, offsets: Any, categories: Categories) -> Any:
    """See `affectcore.kernels.tone.count`."""
    n, n_categories = len(offsets) - 1, len(categories.one)
    out = torch.empty((n_categories, n), dtype=torch.int32, device=ids.device)
    if n and n_categories:
        width = triton.next_power_of_2(n_categories)
        _count_kernel[(n,)](ids, offsets, *categories[:-1], out, n, n_categories, width, WORDS, num_warps=1)
    return out


@triton.jit
def _count_flag_kernel(flags, offsets, flag, out, BYTES: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + d)
    hi = tl.load(offsets + d + 1)
    n = 0
    for base in range(lo, hi, BYTES):
        i = base + tl.arange(0, BYTES)
        f = tl.load(flags + i, mask=i < hi, other=0).to(tl.int32)
        n += tl.sum(((f & flag) != 0).to(tl.int32), 0)
    tl.store(out + d, n)


def count_flag(flags: Any, offsets: Any, flag: int) -> Any:
    """See `affectcore.kernels.tone.count_flag`."""
    n = len(offsets) - 1
    out = torch.empty(n, dtype=torch.int32, device=flags.device)
    if n:
        _count_flag_kernel[(n,)](flags, offsets, flag, out, BYTES, num_warps=WARPS)
    return out
