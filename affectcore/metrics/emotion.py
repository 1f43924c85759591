"""Scores of a model's heads: from the logits of passages or segments to columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from affectcore.kernels import activations, dispatch
from affectcore.metrics import distress, dynamics, taxonomy, tone

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from affectcore.models.base import Head, Model, Scored


_MOST = np.float32(20.0)
"""Beyond this, a passage's logit weighs no more or less in a document's (level `strongest`)."""


def neutral(head: Head) -> np.ndarray:
    """Return the scores of a text without words, float32 (k,): 1 for `neutral`, 0 for other labels and regressions.

    A regression whose range leaves 0 out gets the middle of its range; a single-label head without a `neutral` label
    gets equal probabilities; politeness, a scale between two ends, its middle.
    """
    if head.kind == "regression":
        middle = 0.0 if head.low <= 0 <= head.high else (head.low + head.high) / 2
        return np.full(len(head.labels), middle, np.float32)
    if head.kind == "single_label" and "neutral" not in head.labels:
        return np.full(len(head.labels), 1 / len(head.labels), np.float32)
    wordless = {"neutral": 1.0, **({head.name: tone.HEADS[head.name].wordless} if head.name in tone.HEADS else {})}
    return np.array([wordless.get(label, 0.0) for label in head.labels], np.float32)


class Layout(NamedTuple):
    """What some heads, side by side, make of k logits; arrays have a value for each of them."""

    bounds: tuple[tuple[int, int], ...]  # head h has the logits bounds[h][0]:bounds[h][1]
    columns: tuple[str, ...]
    logits: dict[str, int]  # names of the columns of logits that are written
    hidden: np.ndarray  # int64: logits of hidden heads
    activation: activations.Activation
    of_passages: np.ndarray  # int64: logits of heads of level `passage`
    passages: activations.Activation  # of those alone
    strongest: np.ndarray  # int64: logits of heads of level `strongest`
    neutral: np.ndarray  # float32 (k,)


@lru_cache(maxsize=32)
def layout(heads: tuple[Head, ...]) -> Layout:
    """Lay out heads side by side."""
    sizes = [len(head.labels) for head in heads]
    ends = np.cumsum(sizes).tolist()
    bounds = tuple(zip([0, *ends], ends))
    levels = np.repeat([head.level for head in heads], sizes)
    in_passages = [head for head in heads if head.level == "passage"]
    return Layout(
        bounds=bounds,
        columns=tuple(column for head in heads for column in head.columns),
        logits={
            name: k
            for head, (begin, _) in zip(heads, bounds)
            if not head.hidden
            for k, name in enumerate(head.logit_columns, begin)
        },
        hidden=np.flatnonzero(np.repeat([head.hidden for head in heads], sizes)),
        activation=_activation(heads),
        of_passages=np.flatnonzero(levels == "passage"),
        passages=_activation(in_passages),
        strongest=np.flatnonzero(levels == "strongest"),
        neutral=np.concatenate([neutral(head) for head in heads]) if heads else np.empty(0, np.float32),
    )


def _activation(heads: Sequence[Head]) -> activations.Activation:
    """Return the activations of heads, side by side."""
    kinds = {"multi_label": activations.SIGMOID, "single_label": activations.SOFTMAX}
    sizes = [len(head.labels) for head in heads]

    def spread(per_head: Sequence[Any], dtype: Any) -> np.ndarray:
        return np.repeat(np.array(per_head, dtype), sizes)

    none = [np.empty(0, np.float32)]
    return activations.Activation(
        kind=spread([kinds.get(head.kind, activations.IDENTITY) for head in heads], np.uint8),
        group=spread(range(len(heads)), np.int32),
        scale=np.concatenate([head.scale for head in heads] or none),
        shift=np.concatenate([head.shift for head in heads] or none),
        low=spread([head.low for head in heads], np.float32),
        high=spread([head.high for head in heads], np.float32),
    )


def _activate(logits: np.ndarray, how: activations.Activation, backend: str) -> np.ndarray:
    found: np.ndarray = dispatch.fetch(activations.activate(*dispatch.place((logits, how), backend), backend=backend))
    return found


def _aggregate(values: np.ndarray, first: np.ndarray, weight: np.ndarray, backend: str) -> np.ndarray:
    placed = dispatch.place((values, first, weight), backend)
    found: np.ndarray = dispatch.fetch(activations.aggregate(*placed, backend=backend))
    return found


class _Pooled(NamedTuple):
    logits: np.ndarray  # float32 (n, k), a row for each document or segment
    scores: np.ndarray  # float32 (n, k)
    units: np.ndarray | None  # float32: activated scores of each passage, of the heads of that level; None for segments
    weights: np.ndarray  # float32 (n_units,)
    silent: np.ndarray  # bool (n,): documents without words


def _pool(heads: tuple[Head, ...], scored: Scored, unit: str, backend: str) -> _Pooled:
    from affectcore.kernels import segments
    from affectcore.models.base import weights

    place = layout(heads)
    weight = weights(scored)
    if unit == "segment":
        blank = scored.kind != segments.TEXT
        raw = np.array(scored.logits)
        whole = _activate(raw, place.activation, backend)
        raw[blank] = whole[blank] = np.nan
        return _Pooled(raw, whole, None, weight, np.zeros(len(raw), bool))
    total = np.concatenate([[0], np.cumsum(weight, dtype=np.float64)])[scored.first]
    silent = total[1:] == total[:-1]
    raw = _aggregate(scored.logits, scored.first, weight, backend)
    if len(place.strongest):
        loud = np.ascontiguousarray(scored.logits[:, place.strongest])
        raw[:, place.strongest] = strongest(loud, scored.first, weight, backend)
    whole = _activate(raw, place.activation, backend)
    own = np.ascontiguousarray(scored.logits[:, place.of_passages])
    units = _activate(own, place.passages, backend)
    if len(place.of_passages):
        whole[:, place.of_passages] = _aggregate(units, scored.first, weight, backend)
    whole[silent] = place.neutral
    return _Pooled(raw, whole, units, weight, silent)


def scores(
    heads: Sequence[Head], scored: Scored, unit: str = "document", backend: str = "numba"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the logits and the activated scores of each head, float32 (n, k) each.

    For `document`, the units are averaged, weighted by their tokens; code, quotes, tables and URLs do not count. A head
    of level `passage` is activated for each unit first, so that its score is the share of the text that expresses a
    label, and does not fade as a document grows; of level `document`, its logits are averaged first, as it was trained;
    of level `strongest`, units weigh by the exponential of their logit as well (`affectcore.models.base.Head`). Logits
    of the other levels are plain averages. For `segment`, every unit is a row, and other kinds than text have NaN
    scores. So have rows whose logits are NaN, since the network's weights are not finite.

    Parameters
    ----------
    heads, scored
        Heads, and the logits of all of them, side by side.
    unit, backend
        As in `score`.
    """
    pooled = _pool(tuple(heads), scored, unit, backend)
    for begin, end in layout(tuple(heads)).bounds:
        yield pooled.logits[:, begin:end], pooled.scores[:, begin:end]


def of_units(head: Head, logits: np.ndarray, backend: str = "numba") -> np.ndarray:
    """Return a head's activated scores of every unit, from its own logits, float32 (n_units, k) both."""
    own = layout((head,)).activation
    found: np.ndarray = _activate(np.ascontiguousarray(logits), own, backend)
    return found


def strongest(logits: np.ndarray, first: np.ndarray, weight: np.ndarray, backend: str = "numba") -> np.ndarray:
    """Pool the logits of units to those of documents by strength: sum(w exp(l) l) / sum(w exp(l)).

    Parameters
    ----------
    logits
        float32 (n_units, k); in the exponent they are clipped to -20 to 20.
    first, weight, backend
        As in `affectcore.kernels.activations.aggregate`.

    Returns
    -------
    numpy.ndarray
        float32 (n, k); NaN where the weights sum to 0, and where a unit that weighs has NaN.
    """
    power = np.exp(np.clip(logits, -_MOST, _MOST))
    both = np.concatenate([power * logits, power], axis=1)
    mean = _aggregate(both, first, weight, backend)
    k = logits.shape[1]
    return np.ascontiguousarray(mean[:, :k] / mean[:, k:])


def score(
    values: np.ndarray,
    offsets: np.ndarray,
    names: Collection[str],
    model: Model,
    *,
    unit: str = "document",
    backend: str = "numba",
    logits: bool = False,
    pool: ThreadPoolExecutor | None = None,
    rates: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Compute a model's columns of ragged text.

    Parameters
    ----------
    values, offsets
        Ragged text: uint8 (n_bytes,), int64 (n + 1,).
    names
        Columns wanted, the logits of hidden heads among them by the names of their columns; others may be returned.
    model
        The model.
    unit
        `document` or `segment`.
    backend
        `reference`, `numba` or `triton`.
    logits
        Also return the logits, as `Head.logit_columns`: NaN where a text has no words.
    pool
        Threads that an encoder may use; default: the calling one.
    rates
        Rates per 100 words that distress needs (`affectcore.metrics.distress`): float32, one per document or segment.

    Returns
    -------
    dict
        Column name to float32 or int32, one value per document or segment; NaN where there is no value.

    Raises
    ------
    ValueError
        If distress is wanted and a rate is missing.
    """
    scored = model.score(values, offsets, "segment" if unit == "segment" else "passage", backend, pool)
    wanted = frozenset(names)
    heads = tuple(model.heads)
    place = layout(heads)
    pooled = _pool(heads, scored, unit, backend)
    parts = set(model.distress.weights) if model.distress and distress.asked(wanted) else set()
    shown = pooled.scores.T.copy()  # columns of their own
    shown[place.hidden] = pooled.logits.T[place.hidden]
    out = dict(zip(place.columns, shown))
    if logits:
        out |= {name: np.ascontiguousarray(pooled.logits[:, k]) for name, k in place.logits.items()}
    for name, entry in taxonomy.TAXONOMIES.items():
        if not wanted.isdisjoint(entry.columns):
            emotions = np.stack([out[f"emotion_{label}"] for label in taxonomy.GOEMOTIONS], axis=1)
            out.update(zip(entry.columns, np.ascontiguousarray(taxonomy.convert(emotions, name).T)))
    known = rates or {}
    if parts:
        out["distress"] = distress.index({**known, **out}, model)
        if unit != "segment":
            out["distress"][pooled.silent] = 0.0
    if unit != "segment":
        moving = [m for m in dynamics.SCORES if not dynamics.names(m).isdisjoint(wanted)]
        if moving:
            out |= _courses(moving, model, scored, pooled, known, backend)
    if unit == "segment":
        out["n_segments"] = np.ones(len(scored.kind), np.int32)
        out["n_tokens"] = scored.n_tokens.astype(np.int32)
    else:
        ends = np.concatenate([[0], np.cumsum(scored.n_tokens)])
        of_documents = ends[scored.first]
        total = of_documents[1:] - of_documents[:-1] if scored.n_total is None else scored.n_total
        out["n_segments"] = scored.n_segments.astype(np.int32)
        out["n_tokens"] = total.astype(np.int32)
    if scored.n_excluded is not None:
        out["n_excluded_bytes"] = scored.n_excluded.astype(np.int32)
    if scored.truncated is not None:
        rows = len(out["n_tokens"])
        out["truncated"] = (scored.truncated if unit != "segment" else np.zeros(rows)).astype(np.int32)
    return out


class _PassageColumn(NamedTuple):
    column: str
    logit: int
    place: int | None  # in `_Pooled.units`; None for a hidden head, whose logit counts as it is
    head: Head | None  # one of another level, whose passages have to be activated for this alone


@lru_cache(maxsize=32)
def _passage_columns(heads: tuple[Head, ...], features: frozenset[str]) -> tuple[_PassageColumn, ...]:
    """Name what `_courses` needs of each passage."""
    places = {int(k): i for i, k in enumerate(layout(heads).of_passages)}
    return tuple(
        _PassageColumn(
            column,
            k,
            None if head.hidden else places.get(k),
            None if head.hidden or k in places else head,
        )
        for head, (begin, _) in zip(heads, layout(heads).bounds)
        for k, column in enumerate(head.columns, begin)
        if column in features or (column == "valence" and not head.hidden)
    )


def _courses(
    moving: Sequence[str],
    model: Model,
    scored: Scored,
    pooled: _Pooled,
    rates: Mapping[str, np.ndarray],
    backend: str,
) -> dict[str, np.ndarray]:
    """Measure how valence and distress go along the passages of each document; those without tone are gaps.

    A passage's distress is that of its own emotions and hidden heads, with the rates of the whole document's words.
    """
    heads = tuple(model.heads)
    features = model.distress.weights if model.distress and "distress" in moving else {}
    series: dict[str, np.ndarray] = {}  # of each passage
    for column, k, place, head in _passage_columns(heads, frozenset(features)):
        if head is not None:
            begin, end = layout(heads).bounds[heads.index(head)]
            series[column] = of_units(head, scored.logits[:, begin:end], backend)[:, k - begin]
        elif place is None or pooled.units is None:
            series[column] = scored.logits[:, k]
        else:
            series[column] = pooled.units[:, place]
    spans = scored.first[1:] - scored.first[:-1]
    values = np.empty((len(scored.kind), len(moving)), np.float32)
    for k, name in enumerate(moving):
        if name == "distress":
            spread = {rate: np.repeat(values, spans) for rate, values in rates.items() if rate in features}
            values[:, k] = distress.index({**spread, **series}, model)
        else:
            values[:, k] = series[name]
    values[pooled.weights == 0] = np.nan
    return dynamics.columns(moving, values, scored.first, backend)
