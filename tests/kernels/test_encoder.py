"""The encoder's reference ops against plain torch: what the other backends are then tested against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from affectcore.kernels import encoder
from affectcore.kernels.encoder import Embedding, Head, Linear, Norm, Relative

OFFSETS = np.array([0, 1, 4, 5, 38, 59])
D, HEADS = 24, 3
WIDTH = D // HEADS


def randn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def reference(part: Any) -> Any:
    return encoder.prepare(part, backend="reference")


def double(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float64))


def sequences() -> list[slice]:
    return [slice(b, e) for b, e in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist())]


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("", lambda x: x),
        ("gelu", functional.gelu),
        ("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("relu", functional.relu),
        ("tanh", torch.tanh),
        ("silu", functional.silu),
    ],
)
@pytest.mark.parametrize("gated", [False, True])
def test_linear(activation: str, function: Callable[[torch.Tensor], torch.Tensor], gated: bool) -> None:
    x, layer = randn(59, D) * 3, Linear(randn(10, D), randn(10))
    found = encoder.linear(x, reference(layer), activation, gated, backend="reference")
    y = functional.linear(double(x), double(layer.weight), double(layer.bias))
    expected = function(y[:, :5]) * y[:, 5:] if gated else function(y)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_every_activation_is_there() -> None:
    x, layer = randn(2, D), reference(Linear(randn(10, D), randn(10)))
    for activation in encoder.ACTIVATIONS:
        assert encoder.linear(x, layer, activation, backend="reference").shape == (2, 10)
    with pytest.raises(ValueError, match="unknown activation 'mish': choose from"):
        encoder.linear(x, layer, "mish", backend="reference")
    with pytest.raises(ValueError, match="unknown precision 'fp8': choose from fp32, bf16, int8"):
        encoder.prepare(layer, "fp8", backend="reference")  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", [False, True])
def test_add_norm(residual: bool) -> None:
    x, r, norm = randn(59, D), randn(59, D, seed=1) if residual else None, Norm(randn(D), randn(D, seed=2), 1e-5)
    total, normalized = encoder.add_norm(x, r, reference(norm), backend="reference")
    expected = double(x) + (0 if r is None else double(r))
    np.testing.assert_array_equal(total, expected)
    expected = functional.layer_norm(expected, (D,), double(norm.weight), double(norm.bias), norm.eps)
    np.testing.assert_allclose(normalized, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("projected", [True, False])
def test_embed(positions: bool, normed: bool, projected: bool) -> None:
    table = Embedding(
        randn(50, D),
        randn(40 if positions else 0, D),
        Norm(randn(D), randn(D, seed=3), 1e-3) if normed else None,
        Linear(randn(12, D), randn(12)) if projected else None,
    )
    rng = np.random.default_rng(0)
    ids, places = rng.integers(0, 50, 59).astype(np.int32), rng.integers(0, 40, 59).astype(np.int32)
    x = double(table.words)[ids]
    if positions:
        x = x + double(table.positions)[places]
    if table.norm:
        x = functional.layer_norm(x, (D,), double(table.norm.weight), double(table.norm.bias), table.norm.eps)
    if table.project:
        x = functional.linear(x, double(table.project.weight), double(table.project.bias))
    found = encoder.embed(ids, places, reference(table), backend="reference")
    np.testing.assert_allclose(found, x, rtol=1e-12, atol=1e-12)


def by_head(qkv: np.ndarray, rows: slice) -> tuple[torch.Tensor, ...]:
    """Return q, k and v of one sequence, float64 (heads, n, width)."""
    part = double(qkv[rows]).reshape(-1, 3, HEADS, WIDTH)
    return tuple(part.permute(1, 2, 0, 3))


@pytest.mark.parametrize("window", [0, 1, 7, 100])
def test_attention_is_softmax_attention_within_the_window(window: int) -> None:
    qkv = randn(59, 3 * D)
    found = encoder.attention(qkv, OFFSETS, HEADS, scale=0.3, window=window, backend="reference")
    for rows in sequences():
        q, k, v = by_head(qkv, rows)
        at = torch.arange(q.shape[1])
        mask = (at[:, None] - at).abs() <= (window or 1000)
        expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)
        np.testing.assert_allclose(found[rows], expected.permute(1, 0, 2).reshape(-1, D), rtol=1e-12, atol=1e-12)


def test_rotary_positions_are_turns_of_complex_numbers() -> None:
    qkv, base = randn(59, 3 * D), 100.0
    found = encoder.attention(qkv, OFFSETS, HEADS, scale=1.0, rotary_base=base, backend="reference")
    for rows in sequences():
        q, k, v = by_head(qkv, rows)
        at = torch.arange(q.shape[1], dtype=torch.float64)
        angle = at[:, None] * base ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
        turn = torch.polar(torch.ones_like(angle), angle)

        def turned(x: torch.Tensor, turn: torch.Tensor = turn) -> torch.Tensor:
            half = torch.complex(x[..., : WIDTH // 2].contiguous(), x[..., WIDTH // 2 :].contiguous()) * turn
            return torch.cat([half.real, half.imag], dim=-1)

        expected = functional.scaled_dot_product_attention(turned(q), turned(k), v, scale=1.0)
        np.testing.assert_allclose(found[rows], expected.permute(1, 0, 2).reshape(-1, D), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", ["key query", "key", "query"])
@pytest.mark.parametrize("reach", [3, 40])
def test_relative_positions_term_by_term(parts: str, reach: int) -> None:
    """Score by score, as the definition says; distances beyond the table are its ends."""
    qkv, none = randn(59, 3 * D), np.zeros((0, D), np.float32)
    bucket = np.random.default_rng(1).integers(0, 10, 2 * reach + 1).astype(np.int32)
    key = randn(10, D, seed=4) if "key" in parts else none
    query = randn(10, D, seed=5) if "query" in parts else none
    relative = Relative(key, query, bucket)
    found = encoder.attention(qkv, OFFSETS, HEADS, scale=0.2, relative=reference(relative), backend="reference")
    for rows in sequences():
        q, k, v = by_head(qkv, rows)
        n = q.shape[1]
        scores = q @ k.transpose(1, 2)
        for i in range(n):
            for j in range(n):
                r = bucket[min(max(i - j, -reach), reach) + reach]
                for h in range(HEADS):
                    part = slice(h * WIDTH, (h + 1) * WIDTH)
                    if len(key):
                        scores[h, i, j] += q[h, i] @ double(key[r, part])
                    if len(query):
                        scores[h, i, j] += k[h, j] @ double(query[r, part])
        expected = (torch.softmax(scores * 0.2, dim=-1) @ v).permute(1, 0, 2).reshape(-1, D)
        np.testing.assert_allclose(found[rows], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("whole", [True, False])
def test_head(pooling: Any, whole: bool) -> None:
    layer = Head(
        pooling,
        Linear(randn(D, D), randn(D)) if whole else None,
        "tanh" if whole else "",
        Norm(randn(D), randn(D, seed=6), 1e-5) if whole else None,
        Linear(randn(4, D), randn(4)),
    )
    x = randn(59, D)
    found = encoder.head(x, OFFSETS, reference(layer), backend="reference")
    assert found.dtype == np.float32
    for row, rows in enumerate(sequences()):
        y = double(x)[rows]
        y = y[0] if pooling == "first" else y.mean(dim=0)
        if layer.dense and layer.norm:
            y = torch.tanh(functional.linear(y, double(layer.dense.weight), double(layer.dense.bias)))
            y = functional.layer_norm(y, (D,), double(layer.norm.weight), double(layer.norm.bias), layer.norm.eps)
        y = functional.linear(y, double(layer.out.weight), double(layer.out.bias))
        np.testing.assert_allclose(found[row], y, rtol=1e-6, atol=1e-6)


def test_nan_and_infinity_stay_within_their_sequence() -> None:
    good = randn(59, 3 * D)
    norm, layer = reference(Norm(randn(D), randn(D), 1e-5)), reference(Linear(randn(8, D), randn(8)))
    head = reference(Head("mean", None, "", None, Linear(randn(4, D), randn(4))))

    def run(qkv: np.ndarray) -> np.ndarray:
        seen = encoder.attention(qkv, OFFSETS, HEADS, scale=0.3, rotary_base=10.0, window=3, backend="reference")
        total, normalized = encoder.add_norm(seen, seen, norm, backend="reference")
        wide = encoder.linear(normalized, layer, "silu", gated=True, backend="reference")
        assert wide.shape == (59, 4)
        return np.asarray(encoder.head(total, OFFSETS, head, backend="reference"))

    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[2, 5] = value
        found, expected = run(bad), run(good)
        others = [0, 2, 3, 4]
        np.testing.assert_array_equal(found[others], expected[others])
        assert not np.isfinite(found[1]).any()


def test_no_sequences_at_all() -> None:
    nothing = np.zeros(1, np.int64)
    head = reference(Head("first", None, "", None, Linear(randn(4, D), randn(4))))
    assert encoder.attention(randn(0, 3 * D), nothing, HEADS, scale=1.0, backend="reference").shape == (0, D)
    assert encoder.head(randn(0, D), nothing, head, backend="reference").shape == (0, 4)
