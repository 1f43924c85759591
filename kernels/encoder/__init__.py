"""Op family `encoder`: from packed token ids to the logits of a BERT-type classifier, no padding anywhere.

Sequences stand one behind the other: sequence s has the tokens offsets[s]:offsets[s + 1] of every packed array, and at
least one. x is (n_tokens, d). The ops, in the order of a forward pass:

embed
    words[id] + positions[position], normalized, projected to d where the checkpoint does (ELECTRA).

linear
    x @ weight.T + bias, then an activation; gated: act(first half) * second half (GeGLU: Shazeer 2020,
    arXiv 2002.05202).

attention
    From qkv (n_tokens, 3 d), per sequence and head: softmax(scale * (q . k + relative terms)) @ v. With rotary
    positions q and k are turned first: the pair (x_c, x_{c + h/2}) of a head of width h by the angle
    position * base^(-2 c / h). With a window w, keys further away than w do not count. Online softmax (Dao et al. 2022,
    FlashAttention, arXiv 2205.14135) where a sequence is too long for one tile.

add_norm
    s = x + residual and norm(s), both.

head
    The first vector of each sequence or the mean of all, dense, activation, norm, out.

forward
    All of it, by the one graph in `graph`.

Precision: `fp32` is that of transformers' eager models. `bf16` rounds the inputs of matrix products to bfloat16 and
adds in float32; norms, softmax and activations are float32. `int8` (CPU) also rounds weights to int8 with a scale per
output, and the inputs of linear layers to uint8 with a scale and an offset per token; attention is as in bf16.

Tolerance on logits, against float64: 1e-4 in fp32, 3e-2 in bf16 (absolute, for logits of order 1). The result for a
sequence does not depend on the others beside it. NaN and infinity stay within their sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from affectcore.kernels.dispatch import implementation

from .tables import (
    ACTIVATIONS,
    Embedding,
    Head,
    Layer,
    Linear,
    Network,
    Norm,
    Precision,
    Relative,
)

__all__ = [
    "ACTIVATIONS",
    "Embedding",
    "Head",
    "Layer",
    "Linear",
    "Network",
    "Norm",
    "Precision",
    "Relative",
    "add_norm",
    "attention",
    "embed",
    "forward",
    "head",
    "linear",
    "precisions",
    "prepare",
]


def precisions(backend: str = "auto") -> tuple[Precision, ...]:
    """Return the precisions that a backend, and this machine's CPU for numba, can compute in."""
    backend = "numba" if backend == "auto" else backend
    return implementation("encoder", backend).PRECISIONS  # type: ignore[no-any-return]


def prepare(
    part: Any,
    precision: Precision = "fp32",
    *,
    sample: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    backend: str = "auto",
) -> Any:
    """Return a network, or a part of one, as a backend's ops take it: packed, rounded, moved to the GPU.

    Parameters
    ----------
    part
        `Network`, `Embedding`, `Linear`, `Norm`, `Relative` or `Head` of NumPy arrays.
    precision
        `fp32`, `bf16`, or `int8` (the CPU only).
    sample
        ids, positions and offsets of some typical sequences, special tokens included: where `int8` looks for channels
        that go far out of the others' range, and need float32. None: random tokens, which show fewer of them.
    backend
        `auto` (numba), `reference` (which computes in float64 whatever the precision), `numba` or `triton`.

    Raises
    ------
    ValueError
        If the backend or this CPU has no such precision; the message says which there are.
    """
    backend = "numba" if backend == "auto" else backend
    module = implementation("encoder", backend)
    if precision == "int8" and sample is not None and backend == "numba":
        return module.prepare(part, precision, sample)
    return module.prepare(part, precision)


def forward(ids: Any, positions: Any, offsets: Any, network: Any, *, backend: str = "auto") -> Any:
    """Return the logits of packed sequences.

    Parameters
    ----------
    ids, positions
        int32 (n_tokens,): token ids, and the row of the position table for each (any number where there is no table).
    offsets
        int64 (n + 1,): sequence bounds, from 0 to n_tokens; no sequence is empty.
    network
        A prepared `Network`.
    backend
        `auto`, `reference`, `numba` or `triton`: the one it was prepared for.

    Returns
    -------
    array
        float32 (n, k).

    Raises
    ------
    ValueError
        On numba, if an id or a position is outside of its table. triton does not look for such, since to ask would be
        to wait for the GPU: there it adds nothing.
    """
    return implementation("encoder", backend, ids, positions, offsets).forward(ids, positions, offsets, network)


def embed(ids: Any, positions: Any, embedding: Any, *, backend: str = "auto") -> Any:
    """Return the tokens' vectors, (n_tokens, d); arguments as of `forward`, with a prepared `Embedding`."""
    return implementation("encoder", backend, ids, positions).embed(ids, positions, embedding)


def linear(x: Any, layer: Any, activation: str = "", gated: bool = False, *, backend: str = "auto") -> Any:
    """Return activation(x @ weight.T + bias), (n_tokens, n_out), or half as wide where `gated`.

    Parameters
    ----------
    x
        (n_tokens, n_in).
    layer
        A prepared `Linear`.
    activation
        One of `ACTIVATIONS`.
    gated
        The first half of the outputs is activated and multiplies the second.
    backend
        `auto`, `reference`, `numba` or `triton`.
    """
    return implementation("encoder", backend, x).linear(x, layer, activation, gated)


def attention(
    qkv: Any,
    offsets: Any,
    n_heads: int,
    *,
    scale: float,
    window: int = 0,
    rotary_base: float = 0.0,
    relative: Any = None,
    backend: str = "auto",
) -> Any:
    """Return what each token's heads see of its sequence, (n_tokens, d).

    Parameters
    ----------
    qkv
        (n_tokens, 3 d): q of all heads, k of all heads, v of all heads.
    offsets
        int64 (n + 1,): sequence bounds.
    n_heads
        Number of heads; a head is d / n_heads wide.
    scale
        Factor of the scores, relative terms included.
    window
        Furthest key that counts, to either side; 0: all do.
    rotary_base
        Theta of rotary positions; 0: none.
    relative
        A prepared `Relative`, or None.
    backend
        `auto`, `reference`, `numba` or `triton`.
    """
    ops = implementation("encoder", backend, qkv, offsets)
    return ops.attention(qkv, offsets, n_heads, scale=scale, window=window, rotary_base=rotary_base, relative=relative)


def add_norm(x: Any, residual: Any, norm: Any, *, backend: str = "auto") -> Any:
    """Return (x + residual, its normalization), (n_tokens, d) both; `residual` may be None, `norm` is prepared."""
    return implementation("encoder", backend, x).add_norm(x, residual, norm)


def head(x: Any, offsets: Any, layer: Any, *, backend: str = "auto") -> Any:
    """Return the logits, float32 (n, k), of sequences from their tokens' vectors, with a prepared `Head`."""
    return implementation("encoder", backend, x, offsets).head(x, offsets, layer)
