"""The `activations` family: every backend against the reference, and the reference against known values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.kernels import activations, dispatch
from affectcore.kernels.activations import IDENTITY, SIGMOID, SOFTMAX, build_activation

BACKENDS = ["numba", "triton"]
# Triton's interpreter computes both sides of a choice in NumPy, which warns of infinity minus infinity in the other.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")

EXTREME = [0.0, -0.0, 1.0, -1.0, 30.5, -30.5, 88.8, -88.8, 1e4, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan]
MIXED = build_activation(
    [SIGMOID, SOFTMAX, SOFTMAX, SOFTMAX, SOFTMAX, IDENTITY, SIGMOID, SOFTMAX, IDENTITY],
    [0, 0, 0, 1, 1, 1, 2, 1 << 20, 0],
    [1, 1, 1, 0.5, 0.5, 2, -3, 1, 1],
    [0, 0, 0, 1, 0, 0.25, 1.5, 0, 0],
    [0, 0, 0, 0, 0, -1, 0, 0, -math.inf],
    [0, 0, 0, 0, 0, 1, 0, 0, math.inf],
)


def activate(logits: Any, activation: activations.Activation, backend: str) -> np.ndarray:
    logits, activation = dispatch.place((np.asarray(logits, np.float32), activation), backend)
    return dispatch.fetch(activations.activate(logits, activation, backend=backend))  # type: ignore[no-any-return]


def aggregate(values: Any, first: Any, weights: Any, backend: str) -> np.ndarray:
    arrays = np.asarray(values, np.float32), np.asarray(first, np.int64), np.asarray(weights, np.float32)
    found = activations.aggregate(*dispatch.place(arrays, backend), backend=backend)
    return dispatch.fetch(found)  # type: ignore[no-any-return]


def check(logits: Any, activation: activations.Activation, backend: str) -> None:
    wanted, found = activate(logits, activation, "reference"), activate(logits, activation, backend)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7, strict=True)


SHAPES = {
    "no rows": np.zeros((0, 9)),
    "one row": np.arange(-4, 5)[None],
    "odd number of rows": np.linspace(-20, 20, 9 * 333).reshape(333, 9),
    "every extreme next to every other": np.array([[EXTREME[(r * s + c) % 15] for c in range(9)] for r in range(15)
                                                   for s in range(1, 15)]),
    "all -inf": np.full((3, 9), -math.inf),
    "all inf": np.full((3, 9), math.inf),
    "all NaN": np.full((3, 9), math.nan),
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, backend: str) -> None:
    check(SHAPES[shape], MIXED, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [0, 1, 2, 31, 64, 100])
@pytest.mark.parametrize("kind", [SIGMOID, IDENTITY, SOFTMAX])
def test_widths(kind: int, k: int, backend: str) -> None:
    logits = np.random.default_rng(k).normal(0, 5, (7, k))
    check(logits, build_activation([kind] * k, np.arange(k) // 3, 0.7, -0.1, -2, 3), backend)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, activations.Activation]:
    k = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from([SIGMOID, IDENTITY, SOFTMAX, SOFTMAX]), min_size=k, max_size=k))
    groups = np.cumsum(draw(st.lists(st.integers(0, 1), min_size=k, max_size=k)))
    # A group that another kind cuts in two is an error; number the runs instead.
    cuts = np.cumsum([a != b for a, b in zip([kinds[0], *kinds[:-1]], kinds)])
    finite = st.floats(-4, 4, width=32)
    scale, shift, bound = (draw(st.lists(finite, min_size=k, max_size=k)) for _ in range(3))
    activation = build_activation(kinds, groups + 20 * cuts, scale, shift, bound, np.array(bound) + 1)
    logit = st.one_of(st.floats(-20, 20, width=32), st.floats(width=32), st.sampled_from(EXTREME))
    rows = draw(st.lists(st.lists(logit, min_size=k, max_size=k), max_size=5))
    with np.errstate(over="ignore"):
        return np.array(rows, np.float32).reshape(-1, k), activation


@given(tables())
@settings(max_examples=300)
def test_numba_on_made_tables(table: tuple[np.ndarray, activations.Activation]) -> None:
    check(*table, "numba")


@given(tables())
@settings(max_examples=25)
def test_triton_on_made_tables(table: tuple[np.ndarray, activations.Activation]) -> None:
    check(*table, "triton")


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_known_values(backend: str) -> None:
    nan, inf = math.nan, math.inf
    sigmoid = build_activation([SIGMOID] * 6)
    found = activate([[0.0, 1e4, -1e4, inf, -inf, nan]], sigmoid, backend)
    np.testing.assert_array_equal(found, np.array([[0.5, 1, 0, 1, 0, nan]], np.float32))
    softmax = build_activation([SOFTMAX] * 4, [0, 0, 7, 7])
    logits = [[-90, 10, 0, 0], [-inf, -inf, inf, inf], [inf, 1e4, -inf, 3], [nan, 1, 2, 2], [1e4, -1e4, 0, math.log(3)]]
    wanted = [[0, 1, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [1, 0, 0, 1], [nan, nan, 0.5, 0.5], [1, 0, 0.25, 0.75]]
    np.testing.assert_allclose(activate(logits, softmax, backend), np.array(wanted), rtol=1e-6, atol=1e-30)
    identity = build_activation([IDENTITY] * 4, scale=2, shift=1, low=-1, high=1)
    np.testing.assert_array_equal(
        activate([[-0.25, -5, inf, nan]], identity, backend), np.array([[0.5, -1, 1, nan]], np.float32)
    )


def test_sliced_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 18)).astype(np.float32)
    found = activations.activate(logits[::2, ::2], MIXED)
    np.testing.assert_array_equal(found, activations.activate(logits[::2, ::2].copy(), MIXED))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_decide(backend: str) -> None:
    probabilities = np.array([[0.5, 0.49999997, math.nan], [0.0, 1.0, math.inf]] * 301, np.float32)
    for rows in (probabilities, probabilities[:1], probabilities[:0]):
        p, t = dispatch.place((rows, np.array([0.5, 0.5, 0.0], np.float32)), backend)
        found = dispatch.fetch(activations.decide(p, t, backend=backend))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.array([[1, 0, 0], [0, 1, 1]] * 301, np.uint8)[: len(rows)])
    p, t = dispatch.place((probabilities[:1], np.full(3, math.nan, np.float32)), backend)
    assert not dispatch.fetch(activations.decide(p, t, backend=backend)).any()


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_aggregate_known_values(backend: str) -> None:
    nan = math.nan
    values = [[9, 9, 9], [1, 2, 3], [3, 2, nan], [nan, 0.5, 1], [4, 4, 4], [5, nan, 6]]
    weights = [1, 1, 3, 0, 0, 2]
    # Segment 0 belongs to no document; then a mean of three (one of them without weight), none, one without, one.
    found = aggregate(values, [1, 4, 4, 5, 6], weights, backend)
    np.testing.assert_array_equal(found, np.array([[2.5, 2, nan], [nan] * 3, [nan] * 3, [5, nan, 6]], np.float32))
    assert aggregate(np.zeros((0, 3)), [0], [], backend).shape == (0, 3)
    assert aggregate(np.zeros((2, 0)), [0, 2], [1, 1], backend).shape == (1, 0)
    # 2^24 and 1 in float32 would lose the one.
    assert aggregate([[1 << 24], [1], [-(1 << 24)]], [0, 3], [3, 3, 3], backend).tolist() == [[np.float32(1 / 3)]]


@given(st.data())
@settings(max_examples=100)
def test_aggregate_on_made_segments(data: st.DataObject) -> None:
    check_aggregate(data, "numba")


@given(st.data())
@settings(max_examples=15)
def test_triton_aggregate_on_made_segments(data: st.DataObject) -> None:
    check_aggregate(data, "triton")


def check_aggregate(data: st.DataObject, backend: str) -> None:
    first = np.cumsum(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6)))
    n, k = int(first[-1]), data.draw(st.integers(1, 5))
    value = st.one_of(st.floats(-10, 10, width=32), st.sampled_from([0.0, math.nan, 1e30, -1e30]))
    values = np.array(data.draw(st.lists(value, min_size=n * k, max_size=n * k)), np.float32).reshape(n, k)
    weight = st.one_of(st.integers(0, 100).map(float), st.floats(0, 1000, width=32))
    weights = data.draw(st.lists(weight, min_size=n, max_size=n))
    wanted, found = (aggregate(values, first, weights, b) for b in ("reference", backend))
    np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": [3]}, "unknown kind 3"),
        ({"kind": [SOFTMAX, SIGMOID, SOFTMAX]}, "side by side"),
        ({"kind": [SOFTMAX] * 3, "group": [1, 2, 1]}, "side by side"),
        ({"kind": [IDENTITY], "low": 1, "high": 0}, "low"),
        ({"kind": [IDENTITY], "low": math.nan}, "low"),
    ],
)
def test_bad_tables(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_activation(**arguments)


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="an activation for 9 columns"):
        activate(np.zeros((2, 8)), MIXED, "numba")
    with pytest.raises(ValueError, match="thresholds for 2 columns"):
        activations.decide(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="2 segments, 1 weights"):
        aggregate(np.zeros((2, 3)), [0, 2], [1], "numba")
