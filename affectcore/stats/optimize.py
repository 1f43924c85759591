"""Minimization of smooth convex functions: L-BFGS in NumPy, so that fitting a head needs no further package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["minimize"]

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats]]

_MEMORY = 10
_ARMIJO = 1e-4
_HALVINGS = 30


def minimize(objective: Objective, start: Floats, *, iterations: int = 200, tolerance: float = 1e-7) -> Floats:
    """Minimize a smooth convex function (Liu & Nocedal 1989, with backtracking).

    Parameters
    ----------
    objective
        Takes x, shape (n,), and returns the value and the gradient, shape (n,).
    start
        Where to begin, shape (n,).
    iterations
        Most steps to take.
    tolerance
        Stop where no entry of the gradient is larger, or a step lowers the value by less than this share of it twice
        in a row.

    Returns
    -------
    ndarray of float64
        The best x met, shape (n,).
    """
    x = np.array(start, np.float64)
    value, gradient = objective(x)
    steps: list[tuple[Floats, Floats, float]] = []
    idle = 0
    for _ in range(iterations):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            break
        direction = _direction(gradient, steps)
        slope = float(direction @ gradient)
        if slope >= 0:  # the memory went bad, which rounding can do near the minimum
            steps.clear()
            direction, slope = -gradient, -float(gradient @ gradient)
        length = 1.0 if steps else min(1.0, 1.0 / float(np.sqrt(-slope)))
        for _ in range(_HALVINGS):
            moved = x + length * direction
            new_value, new_gradient = objective(moved)
            if new_value <= value + _ARMIJO * length * slope:
                break
            length *= 0.5
        else:
            break
        change, difference = moved - x, new_gradient - gradient
        curvature = float(change @ difference)
        if curvature > 1e-12 * float(difference @ difference):
            steps.append((change, difference, curvature))
            del steps[:-_MEMORY]
        idle = idle + 1 if value - new_value <= tolerance * max(abs(value), 1e-12) else 0
        x, value, gradient = moved, new_value, new_gradient
        if idle == 2:
            break
    return x


def _direction(gradient: Floats, steps: list[tuple[Floats, Floats, float]]) -> Floats:
    """Return minus the inverse Hessian times the gradient, as far as the last steps tell."""
    result = -gradient
    shares = []
    for change, difference, curvature in reversed(steps):
        share = float(change @ result) / curvature
        shares.append(share)
        result = result - share * difference
    if steps:
        _, difference, curvature = steps[-1]
        result = result * (curvature / float(difference @ difference))
    for (change, difference, curvature), share in zip(steps, reversed(shares)):
        result = result + (share - float(difference @ result) / curvature) * change
    return result
