"""Tables of the `bag` ops, as plain arrays, and the hash that finds a pair's row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

PRIOR = 1.0  # weight of no evidence: draws the features of short units, and of units without weight, to 0
FIRST_FACTOR, SECOND_FACTOR, MIX_FACTOR = 0x9E3779B1, 0x85EBCA77, 0x2C1B3C6D
FIRST_SHIFT, SECOND_SHIFT = 15, 12
_LINE = 64  # bytes of a cache line


class Bag(NamedTuple):
    """Rows of single tokens, and after them rows of hashed pairs (a power of two of them, or none)."""

    rows: Any  # int8 (n_unigrams + n_buckets, d), d a multiple of 16
    gains: Any  # float32 (n_unigrams + n_buckets, 2): what a row is multiplied with, and what it adds to the weight
    n_unigrams: Any  # int32 (1,)


class Heads(NamedTuple):
    """The layers from d features to k logits; with m = 0 there is no hidden layer."""

    hidden: Any  # float32 (d, m)
    hidden_bias: Any  # float32 (m,)
    weight: Any  # float32 (m, k), or (d, k) without a hidden layer
    bias: Any  # float32 (k,)


def bucket(a: Any, b: Any, n_buckets: int) -> np.ndarray:
    """Return the bucket of token pairs, int64 (n,) in [0, n_buckets).

    Parameters
    ----------
    a, b
        Integer arrays (n,) of ids in [0, 2^32): first and second token of each pair.
    n_buckets
        A power of two.

    Raises
    ------
    ValueError
        If `n_buckets` is not a power of two, or is over 2^31.
    """
    if n_buckets < 1 or n_buckets & (n_buckets - 1) or n_buckets > 1 << 31:
        raise ValueError(f"the number of buckets must be a power of two, not {n_buckets}")
    # 64 bits hold the remainders' products without a carry that matters: each step keeps the low 32.
    first, second = (np.asarray(t).astype(np.uint64) for t in (a, b))
    low = np.uint64(0xFFFFFFFF)
    x = (first * np.uint64(FIRST_FACTOR) + second * np.uint64(SECOND_FACTOR)) & low
    x ^= x >> np.uint64(FIRST_SHIFT)
    x = (x * np.uint64(MIX_FACTOR)) & low
    x ^= x >> np.uint64(SECOND_SHIFT)
    return ((x * np.uint64(n_buckets)) >> np.uint64(32)).astype(np.int64)


def align(rows: np.ndarray) -> np.ndarray:
    """Return a copy of `rows` that starts on a cache line, so that a row of 64 bytes is one line and not two."""
    space = np.empty(rows.nbytes + _LINE, np.uint8)
    start = -space.ctypes.data % _LINE
    out = space[start : start + rows.nbytes].view(rows.dtype).reshape(rows.shape)
    out[...] = rows
    return out
