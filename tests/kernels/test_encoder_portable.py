"""The encoder's tiles on CPUs without AVX-512: compiled for one in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json
import numpy as np
from affectcore.kernels import encoder
from affectcore.kernels.encoder import Embedding, Head, Layer, Linear, Network, Norm, tile

rng = np.random.default_rng(0)
def array(*shape): return rng.standard_normal(shape).astype(np.float32)
def linear(n_out, n_in): return Linear(array(n_out, n_in) / n_in**0.5, array(n_out))
def norm(d): return Norm(1 + array(d) / 8, array(d) / 8, 1e-5)
d = 40
layer = Layer(None, linear(3 * d, d), linear(d, d), norm(d), linear(72, d), linear(d, 72), norm(d))
head = Head("first", linear(d, d), "tanh", None, linear(5, d))
network = Network(Embedding(array(50, d), array(90, d), norm(d), None), (layer, layer), None, head, 5, 8**-0.5, "gelu")
lengths = [1, 70, 3, 16, 33]
offsets = np.cumsum([0, *lengths])
ids = rng.integers(0, 50, offsets[-1]).astype(np.int32)
positions = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
def forward(backend):
    return encoder.forward(ids, positions, offsets, encoder.prepare(network, backend=backend), backend=backend)
found, wanted = forward("numba"), forward("reference")
try:
    encoder.prepare(network, "int8", backend="numba")
    error = ""
except ValueError as e:
    error = str(e)
print(json.dumps({
    "lanes": tile.LANES, "precisions": encoder.precisions("numba"), "error": error,
    "difference": float(np.abs(found - wanted).max()), "size": float(np.abs(wanted).max()),
}))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names an x86 CPU to Numba")
def test_a_cpu_with_avx2_alone(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+sse4.2",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert found["lanes"] == 8
    assert found["precisions"] == ["fp32"]
    assert "no instructions for int8: it can fp32" in found["error"]
    assert found["size"] > 0.3
    assert found["difference"] < 1e-5
