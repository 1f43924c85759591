"""The Triton kernels compile for the GPUs we mean, without spills; no GPU is needed to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    script = Path(__file__).with_name("compile_offline.py")
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def test_all_targets_are_there(table: dict[str, dict[str, object]]) -> None:
    assert {key.split()[1] for key in table} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    assert len(table) >= 40


def test_no_spills(table: dict[str, dict[str, object]]) -> None:
    assert {key: entry["spills"] for key, entry in table.items() if entry["spills"]} == {}


def test_exact_arithmetic(table: dict[str, dict[str, object]]) -> None:
    assert {key: entry["inexact"] for key, entry in table.items() if entry.get("inexact")} == {}


def test_table_rows_load_16_bytes_a_lane(table: dict[str, dict[str, object]]) -> None:
    loads = {key: entry["loads"] for key, entry in table.items() if key.startswith("bag.")}
    assert len(loads) >= 20
    for key, counts in loads.items():
        # One for pairs and one for tokens at least; and no row of bytes is loaded in smaller pieces.
        assert isinstance(counts, dict)
        assert counts["128"] >= 2, key
        assert not {"8", "16"} & counts.keys(), key
