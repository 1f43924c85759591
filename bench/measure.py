"""Contenders in one run: each round times all of them, one after another, so that noise hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus import Corpus
from machine import Neighbours

SECTIONS = (
    *("Limits", "Ops", "Tokens", "Long answers", "Emotions", "Encoder ops, one thread"),
    *("Encoder, 6 layers of 384, comments", "Encoder, 6 layers of 384, answers"),
    *("Encoder, 12 layers of 768, comments", "Encoder, 12 layers of 768, answers"),
    *("Emoji", "Files"),
)


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes
    ----------
    name
        What the table calls it.
    call
        What is timed.
    n_bytes, n_docs
        Text that one call handles.
    peer
        Name of the contender whose throughput is the measure, for the table's ratio.
    versus
        Names of further contenders to compare the throughput with; the table's note says so.
    note
        What else the table should say.
    n_tokens
        Tokens that one call handles, for the table's tokens/s.
    flops
        Operations that one call needs; with `rate`, the name of the contender whose rate of operations is the measure,
        the table tells the share.
    once
        True for what takes too long to be timed in every round.
    """

    name: str
    call: Callable[[], Any]
    n_bytes: int
    n_docs: int
    peer: str = ""
    versus: Sequence[str] = ()
    note: str = ""
    n_tokens: int = 0
    flops: float = 0.0
    rate: str = ""
    once: bool = False
    seconds: list[float] = field(default_factory=list)

    def time(self) -> None:
        """Time one call."""
        gc.collect()
        start = time.perf_counter()
        self.call()
        self.seconds.append(time.perf_counter() - start)

    def row(self) -> dict[str, Any]:
        """Return the row for the JSON."""
        return {name: value for name, value in vars(self).items() if name not in ("call", "once")}


def alternate(benchmark: Any, section: str, contenders: Sequence[Contender], rounds: int) -> None:
    """Time all contenders in turn, `rounds` times, after one call of each to warm up.

    pytest-benchmark times the first one; the others are timed while it sets the next round up. Their rows, with every
    duration, go to the `extra_info` of the benchmark.
    """
    first, *others = contenders
    for contender in contenders:
        if not contender.once:
            contender.call()

    def others_first() -> None:
        for other in others:
            if not (other.once and other.seconds):
                other.time()
        gc.collect()

    benchmark.group = section
    neighbours = Neighbours()
    benchmark.pedantic(first.call, setup=others_first, rounds=rounds)
    if benchmark.stats is not None:  # None with --benchmark-disable
        first.seconds.extend(benchmark.stats.stats.data)
        benchmark.extra_info["rows"] = [contender.row() for contender in contenders]
        benchmark.extra_info["neighbours"] = neighbours.cores()
        benchmark.extra_info["mb_per_s"] = first.n_bytes / 1e6 / benchmark.stats.stats.median


ROUNDS = {"numba": 20, "reference": 3}
REFERENCE_BYTES = 200_000


def time_op(benchmark: Any, answers: Corpus, op: str, setup: Callable[..., Any], backend: str) -> None:
    """Time one op on all answers, or on a small sample where the reference runs."""
    texts = answers if backend == "numba" else answers.sample(REFERENCE_BYTES)
    call = setup(texts.array, backend)
    alternate(benchmark, "Ops", [Contender(f"{op}, {backend}", call, texts.n_bytes, len(texts))], ROUNDS[backend])
