"""What a result depends on: the machine, its other processes, the versions, the commit."""

from __future__ import annotations

import os
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("affectcore", "numpy", "pyarrow", "numba", "vaderSentiment", "nltk")


def settings() -> dict[str, Any]:
    """Return what pytest-benchmark does not say of the machine by itself."""
    import corpus

    from affectcore.settings import usable_cores

    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "usable_cores": usable_cores(),
        "corpus": corpus.load().source,
    }


def stamp() -> dict[str, Any]:
    """Return `machine_info` and `commit_info` as pytest-benchmark's JSON has them."""
    from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
    from pytest_benchmark.utils import get_commit_info

    machine_info = {**pytest_benchmark_generate_machine_info(), **settings()}
    return {"machine_info": machine_info, "commit_info": get_commit_info()}


class Neighbours:
    """How many cores other processes kept busy since this was made: with many cores taken, threads gain little."""

    def __init__(self) -> None:
        self._start = self._read()

    def cores(self) -> float | None:
        """Return the mean number of cores that others used; None where the system does not tell."""
        if self._start is None:
            return None
        now = self._read()
        assert now is not None
        wall, busy, own = (b - a for a, b in zip(self._start, now))
        return max(0.0, (busy - own) / wall)

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        """Return seconds: the clock, busy time of all cores, busy time of this process and its ended children."""
        path = Path("/proc/stat")
        if not path.exists():
            return None
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, path.read_text().split("\n")[0].split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), busy, sum(u.ru_utime + u.ru_stime for u in used)
