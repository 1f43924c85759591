"""Metrics of whole conversations: affect over the assistant's turns, and in answer to the user's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from affectcore.kernels import dispatch
from affectcore.metrics import dynamics
from affectcore.metrics.dynamics import MEASURES

__all__ = ["ASSISTANT", "COLUMNS", "OTHER", "USER", "available", "conversation_columns"]

ASSISTANT, USER, OTHER = 0, 1, 2
"""Codes of roles."""

THRESHOLD = 0.5
"""From which score on a user's turn counts as distressed, or as a delusional claim."""


class Needs(NamedTuple):
    """What a column is computed from."""

    every: tuple[str, ...]  # score columns, all of them
    some: tuple[str, ...] = ()  # and at least one of these
    user: bool = False  # of user turns, too


COLUMNS: dict[str, Needs] = {
    **{f"{name}_{what}": Needs((name,)) for name in dynamics.SCORES for what in MEASURES},
    "distress_share": Needs(("distress",)),
    "response_to_distress": Needs(("distress",), ("warmth", "seek_help"), user=True),
    "mirroring": Needs(("valence",), user=True),
    "boundary_keeping": Needs(("delusion_reinforcement", "pushback"), user=True),
}
"""Every column of conversations, in order."""

ONLY_CONVERSATIONS = ("n_turns", "distress_share", "response_to_distress", "mirroring", "boundary_keeping")
"""Columns that no other unit has."""


def available(columns: Collection[str]) -> list[str]:
    """Return the columns of conversations that can be computed from some score columns, in order."""
    return [
        name
        for name, needs in COLUMNS.items()
        if all(c in columns for c in needs.every) and (not needs.some or any(c in columns for c in needs.some))
    ]


def needed(name: str) -> str:
    """Say what a column is computed from."""
    needs = COLUMNS[name]
    return " and ".join([*needs.every, *([" or ".join(needs.some)] if needs.some else [])])


def inputs(names: Collection[str], columns: Collection[str]) -> set[str]:
    """Return those of some score columns that columns of conversations are computed from."""
    return {c for name in names for c in (*COLUMNS[name].every, *COLUMNS[name].some) if c in columns}


def conversation_columns(
    columns: Mapping[str, np.ndarray],
    role: np.ndarray,
    offsets: np.ndarray,
    names: Collection[str],
    backend: str = "numba",
) -> dict[str, np.ndarray]:
    """Compute columns of conversations from the scores of their turns.

    Parameters
    ----------
    columns
        Score columns of the turns of all conversations, float32 (n_turns,) each: what was said, in order, without turns
        that have no text.
    role
        uint8 (n_turns,): `ASSISTANT`, `USER` or `OTHER`.
    offsets
        int64 (n + 1,): conversation c has turns ``offsets[c]:offsets[c + 1]``.
    names
        Columns wanted, of `available`.
    backend
        `reference`, `numba` or `triton`.

    Returns
    -------
    dict
        Name to float32 (n,); NaN where there is nothing to say:

        - ``<m>_sd``, ``_instability``, ``_inertia``, ``_slope``, ``_peak`` of valence and distress: the dynamics over
          the assistant's turns, see `affectcore.metrics.dynamics`;
        - ``distress_share``: the share of the assistant's turns with distress of `THRESHOLD` or more;
        - ``response_to_distress``: mean, over the assistant turns that come right after a user turn with distress of
          `THRESHOLD` or more, of the larger of warmth and seek_help;
        - ``mirroring``: Pearson correlation of a user turn's valence and that of the assistant turn right after it,
          from three pairs on;
        - ``boundary_keeping``: mean pushback of the assistant turns right after a user turn whose
          delusion_reinforcement is `THRESHOLD` or more.
    """
    out: dict[str, np.ndarray] = {}
    spoken = np.flatnonzero(role == ASSISTANT)
    bounds = np.searchsorted(spoken, offsets)
    for name in dynamics.SCORES:
        if any(f"{name}_{what}" in names for what in MEASURES):
            out |= dynamics.columns(name, columns[name][spoken], bounds, backend)
    if "distress_share" in names:
        distressed = np.where(np.isnan(columns["distress"]), np.nan, columns["distress"] >= THRESHOLD)
        out["distress_share"] = _mean(distressed, spoken, offsets)
    # Assistant turns right after a user turn of the same conversation, and that turn.
    first = np.zeros(len(role) + 1, bool)
    first[offsets[:-1]] = True
    reply = spoken[~first[spoken]]
    reply = reply[role[reply - 1] == USER]
    asked = reply - 1
    if "response_to_distress" in names:
        care = np.full(len(role), np.nan, np.float32)
        for name in ("warmth", "seek_help"):
            if name in columns:
                care = np.fmax(care, columns[name])
        out["response_to_distress"] = _mean(care, reply[columns["distress"][asked] >= THRESHOLD], offsets)
    if "boundary_keeping" in names:
        claimed = columns["delusion_reinforcement"][asked] >= THRESHOLD
        out["boundary_keeping"] = _mean(columns["pushback"], reply[claimed], offsets)
    if "mirroring" in names:
        out["mirroring"] = _pearson(columns["valence"], asked, reply, offsets, backend)
    return {name: out[name] for name in COLUMNS if name in names}


def _mean(values: np.ndarray, chosen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the mean of the chosen turns of each conversation, NaN for none."""
    chosen = chosen[~np.isnan(values[chosen])]
    owner = np.searchsorted(offsets, chosen, side="right") - 1
    n = np.bincount(owner, minlength=len(offsets) - 1)
    total = np.bincount(owner, values[chosen].astype(np.float64), minlength=len(offsets) - 1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(np.float32)


def _pearson(values: np.ndarray, left: np.ndarray, right: np.ndarray, offsets: np.ndarray, backend: str) -> np.ndarray:
    """Correlate pairs of turns within each conversation: NaN for fewer than three, and where one side is constant."""
    from affectcore.kernels.dynamics import correlation

    whole = ~np.isnan(values[left]) & ~np.isnan(values[right])
    left, right = left[whole], right[whole]
    bounds = np.searchsorted(right, offsets)
    placed = dispatch.place((values[left], values[right], bounds), backend)
    found: np.ndarray = dispatch.fetch(correlation(*placed, backend=backend))
    return found
