"""How many prompts a comparison needs, and how small a difference it can find: power of the paired t-test.

With n pairs whose differences have mean `effect` and standard deviation `sd`, t follows a noncentral t distribution
with n - 1 degrees of freedom and noncentrality effect * sqrt(n) / sd; the two-sided test finds the effect where |t|
exceeds the central t's quantile (Cohen 1988, Statistical Power Analysis, chapter 2). Pairs are clusters: more samples
of a prompt lower `sd`, but do not raise n. The sign-flip and Wilcoxon tests need about as many.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError
from affectcore.stats.paired import scipy

__all__ = ["minimum_detectable_effect", "paired_power", "required_pairs"]

Floats = NDArray[np.float64]

_MOST = 1 << 31  # more prompts than anyone has


def paired_power(effect: float, sd: float, n_pairs: int, *, alpha: float = 0.05) -> float:
    """Return the chance that the two-sided paired t-test finds a difference.

    Parameters
    ----------
    effect
        True mean difference, in the metric's unit.
    sd
        Standard deviation of the paired differences, same unit, above 0.
    n_pairs
        Number of pairs, at least 2.
    alpha
        Level of the test.

    Raises
    ------
    UsageError
        If an argument is out of range, or SciPy is missing.
    """
    _check(alpha=alpha, sd=sd)
    if n_pairs < 2 or not math.isfinite(effect):
        raise UsageError(f"2 pairs at least and a finite effect are needed, not {n_pairs} and {effect}")
    return _power(abs(effect) / sd, n_pairs, alpha)


def minimum_detectable_effect(sd: ArrayLike, n_pairs: int, *, alpha: float = 0.05, power: float = 0.8) -> Floats:
    """Return the smallest true mean difference that the test finds with the given power.

    Parameters
    ----------
    sd
        Standard deviations of the paired differences, any shape, not negative; NaN stays NaN.
    n_pairs
        Number of pairs.
    alpha, power
        Level of the test, and the chance to find the difference; power must exceed alpha.

    Returns
    -------
    ndarray of float64
        Same shape and unit as `sd`; NaN for fewer than 2 pairs.

    Raises
    ------
    UsageError
        If an argument is out of range, or SciPy is missing.
    """
    s = np.asarray(sd, np.float64)
    _check(alpha=alpha, power=power)
    if (s < 0).any() or np.isinf(s).any() or n_pairs < 0:
        raise UsageError("standard deviations must be finite and not negative, and n_pairs not negative")
    if n_pairs < 2:
        return np.full(s.shape, np.nan)
    optimize = scipy("optimize")
    high = 1.0
    while _power(high, n_pairs, alpha) < power:
        high *= 2
    return np.asarray(s * optimize.brentq(lambda d: _power(d, n_pairs, alpha) - power, 0.0, high, xtol=1e-12))


def required_pairs(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the number of pairs (prompts) from which on the test finds a difference with the given power.

    Parameters
    ----------
    effect
        True mean difference to find, in the metric's unit, not 0.
    sd
        Standard deviation of the paired differences, same unit, above 0.
    alpha, power
        Level of the test, and the chance to find the difference; power must exceed alpha.

    Returns
    -------
    int
        At least 2.

    Raises
    ------
    UsageError
        If an argument is out of range, the effect is too small for any number of prompts, or SciPy is missing.
    """
    _check(alpha=alpha, power=power, sd=sd)
    if not math.isfinite(effect) or effect == 0:
        raise UsageError(f"the difference to find must be finite and not 0, not {effect}")
    d = abs(effect) / sd
    low, high = 1, 2  # the power of `low` pairs is too small
    while _power(d, high, alpha) < power:
        low, high = high, 2 * high
        if high > _MOST:
            raise UsageError(f"a difference of {effect:g} is too small to be found beside a spread of {sd:g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _power(d, middle, alpha) < power else (low, middle)
    return high


def _power(d: float, n: int, alpha: float) -> float:
    """Return the power for a mean difference of d standard deviations of the differences."""
    if d == 0:
        return alpha
    stats = scipy("stats")
    # t squared has a noncentral F distribution, which has both tails at once; SciPy's noncentral t is NaN far out.
    return float(stats.ncf.sf(stats.t.isf(alpha / 2, n - 1) ** 2, 1, n - 1, d * d * n))


def _check(alpha: float, power: float | None = None, sd: float | None = None) -> None:
    if not 0 < alpha < 1 or (power is not None and not alpha < power < 1):
        raise UsageError(f"0 < alpha < power < 1 is needed, not alpha {alpha} and power {power}")
    if sd is not None and not 0 < sd < math.inf:
        raise UsageError(f"the standard deviation must be above 0 and finite, not {sd}")
