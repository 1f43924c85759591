"""Numba kernels of the `dynamics` family; `__init__` documents the ops."""

from __future__ import annotations

import numpy as np

from affectcore.kernels.dispatch import inline, jit

from .tables import LEAST_PAIRS, Dynamics


@inline
def _ratio(both, var_a, var_b):
    """Return a correlation from its sums; NaN without variance, and for sums that are not finite."""
    return both / np.sqrt(var_a * var_b) if var_a > 0.0 and var_b > 0.0 else np.nan


@jit
def _dynamics(values, offsets, out, counts):
    """Fill out (6, n, k) and counts (n, k) from values (n_units, k)."""
    for s in range(offsets.shape[0] - 1):
        lo, hi = offsets[s], offsets[s + 1]
        for c in range(values.shape[1]):
            n = pairs = 0
            total = places = squares = first = second = 0.0
            peak = -np.inf
            finite = True
            before = np.nan
            for i in range(lo, hi):
                x = np.float64(values[i, c])
                if x == x:
                    n += 1
                    total += x
                    places += i - lo
                    peak = max(peak, x)
                    finite &= abs(x) < np.inf
                    if before == before:
                        pairs += 1
                        squares += (x - before) * (x - before)
                        first += before
                        second += x
                before = x
            counts[s, c] = n
            out[:, s, c] = np.nan
            if n > 0:
                out[5, s, c] = peak
            if n == 0 or not finite:
                continue
            mean, middle = total / n, places / n
            mean_a, mean_b = first / max(pairs, 1), second / max(pairs, 1)
            var = rise = width = var_a = var_b = both = 0.0
            before = np.nan
            for i in range(lo, hi):
                x = np.float64(values[i, c])
                if x == x:
                    t = (i - lo) - middle
                    var += (x - mean) * (x - mean)
                    rise += t * (x - mean)
                    width += t * t
                    if before == before:
                        var_a += (before - mean_a) * (before - mean_a)
                        var_b += (x - mean_b) * (x - mean_b)
                        both += (before - mean_a) * (x - mean_b)
                before = x
            out[0, s, c] = mean
            if n > 1:
                out[1, s, c] = np.sqrt(var / (n - 1))
                out[4, s, c] = rise / width
            if pairs > 0:
                out[2, s, c] = squares / pairs
            if pairs >= LEAST_PAIRS:
                out[3, s, c] = _ratio(both, var_a, var_b)


def dynamics(values: np.ndarray, offsets: np.ndarray) -> Dynamics:
    """See `affectcore.kernels.dynamics.dynamics`."""
    n, shape = len(offsets) - 1, values.shape[1:]
    k = int(np.prod(shape))
    out, counts = np.empty((6, n, k), np.float32), np.empty((n, k), np.int32)
    _dynamics(np.ascontiguousarray(values).reshape(len(values), k), offsets, out, counts)
    return Dynamics(*[*out.reshape(6, n, *shape), counts.reshape(n, *shape)])


@jit
def _correlation(a, b, offsets, out):
    for s in range(offsets.shape[0] - 1):
        lo, hi = offsets[s], offsets[s + 1]
        for c in range(a.shape[1]):
            pairs = 0
            first = second = 0.0
            for i in range(lo, hi):
                x, y = np.float64(a[i, c]), np.float64(b[i, c])
                if x == x and y == y:
                    pairs += 1
                    first += x
                    second += y
            out[s, c] = np.nan
            if pairs < LEAST_PAIRS:
                continue
            mean_a, mean_b = first / pairs, second / pairs
            var_a = var_b = both = 0.0
            for i in range(lo, hi):
                x, y = np.float64(a[i, c]), np.float64(b[i, c])
                if x == x and y == y:
                    var_a += (x - mean_a) * (x - mean_a)
                    var_b += (y - mean_b) * (y - mean_b)
                    both += (x - mean_a) * (y - mean_b)
            out[s, c] = _ratio(both, var_a, var_b)


def correlation(a: np.ndarray, b: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.dynamics.correlation`."""
    n, shape = len(offsets) - 1, a.shape[1:]
    k = int(np.prod(shape))
    out = np.empty((n, k), np.float32)
    a, b = (np.ascontiguousarray(x).reshape(len(x), k) for x in (a, b))
    _correlation(a, b, offsets, out)
    return out.reshape(n, *shape)
