"""The lexical metrics: from UTF-8 bytes to score columns, by way of the `words` and `tone` kernels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from affectcore import lexicons
from affectcore.forks import loading
from affectcore.kernels import dispatch, tone, words
from affectcore.metrics.registry import GROUPS

Columns = dict[str, np.ndarray]

NAMES = frozenset(name for group in ("vader", "lexical", "surface") for name in GROUPS[group]) | {
    "n_bytes",
    "n_words",
    "n_invalid_bytes",
}
"""The metrics that `score` computes."""


def _tables(backend: str) -> tuple[Any, ...]:
    with loading:  # or every thread of the first batches would build them
        return _load_tables(backend)


@lru_cache(maxsize=4)
def _load_tables(backend: str) -> tuple[Any, ...]:
    tables = lexicons.load()
    return dispatch.place((tables.alphabet, tables.vocabulary, tables.rules, tables.categories), backend)  # type: ignore[no-any-return]


def score(
    values: np.ndarray, offsets: np.ndarray, names: Collection[str], *, backend: str = "numba", corrected: bool = False
) -> Columns:
    """Compute lexical, VADER, surface and count metrics of ragged text.

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents, valid UTF-8 or not.
    offsets
        int64 (n + 1,): document bounds.
    names
        Metrics wanted; more may be returned where they come for free.
    backend
        `reference`, `numba` or `triton`.
    corrected
        Mend VADER's rules where they misfire.

    Returns
    -------
    dict
        Metric name to float32 or int32 (n,).
    """
    alphabet, vocabulary, rules, categories = _tables(backend)
    raw, raw_offsets = dispatch.place((values, offsets), backend)
    text = words.normalize(raw, raw_offsets, alphabet, corrected, backend=backend)
    stream = words.words(text.values, text.offsets, alphabet, vocabulary, False, backend=backend)
    marks = tone.punctuation(text.values, text.offsets, backend=backend)

    rewritten, ends = dispatch.fetch((text.n_words, stream.offsets))
    n_words = np.where(rewritten < 0, ends[1:] - ends[:-1], rewritten).astype(np.int32)
    per_100 = np.divide(100.0, n_words, out=np.zeros(len(n_words)), where=n_words > 0)
    out: Columns = {
        "n_bytes": (offsets[1:] - offsets[:-1]).astype(np.int32),
        "n_words": n_words,
        "n_invalid_bytes": dispatch.fetch(text.n_invalid),
    }

    def rates(names: Sequence[str], counts: np.ndarray) -> None:
        out.update(zip(names, (counts * per_100).astype(np.float32)))

    if not set(names).isdisjoint(GROUPS["vader"]):
        scores = tone.vader(stream.ids, stream.flags, stream.offsets, *marks, rules, corrected, backend=backend)
        out |= {
            f"vader_{name}": column.astype(np.float32) for name, column in zip(scores._fields, dispatch.fetch(scores))
        }
    if not set(names).isdisjoint(GROUPS["lexical"]):
        counts = dispatch.fetch(tone.count(stream.ids, stream.offsets, categories, backend=backend))
        rates(lexicons.LISTS, counts)
    if not set(names).isdisjoint(GROUPS["surface"]):
        # Descriptions of emoji hold such marks, too; they are no part of the text.
        own = marks if text.values is raw else tone.punctuation(raw, raw_offsets, backend=backend)
        shouted = tone.count_flag(stream.flags, stream.offsets, words.SHOUTED, backend=backend)
        rates(("exclaims", "questions", "caps"), np.stack(dispatch.fetch((*own, shouted))))
    return out


def terms(values: np.ndarray, offsets: np.ndarray, names: Collection[str]) -> list[list[tuple[str, str]]]:
    """Return which entries of word lists each document has: what their rates count. For explanations: slow.

    Parameters
    ----------
    values, offsets
        Ragged text: uint8 (n_bytes,), int64 (n + 1,).
    names
        Names of the lists.

    Returns
    -------
    list
        For each document, pairs of a list's name and an entry, in the order of the text; of the lists at one place, in
        the order of `affectcore.lexicons.LISTS`.
    """
    documents = _ids(values, offsets)
    read = {name: lexicons.read_list(name) for name in lexicons.LISTS if name in names}
    known = [(name, _phrases(entries), _phrases(exceptions)) for name, (entries, exceptions) in read.items()]
    out: list[list[tuple[str, str]]] = []
    for ids in documents:
        found: list[tuple[str, str]] = []
        for i in range(len(ids)):
            for name, entries, exceptions in known:
                here = [entry for phrase, entry in entries.items() if ids[i : i + len(phrase)] == phrase]
                if here and not any(ids[i : i + len(phrase)] == phrase for phrase in exceptions):
                    found.append((name, here[0]))
        out.append(found)
    return out


def _ids(values: np.ndarray, offsets: np.ndarray) -> list[tuple[int, ...]]:
    """Return the ids of the words of each document, 0 for words that no list or rule knows."""
    alphabet, vocabulary, _, _ = _tables("numba")
    text = words.normalize(values, offsets, alphabet, False, backend="numba")
    stream = words.words(text.values, text.offsets, alphabet, vocabulary, False, backend="numba")
    return [tuple(stream.ids[a:b].tolist()) for a, b in zip(stream.offsets, stream.offsets[1:])]


def _phrases(entries: list[str]) -> dict[tuple[int, ...], str]:
    """Return the ids of the words of entries, with straight and curly apostrophes."""
    forms = {form: entry for entry in entries for form in (entry, entry.replace("'", "\u2019"))}
    encoded = [form.encode() for form in forms]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return dict(zip(_ids(np.frombuffer(b"".join(encoded), np.uint8), offsets), forms.values()))
