from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from affectcore.errors import UsageError
from affectcore.stats.paired import cliffs_delta, cluster_means, compare_paired, holm, sign_flip, wilcoxon
from affectcore.stats.power import minimum_detectable_effect, paired_power, required_pairs

NAN = float("nan")
few_scores = hnp.arrays(float, st.integers(1, 12), elements=st.integers(-3, 3).map(float))


def test_effect_sizes_by_their_definitions() -> None:
    x, y = np.array([3.0, 5.0, 4.0, 8.0, 6.0]), np.array([2.0, 5.0, 1.0, 4.0, 7.0])
    d = [1.0, 0.0, 3.0, 4.0, -1.0]
    found = compare_paired(x, y)
    assert found.n_pairs.tolist() == [5] and found.n_unpaired.tolist() == [0]
    assert found.difference[0] == pytest.approx(1.4)
    sd = np.sqrt(sum((v - 1.4) ** 2 for v in d) / 4)
    assert found.sd[0] == pytest.approx(sd)
    assert found.d_z[0] == pytest.approx(1.4 / sd)
    assert found.d_av[0] == pytest.approx(1.4 / ((np.std(x, ddof=1) + np.std(y, ddof=1)) / 2))
    assert found.cliffs_delta[0] == pytest.approx((3 - 1) / 5)
    # d_z is what the paired t-test sees.
    assert found.d_z[0] * np.sqrt(5) == pytest.approx(stats.ttest_rel(x, y).statistic)


def test_missing_clusters_are_left_out_pair_by_pair_and_counted() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    x[:5, 0], x[10, 1], y[10:12] = NAN, NAN, NAN
    found = compare_paired(x, y, seed=3)
    np.testing.assert_array_equal(found.n_pairs, [33, 38, 38])
    np.testing.assert_array_equal(found.n_unpaired, [7, 1, 2])
    for j in range(3):
        both = ~np.isnan(x[:, j]) & ~np.isnan(y[:, 0])
        alone = compare_paired(x[both, j], y[both, 0], seed=3)
        for name in ("difference", "sd", "d_z", "d_av", "cliffs_delta", "p_wilcoxon"):
            assert getattr(found, name)[j] == pytest.approx(getattr(alone, name)[0]), name
        assert found.p_permutation[j] == pytest.approx(alone.p_permutation[0], abs=0.03)  # other flips


def test_what_pairs_cannot_tell_is_nan() -> None:
    nothing = compare_paired([NAN, 1.0], [1.0, NAN])
    assert nothing.n_pairs[0] == 0 and nothing.n_unpaired[0] == 2
    for name in ("difference", "sd", "d_z", "d_av", "cliffs_delta", "p_wilcoxon", "p_permutation"):
        assert np.isnan(getattr(nothing, name)[0]), name
    one = compare_paired([2.0], [1.0])
    assert one.difference[0] == 1 and one.cliffs_delta[0] == 1 and one.p_permutation[0] == 1
    assert np.isnan(one.sd[0]) and np.isnan(one.d_z[0])
    equal = compare_paired([0.1, 0.2, 0.7], [0.1, 0.2, 0.7])
    assert equal.difference[0] == 0 and equal.p_wilcoxon[0] == 1 and equal.p_permutation[0] == 1
    assert np.isnan(equal.d_z[0])
    none = compare_paired(np.empty((0, 2)), np.empty((0, 2)))
    assert none.n_pairs.tolist() == [0, 0] and np.isnan(none.p_permutation).all()


def test_rounding_makes_no_difference_where_there_is_none() -> None:
    base = np.array([0.1, 0.2, 0.3, 0.7, 1.1])
    constant = compare_paired(base + 0.1, base)  # 0.1 and 0.09999999999999998
    assert constant.sd[0] == 0 and np.isnan(constant.d_z[0]) and constant.difference[0] == pytest.approx(0.1)
    # 0.3 - 0.2 and 0.2 - 0.1 tie, as 3 - 2 and 2 - 1 do.
    x, y = np.array([3, 2, 1, 5, 4, 9, 3]), np.array([2, 1, 2, 2, 2, 4, 4])
    whole, tenths = compare_paired(x, y), compare_paired(x / 10, y / 10)
    assert tenths.p_wilcoxon[0] == whole.p_wilcoxon[0]
    assert tenths.p_permutation[0] == whole.p_permutation[0]


def test_cluster_means() -> None:
    values = np.array([[1.0, NAN], [3.0, NAN], [5.0, 2.0], [NAN, 4.0]])
    found = cluster_means(values, [2, 2, 0, 0], 4)
    np.testing.assert_array_equal(found, [[5, 3], [NAN, NAN], [2, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(cluster_means([4.0, 2.0], [1, 1]), [NAN, 3.0])


def test_several_samples_of_a_prompt_are_one_pair() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (2, 30))
    effect = rng.normal(size=30)
    means = []
    for n in counts:
        cluster = np.repeat(np.arange(30), n)
        means.append(cluster_means(effect[cluster] + rng.normal(size=len(cluster)), cluster))
    found = compare_paired(*means)
    assert found.n_pairs[0] == 30
    assert found.difference[0] == pytest.approx(np.mean(means[0] - means[1]))


@given(few_scores, few_scores)
def test_cliffs_delta_counts_pairs(x: np.ndarray, y: np.ndarray) -> None:
    expected = np.mean([np.sign(a - b) for a in x for b in y])
    assert cliffs_delta(x, y) == pytest.approx(expected, abs=1e-12)
    assert cliffs_delta(np.append(x, NAN), y) == pytest.approx(expected, abs=1e-12)


def test_cliffs_delta_is_a_rescaled_u_and_nan_without_values() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.3, size=300), rng.normal(size=200)
    u = stats.mannwhitneyu(x, y).statistic
    assert cliffs_delta(x, y) == pytest.approx(2 * u / 300 / 200 - 1)
    assert np.isnan(cliffs_delta([NAN], y))


@given(hnp.arrays(float, st.integers(1, 10), elements=st.integers(-4, 4).map(float)))
def test_sign_flip_of_few_pairs_is_exact(d: np.ndarray) -> None:
    sums = np.array([abs(np.dot(s, d)) for s in itertools.product([-1, 1], repeat=len(d))])
    expected = np.mean(sums >= abs(d.sum()) - 1e-9)
    assert sign_flip(d, n_resamples=1024)[0] == pytest.approx(expected)


def test_sign_flip_is_scipys_permutation_test() -> None:
    d = np.random.default_rng(1).normal(0.35, 1, size=30)
    other = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0).pvalue
    found = sign_flip(d, n_resamples=20_000, seed=4)[0]
    assert found == pytest.approx(other, abs=0.008)
    assert found == sign_flip(np.stack([d, -d], axis=1), n_resamples=20_000, seed=4)[1]
    assert found != sign_flip(d, n_resamples=20_000, seed=5)[0]


def test_sign_flip_is_never_zero_and_says_what_it_can() -> None:
    assert sign_flip(np.full(100, 1.0), n_resamples=99)[0] == 1 / 100  # (0 + 1) / (99 + 1)
    assert sign_flip([1.0, 2.0, 3.0], n_resamples=8)[0] == 2 / 8  # both all-equal signs
    np.testing.assert_array_equal(sign_flip([[NAN], [NAN]]), [NAN])


def test_tests_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    d = rng.exponential(size=(25, 2000)) * rng.choice([-1, 1], (25, 2000))
    share = np.mean(sign_flip(d, n_resamples=999) <= 0.05)
    assert 0.05 - 4 * 0.0049 < share < 0.05 + 4 * 0.0049
    assert np.mean(sign_flip(d + 0.7, n_resamples=999) <= 0.05) > 0.5


def test_wilcoxon_is_scipys_whatever_stands_beside() -> None:
    rng = np.random.default_rng(0)
    for n in (8, 30, 60):
        d = np.round(rng.normal(0.4, 1, size=(n, 4)), 1)
        d[0, 0], d[:3, 1], d[:, 3] = 0.0, NAN, 0.0
        d[:, 2] = rng.normal(size=n)
        found = wilcoxon(d)
        for j in range(3):
            known = d[~np.isnan(d[:, j]), j]
            assert found[j] == pytest.approx(stats.wilcoxon(known, zero_method="pratt").pvalue, rel=1e-12)
        assert found[3] == 1


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; the last may not fall below those before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.6, 0.5, 0.001]), [1.0, 1.0, 0.003])
    np.testing.assert_allclose(holm([0.2]), [0.2])
    # Missing ones are not tests that were made: a family of 2, and one of 1.
    found = holm([[0.01, NAN, 0.04], [NAN, NAN, 0.04]])
    np.testing.assert_allclose(found, [[0.02, NAN, 0.04], [NAN, NAN, 0.04]])
    assert holm([]).shape == (0,)


@given(hnp.arrays(float, st.integers(1, 8), elements=st.floats(0, 1)), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: np.ndarray, alpha: float) -> None:
    rejected = np.zeros(len(p), bool)
    for i, j in enumerate(np.argsort(p, kind="stable")):
        if p[j] * (len(p) - i) > alpha:
            break
        rejected[j] = True
    np.testing.assert_array_equal(holm(p) <= alpha, rejected)


@pytest.mark.parametrize(
    ("effect", "sd", "n", "alpha"), [(0.5, 1.0, 30, 0.05), (2.0, 7.0, 12, 0.01), (0.0, 1.0, 9, 0.1)]
)
def test_power_is_that_of_the_noncentral_t(effect: float, sd: float, n: int, alpha: float) -> None:
    limit, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect * np.sqrt(n) / sd
    expected = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    assert paired_power(effect, sd, n, alpha=alpha) == pytest.approx(expected, rel=1e-9)
    assert paired_power(-effect, sd, n, alpha=alpha) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 10, 805, 100_000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.99])
def test_the_minimum_detectable_effect_is_found_with_the_power(n: int, power: float) -> None:
    found = minimum_detectable_effect([0.3, 0.0, NAN], n, power=power)
    assert paired_power(found[0], 0.3, n) == pytest.approx(power, abs=1e-8)
    assert found[1] == 0 and np.isnan(found[2])


def test_the_minimum_detectable_effect_of_many_is_that_of_the_normal_approximation() -> None:
    found = minimum_detectable_effect(1.0, 10**6)
    assert found == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / 1000, rel=1e-4)
    assert np.isnan(minimum_detectable_effect(1.0, 1))


def test_power_by_simulation() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(float(minimum_detectable_effect(2.0, 20)), 2.0, size=(20, 20_000))
    assert np.mean(stats.ttest_1samp(d, 0).pvalue < 0.05) == pytest.approx(0.8, abs=4 * 0.0028)


@pytest.mark.parametrize("effect", [5.0, 0.5, -0.2, 0.011])
def test_required_pairs_is_the_least_number(effect: float) -> None:
    n = required_pairs(effect, 1.0)
    assert paired_power(effect, 1.0, n) >= 0.8
    assert n == 2 or paired_power(effect, 1.0, n - 1) < 0.8
    assert float(minimum_detectable_effect(1.0, n)) <= abs(effect)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_paired([1.0, 2.0], [1.0]), "one row per cluster"),
        (lambda: compare_paired([1.0, np.inf], [1.0, 2.0]), "row 1 is infinite"),
        (lambda: compare_paired(np.zeros((2, 2, 2)), np.zeros((2, 2))), "one or two dimensions"),
        (lambda: cluster_means([1.0], [0, 1]), "one entry per row"),
        (lambda: cluster_means([1.0], [3], 2), r"must lie in \[0, 2\)"),
        (lambda: sign_flip([1.0], n_resamples=0), "n_resamples must be at least 1"),
        (lambda: holm([0.5, 1.2]), r"lie in \[0, 1\]"),
        (lambda: holm(0.5), "families"),
        (lambda: paired_power(1.0, 0.0, 5), "standard deviation must be above 0"),
        (lambda: paired_power(1.0, 1.0, 1), "2 pairs at least"),
        (lambda: minimum_detectable_effect(-1.0, 5), "not negative"),
        (lambda: minimum_detectable_effect(1.0, 5, power=0.01), "alpha < power"),
        (lambda: required_pairs(0.0, 1.0), "not 0"),
        (lambda: required_pairs(1e-9, 1.0), "too small"),
    ],
)
def test_wrong_arguments(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    for call in (lambda: wilcoxon([1.0, 2.0]), lambda: required_pairs(1.0, 1.0)):
        with pytest.raises(UsageError, match=r"pip install 'affectcore\[stats\]'"):
            call()


def test_values_near_the_largest_number_warn_nobody() -> None:
    values = np.array([[1e308, 1.0], [1e308, 2.0], [-1e308, 3.0]])
    found = compare_paired(values, values[:, :1], rank_test=False)  # warnings are errors here
    assert not np.isfinite(found.difference[1]) or abs(found.difference[1]) > 1e307
