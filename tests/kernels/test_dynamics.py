"""The `dynamics` family: every backend against the reference, and the reference against the definitions."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.kernels import dispatch, dynamics
from affectcore.kernels.dynamics import Dynamics

BACKENDS = ["numba", "triton"]
ALL = ["reference", *BACKENDS]
# Triton's interpreter computes in NumPy, which warns of what becomes NaN or infinite.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")

NAN, INF = math.nan, math.inf


def ragged(series: list[Any], k: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return series as values (n_units,), or (n_units, k), and offsets."""
    shape = (-1, k) if k else (-1,)
    parts = [np.asarray(s, np.float32).reshape(shape) for s in series]
    values = np.concatenate([np.zeros((0, k) if k else 0, np.float32), *parts])
    return values, np.cumsum([0] + [len(p) for p in parts], dtype=np.int64)


def measure(values: np.ndarray, offsets: np.ndarray, backend: str) -> Dynamics:
    found = dynamics.dynamics(*dispatch.place((values, offsets), backend), backend=backend)
    return dispatch.fetch(found)  # type: ignore[no-any-return]


def correlate(a: np.ndarray, b: np.ndarray, offsets: np.ndarray, backend: str) -> np.ndarray:
    found = dynamics.correlation(*dispatch.place((a, b, offsets), backend), backend=backend)
    return dispatch.fetch(found)  # type: ignore[no-any-return]


def close(found: Dynamics, wanted: Dynamics, values: np.ndarray) -> None:
    """Compare within the tolerance that the family states."""
    largest = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
    absolute = {"mean": 1e-12 * largest, "slope": 1e-12 * largest, "inertia": 1e-6}
    for name, a, b in zip(Dynamics._fields, found, wanted):
        assert a.dtype == b.dtype == (np.int32 if name == "n" else np.float32)
        if name in ("peak", "n"):
            np.testing.assert_array_equal(a, b, err_msg=name, strict=True)
        else:
            np.testing.assert_allclose(a, b, 1e-6, absolute.get(name, 0.0), err_msg=name, strict=True)


def check(values: np.ndarray, offsets: np.ndarray, backend: str) -> None:
    close(measure(values, offsets, backend), measure(values, offsets, "reference"), values)
    # Against itself in reverse order: pairs with some variance and some without.
    other = values[::-1].copy()
    wanted, found = (correlate(values, other, offsets, name) for name in ("reference", backend))
    np.testing.assert_allclose(found, wanted, 0, 1e-6, strict=True)


def walk(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).cumsum().astype(np.float32)


def with_gaps(n: int, share: float) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.where(rng.random(n) < share, NAN, rng.normal(0.2, 0.3, n)).astype(np.float32)


SHAPES: dict[str, list[Any]] = {
    "no series": [],
    "one empty series": [[]],
    "empty ones between others": [[], [1, 2, 4], [], [], [3], []],
    "lengths up to 6": [np.arange(n) ** 2 for n in range(7)],
    "around a tile": [walk(n, n) for n in (127, 128, 129, 255, 256, 257, 512)],
    "long": [walk(3), walk(100_000), [5.0]],
    "constant": [[0.1] * n for n in (1, 2, 3, 4, 5, 300)] + [[16_777_217.0] * 7, [-3e38] * 5, [1e-45] * 5, [0] * 4],
    "constant but the last or the first": [[0.7] * 9 + [0.8], [0.8] + [0.7] * 9, [1, 1, 1, 2], [1, 2, 2, 2]],
    "gaps": [with_gaps(n, share) for n in (1, 2, 3, 4, 5, 20, 512) for share in (0.2, 0.7)],
    "gaps alone": [[NAN], [NAN] * 2, [NAN] * 300, [NAN, 1, NAN]],
    "gaps between all, or all but a few": [[1, NAN, 2, NAN, 4, NAN], [1, 2, NAN, 4, 3, NAN, 6, 5], [NAN, 1, 2, 4, 3]],
    "infinite": [[INF], [1, INF, 2, 4, 4], [-INF, 3], [INF, -INF], [INF, NAN, 1, 2, 4, 3], [-INF] * 5, [1, 2, 3, 5]],
    "small steps on large offsets": [2.0**20 + walk(50) / 8, 1e6 + np.arange(9) % 2, -1e7 + np.arange(5)],
    "extreme": [[3e38, -3e38] * 3, [1e-45, 0] * 4, [1e30, 1, -1e30, 1, 1e-30]],
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, backend: str) -> None:
    check(*ragged(SHAPES[shape]), backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 2, 31, 33, 70])
def test_widths(k: int, backend: str) -> None:
    rng = np.random.default_rng(k)
    lengths = [0, 1, 2, 3, 4, 9, 130]
    series = [np.where(rng.random((n, k)) < 0.1, NAN, rng.normal(size=(n, k))) for n in lengths]
    values, offsets = ragged(series, k)
    check(values, offsets, backend)
    # Columns do not know of each other.
    found = measure(values, offsets, backend)
    single = measure(np.ascontiguousarray(values[:, k // 2]), offsets, backend)
    np.testing.assert_allclose([f[:, k // 2] for f in found], single, 1e-6, 1e-7)


@pytest.mark.parametrize("backend", ALL)
def test_no_columns(backend: str) -> None:
    values, offsets = np.zeros((5, 0), np.float32), np.array([0, 2, 5])
    assert {part.shape for part in measure(values, offsets, backend)} == {(2, 0)}
    assert correlate(values, values, offsets, backend).shape == (2, 0)


VALUE = st.one_of(st.floats(-1, 1, width=32), st.sampled_from([0.0, 0.25, 0.25, NAN, NAN]), st.floats(width=32))


@given(st.lists(st.lists(VALUE, max_size=9), max_size=6))
@settings(max_examples=150)
def test_numba_on_made_series(series: list[list[float]]) -> None:
    check(*ragged(series), "numba")


@given(st.lists(st.lists(VALUE, max_size=9), max_size=3))
@settings(max_examples=20)
def test_triton_on_made_series(series: list[list[float]]) -> None:
    check(*ragged(series), "triton")


@given(st.lists(st.one_of(st.floats(-100, 100, width=32), st.just(NAN), st.just(0.5)), max_size=12))
@settings(max_examples=150)
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_definitions_in_exact_arithmetic(backend: str, series: list[float]) -> None:
    xs = [Fraction(x) for x in series if not math.isnan(x)]
    steps = [t for t, x in enumerate(series) if not math.isnan(x)]
    pairs = [(Fraction(a), Fraction(b)) for a, b in pairwise(series) if not math.isnan(a + b)]
    found = measure(*ragged([series]), backend)
    wanted = dict.fromkeys(Dynamics._fields, NAN)
    if xs:
        wanted |= {"mean": float(statistics.mean(xs)), "peak": float(max(xs))}
    if len(xs) > 1:
        wanted["sd"] = math.sqrt(statistics.variance(xs))
        middle = statistics.mean(map(Fraction, steps))
        mean = statistics.mean(xs)
        rise = sum((t - middle) * (x - mean) for t, x in zip(steps, xs))
        wanted["slope"] = float(rise / sum((t - middle) ** 2 for t in steps))
    if pairs:
        wanted["instability"] = float(statistics.mean((b - a) ** 2 for a, b in pairs))
    if len(pairs) > 2 and all(len(set(side)) > 1 for side in zip(*pairs)):
        (mean_a, mean_b) = (statistics.mean(side) for side in zip(*pairs))
        both = sum((a - mean_a) * (b - mean_b) for a, b in pairs)
        square = both**2 / (sum((a - mean_a) ** 2 for a, _ in pairs) * sum((b - mean_b) ** 2 for _, b in pairs))
        wanted["inertia"] = math.copysign(math.sqrt(square), both)
    wanted["n"] = len(xs)
    for name, value in wanted.items():
        scale = max((abs(x) for x in xs), default=0)
        tolerance = {"mean": 1e-12 * float(scale), "slope": 1e-12 * float(scale), "inertia": 1e-6}.get(name, 1e-45)
        np.testing.assert_allclose(getattr(found, name), np.float32(value), 1e-6, tolerance, err_msg=name)


@pytest.mark.parametrize("backend", ALL)
def test_known_values(backend: str) -> None:
    rise, swing, gap = [1, 2, 3, 4, 5], [1, 5, 2, 4, 3], [1, NAN, 3, 4, 5, NAN, 7, 9]
    found = measure(*ragged([rise, swing, gap, [2], [2, 5], [2, 5, 4], [0, 1, 1, 0]]), backend)
    np.testing.assert_array_equal(found.n, np.array([5, 5, 6, 1, 2, 3, 4], np.int32), strict=True)
    assert found.mean.tolist() == pytest.approx([3, 3, 29 / 6, 2, 3.5, 11 / 3, 0.5])
    assert found.peak.tolist() == [5, 5, 9, 2, 5, 5, 1]
    assert found.sd[:2].tolist() == pytest.approx([math.sqrt(2.5)] * 2)
    # The same values: what swings is less stable. Across the gaps there are no differences: 3-4, 4-5 and 7-9 are left.
    assert found.instability.tolist() == pytest.approx([1, (16 + 9 + 4 + 1) / 4, 2, NAN, 9, 5, 2 / 3], nan_ok=True)
    assert found.inertia[[0, 6]].tolist() == pytest.approx([1, -0.5])
    assert found.inertia[1] < -0.9
    assert np.isnan(found.inertia[3:6]).all()
    over_gaps = np.polyfit([0, 2, 3, 4, 6, 7], [1, 3, 4, 5, 7, 9], 1)[0]
    assert found.slope[[0, 2, 3, 4]].tolist() == pytest.approx([1, over_gaps, NAN, 3], nan_ok=True)


@pytest.mark.parametrize("backend", ALL)
def test_constant_series_are_still(backend: str) -> None:
    for value in (0.1, -0.3, 16_777_215.0, 1e-40, 3e38):
        found = measure(*ragged([[value] * n for n in (2, 3, 7, 1000)]), backend)
        assert {x for part in (found.sd, found.instability, found.slope) for x in part.tolist()} == {0.0}
        assert np.isnan(found.inertia).all()
        assert set(found.mean.tolist()) == {float(np.float32(value))}


@pytest.mark.parametrize("backend", ALL)
def test_large_offsets_do_not_cancel(backend: str) -> None:
    small = (np.arange(64) * 7 % 13).astype(np.float32)
    found = measure(*ragged([small, small + np.float32(1 << 20)]), backend)
    for part in (found.sd, found.instability, found.inertia, found.slope):
        np.testing.assert_allclose(part[1], part[0], 1e-6)


@pytest.mark.parametrize("backend", ALL)
def test_what_is_infinite_stays_in_its_series(backend: str) -> None:
    found = measure(*ragged([[1, 2, 4, 3], [1, INF, 4, 3], [-INF, NAN, 4, 3, 5, 5], [1, 2, 4, 3]]), backend)
    assert found.peak.tolist() == [4, INF, 5, 4]
    assert found.n.tolist() == [4, 4, 5, 4]
    for part in found[:5]:
        assert np.isnan(part).tolist() == [False, True, True, False]
        assert part[0] == part[3]


@pytest.mark.parametrize("backend", ALL)
def test_correlation_known_values(backend: str) -> None:
    series = [
        ([1, 2, 3], [2, 4, 6], 1),
        ([1, 2, 3, 9], [3, 2, 1, NAN], -1),
        ([1, 2, 3, 4], [1, -1, -1, 1], 0),
        ([1, 2], [1, 2], NAN),
        ([1, 2, NAN, 4], [1, 2, 3, NAN], NAN),
        ([1, 1, 1, 1], [1, 2, 3, 4], NAN),
        ([1, 2, 3, 4], [0.1] * 4, NAN),
        ([1, 2, 3, INF], [1, 2, 3, 4], NAN),
        ([1, 2, 3, INF], [1, 2, 3, NAN], 1),
        ([], [], NAN),
        ([1e6, 1e6 + 1, 1e6 + 2, 1e6 + 1], [-1e6, 1 - 1e6, 2 - 1e6, 1 - 1e6], 1),
    ]
    (a, offsets), (b, _) = ragged([s[0] for s in series]), ragged([s[1] for s in series])
    wanted = np.array([s[2] for s in series], np.float32)
    np.testing.assert_allclose(correlate(a, b, offsets, backend), wanted, 0, 1e-6, strict=True)
    np.testing.assert_allclose(correlate(b, a, offsets, backend), wanted, 0, 1e-6, strict=True)
    stacked = correlate(np.stack([a, a], 1), np.stack([b, a], 1), offsets, backend)
    np.testing.assert_allclose(stacked[:, 0], wanted, 0, 1e-6)
    assert np.nanmin(stacked[:, 1]) == np.nanmax(stacked[:, 1]) == 1


@pytest.mark.parametrize("backend", ALL)
def test_results_depend_on_the_series_alone(backend: str) -> None:
    lengths = (1, 3, 4, 40, 128, 200)
    series = [with_gaps(n, 0.1) for n in lengths]
    together = measure(*ragged(series), backend)
    # Other neighbours, another start, and a first offset that is not 0.
    values, offsets = ragged([[INF, 7], *series[::-1], [3e38]])
    apart = measure(values, offsets[1:-1], backend)
    for a, b in zip(together, apart):
        np.testing.assert_array_equal(a, b[::-1])
    np.testing.assert_array_equal(
        correlate(values, values[::-1].copy(), offsets, backend)[1:-1],
        correlate(values, values[::-1].copy(), offsets[1:-1], backend),
    )


def test_sliced_values() -> None:
    values = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    offsets = np.array([0, 4, 10])
    for view in (values[::2, ::2], values[::2, 1]):
        for a, b in zip(dynamics.dynamics(view, offsets), dynamics.dynamics(view.copy(), offsets)):
            np.testing.assert_array_equal(a, b)


def test_inertia_of_autoregressive_series() -> None:
    """AR(1) with a known coefficient; short series have too low ones, by about what the docstring says."""
    rng = np.random.default_rng(0)
    for phi in (-0.5, 0.0, 0.6):
        for n, repeats in ((2000, 20), (20, 4000)):
            x = np.zeros((n + 50, repeats))
            for t in range(1, len(x)):
                x[t] = phi * x[t - 1] + rng.normal(size=repeats)
            found = dynamics.dynamics(x[50:].astype(np.float32), np.array([0, n]))
            assert float(found.inertia.mean()) == pytest.approx(phi - (1 + 3 * phi) / n, abs=0.02)


def test_bad_shapes() -> None:
    values, offsets = np.zeros((2, 3), np.float32), np.array([0, 2])
    with pytest.raises(ValueError, match=r"not \(2, 3, 1\)"):
        dynamics.dynamics(values[:, :, None], offsets)
    with pytest.raises(ValueError, match="one shape"):
        dynamics.correlation(values, values[:, :2], offsets)
