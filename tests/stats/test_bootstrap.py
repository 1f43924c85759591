from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from affectcore.errors import UsageError
from affectcore.stats import cluster_bootstrap, interval, rank_interval, ranks


def grid(values: np.ndarray, shared: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One value per (model, cluster) cell; values has shape (models, clusters)."""
    model, cluster = np.indices(values.shape)
    if not shared:
        cluster = cluster + model * values.shape[1]
    return values.ravel(), np.ones(values.size), cluster.ravel(), model.ravel()


@pytest.mark.parametrize("shared", [True, False])
def test_draws_follow_the_exact_distribution(shared: bool) -> None:
    # Three clusters of unequal size: all 27 draws can be listed, and the replicates must hit them equally often.
    sums, counts = np.array([1.0, 10.0, 4.0]), np.array([1.0, 2.0, 5.0])
    expected = Counter(
        round(float(sums[list(d)].sum() / counts[list(d)].sum()), 9) for d in itertools.product(range(3), repeat=3)
    )
    n = 27_000
    if shared:
        cells = (np.tile(sums, 2), np.tile(counts, 2), np.tile(np.arange(3), 2), np.repeat([0, 1], 3))
    else:
        cells = (sums, counts, np.arange(3), np.zeros(3, int))
    boot = cluster_bootstrap(*cells, n_resamples=n, seed=5)
    assert boot.paired is shared
    found = Counter(np.round(boot.replicates[:, 0, 0], 9).tolist())
    assert set(found) == set(expected)
    chi2 = sum((found[v] - n * k / 27) ** 2 / (n * k / 27) for v, k in expected.items())
    assert chi2 < 30  # 9 degrees of freedom: p < 0.0005
    if shared:
        np.testing.assert_array_equal(boot.replicates[:, 0], boot.replicates[:, 1])


@pytest.mark.parametrize("shared", [True, False])
def test_standard_error_across_blocks_of_clusters(shared: bool) -> None:
    # More clusters than one block holds, and the two halves differ: fixed block totals would lose most of the variance.
    clusters = 70_000
    values = np.tile(np.arange(clusters) >= clusters // 2, (2, 1)).astype(float)
    boot = cluster_bootstrap(*grid(values, shared), n_resamples=600, seed=1)
    spread = boot.replicates[:, :, 0].std(axis=0)
    np.testing.assert_allclose(spread, 0.5 / np.sqrt(clusters), rtol=0.12)
    np.testing.assert_allclose(boot.replicates.mean(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(clusters * 600))


def test_coverage_of_the_interval() -> None:
    # Rows of one cluster are alike: an interval from single rows would cover the truth far less often than it claims.
    rng = np.random.default_rng(11)
    trials, clusters, rows = 250, 60, 5
    hits = naive = 0
    for trial in range(trials):
        values = rng.normal(size=(clusters, 1)) + rng.normal(scale=0.5, size=(clusters, rows)) + 3.0
        cells = (values.sum(axis=1), np.full(clusters, rows), np.arange(clusters), np.zeros(clusters, int))
        low, high = interval(cluster_bootstrap(*cells, n_resamples=400, seed=trial, threads=1).replicates)
        hits += bool(low[0, 0] <= 3.0 <= high[0, 0])
        half = 1.96 * values.std() / np.sqrt(values.size)
        naive += abs(values.mean() - 3.0) <= half
    assert 0.90 <= hits / trials <= 0.98
    assert naive / trials < 0.75


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(3)
    prompt = rng.normal(scale=5, size=200)
    values = np.stack([prompt, prompt + 0.1 + rng.normal(scale=0.01, size=200)])
    paired = cluster_bootstrap(*grid(values), seed=2).replicates[:, :, 0]
    apart = cluster_bootstrap(*grid(values, shared=False), seed=2).replicates[:, :, 0]
    low, high = interval(paired[:, 1] - paired[:, 0])
    assert 0.09 < low < high < 0.11
    wide_low, wide_high = interval(apart[:, 1] - apart[:, 0])
    assert wide_high - wide_low > 100 * (high - low)
    np.testing.assert_allclose(paired.std(axis=0), apart.std(axis=0), rtol=0.1)


def test_same_seed_same_numbers_whatever_the_threads_and_the_order() -> None:
    rng = np.random.default_rng(0)
    cells = grid(rng.normal(size=(3, 500)))
    first = cluster_bootstrap(*cells, n_resamples=100, seed=7, threads=1)
    shuffle = rng.permutation(len(cells[0]))
    again = cluster_bootstrap(*(c[shuffle] for c in cells), n_resamples=100, seed=7, threads=3)
    np.testing.assert_array_equal(first.replicates, again.replicates)
    other = cluster_bootstrap(*cells, n_resamples=100, seed=8)
    assert not np.array_equal(first.replicates, other.replicates)
    assert np.unique(first.replicates[:, 0, 0]).size == 100  # no chunk of replicates repeats another


def test_several_metrics_share_the_draws() -> None:
    rng = np.random.default_rng(0)
    _, _, cluster, model = grid(np.zeros((2, 50)))
    sums = rng.normal(size=(100, 3))
    counts = rng.integers(1, 4, size=(100, 3))
    together = cluster_bootstrap(sums, counts, cluster, model, n_resamples=50)
    for k in range(3):
        alone = cluster_bootstrap(sums[:, k], counts[:, k], cluster, model, n_resamples=50)
        np.testing.assert_allclose(together.replicates[:, :, k], alone.replicates[:, :, 0], rtol=1e-12)
        np.testing.assert_allclose(together.mean[:, k], alone.mean[:, 0])


def test_missing_cells_and_models_without_values() -> None:
    # Model 1 answered one prompt of three; model 2 has a cell without values; model 3 has none at all.
    boot = cluster_bootstrap(
        [1.0, 2.0, 3.0, 5.0, 0.0], [1, 1, 1, 1, 0], [0, 1, 2, 0, 0], [0, 0, 0, 1, 2], n_models=4, n_resamples=300
    )
    np.testing.assert_array_equal(boot.mean[:, 0], [2.0, 5.0, np.nan, np.nan])
    np.testing.assert_array_equal(boot.n_clusters[:, 0], [3, 1, 0, 0])
    np.testing.assert_array_equal(boot.n_values[:, 0], [3, 1, 0, 0])
    drawn = boot.replicates[:, 1, 0]
    assert set(drawn[~np.isnan(drawn)]) == {5.0}
    assert 0.2 < np.isnan(drawn).mean() < 0.4  # (2/3)^3
    assert np.isnan(boot.replicates[:, 2:, 0]).all()
    low, high = interval(boot.replicates[:, :, 0])
    assert low[0] < 2.0 < high[0] and low[1] == high[1] == 5.0 and np.isnan(low[2])


def test_no_cells() -> None:
    boot = cluster_bootstrap([], [], [], [], n_models=2, n_resamples=10)
    assert np.isnan(boot.mean).all() and boot.replicates.shape == (10, 2, 1)


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (([1.0], [1], [0, 1], [0, 0]), {}, "one entry per cell"),
        (([1.0, 2.0], [1, 1], [0, 0], [0, 0]), {}, "more than once"),
        (([1.0], [1], [-1], [0]), {}, "start at 0"),
        (([1.0], [1], [0], [3]), {"n_models": 2}, "only 2 models"),
        (([1.0], [1], [0], [0]), {"n_resamples": 0}, "n_resamples must be at least 1"),
        (([1.0], [1], [0], [0]), {"seed": -1}, "seed at least 0"),
    ],
)
def test_wrong_arguments(cells: tuple[list[float], ...], options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cluster_bootstrap(*cells, **options)


def test_ranks_share_ties_and_put_nan_last() -> None:
    values = [[0.2, 0.9, 0.2, np.nan], [np.nan, 1.0, 2.0, 3.0]]
    np.testing.assert_array_equal(ranks(values), [[2, 1, 2, 4], [4, 3, 2, 1]])
    np.testing.assert_array_equal(ranks(values, descending=False), [[1, 3, 1, 4], [4, 1, 2, 3]])


@settings(deadline=None)
@given(hnp.arrays(float, st.integers(1, 8), elements=st.integers(-3, 3).map(float)))
def test_rank_is_one_more_than_the_number_ahead(values: np.ndarray) -> None:
    np.testing.assert_array_equal(ranks(values), [1 + int((values > v).sum()) for v in values])
    np.testing.assert_array_equal(ranks(values, descending=False), [1 + int((values < v).sum()) for v in values])


def test_rank_interval_holds_the_confidence() -> None:
    rng = np.random.default_rng(0)
    replicates = rng.normal(loc=[0.0, 0.5, 5.0], size=(2000, 3))
    low, high = rank_interval(replicates)
    np.testing.assert_array_equal(low, [2, 2, 1])
    np.testing.assert_array_equal(high, [3, 3, 1])
    found = ranks(replicates)
    assert (((low <= found) & (found <= high)).mean(axis=0) >= 0.95).all()
