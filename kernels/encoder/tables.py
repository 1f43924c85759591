"""What an encoder consists of, as plain arrays: one description for every BERT-type architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np

ACTIVATIONS = ("", "gelu", "gelu_tanh", "relu", "tanh", "silu")
"""Activations a layer may have; `gelu` is the exact one (erf), `gelu_tanh` its approximation, "" is none."""

Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True)
class Norm:
    """Layer normalization: (x - mean) / sqrt(variance + eps) * weight + bias, over the last axis."""

    weight: np.ndarray  # float32 (d,)
    bias: np.ndarray  # float32 (d,), zeros where a checkpoint has none
    eps: float


@dataclass(frozen=True)
class Linear:
    """x @ weight.T + bias."""

    weight: np.ndarray  # float32 (n_out, n_in)
    bias: np.ndarray  # float32 (n_out,), zeros where a checkpoint has none


@dataclass(frozen=True)
class Embedding:
    """words[id] + positions[position], normalized, projected."""

    words: np.ndarray  # float32 (n_words, e)
    positions: np.ndarray  # float32 (n_positions, e), rows of token type 0 added; (0, e) where there are none
    norm: Norm | None
    project: Linear | None  # from e to d (ELECTRA)


@dataclass(frozen=True)
class Relative:
    """Disentangled relative positions (DeBERTa: He et al. 2021, arXiv 2006.03654), for one layer.

    The score of query i for key j gains q_i . key[r] + k_j . query[r], with r = bucket[i - j + n - 1] (clipped to the
    ends of `bucket`) for a `bucket` of 2 n - 1 entries. A part that the checkpoint leaves out has no rows.
    """

    key: np.ndarray  # float32 (n_buckets, d) or (0, d): heads side by side, as in a layer's k
    query: np.ndarray  # float32 (n_buckets, d) or (0, d)
    bucket: np.ndarray  # int32 (2 n - 1,)


@dataclass(frozen=True)
class Layer:
    """One transformer layer. Without `pre_norm` (BERT): norms after the residual sums; with it (ModernBERT): before."""

    norm_in: Norm | None  # pre-norm: before qkv, None for the identity; else None
    qkv: Linear  # (3 d, d): q of all heads, then k, then v
    out: Linear  # (d, d)
    norm_mid: Norm  # post-norm: of x + attention; pre-norm: before `up`
    up: Linear  # (m, d); gated: (2 m, d), the first m are activated and multiply the last m
    down: Linear  # (d, m)
    norm_out: Norm | None  # post-norm: of x + feed-forward; else None
    window: int = 0  # query i sees keys j with |i - j| <= window; 0: all
    rotary_base: float = 0.0  # theta of rotary positions (Su et al. 2021, arXiv 2104.09864); 0: none
    relative: Relative | None = None


@dataclass(frozen=True)
class Head:
    """From a sequence's vectors to its logits: pool, dense, activation, norm, out."""

    pooling: Literal["first", "mean"]
    dense: Linear | None
    activation: str
    norm: Norm | None
    out: Linear  # (k, d)


@dataclass(frozen=True)
class Network:
    """An encoder with its head."""

    embedding: Embedding
    layers: tuple[Layer, ...]
    final_norm: Norm | None  # pre-norm: after the last layer; else None
    head: Head
    n_heads: int
    scale: float  # of q . k, and of the relative terms with it
    activation: str
    gated: bool = False
    pre_norm: bool = False

    @property
    def width(self) -> int:
        """The number of features of a token, d."""
        return int(self.layers[0].out.weight.shape[0])


def convert(part: Any, array: Callable[[np.ndarray], Any], linear: Callable[[Linear], Any] | None = None) -> Any:
    """Return `part` (any of these classes, or a tuple of them) with its arrays, or whole `Linear`s, converted."""
    if isinstance(part, np.ndarray):
        return array(part)
    if isinstance(part, Linear) and linear is not None:
        return linear(part)
    if isinstance(part, tuple):
        return tuple(convert(p, array, linear) for p in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: convert(getattr(part, f.name), array, linear) for f in fields(part)})
    return part
