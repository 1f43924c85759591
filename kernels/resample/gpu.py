"""Triton kernels of the `resample` family on torch tensors; `__init__` documents the ops.

One program owns a replicate and a few columns, and walks over its draws a tile at a time. A tile's rows have sums of
their own, which are added to each other at the end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

TILE = 1024  # values that a program of `resample` gathers at a time
COLUMNS = 64  # of a program, at most
CALLS = 512  # of Philox in a program of `counts`
WARPS = 4


@triton.jit
def _draw(call, replicate, seed, n):
    """Return the clusters of two draws, int64, from the calls' numbers, uint32."""
    zero = call * 0
    a, b, c, d = tl.philox(seed, call, zero, zero + replicate.to(tl.uint32), zero)
    clusters = n.to(tl.uint64)
    even = (a.to(tl.uint64) * clusters + ((b.to(tl.uint64) * clusters) >> 32)) >> 32
    odd = (c.to(tl.uint64) * clusters + ((d.to(tl.uint64) * clusters) >> 32)) >> 32
    return even.to(tl.int64), odd.to(tl.int64)


@triton.jit(do_not_specialize=["n", "seed", "first"])
def _count_kernel(out, n, seed, first, tiles, CALLS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) // tiles
    call = (tl.program_id(0).to(tl.int64) % tiles) * CALLS + tl.arange(0, CALLS)
    even, odd = _draw(call.to(tl.uint32), first + row, seed, n)
    at = out + row * n
    one = tl.full((CALLS,), 1, tl.int32)
    tl.atomic_add(at + even, one, mask=2 * call < n, sem="relaxed")
    tl.atomic_add(at + odd, one, mask=2 * call + 1 < n, sem="relaxed")


@triton.jit(do_not_specialize=["n", "seed", "first"])
def _resample_kernel(values, out, n, k, seed, first, CALLS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (column < k)[None, :]
    total = tl.full((CALLS, COLUMNS), 0.0, tl.float64)
    for base in range(0, (n.to(tl.int64) + 1) // 2, CALLS):
        call = base + tl.arange(0, CALLS)
        even, odd = _draw(call.to(tl.uint32), first + row, seed, n)
        total += tl.load(values + even[:, None] * k + column[None, :], (2 * call < n)[:, None] & inside, 0.0)
        total += tl.load(values + odd[:, None] * k + column[None, :], (2 * call + 1 < n)[:, None] & inside, 0.0)
    tl.store(out + row * k + column, tl.sum(total, 0), column < k)


def constants(k: int) -> dict[str, int]:
    """Return the compile-time arguments of `resample`'s kernel for k columns."""
    columns = min(triton.next_power_of_2(k), COLUMNS)
    return {"CALLS": TILE // columns, "COLUMNS": columns}


def _signed(seed: int) -> int:
    """Return the int64 of the same bits."""
    return seed - 2**64 if seed >= 2**63 else seed


def counts(n_clusters: int, n_replicates: int, seed: int, first: int) -> Any:
    """See `affectcore.kernels.resample.counts`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = torch.zeros((n_replicates, n_clusters), dtype=torch.int32, device=device)
    if out.numel():
        tiles = triton.cdiv(n_clusters, 2 * CALLS)
        _count_kernel[(n_replicates * tiles,)](
            out, n_clusters, _signed(seed), first, tiles, CALLS=CALLS, num_warps=WARPS
        )
    return out


def resample(values: Any, n_replicates: int, seed: int, first: int) -> Any:
    """See `affectcore.kernels.resample.resample`."""
    n, k = values.shape
    out = torch.zeros((n_replicates, k), dtype=torch.float64, device=values.device)
    if out.numel():
        sizes = constants(k)
        grid = (n_replicates, triton.cdiv(k, sizes["COLUMNS"]))
        _resample_kernel[grid](
            values.contiguous(), out, n, k, _signed(seed), first, **sizes, num_warps=WARPS, enable_fp_fusion=False
        )
    return out
