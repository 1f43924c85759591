"""One setup per op: texts in, a call over all blocks out. Blocks are those that `Scorer` cuts for a backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore import lexicons
from affectcore.arrow import blocks as cut
from affectcore.arrow import ragged
from affectcore.kernels import activations, bag, dynamics, segments, tone, wordpiece, words
from affectcore.kernels.dispatch import place
from affectcore.models.base import PASSAGE_BYTES

Call = Callable[[], Any]


def normalize(texts: pa.Array, backend: str) -> Call:
    alphabet, blocks = place(lexicons.load().alphabet, backend), placed(raw(texts, backend), backend)
    return lambda: [words.normalize(v, o, alphabet, backend=backend) for v, o in blocks]


def words_without_spans(texts: pa.Array, backend: str) -> Call:
    return _words(texts, backend, False)


def words_with_spans(texts: pa.Array, backend: str) -> Call:
    return _words(texts, backend, True)


def punctuation(texts: pa.Array, backend: str) -> Call:
    blocks = placed(((text.values, text.offsets) for text in normalized(texts, backend)), backend)
    return lambda: [tone.punctuation(v, o, backend=backend) for v, o in blocks]


def vader(texts: pa.Array, backend: str) -> Call:
    rules = place(lexicons.load().rules, backend)
    made = ((s.ids, s.flags, s.offsets, *tone.punctuation(t.values, t.offsets)) for t, s in streams(texts, backend))
    blocks = placed(made, backend)
    return lambda: [tone.vader(*block, rules, backend=backend) for block in blocks]


def count(texts: pa.Array, backend: str) -> Call:
    categories = place(lexicons.load().categories, backend)
    blocks = placed((stream for _, stream in streams(texts, backend)), backend)
    return lambda: [tone.count(s.ids, s.offsets, categories, backend=backend) for s in blocks]


def count_flag(texts: pa.Array, backend: str) -> Call:
    blocks = placed((stream for _, stream in streams(texts, backend)), backend)
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
BAG: dict[str, Callable[[pa.Array, str], Call]] = {
    "pool": lambda texts, backend: _bag(texts, backend, 0),
    "pool, units of 20 tokens": lambda texts, backend: _bag(texts, backend, 20),
    "logits": lambda texts, backend: _logits(texts, backend, 0),
    "logits, units of 20 tokens": lambda texts, backend: _logits(texts, backend, 20),
}
ACTIVATIONS: dict[str, Callable[[pa.Array, str], Call]] = {
    "activate, units of 20 tokens": lambda texts, backend: _activate(texts, backend),
    "decide, units of 20 tokens": lambda texts, backend: _decide(texts, backend),
    "aggregate, units of 20 tokens": lambda texts, backend: _aggregate(texts, backend),
}
SEGMENTS: dict[str, Callable[[pa.Array, str], Call]] = {
    "segments": lambda texts, backend: _segments(texts, backend),
    "passages": lambda texts, backend: _passages(texts, backend),
}
DYNAMICS: dict[str, Callable[[pa.Array, str], Call]] = {
    "dynamics, units of 20 tokens": lambda texts, backend: _dynamics(texts, backend),
    "correlation, units of 20 tokens": lambda texts, backend: _correlation(texts, backend),
}
UNIGRAMS, BUCKETS, FEATURES, HIDDEN, OUTPUTS = 30_000, 1 << 17, 64, 64, 31


def tokens(texts: pa.Array, backend: str, folder: Path, threads: int = 1) -> Call:
    """Return the tokenization of all blocks, by the tokenizer in a model folder."""
    table = wordpiece.build_wordpiece(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
    table, blocks = place(table, backend), placed(raw(texts, backend), backend)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda block: wordpiece.wordpiece(*block, table, backend=backend), blocks))


def placed(blocks: Iterable[Any], backend: str) -> list[Any]:
    """Return the blocks as `backend` takes them."""
    return [place(block, backend) for block in blocks]


def raw(texts: pa.Array, backend: str = "numba") -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the blocks of the texts, each `(values, offsets)` from 0."""
    values, offsets = ragged(texts)
    for begin, end in cut(offsets, backend):
        yield values[offsets[begin] : offsets[end]], offsets[begin : end + 1] - offsets[begin]


def normalized(texts: pa.Array, backend: str) -> Iterator[words.Normalized]:
    """Yield the blocks of the texts as the ops after `normalize` get them."""
    alphabet = lexicons.load().alphabet
    for values, offsets in raw(texts, backend):
        yield words.normalize(values, offsets, alphabet)


def streams(texts: pa.Array, backend: str) -> Iterator[tuple[words.Normalized, words.WordStream]]:
    """Yield the blocks of the texts with their word streams."""
    tables = lexicons.load()
    for text in normalized(texts, backend):
        yield text, words.words(text.values, text.offsets, tables.alphabet, tables.vocabulary, False)


def _words(texts: pa.Array, backend: str, spans: bool) -> Call:
    tables, blocks = lexicons.load(), placed(normalized(texts, backend), backend)
    alphabet, vocabulary = place((tables.alphabet, tables.vocabulary), backend)
    return lambda: [words.words(t.values, t.offsets, alphabet, vocabulary, spans, backend=backend) for t in blocks]


def _table() -> tuple[bag.Bag, bag.Heads]:
    """Return a random table and heads of the embedded model's size."""
    rng = np.random.default_rng(0)
    rows = bag.align(rng.integers(-127, 128, (UNIGRAMS + BUCKETS, FEATURES)).astype(np.int8))
    gains = rng.uniform(0.001, 0.01, (len(rows), 2)).astype(np.float32)
    shapes = (FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,)
    heads = bag.Heads(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    return bag.Bag(rows, gains, np.array([UNIGRAMS], np.int32)), heads


def _tokens(texts: pa.Array, backend: str, unit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the blocks as ids, words by their hash, with bounds of documents or of units of so many tokens."""
    tables = lexicons.load()
    for text in normalized(texts, backend):
        stream = words.words(text.values, text.offsets, tables.alphabet, tables.vocabulary, True)
        ids = (stream.hash % np.uint64(UNIGRAMS)).astype(np.int32)
        yield ids, np.append(np.arange(0, len(ids), unit), len(ids)) if unit else stream.offsets


def _bag(texts: pa.Array, backend: str, unit: int) -> Call:
    table, blocks = place(_table()[0], backend), placed(_tokens(texts, backend, unit), backend)
    return lambda: [bag.pool(ids, offsets, table, backend=backend) for ids, offsets in blocks]


def _logits(texts: pa.Array, backend: str, unit: int) -> Call:
    (table, heads), blocks = place(_table(), backend), placed(_tokens(texts, backend, unit), backend)
    return lambda: [bag.logits(ids, offsets, table, heads, backend=backend) for ids, offsets in blocks]


def _segments(texts: pa.Array, backend: str) -> Call:
    blocks = placed(raw(texts, backend), backend)
    return lambda: [segments.segments(v, o, backend=backend) for v, o in blocks]


def _passages(texts: pa.Array, backend: str) -> Call:
    blocks = placed((segments.segments(v, o) for v, o in raw(texts, backend)), backend)
    return lambda: [segments.passages(*block, PASSAGE_BYTES, backend=backend) for block in blocks]


def _units(texts: pa.Array, backend: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the logits of units of 20 tokens, and the first unit of every ten, block by block."""
    table, heads = _table()
    blocks = [bag.logits(ids, offsets, table, heads) for ids, offsets in _tokens(texts, backend, 20)]
    return [(block, np.append(np.arange(0, len(block), 10), len(block))) for block in blocks]


def _activate(texts: pa.Array, backend: str) -> Call:
    kind = [activations.SIGMOID] * (OUTPUTS - 3) + [activations.IDENTITY] * 3
    activation = place(activations.build_activation(kind, scale=0.8, low=-1, high=1), backend)
    blocks = placed(_units(texts, backend), backend)
    return lambda: [activations.activate(block, activation, backend=backend) for block, _ in blocks]


def _decide(texts: pa.Array, backend: str) -> Call:
    thresholds = place(np.full(OUTPUTS, 0.3, np.float32), backend)
    blocks = placed(_units(texts, backend), backend)
    return lambda: [activations.decide(block, thresholds, backend=backend) for block, _ in blocks]


def _aggregate(texts: pa.Array, backend: str) -> Call:
    made = ((block, first, np.full(len(block), 20, np.float32)) for block, first in _units(texts, backend))
    blocks = placed(made, backend)
    return lambda: [activations.aggregate(*block, backend=backend) for block in blocks]


def _series(texts: pa.Array, backend: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return two columns of the units' logits, such as valence and distress, as series of ten units, block by block."""
    return [(block[:, 0].copy(), block[:, 1].copy(), first) for block, first in _units(texts, backend)]


def _dynamics(texts: pa.Array, backend: str) -> Call:
    blocks = placed(((np.stack([a, b], 1), first) for a, b, first in _series(texts, backend)), backend)
    return lambda: [dynamics.dynamics(*block, backend=backend) for block in blocks]


def _correlation(texts: pa.Array, backend: str) -> Call:
    blocks = placed(_series(texts, backend), backend)
    return lambda: [dynamics.correlation(*block, backend=backend) for block in blocks]
