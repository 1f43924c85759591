"""Two models on the same prompts: difference, effect sizes, tests, and Holm's correction for many of them.

The unit is the cluster (a prompt, a conversation), not the row: several samples of a prompt are averaged first, so that
repeated prompts add no false certainty and a prompt counts once however many samples it has. The mean difference is
therefore that of cluster means; where counts differ between clusters it is not the difference of the means over rows.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError

__all__ = [
    "MANY",
    "PairedComparison",
    "Unpaired",
    "cliffs_delta",
    "cluster_means",
    "compare_paired",
    "compare_unpaired",
    "holm",
    "sign_flip",
    "wilcoxon",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS = 1 << 22  # numbers of a table held at a time

MANY = 10_000
"""Differences from which on their sum under random signs is taken to be normal."""


def scipy(module: str) -> Any:
    """Return a module of SciPy, which is loaded when a statistic asks for it, or say how to get it."""
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError:
        raise UsageError("this statistic needs SciPy: pip install 'affectcore[stats]'") from None


@dataclass(frozen=True)
class PairedComparison:
    """How models x differ from models y over the clusters that both have; arrays of shape (k,), one entry per pair.

    Parameters
    ----------
    n_pairs
        Clusters with a value of both, int64.
    n_unpaired
        Clusters with a value of one only, which are left out, int64.
    difference
        Mean of x minus y over pairs.
    sd
        Standard deviation of x minus y over pairs, with n - 1: what `affectcore.stats.power` asks for.
    d_z
        Cohen's d of the differences, difference / sd (Cohen 1988): grows with the correlation within pairs.
    d_av
        difference / ((sd of x + sd of y) / 2) (Lakens 2013, Frontiers in Psychology 4:863, formula 10): on the scale of
        the scores' own spread, so that it can be held against d of unpaired samples.
    cliffs_delta
        Within-pair dominance, P(x > y) - P(x < y) (Cliff 1993, Psychological Bulletin 114; 1996), in [-1, 1].
    p_wilcoxon, p_permutation
        Two-sided p-values of `wilcoxon` and `sign_flip`, not corrected for their number (see `holm`).

    NaN is what the pairs do not tell: all but the counts without a pair, spreads and d of one pair, d where the spread
    is 0.
    """

    n_pairs: Ints
    n_unpaired: Ints
    difference: Floats
    sd: Floats
    d_z: Floats
    d_av: Floats
    cliffs_delta: Floats
    p_wilcoxon: Floats
    p_permutation: Floats


def cluster_means(values: ArrayLike, cluster: ArrayLike, n_clusters: int | None = None) -> Floats:
    """Return the mean of each cluster's values.

    Parameters
    ----------
    values
        Shape (n,) or (n, metrics); NaN is missing.
    cluster
        Code of each row's cluster, shape (n,), integers from 0.
    n_clusters
        Number of clusters; by default one more than the highest code.

    Returns
    -------
    ndarray of float64
        Shape (n_clusters,) or (n_clusters, metrics); NaN where a cluster has no value.

    Raises
    ------
    UsageError
        If shapes disagree, a code is out of range or a value is infinite.
    """
    v, code = _checked(values, "values"), np.asarray(cluster, np.int64)
    if v.ndim not in (1, 2) or code.shape != v.shape[:1]:
        raise UsageError(f"values {v.shape} and cluster {code.shape} must have one entry per row")
    n = int(code.max(initial=-1)) + 1 if n_clusters is None else n_clusters
    if len(code) and not 0 <= code.min() <= code.max() < n:
        raise UsageError(f"codes of clusters must lie in [0, {n}), not [{code.min()}, {code.max()}]")
    columns = _columns(v)
    out = np.empty((n, columns.shape[1]))
    for j, column in enumerate(columns.T):
        known = ~np.isnan(column)
        count = np.bincount(code[known], minlength=n)
        total = np.bincount(code[known], weights=column[known], minlength=n)
        out[:, j] = _divide(total, count)
    return out.reshape(n, *v.shape[1:])


@np.errstate(over="ignore", invalid="ignore")  # of values near the largest number: no figure, no warning
def compare_paired(
    x: ArrayLike, y: ArrayLike, *, n_resamples: int = 9999, seed: int = 0, rank_test: bool = True
) -> PairedComparison:
    """Compare models pair by pair.

    Parameters
    ----------
    x, y
        Cluster means, shape (clusters,) or (clusters, k), broadcast against each other, so that one y of shape
        (clusters, 1) serves many x; NaN is missing. Row i of both is the same cluster.
    n_resamples, seed
        As for `sign_flip`.
    rank_test
        False spares Wilcoxon's test, which needs SciPy; its p-values are then NaN.

    Returns
    -------
    PairedComparison
        Arrays of shape (k,); (1,) for one pair of models.

    Raises
    ------
    UsageError
        If shapes disagree, a value is infinite, an option is out of range, or SciPy is missing.
    """
    a, b = _columns(_checked(x, "x")), _columns(_checked(y, "y"))
    if len(a) != len(b) or (a.shape[1] != b.shape[1] and 1 not in (a.shape[1], b.shape[1])):
        raise UsageError(f"x {a.shape} and y {b.shape} must have one row per cluster, and as many columns")
    d = _rounded(a - b, np.fmax(np.abs(a), np.abs(b)))
    paired = ~np.isnan(d)
    n = paired.sum(axis=0)
    either = ~np.isnan(a) | ~np.isnan(b)
    difference, sd = _moments(d, paired)
    spread = sum(_moments(np.broadcast_to(v, d.shape), paired)[1] for v in (a, b)) / 2
    zero = np.where(paired, d, 0.0)
    return PairedComparison(
        n_pairs=n,
        n_unpaired=(either & ~paired).sum(axis=0),
        difference=difference,
        sd=sd,
        d_z=_divide(difference, sd),
        d_av=_divide(difference, spread),
        cliffs_delta=_divide(np.sign(zero).sum(axis=0), n),
        p_wilcoxon=wilcoxon(d) if rank_test else np.full(len(difference), np.nan),
        p_permutation=sign_flip(d, n_resamples=n_resamples, seed=seed),
    )


class Unpaired(NamedTuple):
    """How independent samples x differ from y."""

    d: float  # Cohen's d, (mean of x - mean of y) / root mean of both variances
    cliffs_delta: float
    p: float  # two-sided, of Mann and Whitney's test; NaN without SciPy


@np.errstate(over="ignore", invalid="ignore")  # of values near the largest number: no figure, no warning
def compare_unpaired(x: ArrayLike, y: ArrayLike) -> Unpaired:
    """Compare models that have no clusters in common, by their cluster means.

    Parameters
    ----------
    x, y
        Shapes (n,) and (m,); NaN is missing.

    Returns
    -------
    Unpaired
        NaN where either has less than two values, and d where neither varies.
    """
    a, b = (v[~np.isnan(v)] for v in (_checked(x, "x"), _checked(y, "y")))
    if min(len(a), len(b)) < 2:
        return Unpaired(math.nan, math.nan, math.nan)
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    try:
        p = float(scipy("stats").mannwhitneyu(a, b).pvalue)
    except UsageError:
        p = math.nan
    return Unpaired((a.mean() - b.mean()) / spread if spread > 0 else math.nan, cliffs_delta(a, b), p)


def cliffs_delta(x: ArrayLike, y: ArrayLike) -> float:
    """Return Cliff's delta of two independent samples, P(x > y) - P(x < y) over all pairs, in O(n log n).

    For models without common prompts; `compare_paired` has the one within pairs. (Cliff 1993, Psychological Bulletin
    114.) It is 2 AUROC - 1, and 2 U / (n m) - 1 with Mann and Whitney's U.

    Parameters
    ----------
    x, y
        Shapes (n,) and (m,); NaN is missing.

    Returns
    -------
    float
        In [-1, 1]; NaN if either has no value.
    """
    a, b = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    a, b = a[~np.isnan(a)], np.sort(b[~np.isnan(b)])
    if not len(a) or not len(b):
        return float("nan")
    below, up_to = np.searchsorted(b, a, "left"), np.searchsorted(b, a, "right")
    return float((below + up_to - len(b)).sum() / len(a) / len(b))


def wilcoxon(differences: ArrayLike) -> Floats:
    """Return the two-sided p-values of Wilcoxon's signed-rank test, from SciPy.

    Equal scores are common (rates of 0, clipped scores), and dropping them as Wilcoxon did would make few differences
    look like all. Pratt (1959, JASA 54) ranks them, too, and then drops their ranks. Up to 50 differences without ties
    and zeros, and up to 13 with them, the test is exact; else it is the normal approximation, corrected for ties.

    Parameters
    ----------
    differences
        Shape (clusters,) or (clusters, k); NaN is missing.

    Returns
    -------
    ndarray of float64
        Shape (k,); 1 where every difference is 0, NaN where there is none.
    """
    stats = scipy("stats")
    d = _columns(_checked(differences, "differences"))
    p = np.full(d.shape[1], np.nan)
    known = ~np.isnan(d)
    p[known.any(axis=0) & ~(np.abs(d) > 0).any(axis=0)] = 1.0
    moved = (np.abs(d) > 0).any(axis=0)
    # Together only where SciPy decides for the normal approximation anyway: it chooses the method once for a batch.
    together = moved & known.all(axis=0) & (len(d) > 50)
    if together.any():
        p[together] = stats.wilcoxon(d[:, together], zero_method="pratt", axis=0).pvalue
    for j in np.flatnonzero(moved & ~together):
        p[j] = stats.wilcoxon(d[known[:, j], j], zero_method="pratt").pvalue
    return p


def sign_flip(differences: ArrayLike, *, n_resamples: int = 9999, seed: int = 0) -> Floats:
    """Return the two-sided p-values of the sign-flip permutation test of a mean difference of 0.

    If the two models are exchangeable within clusters, every difference is as likely with the other sign. The p-value
    is (b + 1) / (m + 1), with b the number of the m random flips whose mean is at least as far from 0: never 0, and
    valid for any m (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39). Where there are no more than m flips in
    all, each is taken once instead and p is their exact share. Of more than `MANY` differences, p is that of the normal
    distribution that the flipped sums then have, with variance sum(d^2).

    Parameters
    ----------
    differences
        Shape (clusters,) or (clusters, k); NaN is missing. Columns share the flips.
    n_resamples
        Number of random flips, m.
    seed
        Seed of the flips: same input, same seed, same p-values.

    Returns
    -------
    ndarray of float64
        Shape (k,); NaN where there is no difference.

    Raises
    ------
    UsageError
        If a value is infinite, `n_resamples` is less than 1 or `seed` less than 0.
    """
    d = _columns(_checked(differences, "differences"))
    if n_resamples < 1 or seed < 0:
        raise UsageError(f"n_resamples must be at least 1 and seed at least 0, not {n_resamples} and {seed}")
    known = ~np.isnan(d)
    d = np.where(known, d, 0.0)
    n = len(d)
    total = d.sum(axis=0)
    least = np.abs(total) - 1e-12 * np.abs(d).sum(axis=0)  # rounding must not tell equal sums apart
    if n > MANY:
        spread = np.sqrt((d * d).sum(axis=0))
        z = np.divide(np.abs(total), spread, out=np.zeros(d.shape[1]), where=spread > 0)
        return np.where(known.any(axis=0), [math.erfc(v / math.sqrt(2)) for v in z], np.nan)
    exact = 2 ** min(n, 62) <= n_resamples
    flips = 2**n if exact else n_resamples
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    beyond = np.zeros(d.shape[1], np.int64)
    step = max(1, _CELLS // max(*d.shape, 1))
    for first in range(0, flips, step):
        rows = min(step, flips - first)
        if exact:
            kept = ((np.arange(first, first + rows)[:, None] >> np.arange(n)) & 1).astype(np.float64)
        else:
            bits = rng.integers(0, 256, (rows, -(-n // 8)), dtype=np.uint8)
            kept = np.unpackbits(bits, axis=1, count=n).astype(np.float64)
        beyond += (np.abs(2 * (kept @ d) - total) >= least).sum(axis=0)
    p = beyond / flips if exact else (beyond + 1) / (flips + 1)
    return np.where(known.any(axis=0), p, np.nan)


def holm(p: ArrayLike) -> Floats:
    """Return p-values corrected for their number by Holm's step-down method (1979, Scand. J. Statistics 6).

    With m p-values in ascending order, the i-th of them (from 0) becomes the largest of (m - j) p_j over j <= i, at
    most 1. The chance of one or more false findings among the m then stays below the level, however they depend on
    each other.

    Parameters
    ----------
    p
        Shape (..., m): a family along the last axis. NaN stays NaN and does not count.

    Returns
    -------
    ndarray of float64
        Same shape.

    Raises
    ------
    UsageError
        If a p-value lies outside [0, 1].
    """
    raw = np.asarray(p, np.float64)
    if not raw.ndim:
        raise UsageError("holm corrects families of p-values, not a single one")
    if ((raw < 0) | (raw > 1)).any():
        raise UsageError("p-values lie in [0, 1]")
    order = np.argsort(raw, axis=-1)  # NaN last
    ordered = np.take_along_axis(raw, order, axis=-1)
    left = (~np.isnan(raw)).sum(axis=-1, keepdims=True) - np.arange(raw.shape[-1])
    out = np.empty_like(raw)
    np.put_along_axis(out, order, np.minimum(np.maximum.accumulate(ordered * left, axis=-1), 1.0), axis=-1)
    return out


def _checked(values: ArrayLike, name: str) -> Floats:
    v = np.asarray(values, np.float64)
    if np.isinf(v).any():
        row = int(np.argwhere(np.isinf(v))[0, 0])
        raise UsageError(f"{name} must be finite, or NaN where missing: row {row} is infinite")
    return v


def _columns(values: Floats) -> Floats:
    if values.ndim not in (1, 2):
        raise UsageError(f"one or two dimensions are needed, clusters first, not shape {values.shape}")
    return values[:, None] if values.ndim == 1 else values


def _rounded(d: Floats, scale: Floats) -> Floats:
    """Round differences to 2^-40 of their column's largest score.

    0.3 - 0.2 and 0.2 - 0.1 are one number to Wilcoxon and to the eye, and two to the processor.
    """
    largest = np.fmax.reduce(scale, axis=0, initial=0.0)
    quantum = np.ldexp(1.0, np.frexp(largest)[1] - 40)
    return np.asarray(np.rint(d / quantum) * quantum)


def _divide(a: ArrayLike, b: ArrayLike) -> Floats:
    x, y = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    out: Floats = np.divide(x, y, out=np.full(x.shape, np.nan), where=y > 0)
    return out


def _moments(values: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the chosen values of each column; exactly 0 where they are all equal."""
    n = chosen.sum(axis=0)
    start = np.take_along_axis(values, chosen.argmax(axis=0)[None], axis=0) if len(values) else np.zeros((1, len(n)))
    shifted = np.where(chosen, values - start, 0.0)
    mean = _divide(shifted.sum(axis=0), n)
    with np.errstate(over="ignore"):  # of values that damage or a mistake made huge
        squares = np.where(chosen, (shifted - mean) ** 2, 0.0).sum(axis=0)
    return start[0] + mean, np.where(n > 1, np.sqrt(_divide(squares, n - 1)), np.nan)
