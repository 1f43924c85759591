"""The encoder's CPU kernels keep to their own memory, with several threads at work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = """
import threading
import numpy as np
from affectcore.kernels import encoder

def work(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 90, rng.integers(1, 6)))])
        encoder.attention(rng.normal(size=(int(offsets[-1]), 3 * 96)).astype(np.float32), offsets, 3, scale=0.2)
        held = [np.empty(int(n)) for n in rng.integers(1, 5000, 20)]

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""


def test_threads_leave_each_others_memory_alone() -> None:
    # Arrays that are used by their address alone would be freed too early: glibc's checks of the heap notice.
    found = [p for folder in ("/lib", "/lib64", "/usr/lib") for p in Path(folder).glob("**/libc_malloc_debug.so.0")]
    if not found:
        pytest.skip("glibc's libc_malloc_debug.so.0, which checks the heap, is not here")
    env = {**os.environ, "LD_PRELOAD": str(found[0]), "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    done = subprocess.run([sys.executable, "-c", THREADS], env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
