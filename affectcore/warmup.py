"""Compiling ahead: every kernel that the usual commands run with a model, so that no later process has to."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from affectcore.kernels import compilation

if TYPE_CHECKING:
    from affectcore.scorer import Scorer

__all__ = ["WarmUp", "load_kernels", "warm_up"]

# Texts that no kernel is idle on: emoji, bytes that are no UTF-8, code, tables, quotes, URLs, accents, Chinese, long
# words, negations, "but", and enough sentences for several passages.
_TEXTS: tuple[str | bytes | None, ...] = (
    "I'm SO happy!!! 😊 It isn't bad at all, but the ending felt hopeless... Sorry, I don't know why? " * 6,
    "Café naïve 情感 [MASK] antidisestablishmentarianism ﬁn\n\n```py\nx = 1\n```\n| a | b |\n|---|---|\n> quoted\n\nhttps://a.org",
    b"broken \xff\xfe bytes \xf0\x9f",
    "",
    None,
)


@dataclass(frozen=True)
class WarmUp:
    """What `warm_up` did.

    Attributes
    ----------
    kernels
        Names of the kernels compiled, in their order; empty if the cache had them all.
    seconds
        Wall time of it all.
    """

    kernels: tuple[str, ...]
    seconds: float


def warm_up(model: str = "static", metrics: str | Sequence[str] = "default", *, precision: str = "auto") -> WarmUp:
    """Compile what scoring with a model and comparing models need, in all units; quick where nothing is left to do.

    What is compiled stays in Numba's cache (`affectcore doctor` says where), for other processes on machines with the
    same kind of CPU. The first scores of a process that skipped this come as much later.

    Parameters
    ----------
    model, metrics, precision
        As of `affectcore.Scorer`.

    Returns
    -------
    WarmUp
        What was compiled, and how long it took.

    Raises
    ------
    UsageError, InputError
        If the model or a metric does not exist, or cannot be used.

    Examples
    --------
    >>> import affectcore as ac
    >>> _ = ac.warm_up("none")
    >>> ac.warm_up("none").kernels
    ()
    """
    import numpy as np
    import pyarrow as pa

    from affectcore.errors import UsageError
    from affectcore.kernels import resample
    from affectcore.scorer import UNITS, Scorer

    started, before = time.monotonic(), compilation.state().compiled
    refused: UsageError | None = None
    scorers = []
    for unit in UNITS:
        try:
            scorers.append(Scorer(model, metrics, unit, threads=1, precision=precision))
        except UsageError as error:  # metrics that are not of this unit
            refused = refused or error
    if refused is not None and not scorers:
        raise refused
    said = [text.encode() if isinstance(text, str) else text for text in _TEXTS]
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_binary())]))
    chat = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate([*said, *said])]
    for scorer in scorers:
        load_kernels(scorer)
        chats = scorer.unit in ("turn", "conversation")
        scorer.score_units(pa.array([chat], kind) if chats else pa.array(said, pa.large_binary()))
    resample.resample(np.ones((2, 1)), 2)
    compiled = dict.fromkeys(compilation.state().compiled[len(before) :])  # some for arguments of several types
    return WarmUp(tuple(compiled), time.monotonic() - started)


def load_kernels(scorer: Scorer) -> None:
    """Import the kernels that a scorer will run, so that their number is known when the first one is compiled."""
    if scorer.backend != "numba":
        return
    families = ["words", "tone"]
    if scorer.model != "none":
        families += ["segments", "wordpiece", "activations", "dynamics", "bag" if scorer.work is None else "encoder"]
    for family in families:
        importlib.import_module(f"affectcore.kernels.{family}.cpu")
