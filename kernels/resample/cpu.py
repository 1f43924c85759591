"""Numba kernels of the `resample` family; `__init__` documents the ops.

Weights of `resample` are bytes. No weight exceeds 255: of up to 255 clusters none is drawn more often than there are
draws, and of more one is drawn 256 times or more with a probability below n / 256!, which is 1e-497.
"""

from __future__ import annotations

import numpy as np

from affectcore.kernels.dispatch import inline, jit

from .tables import MULTIPLIERS, ROUNDS, WEYL

LANES = 64  # replicates that are summed side by side
TILE = 64  # clusters whose weights are float64 at a time; a multiple of 4
COLUMNS = 1024  # with sums at a time: those of 64 replicates take half a MiB
WEIGHTS = 1 << 26  # bytes of weights at a time: with more than a million clusters there are fewer replicates
CALLS = 512  # of Philox before their draws are counted: the first loop runs in vectors, the second cannot

M0, M1 = map(np.uint64, MULTIPLIERS)
W0, W1 = map(np.uint64, WEYL)
WORD, HALF, ZERO = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0)


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """Return four random words of 32 bits; all words are held as uint64."""
    for _ in range(ROUNDS):
        a, b = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (b >> HALF) ^ c1 ^ k0, b & WORD, (a >> HALF) ^ c3 ^ k1, a & WORD
        k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD
    return c0, c1, c2, c3


@inline
def _cluster(high, low, n):
    return (high * n + ((low * n) >> HALF)) >> HALF


@jit
def _count(weights, seed, first):
    """Fill weights (rows, n_clusters) with how often replicates `first`, `first` + 1, ... draw each cluster."""
    n = weights.shape[1]
    clusters = np.uint64(n)
    drawn = np.empty((2, CALLS), np.uint32)
    weights[:] = 0
    for r in range(weights.shape[0]):
        replicate = np.uint64(first + r)
        for start in range(0, n, 2 * CALLS):
            even, odd = min(CALLS, (n - start + 1) // 2), min(CALLS, (n - start) // 2)
            for i in range(even):
                call = np.uint64(start // 2 + i)
                a, b, c, d = philox(call, ZERO, replicate, ZERO, seed & WORD, seed >> HALF)
                drawn[0, i] = _cluster(a, b, clusters)
                drawn[1, i] = _cluster(c, d, clusters)
            for i in range(even):
                weights[r, drawn[0, i]] += 1
            for i in range(odd):
                weights[r, drawn[1, i]] += 1


@jit
def _product(weights, values, out):
    """Fill out (rows, k) with weights (rows, n_clusters) times values (n_clusters, k), for up to LANES rows.

    Vectors run over the replicates, so that few columns are as quick as many, and a sum's order is its own.
    """
    rows, n = weights.shape
    k = values.shape[1]
    four = np.zeros((TILE // 4, 4, LANES))  # weights of four clusters at a time
    part = np.empty(LANES)
    sums = np.empty((min(k, COLUMNS), LANES))
    for j0 in range(0, k, COLUMNS):
        width = min(COLUMNS, k - j0)
        sums[:] = 0.0
        for c0 in range(0, n, TILE):
            here = min(TILE, n - c0)
            groups = (here + 3) // 4
            for i in range(4 * groups):
                for r in range(rows):
                    four[i // 4, i % 4, r] = weights[r, c0 + i] if i < here else 0
            for j in range(width):
                part[:] = 0.0
                for g in range(groups):
                    c = c0 + 4 * g
                    # Beyond the last cluster the last one comes again, with weight 0.
                    v0, v1 = values[c, j0 + j], values[min(c + 1, n - 1), j0 + j]
                    v2, v3 = values[min(c + 2, n - 1), j0 + j], values[min(c + 3, n - 1), j0 + j]
                    for r in range(LANES):
                        part[r] += v0 * four[g, 0, r] + v1 * four[g, 1, r] + v2 * four[g, 2, r] + v3 * four[g, 3, r]
                for r in range(LANES):
                    sums[j, r] += part[r]
        for r in range(rows):
            for j in range(width):
                out[r, j0 + j] = sums[j, r]


def counts(n_clusters: int, n_replicates: int, seed: int, first: int) -> np.ndarray:
    """See `affectcore.kernels.resample.counts`."""
    out = np.empty((n_replicates, n_clusters), np.int32)
    _count(out, np.uint64(seed), first)
    return out


def resample(values: np.ndarray, n_replicates: int, seed: int, first: int) -> np.ndarray:
    """See `affectcore.kernels.resample.resample`."""
    values = np.ascontiguousarray(values)
    out = np.empty((n_replicates, values.shape[1]))
    rows = min(LANES, n_replicates, max(1, WEIGHTS // max(1, len(values))))
    weights = np.empty((rows, len(values)), np.uint8)
    for start in range(0, n_replicates, max(1, rows)):
        part = out[start : start + rows]
        _count(weights[: len(part)], np.uint64(seed), first + start)
        _product(weights[: len(part)], values, part)
    return out
