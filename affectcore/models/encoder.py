"""Encoder models: BERT-type classifiers, our own `mini` and any checkpoint of Hugging Face's layout."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from affectcore.arrow import blocks, ragged
from affectcore.errors import TextError, UsageError
from affectcore.forks import counting, loading
from affectcore.kernels import activations, dispatch, encoder, segments
from affectcore.models import checkpoint
from affectcore.models.base import PASSAGE_BYTES, Head, Model, Scored, weights
from affectcore.pipeline.batching import Bundle, assemble, bundles, stream, unique
from affectcore.settings import usable_cores

Long = Literal["segment", "window", "truncate", "error"]
PRECISIONS = ("auto", "fp32", "bf16", "int8")
LONG: tuple[str, ...] = get_args(Long)
BUDGET = {"numba": 512, "reference": 512, "triton": 65536}
"""Tokens in a bundle, at most: on a CPU what its caches hold; on a GPU enough to outlast their launches."""
SHARES = 16
"""Bundles that a call is dealt into at least, where they would not be tiny, so that threads end at about one time."""
SMALLEST = 64
_SAMPLE = (
    "Thank you so much, this made my whole week!",
    "I am sorry, but I cannot help with that request.",
    "The function returns None because the list is empty; check line 42 first.",
    "What a mess. I have tried everything and nothing works, I feel like giving up...",
    "Sure! Here are three ideas: (1) bake bread, (2) write a letter, (3) call your sister.",
    "The treaty was signed in 1848, and the border has not moved since.",
    "why would you even say that?? leave me alone",
    "As far as I know, most studies suggest a small effect, although the samples were rather few.",
)
_WEIGHTS = 10_600_000
"""Weights of a MiniLM's linear layers, which a thread does about 128 KiB of text with in some seconds."""
OVERLAP = 8
"""Windows share up to this part of their tokens with the one before."""
_SPACES = np.isin(np.arange(256), list(b" \t\n\v\f\r"))


@dataclass
class Report:
    """What a model did since it was loaded: counts, and seconds of work in each stage, summed over threads."""

    n_texts: int = 0
    n_sequences: int = 0  # asked for
    n_computed: int = 0  # computed: identical ones are computed once
    n_tokens: int = 0  # computed, special tokens included
    n_padded: int = 0  # of padding: always 0
    tokenize: float = 0.0
    pack: float = 0.0
    compute: float = 0.0

    def add(self, **amounts: float) -> None:
        """Add to the counts."""
        with counting:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def shares(self) -> dict[str, float]:
        """Return the share of each stage in the time of all."""
        total = self.tokenize + self.pack + self.compute
        return {name: getattr(self, name) / total if total else 0.0 for name in ("tokenize", "pack", "compute")}

    @property
    def padded_share(self) -> float:
        """The share of padding in the tokens computed."""
        return self.n_padded / self.n_tokens if self.n_tokens else 0.0


def _before_spaces(values: np.ndarray, bounds: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Move bounds of segments, but for those numbered in `fixed`, in front of the white space before them.

    Many tokenizers take a word and the space before it for one: so cut, segments have the tokens of the whole text.
    """
    out = bounds.copy()
    at = np.setdiff1d(np.arange(len(bounds)), fixed)
    while len(at):
        at = at[(out[at] > bounds[at - 1]) & _SPACES[values[out[at] - 1]]]
        out[at] -= 1
    return out


class Encoder(Model):
    """A transformer encoder with a pooled head; long documents are scored passage by passage.

    Parameters
    ----------
    parts
        Network, tokenizer and limits.
    heads
        Its heads, on the features that enter the last layer.
    name, content_hash
        What provenance says.
    default_precision
        What `auto` means where the CPU can do it.
    precision
        `auto`, `fp32` (the numbers of transformers), `bf16` or `int8`.
    long
        What becomes of documents: `segment` cuts every document into passages; `window` into windows as long as the
        model allows, which end where segments end and overlap; `truncate` keeps the beginning of a longer one; `error`
        refuses it.
    """

    def __init__(
        self,
        parts: checkpoint.Encoder,
        heads: Sequence[Head],
        name: str,
        content_hash: str,
        default_precision: str = "fp32",
        precision: str = "auto",
        long: str = "segment",
    ) -> None:
        self.parts = parts
        self.heads = tuple(heads)
        self.name = name
        self.content_hash = content_hash
        self.long = long
        self.precision = precision
        self.report = Report()
        self._default = default_precision
        self._bodies: dict[tuple[str, str], Any] = {}  # shared with models of other heads
        self._heads: dict[tuple[str, str], Any] = {}

    deals = True

    @property
    def batch_bytes(self) -> int:  # type: ignore[override]
        """Text that is scored in one go: some seconds' worth for one thread, so that a run can be interrupted."""
        layers = self.parts.network.layers
        n_weights = sum(part.weight.size for layer in layers for part in (layer.qkv, layer.out, layer.up, layer.down))
        return int(np.clip((1 << 17) * _WEIGHTS // max(n_weights, 1), 1 << 13, 1 << 17))

    def settings(self, backend: str) -> dict[str, str]:
        """Return what else its scores depend on, for provenance."""
        return {"precision": self.precision_on(backend), "long": self.long}

    def with_heads(self, heads: Sequence[Head], name: str, content_hash: str) -> Encoder:
        """Return this model with other heads; the network is shared."""
        return self._copy(heads=tuple(heads), name=name, content_hash=content_hash, reheaded=True, _heads={})

    def configured(self, precision: str = "auto", long: str = "segment") -> Encoder:
        """Return this model with other settings; see the class.

        Raises
        ------
        UsageError
            If there is no such setting, or this CPU cannot do the precision.
        """
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}: there are {', '.join(PRECISIONS)}")
        if long not in LONG:
            raise UsageError(f"unknown way with long texts {long!r}: there are {', '.join(LONG)}")
        counts = (*Model.counts, "truncated") if long == "truncate" else Model.counts
        return self._copy(precision=precision, long=long, counts=counts, report=Report(), _heads=dict(self._heads))

    def _changes(self) -> dict[str, Any]:
        return {**super()._changes(), "configured": (self.precision, self.long)}

    @property
    def width(self) -> int:
        """The number of features, which the heads see."""
        return int(self.parts.network.head.out.weight.shape[1])

    @property
    def limit(self) -> int:
        """The most tokens of a sequence, without special ones."""
        tokenizer = self.parts.tokenizer
        return self.parts.max_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)

    def precision_on(self, backend: str) -> encoder.Precision:
        """Return the precision that a backend computes in."""
        if self.precision != "auto":
            return self.precision  # type: ignore[return-value]
        wanted: Any = "bf16" if self._default == "int8" and backend == "triton" else self._default
        return wanted if wanted in encoder.precisions(backend) else "fp32"

    def network(self, backend: str) -> Any:
        """Return the network as `backend` takes it, with this model's heads."""
        key = backend, self.precision_on(backend)
        with loading:
            try:
                if key not in self._bodies:
                    network, sample = self.parts.network, self._sample() if key[1] == "int8" else None
                    self._bodies[key] = encoder.prepare(network, key[1], sample=sample, backend=backend)
                if key not in self._heads:
                    head = replace(self.parts.network.head, out=checkpoint.side_by_side(self.heads).out)
                    self._heads[key] = encoder.prepare(head, key[1], backend=backend)
            except ValueError as error:
                raise UsageError(f"precision {key[1]}: {error}") from None
            return replace(self._bodies[key], head=self._heads[key])

    def _sample(self) -> Bundle:
        """Tokenize what the kernels look at to find the range of each channel."""
        lines = [line.encode() for line in _SAMPLE]
        offsets = np.cumsum([0, *map(len, lines)], dtype=np.int64)
        tokenizer = self.parts.tokenizer
        ids, cuts = tokenizer.encode(np.frombuffer(b"".join(lines), np.uint8), offsets)
        ends = np.minimum(cuts[1:], cuts[:-1] + self.limit)
        return assemble(ids, cuts[:-1], ends, tokenizer.prefix, tokenizer.suffix, self.parts.positions)

    def score(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        unit: str = "passage",
        backend: str = "numba",
        pool: ThreadPoolExecutor | None = None,
    ) -> Scored:
        """Compute the logits of all heads, side by side, for every unit of some documents.

        Parameters
        ----------
        values, offsets
            Ragged text: uint8 (n_bytes,), int64 (n + 1,).
        unit
            `segment`: every segment for itself; `passage`: what `long` makes of documents.
        backend
            `reference`, `numba` or `triton`.
        pool
            Threads to compute with; default: the calling one.

        Raises
        ------
        TextError
            If `long` is `error` and a document is too long: it says which.
        """
        started = time.perf_counter()
        long = "segment" if unit == "segment" else self.long
        place = dispatch.place((values, offsets), backend)
        found = segments.segments(*place, backend=backend)
        n_segments = np.diff(dispatch.fetch(found.first))
        found, n_excluded = self.toned(found, unit, backend)
        if long == "segment" and unit != "segment":
            found = segments.passages(*found, PASSAGE_BYTES, backend=backend)
        found = dispatch.fetch(found)
        first, kind, marks = found.first, found.kind, None
        bounds = offsets if long in ("truncate", "error") else found.offsets
        if long == "window" and self.parts.tokenizer.runs != "wordpiece":
            bounds = _before_spaces(values, bounds, first)
        ids, cuts = self._tokenize(values, bounds, backend, trim=long == "segment")
        if long != "segment":  # units are documents
            first, kind = np.arange(len(offsets)), np.full(len(offsets) - 1, segments.TEXT, np.uint8)
            n_excluded = np.zeros_like(n_excluded)
            if long == "window":
                marks, cuts = cuts, cuts[found.first]
        n_tokens = np.diff(cuts)
        over = n_tokens > self.limit
        if long == "error" and over.any():
            row = int(np.argmax(over))
            raise TextError(
                row,
                f"it has {n_tokens[row]:,} tokens, and {self.name} takes {self.limit:,} at once",
                "let long texts be cut: --long segment, window or truncate instead of error",
            )
        starts, ends = cuts[:-1], cuts[1:]
        owner = np.arange(len(n_tokens))
        if long == "truncate":
            ends = np.minimum(ends, starts + self.limit)
        elif over.any():
            starts, ends, owner = self._windows(cuts, over, marks)
        self.report.add(n_texts=len(offsets) - 1, tokenize=time.perf_counter() - started)
        wanted = kind[owner] == segments.TEXT
        logits = np.zeros((len(owner), sum(len(h.labels) for h in self.heads)), np.float32)
        logits[wanted] = self._compute(ids, starts[wanted], ends[wanted], backend, pool)
        logits[~np.isfinite(logits)] = np.nan  # an infinite logit is no more of a score than none
        total = np.concatenate([[0], np.cumsum(n_tokens)])
        if unit == "segment" and len(owner) > len(n_tokens):  # a row for each, of whatever length
            bounds = np.searchsorted(owner, np.arange(len(n_tokens) + 1))
            logits = activations.aggregate(logits, bounds, (ends - starts).astype(np.float32), backend="numba")
        elif unit != "segment":
            first = np.searchsorted(owner, first)
            kind, n_tokens = kind[owner], ends - starts
        return Scored(
            logits,
            first,
            kind,
            n_tokens,
            n_segments,
            n_total=np.diff(total[found.first] if long == "segment" else total),
            truncated=over & (long == "truncate"),
            n_excluded=n_excluded,
        )

    def _tokenize(
        self, values: np.ndarray, bounds: np.ndarray, backend: str, trim: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize units, a block of text after the other: text takes more room as tokens."""
        encode = self.parts.tokenizer.encode
        parts = [encode(values, bounds[a : b + 1], backend, trim=trim) for a, b in blocks(bounds, backend)]
        ids = np.concatenate([ids for ids, _ in parts] or [np.empty(0, np.int32)])
        counts = np.concatenate([np.diff(cuts) for _, cuts in parts] or [np.empty(0, np.int64)])
        return ids, np.concatenate([[0], np.cumsum(counts)])

    def _windows(
        self, cuts: np.ndarray, over: np.ndarray, marks: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut units that are too long: starts and ends of pieces, and the unit of each.

        With `marks`, tokens at which segments end, windows end there if they can, and begin with what the one before
        ended with, a whole number of segments. Without, they touch.
        """
        starts: list[int] = []
        ends: list[int] = []
        owner: list[int] = []
        for unit, (begin, end) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist())):
            reached = begin
            while True:
                stop = end
                if over[unit] and end - begin > self.limit:
                    stop = begin + self.limit
                    if marks is not None:
                        mark = int(marks[np.searchsorted(marks, stop, side="right") - 1])
                        stop = mark if mark > begin else stop
                if begin < reached and stop <= reached:  # what is shared leaves no room for the next segment
                    begin = reached
                    continue
                starts.append(begin)
                ends.append(stop)
                owner.append(unit)
                if stop == end:
                    break
                following = reached = stop
                if marks is not None:
                    following = int(marks[np.searchsorted(marks, stop - self.limit // OVERLAP)])
                begin = following if begin < following <= stop else stop
        return np.array(starts, np.int64), np.array(ends, np.int64), np.array(owner, np.int64)

    def _compute(
        self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, backend: str, pool: ThreadPoolExecutor | None
    ) -> np.ndarray:
        """Return the logits of sequences, float32 (n, k); identical ones are computed once."""
        network = self.network(backend)
        began = time.perf_counter()
        tokenizer, positions = self.parts.tokenizer, self.parts.positions
        first, inverse = unique(ids, starts, ends)
        starts, ends = starts[first], ends[first]
        lengths = ends - starts + len(tokenizer.prefix) + len(tokenizer.suffix)
        budget = BUDGET[backend]
        if pool is not None:
            budget = min(budget, max(int(lengths.sum()) // SHARES, SMALLEST))
        dealt = bundles(lengths, budget)
        out = np.empty((len(first), sum(len(h.labels) for h in self.heads)), np.float32)
        self.report.add(pack=time.perf_counter() - began)

        def pack(part: np.ndarray) -> Bundle:
            began = time.perf_counter()
            packed = assemble(ids, starts[part], ends[part], tokenizer.prefix, tokenizer.suffix, positions)
            self.report.add(pack=time.perf_counter() - began)
            return packed

        def run(part: np.ndarray) -> None:
            packed = pack(part)
            began = time.perf_counter()
            out[part] = encoder.forward(packed.ids, packed.positions, packed.offsets, network, backend=backend)
            self.report.add(compute=time.perf_counter() - began)

        if backend == "triton":
            began = time.perf_counter()

            def forward(ids: Any, positions: Any, offsets: Any) -> Any:
                return encoder.forward(ids, positions, offsets, network, backend=backend)

            for part, logits in zip(dealt, stream(map(pack, dealt), forward)):
                out[part] = logits
            self.report.add(compute=time.perf_counter() - began)
        else:
            for _ in (pool.map if pool and len(dealt) > 1 else map)(run, dealt):
                pass
        self.report.add(n_sequences=len(inverse), n_computed=len(first), n_tokens=int(lengths.sum()))
        every: np.ndarray = out[inverse]
        return every

    def features(self, texts: pa.Array, backend: str = "numba") -> np.ndarray:
        """Return what the heads see: means over a text's units, weighted by their tokens."""
        eye, nothing = np.eye(self.width, dtype=np.float32), np.zeros(self.width, np.float32)
        head = Head("features", "regression", (), (), eye, nothing, nothing, nothing, nothing)
        head = replace(head, labels=tuple(map(str, range(self.width))))
        whole = self.with_heads([head], self.name, self.content_hash)
        out = np.zeros((len(texts), self.width), np.float32)
        for begin, end, scored in whole._scored(texts, backend):
            out[begin:end] = np.nan_to_num(
                activations.aggregate(scored.logits, scored.first, weights(scored), backend="numba")
            )
        return out

    def predict(
        self,
        texts: pa.Array,
        heads: Sequence[Head] | None = None,
        backend: str = "numba",
        threads: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the activated scores of whole texts; texts without any words get the heads' neutral scores."""
        from affectcore.metrics.emotion import scores

        model = self if heads is None else self.with_heads(heads, self.name, self.content_hash)
        parts: dict[str, list[np.ndarray]] = {
            head.name: [np.zeros((0, len(head.labels)), np.float32)] for head in model.heads
        }
        for _, _, scored in model._scored(texts, backend, threads):
            for head, (_, activated) in zip(model.heads, scores(model.heads, scored, backend="numba")):
                parts[head.name].append(activated)
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _scored(self, texts: pa.Array, backend: str, threads: int | None = None) -> Iterator[tuple[int, int, Scored]]:
        values, offsets = ragged(texts)
        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            for begin, end in blocks(offsets, backend):
                yield begin, end, self.score(values, offsets[begin : end + 1], backend=backend, pool=pool)
