"""Op family `dynamics`: how values go along series, such as the valence of a conversation's turns.

A series is a run of values, one a step (a turn, a segment). NaN is a gap: the value is not there, and the steps behind
it keep their places. Of the values x_t that are there, in float64:

dynamics
    n            their number
    mean         sum x / n; of one value at least
    sd           sqrt(sum (x - mean)^2 / (n - 1)); of two
    instability  the mean squared successive difference (MSSD): the mean of (x_t - x_(t-1))^2 over the steps at which
                 both are there; of one such step at least (von Neumann, Kent, Bellinson & Hart 1941, "The Mean Square
                 Successive Difference"; for affect Jahng, Wood & Trull 2008, Psychological Methods 13). RMSSD is its
                 root. Unlike the sd it knows the order: values that swing to and fro have more of it than the same
                 values in a steady rise.
    inertia      the lag-1 autocorrelation: Pearson's correlation of x_t with x_(t-1) over the same steps; of three such
                 steps at least, and NaN where either side does not vary. That is the slope of the regression of a state
                 on the one before, AR(1), which Kuppens, Allen & Sheeber 2010 (Psychological Science 21) call emotional
                 inertia, with both sides standardised: in short series the slope itself has no bounds. A steady rise
                 has 1. Short series have too low ones: by about (1 + 3 r) / n (Marriott & Pope 1954, Biometrika 41).
    slope        of the least-squares line, in units of x per step: not per second, and gaps are steps too; of two
                 values, between which it is the difference
    peak         the largest value; of one

    Houben, Van Den Noortgate & Kuppens 2015 (Psychological Bulletin 141) review sd, instability and inertia of affect.
    What a series is too short for is NaN, never 0. A series with an infinite value has a peak and n; the rest is NaN.
    Squares beyond float32 become infinite.
    Reads 4 k bytes a step, twice; writes 28 k bytes a series.

correlation
    Pearson's correlation of two series over the steps at which both have a value; NaN for less than three, where one of
    both does not vary, or with an infinite value.
    Reads 8 k bytes a step, twice; writes 4 k bytes a series.

Deviations are taken from a mean that is known, so no variance is a difference of large numbers, or negative. Sums of up
to 2^29 equal float32 values are exact in float64, so the sd, instability and slope of a constant series are 0 exactly.
A result depends on its series alone, not on what stands beside it.

Tolerance: `n`, `peak` and which results are NaN agree exactly on all backends; the others to relative 1e-6 or absolute
1e-6 for correlations, 1e-12 of the largest value for means and slopes.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import LEAST_PAIRS, Dynamics

__all__ = ["LEAST_PAIRS", "Dynamics", "correlation", "dynamics"]


def dynamics(values: Any, offsets: Any, *, backend: str = "auto") -> Dynamics:
    """Measure how values go along series (see the module).

    Parameters
    ----------
    values
        float32 (n_units,) or (n_units, k): a value per step, NaN where there is none.
    offsets
        int64 (n + 1,): series s is values[offsets[s]:offsets[s + 1]]; they need not start at 0.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    Dynamics
        Arrays (n,) or (n, k), as the values are.

    Raises
    ------
    ValueError
        If values have neither one dimension nor two.
    """
    _check(values)
    return implementation("dynamics", backend, values, offsets).dynamics(values, offsets)  # type: ignore[no-any-return]


def correlation(a: Any, b: Any, offsets: Any, *, backend: str = "auto") -> Any:
    """Correlate two series step by step (see the module).

    Parameters
    ----------
    a, b
        float32 (n_units,) or (n_units, k) each.
    offsets
        int64 (n + 1,): series s is the units offsets[s]:offsets[s + 1]; they need not start at 0.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float32 (n,) or (n, k).

    Raises
    ------
    ValueError
        If a and b differ in shape, or have neither one dimension nor two.
    """
    _check(a)
    if a.shape != b.shape:
        raise ValueError(f"values to correlate need one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
    return implementation("dynamics", backend, a, b, offsets).correlation(a, b, offsets)


def _check(values: Any) -> None:
    if values.ndim not in (1, 2):
        raise ValueError(f"series have values of shape (n,) or (n, k), not {tuple(values.shape)}")
