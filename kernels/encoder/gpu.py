"""Triton kernels of the `encoder` family on torch tensors; `__init__` documents the ops.

A row of a result takes the same steps whatever stands beside it: the tiles depend on the GPU, the precision and the
network, never on the batch. Matrix products add in float32; norms, softmax and activations are float32; between the
ops stand arrays of the precision, except the sums of a network with norms before its layers, which stay float32.
Rows that a tile has too many repeat row 0 and are not stored: loads without masks.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from affectcore.kernels import dispatch

from . import graph
from .tables import ACTIVATIONS, convert

GELU = tl.constexpr(ACTIVATIONS.index("gelu"))
GELU_TANH = tl.constexpr(ACTIVATIONS.index("gelu_tanh"))
RELU = tl.constexpr(ACTIVATIONS.index("relu"))
TANH = tl.constexpr(ACTIVATIONS.index("tanh"))
SILU = tl.constexpr(ACTIVATIONS.index("silu"))
LOG2_E = tl.constexpr(1.4426950408889634)
SQRT_HALF = tl.constexpr(0.7071067811865476)
SQRT_2_BY_PI = tl.constexpr(0.7978845608028654)
GELU_CUBE = tl.constexpr(0.044715)  # Hendrycks & Gimpel 2016, arXiv 1606.08415
HALF_PI = tl.constexpr(1.5707963267948966)
# Triton's interpreter multiplies the bits of bfloat16 as if they were integers, where float32 holds the products
# exactly, and cuts digits off where a GPU rounds to even.
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRECISIONS = tuple(DTYPES)
ROW_VALUES = 2048  # values that a program of the row kernels holds at once
ROW_WARPS = 4
POOL_COLUMNS, POOL_ROWS = 128, 16
OUT_ROWS, OUT_STEP = 16, 64
NARROW, WIDEST = 64, 128  # features of a head
GROUP = 8  # rows of tiles that share columns of the weight while these are in the cache


class Tile(NamedTuple):
    """Sizes of a matrix product's tiles: rows, columns, step along the sum; warps and stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


# Per kind of GPU and precision: chosen among a few by compiling them for it, so that nothing spills, tensor cores are
# in use, and shared memory stays within 227 KB, 64 KB (gfx942), or 99 KB (sm_80, for all GPUs of its generation).
# For attention `n` counts keys and `k` is nothing; `relative` is attention with relative positions, `wide` is for heads
# of more than 64.
_ATTENTION = {
    "attention": Tile(64, 64, 0, 4, 2),
    "relative": Tile(32, 32, 0, 4, 2),
    "relative wide": Tile(16, 16, 0, 4, 2),
}
_FP32 = {
    "linear": Tile(128, 128, 16, 8, 2),
    "gated": Tile(64, 64, 16, 8, 2),
    "attention": Tile(32, 32, 0, 4, 2),
    "attention wide": Tile(16, 16, 0, 4, 2),
    "relative": Tile(32, 32, 0, 8, 2),
    "relative wide": Tile(16, 16, 0, 4, 2),
}
TILES: dict[str, dict[str, dict[str, Tile]]] = {
    "sm_80": {
        "bf16": {"linear": Tile(128, 128, 64, 8, 3), "gated": Tile(128, 64, 64, 8, 3), **_ATTENTION},
        "fp32": _FP32,
    },
    "sm_90": {
        "bf16": {"linear": Tile(128, 128, 64, 8, 4), "gated": Tile(128, 64, 64, 8, 4), **_ATTENTION},
        "fp32": _FP32,
    },
    "sm_100": {
        "bf16": {"linear": Tile(128, 128, 64, 8, 4), "gated": Tile(128, 64, 64, 8, 4), **_ATTENTION},
        "fp32": _FP32,
    },
    "gfx942": {
        "bf16": {"linear": Tile(128, 128, 64, 4, 2), "gated": Tile(128, 64, 64, 4, 2), **_ATTENTION},
        "fp32": {**_FP32, "relative": Tile(16, 16, 0, 4, 1)},
    },
}


@triton.jit
def _dot(a, b, total=None):
    """Return a @ b, added to `total`."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")


@triton.jit
def _cast(x, dtype: tl.constexpr):
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.float32).to(tl.uint32, bitcast=True)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = tl.where(x == x, even.to(tl.float32, bitcast=True), x)
    return x.to(dtype)


@triton.jit
def _tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -y, y)


@triton.jit
def _activate(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == GELU:
        x = 0.5 * x * (1.0 + tl.erf(x * SQRT_HALF))
    elif ACTIVATION == GELU_TANH:
        x = 0.5 * x * (1.0 + _tanh((x + x * x * x * GELU_CUBE) * SQRT_2_BY_PI))
    elif ACTIVATION == RELU:
        x = tl.where(x < 0.0, 0.0, x)  # not maximum(): NaN stays
    elif ACTIVATION == TANH:
        x = _tanh(x)
    elif ACTIVATION == SILU:
        e = tl.exp(-tl.abs(x))  # never overflows
        x = x * tl.where(x >= 0, 1.0, e) / (1.0 + e)
    return x


@triton.jit
def _sine_cosine(turns):
    """Return float32 sine and cosine of float64 turns, to 1e-7: polynomials of at most an eighth of a turn.

    Those of the libraries take some GPUs' stack, for angles that never come.
    """
    quarters = tl.floor(turns * 4.0 + 0.5)
    r = ((turns * 4.0 - quarters) * HALF_PI).to(tl.float32)
    t = r * r
    s = r * (1.0 - t * (1 / 6 - t * (1 / 120 - t * (1 / 5040 - t * (1 / 362880)))))
    c = 1.0 - t * (1 / 2 - t * (1 / 24 - t * (1 / 720 - t * (1 / 40320 - t * (1 / 3628800)))))
    quarter = quarters.to(tl.int32) & 3
    swapped = (quarter & 1) == 1
    sine = tl.where(swapped, c, s)
    cosine = tl.where(swapped, s, c)
    sine = tl.where(quarter >= 2, -sine, sine)
    return sine, tl.where((quarter == 1) | (quarter == 2), -cosine, cosine)


@triton.jit
def _normalized(x, inside, weight, bias, column, eps, D: tl.constexpr):
    """Return rows x (rows, width), zero from column D on, normalized."""
    mean = tl.sum(x, 1) / D
    centred = tl.where(inside, x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / D
    scale = 1.0 / tl.sqrt(variance + eps)
    w = tl.load(weight + column, mask=column < D, other=0.0)
    b = tl.load(bias + column, mask=column < D, other=0.0)
    return centred * scale[:, None] * w[None, :] + b[None, :]


@triton.jit(do_not_specialize=["n_tokens", "n_words", "n_places"])
def _embed_kernel(
    ids,
    positions,
    words,
    places,
    weight,
    bias,
    out,
    n_tokens,
    n_words,
    n_places,
    eps,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    PLACES: tl.constexpr,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Gather the rows of words and positions, add, normalize. Ids outside the tables read nothing."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    here = row < n_tokens
    inside = here[:, None] & (column < D)[None, :]
    word = tl.load(ids + row, mask=here, other=0).to(tl.int64)
    known = inside & ((word >= 0) & (word < n_words))[:, None]
    x = tl.load(words + word[:, None] * D + column[None, :], mask=known, other=0.0).to(tl.float32)
    if PLACES:
        place = tl.load(positions + row, mask=here, other=0).to(tl.int64)
        known = inside & ((place >= 0) & (place < n_places))[:, None]
        x += tl.load(places + place[:, None] * D + column[None, :], mask=known, other=0.0).to(tl.float32)
    if NORM:
        x = _normalized(x, inside, weight, bias, column, eps, D)
    tl.store(out + row[:, None] * D + column[None, :], _cast(x, out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["n_rows"])
def _add_norm_kernel(
    x,
    residual,
    weight,
    bias,
    sums,
    out,
    n_rows,
    eps,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SUMS: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < n_rows)[:, None] & (column < D)[None, :]
    at = row[:, None] * D + column[None, :]
    s = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if RESIDUAL:
        s += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    if SUMS:
        tl.store(sums + at, s, mask=inside)
    y = _normalized(s, inside, weight, bias, column, eps, D)
    tl.store(out + at, _cast(y, out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["n_rows"])
def _linear_kernel(
    x,
    rows,
    weight,
    bias,
    out,
    n_rows,
    N: tl.constexpr,
    K: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    ROWS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Write x @ weight.T + bias, activated; of the rows `rows` of x where ROWS. N columns, of 2 N where GATED.

    Both matrices lie with the summed axis contiguous, as the tensor cores take them.
    """
    program = tl.program_id(0)
    n_down = tl.cdiv(n_rows, BM)
    n_across: tl.constexpr = (N + BN - 1) // BN
    group = program // (GROUP * n_across)
    height = tl.minimum(n_down - group * GROUP, GROUP)
    down = group * GROUP + program % (GROUP * n_across) % height
    across = program % (GROUP * n_across) // height

    row = down.to(tl.int64) * BM + tl.arange(0, BM)
    source = tl.where(row < n_rows, row, 0)
    if ROWS:
        source = tl.load(rows + source)
    column = across * BN + tl.arange(0, BN)
    place = tl.where(column < N, column, 0)
    k = tl.arange(0, BK)
    a_at = x + source[:, None] * K + k[None, :]
    b_at = weight + place[:, None] * K + k[None, :]
    total = tl.full((BM, BN), 0.0, tl.float32)
    gate = tl.full((BM, BN), 0.0, tl.float32)
    for base in range(0, K, BK):
        if K % BK == 0:
            a = tl.load(a_at)
            b = tl.load(b_at)
        else:
            inside = (base + k < K)[None, :]
            a = tl.load(a_at, mask=inside, other=0.0)
            b = tl.load(b_at, mask=inside, other=0.0)
        a = _cast(a, weight.dtype.element_ty)
        total = _dot(a, tl.trans(b), total)
        if GATED:
            if K % BK == 0:
                c = tl.load(b_at + N * K)
            else:
                c = tl.load(b_at + N * K, mask=inside, other=0.0)
            gate = _dot(a, tl.trans(c), gate)
        a_at += BK
        b_at += BK
    total += tl.load(bias + place)[None, :]
    total = _activate(total, ACTIVATION)
    if GATED:
        total *= gate + tl.load(bias + N + place)[None, :]
    inside = (row < n_rows)[:, None] & (column < N)[None, :]
    tl.store(out + row[:, None] * N + column[None, :], _cast(total, out.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_kernel(
    qkv,
    tiles,
    frequencies,
    out,
    N_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    WIDTH: tl.constexpr,
    BM: tl.constexpr,
):
    """Turn q and k of a tile's tokens, all heads: sine and cosine are computed once a token."""
    tile = tl.program_id(0)
    start = tl.load(tiles + 3 * tile)
    end = tl.load(tiles + 3 * tile + 1)
    token = tl.load(tiles + 3 * tile + 2) + tl.arange(0, BM)
    column = tl.arange(0, WIDTH)
    here = (token < end)[:, None] & (column < HALF)[None, :]
    frequency = tl.load(frequencies + column, mask=column < HALF, other=0.0)
    sine, cosine = _sine_cosine((token - start)[:, None] * frequency[None, :])
    source = qkv + token.to(tl.int64)[:, None] * (6 * N_HEADS * HALF) + column[None, :]
    target = out + token.to(tl.int64)[:, None] * (4 * N_HEADS * HALF) + column[None, :]
    for head in range(0, 2 * N_HEADS):
        at = head * (2 * HALF)
        a = tl.load(source + at, mask=here, other=0.0).to(tl.float32)
        b = tl.load(source + at + HALF, mask=here, other=0.0).to(tl.float32)
        tl.store(target + at, _cast(a * cosine - b * sine, out.dtype.element_ty), mask=here)
        tl.store(target + at + HALF, _cast(b * cosine + a * sine, out.dtype.element_ty), mask=here)


@triton.jit(do_not_specialize=["n_buckets"])
def _attention_kernel(
    q,
    k,
    v,
    tiles,
    bucket,
    relative_key,
    relative_query,
    out,
    scale,
    n_buckets,
    D: tl.constexpr,
    Q_STRIDE: tl.constexpr,
    V_STRIDE: tl.constexpr,
    HEAD: tl.constexpr,
    WIDTH: tl.constexpr,
    WINDOW: tl.constexpr,
    KEYS: tl.constexpr,
    QUERIES: tl.constexpr,
    FIRST: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """One tile of queries of one head: walks over the keys of their sequence with a running maximum and sum.

    Where FIRST only its first query counts, and its result is the tile's row of `out`.

    Relative positions (KEYS, QUERIES): the distances of a tile's queries to its keys are BM + BN - 1 numbers, so two
    further products with so many rows of the position tables hold all terms, and each pair picks its own. Products
    with the whole tables, in memory, would be 12,288 values a token for DeBERTa-v3-base: five times its q, k and v.
    """
    tile = tl.program_id(0)
    shift = tl.program_id(1) * HEAD
    start = tl.load(tiles + 3 * tile)
    end = tl.load(tiles + 3 * tile + 1)
    first = tl.load(tiles + 3 * tile + 2)
    column = tl.arange(0, WIDTH)
    wide = (column < HEAD)[None, :]
    i = first + tl.arange(0, BM)
    row = i.to(tl.int64)
    valid = i < end
    if FIRST:
        row = tile + tl.arange(0, BM).to(tl.int64)
        valid = valid & (i == first)
    here = valid[:, None]
    turned = tl.load(q + i.to(tl.int64)[:, None] * Q_STRIDE + shift + column[None, :], mask=here & wide, other=0.0)
    best = tl.full((BM,), float("-inf"), tl.float32)
    weights = tl.full((BM,), 0.0, tl.float32)
    total = tl.full((BM, WIDTH), 0.0, tl.float32)
    lo = start
    hi = end
    if WINDOW > 0:
        lo = start + tl.maximum(first - WINDOW - start, 0) // BN * BN
        hi = tl.minimum(end, first + BM + WINDOW)
    hi = tl.where(first < end, hi, lo)  # a tile that no sequence needs
    for base in range(lo, hi, BN):
        j = base + tl.arange(0, BN)
        there = (j < end)[:, None] & wide
        keys = tl.load(k + j.to(tl.int64)[:, None] * Q_STRIDE + shift + column[None, :], mask=there, other=0.0)
        scores = _dot(turned, tl.trans(keys))
        if KEYS or QUERIES:
            distance = first - base - (BN - 1) + tl.arange(0, BM + BN)
            index = tl.minimum(tl.maximum(distance + n_buckets // 2, 0), n_buckets - 1)
            place = tl.load(bucket + index).to(tl.int64)[:, None] * D + shift + column[None, :]
            pick = tl.arange(0, BM)[:, None] - tl.arange(0, BN)[None, :] + (BN - 1)
            if KEYS:
                table = _cast(tl.load(relative_key + place, mask=wide, other=0.0), turned.dtype)
                scores += tl.gather(_dot(turned, tl.trans(table)), pick, 1)
            if QUERIES:
                table = _cast(tl.load(relative_query + place, mask=wide, other=0.0), turned.dtype)
                scores += tl.gather(_dot(table, tl.trans(keys)), pick, 0)
        seen = (j < end)[None, :]
        if WINDOW > 0:
            seen = seen & (tl.abs(i[:, None] - j[None, :]) <= WINDOW)
        scores = tl.where(seen, scores * (scale * LOG2_E), float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        # No key seen so far: any finite number does.
        level = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(scores - level[:, None])
        fade = tl.exp2(best - level)
        weights = weights * fade + tl.sum(p, 1)
        values = tl.load(v + j.to(tl.int64)[:, None] * V_STRIDE + shift + column[None, :], mask=there, other=0.0)
        total = _dot(_cast(p, values.dtype), values, total * fade[:, None])
        best = higher
    total /= tl.where(valid, weights, 1.0)[:, None]
    tl.store(out + row[:, None] * D + shift + column[None, :], _cast(total, out.dtype.element_ty), mask=here & wide)


@triton.jit
def _mean_kernel(x, offsets, out, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    s = tl.program_id(0).to(tl.int64)
    lo = tl.load(offsets + s)
    hi = tl.load(offsets + s + 1)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    wide = (column < D)[None, :]
    total = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for base in range(lo, hi, ROWS):
        row = base + tl.arange(0, ROWS)
        values = tl.load(x + row[:, None] * D + column[None, :], mask=(row < hi)[:, None] & wide, other=0.0)
        total += values.to(tl.float32)
    mean = tl.sum(total, 0) / (hi - lo).to(tl.float32)
    tl.store(out + s * D + column, _cast(mean, out.dtype.element_ty), mask=column < D)


@triton.jit(do_not_specialize=["n_rows"])
def _out_kernel(
    x,
    rows,
    norm_weight,
    norm_bias,
    weight,
    bias,
    out,
    n_rows,
    eps,
    D: tl.constexpr,
    N: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
):
    """Write norm(activation(x)) @ weight.T + bias for a few sequences and outputs; of `rows` of x where ROWS."""
    row = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    source = tl.where(row < n_rows, row, 0)
    if ROWS:
        source = tl.load(rows + source)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    known = output < N
    mean = tl.full((TILE,), 0.0, tl.float32)
    scale = tl.full((TILE,), 1.0, tl.float32)
    step = tl.arange(0, STEP)
    at = x + source[:, None] * D + step[None, :]
    if NORM:
        for base in range(0, D, STEP):
            y = tl.load(at + base, mask=(base + step < D)[None, :], other=0.0).to(tl.float32)
            mean += tl.sum(_activate(y, ACTIVATION), 1)  # 0 stays 0
        mean /= D
        squares = tl.full((TILE,), 0.0, tl.float32)
        for base in range(0, D, STEP):
            wide = (base + step < D)[None, :]
            y = _activate(tl.load(at + base, mask=wide, other=0.0).to(tl.float32), ACTIVATION) - mean[:, None]
            squares += tl.sum(tl.where(wide, y * y, 0.0), 1)
        scale = 1.0 / tl.sqrt(squares / D + eps)
    total = tl.full((TILE, OUTPUTS), 0.0, tl.float32)
    for base in range(0, D, STEP):
        c = base + step
        inside = c < D
        z = tl.load(at + base, mask=inside[None, :], other=0.0).to(tl.float32)
        z = _activate(z, ACTIVATION)
        if NORM:
            w = tl.load(norm_weight + c, mask=inside, other=0.0)
            b = tl.load(norm_bias + c, mask=inside, other=0.0)
            z = (z - mean[:, None]) * scale[:, None] * w[None, :] + b[None, :]
            z = tl.where(inside[None, :], z, 0.0)
        factors = tl.load(weight + output[:, None] * D + c[None, :], mask=known[:, None] & inside[None, :], other=0.0)
        total = _dot(_cast(z, factors.dtype), tl.trans(factors), total)
    total += tl.load(bias + output, mask=known, other=0.0)[None, :]
    tl.store(out + row[:, None] * N + output[None, :], total, mask=(row < n_rows)[:, None] & known[None, :])


def prepare(part: Any, precision: str = "fp32") -> Any:
    """See `affectcore.kernels.encoder.prepare`. Matrices take the precision; vectors stay float32."""
    if precision not in DTYPES:
        names = " or ".join(DTYPES)
        raise ValueError(f"backend triton computes in {names}, not in {precision}: int8 is for the CPU (numba)")
    dtype = DTYPES[precision]

    def tensor(array: np.ndarray) -> Any:
        if array.dtype.kind != "f":
            return dispatch.place(array, "triton")
        placed = dispatch.place(array.astype(np.float32, copy=False), "triton")
        return placed.to(dtype) if array.ndim > 1 else placed

    return convert(part, tensor)


def forward(ids: Any, positions: Any, offsets: Any, network: Any) -> Any:
    """See `affectcore.kernels.encoder.forward`."""
    tables: dict[int, Any] = {}  # the same for all layers
    ops = SimpleNamespace(
        embed=embed,
        linear=linear,
        attention=partial(attention, tables=tables),
        attention_first=partial(attention, tables=tables, first=True),
        add_norm=partial(add_norm, sums=network.pre_norm),
        head=head,
    )
    return graph.forward(ops, network, ids, positions, offsets)


def embed(ids: Any, positions: Any, embedding: Any) -> Any:
    """See `affectcore.kernels.encoder.embed`."""
    words, places, norm = embedding.words, embedding.positions, embedding.norm
    n, (n_words, d) = len(ids), words.shape
    out = torch.empty((n, d), dtype=words.dtype, device=words.device)
    if n:
        vectors, eps = ((norm.weight, norm.bias), norm.eps) if norm is not None else ((words, words), 0.0)
        constants = embed_constants(d, len(places) > 0, norm is not None)
        arrays = (ids, positions, words, places, *vectors, out)
        grid = (triton.cdiv(n, constants["ROWS"]),)
        _embed_kernel[grid](*arrays, n, n_words, len(places), eps, **constants, **options(ROW_WARPS))
    return out if embedding.project is None else linear(out, embedding.project)


def linear(x: Any, layer: Any, activation: str = "", gated: bool = False) -> Any:
    """See `affectcore.kernels.encoder.linear`."""
    return _linear(x, None, len(x), layer, activation, gated)


def attention(
    qkv: Any,
    offsets: Any,
    n_heads: int,
    *,
    scale: float,
    window: int = 0,
    rotary_base: float = 0.0,
    relative: Any = None,
    tables: dict[int, Any] | None = None,
    first: bool = False,
) -> Any:
    """See `affectcore.kernels.encoder.attention`.

    `tables` keeps tables of tiles for the next call with these offsets. With `first` only the first row of each
    sequence is returned, (n, d).
    """
    qkv = qkv.contiguous()
    n, d = len(qkv), qkv.shape[1] // 3
    out = torch.empty((len(offsets) - 1 if first else n, d), dtype=qkv.dtype, device=qkv.device)
    if not n:
        return out
    if d // n_heads > WIDEST:
        raise ValueError(f"heads are {d // n_heads} wide: the Triton kernels take up to {WIDEST}; choose numba")
    tables = {} if tables is None else tables
    tile = tile_of(qkv, "relative" if relative is not None else "attention", d // n_heads)
    if tile.m not in tables:
        tables[tile.m] = tile_table(offsets, n, tile.m)
    tiles = tables[tile.m]
    q, k, v = qkv, qkv[:, d:], qkv[:, 2 * d :]
    if rotary_base:
        turned = torch.empty((n, 2 * d), dtype=qkv.dtype, device=qkv.device)
        frequencies = _frequencies(rotary_base, d // n_heads, qkv.device)
        constants = rotate_constants(d, n_heads, tile)
        _rotate_kernel[(len(tiles),)](qkv, tiles, frequencies, turned, **constants, **options(ROW_WARPS))
        q, k = turned, turned[:, d:]
    if first:
        tiles = torch.stack((offsets[:-1], offsets[1:], offsets[:-1]), 1).to(torch.int32)
        tile = first_tile(tile, relative is not None)
    key, query, bucket = (qkv, qkv, tiles) if relative is None else (relative.key, relative.query, relative.bucket)
    keys, queries = relative is not None and len(key) > 0, relative is not None and len(query) > 0
    _attention_kernel[(len(tiles), n_heads)](
        *(q, k, v, tiles, bucket, key, query, out, scale, len(bucket)),
        **attention_constants(d, n_heads, window, bool(rotary_base), keys, queries, first, tile),
        **options(tile.warps, tile.stages),
    )
    return out


def add_norm(x: Any, residual: Any, norm: Any, *, sums: bool = True) -> tuple[Any, Any]:
    """See `affectcore.kernels.encoder.add_norm`; without `sums` they are not written, and None."""
    x, (n, d) = x.contiguous(), x.shape
    out = torch.empty_like(x)
    total = torch.empty((n, d), dtype=torch.float32, device=x.device) if sums else None
    if n:
        constants = add_norm_constants(d, residual is not None, sums)
        arrays = (
            x,
            x if residual is None else residual.contiguous(),
            norm.weight,
            norm.bias,
            out if total is None else total,
            out,
        )
        grid = (triton.cdiv(n, constants["ROWS"]),)
        _add_norm_kernel[grid](*arrays, n, norm.eps, **constants, **options(ROW_WARPS))
    return total, out


def head(x: Any, offsets: Any, layer: Any) -> Any:
    """See `affectcore.kernels.encoder.head`.

    The first vectors are never gathered by themselves: the next product reads them where they lie.
    """
    n, d, k = len(offsets) - 1, x.shape[1], len(layer.out.bias)
    out = torch.empty((n, k), dtype=torch.float32, device=x.device)
    if not n:
        return out
    x, rows, activation = x.contiguous(), offsets, layer.activation
    if layer.pooling == "mean":
        pooled = torch.empty((n, d), dtype=x.dtype, device=x.device)
        constants = mean_constants(d)
        grid = (n, triton.cdiv(d, constants["COLUMNS"]))
        _mean_kernel[grid](x, offsets, pooled, **constants, **options(ROW_WARPS))
        x, rows = pooled, None
    if layer.dense is not None:
        x = _linear(x, rows, n, layer.dense, activation, False)
        rows, activation = None, ""
    norm = layer.norm
    vectors, eps = ((norm.weight, norm.bias), norm.eps) if norm is not None else ((x, x), 0.0)
    constants = out_constants(x.shape[1], k, activation, norm is not None, rows is not None)
    grid = (triton.cdiv(n, OUT_ROWS), triton.cdiv(k, constants["OUTPUTS"]))
    arrays = (x, offsets, *vectors, layer.out.weight, layer.out.bias, out)
    _out_kernel[grid](*arrays, n, eps, **constants, **options(ROW_WARPS))
    return out


def tile_table(offsets: Any, n_tokens: int, tile: int) -> Any:
    """Return int32 (n_tiles, 3): begin and end of a tile's sequence, and its first token.

    n_tiles is the most that so many tokens and sequences can need, so that the host need not wait for the GPU to count;
    what is too much lies behind its sequence's end.
    """
    n = len(offsets) - 1
    counts = (offsets.diff() + (tile - 1)) // tile
    stops = counts.cumsum(0)
    number = torch.arange((n_tokens + n * (tile - 1)) // tile, device=offsets.device)
    sequence = torch.searchsorted(stops, number, right=True).clamp_(max=n - 1)
    start = offsets[sequence]
    first = start + (number - (stops - counts)[sequence]) * tile
    return torch.stack((start, offsets[sequence + 1], first), 1).to(torch.int32)


def kind(device: Any) -> str:
    """Return which of `TILES` is for a GPU; in the interpreter, where any does, the first."""
    if device.type == "cpu":
        return next(iter(TILES))
    if torch.version.hip:
        return "gfx942"
    major = torch.cuda.get_device_capability(device)[0]
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def tile_of(x: Any, op: str, head: int = 0) -> Tile:
    """Return the tile of an op on `x`, with heads so wide."""
    tiles = TILES[kind(x.device)]["bf16" if x.dtype == torch.bfloat16 else "fp32"]
    return tiles.get(f"{op} wide", tiles[op]) if head > NARROW else tiles[op]


def first_tile(tile: Tile, relative: bool) -> Tile:
    """Return the tile of attention for first queries: no more rows than tensor cores need."""
    return tile if relative else tile._replace(m=16)


def options(warps: int, stages: int = 2) -> dict[str, Any]:
    """Return how kernels are compiled."""
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}


def _row_constants(d: int) -> dict[str, Any]:
    width = triton.next_power_of_2(d)
    return {"D": d, "WIDTH": width, "ROWS": max(ROW_VALUES // width, 1)}


def embed_constants(d: int, places: bool, norm: bool) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that embeds."""
    return {**_row_constants(d), "PLACES": places, "NORM": norm}


def add_norm_constants(d: int, residual: bool, sums: bool) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that adds and normalizes."""
    return {**_row_constants(d), "RESIDUAL": residual, "SUMS": sums}


def linear_constants(n: int, k: int, activation: str, gated: bool, rows: bool, tile: Tile) -> dict[str, Any]:
    """Return the compile-time arguments of the linear kernel: n outputs of k inputs."""
    blocks = {"BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": GROUP}
    return {"N": n, "K": k, "ACTIVATION": _number(activation), "GATED": gated, "ROWS": rows, **blocks}


def rotate_constants(d: int, n_heads: int, tile: Tile) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that turns q and k."""
    half = d // n_heads // 2
    return {"N_HEADS": n_heads, "HALF": half, "WIDTH": triton.next_power_of_2(half), "BM": tile.m}


def attention_constants(
    d: int, n_heads: int, window: int, turned: bool, keys: bool, queries: bool, first: bool, tile: Tile
) -> dict[str, Any]:
    """Return the compile-time arguments of the attention kernel."""
    width = d // n_heads
    strides = {"Q_STRIDE": (2 if turned else 3) * d, "V_STRIDE": 3 * d}
    columns = {"D": d, "HEAD": width, "WIDTH": max(triton.next_power_of_2(width), 16)}
    kinds = {"WINDOW": window, "KEYS": keys, "QUERIES": queries, "FIRST": first}
    return {**columns, **strides, **kinds, "BM": tile.m, "BN": tile.n}


def mean_constants(d: int) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that pools means."""
    return {"D": d, "ROWS": POOL_ROWS, "COLUMNS": POOL_COLUMNS}


def out_constants(d: int, k: int, activation: str, norm: bool, rows: bool) -> dict[str, Any]:
    """Return the compile-time arguments of the kernel that ends the head: k outputs."""
    sizes = {"D": d, "N": k, "OUTPUTS": min(max(triton.next_power_of_2(k), 16), 64)}
    steps = {"TILE": OUT_ROWS, "STEP": OUT_STEP}
    return {**sizes, "ACTIVATION": _number(activation), "NORM": norm, "ROWS": rows, **steps}


def _number(activation: str) -> int:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(map(repr, ACTIVATIONS))}")
    return ACTIVATIONS.index(activation)


def _linear(x: Any, rows: Any, n: int, layer: Any, activation: str, gated: bool) -> Any:
    n_out, n_in = layer.weight.shape
    n_out = n_out // 2 if gated else n_out
    out = torch.empty((n, n_out), dtype=layer.weight.dtype, device=x.device)
    tile = tile_of(layer.weight, "gated" if gated else "linear")
    constants = linear_constants(n_out, n_in, activation, gated, rows is not None, tile)
    if n:
        grid = (triton.cdiv(n, tile.m) * triton.cdiv(n_out, tile.n),)
        arrays = (x.contiguous(), layer.bias if rows is None else rows, layer.weight, layer.bias, out)
        _linear_kernel[grid](*arrays, n, **constants, **options(tile.warps, tile.stages))
    return out


@lru_cache(maxsize=8)
def _frequencies(base: float, width: int, device: Any) -> Any:
    """Return float64 (width / 2,): turns a position."""
    turns = base ** (-2 * np.arange(width // 2) / width) / (2 * np.pi)
    return torch.from_numpy(turns).to(device)
