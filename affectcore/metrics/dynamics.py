"""Columns that tell how a score goes along the segments of a document or the turns of a conversation.

Of a score x (valence, distress, any other) along a series of units, one a step:

- `x_sd`: the standard deviation (n - 1) over the units: how far the score ranges.
- `x_instability`: the mean squared successive difference, MSSD (von Neumann, Kent, Bellinson & Hart 1941; Jahng, Wood &
  Trull 2008): how far it jumps from a unit to the next. Its root is RMSSD, in the score's own units.
- `x_inertia`: the lag-1 autocorrelation, from -1 to 1: how much of a state carries over into the next, the AR(1)
  coefficient of standardised values (Kuppens, Allen & Sheeber 2010). In short series it is biased downwards.
- `x_slope`: that of the least-squares line, per unit: the drift.
- `x_peak`: the largest value. (Of a score whose bad end is the low one, such as valence, the best moment.)

Null where a series is too short: `x_peak` needs one value, `x_sd` and `x_slope` two, `x_instability` two neighbours,
`x_inertia` three pairs of neighbours, and some variance. Units without a score (code, quotes) are gaps: they keep their
place, and no difference is taken across them. `affectcore.kernels.dynamics` has the formulas. Houben, Van Den Noortgate
& Kuppens 2015 review what sd, instability and inertia of affect go along with in people; none of it is known of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MEASURES", "SCORES", "columns", "names"]

SCORES = ("valence", "distress")
"""Scores whose course is told."""

MEASURES = ("sd", "instability", "inertia", "slope", "peak")
"""What the names of the columns end with."""


@lru_cache(maxsize=16)
def names(score: str) -> frozenset[str]:
    """Return the names of a score's columns."""
    return frozenset(f"{score}_{measure}" for measure in MEASURES)


def columns(
    name: str | Sequence[str], values: np.ndarray, offsets: np.ndarray, backend: str = "numba"
) -> dict[str, np.ndarray]:
    """Measure how a score, or several, go along series (see the module).

    Parameters
    ----------
    name
        The score's, for example `valence`: the columns are `<name>_sd` and so on. Or names of k scores.
    values
        float32 (n_units,), or (n_units, k): the scores of each unit, NaN where it has none.
    offsets
        int64 (n + 1,): series s is values[offsets[s]:offsets[s + 1]].
    backend
        `reference`, `numba` or `triton`.

    Returns
    -------
    dict
        Column name to float32 (n,), NaN where a series has no value.

    Raises
    ------
    ValueError
        If values are not of the shape that the names ask for.
    BackendError
        If the backend cannot run here.
    """
    import numpy as np

    from affectcore.kernels import dispatch, dynamics

    if isinstance(name, str):
        if values.ndim != 1:
            raise ValueError(f"a score has one value per unit, not values of shape {values.shape}")
        name, values = (name,), values[:, None]
    elif values.shape[1:] != (len(name),):
        raise ValueError(f"{len(name)} scores have as many values per unit, not values of shape {values.shape}")
    measured = dispatch.fetch(dynamics.dynamics(*dispatch.place((values, offsets), backend), backend=backend))
    found = {measure: np.ascontiguousarray(getattr(measured, measure).T) for measure in MEASURES}
    return {f"{score}_{measure}": found[measure][k] for k, score in enumerate(name) for measure in MEASURES}
