"""Compiles every Triton kernel for GPUs that are not here and prints their resources as JSON.

A script of its own, since Triton cannot compile in a process that interprets. Run as
`python tests/kernels/compile_offline.py`; no GPU or driver is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_DEFAULT_FP_FUSION"] = "0"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
BYTES, INT32, INT64, FLOAT, DOUBLE = "*u8", "*i32", "*i64", "*fp32", "*fp64"
TEXT = {"values": BYTES, "offsets": INT64, "page": INT32, "data": INT32}


def cases() -> dict[str, tuple[Any, dict[str, str], dict[str, Any], int]]:
    """Map a name to (kernel, types of its arguments, compile-time arguments, warps), as the launchers call them."""
    words = importlib.import_module("affectcore.kernels.words.gpu")
    tone = importlib.import_module("affectcore.kernels.tone.gpu")
    bag = importlib.import_module("affectcore.kernels.bag.gpu")
    activations = importlib.import_module("affectcore.kernels.activations.gpu")
    wordpiece = importlib.import_module("affectcore.kernels.wordpiece.gpu")
    segments = importlib.import_module("affectcore.kernels.segments.gpu")
    dynamics = importlib.import_module("affectcore.kernels.dynamics.gpu")
    resample = importlib.import_module("affectcore.kernels.resample.gpu")
    stream = {"ids": INT32, "flags": BYTES, "offsets": INT64}
    out: dict[str, tuple[Any, dict[str, str], dict[str, Any], int]] = {
        "words.count": (words._count_kernel, {**TEXT, "n_words": INT64}, {"BLOCK": words.BLOCK}, words.WARPS),
        "words.bounds": (
            words._bounds_kernel,
            {**TEXT, "word_offsets": INT64, "starts": INT64, "ends": INT64},
            {"BLOCK": words.BLOCK},
            words.WARPS,
        ),
        "tone.punctuation": (
            tone._punctuation_kernel,
            {"values": BYTES, "offsets": INT64, "exclaims": INT32, "questions": INT32},
            {"BYTES": tone.BYTES},
            tone.WARPS,
        ),
        "tone.count": (
            tone._count_kernel,
            {
                "ids": INT32,
                "offsets": INT64,
                "words": INT32,
                "head": INT32,
                "tail": INT32,
                "bits": INT32,
                "cancels": INT32,
                "out": INT32,
                "n": "i32",
            },
            {"CATEGORIES": 8, "WIDTH": 8, "WORDS": tone.WORDS},
            1,
        ),
        "tone.count_flag": (
            tone._count_flag_kernel,
            {"flags": BYTES, "offsets": INT64, "flag": "i32", "out": INT32},
            {"BYTES": tone.BYTES},
            tone.WARPS,
        ),
    }
    # Twenty categories at once: a half of EmoNet's.
    out["tone.count.20"] = (*out["tone.count"][:2], {"CATEGORIES": 20, "WIDTH": 32, "WORDS": tone.WORDS}, 1)
    normalized = {**TEXT, "sequences": INT32, "marks": INT32}
    out |= {
        "wordpiece.mark": (
            wordpiece._mark_kernel,
            {
                "values": BYTES,
                "offsets": INT64,
                "added": BYTES,
                "added_offsets": INT32,
                "n_added": "i32",
                "marks": INT32,
            },
            {"BLOCK": wordpiece.BLOCK},
            wordpiece.WARPS,
        ),
        "wordpiece.measure": (
            wordpiece._measure_kernel,
            {**normalized, "sizes": INT64, "n_marks": INT32},
            {"BLOCK": wordpiece.BLOCK},
            wordpiece.WARPS,
        ),
        "wordpiece.rewrite": (
            wordpiece._rewrite_kernel,
            {**normalized, "out_offsets": INT64, "result": BYTES},
            {"BLOCK": wordpiece.BLOCK},
            wordpiece.WARPS,
        ),
        "wordpiece.count": (
            wordpiece._count_kernel,
            {"values": BYTES, "offsets": INT64, "n_words": INT64},
            {"BLOCK": wordpiece.BLOCK},
            wordpiece.WARPS,
        ),
        "wordpiece.bounds": (
            wordpiece._bounds_kernel,
            {"values": BYTES, "offsets": INT64, "word_offsets": INT64, "starts": INT64, "ends": INT64},
            {"BLOCK": wordpiece.BLOCK},
            wordpiece.WARPS,
        ),
        "wordpiece.cut": (
            wordpiece._cut_kernel,
            {
                "values": BYTES,
                "starts": INT64,
                "ends": INT64,
                "n_words": "i64",
                "slots": INT64,
                "slot_mask": "i32",
                "rows": INT64,
                "stride": "i32",
                "beginnings": BYTES,
                "last_bit": "i32",
                "added_ids": INT32,
                "unknown": "i32",
                "max_chars": "i32",
                "pieces": INT32,
                "counts": INT64,
            },
            {"WORDS": wordpiece.WORDS},
            wordpiece.CUT_WARPS,
        ),
        "wordpiece.gather": (
            wordpiece._gather_kernel,
            {
                "pieces": INT32,
                "starts": INT64,
                "counts": INT64,
                "places": INT64,
                "stops": INT64,
                "n_words": "i64",
                "ids": INT32,
            },
            {"WORDS": wordpiece.WORDS},
            wordpiece.WARPS,
        ),
    }
    for spans in (False, True):
        out[f"words.describe{'.spans' if spans else ''}"] = (
            words._describe_kernel,
            {
                "values": BYTES,
                "starts": INT64,
                "ends": INT64,
                "n_words": "i64",
                "page": INT32,
                "data": INT32,
                "displacement": INT32,
                "slots": INT64,
                "vocabulary": INT64,
                "numbers": INT32,
                "slot_mask": "i32",
                "bucket_shift": "i32",
                "ids": INT32,
                "flags": BYTES,
                "hashes": INT64,
                "word_starts": INT64,
                "lengths": INT32,
            },
            {"SPANS": spans, "WORDS": words.WORDS},
            words.WARPS,
        )
    for corrected in (False, True):
        mode = "corrected" if corrected else "exact"
        out[f"words.measure.{mode}"] = (
            words._measure_kernel,
            {**TEXT, "text_offsets": INT32, "sizes": INT64, "n_invalid": INT32, "n_words": INT32},
            {"CORRECTED": corrected, "BLOCK": words.BLOCK},
            words.WARPS,
        )
        out[f"words.rewrite.{mode}"] = (
            words._rewrite_kernel,
            {**TEXT, "descriptions": BYTES, "text_offsets": INT32, "out_offsets": INT64, "result": BYTES},
            {"CORRECTED": corrected, "BLOCK": words.BLOCK},
            words.WARPS,
        )
        out[f"tone.sentiment.{mode}"] = (
            tone._sentiment_kernel,
            {
                **stream,
                "valences": DOUBLE,
                "booster": DOUBLE,
                "role": INT32,
                "phrases": INT32,
                "phrase_kind": INT32,
                "phrase_value": DOUBLE,
                "n_phrases": "i32",
                "sentiments": DOUBLE,
            },
            tone.sentiment_constants(corrected),
            1,
        )
        out[f"tone.reduce.{mode}"] = (
            tone._reduce_kernel,
            {
                **stream,
                "exclaims": INT32,
                "questions": INT32,
                "role": INT32,
                "sentiments": DOUBLE,
                "compound": DOUBLE,
                "pos": DOUBLE,
                "neu": DOUBLE,
                "neg": DOUBLE,
                "long_document": "i32",
            },
            tone.reduce_constants(corrected),
            1,
        )
    table = {"ids": INT32, "offsets": INT64, "rows": "*i8", "gains": FLOAT, "n_unigrams": INT32, "n_rows": "i32"}
    layers = dict.fromkeys(("hidden", "hidden_bias", "weight", "bias"), FLOAT)
    for d in (64, 96, 128):
        out[f"bag.pool.{d}"] = (bag._pool_kernel, {**table, "out": FLOAT}, bag.pool_constants(d), bag.WARPS)
    for d, m, k in ((64, 64, 31), (128, 0, 28), (128, 128, 64)):
        out[f"bag.logits.{d}.{m}.{k}"] = (
            bag._logits_kernel,
            {**table, **layers, "out": FLOAT},
            bag.logits_constants(d, m, k),
            bag.WARPS,
        )
    columns = dict.fromkeys(("scale", "shift", "low", "high"), FLOAT)
    for k in (31, 100):
        out[f"activations.activate.{k}"] = (
            activations._activate_kernel,
            {"logits": FLOAT, "kind": BYTES, "group": INT32, **columns, "out": FLOAT, "n": "i32", "k": "i32"},
            activations.activate_constants(k),
            activations.WARPS,
        )
    out["activations.decide"] = (
        activations._decide_kernel,
        {"probabilities": FLOAT, "thresholds": FLOAT, "out": BYTES, "n_values": "i32", "k": "i32"},
        {"VALUES": activations.TILE},
        activations.WARPS,
    )
    out["activations.aggregate"] = (
        activations._aggregate_kernel,
        {"values": FLOAT, "first": INT64, "weights": FLOAT, "out": FLOAT, "k": "i32"},
        {"COLUMNS": 32},
        1,
    )
    for k in (1, 2, 31):
        out[f"dynamics.dynamics.{k}"] = (
            dynamics._dynamics_kernel,
            {"values": FLOAT, "offsets": INT64, "out": FLOAT, "counts": INT32, "n": "i32", "k": "i32"},
            dynamics.constants(k),
            1,
        )
        out[f"dynamics.correlation.{k}"] = (
            dynamics._correlation_kernel,
            {"a": FLOAT, "b": FLOAT, "offsets": INT64, "out": FLOAT, "k": "i32"},
            dynamics.constants(k),
            1,
        )
    draws = {"n": "i32", "seed": "i64", "first": "i32"}
    out["resample.counts"] = (
        resample._count_kernel,
        {"out": INT32, **draws, "tiles": "i32"},
        {"CALLS": resample.CALLS},
        resample.WARPS,
    )
    for k in (1, 2, 4, 9120):
        out[f"resample.resample.{k}"] = (
            resample._resample_kernel,
            {"values": DOUBLE, "out": DOUBLE, **draws, "k": "i32"},
            resample.constants(k),
            resample.WARPS,
        )
    for write in (False, True):
        step = "write" if write else "count"
        out[f"segments.segments.{step}"] = (
            segments._segments_kernel,
            {
                "values": BYTES,
                "offsets": INT64,
                "classes": BYTES,
                "abbreviations": INT64,
                "counts": INT64,
                "first": INT64,
                "out_bounds": INT64,
                "out_kinds": BYTES,
            },
            {"WRITE": write, "N": segments.ABBREVIATIONS},
            1,
        )
        out[f"segments.passages.{step}"] = (
            segments._passages_kernel,
            {
                "offsets": INT64,
                "first": INT64,
                "kind": BYTES,
                "counts": INT64,
                "out_first": INT64,
                "out_offsets": INT64,
                "out_kind": BYTES,
                "longest": "i32",
            },
            {"WRITE": write},
            1,
        )
    modules = (words, tone, wordpiece, bag, activations, segments, dynamics, resample)
    kernels = {f.fn.__name__ for m in modules for f in vars(m).values() if isinstance(f, JITFunction)}
    missing = {k for k in kernels if k.endswith("_kernel")} - {case[0].fn.__name__ for case in out.values()}
    if missing:
        raise SystemExit(f"no case for {sorted(missing)}")
    return out


def compile_one(
    target: GPUTarget, fn: Any, types: dict[str, str], constants: dict[str, Any], warps: int, **options: Any
) -> Any:
    signature = {name: types.get(name, "constexpr") for name in fn.arg_names}
    unknown = set(types) - set(fn.arg_names) | {n for n, t in signature.items() if t == "constexpr"} - set(constants)
    if unknown:
        raise SystemExit(f"{fn.fn.__name__}: arguments {sorted(unknown)} do not fit")
    aligned = {(k,): [["tt.divisibility", 16]] for k, name in enumerate(fn.arg_names) if signature[name][0] == "*"}
    source = ASTSource(fn, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": False, **options})


def with_ones(
    fn: Any, types: dict[str, str], constants: dict[str, Any], warps: int
) -> tuple[Any, dict[str, str], dict[str, Any], int] | None:
    """Return a case as launchers make it where every integer is 1, which Triton then takes for a constant."""
    fixed = {name for name, t in types.items() if t in ("i32", "i64")} - set(fn.do_not_specialize)
    left = {name: t for name, t in types.items() if name not in fixed}
    return (fn, left, {**constants, **dict.fromkeys(fixed, 1)}, warps) if fixed else None


def resources(target: GPUTarget, kernel: Any) -> dict[str, int]:
    """Return registers and spilled bytes or registers, as the assembler reports them."""
    if target.backend == "hip":
        text = kernel.asm["amdgcn"]
        found = {k: int(v) for k, v in re.findall(r"\.((?:vgpr|sgpr)(?:_spill)?_count):\s+(\d+)", text)}
        scratch = re.search(r"\.private_segment_fixed_size:\s+(\d+)", text)
        return {
            "registers": found["vgpr_count"],
            "spills": found["vgpr_spill_count"] + found["sgpr_spill_count"] + int(scratch[1] if scratch else 0),
        }
    report = cuobjdump(kernel, "--dump-resource-usage")
    usage = {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", report)}
    return {"registers": usage["REG"], "spills": usage["STACK"] + usage["LOCAL"]}


def cuobjdump(kernel: Any, option: str) -> str:
    """Return what NVIDIA's tool, which comes with Triton, says of a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        return subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout


def loads(target: GPUTarget, kernel: Any) -> dict[str, int]:
    """Count the loads from global memory in machine code, by their bits a lane."""
    if target.backend == "hip":
        names = re.findall(r"\b(?:global|buffer|flat)_load_(\w+)", kernel.asm["amdgcn"])
        bits = {"dwordx4": 128, "dwordx3": 96, "dwordx2": 64, "dword": 32, "ushort": 16, "sshort": 16}
        found = [bits.get(name, 8) for name in names]
    else:
        names = re.findall(r"\bLDG([\w.]*)", cuobjdump(kernel, "--dump-sass"))
        found = [int((re.search(r"\.[US]?(128|64|16|8)\b", name) or [0, 32])[1]) for name in names]
    return {str(width): found.count(width) for width in sorted(set(found))}


def main() -> None:
    """Compile all kernels for all targets."""
    table = {}
    for name, case in cases().items():
        ones = with_ones(*case)
        if ones is not None:
            compile_one(TARGETS["sm_90"], *ones)
        for label, target in TARGETS.items():
            kernel = compile_one(target, *case)
            entry: dict[str, Any] = resources(target, kernel)
            if name.startswith(("tone.sentiment", "tone.reduce")) and target.backend == "cuda":
                # Exactness needs correctly rounded division and root, and no fused multiply-add of our own.
                entry["inexact"] = sorted(
                    set(re.findall(r"(?:div|sqrt)\.(?:approx|full)\S*|fma\.rn\.f64", kernel.asm["ptx"]))
                )
            if name.startswith("bag."):
                entry["loads"] = loads(target, kernel)
            table[f"{name} {label}"] = entry
    json.dump(table, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
