"""Reference of the `bag` family: what `__init__` says, row by row."""

from __future__ import annotations

import numpy as np

from .tables import PRIOR, Bag, Heads, bucket


def _rows(tokens: np.ndarray, bag: Bag) -> list[int]:
    """Return the numbers of a unit's rows in reading order."""
    n_unigrams = int(bag.n_unigrams[0])
    if tokens.size and (tokens.min() < 0 or tokens.max() >= n_unigrams):
        raise ValueError(f"token ids must be in [0, {n_unigrams}), found {tokens.min()} to {tokens.max()}")
    n_buckets = len(bag.rows) - n_unigrams
    if not n_buckets or not tokens.size:
        return tokens.tolist()  # type: ignore[no-any-return]
    out = [int(tokens[0])]
    for token, pair in zip(tokens[1:].tolist(), bucket(tokens[:-1], tokens[1:], n_buckets).tolist()):
        out += [n_unigrams + pair, token]
    return out


def pool(ids: np.ndarray, offsets: np.ndarray, bag: Bag) -> np.ndarray:
    """See `affectcore.kernels.bag.pool`."""
    out = np.zeros((len(offsets) - 1, bag.rows.shape[1]), np.float32)
    for u, (a, b) in enumerate(zip(offsets[:-1], offsets[1:])):
        weight = np.float32(0)
        for row in _rows(ids[a:b], bag):
            out[u] += bag.gains[row, 0] * bag.rows[row].astype(np.float32)
            weight += bag.gains[row, 1]
        out[u] /= weight + np.float32(PRIOR)
    return out


def _layer(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return x @ weight + bias, the products added to the bias one input after another."""
    out = np.repeat(bias[None], len(x), 0)
    for i in range(len(weight)):
        out += x[:, i, None] * weight[i]
    return out


def logits(ids: np.ndarray, offsets: np.ndarray, bag: Bag, heads: Heads) -> np.ndarray:
    """See `affectcore.kernels.bag.logits`."""
    x = pool(ids, offsets, bag)
    if heads.hidden.shape[1]:
        x = np.maximum(_layer(x, heads.hidden, heads.hidden_bias), np.float32(0))
    return _layer(x, heads.weight, heads.bias)
