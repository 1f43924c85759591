"""The Triton kernels compile for the GPUs we mean, without spills; no GPU is needed to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest


def compile_all(script: str, cache: Path, *arguments: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(cache)
    path = Path(__file__).with_name(script)
    run = subprocess.run(
        [sys.executable, path, *arguments], env=environment, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Compile both sets of kernels at the same time: each takes one core about a minute."""
    with ThreadPoolExecutor() as pool:
        scripts = ("compile_offline.py", "compile_encoder.py")
        return list(pool.map(lambda script: compile_all(script, tmp_path_factory.mktemp("triton")), scripts))


@pytest.fixture(scope="module")
def table(tables: list[Any]) -> dict[str, dict[str, object]]:
    return tables[0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def encoder_table(tables: list[Any]) -> dict[str, Any]:
    return tables[1]  # type: ignore[no-any-return]


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


LIMITS = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes of shared memory a program may take; sm_80 has 163 KB, but the GPUs of its generation share its tiles."""


def test_encoder_kernels_do_not_spill(encoder_table: dict[str, Any]) -> None:
    kernels = encoder_table["kernels"]
    assert len(kernels) >= 60
    assert {key: entry["spills"] for key, entry in kernels.items() if entry["spills"]} == {}


def test_encoder_kernels_fit_into_shared_memory(encoder_table: dict[str, Any]) -> None:
    for key, entry in encoder_table["kernels"].items():
        assert entry["shared"] <= LIMITS[key.split()[-1]], key


def test_encoder_kernels_use_tensor_cores(encoder_table: dict[str, Any]) -> None:
    found = {key: entry["tensor"] for key, entry in encoder_table["kernels"].items() if " bf16 " in key}
    products = {key: names for key, names in found.items() if key.startswith(("linear", "gated", "attention"))}
    assert len(products) >= 24
    newest = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma"}
    for key, names in products.items():
        # Those of sm_90 and sm_100 take 64 rows at least, more than the tiles of first queries have.
        assert names if "first queries" in key else newest[key.split()[-1]] in names, key


def test_encoder_kernels_take_what_the_table_says(encoder_table: dict[str, Any]) -> None:
    path = Path(__file__).with_name("encoder_kernels.json")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert recorded["kernels"].keys() == encoder_table["kernels"].keys()
    if recorded["triton"] != encoder_table["triton"]:
        pytest.skip(f"the table is of triton {recorded['triton']}, here is {encoder_table['triton']}: other compilers")
    assert recorded["kernels"] == encoder_table["kernels"], f"python {path.parent}/compile_encoder.py > {path}"


def test_encoder_launchers_compile_what_they_start(tmp_path: Path) -> None:
    compiled = compile_all("compile_encoder.py", tmp_path, "--launch")
    assert set(compiled) == {
        f"_{name}_kernel" for name in ("embed", "linear", "rotate", "attention", "add_norm", "mean", "out")
    }
    assert sum(compiled.values()) >= 20  # plain and gated, first queries and all, with and without each option
