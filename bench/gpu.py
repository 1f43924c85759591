"""Times the Triton kernels on the GPU that is here: `python bench/gpu.py`, or with the names of some parts.

Prints "no GPU here" and ends where torch sees none. Parts: `ops`, the ops on texts, each compared with what Numba makes
of the same texts first; `encoder`, its ops beside what the roofline allows, with random weights in bfloat16, on texts
whose lengths are spread as those of short comments; `scorer`, texts in and scores out, on the GPU and on all of the
machine's cores; and, if asked for, `tiles`: the encoder's products and attention with other tiles than those chosen.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import corpus
import numpy as np
import roofline
import setups

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


def text_ops() -> dict[str, Callable[[Any, str], setups.Call]]:
    """Return the setups of all ops on texts, with the tokenizer of the embedded models."""
    from affectcore.models import base

    tokens = partial(setups.tokens, folder=base.EMBEDDED / "static")
    families = (setups.WORDS, setups.TONE, setups.SEGMENTS, {"wordpiece": tokens}, setups.BAG)
    return {k: v for part in (*families, setups.ACTIVATIONS, setups.DYNAMICS) for k, v in part.items()}


def leaves(results: Any) -> Iterator[np.ndarray]:
    """Yield all arrays of nested lists and tuples."""
    from affectcore.kernels.dispatch import fetch

    if isinstance(results, (list, tuple)):
        for part in results:
            yield from leaves(part)
    else:
        yield fetch(results)


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """Return the median time of a call that returns when its work is done."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def agreement(found: Any, wanted: Any) -> str:
    """Say how results agree: `equal`, or the greatest difference of floats; integers must be equal."""
    pairs = list(zip(leaves(found), leaves(wanted), strict=True))
    if all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=b.dtype.kind == "f") for a, b in pairs):
        return "equal"
    differences = [np.abs(a.astype(float) - b) for a, b in pairs if b.dtype.kind == "f" and b.size]
    if any(b.dtype.kind != "f" and not np.array_equal(a, b) for a, b in pairs):
        return "NOT EQUAL"
    return f"within {max(np.nanmax(d) for d in differences):.1g}"


def time_ops(block_bytes: int, n_bytes: int) -> None:
    """Time the ops on texts, blocks and results in the GPU's memory; Numba's time is that of one thread."""
    from affectcore import arrow

    answers = corpus.load()
    texts = answers.replicated(n_bytes)
    size = answers.n_bytes * (len(texts) // len(answers))
    arrow.BLOCK_BYTES.update(triton=block_bytes)
    print(f"{answers.source}: {len(texts):,} texts, {size / 1e6:,.1f} MB, in blocks of {block_bytes >> 20} MiB")
    print(f"{'':>32} {'ms':>9} {'MB/s of text':>13} {'of one CPU thread':>18}  results")
    for name, setup in text_ops().items():
        call, slow = setup(texts, "triton"), setup(answers.array, "numba")
        arrow.BLOCK_BYTES.update(numba=block_bytes)  # the same blocks, to compare
        small, wanted = setup(answers.array, "triton"), setup(answers.array, "numba")
        arrow.BLOCK_BYTES.update(numba=1 << 20)
        found = agreement(small(), wanted())
        took, slow_took = milliseconds(call) / 1e3, seconds(slow)
        factor = size / took / (answers.n_bytes / slow_took)
        print(f"{name:>32} {took * 1e3:>9.2f} {size / took / 1e6:>13,.0f} {factor:>17.1f}x  {found}", flush=True)


def time_scorers(n_bytes: dict[str, int]) -> None:
    """Time whole scorers, texts in main memory to scores in main memory."""
    from affectcore.scorer import Scorer

    answers = corpus.load()
    print(f"{'':>8} {'backend':>8} {'texts':>9} {'MB':>7} {'s':>8} {'texts/s':>10} {'MB/s':>8}")
    for model, size in n_bytes.items():
        texts = answers.replicated(size)
        mb = answers.n_bytes * (len(texts) // len(answers)) / 1e6
        if model == "mini":  # equal passages are computed once
            texts, mb = answers.array, answers.n_bytes / 1e6
        tables = {}
        for backend in ("triton", "numba"):
            scorer = Scorer(model=model, backend=backend)
            tables[backend] = scorer.score(texts)  # compiles
            took = seconds(partial(scorer.score, texts))
            print(
                f"{model:>8} {backend:>8} {len(texts):>9,} {mb:>7,.1f} {took:>8.3f} {len(texts) / took:>10,.0f} "
                f"{mb / took:>8,.1f}",
                flush=True,
            )
            if scorer.work:
                shares = scorer.work.shares().items()
                print(f"{'':>17}", ", ".join(f"{name} {share:.0%}" for name, share in shares), flush=True)
        away = {
            name: float(np.nanmax(np.abs(a.to_numpy().astype(float) - b.to_numpy())))
            for name, a, b in zip(tables["numba"].column_names, tables["triton"].columns, tables["numba"].columns)
        }
        worst = sorted(away, key=away.__getitem__)[-3:]
        shown = ", ".join(f"{name} {away[name]:.2g}" for name in worst if away[name] > 0)
        print(f"{'':>17} greatest differences: {shown or 'none'}", flush=True)


def time_tiles(batch: int) -> None:
    """Time products and attention with other tiles; those of `TILES` are the first ones."""
    from affectcore.kernels.dispatch import place
    from affectcore.kernels.encoder import gpu

    packed = place(tokens(roofline.MEAN, batch), "triton")
    kept = gpu.TILES[gpu.kind(packed[0].device)]["bf16"]
    linears = [kept["linear"]] + [
        gpu.Tile(m, n, k, warps, stages)
        for m, n, k in ((128, 128, 64), (128, 64, 64), (64, 128, 64), (128, 256, 64), (64, 64, 64), (128, 128, 32))
        for warps in (4, 8)
        for stages in (3, 4)
    ]
    attentions = [kept["attention"]] + [
        gpu.Tile(m, n, 0, warps, stages)
        for m, n in ((16, 32), (32, 32), (32, 64), (64, 32), (64, 64), (128, 64))
        for warps in (2, 4)
        for stages in (2, 3)
    ]
    for shape in roofline.SHAPES:
        model = encoder.prepare(network(shape), "bf16", backend="triton")
        for op, key, tiles in (
            ("linear qkv", "linear", linears),
            ("linear up, gelu", "linear", linears),
            ("linear down", "linear", linears),
            ("attention", "attention", attentions),
        ):
            times = []
            for tile in tiles:
                gpu.TILES[gpu.kind(packed[0].device)]["bf16"] = {**kept, key: tile}
                try:
                    times.append((milliseconds(calls(model, *packed)[op]), tile))
                except Exception as error:  # too much shared memory, say
                    times.append((float("inf"), tile))
                    print(f"{tuple(tile)}: {str(error).splitlines()[0][:80]}")
            gpu.TILES[gpu.kind(packed[0].device)]["bf16"] = kept
            best = ", ".join(f"{took:.3f} {tuple(tile)}" for took, tile in sorted(times)[:4])
            print(f"{shape.name}, {op}: {times[0][0]:.3f} ms {tuple(tiles[0])}; best {best}", flush=True)


def time_encoder(mean: float, batch: int, chip: roofline.Gpu | None) -> None:
    """Time the encoder's ops, and say what share of the roofline they reach."""
    from affectcore.kernels.dispatch import place

    for shape in roofline.SHAPES:
        for precision in ("fp32", "bf16"):
            print(f"{shape.name} in {precision}: logits differ from the reference by {compare(shape, precision):.2g}")
        packed = tokens(mean, batch)
        lengths = np.diff(packed[2])
        n, mean_length, squares = int(lengths.sum()), float(lengths.mean()), float((lengths**2).sum() / lengths.sum())
        model = encoder.prepare(network(shape), "bf16", backend="triton")
        whole = roofline.ops(shape, mean_length, squares, n)
        layer = roofline.ops(replace(shape, n_layers=1), mean_length, squares, n, pooling="mean")
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
                print(f"{len(lengths) / took:,.0f} texts/s, {n / took:,.0f} tokens/s, without tokenization", flush=True)


def main() -> None:
    """Time everything, or what is asked for."""
    parser = argparse.ArgumentParser(description="Time the Triton kernels.")
    parser.add_argument("parts", nargs="*", help="ops, encoder, scorer, tiles (default: all but tiles)")
    parser.add_argument("--mean", type=float, default=roofline.MEAN, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=roofline.BATCH, help="tokens of a batch (default: %(default)s)")
    parser.add_argument("--block", type=int, default=32, help="MiB of text in a block of ops (default: %(default)s)")
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no GPU here")
        return
    import triton

    name = torch.cuda.get_device_name()
    chip = next((g for g in roofline.GPUS if g.name.split()[0] in name), None)
    print(
        f"{name}, torch {torch.__version__}, triton {triton.__version__}; "
        f"the roofline's rates: {chip.name if chip else 'none for this GPU'}"
    )
    parts = args.parts or ["ops", "encoder", "scorer"]
    if "ops" in parts:
        time_ops(args.block << 20, args.block << 20)
    if "encoder" in parts:
        time_encoder(args.mean, args.batch, chip)
    if "scorer" in parts:
        time_scorers({"none": 256_000_000, "static": 128_000_000, "mini": 1})
    if "tiles" in parts:
        time_tiles(args.batch)


if __name__ == "__main__":
    main()
