"""Triton kernels of the `bag` family on torch tensors; `__init__` documents the ops.

One program owns one unit and walks over it a tile of tokens at a time. A tile's rows are loaded 16 bytes a lane; tokens
are added to as many sums as the tile has rows, and those to each other at the end, so that a result depends on the unit
alone. The layers take the features from registers.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import tables
from .tables import Bag, Heads

PRIOR = tl.constexpr(tables.PRIOR)
FIRST_FACTOR, SECOND_FACTOR = tl.constexpr(tables.FIRST_FACTOR), tl.constexpr(tables.SECOND_FACTOR)
MIX_FACTOR = tl.constexpr(tables.MIX_FACTOR)
FIRST_SHIFT, SECOND_SHIFT = tl.constexpr(tables.FIRST_SHIFT), tl.constexpr(tables.SECOND_SHIFT)

TILE = 1024  # table entries that a program loads in one step, and as many weights
WARPS = 1


@triton.jit
def _features(
    ids, offsets, rows, gains, n_unigrams, n_rows, D: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr
):
    """Return this program's features (WIDTH,), zero from column D on."""
    u = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + u)
    hi = tl.load(offsets + u + 1)
    limit = tl.load(n_unigrams)
    n_buckets = n_rows - limit
    pair_limit = tl.where(n_buckets > 0, limit, 0)
    column = tl.arange(0, WIDTH)
    inside = column[None, :] < D
    sums = tl.full((TOKENS, WIDTH), 0.0, tl.float32)
    weights = tl.full((TOKENS,), 0.0, tl.float32)
    for base in range(lo, hi, TOKENS):
        i = base + tl.arange(0, TOKENS)
        here = i < hi
        token = tl.load(ids + i, mask=here, other=-1)
        before = tl.load(ids + i - 1, mask=here & (i > lo), other=-1)
        # Ids outside the table add nothing.
        known = (token >= 0) & (token < limit)
        paired = known & (before >= 0) & (before < pair_limit)
        x = before.to(tl.uint32) * FIRST_FACTOR + token.to(tl.uint32) * SECOND_FACTOR
        x = x ^ (x >> FIRST_SHIFT)
        x = x * MIX_FACTOR
        x = x ^ (x >> SECOND_SHIFT)
        pair = limit + ((x.to(tl.uint64) * n_buckets.to(tl.uint64)) >> 32).to(tl.int64)
        single = token.to(tl.int64)

        pair_values = tl.load(rows + pair[:, None] * D + column[None, :], mask=paired[:, None] & inside, other=0)
        values = tl.load(rows + single[:, None] * D + column[None, :], mask=known[:, None] & inside, other=0)
        scale = tl.load(gains + 2 * pair, mask=paired, other=0.0)
        sums += scale[:, None] * pair_values.to(tl.float32)
        weights += tl.load(gains + 2 * pair + 1, mask=paired, other=0.0)
        scale = tl.load(gains + 2 * single, mask=known, other=0.0)
        sums += scale[:, None] * values.to(tl.float32)
        weights += tl.load(gains + 2 * single + 1, mask=known, other=0.0)
    return tl.sum(sums, 0) / (tl.sum(weights, 0) + PRIOR)


@triton.jit
def _pool_kernel(
    ids, offsets, rows, gains, n_unigrams, n_rows, out, D: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr
):
    h = _features(ids, offsets, rows, gains, n_unigrams, n_rows, D, WIDTH, TOKENS)
    column = tl.arange(0, WIDTH)
    tl.store(out + tl.program_id(0).to(tl.int64) * D + column, h, mask=column < D)


@triton.jit
def _logits_kernel(
    ids,
    offsets,
    rows,
    gains,
    n_unigrams,
    n_rows,
    hidden,
    hidden_bias,
    weight,
    bias,
    out,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEP: tl.constexpr,
):
    """`STEP` units of the layer above the features at a time: hidden ones, each added to all outputs, or outputs."""
    h = _features(ids, offsets, rows, gains, n_unigrams, n_rows, D, WIDTH, TOKENS)
    u = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    output = tl.arange(0, OUTPUTS)
    if M > 0:
        total = tl.load(bias + output, mask=output < K, other=0.0)
        for base in range(0, M, STEP):
            j = base + tl.arange(0, STEP)
            tile = (column[:, None] < D) & (j[None, :] < M)
            factors = tl.load(hidden + column[:, None] * M + j[None, :], mask=tile, other=0.0)
            z = tl.sum(h[:, None] * factors, 0) + tl.load(hidden_bias + j, mask=j < M, other=0.0)
            z = tl.where(z < 0.0, 0.0, z)  # not maximum(): NaN stays
            tile = (j[:, None] < M) & (output[None, :] < K)
            factors = tl.load(weight + j[:, None] * K + output[None, :], mask=tile, other=0.0)
            total += tl.sum(z[:, None] * factors, 0)
        tl.store(out + u * K + output, total, mask=output < K)
    else:
        for base in range(0, K, STEP):
            j = base + tl.arange(0, STEP)
            tile = (column[:, None] < D) & (j[None, :] < K)
            factors = tl.load(weight + column[:, None] * K + j[None, :], mask=tile, other=0.0)
            total = tl.sum(h[:, None] * factors, 0) + tl.load(bias + j, mask=j < K, other=0.0)
            tl.store(out + u * K + j, total, mask=j < K)


def pool_constants(d: int) -> dict[str, int]:
    """Return the compile-time arguments of the kernel that pools."""
    width = triton.next_power_of_2(d)
    return {"D": d, "WIDTH": width, "TOKENS": max(TILE // width, 1)}


def logits_constants(d: int, m: int, k: int) -> dict[str, int]:
    """Return the compile-time arguments of the kernel that computes logits."""
    constants, outputs = pool_constants(d), triton.next_power_of_2(k)
    step = max(TILE // max(constants["WIDTH"], outputs if m else 1), 1)
    return {**constants, "M": m, "K": k, "OUTPUTS": outputs, "STEP": step}


def pool(ids: Any, offsets: Any, bag: Bag) -> Any:
    """See `affectcore.kernels.bag.pool`."""
    n, (n_rows, d) = len(offsets) - 1, bag.rows.shape
    out = torch.empty((n, d), dtype=torch.float32, device=ids.device)
    if n:
        options = {"num_warps": WARPS, "enable_fp_fusion": False}
        _pool_kernel[(n,)](ids, offsets, *_contiguous(bag), n_rows, out, **pool_constants(d), **options)
    return out


def logits(ids: Any, offsets: Any, bag: Bag, heads: Heads) -> Any:
    """See `affectcore.kernels.bag.logits`."""
    n, (n_rows, d), m, k = len(offsets) - 1, bag.rows.shape, len(heads.hidden_bias), len(heads.bias)
    out = torch.empty((n, k), dtype=torch.float32, device=ids.device)
    if n and k:
        arrays = (ids, offsets, *_contiguous(bag), n_rows, *_contiguous(heads), out)
        _logits_kernel[(n,)](*arrays, **logits_constants(d, m, k), num_warps=WARPS, enable_fp_fusion=False)
    return out


def _contiguous(tensors: Any) -> list[Any]:
    return [tensor.contiguous() for tensor in tensors]
