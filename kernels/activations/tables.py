"""Tables of the `activations` ops, as plain arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SIGMOID, IDENTITY, SOFTMAX = 0, 1, 2


class Activation(NamedTuple):
    """What becomes of each of k columns of logits."""

    kind: Any  # uint8 (k,): SIGMOID, IDENTITY or SOFTMAX
    group: Any  # int32 (k,): softmax columns of one group stand side by side; other kinds have no use for it
    scale: Any  # float32 (k,)
    shift: Any  # float32 (k,)
    low: Any  # float32 (k,): bounds of IDENTITY
    high: Any  # float32 (k,)


def build_activation(
    kind: Any, group: Any = 0, scale: Any = 1.0, shift: Any = 0.0, low: Any = -np.inf, high: Any = np.inf
) -> Activation:
    """Build the table of `activate`.

    Parameters
    ----------
    kind
        k numbers out of SIGMOID, IDENTITY and SOFTMAX.
    group, scale, shift, low, high
        Columns of `Activation`: k values, or one for all.

    Raises
    ------
    ValueError
        If a kind is unknown, the softmax columns of a group do not stand side by side, or low is over high.
    """
    kinds = np.array(kind, np.uint8).reshape(-1)
    groups = np.broadcast_to(np.asarray(group, np.int32), kinds.shape).copy()
    floats = [np.broadcast_to(np.asarray(v, np.float32), kinds.shape).copy() for v in (scale, shift, low, high)]
    if (kinds > SOFTMAX).any():
        raise ValueError(f"unknown kind {kinds.max()}: choose {SIGMOID} (sigmoid), {IDENTITY} (identity), {SOFTMAX}")
    for g in set(groups[kinds == SOFTMAX].tolist()):
        columns = np.flatnonzero((kinds == SOFTMAX) & (groups == g))
        if columns[-1] - columns[0] >= len(columns):
            raise ValueError(f"softmax columns of group {g} must stand side by side, not at {columns.tolist()}")
    if not (floats[2] <= floats[3]).all():
        raise ValueError("every low must be at most its high")
    return Activation(kinds, groups, *floats)
