"""Triton kernels of the `dynamics` family on torch tensors; `__init__` documents the ops.

One program owns a series and a few columns, and walks over its steps a tile at a time, twice: for the means, and for
what deviates from them. A tile's rows have sums of their own, which are added to each other at the end, so that a
result depends on the series alone.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from . import tables
from .tables import Dynamics

LEAST_PAIRS = tl.constexpr(tables.LEAST_PAIRS)

TILE = 128  # values that a program works on at a time
COLUMNS = 32  # of a program, at most


@triton.jit
def _load(values, i, column, here, k):
    """Values of steps `i`, float64 (ROWS, COLUMNS): NaN where not `here`."""
    tile = here[:, None] & (column < k)[None, :]
    at = i[:, None] * k + column[None, :]
    return tl.load(values + at, mask=tile, other=float("nan")).to(tl.float64)


@triton.jit
def _ratio(both, var_a, var_b, pairs):
    enough = (pairs >= LEAST_PAIRS) & (var_a > 0.0) & (var_b > 0.0)
    return tl.where(enough, both / tl.sqrt(tl.where(enough, var_a * var_b, 1.0)), float("nan"))


@triton.jit(do_not_specialize=["n"])  # 1 would become a Python number
def _dynamics_kernel(values, offsets, out, counts, n, k, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    s = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    lo = tl.load(offsets + s)
    hi = tl.load(offsets + s + 1)
    count = tl.full((ROWS, COLUMNS), 0, tl.int32)
    pairs = count
    infinite = count
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float64)
    places = total
    squares = total
    first = total
    second = total
    peak = tl.full((ROWS, COLUMNS), float("-inf"), tl.float64)
    for base in range(lo, hi, ROWS):
        i = base + tl.arange(0, ROWS)
        x = _load(values, i, column, i < hi, k)
        before = _load(values, i - 1, column, (i < hi) & (i > lo), k)
        there = x == x
        both_there = there & (before == before)
        t = (i - lo).to(tl.float64)[:, None]
        count += there.to(tl.int32)
        pairs += both_there.to(tl.int32)
        infinite += (tl.abs(x) == float("inf")).to(tl.int32)
        total += tl.where(there, x, 0.0)
        places += tl.where(there, t, 0.0)
        squares += tl.where(both_there, (x - before) * (x - before), 0.0)
        first += tl.where(both_there, before, 0.0)
        second += tl.where(both_there, x, 0.0)
        peak = tl.where(there & (x > peak), x, peak)
    n_here = tl.sum(count, 0)
    n_pairs = tl.sum(pairs, 0)
    values_here = tl.maximum(n_here, 1).to(tl.float64)
    pairs_here = tl.maximum(n_pairs, 1).to(tl.float64)
    mean = tl.sum(total, 0) / values_here
    middle = tl.sum(places, 0) / values_here
    mean_a = tl.sum(first, 0) / pairs_here
    mean_b = tl.sum(second, 0) / pairs_here
    mssd = tl.sum(squares, 0) / pairs_here
    highest = tl.max(peak, 0)
    bad = (n_here == 0) | (tl.sum(infinite, 0) > 0)

    var = tl.full((ROWS, COLUMNS), 0.0, tl.float64)
    rise = var
    width = var
    var_a = var
    var_b = var
    both = var
    for base in range(lo, hi, ROWS):
        i = base + tl.arange(0, ROWS)
        x = _load(values, i, column, i < hi, k)
        before = _load(values, i - 1, column, (i < hi) & (i > lo), k)
        there = x == x
        both_there = there & (before == before)
        t = (i - lo).to(tl.float64)[:, None] - middle[None, :]
        away = x - mean[None, :]
        away_a = before - mean_a[None, :]
        away_b = x - mean_b[None, :]
        var += tl.where(there, away * away, 0.0)
        rise += tl.where(there, t * away, 0.0)
        width += tl.where(there, t * t, 0.0)
        var_a += tl.where(both_there, away_a * away_a, 0.0)
        var_b += tl.where(both_there, away_b * away_b, 0.0)
        both += tl.where(both_there, away_a * away_b, 0.0)
    none = float("nan")
    few = bad | (n_here < 2)
    sd = tl.sqrt(tl.sum(var, 0) / tl.maximum(n_here - 1, 1).to(tl.float64))
    widths = tl.sum(width, 0)
    slope = tl.sum(rise, 0) / tl.where(widths > 0.0, widths, 1.0)
    inertia = _ratio(tl.sum(both, 0), tl.sum(var_a, 0), tl.sum(var_b, 0), n_pairs)
    inside = column < k
    at = s * k + column
    step = n.to(tl.int64) * k
    tl.store(out + at, tl.where(bad, none, mean).to(tl.float32), mask=inside)
    tl.store(out + step + at, tl.where(few, none, sd).to(tl.float32), mask=inside)
    tl.store(out + 2 * step + at, tl.where(bad | (n_pairs == 0), none, mssd).to(tl.float32), mask=inside)
    tl.store(out + 3 * step + at, tl.where(bad, none, inertia).to(tl.float32), mask=inside)
    tl.store(out + 4 * step + at, tl.where(few, none, slope).to(tl.float32), mask=inside)
    tl.store(out + 5 * step + at, tl.where(n_here == 0, none, highest).to(tl.float32), mask=inside)
    tl.store(counts + at, n_here, mask=inside)


@triton.jit
def _correlation_kernel(a, b, offsets, out, k, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    s = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    lo = tl.load(offsets + s)
    hi = tl.load(offsets + s + 1)
    pairs = tl.full((ROWS, COLUMNS), 0, tl.int32)
    first = tl.full((ROWS, COLUMNS), 0.0, tl.float64)
    second = first
    for base in range(lo, hi, ROWS):
        i = base + tl.arange(0, ROWS)
        x = _load(a, i, column, i < hi, k)
        y = _load(b, i, column, i < hi, k)
        there = (x == x) & (y == y)
        pairs += there.to(tl.int32)
        first += tl.where(there, x, 0.0)
        second += tl.where(there, y, 0.0)
    n_pairs = tl.sum(pairs, 0)
    mean_a = tl.sum(first, 0) / tl.maximum(n_pairs, 1).to(tl.float64)
    mean_b = tl.sum(second, 0) / tl.maximum(n_pairs, 1).to(tl.float64)
    var_a = tl.full((ROWS, COLUMNS), 0.0, tl.float64)
    var_b = var_a
    both = var_a
    for base in range(lo, hi, ROWS):
        i = base + tl.arange(0, ROWS)
        x = _load(a, i, column, i < hi, k)
        y = _load(b, i, column, i < hi, k)
        there = (x == x) & (y == y)
        away_a = x - mean_a[None, :]
        away_b = y - mean_b[None, :]
        var_a += tl.where(there, away_a * away_a, 0.0)
        var_b += tl.where(there, away_b * away_b, 0.0)
        both += tl.where(there, away_a * away_b, 0.0)
    r = _ratio(tl.sum(both, 0), tl.sum(var_a, 0), tl.sum(var_b, 0), n_pairs)
    tl.store(out + s * k + column, r.to(tl.float32), mask=column < k)


def constants(k: int) -> dict[str, int]:
    """Return the compile-time arguments of the kernels for k columns."""
    columns = min(triton.next_power_of_2(k), COLUMNS)
    return {"ROWS": TILE // columns, "COLUMNS": columns}


def dynamics(values: Any, offsets: Any) -> Dynamics:
    """See `affectcore.kernels.dynamics.dynamics`."""
    n, shape, k = len(offsets) - 1, values.shape[1:], values.shape[1:].numel()
    out = torch.empty((6, n, *shape), dtype=torch.float32, device=values.device)
    counts = torch.empty((n, *shape), dtype=torch.int32, device=values.device)
    if counts.numel():
        sizes = constants(k)
        grid = (n, triton.cdiv(k, sizes["COLUMNS"]))
        _dynamics_kernel[grid](
            values.contiguous(), offsets, out, counts, n, k, **sizes, num_warps=1, enable_fp_fusion=False
        )
    return Dynamics(*[*out, counts])


def correlation(a: Any, b: Any, offsets: Any) -> Any:
    """See `affectcore.kernels.dynamics.correlation`."""
    n, shape, k = len(offsets) - 1, a.shape[1:], a.shape[1:].numel()
    out = torch.empty((n, *shape), dtype=torch.float32, device=a.device)
    if out.numel():
        sizes = constants(k)
        grid = (n, triton.cdiv(k, sizes["COLUMNS"]))
        _correlation_kernel[grid](
            a.contiguous(), b.contiguous(), offsets, out, k, **sizes, num_warps=1, enable_fp_fusion=False
        )
    return out
