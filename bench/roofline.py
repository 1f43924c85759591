"""What the encoder's Triton kernels could do at best on GPUs that are not here: modelled, not measured.

`python bench/roofline.py` prints, for each GPU and network, the bytes and flops of each op, the time either takes at
the GPU's peak rates, whichever is longer, and the texts a second that follow. Left out: tokenization, copies from and
to the GPU, tiles that short sequences leave partly empty, and launches, of which only the number is given (a dozen more
lay out the tiles). `python bench/gpu.py` measures where there is a GPU.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

BYTES = 2  # of a bfloat16 number
EFFICIENCY = 0.5  # of the bound: assumed
LAUNCH = 60e-6  # seconds in which the host prepares a kernel: 3.0 ms for the 50 of `mini` beside an H200 (README.md)
BATCH = 65536  # tokens of a batch, which read the weights once


@dataclass(frozen=True)
class Gpu:
    """Peak rates as its maker states them, for dense bfloat16 with float32 sums."""

    name: str
    flops: float  # a second
    bandwidth: float  # bytes a second, of its own memory


@dataclass(frozen=True)
class Shape:
    """A post-norm network (BERT, RoBERTa) with a head of one dense layer."""

    name: str
    n_layers: int
    d: int
    m: int
    k: int = 28


@dataclass(frozen=True)
class Op:
    """What an op does for one token, in all layers together."""

    name: str
    flops: float
    moved: float  # bytes from and to memory
    launches: int  # a batch

    def seconds(self, gpu: Gpu) -> float:
        """Return the least time for a token."""
        return max(self.flops / gpu.flops, self.moved / gpu.bandwidth)


@dataclass(frozen=True)
class Published:
    """A throughput that others measured."""

    source: str
    gpu: str
    shape: str
    texts_per_second: float


GPUS = (
    Gpu("A100 SXM", 312e12, 2.0e12),
    Gpu("H100 SXM", 989e12, 3.35e12),
    Gpu("H200 SXM", 989e12, 4.8e12),
    Gpu("MI300X", 1307e12, 5.3e12),
)
SHAPES = (Shape("mini", 6, 384, 1536), Shape("roberta-base", 12, 768, 3072))

# 10,000 Reddit comments, as they come, in batches of 8 padded to the longest, tokenization included. The tokens are
# counted with all-MiniLM-L6-v2's WordPiece, which is near RoBERTa's BPE: mean, and sum of squares by sum.
MEAN, SQUARES = 47.3, 136.3
PUBLISHED = (
    Published(
        "github.com/joaopn/gpu_benchmark_goemotions, ONNX Runtime fp16, batches of 8, tokenization included",
        "H200 SXM",
        "roberta-base",
        2253.15,
    ),
)


def ops(
    shape: Shape, mean: float, squares: float | None = None, batch: int = BATCH, pooling: str = "first"
) -> list[Op]:
    """Return the ops of a forward pass.

    Parameters
    ----------
    shape
        The network.
    mean
        Tokens of a text.
    squares
        Sum of squared lengths by sum of lengths, the number of keys that a mean token sees; None: all are `mean` long.
    batch
        Tokens of a batch.
    pooling
        `first`: behind the last keys and values only the first token of a text is computed; `mean`: all are.
    """
    d, m, n = shape.d, shape.m, shape.n_layers
    keys = mean if squares is None else squares
    # Of the last layer, the share of tokens behind attention; the first token of a text sees `mean` keys.
    last = 1 / mean if pooling == "first" else 1.0
    scores, moved = 4 * keys * d, BYTES * 4 * d
    if pooling == "first":
        scores, moved = 4 * d, BYTES * (2 + 2 / mean) * d

    def linear(name: str, inputs: int, outputs: int, share: float = 1.0) -> Op:
        rows = n - 1 + share
        weights = n * inputs * outputs / batch
        return Op(name, rows * 2 * inputs * outputs, BYTES * (rows * (inputs + outputs) + weights), n)

    head = (2 * d * d + 2 * d * shape.k) / mean
    return [
        # The row of a word comes from memory, that of a position from the cache.
        Op("embed", 0, BYTES * 2 * d, 1),
        linear("linear qkv", d, 3 * d),
        # Scores and sums; keys and values that several tiles of queries read stay in the cache.
        Op("attention", (n - 1) * 4 * keys * d + scores, (n - 1) * BYTES * 4 * d + moved, n),
        linear("linear out", d, d, last),
        linear("linear up, gelu", d, m, last),
        linear("linear down", m, d, last),
        Op("add_norm", 0, 2 * (n - 1 + last) * BYTES * 3 * d, 2 * n),
        Op("head", head, BYTES * 3 * d / mean + BYTES * d * (d + shape.k) / batch, 2),
    ]


def texts_per_second(gpu: Gpu, parts: list[Op], mean: float, efficiency: float = 1.0) -> float:
    """Return the modelled throughput for texts of `mean` tokens."""
    return efficiency / (mean * sum(op.seconds(gpu) for op in parts))


def main() -> None:
    """Print the model."""
    parser = argparse.ArgumentParser(description="Modelled throughput of the encoder on GPUs.")
    parser.add_argument("--mean", type=float, default=MEAN, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--squares", type=float, help="sum of squared lengths by sum of lengths")
    parser.add_argument("--batch", type=int, default=BATCH, help="tokens of a batch (default: %(default)s)")
    args = parser.parse_args()
    squares = SQUARES if args.squares is None and args.mean == MEAN else args.squares
    print("MODELLED, NOT MEASURED: each op takes the longer of bytes / bandwidth and flops / peak, in bfloat16.")
    print(f"Texts of {args.mean:g} tokens, of which a token sees {squares or args.mean:g}; batches of {args.batch:,}.")
    for shape in SHAPES:
        parts = ops(shape, args.mean, squares, args.batch)
        launches = sum(op.launches for op in parts)
        print(f"\n{shape.name}: {shape.n_layers} layers, d {shape.d}, m {shape.m}; {launches} kernels a batch")
        print(f"{'a token':>18} {'MFLOP':>9} {'KB':>8}" + "".join(f"{gpu.name + ', ns':>18}" for gpu in GPUS))
        for op in parts:
            cells = "".join(f"{op.seconds(gpu) * 1e9:>11.2f} {_bound(op, gpu)}" for gpu in GPUS)
            print(f"{op.name:>18} {op.flops / 1e6:>9.3f} {op.moved / 1e3:>8.2f}{cells}")
        total = "".join(f"{sum(op.seconds(gpu) for op in parts) * 1e9:>11.2f}       " for gpu in GPUS)
        flops, moved = sum(op.flops for op in parts), sum(op.moved for op in parts)
        print(f"{'sum':>18} {flops / 1e6:>9.3f} {moved / 1e3:>8.2f}{total}")
        for efficiency, words in ((1.0, "bound"), (EFFICIENCY, "assumed")):
            name = f"texts/s, {efficiency:.0%} {words}"
            cells = "".join(f"{texts_per_second(g, parts, args.mean, efficiency):>11,.0f}       " for g in GPUS)
            print(f"{name:>36} {cells}")
        cells = "".join(f"{launches * LAUNCH / sum(op.seconds(g) for op in parts):>11,.0f}       " for g in GPUS)
        print(f"{'tokens a batch that hide launches *':>36} {cells}")
        for other in PUBLISHED:
            if other.shape == shape.name:
                gpu = next(g for g in GPUS if g.name == other.gpu)
                best = texts_per_second(gpu, parts, args.mean)
                print(f"Published, measured: {other.texts_per_second:,.0f} texts/s on {other.gpu} ({other.source}).")
                print(
                    f"The model: {best * EFFICIENCY:,.0f} at {EFFICIENCY:.0%}, {best:,.0f} at 100%, "
                    "on the GPU alone, without tokenization."
                )
    print(
        f"\n* at the bound, if the host needs {LAUNCH * 1e6:g} µs a kernel, as one did. C: flops bound it; M: memory."
    )


def _bound(op: Op, gpu: Gpu) -> str:
    return "C     " if op.flops / gpu.flops > op.moved / gpu.bandwidth else "M     "


if __name__ == "__main__":
    main()
