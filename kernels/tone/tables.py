"""Rule tables of the `tone` ops, as plain arrays over vocabulary ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Bits of `Rules.role`; the number of a word that a rule names sits above them.
IN_LEXICON, BOOSTER, NEGATION, PHRASE = 1, 2, 4, 8
NAME_SHIFT = 8
NAMED = ("no", "or", "nor", "never", "so", "this", "without", "doubt", "least", "at", "very", "but", "kind", "of")
NO, OR, NOR, NEVER, SO, THIS, WITHOUT, DOUBT, LEAST, AT, VERY, BUT, KIND, OF = range(1, len(NAMED) + 1)

IDIOM_PHRASE, BOOSTER_PHRASE = 0, 1
MAX_PHRASE = 5  # words in a category phrase
STARTS_PHRASE = -(1 << 31)  # the sign bit of a category bit set

# The constants of VADER (Hutto & Gilbert 2014, section 3.3).
CAPS_INCREMENT = 0.733
NEGATION_FACTOR = -0.74
NEVER_SO_FACTOR = 1.25
SECOND_DAMPING, THIRD_DAMPING = 0.95, 0.9
BEFORE_BUT, AFTER_BUT = 0.5, 1.5
EXCLAIM_INCREMENT, MOST_EXCLAIMS = 0.292, 4
QUESTION_INCREMENT, MOST_QUESTIONS, QUESTION_CEILING = 0.18, 3, 0.96
NORMALIZER = 15.0


class Rules(NamedTuple):
    """VADER's lexicon and rules over vocabulary ids (row 0 is the unknown word: all zero)."""

    valence: Any  # float64 (n_words + 1,): mean human rating, -4 to 4; 0 outside the lexicon
    booster: Any  # float64 (n_words + 1,): what a degree modifier adds to a positive valence
    role: Any  # int32 (n_words + 1,): role bits | number in NAMED << 8
    phrase: Any  # int32 (n_phrases, 3): word ids, the third -1 in a phrase of two (0 is any unknown word)
    phrase_kind: Any  # int32 (n_phrases,): IDIOM_PHRASE or BOOSTER_PHRASE
    phrase_value: Any  # float64 (n_phrases,): an idiom's valence, a booster's increment


class Categories(NamedTuple):
    """Word lists over vocabulary ids; a category is a bit. One-word entries are in `words`, longer ones in `tail`."""

    words: Any  # int32 (n_words + 1,): bit set of categories, and STARTS_PHRASE
    head: Any  # int32 (n_words + 2,): phrases starting with word w are rows head[w]:head[w + 1]
    tail: Any  # int32 (n_phrases, 4): the ids after the first, 0 past the end
    bits: Any  # int32 (n_phrases,): bit set of categories
    cancels: Any  # int32 (n_phrases,): bit set of categories in which nothing counts where this phrase starts
    one: Any  # int32 (n_categories,): 1 << k


class Vader(NamedTuple):
    """VADER's four scores of n documents, rounded as vaderSentiment rounds them."""

    compound: Any  # float64 (n,), four decimals, -1 to 1
    pos: Any  # float64 (n,), three decimals, 0 to 1
    neu: Any  # float64 (n,), three decimals, 0 to 1
    neg: Any  # float64 (n,), three decimals, 0 to 1


def build_rules(
    ids: Mapping[str, int],
    lexicon: Mapping[str, float],
    boosters: Mapping[str, float],
    negations: Sequence[str],
    idioms: Mapping[str, float],
) -> Rules:
    """Build VADER's rule tables.

    Parameters
    ----------
    ids
        Vocabulary id of each word. Entries whose words are not in it can never match and are left out.
    lexicon
        Valence of each word.
    boosters
        Increment of each degree modifier, of one to three words.
    negations
        Negating words.
    idioms
        Valence of each special-case phrase, of one to three words.
    """
    n = max(ids.values(), default=0) + 1
    valence, booster, role = np.zeros(n), np.zeros(n), np.zeros(n, np.int32)
    for word, value in lexicon.items():
        if word in ids:
            valence[ids[word]] = value
            role[ids[word]] |= IN_LEXICON
    for word, value in boosters.items():
        if word in ids:
            booster[ids[word]] = value
            role[ids[word]] |= BOOSTER
    for word in negations:
        role[ids[word]] |= NEGATION
    for number, word in enumerate(NAMED, 1):
        role[ids[word]] |= number << NAME_SHIFT
    rows, kinds, values = [], [], []
    for kind, phrases in ((IDIOM_PHRASE, idioms), (BOOSTER_PHRASE, boosters)):
        for phrase, value in phrases.items():
            words = [ids[w] for w in phrase.split()]
            if len(words) > 1:
                role[words] |= PHRASE
                rows.append([*words, -1][:3])
                kinds.append(kind)
                values.append(value)
    return Rules(
        valence,
        booster,
        role,
        np.array(rows, np.int32).reshape(-1, 3),
        np.array(kinds, np.int32),
        np.array(values, float),
    )


def build_categories(
    ids: Mapping[str, int], lists: Sequence[Sequence[str]], exceptions: Sequence[Sequence[str]]
) -> Categories:
    """Build the category tables.

    Parameters
    ----------
    ids
        Vocabulary id of each word.
    lists
        Words and phrases of at most five words, a list for each category.
    exceptions
        Phrases of two to five words, a list for each category: where one starts, nothing counts for the category.

    Raises
    ------
    ValueError
        If there are more than 31 lists, or a phrase is too long (or, among exceptions, of one word).
    KeyError
        If a word is not in the vocabulary.
    """
    if len(lists) > 31:
        raise ValueError("at most 31 categories fit the bit set")
    n = max(ids.values(), default=0) + 1
    words = np.zeros(n, np.int32)
    phrases: dict[tuple[int, ...], list[int]] = {}
    for kind, groups in enumerate((lists, exceptions)):
        for k, entries in enumerate(groups):
            for entry in entries:
                numbers = tuple(ids[w] for w in entry.split())
                if len(numbers) > MAX_PHRASE or len(numbers) <= kind:
                    raise ValueError(
                        f"phrase {entry!r} has {len(numbers)} words; the limits are {kind + 1} and {MAX_PHRASE}"
                    )
                if len(numbers) == 1:
                    words[numbers[0]] |= 1 << k
                else:
                    phrases.setdefault(numbers, [0, 0])[kind] |= 1 << k
    rows = sorted(phrases)
    head = np.searchsorted(np.array([r[0] for r in rows], np.int32), np.arange(n + 1)).astype(np.int32)
    tail = np.zeros((len(rows), MAX_PHRASE - 1), np.int32)
    for row, numbers in enumerate(rows):
        tail[row, : len(numbers) - 1] = numbers[1:]
    words[head[:-1] < head[1:]] |= np.int32(STARTS_PHRASE)
    bits = np.array([phrases[r] for r in rows], np.int32).reshape(-1, 2)
    return Categories(
        words=words,
        head=head,
        tail=tail,
        bits=np.ascontiguousarray(bits[:, 0]),
        cancels=np.ascontiguousarray(bits[:, 1]),
        one=(1 << np.arange(len(lists))).astype(np.int32),
    )
