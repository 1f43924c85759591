"""One setup per op: texts in, a call over all blocks out. Blocks are those that `Scorer` cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore import lexicons
from affectcore.kernels import tone, words
from affectcore.scorer import _blocks, _ragged

Call = Callable[[], Any]


def normalize(texts: pa.Array, backend: str) -> Call:
    tables, blocks = lexicons.load(), list(raw(texts))
    return lambda: [words.normalize(v, o, tables.alphabet, backend=backend) for v, o in blocks]


def words_without_spans(texts: pa.Array, backend: str) -> Call:
    return _words(texts, backend, False)


def words_with_spans(texts: pa.Array, backend: str) -> Call:
    return _words(texts, backend, True)


def punctuation(texts: pa.Array, backend: str) -> Call:
    blocks = [(text.values, text.offsets) for text in normalized(texts)]
    return lambda: [tone.punctuation(v, o, backend=backend) for v, o in blocks]


def vader(texts: pa.Array, backend: str) -> Call:
    rules = lexicons.load().rules
    blocks = [(s.ids, s.flags, s.offsets, *tone.punctuation(t.values, t.offsets)) for t, s in streams(texts)]
    return lambda: [tone.vader(*block, rules, backend=backend) for block in blocks]


def count(texts: pa.Array, backend: str) -> Call:
    categories, blocks = lexicons.load().categories, [stream for _, stream in streams(texts)]
    return lambda: [tone.count(s.ids, s.offsets, categories, backend=backend) for s in blocks]


def count_flag(texts: pa.Array, backend: str) -> Call:
    blocks = [stream for _, stream in streams(texts)]
    return lambda: [tone.count_flag(s.flags, s.offsets, words.SHOUTED, backend=backend) for s in blocks]


WORDS: dict[str, Callable[[pa.Array, str], Call]] = {
    "normalize": normalize,
    "words": words_without_spans,
    "words with spans": words_with_spans,
}
TONE: dict[str, Callable[[pa.Array, str], Call]] = {
    "punctuation": punctuation,
    "vader": vader,
    "count": count,
    "count_flag": count_flag,
}


def raw(texts: pa.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the blocks of the texts, each `(values, offsets)` from 0."""
    values, offsets = _ragged(texts)
    for begin, end in _blocks(offsets):
        yield values[offsets[begin] : offsets[end]], offsets[begin : end + 1] - offsets[begin]


def normalized(texts: pa.Array) -> Iterator[words.Normalized]:
    """Yield the blocks of the texts as the ops after `normalize` get them."""
    alphabet = lexicons.load().alphabet
    for values, offsets in raw(texts):
        yield words.normalize(values, offsets, alphabet)


def streams(texts: pa.Array) -> Iterator[tuple[words.Normalized, words.WordStream]]:
    """Yield the blocks of the texts with their word streams."""
    tables = lexicons.load()
    for text in normalized(texts):
        yield text, words.words(text.values, text.offsets, tables.alphabet, tables.vocabulary, False)


def _words(texts: pa.Array, backend: str, spans: bool) -> Call:
    tables, blocks = lexicons.load(), list(normalized(texts))
    return lambda: [
        words.words(t.values, t.offsets, tables.alphabet, tables.vocabulary, spans, backend=backend) for t in blocks
    ]
