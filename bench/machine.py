"""What a result depends on: the machine, its load, the versions, the commit."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Any

_PACKAGES = ("affectcore", "numpy", "pyarrow", "numba", "vaderSentiment", "nltk")


def settings() -> dict[str, Any]:
    """Return what pytest-benchmark does not say of the machine by itself."""
    import corpus

    from affectcore.settings import usable_cores

    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "usable_cores": usable_cores(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "corpus": corpus.load().source,
    }


def stamp() -> dict[str, Any]:
    """Return `machine_info` and `commit_info` as pytest-benchmark's JSON has them."""
    from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
    from pytest_benchmark.utils import get_commit_info

    machine_info = {**pytest_benchmark_generate_machine_info(), **settings()}
    return {"machine_info": machine_info, "commit_info": get_commit_info()}
