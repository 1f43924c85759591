"""Columns of affect dynamics: names, gaps, and what too short series have."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affectcore.kernels.dispatch import BackendError
from affectcore.metrics import dynamics

NAN = math.nan
SERIES = [[0.1, 0.3, 0.2, 0.8, 0.4], [0.5], [], [NAN, 0.2, NAN, 0.4], [0.3] * 4]


@pytest.mark.parametrize("backend", ["reference", "numba", "triton"])
@pytest.mark.parametrize("name", ["valence", "distress", "anything"])
def test_columns(name: str, backend: str) -> None:
    values = np.array([x for series in SERIES for x in series], np.float32)
    offsets = np.cumsum([0] + [len(series) for series in SERIES])
    found = dynamics.columns(name, values, offsets, backend)
    assert list(found) == [f"{name}_{end}" for end in ("sd", "instability", "inertia", "slope", "peak")]
    assert {(column.dtype, column.shape) for column in found.values()} == {(np.dtype(np.float32), (5,))}
    whole = np.array(SERIES[0])
    wanted = {
        "sd": [whole.std(ddof=1), NAN, NAN, math.sqrt(0.02), 0],
        "instability": [np.mean(np.diff(whole) ** 2), NAN, NAN, NAN, 0],
        "inertia": [np.corrcoef(whole[:-1], whole[1:])[0, 1], NAN, NAN, NAN, NAN],
        "slope": [np.polyfit(np.arange(5), whole, 1)[0], NAN, NAN, 0.1, 0],
        "peak": [0.8, 0.5, NAN, 0.4, 0.3],
    }
    for end, column in wanted.items():
        np.testing.assert_allclose(found[f"{name}_{end}"], column, 1e-6, 1e-9, err_msg=end)


def test_a_score_is_one_column() -> None:
    with pytest.raises(ValueError, match=r"one value per unit.*\(4, 2\)"):
        dynamics.columns("valence", np.zeros((4, 2), np.float32), np.array([0, 4]))


def test_unknown_backends_are_an_error() -> None:
    with pytest.raises(BackendError, match="unknown backend 'cuda'"):
        dynamics.columns("valence", np.zeros(4, np.float32), np.array([0, 4]), "cuda")
