"""The `bag` family: every backend against the reference, and the reference against plain formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.kernels import bag, dispatch

BACKENDS = ["numba", "triton"]
EMPTY = np.empty(0, np.int32)


def table(n_unigrams: int, n_buckets: int, d: int, seed: int = 0) -> bag.Bag:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-128, 128, (n_unigrams + n_buckets, d)).astype(np.int8)
    gains = rng.uniform(0.001, 0.02, (len(rows), 2)).astype(np.float32)
    return bag.Bag(rows, gains, np.array([n_unigrams], np.int32))


def layers(d: int, m: int, k: int, seed: int = 1) -> bag.Heads:
    rng = np.random.default_rng(seed)
    shapes = (d, m), (m,), (m or d, k), (k,)
    return bag.Heads(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def ragged(units: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([t for unit in units for t in unit], np.int32)
    return values, np.cumsum([0] + [len(unit) for unit in units], dtype=np.int64)


def run(ids: Any, offsets: Any, rows: bag.Bag, heads: bag.Heads, backend: str) -> tuple[np.ndarray, np.ndarray]:
    ids, offsets, rows, heads = dispatch.place((ids, offsets, rows, heads), backend)
    out = bag.pool(ids, offsets, rows, backend=backend), bag.logits(ids, offsets, rows, heads, backend=backend)
    return dispatch.fetch(out)  # type: ignore[no-any-return]


def check(ids: Any, offsets: Any, rows: bag.Bag, heads: bag.Heads, backend: str) -> None:
    wanted, found = (run(ids, offsets, rows, heads, b) for b in ("reference", backend))
    for w, f in zip(wanted, found):
        if backend == "numba":
            np.testing.assert_array_equal(f, w, strict=True)
        else:
            largest = float(np.abs(w).max(initial=0))
            np.testing.assert_allclose(f, w, rtol=1e-5, atol=1e-5 * largest, strict=True)


def tokens(n: int, seed: int = 2) -> list[int]:
    return np.random.default_rng(seed).integers(0, 50, n).tolist()  # type: ignore[no-any-return]


SHAPES = {
    "no units": [],
    "one empty unit": [[]],
    "one token": [[7]],
    "two tokens": [[7, 7]],
    "empty units between others": [[], [1, 2, 3], [], [], [4], []],
    "one tile and its neighbours": [tokens(n) for n in (7, 8, 9, 15, 16, 17, 31, 32, 33)],
    "many short units": [tokens(n % 4, n) for n in range(60)],
}
LONG = {
    "around one chunk": [tokens(n) for n in (511, 512, 513)],
    "over several chunks": [tokens(3), tokens(2000), [], tokens(5), tokens(1019), [1]],
    "short units over a chunk": [tokens(n % 7, n) for n in range(1000)],
}


@pytest.mark.parametrize("n_buckets", [0, 1, 64])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, backend: str, n_buckets: int) -> None:
    check(*ragged(SHAPES[shape]), table(50, n_buckets, 64), layers(64, 64, 31), backend)


@pytest.mark.parametrize("n_buckets", [0, 64])
@pytest.mark.parametrize("shape", LONG)
def test_long_shapes(shape: str, n_buckets: int) -> None:
    check(*ragged(LONG[shape]), table(50, n_buckets, 64), layers(64, 64, 31), "numba")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("d", "m", "k"),
    [(16, 0, 1), (16, 1, 1), (32, 7, 33), (48, 16, 28), (96, 0, 31), (112, 80, 96), (128, 128, 28), (256, 0, 65)],
)
def test_widths(d: int, m: int, k: int, backend: str) -> None:
    check(*ragged([tokens(20), [], tokens(3)]), table(50, 32, d), layers(d, m, k), backend)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, bag.Bag, bag.Heads]:
    n_unigrams = draw(st.integers(1, 40))
    units = draw(st.lists(st.lists(st.integers(0, n_unigrams - 1), max_size=40), max_size=8))
    d = 16 * draw(st.integers(1, 6))
    rows = table(n_unigrams, draw(st.sampled_from([0, 1, 2, 8, 1024])), d, draw(st.integers(0, 9)))
    return (*ragged(units), rows, layers(d, draw(st.integers(0, 20)), draw(st.integers(1, 40))))


@given(inputs())
@settings(max_examples=100)
def test_numba_on_made_units(made: tuple[Any, Any, bag.Bag, bag.Heads]) -> None:
    check(*made, "numba")


@given(inputs())
@settings(max_examples=15)
def test_triton_on_made_units(made: tuple[Any, Any, bag.Bag, bag.Heads]) -> None:
    check(*made, "triton")


def test_reference_is_the_formula() -> None:
    ids, offsets = ragged([tokens(200), [], [3], [3, 4]])
    rows, heads = table(50, 64, 64), layers(64, 24, 9)
    features, logits = run(ids, offsets, rows, heads, "reference")
    for u, (a, b) in enumerate(zip(offsets[:-1], offsets[1:])):
        unit = ids[a:b]
        numbers = np.concatenate([unit, 50 + bag.bucket(unit[:-1], unit[1:], 64)]).astype(np.int64)
        scale, weight = rows.gains.astype(np.float64)[numbers].T
        h = scale @ rows.rows[numbers].astype(np.float64) / (weight.sum() + 1)
        np.testing.assert_allclose(features[u], h, rtol=1e-4, atol=1e-4)
        z = np.maximum(h @ heads.hidden + heads.hidden_bias, 0)
        np.testing.assert_allclose(logits[u], z @ heads.weight + heads.bias, rtol=1e-4, atol=2e-3)
    assert not features[1].any()


def test_bucket_is_the_formula() -> None:
    def plain(a: int, b: int, bits: int) -> int:
        x = (a * 0x9E3779B1 + b * 0x85EBCA77) % 2**32
        x ^= x >> 15
        x = x * 0x2C1B3C6D % 2**32
        x ^= x >> 12
        return x >> (32 - bits)

    a, b = np.random.default_rng(0).integers(0, 2**31, (2, 1000)).astype(np.int32)
    a[:3], b[:3] = [0, 2**31 - 1, 0], [0, 2**31 - 1, 1]
    for bits in (0, 1, 16, 17, 31):
        assert bag.bucket(a, b, 1 << bits).tolist() == [plain(x, y, bits) for x, y in zip(a.tolist(), b.tolist())]
    assert bag.bucket(EMPTY, EMPTY, 8).shape == (0,)


def test_buckets_are_evenly_filled() -> None:
    a, b = np.divmod(np.arange(1 << 18), 1 << 9)
    counts = np.bincount(bag.bucket(a, b, 1 << 10), minlength=1 << 10)
    # 256 a bucket; six standard deviations of a Poisson count are 96.
    assert counts.min() > 160
    assert counts.max() < 352


@pytest.mark.parametrize("n_buckets", [0, -1, 3, 1 << 32])
def test_bucket_wants_powers_of_two(n_buckets: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        bag.bucket(EMPTY, EMPTY, n_buckets)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_unit_depends_on_itself_alone(backend: str) -> None:
    units = [tokens(n, n) for n in (700 if backend == "numba" else 70, 0, 5, 33, 1)]
    rows, heads = table(50, 64, 64), layers(64, 16, 5)
    together = run(*ragged(units), rows, heads, backend)
    alone = [run(*ragged([unit]), rows, heads, backend) for unit in units]
    for k in range(2):
        np.testing.assert_array_equal(together[k], np.concatenate([one[k] for one in alone]))


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_offsets_need_not_start_at_zero(backend: str) -> None:
    units, rows, heads = [tokens(9), tokens(4, 3), [], tokens(11, 4)], table(50, 64, 64), layers(64, 16, 5)
    ids, offsets = ragged(units)
    whole, part = run(ids, offsets, rows, heads, backend), run(ids, offsets[1:-1], rows, heads, backend)
    for k in range(2):
        np.testing.assert_array_equal(part[k], whole[k][1:-1])


def test_read_only_and_strided_arrays() -> None:
    ids, offsets = ragged([tokens(9), tokens(4)])
    rows, heads = table(50, 64, 64), layers(64, 16, 5)
    wanted = run(ids, offsets, rows, heads, "numba")
    wide = np.repeat(ids, 2)[::2]
    for array in (wide, offsets, *rows, *heads):
        array.flags.writeable = False
    turned = bag.Heads(*(np.asfortranarray(a) for a in heads))
    for k, found in enumerate(run(wide, offsets, rows, turned, "numba")):
        np.testing.assert_array_equal(found, wanted[k])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_the_heads_stays(backend: str) -> None:
    rows, heads = table(50, 0, 16), layers(16, 4, 2)
    heads.hidden_bias[2] = np.nan
    assert np.isnan(run(*ragged([[1, 2]]), rows, heads, backend)[1]).all()


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("n_buckets", [0, 64])
@pytest.mark.parametrize("bad", [-1, 50, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [0, 1, 600, 1299])
def test_ids_outside_the_table(place: int, bad: int, n_buckets: int, backend: str) -> None:
    ids, offsets = ragged([tokens(1300)])
    ids[place] = bad
    with pytest.raises(ValueError, match=rf"in \[0, 50\), found .*{bad}"):
        bag.pool(ids, offsets, table(50, n_buckets, 16), backend=backend)
    # What no unit holds is not looked at.
    bag.pool(ids, np.array([place + 1, 1300]), table(50, n_buckets, 16), backend=backend)
    bag.pool(ids, np.array([0, place]), table(50, n_buckets, 16), backend=backend)


def test_triton_leaves_out_ids_outside_the_table() -> None:
    rows, heads = table(50, 64, 16), layers(16, 0, 2)
    found = run(*ragged([[-1, 3, 50]]), rows, heads, "triton")
    for k, wanted in enumerate(run(*ragged([[3]]), rows, heads, "triton")):
        np.testing.assert_array_equal(found[k], wanted)


def test_align_starts_on_a_cache_line() -> None:
    rows = table(7, 0, 48).rows
    for k in range(3):
        aligned = bag.align(rows[k:])
        assert aligned.ctypes.data % 64 == 0
        np.testing.assert_array_equal(aligned, rows[k:], strict=True)


def test_malformed_tables() -> None:
    ids, offsets = ragged([[1, 2]])
    good, heads = table(50, 64, 32), layers(32, 8, 3)
    for bad in (
        good._replace(rows=good.rows.view(np.uint8)),
        good._replace(rows=good.rows[:, :24]),
        good._replace(rows=good.rows[:, :0]),
    ):
        with pytest.raises(ValueError, match="multiple of 16"):
            bag.pool(ids, offsets, bad)
    for n_unigrams in (-1, 0, 49, 51, 115, 10**9):
        with pytest.raises(ValueError, match="a power of two of them"):
            bag.pool(ids, offsets, good._replace(n_unigrams=np.array([n_unigrams], np.int64)))
    with pytest.raises(ValueError, match="one pair a row"):
        bag.pool(ids, offsets, good._replace(gains=good.gains[:-1]))
    for name in heads._fields:
        wrong = heads._replace(**{name: getattr(heads, name)[:-1]})
        with pytest.raises(ValueError, match="do not fit a table of 32 columns"):
            bag.logits(ids, offsets, good, wrong)
