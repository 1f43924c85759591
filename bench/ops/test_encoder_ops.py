"""The encoder's linear layers on one thread, next to torch's, and attention: operations a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from measure import Contender, alternate

from affectcore.kernels import encoder

N, D, M = 512, 384, 1536
"""Tokens, width and inner width: the first feed-forward layer of a MiniLM."""
HEADS = 12
ROUNDS = 9
REPEAT = 5


def test_linear(benchmark: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    layer = encoder.Linear(rng.standard_normal((M, D), np.float32), rng.standard_normal(M, np.float32))
    x = rng.standard_normal((N, D), np.float32)
    flops = 2.0 * N * D * M * REPEAT
    contenders = [
        Contender(
            f"linear {D} to {M}, numba, {precision}",
            _repeat(partial(encoder.linear, x, encoder.prepare(layer, precision, backend="numba"), backend="numba")),
            0,
            0,
            flops=flops,
        )
        for precision in encoder.precisions("numba")
    ]
    tensor, weight, bias = (torch.from_numpy(a) for a in (x, layer.weight, layer.bias))
    half, half_weight, half_bias = (t.bfloat16() for t in (tensor, weight, bias))
    bytes_, byte_weight = (torch.randint(-127, 127, shape, dtype=torch.int8) for shape in ((N, D), (D, M)))
    peers: dict[str, Callable[[], Any]] = {
        "torch linear, float32": partial(torch.nn.functional.linear, tensor, weight, bias),
        "torch linear, bfloat16": partial(torch.nn.functional.linear, half, half_weight, half_bias),
        "torch product of int8, no scales": partial(torch._int_mm, bytes_, byte_weight),
    }
    contenders += [Contender(name, _repeat(call), 0, 0, flops=flops) for name, call in peers.items()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alternate(benchmark, "Encoder ops, one thread", contenders, ROUNDS)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("length", [16, 64, 512])
def test_attention(benchmark: Any, length: int) -> None:
    rng = np.random.default_rng(0)
    tokens = 1024
    offsets = np.arange(0, tokens + 1, length)
    bits = rng.standard_normal((tokens, 3 * D), np.float32).view(np.uint32) >> 16
    inputs = {"fp32": rng.standard_normal((tokens, 3 * D), np.float32), "bf16": bits.astype(np.uint16)}
    flops = 4.0 * tokens * length * D * REPEAT
    contenders = [
        Contender(
            f"attention, sequences of {length}, numba, {precision}",
            _repeat(partial(encoder.attention, qkv, offsets, HEADS, scale=(D / HEADS) ** -0.5, backend="numba")),
            0,
            0,
            flops=flops,
        )
        for precision, qkv in inputs.items()
    ]
    alternate(benchmark, "Encoder ops, one thread", contenders, ROUNDS)


def _repeat(call: Callable[[], Any]) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(REPEAT):
            call()

    return calls
