from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from affectcore.errors import UsageError
from affectcore.stats.evaluation import BINS, Evaluation, _Classifier, _Regression, evaluate, reliability

LABELS = ("a", "b", "c", "d")


def sample(n: int = 400, k: int = 4, seed: int = 0, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels that follow them."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(1, 3, size=(n, k)), decimals)
    return p, (rng.random((n, k)) < p).astype(float)


def value(result: Evaluation, name: str) -> float:
    found = result.overall[name].value
    assert found is not None
    return found


def test_multi_label_figures_are_scikit_learns() -> None:
    p, y = sample()
    limits = np.array([0.2, 0.3, 0.25, 0.4])
    result = evaluate(p, y, kind="multi_label", labels=LABELS, thresholds=limits, n_resamples=0)
    given = p >= limits
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, given)
    for j, label in enumerate(LABELS):
        figures = result.per_label[label]
        assert result.support[label] == support[j]
        expected = {
            "precision": precision[j],
            "recall": recall[j],
            "f1": f1[j],
            "auroc": sk.roc_auc_score(y[:, j], p[:, j]),
            "average_precision": sk.average_precision_score(y[:, j], p[:, j]),
        }
        for name, wanted in expected.items():
            assert figures[name].value == pytest.approx(wanted, abs=1e-12), name
    for name, wanted in {
        "macro_f1": f1.mean(),
        "micro_f1": sk.f1_score(y, given, average="micro"),
        "macro_precision": precision.mean(),
        "micro_recall": sk.recall_score(y, given, average="micro"),
        "macro_auroc": sk.roc_auc_score(y, p, average="macro"),
        "macro_average_precision": sk.average_precision_score(y, p, average="macro"),
    }.items():
        assert value(result, name) == pytest.approx(wanted, abs=1e-12), name


def test_single_label_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1, 2, 0.5], size=300)
    y = np.array([rng.choice(4, p=row) for row in p])
    result = evaluate(p, y, kind="single_label", labels=LABELS, n_resamples=0)
    chosen = p.argmax(axis=1)
    assert value(result, "accuracy") == pytest.approx(sk.accuracy_score(y, chosen))
    assert value(result, "macro_f1") == pytest.approx(sk.f1_score(y, chosen, average="macro"))
    assert value(result, "log_loss") == pytest.approx(sk.log_loss(y, p))
    assert value(result, "macro_auroc") == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    assert result.thresholds is None


def test_regression_figures_are_scikit_learns() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    y = np.round(rng.normal(size=(200, 2)), 1)
    p = np.round(0.6 * y + rng.normal(size=y.shape), 1) + 5
    result = evaluate(p, y, kind="regression", labels=("u", "v"), n_resamples=0)
    for j, label in enumerate(("u", "v")):
        figures = result.per_label[label]
        for name, wanted in {
            "pearson": stats.pearsonr(p[:, j], y[:, j])[0],
            "spearman": stats.spearmanr(p[:, j], y[:, j])[0],
            "mae": sk.mean_absolute_error(y[:, j], p[:, j]),
            "r2": sk.r2_score(y[:, j], p[:, j]),
        }.items():
            assert figures[name].value == pytest.approx(wanted, abs=1e-9), name
    assert value(result, "pearson") == pytest.approx(
        np.mean([result.per_label[label]["pearson"].value for label in ("u", "v")])
    )


def ece(p: np.ndarray, y: np.ndarray) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for i in range(BINS):
        inside = (p >= i / BINS) & ((p < (i + 1) / BINS) | (i == BINS - 1))
        if inside.any():
            total += abs(p[inside].mean() - y[inside].mean()) * inside.mean()
    return total


def test_calibration_error_by_its_definition() -> None:
    p, y = sample(decimals=6)
    result = evaluate(p, y, kind="multi_label", labels=LABELS, n_resamples=0)
    each = [ece(p[:, j], y[:, j]) for j in range(4)]
    for label, wanted in zip(LABELS, each):
        assert result.per_label[label]["ece"].value == pytest.approx(wanted, abs=1e-12)
    assert value(result, "macro_ece") == pytest.approx(np.mean(each), abs=1e-12)
    table = result.reliability["(all)"]
    assert len(table) == BINS and sum(row.n for row in table) == p.size
    for row in table:
        inside = (p >= row.low) & (p < row.high)
        assert row.n == inside.sum()
        if row.n:
            assert row.predicted == pytest.approx(p[inside].mean()) and row.observed == pytest.approx(y[inside].mean())
        else:
            assert row.predicted is row.observed is None


def test_reliability_takes_the_edges_in() -> None:
    table = reliability([0.0, 1.0, 1.0], [0, 1, 0])
    assert (table[0].n, table[-1].n, table[-1].observed) == (1, 2, 0.5)


@given(hnp.arrays(np.int64, 30, elements=st.integers(0, 4)), st.integers(0, 5))
def test_a_weight_is_as_many_copies_of_a_row(weights: np.ndarray, seed: int) -> None:
    # What the bootstrap rests on: figures under weights are the figures of the repeated rows.
    p, y = sample(30, 2, seed, decimals=1)
    rows = np.repeat(np.arange(30), weights)
    w = np.stack([weights, np.ones(30)], axis=1).astype(float)
    if not len(rows):
        return
    many = _Classifier(p, y, "multi_label", None)
    few = _Classifier(p[rows], y[rows], "multi_label", None)
    few.judged = many.judged  # what is judged goes by the whole sample
    regression, repeated = _Regression(p, y + p), _Regression(p[rows], (y + p)[rows])
    for a, b in ((many, few), (regression, repeated)):
        for weighted, copied in zip(a.of(w), b.of(np.ones((len(rows), 1)))):  # type: ignore[attr-defined]
            assert weighted.keys() == copied.keys()
            for name in weighted:
                np.testing.assert_allclose(weighted[name][0], copied[name][0], atol=1e-6, err_msg=name)


def test_intervals_are_the_bootstrap_of_scikit_learns_figures() -> None:
    p, y = sample(250, 1, seed=4)
    result = evaluate(p, y, kind="multi_label", labels=("a",), thresholds=[0.3], n_resamples=1500, seed=1)
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"f1": [], "auroc": [], "average_precision": []}
    for _ in range(1500):
        rows = rng.integers(0, 250, 250)
        a, b = y[rows, 0], p[rows, 0]
        found["f1"].append(sk.f1_score(a, b >= 0.3))
        found["auroc"].append(sk.roc_auc_score(a, b))
        found["average_precision"].append(sk.average_precision_score(a, b))
    for name, replicates in found.items():
        figure = result.per_label["a"][name]
        low, high = np.quantile(replicates, [0.025, 0.975])
        width = high - low
        assert figure.low == pytest.approx(low, abs=0.12 * width) and figure.high == pytest.approx(
            high, abs=0.12 * width
        )


def test_the_interval_of_the_calibration_error_holds_the_estimate() -> None:
    p, y = sample(300, 2, seed=3, decimals=5)
    result = evaluate(p, y, kind="multi_label", labels=("a", "b"), n_resamples=300)
    figure = result.overall["macro_ece"]
    assert figure.low is not None and figure.value is not None and figure.high is not None
    assert 0 <= figure.low < figure.value < figure.high


def test_clusters_widen_intervals() -> None:
    # Every row is there five times: as single rows they fake certainty, as clusters they do not.
    p, y = sample(80, 1, seed=5)
    rows = np.repeat(np.arange(80), 5)
    options = {"kind": "multi_label", "labels": ("a",), "n_resamples": 400}
    alone = evaluate(p, y, **options).per_label["a"]["auroc"]  # type: ignore[arg-type]
    naive = evaluate(p[rows], y[rows], **options).per_label["a"]["auroc"]  # type: ignore[arg-type]
    result = evaluate(p[rows], y[rows], cluster=rows + 7, **options)  # type: ignore[arg-type]
    assert (result.n, result.n_clusters) == (400, 80)
    clustered = result.per_label["a"]["auroc"]

    def width(figure: object) -> float:
        return figure.high - figure.low  # type: ignore[attr-defined, no-any-return]

    assert width(clustered) == pytest.approx(width(alone), rel=1e-9)  # same draws, same weights
    assert width(naive) < 0.6 * width(clustered)


def test_a_label_without_positives_is_left_out() -> None:
    p, y = sample(200, 3)
    y[:, 1] = 0
    result = evaluate(p, y, kind="multi_label", labels=("a", "b", "c"), thresholds=[0.2] * 3, n_resamples=50)
    figures = result.per_label["b"]
    assert all(figures[name].value is None for name in ("precision", "recall", "f1", "auroc", "average_precision"))
    assert figures["ece"].value is not None
    others = [result.per_label[label]["f1"].value for label in "ac"]
    assert value(result, "macro_f1") == pytest.approx(np.mean(others))
    assert "No row has b: left out of the macro means." in result.notes
    # Its false alarms count in the micro figures.
    assert value(result, "micro_f1") == pytest.approx(sk.f1_score(y, p >= 0.2, average="micro"))
    assert result.to_dict()["per_label"]["b"]["f1"] == {"value": None, "low": None, "high": None}


def test_a_label_that_is_never_given() -> None:
    p, y = sample(100, 2)
    result = evaluate(p, y, kind="multi_label", labels=("a", "b"), thresholds=[0.2, 1.1], n_resamples=0)
    figures = result.per_label["b"]
    assert (figures["precision"].value, figures["recall"].value, figures["f1"].value) == (0, 0, 0)
    assert any("Never given" in note and "b" in note for note in result.notes)


def test_labels_that_the_head_does_not_know_are_wrong_decisions() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    result = evaluate(p, [0, 1, -1, 0], kind="single_label", labels=("a", "b"), n_resamples=0)
    assert value(result, "accuracy") == 0.75
    assert result.per_label["a"]["precision"].value == pytest.approx(2 / 3)
    assert value(result, "log_loss") == pytest.approx(-np.log([0.9, 0.8, 0.6]).mean())
    assert any("a label that the head does not know: 1." in note for note in result.notes)


def test_one_value_everywhere() -> None:
    same = evaluate(np.full((50, 1), 0.5), np.arange(50)[:, None] % 2, kind="multi_label", labels=("a",))
    assert same.per_label["a"]["auroc"].value == 0.5 and same.per_label["a"]["average_precision"].value == 0.5
    flat = evaluate(np.full((50, 1), 0.1), np.arange(50.0)[:, None], kind="regression", labels=("a",), n_resamples=20)
    assert flat.per_label["a"]["pearson"].value is None and flat.per_label["a"]["spearman"].value is None
    assert flat.per_label["a"]["mae"].value is not None and any("Constant" in note for note in flat.notes)
    still = evaluate(np.arange(50.0)[:, None], np.full((50, 1), 0.1), kind="regression", labels=("a",), n_resamples=20)
    assert still.per_label["a"]["r2"].value is None


def test_same_seed_same_report_and_one_row_alone() -> None:
    p, y = sample(60)
    first, again = (evaluate(p, y, kind="multi_label", labels=LABELS, seed=3, n_resamples=100) for _ in range(2))
    assert first == again
    assert first != evaluate(p, y, kind="multi_label", labels=LABELS, seed=4, n_resamples=100)
    alone = evaluate(p[:1], y[:1], kind="multi_label", labels=LABELS)
    assert alone.n_resamples == 0 and alone.overall["macro_ece"].low is None


def printed(result: Evaluation) -> str:
    from rich.console import Console

    console = Console(width=80, color_system=None, file=io.StringIO())
    console.print(result.to_rich())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_regression_fits_a_terminal() -> None:
    y = np.random.default_rng(0).normal(size=(200, 2))
    shown = printed(evaluate(y * 0.5, y, kind="regression", labels=("valence", "arousal"), n_resamples=20))
    assert "valence" in shown and "1.000 [1.000, 1.000]" in shown and "…" not in shown


def test_reports() -> None:
    p, y = sample(300)
    result = evaluate(p, y, kind="multi_label", labels=("a|b", "b\x1b[31m", "c", "d"), n_resamples=50)
    content = json.loads(result.to_json())
    assert content["overall"]["macro_f1"]["value"] == result.overall["macro_f1"].value
    assert content["reliability"]["(all)"][0]["n"] == result.reliability["(all)"][0].n
    text = result.to_markdown()
    assert "| macro-F1 | " in text and "a\\|b" in text and "\x1b" not in text
    shown = printed(result)
    assert max(map(len, shown.splitlines())) <= 80 and "300 rows; 50 bootstrap replicates" in shown
    assert "macro-F1" in result.summary() and math.isfinite(result.overall["log_loss"].value or math.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones((3, 4))}, "do not fit together"),
        ({"labels": ("a",)}, "do not fit together"),
        ({"y": np.full((400, 4), 0.5)}, "must be 0 or 1"),
        ({"scores": np.full((400, 4), np.nan)}, "finite"),
        ({"thresholds": [0.5]}, "thresholds must be 4 numbers"),
        ({"kind": "multi"}, "unknown kind 'multi'"),
        ({"cluster": [1, 2]}, "one code per row"),
        ({"confidence": 1.0}, "confidence"),
        ({"scores": np.zeros((0, 4)), "y": np.zeros((0, 4))}, "no labelled rows"),
        ({"kind": "single_label", "y": np.full(400, 4)}, "only 4 labels"),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str) -> None:
    p, y = sample()
    options: dict[str, object] = {"scores": p, "y": y, "kind": "multi_label", "labels": LABELS, **change}
    with pytest.raises(UsageError, match=message):
        evaluate(options.pop("scores"), options.pop("y"), **options)  # type: ignore[arg-type]
