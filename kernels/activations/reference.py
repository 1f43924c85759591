"""Reference of the `activations` family: the formulas, in float64 from the float32 x on."""

from __future__ import annotations

import math

import numpy as np

from .tables import IDENTITY, SIGMOID, SOFTMAX, Activation


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))  # NaN ends here and stays NaN


def _softmax(xs: list[float]) -> list[float]:
    if any(math.isnan(x) for x in xs):
        return [math.nan] * len(xs)
    top = max(xs)
    # Infinities of one sign are equal: their difference is 0 here, and not NaN.
    powers = [1.0 if x == top else math.exp(x - top) for x in xs]
    return [power / sum(powers) for power in powers]


def activate(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """See `affectcore.kernels.activations.activate`."""
    kind, group, scale, shift, low, high = activation
    with np.errstate(all="ignore"):
        x = scale * logits + shift
    out = np.empty(logits.shape, np.float32)
    for row in range(len(x)):
        for column in range(x.shape[1]):
            if kind[column] == SIGMOID:
                out[row, column] = _sigmoid(float(x[row, column]))
            elif kind[column] == IDENTITY:
                out[row, column] = np.clip(x[row, column], low[column], high[column])
        for g in set(group[kind == SOFTMAX].tolist()):
            columns = (kind == SOFTMAX) & (group == g)
            out[row, columns] = _softmax(x[row, columns].tolist())
    return out


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.activations.decide`."""
    return (probabilities >= thresholds).astype(np.uint8)


def aggregate(values: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """See `affectcore.kernels.activations.aggregate`."""
    out = np.full((len(first) - 1, values.shape[1]), np.nan, np.float32)
    for d, (a, b) in enumerate(zip(first[:-1], first[1:])):
        total, weight = np.zeros(values.shape[1]), 0.0
        for s in range(a, b):
            if weights[s] > 0:
                total += float(weights[s]) * values[s].astype(np.float64)
                weight += float(weights[s])
        if weight > 0:
            out[d] = total / weight
    return out
