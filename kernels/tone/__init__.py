"""Op family `tone`: from a word stream to VADER's scores and word-list counts.

punctuation
    Count "!" and "?" per document. Reads n_bytes.

vader
    VADER (Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
    ICWSM) as vaderSentiment 3.3.2 computes it, on the word stream of `words.words` after `words.normalize`. A word of
    the lexicon gets its mean human rating, changed by the three words before it (degree modifiers, damped by distance;
    negations; "never so", "without doubt"; idioms; "least"), by capitals where the document mixes them, and by its side
    of the first "but". With S the sum in reading order and E the emphasis of up to 4 "!" and of "?":
    compound = (S + sign(S) E) / sqrt((S + sign(S) E)^2 + 15); pos, neu and neg are shares of the positive sentiments
    (each + 1), the neutral words and the negative sentiments (each - 1). float64 throughout, in the published order of
    operations, rounded to 4 and 3 decimals from the exact value. About 0 bytes beyond the stream (5 a word).

    `corrected` differs where the published rules misfire (vaderSentiment issues 71, 72, 144):
      - an idiom counts once, as a whole and wherever it stands ("kiss of death" is -1.5 in any context); in the
        published code it needs three words before it and then counts once for every lexicon word in it;
      - the window of three words stops at the end of a sentence, so "I did not. Great!" stays great;
      - "but" weighs the words of its own sentence, each once; in the published code the first "but" splits the whole
        document, and of equal sentiments the first is changed each time;
      - "so" or "this" strengthens a word only after "never"; in the published code either does right before any word;
      - "kind of" and "sort of" weaken a negative word too instead of making it worse, and only directly before it.

count
    Per category of word lists, the number of words at which one of its entries starts; several entries of one category
    that start at the same word count once, and none where one of the category's exceptions starts.

count_flag
    Number of words of each document that carry a flag.

Tolerance: bit-exact on every backend.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import Categories, Rules, Vader, build_categories, build_rules

__all__ = [
    "Categories",
    "Rules",
    "Vader",
    "build_categories",
    "build_rules",
    "count",
    "count_flag",
    "punctuation",
    "vader",
]


def punctuation(values: Any, offsets: Any, *, backend: str = "auto") -> tuple[Any, Any]:
    """Count "!" and "?" per document.

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents.
    offsets
        int64 (n + 1,): document bounds.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    tuple
        Exclamation marks and question marks, int32 (n,) each.
    """
    return implementation("tone", backend, values, offsets).punctuation(values, offsets)  # type: ignore[no-any-return]


def vader(
    ids: Any,
    flags: Any,
    offsets: Any,
    exclaims: Any,
    questions: Any,
    rules: Rules,
    corrected: bool = False,
    *,
    backend: str = "auto",
) -> Vader:
    """Score documents with VADER (see the module).

    Parameters
    ----------
    ids, flags
        int32 and uint8 (n_words,): word stream of normalized text.
    offsets
        int64 (n + 1,): document bounds in the stream.
    exclaims, questions
        int32 (n,): punctuation counts of the same normalized text.
    rules
        Tables from `build_rules`.
    corrected
        Mend the published rules where they misfire; for text normalized with `corrected` as well.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    Vader
        Four float64 arrays (n,). A document without words scores 0 on all of them.
    """
    module = implementation("tone", backend, ids, flags, offsets, exclaims, questions)
    return module.vader(ids, flags, offsets, exclaims, questions, rules, corrected)  # type: ignore[no-any-return]


def count(ids: Any, offsets: Any, categories: Categories, *, backend: str = "auto") -> Any:
    """Count word-list entries per document.

    Parameters
    ----------
    ids
        int32 (n_words,): word stream.
    offsets
        int64 (n + 1,): document bounds in the stream.
    categories
        Tables from `build_categories`.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        int32 (n_categories, n).
    """
    return implementation("tone", backend, ids, offsets).count(ids, offsets, categories)


def count_flag(flags: Any, offsets: Any, flag: int, *, backend: str = "auto") -> Any:
    """Count the words of each document that carry `flag`.

    Parameters
    ----------
    flags
        uint8 (n_words,): flags of the word stream.
    offsets
        int64 (n + 1,): document bounds in the stream.
    flag
        One of the flags of `affectcore.kernels.words`.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        int32 (n,).
    """
    return implementation("tone", backend, flags, offsets).count_flag(flags, offsets, flag)
