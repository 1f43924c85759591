"""Plain Python: what the `tone` ops mean; `__init__` documents them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from affectcore.kernels.words.tables import ALL_CAPS, CONTRACTED_NOT, ENDS_SENTENCE

from .tables import (
    AFTER_BUT,
    BEFORE_BUT,
    BOOSTER,
    BOOSTER_PHRASE,
    CAPS_INCREMENT,
    EXCLAIM_INCREMENT,
    IDIOM_PHRASE,
    IN_LEXICON,
    MOST_EXCLAIMS,
    MOST_QUESTIONS,
    NAME_SHIFT,
    NAMED,
    NEGATION,
    NEGATION_FACTOR,
    NEVER_SO_FACTOR,
    NORMALIZER,
    QUESTION_CEILING,
    QUESTION_INCREMENT,
    SECOND_DAMPING,
    THIRD_DAMPING,
    Categories,
    Rules,
    Vader,
)

_DAMPING = (1.0, SECOND_DAMPING, THIRD_DAMPING)


def punctuation(values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `affectcore.kernels.tone.punctuation`."""
    documents = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    counts = [[int((d == ord(mark)).sum()) for d in documents] for mark in "!?"]
    return np.array(counts[0], np.int32), np.array(counts[1], np.int32)


class _Document:
    """The words of one document, seen through the rule tables."""

    def __init__(self, ids: np.ndarray, flags: np.ndarray, rules: Rules) -> None:
        self.ids = [int(k) for k in ids]
        self.rules = rules
        self.n = len(self.ids)
        role = [int(rules.role[k]) for k in self.ids]
        self.name = [(("", *NAMED)[r >> NAME_SHIFT]) for r in role]
        self.in_lexicon = [r & IN_LEXICON != 0 for r in role]
        self.is_booster = [r & BOOSTER != 0 for r in role]
        self.negates = [bool(r & NEGATION or f & CONTRACTED_NOT) for r, f in zip(role, flags)]
        self.ends_sentence = [bool(f & ENDS_SENTENCE) for f in flags]
        caps = [bool(f & ALL_CAPS) for f in flags]
        self.emphasized = [c and 0 < sum(caps) < self.n for c in caps]

    def phrase(self, kind: int, first: int, count: int) -> float | None:
        """Return the value of the phrase made of `count` words from `first` on, or None."""
        if first < 0 or first + count > self.n:
            return None
        words = [*self.ids[first : first + count], -1][:3]
        for row, row_kind, value in zip(self.rules.phrase, self.rules.phrase_kind, self.rules.phrase_value):
            if row_kind == kind and list(row) == words:
                return float(value)
        return None

    def boost(self, j: int, valence: float) -> float:
        """Return what degree modifier `j` adds to `valence`."""
        if not self.is_booster[j]:
            return 0.0
        scalar = float(self.rules.booster[self.ids[j]])
        if valence < 0:
            scalar = -scalar
        if self.emphasized[j]:
            scalar += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT
        return scalar

    def own_valence(self, i: int) -> float:
        """Return the lexicon's valence of word `i`; 0 where its role as a modifier comes first."""
        follower = i + 1 if i + 1 < self.n else None
        if not self.in_lexicon[i] or self.is_booster[i]:
            return 0.0
        if self.name[i] == "kind" and follower and self.name[follower] == "of":
            return 0.0
        if self.name[i] == "no" and follower and self.in_lexicon[follower]:
            return 0.0
        return float(self.rules.valence[self.ids[i]])

    def after_no(self, before: list[str]) -> bool:
        """Tell whether one of the words before (nearest first) is the "no" that negates this one."""
        one, two, three = before
        return "no" in (one, two) or (three == "no" and one in ("or", "nor"))

    def sentiment(self, i: int) -> float:
        """Return the sentiment of word `i` by the published rules."""
        word = self.ids[i]
        if not self.in_lexicon[i] or self.is_booster[i]:
            return 0.0
        if self.name[i] == "kind" and i + 1 < self.n and self.name[i + 1] == "of":
            return 0.0
        one, two, three = (self.name[i - k] if i >= k else "" for k in (1, 2, 3))
        valence = self.own_valence(i)
        if self.after_no([one, two, three]):
            valence = float(self.rules.valence[word]) * NEGATION_FACTOR
        if self.emphasized[i]:
            valence += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT
        for k in range(3):
            j = i - k - 1
            if j < 0 or self.in_lexicon[j]:
                continue
            valence += self.boost(j, valence) * _DAMPING[k]
            so = ("so", "this")
            if k == 1 and two == "never" and one in so:
                valence *= NEVER_SO_FACTOR
            elif k == 1 and two == "without" and one == "doubt":
                pass
            elif k == 2 and ((three == "never" and two in so) or one in so):
                valence *= NEVER_SO_FACTOR
            elif k == 2 and three == "without" and "doubt" in (one, two):
                pass
            elif self.negates[j]:
                valence *= NEGATION_FACTOR
            if k == 2:
                valence = self.special_cases(i, valence)
        if one == "least" and (i < 2 or two not in ("at", "very")):
            valence *= NEGATION_FACTOR
        return valence

    def special_cases(self, i: int, valence: float) -> float:
        """Apply idioms and booster phrases around word `i`."""
        for first, count in ((i - 1, 2), (i - 2, 3), (i - 2, 2), (i - 3, 3), (i - 3, 2)):
            value = self.phrase(IDIOM_PHRASE, first, count)
            if value is not None:
                valence = value
                break
        for first, count in ((i, 2), (i, 3)):
            value = self.phrase(IDIOM_PHRASE, first, count)
            valence = valence if value is None else value
        for first, count in ((i - 3, 3), (i - 3, 2), (i - 2, 2)):
            valence += self.phrase(BOOSTER_PHRASE, first, count) or 0.0
        return valence

    def published(self) -> list[float]:
        """Return the sentiments of all words by the published rules."""
        sentiments = [self.sentiment(i) for i in range(self.n)]
        if "but" in self.name:
            but = self.name.index("but")
            for value in sentiments:
                first = sentiments.index(value)
                if first < but:
                    sentiments[first] = value * BEFORE_BUT
                elif first > but:
                    sentiments[first] = value * AFTER_BUT
        return sentiments

    def corrected_sentiment(self, first: int, last: int, valence: float) -> float:
        """Return the sentiment of the word or idiom from `first` to `last`, within its sentence."""
        before = []
        for j in range(first - 1, max(first - 4, -1), -1):
            if self.ends_sentence[j]:
                break
            before.append(j)
        one, two, three = [*(self.name[j] for j in before), "", "", ""][:3]
        factor = 1.0
        if self.emphasized[last]:
            valence += CAPS_INCREMENT if valence > 0 else -CAPS_INCREMENT
        if self.after_no([one, two, three]):
            factor *= NEGATION_FACTOR
        for k, j in enumerate(before):
            if self.in_lexicon[j]:
                continue
            valence += self.boost(j, valence) * _DAMPING[k]
            if k == 1:
                increment = self.phrase(BOOSTER_PHRASE, j, 2) or 0.0
                valence += increment if valence > 0 else -increment
            so, doubt = [one] if k == 1 else [two], [one, two][:k]
            if k > 0 and self.name[j] == "never" and so[0] in ("so", "this"):
                factor *= NEVER_SO_FACTOR
            elif self.name[j] == "without" and "doubt" in doubt:
                pass
            elif self.negates[j]:
                factor *= NEGATION_FACTOR
        if one == "least" and two not in ("at", "very"):
            factor *= NEGATION_FACTOR
        return valence * factor

    def corrected(self) -> list[float]:
        """Return the sentiments of all words and idioms by the corrected rules, in reading order."""
        sentiments: list[float] = []
        sentence: list[int] = []  # places of this sentence's sentiments
        after_but = False
        i = 0
        while i < self.n:
            last, valence = i, self.own_valence(i)
            for count in (2, 3):
                value = self.phrase(IDIOM_PHRASE, i, count)
                if value is not None:
                    last, valence = i + count - 1, value
            if valence:
                valence = self.corrected_sentiment(i, last, valence)
                sentence.append(len(sentiments))
                sentiments.append(valence * AFTER_BUT if after_but else valence)
            if self.name[i] == "but" and not after_but:
                after_but = True
                for place in sentence:
                    sentiments[place] *= BEFORE_BUT
            if any(self.ends_sentence[i : last + 1]):
                sentence, after_but = [], False
            i = last + 1
        return sentiments


def _scores(sentiments: list[float], n: int, exclaims: int, questions: int) -> tuple[float, float, float, float]:
    total, positive, negative = 0.0, 0.0, 0.0
    for s in sentiments:
        total += s
        positive += s + 1 if s > 0 else 0
        negative += s - 1 if s < 0 else 0
    neutral = n - sum(s != 0 for s in sentiments)
    emphasis = min(exclaims, MOST_EXCLAIMS) * EXCLAIM_INCREMENT
    if questions > 1:
        emphasis += questions * QUESTION_INCREMENT if questions <= MOST_QUESTIONS else QUESTION_CEILING
    if total:
        total += math.copysign(emphasis, total)
    if positive > -negative:
        positive += emphasis
    elif positive < -negative:
        negative -= emphasis
    compound = max(-1.0, min(1.0, total / math.sqrt(total * total + NORMALIZER)))
    whole = positive - negative + neutral
    return round(compound, 4), round(positive / whole, 3), round(neutral / whole, 3), round(abs(negative) / whole, 3)


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
    rows: list[tuple[Any, ...]] = []
    for d, (a, b) in enumerate(zip(offsets[:-1], offsets[1:])):
        document = _Document(ids[a:b], flags[a:b], rules)
        sentiments = document.corrected() if corrected else document.published()
        rows.append(_scores(sentiments, document.n, int(exclaims[d]), int(questions[d])) if a < b else (0.0,) * 4)
    return Vader(*np.array(rows, np.float64).reshape(-1, 4).T.copy())


def count(ids: np.ndarray, offsets: np.ndarray, categories: Categories) -> np.ndarray:
    """See `affectcore.kernels.tone.count`."""
    out = np.zeros((len(categories.one), len(offsets) - 1), np.int32)
    for d, (a, b) in enumerate(zip(offsets[:-1], offsets[1:])):
        document = ids[a:b].tolist()
        for i, word in enumerate(document):
            found, cancelled = int(categories.words[word]), 0
            for row in range(categories.head[word], categories.head[word + 1]):
                tail = [t for t in categories.tail[row].tolist() if t]
                if document[i + 1 : i + 1 + len(tail)] == tail:
                    found |= int(categories.bits[row])
                    cancelled |= int(categories.cancels[row])
            found &= ~cancelled
            out[:, d] += (found & categories.one) != 0
    return out


def count_flag(flags: np.ndarray, offsets: np.ndarray, flag: int) -> np.ndarray:
    """See `affectcore.kernels.tone.count_flag`."""
    return np.array([int((flags[a:b] & flag != 0).sum()) for a, b in zip(offsets[:-1], offsets[1:])], np.int32)
