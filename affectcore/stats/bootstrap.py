"""Cluster bootstrap of means, for many models and metrics at once.

Rows that share a prompt (or a conversation) are not independent, so whole clusters are drawn, never single rows. Every
replicate draws as many clusters as there are, with replacement, and takes the ratio of summed values to counted values
per model. All models and metrics of a replicate see the same draw: a difference between two models is then taken prompt
by prompt, and its interval is not widened by prompts that are hard for both.

`kernels/resample` draws and adds up: cluster weights follow Multinomial(C, 1/C), from counter-based random numbers, so
replicates can be computed in any order, on any number of threads.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError
from affectcore.kernels import resample
from affectcore.settings import usable_cores

__all__ = [
    "Bootstrap",
    "check_confidence",
    "check_settings",
    "cluster_bootstrap",
    "expanded_interval",
    "interval",
    "normal_quantile",
    "rank_interval",
    "ranks",
    "t_quantile",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK = 64  # replicates a task: as many as the kernel adds up side by side
_TABLE_BYTES = 256 << 20  # models are taken together as long as their table stays below


@dataclass(frozen=True)
class Bootstrap:
    """Means per model and metric with their bootstrap replicates.

    Parameters
    ----------
    mean
        Means over all values, shape (models, metrics), float64; NaN where a model has no value.
    n_values
        Number of values behind each mean, shape (models, metrics), int64.
    n_clusters
        Number of clusters with at least one value, shape (models, metrics), int64.
    replicates
        Replicated means, shape (resamples, models, metrics), float64; NaN where a draw met no value of the model.
    paired
        True if models shared clusters and were resampled together, False if every cluster belongs to one model and
        models were resampled apart.
    """

    mean: Floats
    n_values: Ints
    n_clusters: Ints
    replicates: Floats
    paired: bool


def cluster_bootstrap(
    sums: ArrayLike,
    counts: ArrayLike,
    cluster: ArrayLike,
    model: ArrayLike,
    *,
    n_models: int | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    threads: int | None = None,
) -> Bootstrap:
    """Resample clusters and return the replicated mean of every model.

    The input has one cell per pair of model and cluster. Time is proportional to clusters x `n_resamples`: one or two
    nanoseconds each on one core, and about a tenth of one per model and metric. Memory is that of the cells and the
    replicates, and besides at most 256 MiB for a dense table of some models (more if that is too little for one) and 64
    MiB per thread.

    Parameters
    ----------
    sums
        Sum of the values in each cell, shape (cells,) or (cells, metrics).
    counts
        Number of values in each cell, same shape; nulls are left out of both.
    cluster
        Code of each cell's cluster, shape (cells,), integers from 0.
    model
        Code of each cell's model, shape (cells,), integers from 0.
    n_models
        Number of models; by default one more than the highest code.
    n_resamples
        Number of replicates.
    seed
        Seed of the draws: same input, same seed, same replicates to the last bit, whatever the number of threads.
    threads
        Threads to use; by default the usable cores.

    Returns
    -------
    Bootstrap

    Raises
    ------
    UsageError
        If shapes disagree, a code is negative, a pair of model and cluster comes twice, or `n_resamples` or `seed` is
        out of range.
    """
    s = np.asarray(sums, dtype=np.float64)
    c = np.asarray(counts, dtype=np.float64)
    cluster_codes = np.asarray(cluster, dtype=np.int64)
    model_codes = np.asarray(model, dtype=np.int64)
    if s.ndim == c.ndim == 1:
        s, c = s[:, None], c[:, None]
    if s.ndim != 2 or s.shape != c.shape or not len(s) == len(cluster_codes) == len(model_codes):
        raise UsageError(
            f"sums {s.shape}, counts {c.shape}, cluster {cluster_codes.shape} and model {model_codes.shape} "
            "must have one entry per cell"
        )
    if n_resamples < 1 or seed < 0:
        raise UsageError(f"n_resamples must be at least 1 and seed at least 0, not {n_resamples} and {seed}")
    if len(s) and (cluster_codes.min() < 0 or model_codes.min() < 0):
        raise UsageError("codes of clusters and models start at 0")
    models = int(model_codes.max(initial=-1)) + 1 if n_models is None else n_models
    if len(s) and model_codes.max() >= models:
        raise UsageError(f"a model's code is {int(model_codes.max())}, but there are only {models} models")

    order = np.lexsort((model_codes, cluster_codes))
    s, c, cluster_codes, model_codes = s[order], c[order], cluster_codes[order], model_codes[order]
    new_cluster = np.diff(cluster_codes, prepend=-1) != 0
    repeated = ~new_cluster & (np.diff(model_codes, prepend=-1) == 0)
    if repeated.any():
        raise UsageError("a pair of model and cluster comes more than once: add up its cells first")
    cluster_codes = np.cumsum(new_cluster) - 1  # dense, so that absent codes are no clusters
    n_clusters = int(new_cluster.sum())
    n_metrics = s.shape[1]

    total_s, total_c = np.zeros((models, n_metrics)), np.zeros((models, n_metrics))
    np.add.at(total_s, model_codes, s)
    np.add.at(total_c, model_codes, c)
    present = np.zeros((models, n_metrics), dtype=np.int64)
    np.add.at(present, model_codes, (c > 0).astype(np.int64))

    shared = n_clusters < len(s)
    replicates = np.full((n_resamples, models, n_metrics), np.nan)
    if shared:
        # Parts see the same draws: stream 0.
        width = max(1, _TABLE_BYTES // (16 * n_clusters * n_metrics))
        for low in range(0, models, width):
            part = slice(low, low + width)
            inside = (low <= model_codes) & (model_codes < low + width)
            at = cluster_codes[inside], model_codes[inside] - low
            table = np.zeros((n_clusters, 2, min(width, models - low), n_metrics))
            table[at[0], 0, at[1]], table[at[0], 1, at[1]] = s[inside], c[inside]
            replicates[:, part] = _replicated_means(table, n_resamples, seed, 0, threads)
    else:
        # No cluster has two models, so nothing pairs them: each model is a sample of its own, with a stream of its own.
        by_model = np.argsort(model_codes, kind="stable")
        for code, rows in enumerate(np.split(by_model, np.cumsum(np.bincount(model_codes, minlength=models))[:-1])):
            if len(rows):
                table = np.stack([s[rows], c[rows]], axis=1)
                replicates[:, code] = _replicated_means(table, n_resamples, seed, code + 1, threads)
    return Bootstrap(_ratio(total_s, total_c), total_c.astype(np.int64), present, replicates, shared)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    mean: Floats = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return mean


def _replicated_means(table: Floats, n_resamples: int, seed: int, stream: int, threads: int | None) -> Floats:
    """Return means (resamples, ...) of clusters drawn from a table (clusters, 2, ...) of sums and counts."""
    # SeedSequence takes seeds of any size, and gives streams keys that have nothing in common.
    key = int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)[0])
    values = table.reshape(len(table), -1)
    means = np.empty((n_resamples, *table.shape[2:]))

    def work(first: int) -> None:
        # The kernel lets go of the interpreter lock; a replicate depends on its number alone.
        part = means[first : first + _CHUNK]
        totals = resample.resample(values, len(part), key, first).reshape(len(part), *table.shape[1:])
        part[:] = _ratio(totals[:, 0], totals[:, 1])

    firsts = range(0, n_resamples, _CHUNK)
    with ThreadPoolExecutor(min(threads or usable_cores(), len(firsts))) as pool:
        try:
            for _ in pool.map(work, firsts):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for what runs, not for the rest
            raise
    return means


def interval(replicates: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the percentile interval of replicates.

    Parameters
    ----------
    replicates
        Replicates along the first axis, shape (resamples, ...); NaN entries are left out.
    confidence
        Share of the replicates between the two ends.

    Returns
    -------
    low, high
        Ends of the interval, shape (...), float64; NaN where all replicates are NaN.
    """
    tail = (1 - confidence) / 2
    if not np.isnan(replicates).any():
        low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
        return low, high
    flat = replicates.reshape(len(replicates), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        known = flat[~np.isnan(flat[:, column]), column]
        if len(known):
            ends[:, column] = np.quantile(known, [tail, 1 - tail])
    low, high = ends.reshape(2, *replicates.shape[1:])
    return low, high


def expanded_interval(replicates: Floats, n_clusters: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the expanded percentile interval of bootstrap replicates (Hesterberg 2015, American Statistician 69).

    The percentile interval of few clusters is too narrow twice over: replicates vary by the spread with divisor C
    where C - 1 is due, and their quantiles are those of a normal, not of a t distribution. It is widened by taking
    quantiles further out, Phi(-sqrt(C / (C - 1)) t) with the quantile t of C - 1 degrees of freedom instead of
    (1 - confidence) / 2. Of a symmetric mean that is the t interval; for large C the percentile interval.

    Parameters
    ----------
    replicates
        Shape (resamples, ...); NaN entries are left out.
    n_clusters
        Number of clusters behind each statistic, to be broadcast to shape (...).
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    low, high
        Shape (...), float64; NaN for fewer than 2 clusters.
    """
    shape = replicates.shape[1:]
    flat = replicates.reshape(len(replicates), -1)
    each = np.broadcast_to(np.asarray(n_clusters), shape).ravel()
    ends = np.full((2, flat.shape[1]), np.nan)
    for n in np.unique(each[each > 1]):
        tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(confidence, int(n) - 1))
        ends[:, each == n] = interval(flat[:, each == n], 1 - 2 * tail)
    low, high = ends.reshape(2, *shape)
    return low, high


def t_quantile(confidence: float, df: int) -> float:
    """Return the two-sided quantile of Student's t, without SciPy: at 95% to 0.2%, from 5 degrees of freedom to 0.02%.

    Exact for 1 and 2; else Abramowitz & Stegun 26.7.5, an expansion around the normal quantile.
    """
    check_confidence(confidence)
    if df <= 2:
        return math.tan(math.pi * confidence / 2) if df == 1 else confidence * math.sqrt(2 / (1 - confidence**2))
    z = normal_quantile(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(df) ** (i + 1) for i, term in enumerate(terms))


def normal_quantile(confidence: float) -> float:
    """Return the two-sided quantile of the normal distribution."""
    check_confidence(confidence)
    return NormalDist().inv_cdf((1 + confidence) / 2)


def check_confidence(confidence: float) -> None:
    """Raise UsageError unless it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, not {confidence:g}")


def check_settings(n_resamples: int, seed: int, confidence: float) -> None:
    """Raise UsageError for settings of a bootstrap that give no interval."""
    check_confidence(confidence)
    needed = math.ceil(2 / (1 - confidence) - 1e-9)
    if n_resamples < needed:
        raise UsageError(
            f"{n_resamples} replicates are too few for a {confidence * 100:g}% interval: use at least {needed}"
        )
    if seed < 0:
        raise UsageError(f"seed must be at least 0, not {seed}")


def ranks(values: ArrayLike, *, descending: bool = True) -> Ints:
    """Return ranks along the last axis: 1 is first, equal values share the better rank, NaN comes last.

    Parameters
    ----------
    values
        Any shape (..., models).
    descending
        True if the highest value is first.

    Returns
    -------
    ndarray of int64
        Ranks, same shape.
    """
    x = np.asarray(values, dtype=np.float64)
    keys = np.where(np.isnan(x), np.inf, -x if descending else x)
    order = np.argsort(keys, axis=-1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=-1)
    position = np.broadcast_to(np.arange(x.shape[-1]), x.shape)
    first = np.ones(x.shape, dtype=bool)
    first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    shared = np.maximum.accumulate(np.where(first, position, 0), axis=-1)
    result = np.empty(x.shape, dtype=np.int64)
    np.put_along_axis(result, order, shared + 1, axis=-1)
    return result


def rank_interval(replicates: Floats, confidence: float = 0.95, *, descending: bool = True) -> tuple[Ints, Ints]:
    """Return the interval of every model's rank over the replicates.

    Parameters
    ----------
    replicates
        Replicated means, shape (resamples, models).
    confidence
        Least share of the replicates between the two ends.
    descending
        True if the highest mean is first.

    Returns
    -------
    low, high
        Ends of the interval, shape (models,), int64; whole ranks, so the interval may hold more than `confidence`.
    """
    found: Any = np.sort(ranks(replicates, descending=descending), axis=0)
    # 1e-9 keeps rounding (0.025 * 2000 = 50.000000000000044) from moving an end by one replicate.
    skipped = math.floor((1 - confidence) / 2 * len(found) + 1e-9)
    skipped = min(skipped, (len(found) - 1) // 2)
    return found[skipped], found[len(found) - 1 - skipped]
