from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from affectcore.errors import UsageError
from affectcore.stats.calibration import _best, activate, calibrate, choose_thresholds, log_loss, platt
from affectcore.stats.evaluation import evaluate
from affectcore.stats.optimize import minimize


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(logits.shape) < activate(logits, "multi_label")).astype(float)


def test_activations_at_the_extremes() -> None:
    z = np.array([[-1e4, 0.0, 1e4]])
    np.testing.assert_array_equal(activate(z, "multi_label"), [[0, 0.5, 1]])
    np.testing.assert_array_equal(activate(z, "single_label"), [[0, 0, 1]])
    np.testing.assert_array_equal(activate(z, "regression", low=-1, high=2), [[-1, 0, 2]])
    np.testing.assert_array_equal(activate([[1.0]], "regression", 2.0, 0.5, -9, 9), [[2.5]])
    assert np.isfinite(log_loss([[0.0, 1.0]], [[1.0, 0.0]], "multi_label")).all()


def test_platt_is_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 3)) * [1, 3, 0.3] + [0, -6, 2]
    y = drawn(z * [0.5, 0.4, 2] + [1, -1, 0])
    scale, shift = platt(z, y, prior=0.0)
    for j in range(3):
        model = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(z[:, [j]], y[:, j])
        assert scale[j] == pytest.approx(model.coef_[0, 0], rel=1e-4)
        assert shift[j] == pytest.approx(model.intercept_[0], rel=1e-3, abs=1e-4)


def test_platt_minimizes_what_it_says() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(60, 1)) * 2
    y = drawn(z - 1)
    scale, shift = platt(z, y)

    def loss(a: float, b: float) -> float:
        return float(60 * log_loss(activate(z, "multi_label", a, b), y, "multi_label").mean() + (a - 1) ** 2 + b**2)

    best = loss(scale[0], shift[0])
    for da, db in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(scale[0] + da, shift[0] + db) > best


@pytest.mark.parametrize("positives", [0, 1, 200])
def test_labels_without_rows_stay_finite(positives: int) -> None:
    z = np.random.default_rng(2).normal(size=(200, 1)) - 4
    y = np.zeros((200, 1))
    y[:positives] = 1
    scale, shift = platt(z, y)
    assert np.isfinite([scale, shift]).all() and abs(shift[0]) < 15
    assert calibrate(z, y, "multi_label").method in ("none", "temperature", "platt")


def test_calibration_never_turns_the_order_round() -> None:
    z = np.random.default_rng(3).normal(size=(500, 1))
    y = drawn(-2 * z)  # the head has it backwards
    scale, shift = platt(z, y)
    assert scale[0] == pytest.approx(0.05)
    # Given that scale, the shift is still the best one.
    best = log_loss(activate(z, "multi_label", scale, shift), y, "multi_label").sum() + shift[0] ** 2
    for change in (-0.02, 0.02):
        moved = shift + change
        assert log_loss(activate(z, "multi_label", scale, moved), y, "multi_label").sum() + moved[0] ** 2 > best


def test_the_right_method_is_chosen() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(3000, 4)) * 2 - 1
    y = drawn(truth)
    assert calibrate(truth, y, "multi_label").method == "none"
    hot = calibrate(truth * 3, y, "multi_label")
    np.testing.assert_allclose(hot.scale, 1 / 3, rtol=0.15)
    shifted = calibrate(truth * 2 + [1, -1, 2, 0], y, "multi_label")
    assert shifted.method == "platt" and shifted.losses["platt"] < shifted.losses["temperature"]
    np.testing.assert_allclose(shifted.scale, 0.5, rtol=0.15)
    np.testing.assert_allclose(shifted.shift, [-0.5, 0.5, -1, 0], atol=0.2)
    assert shifted.scale.dtype == shifted.shift.dtype == np.float32


def test_calibration_lowers_the_calibration_error_on_other_rows() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(4000, 3)) * 2 - 2
    y = drawn(truth)
    logits = truth * 2.5 + 1
    found = calibrate(logits[:2000], y[:2000], "multi_label")

    def error(scale: object, shift: object) -> float:
        p = activate(logits[2000:], "multi_label", scale, shift)  # type: ignore[arg-type]
        result = evaluate(p, y[2000:], kind="multi_label", labels="abc", n_resamples=0)
        return result.overall["macro_ece"].value or 0.0

    assert error(found.scale, found.shift) < 0.02 < error(1.0, 0.0)


def test_softmax_temperature_and_bias() -> None:
    rng = np.random.default_rng(6)
    truth = rng.normal(size=(3000, 3)) * 2
    y = np.array([rng.choice(3, p=p) for p in activate(truth, "single_label")])
    hot = calibrate(truth * 4, y, "single_label")
    np.testing.assert_allclose(hot.scale, 0.25, rtol=0.1)
    assert np.unique(hot.scale).size == 1
    tilted = calibrate(truth + np.array([0, 2, -1]), y, "single_label")
    assert tilted.method == "bias"
    assert tilted.shift[1] - tilted.shift[0] == pytest.approx(-2, abs=0.3)
    unknown = np.concatenate([y, [-1] * 50])
    padded = np.concatenate([truth * 4, rng.normal(size=(50, 3))])
    assert calibrate(padded, unknown, "single_label").scale.tolist() == pytest.approx(hot.scale.tolist(), rel=0.02)


def test_regression_is_recalibrated_only_where_that_helps() -> None:
    rng = np.random.default_rng(7)
    y = rng.normal(size=(500, 2))
    squeezed = calibrate(0.3 * y + 1 + 0.01 * rng.normal(size=y.shape), y, "regression")
    assert squeezed.method == "linear"
    np.testing.assert_allclose(squeezed.scale, 1 / 0.3, rtol=0.05)
    assert calibrate(y + rng.normal(size=y.shape) * 0.0, y, "regression").scale.tolist() == pytest.approx(
        [1, 1], abs=0.01
    )


def test_too_few_rows_are_left_as_they_are() -> None:
    found = calibrate(np.zeros((20, 2)), np.ones((20, 2)), "multi_label")
    assert (found.method, found.losses) == ("none", {})
    np.testing.assert_array_equal(found.scale, 1)


def test_groups_stay_in_one_fold() -> None:
    # Each text is there ten times with its label: folds that cut groups would judge memory.
    rng = np.random.default_rng(8)
    z = np.repeat(rng.normal(size=(30, 1)), 10, axis=0)
    y = np.repeat(drawn(rng.normal(size=(30, 1))), 10, axis=0)
    group = np.repeat(np.arange(30), 10)
    assert calibrate(z, y, "multi_label", group=group).losses != calibrate(z, y, "multi_label").losses
    first, again = (calibrate(z, y, "multi_label", group=group, seed=2) for _ in range(2))
    assert first.losses == again.losses


# Thresholds


def brute(p: np.ndarray, y: np.ndarray) -> float:
    """The highest F1 that any threshold reaches."""
    return max(2 * y[p >= t].sum() / max((p >= t).sum() + y.sum(), 1) for t in p)


@given(st.integers(0, 200))
def test_strength_zero_is_the_observed_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.round(rng.random((40, 1)), 1)
    y = (rng.random((40, 1)) < p).astype(float)
    y[0] = 1
    limit = _best(p, y, 0.0)[0]
    given_label = p[:, 0] >= limit
    reached = 2 * y[given_label].sum() / (given_label.sum() + y.sum())
    assert reached == pytest.approx(brute(p[:, 0], y[:, 0]))


def test_infinite_strength_is_the_expected_optimum() -> None:
    p = np.random.default_rng(0).beta(1, 5, size=(500, 1))
    limit = _best(p, np.zeros_like(p), np.inf)[0]
    expected = {t: 2 * p[p >= t].sum() / ((p >= t).sum() + p.sum()) for t in p[:, 0]}
    assert expected[min(t for t in p[:, 0] if t >= limit)] == pytest.approx(max(expected.values()))
    # The optimum of calibrated scores is half the F1 it reaches (Lipton et al. 2014).
    assert limit == pytest.approx(max(expected.values()) / 2, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_few_positives_do_not_set_the_threshold_alone(seed: int) -> None:
    # Ten positives a label: on other rows, the chosen thresholds beat those that were best on these.
    rng = np.random.default_rng(seed)
    p = rng.beta(0.1, 20, size=(22_000, 30))
    y = (rng.random(p.shape) < p).astype(float)
    chosen = choose_thresholds(p[:2000], y[:2000], seed=seed)
    assert chosen.strength > 0 and chosen.f1[chosen.strength] == max(chosen.f1.values())

    def fresh(limits: np.ndarray) -> float:
        given_label = p[2000:] >= limits
        both = (given_label * y[2000:]).sum(axis=0)
        return float((2 * both / (given_label.sum(axis=0) + y[2000:].sum(axis=0))).mean())

    assert fresh(chosen.values) > fresh(_best(p[:2000], y[:2000], 0.0))


def test_thresholds_of_few_rows_and_wrong_shapes() -> None:
    p = np.array([[0.1], [0.9], [0.8]])
    few = choose_thresholds(p, np.array([[0], [1], [1]]))
    assert few.strength == np.inf and few.values.dtype == np.float32
    with pytest.raises(UsageError, match="same shape"):
        choose_thresholds(p, np.zeros((3, 2)))
    with pytest.raises(UsageError, match="one row per text"):
        calibrate(p, np.zeros((2, 1)), "multi_label")


# Minimization


def test_minimize_a_long_valley() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 30))
    h = a @ a.T + np.diag(np.geomspace(1e-3, 1e3, 30))
    b = rng.normal(size=30)
    x = minimize(lambda x: (float(x @ h @ x / 2 - b @ x), h @ x - b), np.zeros(30), iterations=2000, tolerance=1e-12)
    best = np.linalg.solve(h, b)
    assert x @ h @ x / 2 - b @ x == pytest.approx(best @ h @ best / 2 - b @ best, rel=1e-6)


def test_minimize_stops_at_the_minimum_and_where_nothing_helps() -> None:
    calls = []

    def flat(x: np.ndarray) -> tuple[float, np.ndarray]:
        calls.append(1)
        return 0.0, np.zeros_like(x)

    np.testing.assert_array_equal(minimize(flat, np.ones(3)), np.ones(3))
    assert len(calls) == 1
    lying = minimize(lambda x: (float(np.abs(x).sum()), -np.sign(x)), np.ones(2))  # the gradient points the wrong way
    np.testing.assert_array_equal(lying, np.ones(2))
