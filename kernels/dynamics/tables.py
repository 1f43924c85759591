"""Results and constants of the `dynamics` ops."""

from __future__ import annotations

from typing import Any, NamedTuple

LEAST_PAIRS = 3  # of a correlation: through two points there is always a line


class Dynamics(NamedTuple):
    """How each of n series goes, column by column: arrays (n,) or (n, k)."""

    mean: Any  # float32
    sd: Any  # float32
    instability: Any  # float32
    inertia: Any  # float32
    slope: Any  # float32, per step
    peak: Any  # float32
    n: Any  # int32: values that are there
