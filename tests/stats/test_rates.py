from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from affectcore.errors import UsageError
from affectcore.stats.bootstrap import expanded_interval, interval, t_quantile
from affectcore.stats.rates import (
    Survival,
    buckets,
    change_point,
    rates,
    slope,
    survival,
    wilson,
)

NAN = float("nan")


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("df", [1, 2, 3, 5, 19, 200])
def testt_quantile(df: int, confidence: float) -> None:
    assert t_quantile(confidence, df) == pytest.approx(stats.t.ppf((1 + confidence) / 2, df), rel=2e-3)


def test_expanded_interval_of_a_mean_is_the_t_interval() -> None:
    # Replicates of the mean of C normal values vary by s sqrt((C - 1) / C / C).
    z = np.linspace(-5, 5, 400_001)
    weights = np.exp(-z * z / 2)
    grid = np.interp(np.linspace(0, 1, 200_001)[1:-1], np.cumsum(weights) / weights.sum(), z)
    n = np.array([8, 40])
    low, high = expanded_interval(grid[:, None] * np.sqrt((n - 1) / n / n), n)
    np.testing.assert_allclose(high, stats.t.ppf(0.975, n - 1) / np.sqrt(n), rtol=2e-3)
    np.testing.assert_allclose(low, -high, rtol=1e-3)


def test_expanded_interval_of_many_clusters_is_the_percentile_interval() -> None:
    replicates = np.random.default_rng(0).normal(size=(5000, 2, 2))
    wide, narrow = expanded_interval(replicates, 10**7), interval(replicates)
    np.testing.assert_allclose(wide, narrow, atol=1e-4)
    low, high = expanded_interval(replicates, [[1, 5], [50, 0]])
    assert np.isnan(low[0, 0]) and np.isnan(high[1, 1]) and np.isfinite(low[0, 1])
    assert low[0, 1] < narrow[0][0, 1] and high[1, 0] > narrow[1][1, 0]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipys(confidence: float) -> None:
    k, n = np.array([0, 1, 7, 10, 500]), np.array([10, 10, 10, 10, 2000])
    low, high = wilson(k, n, confidence)
    for i in range(len(k)):
        expected = stats.binomtest(int(k[i]), int(n[i])).proportion_ci(confidence, method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(wilson(0, 0)[0])
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1


def test_rates_by_bucket() -> None:
    values = np.array([0.5, 0.4, 0.9, NAN, 0.1, 0.6, 0.7])
    found = rates(values, 0.5, bucket=[0, 0, 0, 0, 2, 2, -1], n_buckets=4)
    np.testing.assert_array_equal(found.n, [3, 0, 2, 0])
    np.testing.assert_array_equal(found.n_missing, [1, 0, 0, 0])
    np.testing.assert_array_equal(found.n_over, [2, 0, 1, 0])  # 0.5 is at the threshold, which counts
    np.testing.assert_array_equal(found.rate, [2 / 3, NAN, 1 / 2, NAN])
    np.testing.assert_array_equal((found.low, found.high), wilson([2, 0, 1, 0], [3, 0, 2, 0]))
    assert found.n_outside == 1
    assert rates([], 0.5).n.tolist() == [0] and np.isnan(rates([], 0.5).low[0])


def test_the_design_effect_of_copies_is_their_number() -> None:
    rng = np.random.default_rng(0)
    once = (rng.random(60) < 0.3).astype(float)
    plain = rates(once, 0.5, cluster=np.arange(60))
    assert plain.n_effective[0] == pytest.approx(60)
    copied = rates(np.repeat(once, 7), 0.5, cluster=np.repeat(np.arange(60), 7))
    assert copied.n[0] == 420 and copied.n_clusters[0] == 60
    # C - 1 for C: the copies' own variance is taken with n - 1 of 420.
    assert copied.n_effective[0] == pytest.approx(60 * (420 / 419) * (59 / 60))
    assert rates(np.repeat(once, 7), 0.5).n_effective[0] == 420


def test_cluster_variance_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(80), rng.integers(1, 12, 80))
    over = (rng.random(len(cluster)) < rng.beta(1, 2, 80)[cluster]).astype(float)
    found = rates(over, 0.5, cluster=cluster)
    s, n = np.bincount(cluster, over), np.bincount(cluster)
    drawn = rng.integers(0, 80, (20_000, 80))
    spread = np.std(s[drawn].sum(axis=1) / n[drawn].sum(axis=1))
    p = found.rate[0]
    assert math.sqrt(p * (1 - p) / found.n_effective[0]) == pytest.approx(spread, rel=0.05)
    assert found.high[0] - found.low[0] == pytest.approx(2 * 1.99 * spread, rel=0.08)


def test_rates_of_clusters_at_the_ends() -> None:
    cluster = np.repeat(np.arange(10), 5)
    none = rates(np.zeros(50), 0.5, cluster=cluster)
    assert none.n_effective[0] == 10 and none.low[0] == 0
    t = stats.t.ppf(0.975, 9)
    assert none.high[0] == pytest.approx(t**2 / (10 + t**2), rel=1e-3)
    alone = rates([1.0, 0.0], 0.5, cluster=[4, 4])
    assert alone.rate[0] == 0.5 and np.isnan(alone.low[0])
    alike = rates(np.tile([1.0, 0.0], 10), 0.5, cluster=np.repeat(np.arange(10), 2))  # no spread between clusters
    assert alike.n_effective[0] == 20


def test_clustered_buckets_are_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    values, bucket, cluster = rng.random(300), rng.integers(0, 3, 300), rng.integers(0, 20, 300)
    together = rates(values, 0.6, bucket=bucket, cluster=cluster)
    for b in range(3):
        alone = rates(values[bucket == b], 0.6, cluster=cluster[bucket == b])
        for name in ("n", "n_over", "n_clusters", "low", "high", "n_effective"):
            assert getattr(together, name)[b] == pytest.approx(getattr(alone, name)[0]), name


def test_clustered_rates_cover() -> None:
    rng = np.random.default_rng(0)
    covered = {True: 0, False: 0}
    for _ in range(300):
        cluster = np.repeat(np.arange(40), 1 + rng.poisson(4, 40))
        over = (rng.random(len(cluster)) < rng.beta(0.6, 1.4, 40)[cluster]).astype(float)  # ICC 1/3
        for aware in covered:
            found = rates(over, 0.5, cluster=cluster if aware else None)
            covered[aware] += bool(found.low[0] <= 0.3 <= found.high[0])
    assert 0.91 < covered[True] / 300 < 0.985
    assert covered[False] / 300 < 0.85


def test_buckets() -> None:
    found = buckets([0, 999, 1000, 5e5, -1, NAN], (0, 1000, 8000))
    np.testing.assert_array_equal(found, [0, 0, 1, 2, -1, -1])
    with pytest.raises(UsageError, match="must ascend"):
        buckets([1.0], (0, 5, 5))


def crossing(first: list[float], last: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turns 1, 2, ... of conversations that reach the threshold at `first` (or never) and end at `last`."""
    rows = [(c, t, float(t >= f)) for c, (f, end) in enumerate(zip(first, last)) for t in range(1, int(end) + 1)]
    conversation, turn, value = zip(*rows)
    return np.array(value), np.array(conversation), np.array(turn)


def curve(first: list[float], last: list[float]) -> Survival:
    value, conversation, turn = crossing(first, last)
    return survival(value, 1.0, conversation, turn)


def test_survival_by_hand() -> None:
    # Reached at 2, 3, 3, 5; ended untouched at 4, 6, 6. Kaplan-Meier: 6/7; 6/7 4/6; the same; 4/7 2/3; the same.
    never = math.inf
    found = curve([2, 3, 3, 5, never, never, never], [6, 6, 3, 5, 4, 6, 6])
    np.testing.assert_array_equal(found.turn, [2, 3, 4, 5, 6])
    np.testing.assert_array_equal(found.n_at_risk, [7, 6, 4, 3, 2])
    np.testing.assert_array_equal(found.n_events, [1, 2, 0, 1, 0])
    np.testing.assert_allclose(found.survival, [6 / 7, 4 / 7, 4 / 7, 8 / 21, 8 / 21])
    assert (found.n_conversations, found.n_reached, found.n_empty) == (7, 4, 0)
    assert found.median.value == 5
    # Greenwood on the log-log scale, at turn 3.
    s, error = 4 / 7, math.sqrt(1 / (7 * 6) + 2 / (6 * 4)) / abs(math.log(4 / 7))
    z = stats.norm.ppf(0.975)
    assert found.low[1] == pytest.approx(s ** math.exp(z * error))
    assert found.high[1] == pytest.approx(s ** math.exp(-z * error))
    assert found.low[0] < 0.5 and found.median.low == 2
    assert found.median.high is None  # the upper band stays above a half


def test_survival_does_not_mind_order_gaps_and_ids() -> None:
    value, conversation, turn = crossing([2, 4, math.inf, 1], [6, 6, 6, 3])
    value[(conversation == 1) & (turn == 2)] = NAN
    plain = survival(value, 1.0, conversation, turn)
    shuffle = np.random.default_rng(0).permutation(len(value))
    again = survival(value[shuffle], 1.0, (1000 - 7 * conversation)[shuffle], turn[shuffle])
    np.testing.assert_array_equal(plain.survival, again.survival)
    assert plain.median == again.median and plain.median.value == 2


def test_survival_where_none_or_all_get_there() -> None:
    value, conversation, turn = crossing([math.inf] * 3, [4, 5, 6])
    value[conversation == 2] = NAN
    none = survival(value, 1.0, conversation, turn)
    np.testing.assert_array_equal(none.turn, [4, 5])
    assert (none.survival == 1).all() and (none.low == 1).all() and (none.high == 1).all()
    assert none.median.value is None and none.median.low is None and none.n_empty == 1
    every = curve([1, 1, 2, 2], [3, 3, 3, 3])
    np.testing.assert_array_equal(every.survival, [0.5, 0.0])
    assert every.median.value == 1 and np.isnan(every.low[1]) and every.median.high is None
    empty = survival([NAN], 1.0, [0], [1])
    assert len(empty.turn) == 0 and empty.n_empty == 1 and empty.median.value is None


def ragged(n: int, rng: np.random.Generator, least: int = 5, most: int = 12) -> tuple[np.ndarray, np.ndarray]:
    lengths = rng.integers(least, most + 1, n)
    return np.repeat(np.arange(n), lengths), np.concatenate([np.arange(k) for k in lengths])


def test_slope_is_least_squares_with_a_level_per_conversation() -> None:
    rng = np.random.default_rng(0)
    conversation, turn = ragged(12, rng)
    y = rng.normal(size=len(turn)) + 0.2 * turn + rng.normal(size=12)[conversation]
    design = np.concatenate([turn[:, None], conversation[:, None] == np.arange(12)], axis=1).astype(float)
    expected = np.linalg.lstsq(design, y, rcond=None)[0][0]
    found = slope(np.append(y, [NAN, 3.0]), np.append(conversation, [0, 99]), np.append(turn, [50, 1]))
    assert found.slope.value == pytest.approx(expected)
    assert found.n_conversations == 12 and found.n_values == len(y)  # 99 has one turn only
    assert found.slope.low is not None and found.slope.high is not None
    assert found.slope.low < expected < found.slope.high


def test_slope_is_not_faked_by_conversations_that_end() -> None:
    conversation, turn = ragged(40, np.random.default_rng(0))
    level = np.bincount(conversation)[conversation].astype(float)  # the longer, the higher; flat inside
    assert np.polyfit(turn, level, 1)[0] > 0.1
    found = slope(level, conversation, turn)
    assert (found.slope.value, found.slope.low, found.slope.high) == (0, 0, 0)
    assert change_point(level, conversation, turn).turn.value is None


def test_slope_interval_covers() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        conversation, turn = ragged(15, rng)
        y = (0.1 + 0.2 * rng.normal(size=15))[conversation] * turn + rng.normal(size=len(turn))
        found = slope(y, conversation, turn, n_resamples=300, seed=seed).slope
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


@pytest.mark.parametrize("kind", ["mean", "slope"])
def test_change_point_is_the_best_fit_to_the_means_by_turn(kind: str) -> None:
    rng = np.random.default_rng(3)
    n, k = 9, 10
    conversation, turn = np.repeat(np.arange(n), k), np.tile(np.arange(k), n) * 2 + 1
    y = rng.normal(size=n * k) + 0.4 * (turn > 9) * (turn - 9)
    series, at = y.reshape(n, k).mean(axis=0), np.arange(k) * 2 + 1
    fits = []
    for t in at[1:] if kind == "mean" else at[1:-1]:
        columns = [np.ones(k), at >= t] if kind == "mean" else [np.ones(k), at, np.maximum(at - t, 0)]
        design = np.stack(columns, axis=1).astype(float)
        beta = np.linalg.lstsq(design, series, rcond=None)[0]
        fits.append((float(((series - design @ beta) ** 2).sum()), float(t), float(beta[-1])))
    _, expected_turn, expected_change = min(fits)
    found = change_point(y, conversation, turn, kind=kind, n_resamples=200, n_permutations=99)  # type: ignore[arg-type]
    assert found.turn.value == expected_turn
    assert found.change.value == pytest.approx(expected_change)
    assert found.p is not None and found.p >= 1 / 100
    assert found.turn.low in at and found.turn.high in at and found.turn.low <= expected_turn <= found.turn.high


def test_change_point_of_unequal_conversations_is_least_squares() -> None:
    rng = np.random.default_rng(1)
    conversation, turn = ragged(8, rng, 3, 9)
    y = rng.normal(size=len(turn)) + rng.normal(size=8)[conversation] * 3 + 1.5 * (turn >= 4)
    levels = (conversation[:, None] == np.arange(8)).astype(float)
    for kind, base in (("mean", []), ("slope", [turn])):
        fits = []
        for t in range(1, turn.max() + (kind == "mean")):
            last = turn >= t if kind == "mean" else np.maximum(turn - t, 0)
            design = np.column_stack([levels, *base, last]).astype(float)
            beta, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
            if rank == design.shape[1]:
                fits.append((float(((y - design @ beta) ** 2).sum()), float(t), float(beta[-1])))
        _, expected_turn, expected_change = min(fits)
        found = change_point(y, conversation, turn, kind=kind, n_resamples=50, n_permutations=49)  # type: ignore[arg-type]
        assert found.turn.value == expected_turn
        assert found.change.value == pytest.approx(expected_change)


def test_change_point_finds_a_break_and_tells_drift_from_it() -> None:
    rng = np.random.default_rng(0)
    conversation, turn = ragged(30, rng, 8, 12)
    noise = rng.normal(size=len(turn))
    step = change_point(noise + 2.0 * (turn >= 5), conversation, turn, n_resamples=300, n_permutations=199)
    assert step.turn.value == 5 and step.p == 1 / 200
    assert step.change.low is not None and step.change.high is not None and step.change.low < 2 < step.change.high
    drift = noise + 0.3 * turn
    assert change_point(drift, conversation, turn, n_resamples=50, n_permutations=199).p == 1 / 200
    straight = change_point(drift, conversation, turn, kind="slope", n_resamples=50, n_permutations=199).p
    assert straight is not None and straight > 0.05


def test_change_point_sign_flips_by_brute_force() -> None:
    rng = np.random.default_rng(2)
    n, k = 6, 5
    y = rng.normal(size=(n, k)) + np.array([0, 0, 0, 1, 1])
    conversation, turn = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    centred = y - y.mean(axis=1, keepdims=True)

    def squares(table: np.ndarray) -> float:
        means = table.mean(axis=0)
        return max(n * t * (k - t) / k * (means[t:].mean() - means[:t].mean()) ** 2 for t in range(1, k))

    flips = [squares(np.array(s)[:, None] * centred) for s in itertools.product([-1, 1], repeat=n)]
    expected = np.mean(np.array(flips) >= squares(centred) * (1 - 1e-9))
    found = change_point(y.ravel(), conversation, turn, n_resamples=10, n_permutations=4999)
    assert found.p == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 5000))


def test_change_point_keeps_its_level_with_inertia() -> None:
    rng = np.random.default_rng(0)
    found = []
    for seed in range(200):
        noise = rng.normal(size=(15, 10))
        for t in range(1, 10):
            noise[:, t] = 0.8 * noise[:, t - 1] + 0.6 * noise[:, t]
        found.append(
            change_point(
                noise.ravel(),
                np.repeat(np.arange(15), 10),
                np.tile(np.arange(10), 15),
                n_resamples=1,
                n_permutations=99,
                seed=seed,
            ).p
        )
    assert np.mean(np.array(found) <= 0.05) < 0.05 + 3 * 0.0154


def test_too_little_for_a_trend() -> None:
    for values, conversation, turn in (([], [], []), ([1.0, 2.0], [0, 1], [1, 1]), ([1.0, NAN], [0, 0], [1, 2])):
        assert slope(values, conversation, turn).slope.value is None
        found = change_point(values, conversation, turn)
        assert found.turn.value is None and found.p is None
    two = change_point([1.0, 2.0, 4.0, 1.0], [0, 0, 1, 1], [1, 2, 1, 2], kind="slope")  # no turn lies inside
    assert two.turn.value is None
    alone = slope([1.0, 2.0, 4.0], [0, 0, 0], [1, 2, 3])
    assert alone.slope.value == pytest.approx(1.5) and alone.slope.low is None
    line = change_point(
        np.tile(np.arange(6) * 0.1, 4), np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4), kind="slope"
    )
    assert line.turn.value is None and line.p == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2), "0 <= n_over <= n"),
        (lambda: rates([1.0], 0.5, cluster=[0, 1]), "one entry per row"),
        (lambda: rates([1.0], 0.5, bucket=[2], n_buckets=2), r"must lie in \[-1, 2\)"),
        (lambda: wilson(1, 2, 1.0), "confidence must lie between 0 and 1"),
        (lambda: rates([1.0, 0.0], 0.5, cluster=[0, 1], confidence=95), "confidence must lie between 0 and 1"),
        (lambda: survival([1.0], 0.5, [0], [0], confidence=0), "confidence must lie between 0 and 1"),
        (lambda: survival([1.0], 0.5, [0, 1], [0]), "one entry per row"),
        (lambda: survival([1.0, 1.0], 0.5, [0, 1], [0, NAN]), "that of row 1 is nan"),
        (lambda: slope([np.inf, 1.0], [0, 0], [0, 1]), "must be finite"),
        (lambda: slope([2.0, 1.0], [0, 0], [0, 1], n_resamples=0), "n_resamples"),
        (lambda: change_point([1.0], [0], [0], kind="median"), "kinds are mean, slope"),  # type: ignore[arg-type]
        (lambda: change_point([1.0], [0], [0], n_permutations=0), "n_permutations"),
    ],
)
def test_wrong_arguments(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
