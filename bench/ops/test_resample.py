"""Bootstrap replicates on one thread: many clusters with few columns, and a leaderboard's width."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from measure import Contender, alternate

from affectcore.kernels import resample

REPLICATES = 64
ROUNDS = 7
SIZES = {
    "a million clusters, a sum and a count": (1_000_000, 2),
    "20,000 clusters, two sums and counts": (20_000, 4),
    "805 prompts, 228 models, 20 metrics": (805, 2 * 228 * 20),
}


@pytest.mark.parametrize("size", SIZES)
def test_resample(benchmark: Any, size: str) -> None:
    n, k = SIZES[size]
    values = np.random.default_rng(0).normal(size=(n, k))
    flops = 2.0 * n * k * REPLICATES
    peer = f"resample {size}, NumPy"
    contenders = [
        Contender(
            f"resample {size}, numba",
            partial(resample.resample, values, REPLICATES, backend="numba"),
            0,
            0,
            flops=flops,
            rate=peer,
        ),
        Contender(
            peer, partial(with_numpy, values), 0, 0, flops=flops, note="integers, bincount and @, on BLAS's threads"
        ),
    ]
    alternate(benchmark, "Ops", contenders, ROUNDS)


def with_numpy(values: np.ndarray, at_a_time: int = 16) -> np.ndarray:
    """Resample in NumPy's quickest way that we know: counts of numbers drawn, and matrix products."""
    rng, n = np.random.default_rng(0), len(values)
    out = np.empty((REPLICATES, values.shape[1]))
    weights = np.empty((at_a_time, n))
    for first in range(0, REPLICATES, at_a_time):
        for row in weights:
            row[:] = np.bincount(rng.integers(n, size=n, dtype=np.uint32), minlength=n)
        np.matmul(weights, values, out=out[first : first + at_a_time])
    return out
