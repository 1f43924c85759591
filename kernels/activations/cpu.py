"""Numba kernels of the `activations` family; `__init__` documents the ops."""

from __future__ import annotations

import numpy as np

from affectcore.kernels.dispatch import inline, jit

from .tables import IDENTITY, SOFTMAX, Activation

_ROWS = 16  # rows at a time: any number of columns then fills vector registers
_ONE, _ZERO, _NAN = np.float32(1.0), np.float32(0.0), np.float32(np.nan)
# Under this an exponential is no normal float32, and comes out as 0.
_LOWEST = np.float32(-87.3)
_LOG2_E = np.float32(1.44269504)
# ln 2 in two parts: the first one has few bits, so that its product with a small whole number is exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_TO_WHOLE = np.float32(12582912.0)  # 1.5 * 2^23: a small number added to it is rounded to a whole one, in the low bits
_TERMS = tuple(np.float32(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0))


@inline
def _exp(x):
    """Return e^x for x <= 0 to 3e-7 of itself, NaN for NaN: no branch and no call, so that loops over it vectorise.

    x = n ln 2 + r with |r| at most half of ln 2, a Taylor series for e^r, and n goes into the exponent.
    """
    t = _LOWEST if x < _LOWEST else x
    shifted = t * _LOG2_E + _TO_WHOLE
    n = shifted - _TO_WHOLE
    r = t - n * _LN2_HIGH
    r -= n * _LN2_LOW
    power = _TERMS[0]
    power = power * r + _TERMS[1]
    power = power * r + _TERMS[2]
    power = power * r + _TERMS[3]
    power = power * r + _TERMS[4]
    power = power * r + _TERMS[5]
    power = power * r + _TERMS[6]
    exponent = np.uint32(np.float32(shifted).view(np.uint32) << np.uint32(23))
    scale = np.uint32(exponent + np.uint32(127 << 23)).view(np.float32)
    return _ZERO if x < _LOWEST else power * scale


@jit
def _activate(logits, kind, group, scale, shift, low, high, out):
    """Activate flat arrays of n * k values."""
    k = kind.shape[0]
    scales, shifts = np.empty(_ROWS * k, np.float32), np.empty(_ROWS * k, np.float32)
    for row in range(_ROWS):
        scales[row * k : (row + 1) * k] = scale
        shifts[row * k : (row + 1) * k] = shift
    for base in range(0, logits.shape[0], _ROWS * k):
        size = min(_ROWS * k, logits.shape[0] - base)
        xs, ys = logits[base : base + size], out[base : base + size]
        for i in range(size):  # as if all columns were sigmoids
            x = scales[i] * xs[i] + shifts[i]
            power = _exp(-abs(x))
            ys[i] = (power if x < _ZERO else _ONE) / (_ONE + power)
        c = 0
        while c < k:
            end = c + 1
            if kind[c] == IDENTITY:
                for at in range(base + c, base + size, k):
                    x = scale[c] * logits[at] + shift[c]
                    out[at] = low[c] if x < low[c] else high[c] if x > high[c] else x
            elif kind[c] == SOFTMAX:
                while end < k and kind[end] == SOFTMAX and group[end] == group[c]:
                    end += 1
                for row in range(base, base + size, k):
                    xs, ys = logits[row + c : row + end], out[row + c : row + end]
                    _softmax(xs, scale[c:end], shift[c:end], ys)
            c = end


@inline
def _softmax(logits, scale, shift, out):
    """Activate one group of one row."""
    n = logits.shape[0]
    top, number = np.float32(-np.inf), True
    for c in range(n):
        x = scale[c] * logits[c] + shift[c]
        out[c] = x
        number &= x == x
        top = x if x > top else top
    for c in range(n):
        # Infinities of one sign are equal: their difference would be NaN.
        out[c] = _ONE if out[c] == top else _exp(out[c] - top)
    total = _ZERO
    for c in range(n):
        total += out[c]
    for c in range(n):
        out[c] = out[c] / total if number else _NAN


def activate(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """See `affectcore.kernels.activations.activate`."""
    out = np.empty(logits.shape, np.float32)
    if out.size:
        _activate(np.ascontiguousarray(logits).reshape(-1), *activation, out.reshape(-1))
    return out


@jit
def _decide(probabilities, thresholds, out):
    for row in range(probabilities.shape[0]):
        for c in range(probabilities.shape[1]):
            out[row, c] = np.uint8(probabilities[row, c] >= thresholds[c])


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.activations.decide`."""
    out = np.empty(probabilities.shape, np.uint8)
    _decide(np.ascontiguousarray(probabilities), thresholds, out)
    return out


@jit
def _aggregate(values, first, weights, out):
    k = values.shape[1]
    totals = np.empty(k)
    for d in range(first.shape[0] - 1):
        totals[:] = 0.0
        weight = 0.0
        for s in range(first[d], first[d + 1]):
            w = np.float64(weights[s])
            if w > 0.0:
                for c in range(k):
                    totals[c] += w * np.float64(values[s, c])
                weight += w
        for c in range(k):
            out[d, c] = totals[c] / weight if weight > 0.0 else np.nan


def aggregate(values: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.activations.aggregate`."""
    out = np.empty((len(first) - 1, values.shape[1]), np.float32)
    _aggregate(np.ascontiguousarray(values), first, weights, out)
    return out
