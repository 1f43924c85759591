from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from affectcore.errors import UsageError
from affectcore.stats.evaluation import evaluate
from affectcore.stats.reliability import consistency, stated_confidence

NAN = float("nan")

# Shrout & Fleiss 1979, table 2: six targets, four judges; ICC(1, 1) is 0.17 there.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_icc_of_shrout_and_fleiss() -> None:
    found = consistency(JUDGES.ravel(), np.repeat(np.arange(6), 4))
    between, within = stats.f_oneway(*JUDGES).statistic, JUDGES.var(axis=1, ddof=1).mean()
    assert found.icc.value == pytest.approx(0.17, abs=0.005)
    assert found.icc.value == pytest.approx((between - 1) / (between + 3))
    assert found.within_sd == pytest.approx(math.sqrt(within))
    assert (found.n_values, found.n_prompts, found.n_repeated) == (24, 6, 6)
    # McGraw & Wong 1996, table 7: F over and under the quantiles of F.
    lower, upper = between / stats.f.ppf(0.975, 5, 18), between * stats.f.ppf(0.975, 18, 5)
    assert found.icc.low == pytest.approx((lower - 1) / (lower + 3))
    assert found.icc.high == pytest.approx((upper - 1) / (upper + 3))


def test_icc_of_unequal_groups_by_the_definition() -> None:
    groups = [[1.0, 2.0, 4.0], [6.0, 5.0], [3.0], [9.0, 7.0, 8.0, 8.5]]
    values = np.concatenate([*groups, [NAN, NAN]])
    prompt = np.array([5, 5, 5, 2, 2, 9, 7, 7, 7, 7, 7, 11])
    found = consistency(values, prompt)
    n, k, grand = 10, 4, np.nanmean(values)
    between = sum(len(g) * (np.mean(g) - grand) ** 2 for g in groups) / (k - 1)
    within = sum(((np.array(g) - np.mean(g)) ** 2).sum() for g in groups) / (n - k)
    size = (n - sum(len(g) ** 2 for g in groups) / n) / (k - 1)
    assert found.icc.value == pytest.approx((between - within) / (between + (size - 1) * within))
    assert found.within_sd == pytest.approx(math.sqrt(within))
    assert (found.n_values, found.n_prompts, found.n_repeated) == (10, 4, 3)


def test_icc_and_within_sd_recover_what_was_simulated_and_the_interval_covers() -> None:
    rng = np.random.default_rng(0)
    icc, sd, covered = [], [], 0
    for _ in range(400):
        prompt = np.repeat(np.arange(30), rng.integers(1, 8, 30))
        values = rng.normal(size=30)[prompt] + 1.5 * rng.normal(size=len(prompt))
        found = consistency(values, prompt)
        assert found.icc.value is not None and found.icc.low is not None and found.icc.high is not None
        icc.append(found.icc.value)
        sd.append(found.within_sd)
        covered += found.icc.low <= 1 / 3.25 <= found.icc.high
    assert np.mean(icc) == pytest.approx(1 / 3.25, abs=0.02)
    assert np.mean(sd) == pytest.approx(1.5, abs=0.02)
    assert 0.92 < covered / 400 < 0.985


def test_consistency_of_too_little_is_null() -> None:
    single = consistency([1.0, 2.0, 3.0], [0, 1, 2])
    assert single.within_sd is None and single.icc.value is None and single.n_repeated == 0
    assert consistency([], []).n_prompts == 0
    one = consistency([1.0, 2.0, NAN], [0, 0, 1])
    assert one.within_sd == pytest.approx(math.sqrt(0.5)) and one.icc.value is None
    flat = consistency(np.full(6, 0.1), [0, 0, 0, 1, 1, 1])
    assert flat.within_sd == 0 and flat.icc.value is None
    same = consistency(np.repeat([0.1, 0.3], 3), np.repeat([0, 1], 3))  # the mean of three 0.1 is not 0.1
    assert same.within_sd == 0 and same.icc.value == 1 and same.icc.low is None


def test_icc_can_be_negative() -> None:
    found = consistency(np.tile([0.0, 1.0], 8), np.repeat(np.arange(8), 2))
    assert found.icc.value == pytest.approx(-1)


def answers(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    stated = np.round(rng.beta(8, 2, n), 1)
    return stated, (rng.random(n) < stated**2).astype(float)


def test_calibration_is_that_of_evaluate() -> None:
    stated, correct = answers()
    found = stated_confidence(stated, correct)
    other = evaluate(stated[:, None], correct[:, None], kind="multi_label", labels=("x",), n_resamples=400)
    theirs = other.per_label["x"]["ece"]
    assert found.ece.value == pytest.approx(theirs.value)
    assert found.ece.low == pytest.approx(theirs.low, abs=0.006)
    assert found.ece.high == pytest.approx(theirs.high, abs=0.006)
    assert found.bins == other.reliability["x"]
    gaps = [
        b.n * abs(b.predicted - b.observed) for b in found.bins if b.predicted is not None and b.observed is not None
    ]
    assert found.ece.value == pytest.approx(sum(gaps) / 500)


def test_brier_accuracy_and_their_intervals() -> None:
    stated, correct = answers()
    found = stated_confidence(stated, correct)
    squares = (stated - correct) ** 2
    for figure, values in ((found.brier, squares), (found.accuracy, correct), (found.stated, stated)):
        assert figure.value == pytest.approx(values.mean())
        half = stats.t.ppf(0.975, 499) * stats.sem(values)
        assert figure.low == pytest.approx(values.mean() - half, abs=0.1 * half)
        assert figure.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bins_of_equal_mass() -> None:
    rng = np.random.default_rng(0)
    stated = 0.9 + 0.1 * rng.random(150)
    correct = (rng.random(150) < 0.8).astype(float)
    found = stated_confidence(stated, correct)
    order = np.argsort(stated)
    chunks = np.split(order, 15)
    assert [b.n for b in found.bins_equal_mass] == [10] * 15
    expected = sum(abs(stated[c].sum() - correct[c].sum()) for c in chunks) / 150
    assert found.ece_equal_mass.value == pytest.approx(expected)
    assert found.bins_equal_mass[0].low == stated.min() and found.bins_equal_mass[-1].high == stated.max()
    # Equal confidences share a bin, however many there are.
    tied = stated_confidence(np.repeat([0.5, 0.9, 1.0], [10, 200, 90]), np.ones(300))
    assert [(b.low, b.high, b.n) for b in tied.bins_equal_mass] == [(0.5, 0.5, 10), (0.9, 0.9, 200), (1.0, 1.0, 90)]


def test_the_clusters_widen_the_interval() -> None:
    stated, correct = answers(100)
    plain = stated_confidence(np.repeat(stated, 9), np.repeat(correct, 9)).brier
    clustered = stated_confidence(np.repeat(stated, 9), np.repeat(correct, 9), cluster=np.repeat(np.arange(100), 9))
    alone = stated_confidence(stated, correct)
    assert clustered.n_clusters == 100 and clustered.n == 900
    assert clustered.brier.low == pytest.approx(alone.brier.low) and clustered.brier.high == pytest.approx(
        alone.brier.high
    )
    assert clustered.ece.high == pytest.approx(alone.ece.high)
    assert plain.low is not None and clustered.brier.low is not None and plain.low > clustered.brier.low + 0.01


def test_a_calibrated_model_has_no_error_but_noise() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(40_000)
    found = stated_confidence(stated, (rng.random(40_000) < stated).astype(float), n_resamples=50)
    assert found.ece.value is not None and found.ece.value < 0.02
    assert found.brier.value == pytest.approx(1 / 6, abs=0.005)  # the mean of p (1 - p)


def test_stated_confidence_of_too_little() -> None:
    none = stated_confidence([NAN], [1.0])
    assert none.n == 0 and none.n_missing == 1 and none.ece.value is None and none.brier.value is None
    one = stated_confidence([0.8, 0.6], [1, 0], cluster=[3, 3])
    assert one.brier.value == pytest.approx(0.2) and one.brier.low is None
    same = [stated_confidence(*answers(50), seed=seed).brier.low for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: consistency([1.0], [0, 1]), "one entry per row"),
        (lambda: consistency([1.0, np.inf], [0, 1]), "row 1 is infinite"),
        (lambda: consistency([1.0, 2.0], [0, 0], confidence=1.5), "confidence must lie between 0 and 1"),
        (lambda: stated_confidence([0.5, 90], [1, 1]), "that of row 1 is 90: divide percentages by 100"),
        (lambda: stated_confidence([0.5], [0.5]), "outcomes are 0 or 1"),
        (lambda: stated_confidence([0.5], [1, 0]), "one entry per row"),
    ],
)
def test_wrong_arguments(call: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()  # type: ignore[operator]
