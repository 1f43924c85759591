"""How often, and how it goes by turn: rates over a threshold, survival until the first of them, slope, change-point.

Rows of a cluster (a prompt, a conversation) are not independent. Rates know it through the design effect, slopes and
change-points by resampling whole conversations. Slope and change-point compare the turns of a conversation with each
other only, that is, every conversation has a level of its own (fixed effects): conversations that end early then cannot
fake a trend. Where all have the same turns, that is the least-squares fit to the series of means by turn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError
from affectcore.stats.bootstrap import (
    check_confidence,
    cluster_bootstrap,
    expanded_interval,
    normal_quantile,
    t_quantile,
)
from affectcore.stats.evaluation import Figure
from affectcore.stats.paired import scipy

__all__ = [
    "ChangePoint",
    "Rates",
    "Survival",
    "Trend",
    "buckets",
    "change_point",
    "rates",
    "slope",
    "survival",
    "wilson",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS = 1 << 22  # numbers of a table held at a time


# Intervals


def wilson(n_over: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return Wilson's interval of shares (1927, JASA 22).

    Parameters
    ----------
    n_over, n
        Hits and trials, any shapes that broadcast; the trials are independent (else use `rates`).
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    low, high
        In [0, 1]; NaN where n is 0.

    Raises
    ------
    UsageError
        If there are more hits than trials, or fewer than 0.
    """
    k, trials = np.broadcast_arrays(np.asarray(n_over, np.float64), np.asarray(n, np.float64))
    if ((k < 0) | (k > trials)).any():
        raise UsageError("a rate needs 0 <= n_over <= n")
    return _wilson(_divide(k, trials), trials, np.full(k.shape, normal_quantile(confidence)))


def _wilson(share: Floats, n: Floats, z: Floats) -> tuple[Floats, Floats]:
    spread = n + z * z
    middle = _divide(n * share + z * z / 2, spread)
    half = _divide(z * np.sqrt(n * share * (1 - share) + z * z / 4), spread)
    # At 0 and 1 the ends are exact in theory and off by rounding in practice.
    low, high = np.where(share == 0, 0.0, middle - half), np.where(share == 1, 1.0, middle + half)
    return np.where(np.isnan(share), np.nan, low), np.where(np.isnan(share), np.nan, high)


# Rates


@dataclass(frozen=True)
class Rates:
    """Share of values at or over a threshold; arrays of shape (buckets,).

    Parameters
    ----------
    n, n_missing
        Rows with and without a value, int64.
    n_over
        Values of at least the threshold, int64.
    n_clusters
        Clusters with a value, int64; rows, where no clusters were given.
    rate
        n_over / n; NaN without values.
    low, high
        Wilson's interval of `n_effective` trials; NaN without values or of a single cluster.
    n_effective
        How many independent values would tell as much.
    n_outside
        Rows in no bucket (code -1).
    """

    n: Ints
    n_missing: Ints
    n_over: Ints
    n_clusters: Ints
    rate: Floats
    low: Floats
    high: Floats
    n_effective: Floats
    n_outside: int


def rates(
    values: ArrayLike,
    threshold: float,
    *,
    bucket: ArrayLike | None = None,
    n_buckets: int | None = None,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Rates:
    """Return the share of values at or over a threshold, by bucket, with intervals that know of clusters.

    With clusters, n is divided by the design effect: the variance of the share as a ratio of sums over clusters,
    C / (C - 1) sum (over_c - rate n_c)^2 / n^2, over that of n independent values, rate (1 - rate) / (n - 1) (Kish
    1965). Wilson's interval then takes this effective number, as Franco, Little, Louis & Slud (2019, J. Survey
    Statistics and Methodology 7) recommend, and the quantile of t with C - 1 degrees of freedom, after Korn &
    Graubard (1998, Survey Methodology 24). The effective number is n at most, and C where all or none are over, so that
    clusters cannot be seen to differ. Where the few values that are over come from a handful of clusters, intervals
    are still too short: no method sees the clusters that were not drawn.

    Parameters
    ----------
    values
        Shape (n,); NaN is missing.
    threshold
        A value counts from here on.
    bucket
        Code of each row's bucket (a turn, a range of context lengths: see `buckets`), shape (n,), from 0; -1 is none.
        By default all rows are one bucket.
    n_buckets
        Number of buckets; by default one more than the highest code.
    cluster
        Each row's prompt or conversation, shape (n,), integers. By default rows are independent.
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    Rates

    Raises
    ------
    UsageError
        If shapes disagree, or a code or `confidence` is out of range.
    """
    v = np.asarray(values, np.float64)
    at = np.zeros(v.shape, np.int64) if bucket is None else np.asarray(bucket, np.int64)
    group = np.arange(v.size) if cluster is None else np.asarray(cluster)
    if v.ndim != 1 or at.shape != v.shape or group.shape != v.shape:
        raise UsageError(f"values {v.shape}, bucket {at.shape} and cluster {group.shape} must have one entry per row")
    size = int(at.max(initial=-1 if bucket is not None else 0)) + 1 if n_buckets is None else n_buckets
    if len(at) and not -1 <= at.min() <= at.max() < size:
        raise UsageError(f"codes of buckets must lie in [-1, {size}), not [{at.min()}, {at.max()}]")
    inside, known = at >= 0, ~np.isnan(v)
    missing = np.bincount(at[inside & ~known], minlength=size)
    at, group, over = at[inside & known], group[inside & known], v[inside & known] >= threshold

    n = np.bincount(at, minlength=size)
    hits = np.bincount(at[over], minlength=size)
    rate = _divide(hits, n)
    if cluster is None:
        clusters, effective = n, n.astype(np.float64)
        quantile = np.full(size, normal_quantile(confidence))
    else:
        names, code = np.unique(group, return_inverse=True)
        cells, cell = np.unique(at * len(names) + code, return_inverse=True)
        home = cells // max(len(names), 1)
        clusters = np.bincount(home, minlength=size)
        surplus = _sums(cell, over - rate[at], len(home))
        square = _sums(home, surplus**2, size)
        # n / design effect = n rate (1 - rate) / (n - 1) / variance
        size_n = n.astype(np.float64)
        effective = size_n**3 * rate * (1 - rate) * (clusters - 1)
        effective = np.minimum(_divide(effective, (size_n - 1) * clusters * square, np.inf), size_n)
        effective = np.where((hits == 0) | (hits == n) | (clusters < 2), clusters, effective)
        quantile = np.array([t_quantile(confidence, int(c) - 1) if c > 1 else np.nan for c in clusters])
    low, high = _wilson(rate, effective, quantile)
    few = np.isnan(quantile)
    return Rates(
        n=n,
        n_missing=missing,
        n_over=hits,
        n_clusters=clusters,
        rate=rate,
        low=np.where(few, np.nan, low),
        high=np.where(few, np.nan, high),
        n_effective=effective,
        n_outside=int((~inside).sum()),
    )


def buckets(values: ArrayLike, edges: Sequence[float]) -> Ints:
    """Return the bucket of each value: i for edges[i] <= value < edges[i + 1]; the last bucket has no upper end.

    Parameters
    ----------
    values
        Such as context lengths, any shape.
    edges
        Lower ends, ascending.

    Returns
    -------
    ndarray of int64
        Same shape; -1 for NaN and values below the first edge.

    Raises
    ------
    UsageError
        If edges do not ascend.
    """
    v, ends = np.asarray(values, np.float64), np.asarray(edges, np.float64)
    if ends.ndim != 1 or not len(ends) or not (np.diff(ends) > 0).all():
        raise UsageError(f"edges of buckets must ascend, not {list(edges)}")
    return np.where(np.isnan(v), -1, np.searchsorted(ends, v, side="right") - 1).astype(np.int64)


# Survival


@dataclass(frozen=True)
class Survival:
    """Share of conversations that have not reached the threshold yet, by turn.

    Parameters
    ----------
    turn
        Turns at which a conversation reached it or ended, ascending, shape (k,).
    n_at_risk, n_events
        Conversations that got to this turn without having reached it before, and those that reached it now, int64.
    survival
        Kaplan and Meier's (1958) estimate of the share that is still below it after this turn.
    low, high
        Log-log interval with Greenwood's variance, which stays in [0, 1]; 1 as long as none has reached it (as R's
        `survfit` has it), NaN where all have.
    median
        First turn by which half have reached it, None where that is not so; its ends are the first turns at which the
        lower and the upper curve are down to a half (Brookmeyer & Crowley 1982, Biometrics 38), None where they never
        are.
    n_conversations, n_reached, n_empty
        Conversations with a value, those of them that reached the threshold, and conversations without any value.
    """

    turn: Floats
    n_at_risk: Ints
    n_events: Ints
    survival: Floats
    low: Floats
    high: Floats
    median: Figure
    n_conversations: int
    n_reached: int
    n_empty: int


def survival(
    values: ArrayLike,
    threshold: float,
    conversation: ArrayLike,
    turn: ArrayLike,
    *,
    confidence: float = 0.95,
) -> Survival:
    """Return the survival curve of the first turn with a value at or over a threshold.

    A conversation that never gets there is censored after its last turn with a value: what it would have come to later
    is not known. Conversations count as independent, and as ending for reasons of their own: if they end because of
    what is measured, the curve is biased.

    Parameters
    ----------
    values
        Shape (n,), in any order; NaN is missing, and no event.
    threshold
        What is to be reached.
    conversation
        Each row's conversation, shape (n,), integers.
    turn
        Each row's turn, shape (n,), finite.
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    Survival

    Raises
    ------
    UsageError
        If shapes disagree, a turn is not finite, `confidence` is out of range, or SciPy is missing.
    """
    check_confidence(confidence)
    stats = scipy("stats")
    v, code, t, n_conversations, n_empty = _turns(values, conversation, turn)
    first, last = np.full(n_conversations, np.inf), np.full(n_conversations, -np.inf)
    np.maximum.at(last, code, t)
    np.minimum.at(first, code[v >= threshold], t[v >= threshold])
    reached = np.isfinite(first)
    if not n_conversations:
        none = np.empty(0)
        return Survival(none, none.astype(int), none.astype(int), none, none, none, Figure(None), 0, 0, n_empty)
    curve = stats.ecdf(stats.CensoredData(uncensored=first[reached], right=last[~reached])).sf
    at, share = np.asarray(curve.quantiles, np.float64), np.asarray(curve.probabilities, np.float64)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = curve.confidence_interval(confidence, method="log-log")
    still = share == 1
    low = np.where(still, 1.0, np.where(share > 0, band.low.probabilities, np.nan))
    high = np.where(still, 1.0, np.where(share > 0, band.high.probabilities, np.nan))
    ends = np.sort(np.where(reached, first, last))

    def crossing(line: Floats) -> float | None:
        below = np.flatnonzero(line <= 0.5 + 1e-9)  # a product of fractions need not be 0.5 to the last digit
        return float(at[below[0]]) if len(below) else None

    return Survival(
        turn=at,
        n_at_risk=n_conversations - np.searchsorted(ends, at, side="left"),
        n_events=np.bincount(np.searchsorted(at, first[reached]), minlength=len(at)),
        survival=share,
        low=low,
        high=high,
        median=Figure(crossing(share), crossing(np.where(share > 0, low, 0.0)), crossing(np.where(share > 0, high, 1))),
        n_conversations=n_conversations,
        n_reached=int(reached.sum()),
        n_empty=n_empty,
    )


# Trends


@dataclass(frozen=True)
class Trend:
    """Slope per turn within conversations.

    Parameters
    ----------
    slope
        In units of the value per turn, with its interval; None where no conversation has two turns.
    n_conversations
        Conversations with values at two turns or more, which are those that tell.
    n_values
        Their values.
    """

    slope: Figure
    n_conversations: int
    n_values: int


@dataclass(frozen=True)
class ChangePoint:
    """Where the course over turns changes, if it does.

    Parameters
    ----------
    kind
        ``mean`` or ``slope``.
    turn
        First turn with the new mean, or the turn at which the slope changes, with its interval; None where there are
        too few turns, or nothing changes.
    change
        New mean minus old, or new slope minus old, with its interval. As the turn is sought where the change is large,
        its size is overstated where p is not small.
    p
        Of no change: of one mean (of one slope) all along; None without a turn to try.
    n_conversations, n_values
        Conversations with values at two turns or more, and their values.
    """

    kind: str
    turn: Figure
    change: Figure
    p: float | None
    n_conversations: int
    n_values: int


def slope(
    values: ArrayLike,
    conversation: ArrayLike,
    turn: ArrayLike,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Trend:
    """Return the slope per turn within conversations, with a cluster-bootstrap interval.

    sum (t - mean t) (x - mean x) / sum (t - mean t)^2, means taken per conversation and sums over all: least squares
    with a level for each conversation. Longer conversations weigh more.

    Parameters
    ----------
    values, conversation, turn
        As for `survival`.
    n_resamples, seed
        Replicates of the bootstrap over conversations, and its seed.
    confidence
        Share of intervals that should cover the truth; `expanded_interval`.

    Returns
    -------
    Trend

    Raises
    ------
    UsageError
        If shapes disagree, a turn is not finite or an option is out of range.
    """
    y, t, code, n, _ = _centred(values, conversation, turn)
    table = np.stack([_sums(code, t * y, n), _sums(code, t * t, n)], axis=1)
    sxy, sxx = table.sum(axis=0)
    if not n:
        return Trend(Figure(None), n, len(y))
    drawn = _resampled(table, n_resamples, seed)
    low, high = expanded_interval(_divide(drawn[:, 0], drawn[:, 1]), n, confidence)
    return Trend(_figure(sxy / sxx, low, high), n, len(y))


def change_point(
    values: ArrayLike,
    conversation: ArrayLike,
    turn: ArrayLike,
    *,
    kind: Literal["mean", "slope"] = "mean",
    n_resamples: int = 2000,
    n_permutations: int = 1999,
    seed: int = 0,
    confidence: float = 0.95,
) -> ChangePoint:
    """Find the one turn at which the mean, or the slope, changes.

    Every turn is tried, with a step (``mean``) or a bend (``slope``, beside a straight line) there, by least squares
    with a level for each conversation; the turn whose fit leaves the least squares wins. The p-value compares the
    squares that it takes away with those after turning the signs of whole conversations' deviations (from their mean,
    or from the common line) at random: a conversation keeps its own course, so that inertia within conversations fakes
    no change. (b + 1) / (m + 1), as for `sign_flip`. Intervals resample conversations, and seek the turn anew in each.

    Parameters
    ----------
    values, conversation, turn
        As for `survival`. Memory is that of a table of conversations by distinct turns, several times.
    kind
        What changes. A steady rise is a change of the mean, too: to tell drift from a break, ask for ``slope``.
    n_resamples, n_permutations, seed
        Replicates of the bootstrap, random sign flips, and the seed of both.
    confidence
        Share of intervals that should cover the truth.

    Returns
    -------
    ChangePoint

    Raises
    ------
    UsageError
        If shapes disagree, a turn is not finite or an option is out of range.
    """
    if kind not in ("mean", "slope"):
        raise UsageError(f"unknown kind {kind!r}: kinds are mean, slope")
    if n_permutations < 1:
        raise UsageError(f"n_permutations must be at least 1, not {n_permutations}")
    y, t, code, n, raw = _centred(values, conversation, turn)
    turns, place = np.unique(raw, return_inverse=True)
    tried = turns[1:] if kind == "mean" else turns[1:-1]
    k = len(tried)
    if not n or not k:
        return ChangePoint(kind, Figure(None), Figure(None), None, n, len(y))

    # Per conversation: sums over rows of products with the step or bend h of each turn tried. As y and t are centred
    # within conversations, h need not be.
    cell = code * len(turns) + place

    def by_turn(weights: Floats) -> Floats:
        return _sums(cell, weights, n * len(turns)).reshape(n, -1)

    h = (turns[:, None] >= tried).astype(np.float64) if kind == "mean" else np.maximum(turns[:, None] - tried, 0.0)
    counts = by_turn(np.ones(len(y)))
    hy = by_turn(y) @ h
    hh = counts @ (h * h) - (counts @ h) ** 2 / counts.sum(axis=1, keepdims=True)
    if kind == "slope":
        ht, ty, tt = by_turn(t) @ h, _sums(code, t * y, n)[:, None], _sums(code, t * t, n)[:, None]
    else:  # no line to allow for
        ht, ty, tt = np.zeros_like(hy), np.zeros((n, 1)), np.ones((n, 1))

    def fit(hy: Floats, hh: Floats, ht: Floats, ty: Floats, tt: Floats) -> tuple[Floats, Floats]:
        """Return the change at each turn tried and the squares that it explains beyond the line, shape (..., k)."""
        own = hh - ht * ht / tt  # what of h is no line
        rest = np.where(own > 1e-9 * np.abs(hh), hy - ht * ty / tt, 0.0)
        change = _divide(rest, np.where(rest != 0, own, 0.0), 0.0)
        return change, change * rest

    parts = [hy, hh, ht, ty, tt]
    total = [part.sum(axis=0) for part in parts]
    change, gain = fit(*total)
    best = int(gain.argmax())
    if not gain[best] > 1e-12 * (y @ y):  # rounding
        return ChangePoint(kind, Figure(None), Figure(None), 1.0, n, len(y))
    line = total[3] / total[4]
    left_hy, left_ty = hy - line * ht, ty - line * tt
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4,)))
    beyond, least = 0, gain[best] * (1 - 1e-9)
    step = max(1, _CELLS // max(n, k))
    for first in range(0, n_permutations, step):
        signs = rng.integers(0, 2, (min(step, n_permutations - first), n), np.int8) * 2.0 - 1.0
        _, flipped = fit(signs @ left_hy, total[1], total[2], signs @ left_ty, total[4])
        beyond += int((flipped.max(axis=1) >= least).sum())

    drawn = _resampled(np.concatenate(parts, axis=1), n_resamples, seed)
    ends = np.cumsum([0, k, k, k, 1, 1])
    changes, gains = fit(*(drawn[:, a:b] for a, b in zip(ends[:-1], ends[1:])))
    found = gains.argmax(axis=1)
    where_low, where_high = expanded_interval(tried[found], n, confidence)
    low, high = expanded_interval(changes[np.arange(len(found)), found], n, confidence)
    # A turn between two that were tried is none: take the next one outwards.
    where_low = tried[max(int(np.searchsorted(tried, where_low, "right")) - 1, 0)] if n > 1 else where_low
    where_high = tried[min(int(np.searchsorted(tried, where_high)), k - 1)] if n > 1 else where_high
    return ChangePoint(
        kind=kind,
        turn=_figure(tried[best], where_low, where_high),
        change=_figure(change[best], low, high),
        p=(beyond + 1) / (n_permutations + 1),
        n_conversations=n,
        n_values=len(y),
    )


def _turns(values: ArrayLike, conversation: ArrayLike, turn: ArrayLike) -> tuple[Floats, Ints, Floats, int, int]:
    """Return value, dense code of the conversation and turn of the rows with a value, and two numbers.

    They are those of conversations with and without a value.
    """
    v, t, group = np.asarray(values, np.float64), np.asarray(turn, np.float64), np.asarray(conversation)
    if v.ndim != 1 or t.shape != v.shape or group.shape != v.shape:
        raise UsageError(f"values {v.shape}, conversation {group.shape} and turn {t.shape} must have one entry per row")
    if not np.isfinite(t).all():
        row = int(np.isfinite(t).argmin())
        raise UsageError(f"every row needs a turn: that of row {row} is {t[row]}")
    known = ~np.isnan(v)
    names, code = np.unique(group[known], return_inverse=True)
    return v[known], code, t[known], len(names), len(np.unique(group)) - len(names)


def _centred(values: ArrayLike, conversation: ArrayLike, turn: ArrayLike) -> tuple[Floats, Floats, Ints, int, Floats]:
    """Return value and turn minus their conversation's means, its dense code, how many there are, and the turns.

    Conversations with fewer than two distinct turns are left out.
    """
    v, code, t, n, _ = _turns(values, conversation, turn)
    if np.isinf(v).any():
        raise UsageError("values must be finite, or NaN where missing")
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, code, t)
    np.maximum.at(high, code, t)
    several = (high > low)[code]
    v, t = v[several], t[several]
    names, start, code = np.unique(code[several], return_index=True, return_inverse=True)
    n = len(names)
    count = np.bincount(code, minlength=n)
    out = []
    for x in (v, t):
        shifted = x - x[start][code]  # exactly 0 all along where a conversation does not vary
        out.append(shifted - (_sums(code, shifted, n) / count)[code])
    return out[0], out[1], code, n, t


def _resampled(table: Floats, n_resamples: int, seed: int) -> Floats:
    """Return the means of the columns over drawn rows (one row a cluster), shape (resamples, columns)."""
    n = len(table)
    cluster, model = np.arange(n), np.zeros(n, np.int64)
    return cluster_bootstrap(
        table, np.ones_like(table), cluster, model, n_models=1, n_resamples=n_resamples, seed=seed
    ).replicates[:, 0]


def _sums(code: Ints, weights: Floats, n: int) -> Floats:
    return np.asarray(np.bincount(code, weights=weights, minlength=n), np.float64)


def _figure(value: float, low: ArrayLike, high: ArrayLike) -> Figure:
    a, b = float(np.asarray(low)), float(np.asarray(high))
    return Figure(float(value), None if math.isnan(a) else a, None if math.isnan(b) else b)


def _divide(a: ArrayLike, b: ArrayLike, otherwise: float = math.nan) -> Floats:
    x, y = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    out: Floats = np.divide(x, y, out=np.full(x.shape, otherwise), where=y > 0)
    return out
