"""Op family `activations`: from logits to calibrated probabilities, decisions and document values.

activate
    Per column, x = scale * logit + shift in float32 (a temperature, or Platt 1999, "Probabilistic Outputs for Support
    Vector Machines"), then by the column's kind:

        SIGMOID     1 / (1 + exp(-x))
        IDENTITY    x, clipped to [low, high]
        SOFTMAX     exp(x - m) / sum(exp(x - m)) over the neighbouring columns of the same group, m their maximum

    Right for any logit: nothing overflows, and infinite ones give the limit (where several columns are at an infinite
    maximum they share the probability; so all at -inf is uniform). NaN gives NaN in its own column, or its own group.
    Reads and writes 4 k bytes a unit.

decide
    1 where a probability is at least its column's threshold, else 0; NaN is 0.

aggregate
    A document's value is the weighted mean of its segments': sum(w_s v_s) / sum(w_s), in float64 and in order. Segments
    of weight 0 count for nothing, even if their value is NaN; a document whose weights sum to 0 is NaN.
    Reads 4 (k + 1) bytes a segment.

Tolerance: `decide` and `aggregate` are bit-exact on every backend; `activate` relative 1e-5, or absolute 1e-7.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import IDENTITY, SIGMOID, SOFTMAX, Activation, build_activation

__all__ = ["IDENTITY", "SIGMOID", "SOFTMAX", "Activation", "activate", "aggregate", "build_activation", "decide"]


def activate(logits: Any, activation: Activation, *, backend: str = "auto") -> Any:
    """Turn logits into probabilities (see the module).

    Parameters
    ----------
    logits
        float32 (n, k).
    activation
        What to do with each of the k columns, from `build_activation`.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float32 (n, k).

    Raises
    ------
    ValueError
        If `activation` has another number of columns.
    """
    _check(logits, len(activation.kind), "an activation")
    return implementation("activations", backend, logits, *activation).activate(logits, activation)


def decide(probabilities: Any, thresholds: Any, *, backend: str = "auto") -> Any:
    """Tell which probabilities reach their thresholds (see the module).

    Parameters
    ----------
    probabilities
        float32 (n, k).
    thresholds
        float32 (k,).
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        uint8 (n, k).

    Raises
    ------
    ValueError
        If there are not k thresholds.
    """
    _check(probabilities, len(thresholds), "thresholds")
    return implementation("activations", backend, probabilities, thresholds).decide(probabilities, thresholds)


def aggregate(values: Any, first: Any, weights: Any, *, backend: str = "auto") -> Any:
    """Average the values of segments to those of documents (see the module).

    Parameters
    ----------
    values
        float32 (n_segments, k).
    first
        int64 (n + 1,): document d owns the segments first[d]:first[d + 1]; it need not start at 0.
    weights
        float32 (n_segments,), none of them negative: for example numbers of tokens.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float32 (n, k).

    Raises
    ------
    ValueError
        If values and weights differ in length.
    """
    if len(values) != len(weights):
        raise ValueError(f"every segment needs a weight: {len(values)} segments, {len(weights)} weights")
    return implementation("activations", backend, values, first, weights).aggregate(values, first, weights)


def _check(array: Any, k: int, what: str) -> None:
    if array.ndim != 2 or array.shape[1] != k:
        raise ValueError(f"{what} for {k} columns cannot work on shape {tuple(array.shape)}")
