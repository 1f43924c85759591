"""Triton kernels of the `activations` family on torch tensors; `__init__` documents the ops.

One program owns a few rows, or one document's segments. A softmax walks over the columns, since a group may be any run
of them; rows and columns of results stay in registers.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import tables
from .tables import Activation

SIGMOID, SOFTMAX = tl.constexpr(tables.SIGMOID), tl.constexpr(tables.SOFTMAX)

TILE = 512  # elements that a program works on at a time
WARPS = 4


@triton.jit
def _activate_kernel(
    logits, kind, group, scale, shift, low, high, out, n, k, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = column < k
    tile = (row[:, None] < n) & inside[None, :]
    at = row[:, None] * k + column[None, :]
    kinds = tl.load(kind + column, mask=inside, other=0)
    groups = tl.load(group + column, mask=inside, other=0)
    x = tl.load(logits + at, mask=tile, other=0.0) * tl.load(scale + column, mask=inside, other=0.0)[None, :]
    x += tl.load(shift + column, mask=inside, other=0.0)[None, :]
    power = tl.exp(-tl.abs(x))
    sigmoid = tl.where(x < 0.0, power, 1.0) / (1.0 + power)
    lows = tl.load(low + column, mask=inside, other=0.0)[None, :]
    highs = tl.load(high + column, mask=inside, other=0.0)[None, :]
    clipped = tl.where(x < lows, lows, tl.where(x > highs, highs, x))
    result = tl.where((kinds == SIGMOID)[None, :], sigmoid, clipped)

    softmax = inside & (kinds == SOFTMAX)
    if tl.max(softmax.to(tl.int32), 0) > 0:
        top = x
        number = x == x
        for j in range(0, k):
            if tl.load(kind + j) == SOFTMAX:
                same = (softmax & (groups == tl.load(group + j)))[None, :]
                other = tl.load(logits + row * k + j, mask=row < n, other=0.0) * tl.load(scale + j)
                other = (other + tl.load(shift + j))[:, None]
                top = tl.where(same & (other > top), other, top)
                number &= (other == other) | ~same
        total = tl.full((ROWS, COLUMNS), 0.0, tl.float32) + tl.where(softmax, 0.0, 1.0)[None, :]
        for j in range(0, k):
            if tl.load(kind + j) == SOFTMAX:
                same = (softmax & (groups == tl.load(group + j)))[None, :]
                other = tl.load(logits + row * k + j, mask=row < n, other=0.0) * tl.load(scale + j)
                other = (other + tl.load(shift + j))[:, None]
                total += tl.where(same, tl.where(other == top, 1.0, tl.exp(other - top)), 0.0)
        share = tl.where(x == top, 1.0, tl.exp(x - top)) / total
        result = tl.where(softmax[None, :], tl.where(number, share, float("nan")), result)
    tl.store(out + at, result, mask=tile)


def activate(logits: Any, activation: Activation) -> Any:
    """See `affectcore.kernels.activations.activate`."""
    logits = logits.contiguous()
    out, (n, k) = torch.empty_like(logits), logits.shape
    if out.numel():
        constants = activate_constants(k)
        grid = (triton.cdiv(n, constants["ROWS"]),)
        _activate_kernel[grid](logits, *activation, out, n, k, **constants, num_warps=WARPS, enable_fp_fusion=False)
    return out


def activate_constants(k: int) -> dict[str, int]:
    """Return the compile-time arguments of the kernel that activates."""
    columns = triton.next_power_of_2(k)
    return {"ROWS": max(TILE // columns, 1), "COLUMNS": columns}


@triton.jit
def _decide_kernel(probabilities, thresholds, out, n_values, k, VALUES: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * VALUES + tl.arange(0, VALUES)
    here = i < n_values
    p = tl.load(probabilities + i, mask=here, other=0.0)
    tl.store(out + i, (p >= tl.load(thresholds + i % k, mask=here, other=0.0)).to(tl.uint8), mask=here)


def decide(probabilities: Any, thresholds: Any) -> Any:
    """See `affectcore.kernels.activations.decide`."""
    probabilities = probabilities.contiguous()
    out = torch.empty_like(probabilities, dtype=torch.uint8)
    if out.numel():
        grid = (triton.cdiv(out.numel(), TILE),)
        _decide_kernel[grid](probabilities, thresholds, out, out.numel(), out.shape[1], TILE, num_warps=WARPS)
    return out


@triton.jit
def _aggregate_kernel(values, first, weights, out, k, COLUMNS: tl.constexpr):
    d = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    total = tl.full((COLUMNS,), 0.0, tl.float64)
    weight = tl.full((COLUMNS,), 0.0, tl.float64)
    for s in range(tl.load(first + d), tl.load(first + d + 1)):
        w = tl.load(weights + s).to(tl.float64)
        if w > 0.0:
            v = tl.load(values + s * k + column, mask=column < k, other=0.0)
            total += w * v.to(tl.float64)
            weight += w
    mean = tl.where(weight > 0.0, total / tl.where(weight > 0.0, weight, 1.0), float("nan"))
    tl.store(out + d * k + column, mean.to(tl.float32), mask=column < k)


def aggregate(values: Any, first: Any, weights: Any) -> Any:
    """See `affectcore.kernels.activations.aggregate`."""
    n, k = len(first) - 1, values.shape[1]
    out = torch.empty((n, k), dtype=torch.float32, device=values.device)
    if out.numel():
        columns = triton.next_power_of_2(k)
        _aggregate_kernel[(n,)](values.contiguous(), first, weights, out, k, columns, num_warps=1)
    return out
