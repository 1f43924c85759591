"""Op family `bag`: from token ids to pooled features and logits, in one pass over the stream.

pool
    The features of a unit with tokens t_0 .. t_(L-1) are a weighted mean of table rows: one row for each token and, if
    the table has buckets, one for each pair of neighbours, found by hash (fastText's bag of n-grams: Joulin et al.
    2017, "Bag of Tricks for Efficient Text Classification", EACL; here int8 rows with a scale and a weight each):

        h = sum(scale_i * rows_i) / (sum(weight_i) + 1)

    over the rows i of t_0, (t_0, t_1), t_1, (t_1, t_2), t_2 ... in this order. The pair (a, b) has the row
    n_unigrams + bucket(a, b), with bucket in 32-bit unsigned arithmetic

        x = a * 0x9E3779B1 + b * 0x85EBCA77;  x ^= x >> 15;  x *= 0x2C1B3C6D;  x ^= x >> 12
        bucket = x * n_buckets >> 32        the top log2(n_buckets) bits of x; this product takes 64 bits

    Pairs do not reach across units; a unit without tokens has h = 0. Everything is float32, nothing is fused. Reads
    4 + 2 (d + 8) bytes a token, 4 d flops a token; writes 4 d bytes a unit.

logits
    out = z @ weight + bias with z = relu(h @ hidden + hidden_bias), or z = h without a hidden layer. h and z are never
    written to memory. 2 (d m + m k) flops a unit; writes 4 k bytes a unit.

Rows are int8 (Numba has no float16 on CPUs). A row starts on a cache line if the table comes from `align`.

Tolerance: reference and numba are bit-exact and add in reading order. triton adds the tokens in interleaved streams:
1e-5 of the largest feature or logit. A unit's result depends on nothing but the unit on any backend.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation, is_tensor

from .tables import Bag, Heads, align, bucket

__all__ = ["Bag", "Heads", "align", "bucket", "logits", "pool"]


def pool(ids: Any, offsets: Any, bag: Bag, *, backend: str = "auto") -> Any:
    """Return the features of units (see the module).

    Parameters
    ----------
    ids
        int32 (n_tokens,): token ids of all units, each in [0, n_unigrams).
    offsets
        int64 (n + 1,): unit bounds in the stream; they need not start at 0.
    bag
        The table.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float32 (n, d).

    Raises
    ------
    ValueError
        If the table is malformed, or a token id is outside the table. triton does not look for such ids, since to ask
        would be to wait for the GPU: there such a token, and a pair with it, adds nothing.
    """
    _check(bag)
    return implementation("bag", backend, ids, offsets, *bag).pool(ids, offsets, bag)


def logits(ids: Any, offsets: Any, bag: Bag, heads: Heads, *, backend: str = "auto") -> Any:
    """Return the logits of units (see the module).

    Parameters
    ----------
    ids
        int32 (n_tokens,): token ids of all units, each in [0, n_unigrams).
    offsets
        int64 (n + 1,): unit bounds in the stream; they need not start at 0.
    bag
        The table.
    heads
        The layers on top.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float32 (n, k). A unit without tokens has the logits of h = 0.

    Raises
    ------
    ValueError
        As `pool`, and if the heads do not fit the table.
    """
    _check(bag)
    d, (d_in, m), (n_in, k) = bag.rows.shape[1], heads.hidden.shape, heads.weight.shape
    if d_in != d or n_in != (m or d) or tuple(heads.hidden_bias.shape) != (m,) or tuple(heads.bias.shape) != (k,):
        raise ValueError(
            f"the heads do not fit a table of {d} columns: hidden {tuple(heads.hidden.shape)}, hidden_bias "
            f"{tuple(heads.hidden_bias.shape)}, weight {tuple(heads.weight.shape)}, bias {tuple(heads.bias.shape)}"
        )
    return implementation("bag", backend, ids, offsets, *bag, *heads).logits(ids, offsets, bag, heads)


def _check(bag: Bag) -> None:
    """Raise `ValueError` if shapes or types of the table are not what the kernels read."""
    kind = str(bag.rows.dtype).rpartition(".")[2]
    if kind != "int8" or bag.rows.ndim != 2 or bag.rows.shape[1] % 16 or not bag.rows.shape[1]:
        raise ValueError(
            f"rows must be int8 (n, d) with d a multiple of 16, not {kind} {tuple(bag.rows.shape)}: quantize the table"
        )
    if not is_tensor(bag.n_unigrams):  # to ask a GPU would be to wait for it
        n_buckets = bag.rows.shape[0] - int(bag.n_unigrams[0])
        if not 0 <= n_buckets < bag.rows.shape[0] or n_buckets & (n_buckets - 1) or n_buckets > 1 << 31:
            raise ValueError(
                f"of {bag.rows.shape[0]} rows {int(bag.n_unigrams[0])} are of single tokens: there must be one at "
                "least, and behind them none of pairs or a power of two of them"
            )
    if tuple(bag.gains.shape) != (bag.rows.shape[0], 2):
        raise ValueError(f"gains must be ({bag.rows.shape[0]}, 2), one pair a row, not {tuple(bag.gains.shape)}")
