from __future__ import annotations

from typing import Any

import limits
import numpy as np
from measure import Contender, alternate

# More than any cache of one core holds.
N_BYTES = 512 << 20


def test_limits(benchmark: Any) -> None:
    source = np.ones(N_BYTES // 8, np.uint64)
    target = np.empty_like(source)
    contenders = [
        Contender("read memory once (numpy sum)", lambda: limits.read(source), N_BYTES, 0, note="one thread"),
        Contender("copy memory (numpy copyto)", lambda: limits.copy(source, target), N_BYTES, 0, note="one thread"),
    ]
    alternate(benchmark, "Limits", contenders, rounds=10)
