"""Times the encoder's Triton kernels on the GPU that is here, beside what the roofline allows: `python bench/gpu.py`.

Prints "no GPU here" and ends where torch sees none. Random weights in bfloat16, and texts whose lengths are spread as
those of short comments; logits of a few texts are compared with the reference first.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import roofline

from affectcore.kernels import encoder
from affectcore.kernels.encoder import Embedding, Head, Layer, Linear, Network, Norm

WORDS, PLACES, LONGEST = 30_000, 514, 512
HEADS = 12
ROUNDS = 20


def network(shape: roofline.Shape, seed: int = 0) -> Network:
    """Return random weights, of a size at which logits are of order 1."""
    random = np.random.default_rng(seed)

    def array(*size: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal(size) * scale).astype(np.float32)

    def linear(n_out: int, n_in: int) -> Linear:
        return Linear(array(n_out, n_in, scale=n_in**-0.5), array(n_out, scale=0.02))

    def norm() -> Norm:
        return Norm(np.ones(shape.d, np.float32), np.zeros(shape.d, np.float32), 1e-5)

    d, m = shape.d, shape.m
    layers = tuple(
        Layer(None, linear(3 * d, d), linear(d, d), norm(), linear(m, d), linear(d, m), norm())
        for _ in range(shape.n_layers)
    )
    head = Head("first", linear(d, d), "tanh", None, linear(shape.k, d))
    embedding = Embedding(array(WORDS, d), array(PLACES, d), norm(), None)
    return Network(embedding, layers, None, head, HEADS, (d / HEADS) ** -0.5, "gelu")


def tokens(mean: float, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ids, positions and offsets of texts, about `batch` tokens together."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.rint(random.lognormal(np.log(mean) - 0.5, 1.0, max(int(batch / mean), 1))), 2, LONGEST)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    positions = np.concatenate([np.arange(n) for n in lengths.astype(int)]).astype(np.int32)
    return random.integers(0, WORDS, int(offsets[-1])).astype(np.int32), positions, offsets


def calls(model: Any, ids: Any, positions: Any, offsets: Any) -> dict[str, Callable[[], Any]]:
    """Return a call for each op of `roofline.ops`, of one layer where it is a layer's, and for the whole `forward`."""
    layer = model.layers[0]
    x = encoder.embed(ids, positions, model.embedding)
    qkv, wide = encoder.linear(x, layer.qkv), encoder.linear(x, layer.up, model.activation)
    return {
        "embed": partial(encoder.embed, ids, positions, model.embedding),
        "linear qkv": partial(encoder.linear, x, layer.qkv),
        "attention": partial(encoder.attention, qkv, offsets, model.n_heads, scale=model.scale),
        "linear out": partial(encoder.linear, x, layer.out),
        "linear up, gelu": partial(encoder.linear, x, layer.up, model.activation),
        "linear down": partial(encoder.linear, wide, layer.down),
        "add_norm": partial(encoder.add_norm, x, x, layer.norm_mid),
        "head": partial(encoder.head, x, offsets, model.head),
        "forward": partial(encoder.forward, ids, positions, offsets, model),
    }


def milliseconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call on the GPU, launches included."""
    import torch

    call()  # compiles
    times = []
    for _ in range(ROUNDS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def compare(shape: roofline.Shape, precision: encoder.Precision) -> float:
    """Return the greatest difference of logits from the reference, for a few texts."""
    from affectcore.kernels.dispatch import place

    model, packed = network(shape), tokens(20, 100)
    found = encoder.forward(*place(packed, "triton"), encoder.prepare(model, precision, backend="triton"))
    wanted = encoder.forward(*packed, encoder.prepare(model, backend="reference"), backend="reference")
    return float(np.abs(found.cpu().numpy() - wanted).max())


def main() -> None:
    """Time everything."""
    parser = argparse.ArgumentParser(description="Time the encoder's Triton kernels.")
    parser.add_argument("--mean", type=float, default=roofline.MEAN, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=roofline.BATCH, help="tokens of a batch (default: %(default)s)")
    args = parser.parse_args()
    import torch

    from affectcore.kernels.dispatch import place

    if not torch.cuda.is_available():
        print("no GPU here")
        return
    name = torch.cuda.get_device_name()
    chip = next((g for g in roofline.GPUS if g.name.split()[0] in name), None)
    print(f"{name}, torch {torch.__version__}; the roofline's rates: {chip.name if chip else 'none for this GPU'}")
    for shape in roofline.SHAPES:
        for precision in ("fp32", "bf16"):
            print(f"{shape.name} in {precision}: logits differ from the reference by {compare(shape, precision):.2g}")
        packed = tokens(args.mean, args.batch)
        lengths = np.diff(packed[2])
        n, mean, squares = int(lengths.sum()), float(lengths.mean()), float((lengths**2).sum() / lengths.sum())
        model = encoder.prepare(network(shape), "bf16", backend="triton")
        whole = roofline.ops(shape, mean, squares, n)
        layer = roofline.ops(replace(shape, n_layers=1), mean, squares, n, pooling="mean")
        parts = {**{op.name: [op] for op in layer}, "forward": whole}
        print(f"{shape.name} in bf16: {len(lengths):,} texts, {n:,} tokens; a layer's ops are timed for one layer")
        print(f"{'':>18} {'ms':>9} {'TFLOP/s':>9} {'GB/s':>9} {'of the roofline':>16}")
        for op, call in calls(model, *place(packed, "triton")).items():
            took = milliseconds(call) / 1e3
            half = 2 if op == "add_norm" else 1  # there are two in a layer
            flops, moved = (n / half * sum(getattr(p, what) for p in parts[op]) for what in ("flops", "moved"))
            share = f"{n / half * sum(p.seconds(chip) for p in parts[op]) / took:>16.0%}" if chip else ""
            print(f"{op:>18} {took * 1e3:>9.3f} {flops / took / 1e12:>9.1f} {moved / took / 1e9:>9.0f} {share}")
            if op == "forward":
                print(f"{len(lengths) / took:,.0f} texts/s, {n / took:,.0f} tokens/s, without tokenization")


if __name__ == "__main__":
    main()
