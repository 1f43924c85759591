"""Compiles the encoder's Triton kernels for GPUs that are not here, each with its tiles, and prints what they take.

`python tests/kernels/compile_encoder.py > tests/kernels/encoder_kernels.json` renews the table that the tests compare
with. A script of its own, since Triton cannot compile in a process that interprets. With `--launch` it runs the
launchers on tiny networks instead, up to the point where a kernel would start, and prints how many each one compiled.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import compile_offline as offline  # first: it turns the interpreter off
import triton
from compile_offline import FLOAT, INT32, INT64
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from affectcore.kernels.encoder import gpu

MATRIX = ("HMMA", "HGMMA", "UTCHMMA")  # instructions of tensor cores: sm_80, sm_90, sm_100; `v_mfma` on AMD
POINTERS = {"fp32": FLOAT, "bf16": "*bf16"}
VECTORS = {"weight": FLOAT, "bias": FLOAT}

Case = tuple[Any, dict[str, str], dict[str, Any], dict[str, Any]]


def cases(label: str) -> Iterator[tuple[str, Case]]:
    """Yield a name and (kernel, types of its arguments, compile-time arguments, options), as the launchers call it.

    Shapes of a MiniLM (384 features) and of base-sized models (768). What only moves rows is compiled in bf16 alone.
    """
    for precision, x in POINTERS.items():
        tiles = gpu.TILES[label][precision]
        parts = {
            "linear 384 to 1536, gelu": linear(x, tiles, 1536, 384, "gelu"),
            "gated 768 to 1152, gelu": linear(x, tiles, 1152, 768, "gelu", True),
            "attention 12 heads of 64": attention(x, tiles, 768),
            "attention 12 heads of 64, relative": attention(x, tiles, 768, relative=True),
            "add_norm 768": add_norm(x, 768),
            "out 768 to 28": out(x, 768, 28),
        }
        if precision == "bf16":
            parts |= {
                "linear 3072 to 768": linear(x, tiles, 768, 3072, ""),
                "attention 12 heads of 64, turned, window of 64": attention(x, tiles, 768, 64, True),
                "attention 12 heads of 32": attention(x, tiles, 384),
                "attention 12 heads of 32, first queries": attention(x, tiles, 384, first=True),
                "rotate 12 heads of 64": rotate(x, tiles, 768),
                "embed 384": embed(x, 384),
                "mean 384": mean(x, 384),
            }
        for name, case in parts.items():
            yield f"{name} {precision}", case


def linear(x: str, tiles: dict[str, gpu.Tile], n: int, k: int, activation: str, gated: bool = False) -> Case:
    tile = tiles["gated" if gated else "linear"]
    types = {"x": x, "rows": INT64, "weight": x, "bias": FLOAT, "out": x, "n_rows": "i32"}
    constants = gpu.linear_constants(n, k, activation, gated, False, tile)
    return gpu._linear_kernel, types, constants, gpu.options(tile.warps, tile.stages)


def attention(
    x: str,
    tiles: dict[str, gpu.Tile],
    d: int,
    window: int = 0,
    turned: bool = False,
    relative: bool = False,
    first: bool = False,
) -> Case:
    tile = tiles["relative" if relative else "attention"]
    tile = gpu.first_tile(tile, relative) if first else tile
    types = dict.fromkeys(("q", "k", "v", "relative_key", "relative_query", "out"), x)
    types |= {"tiles": INT32, "bucket": INT32, "scale": "fp32", "n_buckets": "i32"}
    constants = gpu.attention_constants(d, 12, window, turned, relative, relative, first, tile)
    return gpu._attention_kernel, types, constants, gpu.options(tile.warps, tile.stages)


def rotate(x: str, tiles: dict[str, gpu.Tile], d: int) -> Case:
    types = {"qkv": x, "tiles": INT32, "frequencies": "*fp64", "out": x}
    return gpu._rotate_kernel, types, gpu.rotate_constants(d, 12, tiles["attention"]), gpu.options(gpu.ROW_WARPS)


def embed(x: str, d: int) -> Case:
    counts = {"n_tokens": "i32", "n_words": "i32", "n_places": "i32", "eps": "fp32"}
    types = {"ids": INT32, "positions": INT32, "words": x, "places": x, **VECTORS, "out": x, **counts}
    return gpu._embed_kernel, types, gpu.embed_constants(d, True, True), gpu.options(gpu.ROW_WARPS)


def add_norm(x: str, d: int) -> Case:
    types = {"x": x, "residual": x, **VECTORS, "sums": FLOAT, "out": x, "n_rows": "i32", "eps": "fp32"}
    return gpu._add_norm_kernel, types, gpu.add_norm_constants(d, True, False), gpu.options(gpu.ROW_WARPS)


def mean(x: str, d: int) -> Case:
    return gpu._mean_kernel, {"x": x, "offsets": INT64, "out": x}, gpu.mean_constants(d), gpu.options(gpu.ROW_WARPS)


def out(x: str, d: int, k: int) -> Case:
    types = {"x": x, "rows": INT64, "norm_weight": FLOAT, "norm_bias": FLOAT, "weight": x, "bias": FLOAT, "out": FLOAT}
    types |= {"n_rows": "i32", "eps": "fp32"}
    return gpu._out_kernel, types, gpu.out_constants(d, k, "", True, False), gpu.options(gpu.ROW_WARPS)


def figures(target: GPUTarget, kernel: Any) -> dict[str, Any]:
    """Return registers, spills, bytes of shared memory, and how many instructions for tensor cores there are."""
    if target.backend == "hip":
        found = {"v_mfma": len(re.findall(r"\bv_mfma", kernel.asm["amdgcn"]))}
    else:
        code = offline.cuobjdump(kernel, "--dump-sass")
        found = {name: len(re.findall(rf"\b{name}\b", code)) for name in MATRIX}
    tensor = {name: count for name, count in found.items() if count}
    return {**offline.resources(target, kernel), "shared": kernel.metadata.shared, "tensor": tensor}


class NoGpu:
    """What a launch asks of a driver before the kernel starts."""

    def __init__(self, target: GPUTarget) -> None:
        self.get_current_target = lambda: target
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: 0


def launch(label: str) -> dict[str, int]:
    """Let `forward` launch all that it would on a GPU, without starting it; return how many kernels of each name."""
    import test_encoder_conformance as tests

    compiled: dict[str, set[str]] = {}

    def start(kernel: Any, grid: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            found = kernel.run(*args, grid=grid, warmup=True, **kwargs)
            compiled.setdefault(kernel.fn.__name__, set()).add(found.hash)

        return call

    triton.runtime.driver.set_active(NoGpu(offline.TARGETS[label]))
    with patch.object(JITFunction, "__getitem__", start), patch.object(gpu, "kind", lambda device: label):
        for name in ("post-norm", "pre-norm, gated, rotary, windows", "relative"):
            make = tests.Maker()
            head = tests.Head("mean", None, "gelu", make.norm(48), make.linear(7, 48)) if name == "relative" else None
            network = gpu.prepare(make.network(head=head, **tests.NETWORKS[name]), "bf16")
            run = tests.Run("triton", "bf16")
            logits = gpu.forward(*(run.place(a) for a in make.tokens([1, 40])), network)
            assert logits.shape == (2, 7)
    return {name: len(found) for name, found in sorted(compiled.items())}


def main() -> None:
    """Compile all kernels for all targets."""
    if sys.argv[1:] == ["--launch"]:
        json.dump(launch("sm_90"), sys.stdout)
        return
    table, compiled = {}, set()
    for label, target in offline.TARGETS.items():
        for name, (fn, types, constants, options) in cases(label):
            kernel = offline.compile_one(target, fn, types, constants, options["num_warps"], **options)
            table[f"{name} {label}"] = figures(target, kernel)
            compiled.add(fn)
    kernels = {f for f in vars(gpu).values() if isinstance(f, JITFunction) and f.fn.__name__.endswith("_kernel")}
    if missing := {f.fn.__name__ for f in kernels - compiled}:
        raise SystemExit(f"no case for {sorted(missing)}")
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in sorted(table.items()))
    sys.stdout.write(f'{{\n "triton": "{triton.__version__}",\n "kernels": {{\n{lines}\n }}\n}}\n')


if __name__ == "__main__":
    main()
