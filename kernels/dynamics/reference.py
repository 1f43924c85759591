"""Reference of the `dynamics` family: the formulas, with sums that are rounded once (`math.fsum`)."""

from __future__ import annotations

import math

import numpy as np

from .tables import LEAST_PAIRS, Dynamics


def _mean(xs: list[float]) -> float:
    return math.fsum(xs) / len(xs)


def _correlation(pairs: list[tuple[float, float]]) -> float:
    if len(pairs) < LEAST_PAIRS or not np.isfinite(pairs).all():
        return math.nan
    mean_a, mean_b = _mean([a for a, _ in pairs]), _mean([b for _, b in pairs])
    both = math.fsum((a - mean_a) * (b - mean_b) for a, b in pairs)
    var_a, var_b = math.fsum((a - mean_a) ** 2 for a, _ in pairs), math.fsum((b - mean_b) ** 2 for _, b in pairs)
    return both / math.sqrt(var_a * var_b) if var_a > 0 and var_b > 0 else math.nan


def _measure(series: list[float]) -> tuple[float, ...]:
    """Return mean, sd, instability, inertia, slope and peak."""
    steps = [(t, x) for t, x in enumerate(series) if not math.isnan(x)]
    xs = [x for _, x in steps]
    n = len(xs)
    if n == 0:
        return (math.nan,) * 6
    if not np.isfinite(xs).all():
        return (math.nan,) * 5 + (max(xs),)
    pairs = [(a, b) for a, b in zip(series, series[1:]) if not math.isnan(a + b)]
    mean, middle = _mean(xs), _mean([t for t, _ in steps])
    sd = instability = slope = math.nan
    if n > 1:
        sd = math.sqrt(math.fsum((x - mean) ** 2 for x in xs) / (n - 1))
        rise = math.fsum((t - middle) * (x - mean) for t, x in steps)
        slope = rise / math.fsum((t - middle) ** 2 for t, _ in steps)
    if pairs:
        instability = _mean([(b - a) ** 2 for a, b in pairs])
    return mean, sd, instability, _correlation(pairs), slope, max(xs)


def dynamics(values: np.ndarray, offsets: np.ndarray) -> Dynamics:
    """See `affectcore.kernels.dynamics.dynamics`."""
    shape = (len(offsets) - 1, *values.shape[1:])
    out, n = np.full((6, *shape), np.nan, np.float32), np.zeros(shape, np.int32)
    with np.errstate(over="ignore"):  # of squares beyond float32
        for at in np.ndindex(shape):
            column = values[(slice(offsets[at[0]], offsets[at[0] + 1]), *at[1:])]
            out[(slice(None), *at)] = _measure(column.astype(np.float64).tolist())
            n[at] = np.count_nonzero(~np.isnan(column))
    return Dynamics(*[*out, n])


def correlation(a: np.ndarray, b: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.dynamics.correlation`."""
    out = np.empty((len(offsets) - 1, *a.shape[1:]), np.float32)
    for at in np.ndindex(out.shape):
        part = (slice(offsets[at[0]], offsets[at[0] + 1]), *at[1:])
        pairs = zip(a[part].astype(np.float64).tolist(), b[part].astype(np.float64).tolist())
        out[at] = _correlation([(x, y) for x, y in pairs if not (math.isnan(x) or math.isnan(y))])
    return out
