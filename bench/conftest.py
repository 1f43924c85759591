from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

# The modules beside this file, which the scripts import too.
sys.path.insert(0, str(Path(__file__).parent))

import corpus
import machine


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.update(machine.settings())


def pytest_report_header() -> str:
    answers = corpus.load()
    return f"texts: {answers.source}, {len(answers):,} documents, {answers.n_bytes / 1e6:.1f} MB"


@pytest.fixture(scope="session")
def answers() -> corpus.Corpus:
    return corpus.load()
