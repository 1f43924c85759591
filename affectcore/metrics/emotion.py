"""Scores of a model's heads: from the logits of passages or segments to columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affectcore.kernels import activations
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


def activation(heads: Sequence[Head]) -> activations.Activation:
    """Return the activations of heads, side by side."""
    kinds = {"multi_label": activations.SIGMOID, "single_label": activations.SOFTMAX}
    sizes = [len(head.labels) for head in heads]

    def spread(per_head: Sequence[Any], dtype: Any) -> np.ndarray:
        return np.repeat(np.array(per_head, dtype), sizes)

    return activations.Activation(
        kind=spread([kinds.get(head.kind, activations.IDENTITY) for head in heads], np.uint8),
        group=spread(range(len(heads)), np.int32),
        scale=np.concatenate([head.scale for head in heads]),
        shift=np.concatenate([head.shift for head in heads]),
        low=spread([head.low for head in heads], np.float32),
        high=spread([head.high for head in heads], np.float32),
    )


def scores(
    heads: Sequence[Head],
    scored: Scored,
    unit: str = "document",
    backend: str = "numba",
    activated: Mapping[str, np.ndarray] | None = None,
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
    activated
        Activated scores of the units by name of the head, where they are known already.
    """
    from affectcore.kernels import segments
    from affectcore.models.base import weights

    raw, known = scored.logits, activated or {}
    if unit == "segment":
        blank = scored.kind != segments.TEXT
        raw = np.array(raw)
        whole = activations.activate(raw, activation(heads), backend=backend)
        raw[blank] = whole[blank] = np.nan
        silent = np.zeros(len(raw), bool)
    else:
        weight = weights(scored)
        silent = _silent(scored)
        raw = activations.aggregate(raw, scored.first, weight, backend=backend)
        loud = np.repeat([head.level == "strongest" for head in heads], [len(head.labels) for head in heads])
        if loud.any():
            raw[:, loud] = strongest(scored.logits[:, loud], scored.first, weight, backend)
        whole = activations.activate(raw, activation(heads), backend=backend)
    begin = 0
    for head in heads:
        end = begin + len(head.labels)
        part = whole[:, begin:end]
        if unit != "segment" and head.level == "passage":
            units = known[head.name] if head.name in known else of_units(head, scored.logits[:, begin:end], backend)
            part = activations.aggregate(units, scored.first, weight, backend=backend)
        part[silent] = neutral(head)
        yield raw[:, begin:end], part
        begin = end


def of_units(head: Head, logits: np.ndarray, backend: str = "numba") -> np.ndarray:
    """Return a head's activated scores of every unit, from its own logits, float32 (n_units, k) both."""
    found: np.ndarray = activations.activate(np.ascontiguousarray(logits), activation([head]), backend=backend)
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
    mean = activations.aggregate(both, first, weight, backend=backend)
    k = logits.shape[1]
    return np.ascontiguousarray(mean[:, :k] / mean[:, k:])


def _silent(scored: Scored) -> np.ndarray:
    """Tell which documents have no words, bool (n,)."""
    from affectcore.models.base import weights

    total = np.concatenate([[0], np.cumsum(weights(scored), dtype=np.float64)])
    silent: np.ndarray = np.diff(total[scored.first]) == 0
    return silent


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
    moving = [] if unit == "segment" else [m for m in dynamics.SCORES if dynamics.names(m).intersection(names)]
    parts = set(model.distress.weights) if model.distress and distress.asked(names) else set()
    wanted = parts.union(names)
    series: dict[str, np.ndarray] = {}  # of each unit: what goes along a document
    of: dict[str, np.ndarray] = {}
    begin = 0
    for head in model.heads if moving else ():
        end = begin + len(head.labels)
        own = scored.logits[:, begin:end]
        if head.hidden:
            series |= {c: own[:, k] for k, c in enumerate(head.columns) if c in parts and "distress" in moving}
        elif "valence" in head.columns or ("distress" in moving and parts.intersection(head.columns)):
            of[head.name] = of_units(head, own)
            series |= {c: of[head.name][:, k] for k, c in enumerate(head.columns) if c == "valence" or c in parts}
        begin = end

    out: dict[str, np.ndarray] = {}
    everything = any(name.split("_")[0] in taxonomy.TAXONOMIES for name in names)
    for head, (raw, activated) in zip(model.heads, scores(model.heads, scored, unit, activated=of)):
        for k, (column, logit) in enumerate(zip(head.columns, head.logit_columns)):
            if everything or column in wanted:
                out[column] = np.ascontiguousarray((raw if head.hidden else activated)[:, k])
            if logits and not head.hidden:
                out[logit] = np.ascontiguousarray(raw[:, k])
    for name, entry in taxonomy.TAXONOMIES.items():
        columns = [f"{name}_{label}" for label in entry.labels]
        if not set(columns).isdisjoint(names):
            emotions = np.stack([out[f"emotion_{label}"] for label in taxonomy.GOEMOTIONS], axis=1)
            out.update(zip(columns, np.ascontiguousarray(taxonomy.convert(emotions, name).T)))
    if parts:
        known = rates or {}
        out["distress"] = distress.index({**known, **out}, model)
        if unit != "segment":
            out["distress"][_silent(scored)] = 0.0
    for name in moving:
        out |= _course(name, series, scored, model, rates or {})
    if unit == "segment":
        out["n_segments"] = np.ones(len(scored.kind), np.int32)
        out["n_tokens"] = scored.n_tokens.astype(np.int32)
    else:
        ends = np.concatenate([[0], np.cumsum(scored.n_tokens)])
        total = np.diff(ends[scored.first]) if scored.n_total is None else scored.n_total
        out["n_segments"] = scored.n_segments.astype(np.int32)
        out["n_tokens"] = total.astype(np.int32)
    if scored.n_excluded is not None:
        out["n_excluded_bytes"] = scored.n_excluded.astype(np.int32)
    if scored.truncated is not None:
        rows = len(out["n_tokens"])
        out["truncated"] = (scored.truncated if unit != "segment" else np.zeros(rows)).astype(np.int32)
    return out


def _course(
    name: str, series: Mapping[str, np.ndarray], scored: Scored, model: Model, rates: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Measure how valence or distress goes along the passages of each document; those without tone are gaps.

    A passage's distress is that of its own emotions and hidden heads, with the rates of the whole document's words.
    """
    from affectcore.models.base import weights

    if name == "distress":
        owner = np.repeat(np.arange(len(scored.first) - 1), np.diff(scored.first))
        spread = {
            rate: values[owner] for rate, values in rates.items() if model.distress and rate in model.distress.weights
        }
        values = distress.index({**spread, **series}, model)
    else:
        values = np.array(series[name])
    values[weights(scored) == 0] = np.nan
    return dynamics.columns(name, values, scored.first)
