"""Reference of the `resample` family: Philox in whole numbers, rows drawn one by one, sums rounded once."""

from __future__ import annotations

import math

import numpy as np

from .tables import MULTIPLIERS, ROUNDS, WEYL

_WORD = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return four random words of 32 bits."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        a, b = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & _WORD, (a >> 32) ^ c3 ^ k1, a & _WORD
        k0, k1 = (k0 + WEYL[0]) & _WORD, (k1 + WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _draws(n_clusters: int, replicate: int, seed: int) -> list[int]:
    draws = []
    for d in range(n_clusters):
        words = philox((d // 2, 0, replicate, 0), (seed & _WORD, seed >> 32))
        high, low = words[2:] if d % 2 else words[:2]
        draws.append((high << 32 | low) * n_clusters >> 64)
    return draws


def counts(n_clusters: int, n_replicates: int, seed: int, first: int) -> np.ndarray:
    """See `affectcore.kernels.resample.counts`."""
    out = np.zeros((n_replicates, n_clusters), np.int32)
    for r in range(n_replicates):
        for cluster in _draws(n_clusters, first + r, seed):
            out[r, cluster] += 1
    return out


def resample(values: np.ndarray, n_replicates: int, seed: int, first: int) -> np.ndarray:
    """See `affectcore.kernels.resample.resample`."""
    out = np.empty((n_replicates, values.shape[1]))
    for r in range(n_replicates):
        drawn = values[_draws(len(values), first + r, seed)]
        out[r] = [math.fsum(column) for column in drawn.T]
    return out
