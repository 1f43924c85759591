"""Scores of a model's heads: from the logits of passages or segments to columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from affectcore.kernels import activations
from affectcore.metrics import taxonomy

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from affectcore.models.base import Head, Model, Scored


def neutral(head: Head) -> np.ndarray:
    """Return the scores of a text without words, float32 (k,): 1 for `neutral`, 0 for other labels and regressions.

    A regression whose range leaves 0 out gets the middle of its range; a single-label head without a `neutral` label
    gets equal probabilities.
    """
    if head.kind == "regression":
        middle = 0.0 if head.low <= 0 <= head.high else (head.low + head.high) / 2
        return np.full(len(head.labels), middle, np.float32)
    if head.kind == "single_label" and "neutral" not in head.labels:
        return np.full(len(head.labels), 1 / len(head.labels), np.float32)
    return np.array([float(label == "neutral") for label in head.labels], np.float32)


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
    heads: Sequence[Head], scored: Scored, unit: str = "document", backend: str = "numba"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the logits and the activated scores of each head, float32 (n, k) each.

    For `document`, the units are averaged, weighted by their tokens; code, tables and URLs do not count. A head of
    level `passage` is activated for each unit first, so that its score is the share of the text that expresses a label,
    and does not fade as a document grows; of level `document`, its logits are averaged first, as it was trained. Logits
    are averaged either way. For `segment`, every unit is a row, and other kinds than text have NaN scores. So have rows
    whose logits are NaN, since the network's weights are not finite.
    """
    from affectcore.kernels import segments
    from affectcore.models.base import weights

    raw = scored.logits
    activated = activations.activate(raw, activation(heads), backend=backend)
    if unit == "segment":
        blank = scored.kind != segments.TEXT
        raw, activated = np.array(raw), np.array(activated)
        raw[blank] = activated[blank] = np.nan
        silent = np.zeros(len(raw), bool)
    else:
        weight = weights(scored)
        mean = activations.aggregate(raw, scored.first, weight, backend=backend)
        whole = activations.activate(mean, activation(heads), backend=backend)
        activated = activations.aggregate(activated, scored.first, weight, backend=backend)
        late = np.repeat([head.level == "document" for head in heads], [len(head.labels) for head in heads])
        activated[:, late] = whole[:, late]
        total = np.concatenate([[0], np.cumsum(weight, dtype=np.float64)])
        raw, silent = mean, np.diff(total[scored.first]) == 0
    begin = 0
    for head in heads:
        end = begin + len(head.labels)
        part = activated[:, begin:end]
        part[silent] = neutral(head)
        yield raw[:, begin:end], part
        begin = end


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
) -> dict[str, np.ndarray]:
    """Compute a model's columns of ragged text.

    Parameters
    ----------
    values, offsets
        Ragged text: uint8 (n_bytes,), int64 (n + 1,).
    names
        Columns wanted; others may be returned.
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

    Returns
    -------
    dict
        Column name to float32 or int32, one value per document or segment; NaN where there is no value.
    """
    scored = model.score(values, offsets, "segment" if unit == "segment" else "passage", backend, pool)
    out: dict[str, np.ndarray] = {}
    everything = any(name.split("_")[0] in taxonomy.TAXONOMIES for name in names)
    for head, (raw, activated) in zip(model.heads, scores(model.heads, scored, unit)):
        for k, (column, logit) in enumerate(zip(head.columns, head.logit_columns)):
            if everything or column in names:
                out[column] = np.ascontiguousarray(activated[:, k])
            if logits:
                out[logit] = np.ascontiguousarray(raw[:, k])
    for name, entry in taxonomy.TAXONOMIES.items():
        columns = [f"{name}_{label}" for label in entry.labels]
        if not set(columns).isdisjoint(names):
            emotions = np.stack([out[f"emotion_{label}"] for label in taxonomy.GOEMOTIONS], axis=1)
            out.update(zip(columns, np.ascontiguousarray(taxonomy.convert(emotions, name).T)))
    if unit == "segment":
        out["n_segments"] = np.ones(len(scored.kind), np.int32)
        out["n_tokens"] = scored.n_tokens.astype(np.int32)
    else:
        ends = np.concatenate([[0], np.cumsum(scored.n_tokens)])
        total = np.diff(ends[scored.first]) if scored.n_total is None else scored.n_total
        out["n_segments"] = scored.n_segments.astype(np.int32)
        out["n_tokens"] = total.astype(np.int32)
    if scored.truncated is not None:
        rows = len(out["n_tokens"])
        out["truncated"] = (scored.truncated if unit != "segment" else np.zeros(rows)).astype(np.int32)
    return out
