"""CPU kernels of the `encoder` family: every matrix product is made of `tile`s, everything else is a pass over rows.

Single-threaded and without the GIL: threads work on sequences of their own. Rows are done in blocks that stay in the
second-level cache.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numba
import numpy as np

from affectcore.kernels.dispatch import jit

from . import graph
from .tables import ACTIVATIONS, Embedding, Head, Layer, Linear, Network, Norm, Relative, convert
from .tile import (
    BF16,
    FP32,
    HAS,
    INT8,
    LANES,
    PANEL,
    ROWS,
    aligned,
    extremes,
    from_bf16,
    get,
    get16,
    get32,
    multiply,
    multiply_bytes,
    pair,
    panels,
    power_of_two,
    put,
    put8,
    put16,
    put32,
    softmax,
    softmax_halves,
    to_bf16,
    to_byte,
)

KINDS = {"fp32": FP32, "bf16": BF16, "int8": INT8}
PRECISIONS = tuple(name for name, kind in KINDS.items() if HAS[kind])
N_APART, FAR = 2, 3  # INT8 keeps so many channels of an input in float32 that go so many times as far as the median
BLOCK = 64  # rows of a product that are done at a time, a multiple of ROWS
_PANEL = PANEL * LANES
_INFINITE = np.float32(np.inf)
_LOWEST = np.float32(-87.0)  # exp of it is about the smallest normal float32
_LOG2E, _MAGIC = np.float32(1.4426950408889634), np.float32(12582912.0)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_E6, _E5, _E4, _E3, _E2 = (np.float32(1 / f) for f in (720, 120, 24, 6, 2))
_HALF, _ONE, _TWO, _FOUR, _ZERO = (np.float32(v) for v in (0.5, 1, 2, 4, 0))
_ONES = np.ones(ROWS, np.float32)
_ROOT_HALF, _ROOT_TWO_OVER_PI, _CUBIC = (np.float32(v) for v in (0.5**0.5, 0.7978845608028654, 0.044715))
_P = np.float32(0.3275911)
_A1, _A2, _A3, _A4, _A5 = (np.float32(a) for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))
# Of (Phi(x) - 1/2) / x in x^2, least squares over [0, 4] with weights moved to the largest errors of gelu.
_G0, _G1, _G2, _G3, _G4, _G5, _G6 = (
    np.float32(g)
    for g in (
        0.397883282, -0.064572997, 0.00877233074, -0.000814002717, 4.79541314e-05, -1.59852949e-06, 2.27799677e-08
    )
)  # fmt: skip
_GELU, _GELU_TANH, _RELU, _TANH, _SILU = range(1, len(ACTIVATIONS))
_GELU_ROUNDED = len(ACTIVATIONS)


def exact(function: Any) -> Any:
    """Compile with Numba; products and sums may be fused, nothing else: `power_of_two` depends on it."""
    return jit(function, {"contract"})


def summing(function: Any) -> Any:
    """Compile with Numba; sums may be reordered, so that they use vectors. The order depends on the length alone."""
    return jit(function, {"contract", "reassoc", "nsz"})


def device(function: Any) -> Any:
    """Compile like `exact`, for use inside other compiled functions."""
    return numba.njit(function, nogil=True, forceinline=True, error_model="numpy", fastmath={"contract"})


class Packed(NamedTuple):
    """A linear layer in panels."""

    kind: int
    data: np.ndarray  # uint8: from `panels`
    steps: int
    n_in: int
    n_out: int
    columns: np.ndarray  # float32: for each vector of outputs scale, scale * sum of the int8 weights, and bias
    channels: np.ndarray  # int64 (n_apart,): inputs that are multiplied in float32, INT8 only
    spare: int  # an input that is not among them
    extra: np.ndarray  # uint8: their weights in panels of float32
    rounded: bool = False  # returns bfloat16 bits, uint16


@dataclass(frozen=True)
class Bias:
    """Relative positions in panels, per head."""

    key: np.ndarray  # uint8 (n_heads, ...), or (0,)
    query: np.ndarray
    n_buckets: int
    bucket: np.ndarray  # int32 (2 n - 1,)


def prepare(part: Any, precision: str, sample: Sequence[np.ndarray] = ()) -> Any:
    """See `affectcore.kernels.encoder.prepare`."""
    kind = KINDS.get(precision)
    if kind is None:
        raise ValueError(f"unknown precision {precision!r}: there are {', '.join(KINDS)}")
    if not HAS[kind]:
        raise ValueError(f"this CPU has no instructions for {precision}: it can {', '.join(PRECISIONS)}")
    return _prepare(part, kind, sample)


def _prepare(part: Any, kind: int, sample: Sequence[np.ndarray] = ()) -> Any:
    if isinstance(part, Network):
        channels: Sequence[Sequence[Any]] = _outliers(part, sample) if kind == INT8 else [((),) * 4] * len(part.layers)
        return replace(
            part,
            embedding=_prepare(part.embedding, kind),
            layers=tuple(_layer(layer, part.n_heads, kind, apart) for layer, apart in zip(part.layers, channels)),
            final_norm=_prepare(part.final_norm, kind),
            head=_prepare(part.head, kind),
        )
    if isinstance(part, (Embedding, Head)):
        kind = FP32  # few rows: nothing to win
    return convert(part, np.ascontiguousarray, lambda linear: pack(linear, kind))


def _layer(layer: Layer, n_heads: int, kind: int, apart: Sequence[Any]) -> Layer:
    relative = None if layer.relative is None else _relative(layer.relative, n_heads, kind)
    names = ("qkv", "out", "up", "down")
    packed = {name: pack(getattr(layer, name), kind, channels) for name, channels in zip(names, apart)}
    packed["qkv"] = packed["qkv"]._replace(rounded=kind != FP32)
    rest = _prepare(replace(layer, relative=None, **dict.fromkeys(names)), kind)  # type: ignore[arg-type]
    return replace(rest, relative=relative, **packed)  # type: ignore[no-any-return]


def pack(linear: Linear, kind: int, channels: Sequence[int] = ()) -> Packed:
    """Pack a linear layer.

    Parameters
    ----------
    linear
        The layer.
    kind
        FP32, BF16 or INT8: each output's weights are rounded to 255 steps.
    channels
        Inputs that INT8 multiplies in float32: those with values far beyond the others', which would take the range.
    """
    weight = np.ascontiguousarray(linear.weight, np.float32)
    n_out, n_in = weight.shape
    width = -(-n_out // LANES) * LANES
    scale, offset, bias = np.zeros((3, width), np.float32)
    bias[:n_out] = linear.bias
    matrix: np.ndarray = weight
    apart = np.asarray(channels if kind == INT8 else (), np.int64)
    if kind == INT8:
        matrix = weight.copy()
        matrix[:, apart] = 0
        largest = np.abs(matrix).max(1)
        scale[:n_out] = largest / 127
        with np.errstate(all="ignore"):
            steps = np.rint(matrix / np.where(largest > 0, scale[:n_out], 1)[:, None])
        # A weight that is not finite makes its output NaN, through the scale.
        scale[:n_out][~np.isfinite(largest)] = np.nan
        matrix = np.nan_to_num(steps, nan=0, posinf=127, neginf=-127).astype(np.int8)
        offset[:n_out] = scale[:n_out] * matrix.sum(1, dtype=np.int64)
    elif kind == BF16:
        matrix = round_bf16(weight)
    columns = aligned(12 * width).view(np.float32)
    columns[:] = np.stack([part.reshape(-1, LANES) for part in (scale, offset, bias)], 1).ravel()
    data, n_steps = panels(matrix, kind)
    extra, _ = panels(np.ascontiguousarray(weight[:, apart]), FP32)
    spare = next(c for c in range(len(apart) + 1) if c not in apart)
    return Packed(kind, data, n_steps, n_in, n_out, columns, apart, spare, extra)


def round_bf16(x: np.ndarray) -> np.ndarray:
    """Return the bits of the nearest bfloat16 of float32 values, uint16 of the same shape."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    out = np.empty(flat.shape, np.uint16)
    _round(flat, out)
    return out.reshape(x.shape)


@jit
def _round(x, out):
    _to_halves(x.ctypes.data, len(x), out.ctypes.data)


# Passes over a row


@device
def _exp(x):
    """Return exp(x) for x <= 0, to two units in the last place; Cody and Waite's reduction, Taylor to degree 6."""
    x = _LOWEST if x < _LOWEST else x
    t = x * _LOG2E + _MAGIC
    n = t - _MAGIC
    f = x - n * _LN2_HIGH
    f = f - n * _LN2_LOW
    p = _E6
    p = p * f + _E5
    p = p * f + _E4
    p = p * f + _E3
    p = p * f + _E2
    p = p * f + _ONE
    p = p * f + _ONE
    return p * power_of_two(t)


@device
def _erf(x):
    """Return erf(x) to 2e-7; Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26."""
    size = abs(x)
    t = _ONE / (_ONE + _P * size)
    y = _ONE - (((((_A5 * t + _A4) * t + _A3) * t + _A2) * t + _A1) * t) * _exp(-size * size)
    return y if x >= _ZERO else -y


@device
def _gelu(v):
    return _HALF * v * (_ONE + _erf(v * _ROOT_HALF))


@device
def _gelu_rounded(v):
    """Gelu to 2e-4, or relative 5e-5 beyond 4, less than what bfloat16 loses: a polynomial in v^2."""
    u = _FOUR if v > _FOUR else v
    u = -_FOUR if u < -_FOUR else u
    s = u * u
    p = _G6
    p = p * s + _G5
    p = p * s + _G4
    p = p * s + _G3
    p = p * s + _G2
    p = p * s + _G1
    p = p * s + _G0
    return v * (p * u + _HALF)


@device
def _tanh(v):
    """Return tanh(v) = sign(v) (1 - e) / (1 + e) with e = exp(-2 |v|)."""
    e = _exp(-_TWO * abs(v))
    y = (_ONE - e) / (_ONE + e)
    return y if v >= _ZERO else -y


@exact
def _activate(x, n, code):
    """Apply an activation to the `n` values at an address; `code` is its place in `ACTIVATIONS`, or `_GELU_ROUNDED`."""
    if code == _GELU_ROUNDED:
        for j in range(n):
            put(x, j, _gelu_rounded(get(x, j)))
    elif code == _GELU:
        for j in range(n):
            put(x, j, _gelu(get(x, j)))
    elif code == _GELU_TANH:
        for j in range(n):
            v = get(x, j)
            put(x, j, _HALF * v * (_ONE + _tanh(_ROOT_TWO_OVER_PI * (v + _CUBIC * v * v * v))))
    elif code == _RELU:
        for j in range(n):
            v = get(x, j)
            put(x, j, _ZERO if v < _ZERO else v)
    elif code == _TANH:
        for j in range(n):
            put(x, j, _tanh(get(x, j)))
    elif code == _SILU:
        for j in range(n):
            v = get(x, j)
            e = _exp(-abs(v))
            put(x, j, v * (_ONE if v >= _ZERO else e) / (_ONE + e))


@jit
def _activate_rows(x, code):
    for i in range(len(x)):
        _activate(x.ctypes.data + 4 * i * x.shape[1], x.shape[1], code)


@exact
def _to_halves(x, n, out):
    """Round the `n` values at an address to bfloat16 bits at `out`."""
    for j in range(n):
        put16(out, j, to_bf16(get(x, j)))


@device
def _range(x, n):
    """Return the least and the greatest of `n` values."""
    if n >= LANES:
        return extremes(x, n)
    low, high = get(x, 0), get(x, 0)
    for j in range(n):
        v = get(x, j)
        low = v if v < low else low
        high = v if v > high else high
    return low, high


@summing
def _oddness(x, n):
    """Return 0 if all `n` values are finite, else NaN."""
    odd = _ZERO
    for j in range(n):
        odd += get(x, j) * _ZERO
    return odd


@exact
def _to_bytes(x, n, out, row):
    """Round `n` values to 256 steps between their extremes, value = low + step * byte; write low and step to `row`."""
    if _oddness(x, n) != _ZERO:
        for j in range(n):
            put8(out, j, np.uint8(0))
        put(row, 0, np.float32(np.nan))
        put(row, 1, np.float32(np.nan))
        return
    low, high = _range(x, n)
    width = high - low
    factor = np.float32(255) / width if width > _ZERO else _ZERO
    for j in range(n):
        put8(out, j, to_byte((get(x, j) - low) * factor + _HALF))
    put(row, 0, low)
    put(row, 1, width / np.float32(255))


@summing
def _moments(x, n):
    """Return mean and variance of `n` values, in two passes."""
    total = _ZERO
    for j in range(n):
        total += get(x, j)
    mean = total / np.float32(n)
    squares = _ZERO
    for j in range(n):
        d = get(x, j) - mean
        squares += d * d
    return mean, squares / np.float32(n)


@exact
def _normalize(x, n, weight, bias, eps, out):
    mean, variance = _moments(x, n)
    factor = _ONE / np.sqrt(variance + eps)
    for j in range(n):
        put(out, j, (get(x, j) - mean) * factor * get(weight, j) + get(bias, j))


@exact
def _add(x, y, n, out):
    """Write the sums of the `n` values at two addresses to a third."""
    for j in range(n):
        put(out, j, get(x, j) + get(y, j))


# Embedding, norms


@exact
def _embed(ids, positions, words, table, out):
    d = out.shape[1]
    for t in range(len(ids)):
        row = out.ctypes.data + 4 * t * d
        word = words.ctypes.data + 4 * d * ids[t]
        for j in range(d):
            put(row, j, get(word, j))
        if len(table):
            _add(table.ctypes.data + 4 * d * positions[t], row, d, row)


@jit
def _rows_norm(x, weight, bias, eps, out):
    n, d = x.shape
    for t in range(n):
        at = 4 * t * d
        _normalize(x.ctypes.data + at, d, weight.ctypes.data, bias.ctypes.data, eps, out.ctypes.data + at)


@jit
def _add_norm(x, residual, weight, bias, eps, total, out):
    n, d = x.shape
    for t in range(n):
        at = 4 * t * d
        _add(x.ctypes.data + at, residual.ctypes.data + at, d, total.ctypes.data + at)
        _normalize(total.ctypes.data + at, d, weight.ctypes.data, bias.ctypes.data, eps, out.ctypes.data + at)


# Linear layers


@exact
def _convert(kind, x, n, a, row, apart, channels, spare):
    """Write a row as words of A. Values of channels that are kept apart go to `apart`, and do not widen the range."""
    if kind == INT8:
        for c in range(len(channels)):
            put(apart, c, get(x, channels[c]))
            put(x, channels[c], get(x, spare))
        _to_bytes(x, n, a, row)
        for c in range(len(channels)):
            put(x, channels[c], get(apart, c))
    elif kind == BF16:
        _to_halves(x, n, a)
        if n % 2:  # the weight beside it is 0, but 0 times what was there before may be NaN
            put16(a, n, np.uint16(0))
    else:
        for j in range(n):
            put(a, j, get(x, j))


@exact
def _block(x, n, layer, a, rows, apart, out):
    """Write `n` (at most `BLOCK`) rows at the address `x` times a layer to `out`, whole tiles of whole vectors."""
    n_vectors, n_apart = len(layer.columns) // (3 * LANES), len(layer.channels)
    stride, wide, ones = 4 * layer.steps, 4 * LANES * n_vectors, _ONES.ctypes.data
    for i in range(n):
        _convert(
            layer.kind, x + 4 * i * layer.n_in, layer.n_in, a + i * stride, rows + 8 * i, apart + 4 * i * n_apart,
            layer.channels, layer.spare,
        )  # fmt: skip
    for first in range(0, n_vectors, PANEL):
        vectors = min(PANEL, n_vectors - first)
        panel = layer.data.ctypes.data + first * LANES * stride
        more = layer.extra.ctypes.data + first * LANES * 4 * n_apart
        columns = layer.columns.ctypes.data + first * 12 * LANES
        for i in range(0, n, ROWS):
            c = out + i * wide + first * 4 * LANES
            if layer.kind == INT8:
                multiply_bytes(
                    vectors, a + i * stride, stride, panel, layer.steps, c, wide, rows + 8 * i, columns,
                    apart + 4 * i * n_apart, n_apart, more,
                )  # fmt: skip
            else:
                multiply(layer.kind, vectors, a + i * stride, stride, panel, layer.steps, c, wide, ones, columns)


@exact
def _gate(row, half, code, out):
    """Write the activated first half of a row times the second; `out` may be the row."""
    _activate(row, half, code)
    for j in range(half):
        put(out, j, get(row, j) * get(row, half + j))


@exact
def _linear(x, layer, code, gated, a, scratch, out, halves):
    """Do a layer block by block of rows; `halves` (bfloat16 bits) is written instead of `out` if it has rows.

    `out` has room for whole tiles of whole vectors, unless `scratch` (`BLOCK` rows) takes its place.
    """
    n_out, wide = layer.n_out, 4 * len(layer.columns) // 3
    rows = np.empty(2 * BLOCK, np.float32)
    apart = np.zeros(BLOCK * len(layer.channels) + 1, np.float32)
    for begin in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - begin)
        block = scratch.ctypes.data if len(scratch) else out.ctypes.data + begin * wide
        _block(
            x.ctypes.data + 4 * begin * layer.n_in, n, layer, a.ctypes.data, rows.ctypes.data, apart.ctypes.data, block
        )  # fmt: skip
        for i in range(n):
            row = block + i * wide
            if gated:
                _gate(row, n_out // 2, code, out.ctypes.data + 2 * (begin + i) * n_out)
            else:
                _activate(row, n_out, code)
                if len(halves):
                    _to_halves(row, n_out, halves.ctypes.data + 2 * (begin + i) * n_out)
                elif len(scratch):
                    target = out.ctypes.data + 4 * (begin + i) * n_out
                    for j in range(n_out):
                        put(target, j, get(row, j))


@exact
def _feed(x, n, up, down, code, gated, a, rows, apart, between, out):
    """Do both feed-forward layers for `n` rows at the address `x`."""
    _block(x, n, up, a, rows, apart, between)
    inside = down.n_in
    for i in range(n):
        row, target = between + 4 * i * (len(up.columns) // 3), between + 4 * i * inside
        if gated:
            _gate(row, inside, code, target)
        else:
            _activate(row, inside, code)
            if target != row:
                for j in range(inside):
                    put(target, j, get(row, j))
    _block(between, n, down, a, rows, apart, out)


@exact
def _feed_forward(x, up, down, code, gated, a, between, out):
    """Do both layers block by block, so that what is between them stays in the cache."""
    rows = np.empty(2 * BLOCK, np.float32)
    apart = np.zeros(BLOCK * max(len(up.channels), len(down.channels)) + 1, np.float32)
    for begin in range(0, len(x), BLOCK):
        _feed(
            x.ctypes.data + 4 * begin * up.n_in, min(BLOCK, len(x) - begin), up, down, code, gated, a.ctypes.data,
            rows.ctypes.data, apart.ctypes.data, between.ctypes.data, out.ctypes.data + 4 * begin * down.n_out,
        )  # fmt: skip


@exact
def _sum_norm(x, residual, n, d, weight, bias, eps):
    """Add `n` rows to those of a residual, in place, and normalize them."""
    for i in range(n):
        row = x + 4 * i * d
        _add(row, residual + 4 * i * d, d, row)
        _normalize(row, d, weight.ctypes.data, bias.ctypes.data, eps, row)


@exact
def _after_attention(
    seen, x, out, weight, bias, eps, up, down, code, gated, end_weight, end_bias, end_eps, a, middle, between, result
):  # fmt: skip
    """Do all of a post-norm layer that comes after attention, block by block of rows, so that it stays in the cache."""
    d = x.shape[1]
    rows = np.empty(2 * BLOCK, np.float32)
    most = max(len(out.channels), len(up.channels), len(down.channels))
    apart = np.zeros(BLOCK * most + 1, np.float32)
    for begin in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - begin)
        at = 4 * begin * d
        _block(
            seen.ctypes.data + at, n, out, a.ctypes.data, rows.ctypes.data, apart.ctypes.data, middle.ctypes.data
        )  # fmt: skip
        _sum_norm(middle.ctypes.data, x.ctypes.data + at, n, d, weight, bias, eps)
        _feed(
            middle.ctypes.data, n, up, down, code, gated, a.ctypes.data, rows.ctypes.data, apart.ctypes.data,
            between.ctypes.data, result.ctypes.data + at,
        )  # fmt: skip
        _sum_norm(result.ctypes.data + at, middle.ctypes.data, n, d, end_weight, end_bias, end_eps)


# Attention


@exact
def _pack_keys(qkv, stride, n, steps, out):
    """Pack `n` keys, rows of `steps` words, as a product's columns; what is behind them in a vector stays as it is."""
    whole = (n + LANES - 1) // LANES * LANES
    for first in range(0, whole, _PANEL):
        lanes = min(_PANEL, whole - first)
        for j in range(lanes):
            place = first * steps + j
            if first + j < n:
                row = qkv + (first + j) * stride
                for c in range(steps):
                    put32(out, place + c * lanes, get32(row, c))


@exact
def _pack_values(kind, qkv, stride, n, width, steps, out):
    """Pack `n` values, rows of `width` numbers: steps go over keys, columns over the width."""
    whole = (width + LANES - 1) // LANES * LANES
    for first in range(0, whole, _PANEL):
        lanes = min(_PANEL, whole - first)
        used = min(lanes, width - first)
        for t in range(steps):
            at = out + 4 * (first * steps + t * lanes)
            if kind == BF16:
                upper = qkv + 2 * t * stride + 2 * first
                if 2 * t + 1 < n:
                    for c in range(used):
                        put32(at, c, pair(get16(upper, c), get16(upper + stride, c)))
                else:
                    for c in range(used):
                        put32(at, c, pair(get16(upper, c), np.uint16(0)))
            else:
                row = qkv + t * stride + 4 * first
                for c in range(used):
                    put32(at, c, get32(row, c))
            for c in range(used, lanes):
                put32(at, c, np.int32(0))


@exact
def _matrix(kind, a, stride, n, vectors, data, steps, out, columns):
    """Write `n` rows, read and written in whole tiles, times a packed matrix `vectors` wide."""
    ones, wide = _ONES.ctypes.data, 4 * LANES * vectors
    for first in range(0, vectors, PANEL):
        part = min(PANEL, vectors - first)
        for i in range(0, n, ROWS):
            c = out + 4 * LANES * (i * vectors + first)
            panel = data + 4 * LANES * first * steps
            multiply(kind, part, a + i * stride, stride, panel, steps, c, wide, ones, columns)


@exact
def _attention(kind, qkv, offsets, n_heads, scale, window, key, query, n_buckets, bucket, longest, only, out):
    """See `attention`: per sequence and head, keys and values are packed once, then `ROWS` queries are done at a time.

    A row of scores is as long as the sequence, so the softmax needs no second visit. With `only`, the first query of
    each sequence is done, and row s of `out` is that of sequence s.
    """
    d = out.shape[1]
    width = d // n_heads
    word = 2 if kind == BF16 else 1
    size = 4 // word
    stride = 3 * d * size
    head_steps, head_vectors = width // word, (width + LANES - 1) // LANES
    key_vectors = (longest + LANES - 1) // LANES
    padded = key_vectors * LANES
    keys, values = _lined(padded * head_steps), _lined((longest + 1) * head_vectors * LANES)
    scores, shares = _lined(ROWS * padded), _lined(ROWS * padded)
    seen, queries = _lined(ROWS * head_vectors * LANES), _lined(ROWS * head_steps)
    factors, ones = np.ones(ROWS, np.float32), _ONES.ctypes.data
    direct = width % LANES == 0
    zeros = _lined(3 * PANEL * LANES)
    nothing = zeros.ctypes.data
    bucket_vectors = (n_buckets + LANES - 1) // LANES
    to_key = _lined(ROWS * bucket_vectors * LANES if len(key) else 0)
    to_query = _lined((longest + ROWS) * bucket_vectors * LANES if len(query) else 0)
    middle = len(bucket) // 2
    table = 4 * bucket_vectors * LANES * head_steps
    score, share = scores.ctypes.data, shares.ctypes.data
    for s in range(len(offsets) - 1):
        begin, n = offsets[s], offsets[s + 1] - offsets[s]
        whole = (n + LANES - 1) // LANES
        value_steps = (n + word - 1) // word
        for h in range(n_heads):
            base = qkv.ctypes.data + begin * stride + h * width * size
            _pack_keys(base + d * size, stride, n, head_steps, keys.ctypes.data)
            _pack_values(kind, base + 2 * d * size, stride, n, width, value_steps, values.ctypes.data)
            if len(query):
                _matrix(
                    kind, base + d * size, stride, n, bucket_vectors, query.ctypes.data + h * table, head_steps,
                    to_query.ctypes.data, nothing,
                )  # fmt: skip
            for first in range(0, 1 if only else n, ROWS):
                rows = 1 if only else min(ROWS, n - first)
                a, a_stride = base + first * stride, stride
                if begin + first + ROWS > len(qkv):  # a tile is read whole, and the array ends before it
                    for i in range(rows):
                        for c in range(head_steps):
                            queries[i * head_steps + c] = get32(a + i * stride, c)
                    a, a_stride = queries.ctypes.data, 4 * head_steps
                # Keys that any of the tile's queries sees, from a whole panel on.
                start, end = np.int64(0), n
                if window > 0:
                    start = max(first - window, 0) // _PANEL * _PANEL
                    end = min(first + rows + window, n)
                vectors = (end - start + LANES - 1) // LANES
                for column in range(start // LANES, start // LANES + vectors, PANEL):
                    # A panel is as wide as it was packed, even where fewer keys are wanted.
                    part = min(PANEL, whole - column)
                    panel = keys.ctypes.data + 4 * LANES * column * head_steps
                    c = score + 4 * (column * LANES - start)
                    multiply(kind, part, a, a_stride, panel, head_steps, c, 4 * padded, ones, nothing)
                if len(key):
                    _matrix(
                        kind, a, a_stride, rows, bucket_vectors, key.ctypes.data + h * table, head_steps,
                        to_key.ctypes.data, nothing,
                    )  # fmt: skip
                for i in range(rows):
                    row = score + 4 * i * padded
                    low, high = np.int64(0), end - start
                    if window > 0:
                        low = max(first + i - window - start, 0)
                        high = min(first + i + window + 1 - start, high)
                    if n_buckets:
                        to_key_row = to_key.ctypes.data + 4 * i * bucket_vectors * LANES
                        for j in range(low, high):
                            r = bucket[min(max(first + i - start - j + middle, 0), 2 * middle)]
                            value = get(row, j)
                            if len(key):
                                value += get(to_key_row, r)
                            if len(query):
                                value += get(to_query.ctypes.data, (start + j) * bucket_vectors * LANES + r)
                            put(row, j, value)
                    for j in range(low):
                        put(row, j, -_INFINITE)
                    for j in range(high, end - start):
                        put(row, j, -_INFINITE)
                    if kind == BF16:
                        total = softmax_halves(row, end - start, scale, share + 4 * i * padded)
                    else:
                        total = softmax(row, end - start, scale, 0)
                    factors[i] = _ONE / total
                address = share if kind == BF16 else score
                steps = (end - start + word - 1) // word
                # A tile has all its rows: those behind the sequence are the next one's, which come later.
                target = out.ctypes.data + 4 * ((s if only else begin + first) * d + h * width)
                for column in range(0, head_vectors, PANEL):
                    part = min(PANEL, head_vectors - column)
                    panel = values.ctypes.data + 4 * LANES * (column * value_steps + start // word * part)
                    if direct:
                        c, c_stride = target + 4 * LANES * column, 4 * d
                    else:
                        c, c_stride = seen.ctypes.data + 4 * LANES * column, 4 * LANES * head_vectors
                    multiply(
                        kind, part, address, 4 * padded, panel, steps, c, c_stride, factors.ctypes.data, nothing
                    )  # fmt: skip
                if not direct:
                    for i in range(rows):
                        row = seen.ctypes.data + 4 * LANES * i * head_vectors
                        for j in range(width):
                            put(target + 4 * i * d, j, get(row, j))
    # Numba frees an array after its last use, and an address is none: these are in use until here.
    scores[0] = shares[0] = zeros[0]


@jit
def _lined(n):
    """Return zeros, int32 (n,), on a cache line."""
    space = np.zeros(n + 16, np.int32)
    start = (64 - space.ctypes.data % 64) % 64 // 4
    return space[start : start + n]


@exact
def _rotate(kind, qkv, offsets, n_heads, base, out):
    """Turn q and k by their positions; v is copied."""
    d = qkv.shape[1] // 3
    width = d // n_heads
    half = width // 2
    rates = np.empty(half, np.float64)
    for c in range(half):
        rates[c] = base ** (-2.0 * c / width)
    cosines, sines = np.empty(half, np.float32), np.empty(half, np.float32)
    for s in range(len(offsets) - 1):
        for t in range(offsets[s], offsets[s + 1]):
            for c in range(half):
                angle = np.float32(t - offsets[s]) * np.float32(rates[c])
                cosines[c], sines[c] = np.cos(angle), np.sin(angle)
            for first in range(0, 2 * d, width):
                for c in range(half):
                    if kind == BF16:
                        a, b = from_bf16(qkv[t, first + c]), from_bf16(qkv[t, first + half + c])
                        out[t, first + c] = to_bf16(a * cosines[c] - b * sines[c])
                        out[t, first + half + c] = to_bf16(b * cosines[c] + a * sines[c])
                    else:
                        a, b = qkv[t, first + c], qkv[t, first + half + c]
                        out[t, first + c] = a * cosines[c] - b * sines[c]
                        out[t, first + half + c] = b * cosines[c] + a * sines[c]
            out[t, 2 * d :] = qkv[t, 2 * d :]


def _attend(
    qkv: np.ndarray,
    offsets: np.ndarray,
    n_heads: int,
    only: bool,
    out: np.ndarray,
    *,
    scale: float,
    window: int = 0,
    rotary_base: float = 0.0,
    relative: Any = None,
) -> np.ndarray:
    kind = BF16 if qkv.dtype == np.uint16 else FP32
    d = qkv.shape[1] // 3
    if kind == BF16 and d // n_heads % 2:
        raise ValueError(f"heads of odd width ({d // n_heads}) are done in fp32 only")
    qkv = np.ascontiguousarray(qkv)
    if rotary_base:
        turned = np.empty_like(qkv)
        _rotate(kind, qkv, offsets, n_heads, rotary_base, turned)
        qkv = turned
    key = query = np.empty(0, np.uint32)
    bucket, n_buckets = np.zeros(1, np.int32), 0
    if isinstance(relative, Relative):  # not prepared with a layer, which knows the number of heads
        relative = _relative(relative, n_heads, kind)
    if relative is not None:
        key, query, bucket, n_buckets = relative.key, relative.query, relative.bucket, relative.n_buckets
        qkv = np.concatenate([qkv, np.zeros((ROWS, 3 * d), qkv.dtype)])  # k is read in whole tiles
    longest = int(np.diff(offsets).max()) if len(offsets) > 1 else 0
    _attention(
        kind, qkv, offsets, n_heads, np.float32(scale), window, key, query, n_buckets, bucket, longest, only, out
    )
    return out


def _relative(relative: Relative, n_heads: int, kind: int) -> Bias:
    """Pack the relative tables head by head; INT8 keeps them in bfloat16, as attention is."""
    kind = BF16 if kind == INT8 else kind

    def packed(table: np.ndarray) -> np.ndarray:
        if not len(table):
            return np.empty(0, np.uint32)
        heads = table.reshape(len(table), n_heads, -1).transpose(1, 0, 2)
        parts = [panels(np.ascontiguousarray(round_bf16(h) if kind == BF16 else h), kind)[0] for h in heads]
        whole = aligned(sum(p.nbytes for p in parts))
        np.concatenate(parts, out=whole)
        return whole.view(np.uint32)

    n_buckets = max(len(relative.key), len(relative.query))
    return Bias(
        packed(relative.key), packed(relative.query), n_buckets, np.ascontiguousarray(relative.bucket, np.int32)
    )


# Pooling


@summing
def _pool(x, offsets, mean, out):
    for s in range(len(offsets) - 1):
        begin, end = offsets[s], offsets[s + 1]
        out[s] = x[begin]
        if mean:
            for t in range(begin + 1, end):
                for j in range(x.shape[1]):
                    out[s, j] += x[t, j]
            for j in range(x.shape[1]):
                out[s, j] /= np.float32(end - begin)


# The ops


class Workspace:
    """The ops with arrays of their own that they use again: fresh memory costs more than some of the ops do.

    What an op returns holds until the op after the next of its kind. One for each thread.
    """

    def __init__(self) -> None:
        self._space: dict[str, np.ndarray] = {}
        self._turn = 0

    def take(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Return an array that starts on a cache line and holds what was last written under this name."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        space = self._space.get(name)
        if space is None or space.nbytes < n_bytes:
            space = self._space[name] = aligned(n_bytes + n_bytes // 4)
        array: np.ndarray = space[:n_bytes].view(dtype).reshape(shape)
        return array

    def embed(self, ids: np.ndarray, positions: np.ndarray, embedding: Any) -> np.ndarray:
        """See `affectcore.kernels.encoder.embed`."""
        self._turn = 0
        for what, rows, table in (("token ids", ids, embedding.words), ("positions", positions, embedding.positions)):
            if len(table) and len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
                raise ValueError(f"{what} must be in [0, {len(table)}), found {rows.min()} to {rows.max()}")
        x = self.take("norm 1", (len(ids), embedding.words.shape[1]))
        _embed(ids, positions, embedding.words, embedding.positions, x)
        if embedding.norm is not None:
            _rows_norm(x, embedding.norm.weight, embedding.norm.bias, np.float32(embedding.norm.eps), x)
        return x if embedding.project is None else self.linear(x, embedding.project).copy()

    def linear(self, x: np.ndarray, layer: Any, activation: str = "", gated: bool = False) -> np.ndarray:
        """See `affectcore.kernels.encoder.linear`."""
        n, n_out, wide = len(x), layer.n_out, len(layer.columns) // 3
        direct = not (gated or layer.rounded) and wide == n_out
        whole = -(-n // ROWS) * ROWS if direct else n
        # After a layer that is rounded comes attention, which has an array of its own.
        out = self.take("linear", (0 if layer.rounded else whole, n_out // 2 if gated else n_out))
        halves = self.take("rounded", (n if layer.rounded else 0, n_out), np.uint16)
        scratch = self.take("scratch", (0 if direct else BLOCK, wide))
        a = self.take("a", (BLOCK * 4 * layer.steps,), np.uint8)
        _linear(_rows(x), layer, _code(activation, layer.kind), gated, a, scratch, out, halves)
        return halves if layer.rounded else out[:n]

    def feed_forward(self, x: np.ndarray, up: Any, down: Any, activation: str, gated: bool) -> np.ndarray:
        """Do `up` and `down` in one go."""
        if len(down.columns) != 3 * down.n_out:
            return self.linear(self.linear(x, up, activation, gated).copy(), down)
        n = len(x)
        out = self.take("linear", (-(-n // ROWS) * ROWS, down.n_out))
        a = self.take("a", (BLOCK * 4 * max(up.steps, down.steps),), np.uint8)
        between = self.take("scratch", (BLOCK, len(up.columns) // 3))
        _feed_forward(_rows(x), up, down, _code(activation, up.kind), gated, a, between, out)
        return out[:n]

    def after_attention(
        self, seen: np.ndarray, x: np.ndarray, layer: Layer, activation: str, gated: bool
    ) -> np.ndarray | None:
        """Do all that comes after attention in a post-norm layer; None where widths are no whole vectors."""
        out, up, down, d = layer.out, layer.up, layer.down, x.shape[1]
        if d % LANES:
            return None
        result = self.take(f"norm {self._turn}", (-(-len(x) // ROWS) * ROWS, d))
        self._turn ^= 1
        first, last = layer.norm_mid, layer.norm_out
        assert last is not None
        _after_attention(
            _rows(seen), _rows(x), out, first.weight, first.bias, np.float32(first.eps), up, down,
            _code(activation, up.kind), gated, last.weight, last.bias, np.float32(last.eps),  # type: ignore[attr-defined]
            self.take("a", (BLOCK * 4 * max(out.steps, up.steps, down.steps),), np.uint8),  # type: ignore[attr-defined]
            self.take("middle", (BLOCK, d)), self.take("scratch", (BLOCK, len(up.columns) // 3)),  # type: ignore[attr-defined]
            result,
        )  # fmt: skip
        return result[: len(x)]

    def add_norm(self, x: np.ndarray, residual: np.ndarray | None, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
        """See `affectcore.kernels.encoder.add_norm`."""
        self._turn ^= 1
        out = self.take(f"norm {self._turn}", x.shape)
        if residual is None:
            _rows_norm(_rows(x), norm.weight, norm.bias, np.float32(norm.eps), out)
            return x, out
        total = self.take(f"total {self._turn}", x.shape)
        _add_norm(_rows(x), _rows(residual), norm.weight, norm.bias, np.float32(norm.eps), total, out)
        return total, out

    def attention(self, qkv: np.ndarray, offsets: np.ndarray, n_heads: int, **options: Any) -> np.ndarray:
        """See `affectcore.kernels.encoder.attention`."""
        out = self.take("seen", (len(qkv) + ROWS, qkv.shape[1] // 3))
        return _attend(qkv, offsets, n_heads, False, out, **options)[: len(qkv)]

    def attention_first(self, qkv: np.ndarray, offsets: np.ndarray, n_heads: int, **options: Any) -> np.ndarray:
        """Return the first row of each sequence of what `attention` returns."""
        out = self.take("seen", (len(offsets) - 1 + ROWS, qkv.shape[1] // 3))
        return _attend(qkv, offsets, n_heads, True, out, **options)[: len(offsets) - 1]

    def head(self, x: np.ndarray, offsets: np.ndarray, layer: Any) -> np.ndarray:
        """See `affectcore.kernels.encoder.head`."""
        pooled = np.empty((len(offsets) - 1, x.shape[1]), np.float32)
        _pool(x, offsets, layer.pooling == "mean", pooled)
        if layer.dense is not None:
            pooled = self.linear(pooled, layer.dense, layer.activation).copy()
        else:
            _activate_rows(pooled, _code(layer.activation, FP32))
        if layer.norm is not None:
            pooled = self.add_norm(pooled, None, layer.norm)[1]
        return self.linear(pooled, layer.out).copy()


class _Watching(Workspace):
    """Notes how far each channel goes in what enters the linear layers, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: list[np.ndarray] = []

    def linear(self, x: np.ndarray, layer: Any, activation: str = "", gated: bool = False) -> np.ndarray:
        """Do a layer, and note its input."""
        self.largest.append(np.abs(x).max(0))
        return super().linear(x, layer, activation, gated)

    def after_attention(self, *given: Any) -> None:
        """Leave it to the ops one by one."""

    def feed_forward(self, x: np.ndarray, up: Any, down: Any, activation: str, gated: bool) -> np.ndarray:
        """Do both layers one after the other, and note their inputs."""
        return self.linear(self.linear(x, up, activation, gated).copy(), down)


def _outliers(network: Network, sample: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Find for each layer the inputs of `qkv`, `out`, `up` and `down` that go far beyond the others, a few at most.

    BERT-type encoders have some such channels, the same ones for every text, and most of all at special tokens
    (Bondarenko et al. 2021, arXiv 2109.12948).
    """
    if not sample:
        n, length = 8, 32
        ids = np.random.default_rng(0).integers(0, len(network.embedding.words), n * length)
        # From 2 on: RoBERTa's first rows belong to padding.
        positions = (np.tile(np.arange(length), n) + 2) % max(len(network.embedding.positions), 1)
        sample = ids.astype(np.int32), positions.astype(np.int32), np.arange(0, n * length + 1, length)
    watching = _Watching()
    whole = _prepare(replace(network, head=replace(network.head, pooling="mean")), FP32)
    graph.forward(watching, whole, *sample)
    found = []
    begin = 0 if network.embedding.project is None else 1
    for largest in watching.largest[begin : begin + 4 * len(network.layers)]:
        order = np.argsort(-largest, kind="stable")[:N_APART]
        found.append(np.sort(order[largest[order] > FAR * np.median(largest)]))
    return [found[first : first + 4] for first in range(0, len(found), 4)]


def _rows(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)


def _code(activation: str, kind: int) -> int:
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(map(repr, ACTIVATIONS))}")
    code = ACTIVATIONS.index(activation)
    return _GELU_ROUNDED if code == _GELU and kind != FP32 else code


_local = threading.local()


def _workspace() -> Workspace:
    """Return this thread's workspace."""
    if not hasattr(_local, "workspace"):
        _local.workspace = Workspace()
    return _local.workspace  # type: ignore[no-any-return]


def embed(ids: np.ndarray, positions: np.ndarray, embedding: Any) -> np.ndarray:
    """See `affectcore.kernels.encoder.embed`."""
    return Workspace().embed(ids, positions, embedding)


def linear(x: np.ndarray, layer: Any, activation: str = "", gated: bool = False) -> np.ndarray:
    """See `affectcore.kernels.encoder.linear`."""
    return Workspace().linear(x, layer, activation, gated)


def add_norm(x: np.ndarray, residual: np.ndarray | None, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """See `affectcore.kernels.encoder.add_norm`."""
    return Workspace().add_norm(x, residual, norm)


def attention(qkv: np.ndarray, offsets: np.ndarray, n_heads: int, **options: Any) -> np.ndarray:
    """See `affectcore.kernels.encoder.attention`; `qkv` is float32, or uint16: bfloat16 bits."""
    return Workspace().attention(qkv, offsets, n_heads, **options)


def head(x: np.ndarray, offsets: np.ndarray, layer: Any) -> np.ndarray:
    """See `affectcore.kernels.encoder.head`."""
    return Workspace().head(x, offsets, layer)


def forward(ids: np.ndarray, positions: np.ndarray, offsets: np.ndarray, network: Any) -> np.ndarray:
    """See `affectcore.kernels.encoder.forward`."""
    return graph.forward(_workspace(), network, ids, positions, offsets)  # type: ignore[no-any-return]
