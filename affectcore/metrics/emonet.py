"""The EmoNet profile: how often a text uses the words that name each of EmoNet's 40 emotion categories."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectcore.forks import loading

if TYPE_CHECKING:
    import numpy as np

    from affectcore.metrics.registry import Metric

__all__ = ["NAMES", "WORDS", "entries", "score"]

_FILE = Path(__file__).parents[1] / "lexicons" / "emonet" / "words.tsv"
_AT_ONCE = 20  # categories in one pass of the kernel, whose bit sets hold 31


def _column(category: str) -> str:
    """Name the column after the first of the names that a category has."""
    return "emonet_" + re.sub(r"[^a-z]+", "_", category.lower().partition("/")[0])


def _read() -> dict[str, tuple[str, ...]]:
    out: dict[str, list[str]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        category, word = line.split("\t")
        out.setdefault(category, []).append(word)
    return {category: tuple(words) for category, words in out.items()}


WORDS = _read()
"""The words and phrases of each category, in lower case, by the category's published name."""

NAMES = tuple(map(_column, WORDS))
"""The columns, one per category, in the order of `WORDS`."""


def entries() -> tuple[Metric, ...]:
    """Return the registry's entries, one per category."""
    from affectcore.metrics.registry import Metric  # which imports this module

    return tuple(
        Metric(
            name=name,
            version=1,
            unit="per 100 words",
            range=(0.0, 100.0),
            dtype="float32",
            group="emonet",
            higher_is="neither",
            definition=(
                f"Rate of words of EmoNet's category {category} ({', '.join(words)}): matches without regard to case, "
                "per 100 whitespace-separated words. An empty text gets 0."
            ),
            source="word lists of EmoNet-Face (LAION, MIT): affectcore/lexicons/emonet",
            validated_on="not validated against human labels; a count",
            limits=(
                "English only. A profile of vocabulary, no emotion recognition: the lists name emotions, mostly by "
                "nouns, and match as they are written, without other forms (happiness, not happy), negation or "
                "context. Zero in most texts, so compare means over many. Written only when it is asked for."
            ),
        )
        for (category, words), name in zip(WORDS.items(), NAMES)
    )


def _tables(backend: str) -> tuple[Any, ...]:
    with loading:  # or every thread of the first batches would build them
        return _load_tables(backend)


@lru_cache(maxsize=4)
def _load_tables(backend: str) -> tuple[Any, ...]:
    from affectcore import lexicons
    from affectcore.kernels import dispatch, tone, words

    # A phrase that holds another entry of its category ("sexual lust" holds "lust") would count twice.
    lists = [
        [e for e in entries if not any(f" {x} " in f" {e} " for x in entries if x != e)] for entries in WORDS.values()
    ]
    keys = dict.fromkeys(word for entries in lists for entry in entries for word in entry.split())
    ids = {word: k for k, word in enumerate(keys, 1)}
    spellings = dict(ids)
    for word in (w for w in keys if len(w) <= 2):
        spellings.update(dict.fromkeys(lexicons.with_punctuation(word), ids[word]))
    vocabulary = words.build_vocabulary([word.encode() for word in spellings], list(spellings.values()))
    parts = [lists[k : k + _AT_ONCE] for k in range(0, len(lists), _AT_ONCE)]
    categories = tuple(tone.build_categories(ids, part, [()] * len(part)) for part in parts)
    # No emoji: their descriptions ("face with tears of joy") are not the text's own words.
    return dispatch.place((words.build_alphabet({}), vocabulary, categories), backend)  # type: ignore[no-any-return]


def score(
    values: np.ndarray, offsets: np.ndarray, names: Collection[str], backend: str = "numba"
) -> dict[str, np.ndarray]:
    """Compute EmoNet columns of ragged text.

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents, valid UTF-8 or not.
    offsets
        int64 (n + 1,): document bounds; they need not start at 0.
    names
        Columns wanted, from `NAMES`; other names are passed over.
    backend
        `reference`, `numba` or `triton`.

    Returns
    -------
    dict
        Column name to float32 (n,): matches per 100 words.
    """
    import numpy as np

    from affectcore.kernels import dispatch, tone, words

    alphabet, vocabulary, categories = _tables(backend)
    raw, bounds = dispatch.place((values, offsets), backend)
    text = words.normalize(raw, bounds, alphabet, backend=backend)
    stream = words.words(text.values, text.offsets, alphabet, vocabulary, False, backend=backend)
    rewritten = dispatch.fetch(text.n_words)
    n_words = np.where(rewritten < 0, np.diff(dispatch.fetch(stream.offsets)), rewritten)
    per_100 = np.divide(100.0, n_words, out=np.zeros(len(n_words)), where=n_words > 0)
    out: dict[str, np.ndarray] = {}
    for k, part in enumerate(categories):
        columns = NAMES[k * _AT_ONCE : (k + 1) * _AT_ONCE]
        if set(columns).isdisjoint(names):
            continue
        counts = dispatch.fetch(tone.count(stream.ids, stream.offsets, part, backend=backend))
        out |= {name: (n * per_100).astype(np.float32) for name, n in zip(columns, counts) if name in names}
    return out
