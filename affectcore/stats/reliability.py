"""How far a model agrees with itself, and how far its stated confidence agrees with the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError
from affectcore.stats.bootstrap import check_confidence, cluster_bootstrap, expanded_interval
from affectcore.stats.evaluation import BINS, Bin, Figure, reliability
from affectcore.stats.paired import scipy

__all__ = ["Consistency", "StatedConfidence", "consistency", "stated_confidence"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Consistency:
    """How alike several samples of one prompt are.

    Parameters
    ----------
    n_values, n_prompts, n_repeated
        Values, prompts with a value, and those of them with two or more.
    within_sd
        Standard deviation within prompts, pooled, in the metric's unit; None without a prompt that has two values.
    icc
        ICC(1): the correlation of two samples of one prompt; 1 if samples of a prompt never differ, about 0 if prompts
        do not. None for fewer than two prompts, no prompt with two values, or values that are all equal; without an
        interval where no prompt's samples differ.
    """

    n_values: int
    n_prompts: int
    n_repeated: int
    within_sd: float | None
    icc: Figure


def consistency(values: ArrayLike, prompt: ArrayLike, *, confidence: float = 0.95) -> Consistency:
    """Measure how alike samples of one prompt are, of one model and one metric.

    One-way random effects analysis of variance (Shrout & Fleiss 1979, Psychological Bulletin 86; McGraw & Wong 1996,
    Psychological Methods 1). With MSB and MSW the mean squares between and within prompts,

        ICC(1) = (MSB - MSW) / (MSB + (n0 - 1) MSW),   n0 = (N - sum n_i^2 / N) / (k - 1)

    where n0 is the number of samples per prompt, if all have the same (Donner & Koval 1980, Biometrics 36, for those
    that do not). The interval puts MSB / MSW over and under the quantiles of F in place of MSB / MSW; it is exact
    for normal values and equal numbers, near that for unequal ones. A negative ICC(1) is reported as it is.

    Parameters
    ----------
    values
        Shape (n,); NaN is missing.
    prompt
        Each row's prompt, shape (n,), integers.
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    Consistency

    Raises
    ------
    UsageError
        If shapes disagree, a value is infinite, `confidence` is out of range or SciPy is missing.
    """
    v, group = np.asarray(values, np.float64), np.asarray(prompt)
    if v.ndim != 1 or group.shape != v.shape:
        raise UsageError(f"values {v.shape} and prompt {group.shape} must have one entry per row")
    if np.isinf(v).any():
        raise UsageError(f"values must be finite, or NaN where missing: row {int(np.isinf(v).argmax())} is infinite")
    check_confidence(confidence)
    known = ~np.isnan(v)
    v = v[known]
    names, start, code = np.unique(group[known], return_index=True, return_inverse=True)
    count = np.bincount(code, minlength=len(names)).astype(np.float64)
    n, k, repeated = len(v), len(names), int((count > 1).sum())
    if not repeated:
        return Consistency(n, k, 0, None, Figure(None))

    def means(x: Floats) -> Floats:
        return np.bincount(code, weights=x, minlength=k) / count

    shifted = v - v[start][code]  # exactly 0 where samples do not differ
    within = float(((shifted - means(shifted)[code]) ** 2).sum()) / (n - k)
    if k < 2 or np.ptp(v) == 0:
        return Consistency(n, k, repeated, math.sqrt(within), Figure(None))
    mean = v[start] + means(shifted)
    between = float((count * (mean - count @ mean / n) ** 2).sum()) / (k - 1)
    size = (n - float(count @ count) / n) / (k - 1)
    if within == 0:
        return Consistency(n, k, repeated, 0.0, Figure(1.0))
    ratio = between / within
    stats = scipy("stats")
    tail = (1 - confidence) / 2
    # The upper tail of F with k - 1 and n - k degrees of freedom, and the lower one.
    ratios = (ratio, ratio / stats.f.isf(tail, k - 1, n - k), ratio / stats.f.ppf(tail, k - 1, n - k))
    icc, low, high = (float((f - 1) / (f + size - 1)) for f in ratios)
    return Consistency(n, k, repeated, math.sqrt(within), Figure(icc, low, high))


@dataclass(frozen=True)
class StatedConfidence:
    """How well stated confidences fit the answers; figures have bootstrap intervals.

    Parameters
    ----------
    n, n_missing, n_clusters
        Answers, those left out because confidence or outcome is missing, and clusters that were resampled.
    accuracy, stated
        Share of correct answers, and mean confidence: overconfident where `stated` is higher.
    ece, ece_equal_mass
        Expected calibration error: mean distance between mean confidence and share correct over 15 bins, weighted by
        answers (Naeini, Cooper & Hauskrecht 2015, AAAI); over bins of equal width, and of equal numbers of answers
        (equal confidences share a bin), which a model that always says 90 to 100% calls for (Nixon et al. 2019).
    brier
        Mean of (confidence - outcome)^2 (Brier 1950): 0 is best, 0.25 is had by always saying 50%.
    bins, bins_equal_mass
        Reliability tables; those of equal mass have the least and greatest confidence inside as ends.
    """

    n: int
    n_missing: int
    n_clusters: int
    accuracy: Figure
    stated: Figure
    ece: Figure
    ece_equal_mass: Figure
    brier: Figure
    bins: list[Bin]
    bins_equal_mass: list[Bin]


def stated_confidence(
    stated: ArrayLike,
    correct: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> StatedConfidence:
    """Compare the confidence that a model states with whether it is right.

    Parameters
    ----------
    stated
        Confidences in [0, 1], shape (n,); NaN is missing.
    correct
        1 for a correct answer, 0 for a wrong one, shape (n,); NaN is missing.
    cluster
        Each row's cluster (such as its question), shape (n,), integers; by default every row is one.
    n_resamples, seed
        Replicates of the bootstrap, and its seed.
    confidence
        Share of intervals that should cover the truth; `expanded_interval`. As in `evaluate`, replicates of the
        calibration errors are moved so that their mean is the estimate: resampling adds noise to bins.

    Returns
    -------
    StatedConfidence
        Figures are None without answers, and have no interval for fewer than two clusters. Bins stay as they are in
        all replicates.

    Raises
    ------
    UsageError
        If shapes disagree, a confidence lies outside [0, 1] or an outcome is neither 0 nor 1.
    """
    p, y = np.asarray(stated, np.float64), np.asarray(correct, np.float64)
    group = np.arange(p.size) if cluster is None else np.asarray(cluster)
    if p.ndim != 1 or y.shape != p.shape or group.shape != p.shape:
        raise UsageError(f"stated {p.shape}, correct {y.shape} and cluster {group.shape} must have one entry per row")
    known = ~np.isnan(p) & ~np.isnan(y)
    out_of_range = known & ((p < 0) | (p > 1))
    if out_of_range.any():
        row = int(out_of_range.argmax())
        raise UsageError(f"confidences lie in [0, 1], that of row {row} is {p[row]:g}: divide percentages by 100")
    odd = known & (y != 0) & (y != 1)
    if odd.any():
        raise UsageError(f"outcomes are 0 or 1, that of row {int(odd.argmax())} is {y[odd.argmax()]:g}")
    p, y = p[known], y[known]
    n, missing = len(p), int((~known).sum())
    if not n:
        none = Figure(None)
        return StatedConfidence(0, missing, 0, none, none, none, none, none, reliability(p, y), [])

    width = np.clip((p * BINS).astype(np.int64), 0, BINS - 1)  # as `reliability` has them
    mass = _equal_mass(p)
    names, code = np.unique(group[known], return_inverse=True)
    c = len(names)

    def per_cluster(weights: Floats, bins: Ints | int = 0, n_bins: int = 1) -> Floats:
        sums = np.bincount(code * n_bins + bins, weights=weights, minlength=c * n_bins)
        return np.asarray(sums, np.float64).reshape(c, n_bins)

    # All figures are sums over clusters, divided by the number of answers.
    table = np.concatenate(
        [
            per_cluster(np.ones(n)),
            per_cluster(y),
            per_cluster(p),
            per_cluster((p - y) ** 2),
            per_cluster(y - p, width, BINS),
            per_cluster(y - p, mass, BINS),
        ],
        axis=1,
    )

    def figures(sums: Floats) -> Floats:
        """Return accuracy, stated confidence, Brier score and both errors, shape (r, 5)."""
        share = sums[:, 1:] / sums[:, :1]
        errors = np.abs(share[:, 3:]).reshape(-1, 2, BINS).sum(axis=2)
        return np.concatenate([share[:, :3], errors], axis=1)

    value = figures(table.sum(axis=0, keepdims=True))[0]
    if c > 1:
        drawn = cluster_bootstrap(
            table,
            np.ones_like(table),
            np.arange(c),
            np.zeros(c, np.int64),
            n_models=1,
            n_resamples=n_resamples,
            seed=seed,
        )
        replicates = figures(drawn.replicates[:, 0])
        replicates[:, 3:] = np.maximum(replicates[:, 3:] - (replicates[:, 3:].mean(axis=0) - value[3:]), 0.0)
        low, high = expanded_interval(replicates, c, confidence)
        each = [Figure(float(v), float(a), float(b)) for v, a, b in zip(value, low, high)]
    else:
        each = [Figure(float(v)) for v in value]
    accuracy, mean, brier, ece, ece_equal_mass = each
    rows = [np.flatnonzero(mass == b) for b in np.unique(mass)]
    return StatedConfidence(
        n=n,
        n_missing=missing,
        n_clusters=c,
        accuracy=accuracy,
        stated=mean,
        ece=ece,
        ece_equal_mass=ece_equal_mass,
        brier=brier,
        bins=reliability(p, y),
        bins_equal_mass=[
            Bin(float(p[i].min()), float(p[i].max()), len(i), float(p[i].mean()), float(y[i].mean())) for i in rows
        ],
    )


def _equal_mass(p: Floats) -> Ints:
    """Return the bin of each value: by its rank, equal values by the middle of theirs."""
    _, code, count = np.unique(p, return_inverse=True, return_counts=True)
    twice_middle = 2 * np.cumsum(count) - count
    return np.asarray((twice_middle * BINS // (2 * len(p)))[code], np.int64)
