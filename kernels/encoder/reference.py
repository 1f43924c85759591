"""Encoder ops in plain NumPy, sequence by sequence, in float64: what the other backends are tested against."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np

from . import graph
from .tables import ACTIVATIONS, Embedding, Head, Linear, Network, Norm, Precision, Relative, convert

_erf = np.vectorize(math.erf, otypes=[np.float64])

_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


PRECISIONS = ("fp32", "bf16", "int8")
"""What `prepare` accepts; all is done in float64."""


def prepare(part: Any, precision: Precision = "fp32") -> Any:
    """Return `part` with its floating-point arrays in float64, whatever the precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"unknown precision {precision!r}: choose from {', '.join(get_args(Precision))}")
    return convert(part, lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a)


def forward(ids: np.ndarray, positions: np.ndarray, offsets: np.ndarray, network: Network) -> np.ndarray:
    """Return the logits of packed sequences, float32 (n, k)."""
    logits: np.ndarray = graph.forward(sys.modules[__name__], network, ids, positions, offsets)
    return logits


def embed(ids: np.ndarray, positions: np.ndarray, embedding: Embedding) -> np.ndarray:
    """Return the tokens' vectors, float64 (n_tokens, d)."""
    x = np.asarray(embedding.words[ids], np.float64)
    if len(embedding.positions):
        with np.errstate(invalid="ignore"):
            x = x + embedding.positions[positions]
    if embedding.norm is not None:
        x = _normalize(x, embedding.norm)
    return x if embedding.project is None else linear(x, embedding.project)


def linear(x: np.ndarray, layer: Linear, activation: str = "", gated: bool = False) -> np.ndarray:
    """Return activation(x @ weight.T + bias), the first half of it times the second where `gated`; float64."""
    with np.errstate(invalid="ignore", over="ignore"):
        y: np.ndarray = np.asarray(x, np.float64) @ layer.weight.T + layer.bias
        if not gated:
            return _activate(y, activation)
        active, gate = np.split(y, 2, axis=1)
        product: np.ndarray = _activate(active, activation) * gate
        return product


def attention(
    qkv: np.ndarray,
    offsets: np.ndarray,
    n_heads: int,
    *,
    scale: float,
    window: int = 0,
    rotary_base: float = 0.0,
    relative: Relative | None = None,
) -> np.ndarray:
    """Return softmax(scale * (q . k + relative terms)) @ v of each head, side by side; float64 (n_tokens, d)."""
    d = qkv.shape[1] // 3
    width = d // n_heads
    out = np.empty((len(qkv), d), np.float64)
    for begin, end in _bounds(offsets):
        n = end - begin
        distance = np.arange(n)[:, None] - np.arange(n)  # of query i from key j: i - j
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = (np.asarray(qkv[begin:end, at * d : (at + 1) * d][:, part], np.float64) for at in range(3))
            if rotary_base:
                q, k = _rotate(q, rotary_base), _rotate(k, rotary_base)
            with np.errstate(invalid="ignore", over="ignore"):
                scores = q @ k.T
                if relative is not None:
                    reach = len(relative.bucket) // 2
                    bucket = relative.bucket[np.clip(distance, -reach, reach) + reach]
                    if len(relative.key):
                        scores += np.take_along_axis(q @ relative.key[:, part].T, bucket, axis=1)
                    if len(relative.query):
                        scores += np.take_along_axis(k @ relative.query[:, part].T, bucket.T, axis=1).T
                scores *= scale
                if window:
                    scores[np.abs(distance) > window] = -np.inf
                weight = np.exp(scores - scores.max(axis=1, keepdims=True))
                out[begin:end, part] = weight @ v / weight.sum(axis=1, keepdims=True)
    return out


def add_norm(x: np.ndarray, residual: np.ndarray | None, norm: Norm) -> tuple[np.ndarray, np.ndarray]:
    """Return (x + residual, its normalization), float64 (n_tokens, d) both."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.asarray(x, np.float64) if residual is None else np.asarray(x, np.float64) + residual
    return total, _normalize(total, norm)


def head(x: np.ndarray, offsets: np.ndarray, layer: Head) -> np.ndarray:
    """Return the logits of sequences from their tokens' vectors, float32 (n, k)."""
    with np.errstate(invalid="ignore", over="ignore"):
        pooled = np.array(
            [x[begin] if layer.pooling == "first" else x[begin:end].mean(axis=0) for begin, end in _bounds(offsets)]
        ).reshape(-1, x.shape[1])
        if layer.dense is not None:
            pooled = linear(pooled, layer.dense)
        pooled = _activate(pooled, layer.activation)
        if layer.norm is not None:
            pooled = _normalize(pooled, layer.norm)
        return linear(pooled, layer.out).astype(np.float32)


def _bounds(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    ends = offsets.tolist()
    return zip(ends[:-1], ends[1:])


def _activate(x: np.ndarray, activation: str) -> np.ndarray:
    if activation not in _FUNCTIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(map(repr, ACTIVATIONS))}")
    with np.errstate(invalid="ignore", over="ignore"):
        return _FUNCTIONS[activation](x)


def _normalize(x: np.ndarray, norm: Norm) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        x = np.asarray(x, np.float64)
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)
        normalized: np.ndarray = centred / np.sqrt(variance + norm.eps) * norm.weight + norm.bias
        return normalized


def _rotate(x: np.ndarray, base: float) -> np.ndarray:
    """Turn the pairs (x_c, x_{c + h/2}) of the vectors (n, h) of consecutive positions."""
    n, h = x.shape
    angle = np.arange(n)[:, None] * base ** (-2 * np.arange(h // 2) / h)
    left, right = np.split(x, 2, axis=1)
    cos, sin = np.cos(angle), np.sin(angle)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=1)
