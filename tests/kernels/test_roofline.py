"""The roofline's arithmetic, and that the script for real GPUs runs, on shapes that the interpreter can do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from affectcore.kernels import encoder
from affectcore.kernels.dispatch import fetch, place


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    yield tuple(__import__(name) for name in ("roofline", "gpu"))
    for name in ("roofline", "gpu", "corpus", "setups"):
        sys.modules.pop(name, None)


def test_flops_are_those_of_a_hand_count(scripts: Any) -> None:
    roofline, _ = scripts
    parts = {op.name: op for op in roofline.ops(roofline.Shape("one layer", 1, 384, 1536), 48, pooling="mean")}
    # Two for each weight of a product; two for each of q k and weight v, for 48 keys of 384 numbers.
    assert parts["linear qkv"].flops == 2 * 384 * 1152 == 884_736
    assert parts["linear up, gelu"].flops == parts["linear down"].flops == 1_179_648
    assert parts["attention"].flops == 2 * 2 * 48 * 384 == 73_728
    assert sum(op.flops for op in parts.values() if op.name != "head") == 3_612_672
    assert parts["head"].flops == pytest.approx((2 * 384 * 384 + 2 * 384 * 28) / 48)
    six = {op.name: op for op in roofline.ops(roofline.SHAPES[0], 48, pooling="mean")}
    for name in parts.keys() - {"embed", "head"}:
        assert six[name].flops == 6 * parts[name].flops
        assert six[name].moved == pytest.approx(6 * parts[name].moved)
        assert six[name].launches == 6 * parts[name].launches
    # Behind the last layer's keys and values, one token of 48 is left: 5 layers and a 48th, and its query of 48 keys.
    first = {op.name: op for op in roofline.ops(roofline.SHAPES[0], 48)}
    assert first["linear qkv"] == six["linear qkv"]
    assert first["linear down"].flops == pytest.approx(1_179_648 * (5 + 1 / 48))
    assert first["attention"].flops == pytest.approx(5 * 73_728 + 73_728 / 48)


def test_bytes_are_those_of_a_hand_count(scripts: Any) -> None:
    roofline, _ = scripts
    parts = {op.name: op for op in roofline.ops(roofline.Shape("one layer", 1, 384, 1536), 48, None, 1024, "mean")}
    assert parts["linear qkv"].moved == 2 * (384 + 1152 + 384 * 1152 / 1024)
    assert parts["attention"].moved == 2 * (3 * 384 + 384)
    assert parts["add_norm"].moved == 2 * 2 * (384 + 384 + 384)
    assert parts["embed"].moved == 2 * (384 + 384)


def test_the_longer_time_counts(scripts: Any) -> None:
    roofline, _ = scripts
    gpu = roofline.Gpu("made up", flops=100.0, bandwidth=10.0)
    parts = [roofline.Op("computes", 300.0, 10.0, 1), roofline.Op("moves", 100.0, 20.0, 1)]
    assert [op.seconds(gpu) for op in parts] == [3.0, 2.0]
    assert roofline.texts_per_second(gpu, parts, 4.0) == 1 / 20
    assert roofline.texts_per_second(gpu, parts, 4.0, 0.5) == 1 / 40


def test_the_model_says_that_it_is_one(
    scripts: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["roofline.py"])
    scripts[0].main()
    shown = capsys.readouterr().out
    assert shown.startswith("MODELLED, NOT MEASURED")
    assert "Published, measured: 2,253 texts/s on H200 SXM" in shown
    assert "50% assumed" in shown


def test_what_would_be_timed_runs(scripts: Any) -> None:
    roofline, gpu = scripts
    shape = roofline.Shape("tiny", 1, 96, 64, k=5)
    packed = gpu.tokens(10, 60)
    model = encoder.prepare(gpu.network(shape), "bf16", backend="triton")
    calls = gpu.calls(model, *place(packed, "triton"))
    assert calls.keys() - {"forward"} == {op.name for op in roofline.ops(shape, 10)}
    results = {name: call() for name, call in calls.items()}
    assert results["linear up, gelu"].shape == (len(packed[0]), 64)
    assert results["head"].shape == (len(packed[2]) - 1, 5)
    assert np.isfinite(fetch(results["forward"])).all()
    assert gpu.compare(shape, "fp32") < 1e-4


def test_ops_on_texts_are_compared(scripts: Any) -> None:
    gpu = scripts[1]
    texts = pa.array(["I am so happy! Not bad at all.", "", "Sad, but true."], pa.large_string())
    ops = gpu.text_ops()
    assert len(ops) >= 19
    for name, setup in ops.items():
        said = gpu.agreement(setup(texts, "triton")(), setup(texts, "numba")())
        assert said == "equal" or float(said.removeprefix("within ")) < 1e-3, name


def test_agreement(scripts: Any) -> None:
    agreement = scripts[1].agreement
    counts, scores = np.array([1, 2]), np.array([0.5, np.nan], np.float32)
    assert agreement([(counts, scores)], [(counts, scores.copy())]) == "equal"
    assert agreement([(counts, scores + np.float32(0.25))], [(counts, scores)]) == "within 0.2"
    assert agreement([(counts + 1, scores)], [(counts, scores)]) == "NOT EQUAL"


def test_without_a_gpu_the_script_says_so(
    scripts: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    scripts[1].main()
    assert capsys.readouterr().out == "no GPU here\n"
