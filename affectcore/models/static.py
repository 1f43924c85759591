"""The static model: a bag of word-piece and hashed-bigram vectors with one hidden layer. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from affectcore.arrow import blocks, ragged
from affectcore.errors import InputError
from affectcore.forks import loading
from affectcore.kernels import activations, bag, dispatch, segments, wordpiece
from affectcore.models import affect, base, schema
from affectcore.models.base import PASSAGE_BYTES, Head, Model, Scored, weights
from affectcore.models.tokenizer_file import build, read_own


class Tables(NamedTuple):
    """What the kernels need, where their backend wants it."""

    tokenizer: Any
    bag: Any
    heads: Any


class Static(Model):
    """A bag of vectors: mean over a passage's word pieces and bigrams, weighted by learnt weights, and a hidden layer.

    Parameters
    ----------
    directory
        Model directory.
    record
        What its `affect.json` says.
    arrays
        What its `model.safetensors` holds.
    heads
        Its heads.

    Raises
    ------
    InputError
        If a file says what it may not, or the files do not go together.
    """

    def __init__(
        self, directory: Path, record: dict[str, Any], arrays: dict[str, np.ndarray], heads: tuple[Head, ...]
    ) -> None:
        self.directory = directory
        self.name = directory.name
        self.heads = heads
        self.content_hash = base.content_hash(directory)
        self.record = record
        self._arrays = arrays
        self._words = [_checked(directory, record, arrays, heads)]  # shared with models of other heads
        self._tables = lru_cache(maxsize=4)(self._load_tables)

    def with_heads(self, heads: Sequence[Head], name: str, content_hash: str) -> Static:
        """Return this model with other heads; the network is shared."""
        other = self._copy(heads=tuple(heads), name=name, content_hash=content_hash, reheaded=True)
        other._tables = lru_cache(maxsize=4)(other._load_tables)
        return other

    @property
    def width(self) -> int:
        """The number of frozen features: of the hidden layer, or of the pooled vectors where there is none."""
        return int(self._arrays["hidden_bias"].shape[0] or self._arrays["rows"].shape[1])

    def _load_tables(self, backend: str) -> Tables:
        rows = self._arrays["rows"]
        if isinstance(self._words[0], dict):
            self._words[0] = build(self.directory / "tokenizer.json", self._words[0])
        tables = Tables(
            self._words[0],
            bag.Bag(
                rows=bag.align(rows),
                gains=self._arrays["gains"].astype(np.float32),
                n_unigrams=np.array([self.record["network"]["n_unigrams"]], np.int32),
            ),
            bag.Heads(
                hidden=self._arrays["hidden"].astype(np.float32),
                hidden_bias=self._arrays["hidden_bias"].astype(np.float32),
                weight=np.ascontiguousarray(np.concatenate([h.weight for h in self.heads], axis=1)),
                bias=np.concatenate([h.bias for h in self.heads]),
            ),
        )
        return dispatch.place(tables, backend)  # type: ignore[no-any-return]

    def tables(self, backend: str) -> Tables:
        """Load the network once per backend."""
        with loading:
            return self._tables(backend)

    def score(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        unit: str = "passage",
        backend: str = "numba",
        pool: ThreadPoolExecutor | None = None,
    ) -> Scored:
        """Compute the logits of all heads, side by side, for every passage or segment of some documents.

        Parameters
        ----------
        values, offsets
            Ragged text: uint8 (n_bytes,), int64 (n + 1,).
        unit
            `passage`: consecutive sentences up to `PASSAGE_BYTES`; `segment`: every segment for itself.
        backend
            `reference`, `numba` or `triton`.
        pool
            Not used: callers cut text into blocks.
        """
        tables = self.tables(backend)
        values, offsets = dispatch.place((values, offsets), backend)
        found = segments.segments(values, offsets, backend=backend)
        first = dispatch.fetch(found.first)
        n_segments = first[1:] - first[:-1]
        found, n_excluded = self.toned(found, unit, backend)
        if unit == "passage":
            found = segments.passages(*found, PASSAGE_BYTES, backend=backend)
        cuts = dispatch.fetch(found.offsets)
        logits = np.empty((len(cuts) - 1, tables.heads.bias.shape[0]), np.float32)
        n_tokens = np.empty(len(cuts) - 1, np.int64)
        # One document can be a hundred times as long as a block: its tokens need not all be there at once.
        for begin, end in blocks(cuts, backend):
            tokens = wordpiece.wordpiece(
                values, found.offsets[begin : end + 1], tables.tokenizer, special=False, backend=backend
            )
            part = bag.logits(tokens.ids, tokens.offsets, tables.bag, tables.heads, backend=backend)
            logits[begin:end] = dispatch.fetch(part)
            ends = dispatch.fetch(tokens.offsets)
            n_tokens[begin:end] = ends[1:] - ends[:-1]
        first, kind = dispatch.fetch(found.first), dispatch.fetch(found.kind)
        return Scored(logits, first, kind, n_tokens, n_segments, n_excluded=n_excluded)

    def features(self, texts: pa.Array, backend: str = "numba") -> np.ndarray:
        """Return the values that the heads see: means over a text's passages, weighted by their tokens."""
        eye = np.eye(self.width, dtype=np.float32)
        nothing = np.zeros(self.width, np.float32)
        head = Head("features", "regression", (), (), eye, nothing, nothing, nothing, nothing)
        whole = self.with_heads([head], self.name, self.content_hash)
        values, offsets = ragged(texts)
        out = np.zeros((len(texts), self.width), np.float32)
        for begin, end in blocks(offsets, backend):
            scored = whole.score(values, offsets[begin : end + 1], backend=backend)
            mean = activations.aggregate(scored.logits, scored.first, weights(scored), backend="numba")
            out[begin:end] = np.nan_to_num(mean)
        return out

    def predict(
        self, texts: pa.Array, heads: Sequence[Head] | None = None, backend: str = "numba"
    ) -> dict[str, np.ndarray]:
        """Return the activated scores of whole texts; texts without any words get the heads' neutral scores."""
        from affectcore.metrics.emotion import scores

        model = self if heads is None else self.with_heads(heads, self.name, self.content_hash)
        values, offsets = ragged(texts)
        parts: dict[str, list[np.ndarray]] = {head.name: [] for head in model.heads}
        for begin, end in blocks(offsets, backend):
            scored = model.score(values, offsets[begin : end + 1], backend=backend)
            for head, (_, activated) in zip(model.heads, scores(model.heads, scored, backend="numba")):
                parts[head.name].append(activated)
        return {
            head.name: np.concatenate(parts[head.name]) if len(texts) else np.zeros((0, len(head.labels)), np.float32)
            for head in model.heads
        }


def _checked(directory: Path, record: dict[str, Any], arrays: dict[str, np.ndarray], heads: Sequence[Head]) -> Any:
    """Check the arrays, the tokenizer and the numbers that they share; return what `tokenizer.json` says."""
    path = directory / "model.safetensors"
    vocabulary, n_ids = read_own(directory / "tokenizer.json")
    n_unigrams = record["network"]["n_unigrams"]
    if n_unigrams != n_ids:
        reason = f"is {n_unigrams:,}, and tokenizer.json has {n_ids:,} tokens"
        schema.refuse(directory / "affect.json", reason, "network", "n_unigrams", remedy="copy all its files again")
    rows = affect.array(path, arrays, "rows", (None, None), "i")
    n_rows, d = rows.shape
    if not d or d % 16:
        raise InputError(path, f"array rows has {d} columns: it must be a multiple of 16", schema.AGAIN)
    buckets = n_rows - n_unigrams
    if buckets < 0 or buckets & (buckets - 1) or buckets > 1 << 31:
        what = f"{n_unigrams:,} of tokens, and behind them none of pairs or a power of two of them"
        raise InputError(path, f"array rows has {n_rows:,} rows: there must be {what}", schema.AGAIN)
    affect.array(path, arrays, "gains", (n_rows, 2))
    m = affect.array(path, arrays, "hidden", (d, None)).shape[1]
    affect.array(path, arrays, "hidden_bias", (m,))
    for head in heads:
        affect.array(path, arrays, f"heads.{head.name}.weight", (m or d, len(head.labels)))
    odd = sorted(name for name in arrays if name not in _ARRAYS and not name.startswith("heads."))
    if odd:
        raise InputError(path, f"array {odd[0]} belongs to no static model", schema.AGAIN)
    return vocabulary


_ARRAYS = ("rows", "gains", "hidden", "hidden_bias")
