"""The `resample` family: every backend against the reference, the random numbers against those published, and the
replicates against what is known of the bootstrap."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from affectcore.kernels import dispatch, resample
from affectcore.kernels.resample import MOST_CLUSTERS, REPLICATES, cpu, reference
from affectcore.stats import bootstrap

BACKENDS = ["numba", "triton"]
ALL = ["reference", *BACKENDS]


def count(n_clusters: int, n_replicates: int, seed: int = 0, first: int = 0, backend: str = "numba") -> np.ndarray:
    found = resample.counts(n_clusters, n_replicates, seed, first, backend=backend)
    return dispatch.fetch(found)  # type: ignore[no-any-return]


def replicate(values: np.ndarray, n_replicates: int, seed: int = 0, first: int = 0, backend: str = "numba") -> Any:
    found = resample.resample(dispatch.place(values, backend), n_replicates, seed, first, backend=backend)
    return dispatch.fetch(found)


def check(values: np.ndarray, n_replicates: int, seed: int, first: int, backend: str) -> None:
    numbers = (n_replicates, seed, first)
    weights = count(len(values), *numbers, "reference")
    assert weights.dtype == np.int32
    np.testing.assert_array_equal(count(len(values), *numbers, backend), weights, strict=True)
    wanted, found = (replicate(values, *numbers, name) for name in ("reference", backend))
    assert wanted.shape == found.shape == (n_replicates, values.shape[1])
    assert wanted.dtype == found.dtype == np.float64
    assert (np.abs(found - wanted) <= 1e-12 * (weights @ np.abs(values))).all()


def made(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([n, k, seed]).normal(size=(n, k))


def word(text: str) -> tuple[int, ...]:
    return tuple(int(w, 16) for w in text.split())


# The known answers that Random123, the authors' library, publishes for philox4x32 with 10 rounds (tests/kat_vectors):
# counter, key, words.
KNOWN = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words(counter: str, key: str, words: str) -> None:
    assert reference.philox(word(counter), word(key)) == word(words)  # type: ignore[arg-type]
    compiled = cpu.philox(*map(np.uint64, word(counter) + word(key)))
    assert tuple(map(int, compiled)) == word(words)


@pytest.mark.parametrize("backend", ALL)
def test_draws_are_the_published_words_mapped_to_clusters(backend: str) -> None:
    # Counter and key are 0 for the first two draws of replicate 0: their upper words are the first and the third.
    assert count(2, 1, backend=backend).tolist() == [[1, 1]]  # 0x66... and 0xbc... of 2^32, times 2
    n = 100
    places = reference._draws(n, 0, 0)
    assert places[:2] == [0x6627E8D5E169C58D * n // 2**64, 0xBC57AC4C9B00DBD8 * n // 2**64]
    np.testing.assert_array_equal(count(n, 1, backend=backend)[0], np.bincount(places, minlength=n))


def test_every_cluster_gets_its_share_of_the_numbers() -> None:
    for n in (1, 2, 3, 805, 2**20, 10**6 + 7, MOST_CLUSTERS):
        # The first and the last number of some clusters, exactly.
        for c in {0, n // 3, n - 1}:
            for x in (-(-(c << 64) // n), (((c + 1) << 64) - 1) // n):
                assert cpu._cluster(np.uint64(x >> 32), np.uint64(x & 0xFFFFFFFF), np.uint64(n)) == c


SHAPES = {
    "no clusters": (0, 3, 4, 0, 0),
    "one cluster": (1, 1, 3, 5, 0),
    "no columns": (7, 0, 4, 1, 0),
    "no replicates": (7, 2, 0, 1, 0),
    "odd and even": (3, 2, 5, 1, 0),
    "largest numbers": (40, 3, 5, 2**64 - 1, REPLICATES - 5),
    "upper half of the seed": (40, 3, 2, 1 << 40, 1 << 31),
    "tiles' ends": (63, 2, 2, 2, 1),
    "a tile": (64, 33, 3, 3, 1),
    "a tile and one": (65, 70, 3, 4, 1),
    "calls of one turn": (1024, 4, 2, 6, 0),
    "calls of one turn and half a call": (1025, 5, 2, 6, 0),
    "many clusters": (9000, 1, 2, 7, 100),
    "more replicates than lanes": (30, 3, 131, 8, 3),
    "more columns than there are sums": (9, 1030, 2, 9, 0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, backend: str) -> None:
    n, k, n_replicates, seed, first = SHAPES[shape]
    if backend == "triton":  # the interpreter takes its time, and no program knows of other replicates
        n_replicates = min(n_replicates, 5)
    check(made(n, k), n_replicates, seed, first, backend)


NUMBERS = {
    "n": st.integers(0, 70),
    "k": st.integers(0, 5),
    "n_replicates": st.integers(0, 4),
    "seed": st.integers(0, 2**64 - 1),
    "first": st.integers(0, REPLICATES - 4),
}


@given(**NUMBERS)
@settings(max_examples=60)
def test_numba_on_made_numbers(n: int, k: int, n_replicates: int, seed: int, first: int) -> None:
    check(made(n, k, seed), n_replicates, seed, first, "numba")


@given(**NUMBERS)
@settings(max_examples=12)
def test_triton_on_made_numbers(n: int, k: int, n_replicates: int, seed: int, first: int) -> None:
    check(made(n, k, seed), n_replicates, seed, first, "triton")


@pytest.mark.parametrize("backend", ALL)
def test_whole_numbers_are_exact(backend: str) -> None:
    values = np.random.default_rng(0).integers(-(10**12), 10**12, size=(300, 3))
    wanted = count(300, 5, 3, backend="reference").astype(np.int64) @ values
    np.testing.assert_array_equal(replicate(values.astype(np.float64), 5, 3, 0, backend), wanted)


@pytest.mark.parametrize("backend", ALL)
def test_parts_are_the_whole(backend: str) -> None:
    n, whole = 37, 140 if backend == "numba" else 10
    values = made(n, 3)
    sums, weights = replicate(values, whole, 4, 20, backend), count(n, whole, 4, 20, backend)
    for low, high in ((0, 1), (1, 4), (4, whole - 1), (whole - 1, whole)):
        assert sums[low:high].tobytes() == replicate(values, high - low, 4, 20 + low, backend).tobytes()
        np.testing.assert_array_equal(weights[low:high], count(n, high - low, 4, 20 + low, backend))
    assert len(np.unique(sums[:, 0])) == whole
    assert not np.array_equal(sums, replicate(values, whole, 5, 20, backend))


def test_columns_do_not_know_of_each_other() -> None:
    values = made(90, 6)
    together = replicate(values, 70, 1)
    for view in (values[:, 2:3], values[:, ::-2], np.asfortranarray(values)[:, [4]]):
        alone = replicate(view, 70, 1)
        assert {column.tobytes() for column in alone.T} <= {column.tobytes() for column in together.T}


def test_fewer_replicates_at_a_time_where_clusters_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values = made(50, 3)
    wanted = replicate(values, 80, 2)
    for limit in (1, 3 * 50, 7 * 50 + 1):
        monkeypatch.setattr(cpu, "WEIGHTS", limit)
        assert replicate(values, 80, 2).tobytes() == wanted.tobytes()


def test_memory_does_not_grow_with_the_replicates() -> None:
    values = np.ones((100_000, 2))
    replicate(values[:10], 2)
    tracemalloc.start()
    try:
        replicate(values, 200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 66 * len(values)  # a byte a cluster for 64 replicates, and what does not depend on the clusters


def test_counts_are_multinomial() -> None:
    # Three clusters: the 27 equally likely draws make ten different rows.
    n, replicates = 3, 27_000
    rows, found = np.unique(count(n, replicates, 1), axis=0, return_counts=True)
    expected = stats.multinomial(n, [1 / n] * n).pmf(rows) * replicates
    assert len(rows) == 10
    assert stats.chisquare(found, expected).pvalue > 1e-3
    # Their moments: 1, 1 - 1/n on the diagonal, -1/n beside it. Five standard errors, of a Poisson's at most.
    n, replicates = 12, 40_000
    weights = count(n, replicates, 2)
    assert (weights.sum(axis=1) == n).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 / np.sqrt(replicates))
    np.testing.assert_allclose(np.cov(weights.T), np.eye(n) - 1 / n, atol=5 * np.sqrt(3 / replicates))


def test_many_clusters_are_drawn_alike() -> None:
    n = 200_001  # odd, and no power of two
    weights = count(n, 4, 3)
    assert (weights.sum(axis=1) == n).all()
    bins = np.array([np.bincount(np.minimum(row, 6), minlength=7) for row in weights])
    p = stats.binom(n, 1 / n).pmf(np.arange(6))
    expected = n * np.append(p, 1 - p.sum())
    assert (stats.chisquare(bins, np.tile(expected, (4, 1)), axis=1).pvalue > 1e-3).all()
    # Anywhere in the range, and each replicate apart from the others.
    blocks = np.add.reduceat(weights, np.arange(0, n, 2001), axis=1)
    sizes = np.diff(np.append(np.arange(0, n, 2001), n))
    assert (stats.chisquare(blocks, np.tile(sizes, (4, 1)), axis=1).pvalue > 1e-3).all()
    np.testing.assert_allclose(np.corrcoef(weights), np.eye(4), atol=5 / np.sqrt(n))


def test_draws_of_neighbouring_calls_replicates_and_seeds_are_apart() -> None:
    # One bit of difference between counters or keys: the weights' correlation is that of chance.
    n = 50_000
    for seed in (0, 1, 2**32, 2**63):
        for first in (0, 1, 2**31):
            if seed or first:
                r = np.corrcoef(count(n, 1, 0, 0)[0], count(n, 1, seed, first)[0])[0, 1]
                assert abs(r) < 5 / np.sqrt(n)


def test_means_and_variances_are_the_bootstrap_s() -> None:
    # Of n draws from the clusters, the sum has mean and covariance n times those of one draw, known exactly.
    n, replicates = 250, 40_000
    values = np.random.default_rng(0).exponential(size=(n, 3))
    values[:, 1] += values[:, 0]
    totals = replicate(values, replicates, 6)
    covariance = n * np.cov(values.T, bias=True)
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(totals.mean(axis=0) - values.sum(axis=0)) < 4 * spread / np.sqrt(replicates)).all()
    # An entry's standard error, for sums that are close to normal, is below sqrt(2 / R) of both spreads.
    bound = 4 * np.sqrt(2 / replicates) * np.outer(spread, spread)
    assert (np.abs(np.cov(totals.T) - covariance) < bound).all()


def test_models_of_a_comparison_see_the_same_draws_in_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, cluster = np.indices((5, 60))
    sums = made(300, 2)
    cells = (sums, np.ones(sums.shape), cluster.ravel(), model.ravel())
    wanted = bootstrap.cluster_bootstrap(*cells, n_resamples=70)
    monkeypatch.setattr(bootstrap, "_TABLE_BYTES", 2 * 16 * 60 * 2)  # two models at a time
    found = bootstrap.cluster_bootstrap(*cells, n_resamples=70)
    assert found.paired
    assert found.replicates.tobytes() == wanted.replicates.tobytes()


@pytest.mark.parametrize("numbers", [(3, 1, -1), (3, 1, 2**64), (3, -1), (3, 2, 0, REPLICATES - 1), (3, 1, 0, -1)])
def test_numbers_out_of_range(numbers: tuple[int, ...]) -> None:
    clusters, *rest = numbers
    for call in (lambda: resample.counts(*numbers), lambda: resample.resample(np.ones((clusters, 2)), *rest)):
        with pytest.raises(ValueError, match=r"a seed is a number|replicates are numbered"):
            call()


def test_bad_arguments() -> None:
    for clusters in (-1, MOST_CLUSTERS + 1):
        with pytest.raises(ValueError, match=f"not {clusters:,}"):
            resample.counts(clusters, 1)
    for values in (np.ones(3), np.ones((3, 1, 1)), np.ones((3, 2), np.float32), np.ones((3, 2), int)):
        with pytest.raises(ValueError, match="values are float64"):
            resample.resample(values, 1)
