from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from stand_in import StandIn, texts

from affectcore.errors import InputError, OutputError, UsageError
from affectcore.models import base
from affectcore.stats.calibration import activate
from affectcore.training.fit_head import column_names, evaluate_head, fit, own_heads, train
from affectcore.training.labelled import Target, encode, folded, read, split_rows


def features(n: int, d: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated features on very different scales, and one that never changes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.geomspace(0.01, 100, d) + 3
    x[:, 0] = 5
    return x.astype(np.float32)


def standardized(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    spread = like.std(axis=0)
    return (x - like.mean(axis=0)) / np.where(spread > 0, spread, 1)


# The arithmetic


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_logistic_regression_is_scikit_learns(penalty: float) -> None:
    x, rng = features(800), np.random.default_rng(1)
    z = standardized(x, x).astype(np.float64)
    y = (rng.random((800, 3)) < activate(z @ rng.normal(size=(12, 3)) - [0, 1, 3], "multi_label")).astype(np.float32)
    found = fit(x, y, x, y, kind="multi_label", labels="abc", penalties=[penalty])
    logits = x @ found.head.weight + found.head.bias
    assert (found.head.weight[0] == 0).all()
    for j in range(3):
        model = LogisticRegression(C=1 / (penalty * 800), tol=1e-10, max_iter=5000).fit(z, y[:, j])
        np.testing.assert_allclose(logits[:, j], model.decision_function(z), atol=0.02)


def test_softmax_regression_is_scikit_learns() -> None:
    x, rng = features(800), np.random.default_rng(2)
    z = standardized(x, x).astype(np.float64)
    truth = activate(z @ rng.normal(size=(12, 4)), "single_label")
    y = np.array([rng.choice(4, p=p) for p in truth])
    found = fit(x, y, x, y, kind="single_label", labels="abcd", penalties=[1e-2])
    model = LogisticRegression(C=1 / (1e-2 * 800), tol=1e-10, max_iter=5000).fit(z, y)
    ours = activate(x @ found.head.weight + found.head.bias, "single_label")
    np.testing.assert_allclose(ours, model.predict_proba(z), atol=5e-3)
    assert np.isnan(found.head.thresholds).all() and found.thresholds is None


def test_ridge_regression_is_scikit_learns() -> None:
    x, rng = features(500), np.random.default_rng(3)
    z = standardized(x, x).astype(np.float64)
    y = (z @ rng.normal(size=(12, 2)) + rng.normal(size=(500, 2))).astype(np.float32)
    found = fit(x, y, x, y, kind="regression", labels="uv", penalties=[0.05])
    model = Ridge(alpha=0.05 * 500).fit(z, y)
    np.testing.assert_allclose(x @ found.head.weight + found.head.bias, model.predict(z), atol=2e-3)
    assert (found.head.low, found.head.high) == (y.min(), y.max())


def test_the_penalty_is_chosen_on_dev() -> None:
    # 60 rows, 50 features, one of which matters: a weak penalty learns the noise by heart.
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1060, 50)).astype(np.float32)
    y = (rng.random((1060, 1)) < activate(2 * x[:, :1], "multi_label")).astype(np.float32)
    found = fit(x[:60], y[:60], x[60:], y[60:], kind="multi_label", labels=("a",))
    assert found.losses[found.penalty] == min(found.losses.values())
    assert 1e-3 < found.penalty < 1 and len(found.losses) < 13  # stopped early
    assert list(found.losses) == sorted(found.losses, reverse=True)


def test_a_label_with_all_rows_or_none_stays_finite() -> None:
    x = features(200)
    y = np.zeros((200, 2), np.float32)
    y[:, 1] = 1
    head = fit(x, y, x, y, kind="multi_label", labels="ab").head
    scores = activate(x @ head.weight + head.bias, "multi_label", head.scale, head.shift)
    assert np.isfinite(head.weight).all() and (scores[:, 0] < 0.05).all() and (scores[:, 1] > 0.95).all()


def test_unknown_codes_are_left_out_and_fits_repeat() -> None:
    x, rng = features(300), np.random.default_rng(5)
    y = rng.integers(0, 3, 300)
    more = np.concatenate([x, features(40, seed=9)])
    a = fit(x, y, x, y, kind="single_label", labels="abc")
    b = fit(
        more, np.concatenate([y, [-1] * 40]), more, np.concatenate([y, [-1] * 40]), kind="single_label", labels="abc"
    )
    np.testing.assert_array_equal(a.head.weight, b.head.weight)
    np.testing.assert_array_equal(a.head.scale, b.head.scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_dev": np.zeros((5, 3), np.float32)}, "do not fit together"),
        ({"labels": "ab"}, "do not have 2 columns"),
        ({"x_train": np.full((50, 12), np.inf, np.float32)}, "finite"),
        ({"kind": "single_label", "y_train": np.zeros(50), "y_dev": np.zeros(50)}, "at least two labels"),
        ({"x_dev": np.zeros((0, 12)), "y_dev": np.zeros((0, 1))}, "no rows"),
        ({"penalties": []}, "penalties"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    x, y = features(50), np.ones((50, 1))
    options = {"x_train": x, "y_train": y, "x_dev": x, "y_dev": y, "kind": "multi_label", "labels": "a", **change}
    with pytest.raises(UsageError, match=message):
        fit(**options)


def test_column_names() -> None:
    assert column_names("mood", ["x"]) == ("mood",)
    assert column_names("mood", ["Very Sad!", "very-sad", "?"]) == ("mood_very_sad", "mood_very_sad_2", "mood_label")


# Labels


def rows(tmp_path: Path, records: list[dict[str, Any]], *label: str, **options: Any) -> Any:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read(path, text=None, label=label or ["y"], **options)


def targets(tmp_path: Path, values: list[Any], **options: Any) -> Target:
    return encode(rows(tmp_path, [{"text": "t", "y": v} for v in values]), **options)


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    single = targets(tmp_path, ["joy", "fear", "", None, "joy"])
    assert (single.kind, single.labels) == ("single_label", ("fear", "joy"))
    np.testing.assert_array_equal(single.y[single.known], [1, 0, 1])
    np.testing.assert_array_equal(single.known, [1, 1, 0, 0, 1])
    separated = targets(tmp_path, ["joy; fear", "", "fear"], sep=";")
    assert (separated.kind, separated.labels) == ("multi_label", ("fear", "joy"))
    np.testing.assert_array_equal(separated.y, [[1, 1], [0, 0], [1, 0]])
    lists = targets(tmp_path, [["b", "a"], [], None, ["a"]])
    assert lists.kind == "multi_label" and lists.known.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(lists.y[lists.known], [[1, 1], [0, 0], [1, 0]])
    numbered = targets(tmp_path, [[10, 2], [2]])
    assert numbered.labels == ("2", "10")
    flags = targets(tmp_path, [True, False, None])
    assert (flags.kind, flags.labels) == ("multi_label", ("y",)) and flags.known.tolist() == [True, True, False]
    np.testing.assert_array_equal(targets(tmp_path, [0, 1, 1]).y, [[0], [1], [1]])
    numbers = targets(tmp_path, [0.5, 2, None])
    assert numbers.kind == "regression" and numbers.y[:2, 0].tolist() == [0.5, 2]
    assert targets(tmp_path, [3, 1, None, 3], kind="single_label").labels == ("1", "3")
    assert targets(tmp_path, ["1.5", "2"], kind="regression").y.tolist() == [[1.5], [2]]


def test_several_columns(tmp_path: Path) -> None:
    records = [{"text": "t", "a": 1, "b": 0}, {"text": "t", "a": 0, "b": 1}, {"text": "t", "a": 1, "b": None}]
    both = encode(rows(tmp_path, records, "joy=a", "b"))
    assert (both.kind, both.labels, both.known.tolist()) == ("multi_label", ("joy", "b"), [True, True, False])
    records[1]["b"] = 0.3
    numbers = encode(rows(tmp_path, records, "joy=a", "b"))
    assert numbers.kind == "regression" and numbers.y[1, 1] == np.float32(0.3)
    with pytest.raises(UsageError, match=r"data\.jsonl, row 1: column 'b' has 0\.3"):
        encode(rows(tmp_path, records, "a", "b"), kind="multi_label")
    ordered = encode(rows(tmp_path, records, "a", "b"), kind="regression", labels=["b", "a"])
    np.testing.assert_array_equal(ordered.y[0], [0, 1])
    with pytest.raises(UsageError, match=r"'a' is no output of the head; its outputs are joy, b; .*OUTPUT=COLUMN"):
        encode(rows(tmp_path, records, "a", "b"), kind="regression", labels=["joy", "b"])


def test_labels_of_a_head(tmp_path: Path) -> None:
    known = targets(tmp_path, ["b", "a"], kind="single_label", labels=["b", "a"])
    np.testing.assert_array_equal(known.y, [0, 1])
    with pytest.raises(
        UsageError, match=r"data\.jsonl, row 1: column 'y' has the label 'angr' \(did you mean 'anger'\?\)"
    ):
        targets(tmp_path, ["joy", "angr"], kind="single_label", labels=["joy", "anger"])
    with pytest.raises(UsageError, match=r"row 2: column 'y' has the label 'rage'"):
        targets(tmp_path, [["joy"], [], ["joy", "rage"]], kind="multi_label", labels=["joy", "anger"])
    noted = targets(tmp_path, ["joy", "rage"], kind="single_label", labels=["joy", "anger"], unknown="note")
    assert noted.y.tolist() == [0, -1] and "rage" in noted.notes[0]
    places = targets(tmp_path, ["0,2", "1"], kind="multi_label", labels=["x", "y", "z"])
    np.testing.assert_array_equal(places.y, [[1, 0, 1], [0, 1, 0]])
    assert "positions" in places.notes[0]
    with pytest.raises(UsageError, match="one value a row, but the head has 2 outputs"):
        targets(tmp_path, [0.5, 0.7], kind="regression", labels=["valence", "arousal"])


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (["x", "1"], {"kind": "regression"}, r"data\.jsonl, row 0: column 'y' has 'x', which is no number"),
        ([["a"], ["b"]], {"kind": "single_label"}, "use --kind multi"),
        ([["a"], ["b"]], {"kind": "regression"}, "one number a row"),
        ([{"a": 1}], {}, "holds struct"),
        ([str(i) for i in range(1001)], {}, "1,001 different labels"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, values: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        targets(tmp_path, values, **options)


def test_reading_names_what_is_wrong(tmp_path: Path) -> None:
    records = [{"text": "t", "y": "a", "part": "train"}, {"text": "t", "y": "a", "part": "holdout"}]
    with pytest.raises(UsageError, match=r"data\.jsonl, row 1: column 'part' has 'holdout': use train, dev or test"):
        rows(tmp_path, records, split="part")
    with pytest.raises(UsageError, match=r"no column 'z' to keep.*text, y, part"):
        rows(tmp_path, records, "z")
    records[1]["part"] = "Validation"
    assert rows(tmp_path, records, split="part").split.tolist() == [0, 1]
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write("{broken\n")
    left = read(tmp_path / "data.jsonl", text="text", label=["y"])
    assert left.n_unread == 1 and "row 2" in left.notes[0]
    with pytest.raises(InputError):
        read(tmp_path / "absent.csv", text=None, label=["y"])


def test_several_files_and_their_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,y\none,joy\ntwo,joy\n")
    (tmp_path / "b.csv").write_text("text,y\nthree,fear\nfour,angr\n")
    both = read(tmp_path, text=None, label=["y"])
    assert both.texts.to_pylist() == ["one", "two", "three", "four"]
    with pytest.raises(UsageError, match=r"b\.csv, row 1: column 'y' has the label 'angr'"):
        encode(both, labels=["joy", "fear"])
    table = pa.table({"response": ["x", None], "y": pa.array(["a", "b"]).dictionary_encode()})
    from_table = read(table, text=None, label=["y"])
    assert (from_table.text_column, from_table.texts.to_pylist()) == ("response", ["x", None])
    assert encode(from_table).labels == ("a", "b")


# Splits


@given(st.integers(30, 400), st.integers(0, 50))
def test_splits_have_their_shares_and_are_stratified(n: int, seed: int) -> None:
    y = np.random.default_rng(seed).choice(3, size=n, p=[0.7, 0.2, 0.1])
    target = Target("single_label", ("a", "b", "c"), y, np.ones(n, bool))
    code = split_rows(target, None, seed=seed)
    np.testing.assert_array_equal(code, split_rows(target, None, seed=seed))
    for label in range(3):
        count = np.bincount(code[y == label], minlength=3)
        np.testing.assert_allclose(count, np.array([0.8, 0.1, 0.1]) * count.sum(), atol=1)


@given(st.integers(0, 50))
def test_groups_are_never_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 60, 500)
    y = (rng.random((500, 4)) < 0.2).astype(np.float32)
    code = split_rows(Target("multi_label", tuple("abcd"), y, np.ones(500, bool)), group, seed=seed)
    for g in np.unique(group):
        assert np.unique(code[group == g]).size == 1
    np.testing.assert_allclose(np.bincount(code, minlength=3) / 500, [0.8, 0.1, 0.1], atol=0.08)


def test_a_rare_label_goes_to_train_first_and_seeds_matter() -> None:
    y = np.zeros(300, np.int64)
    y[[5, 50, 150]] = 1
    target = Target("single_label", ("a", "b"), y, np.ones(300, bool))
    assert (split_rows(target, None)[y == 1] == 0).all()
    assert not np.array_equal(split_rows(target, None, seed=0), split_rows(target, None, seed=1))
    values = np.arange(300, dtype=np.float32)[:, None]
    code = split_rows(Target("regression", ("u",), values, np.ones(300, bool)), None)
    assert abs(values[code == 2].mean() - values.mean()) < 20


def test_folded() -> None:
    a, b = folded(pa.array(["So  Good\n", None, "x"]), pa.array(["so good", "X ", None]))
    assert a[0] == b[0] and a[2] == b[1] and len({a[1], b[2]}) == 2
    broken = pa.array([b"\xff"], pa.binary())
    (c,) = folded(broken)
    assert c.tolist() == [0]


# From files to a model directory


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in, load = StandIn(), base.load
    monkeypatch.setattr(base, "load", lambda name: stand_in if str(name) == "stand-in" else load(name))
    return stand_in


def labelled(n: int = 600, seed: int = 0) -> pa.Table:
    """Texts whose most frequent letters decide the labels."""
    written = texts(n, seed)
    x = StandIn().features(pa.array(written))
    rng = np.random.default_rng(seed + 1)
    noisy = x[:, :26] + 0.3 * rng.normal(size=(n, 26))
    return pa.table(
        {
            "text": written,
            "single": [("ab", "cd", "ef")[int(i)] for i in (noisy[:, 0:6:2] + noisy[:, 1:6:2]).argmax(axis=1)],
            "multi": [[c for j, c in enumerate("abc") if row[j] > 1] for row in noisy],
            "number": noisy[:, 4] - noisy[:, 5],
            "flag": noisy[:, 0] > 1,
            "prompt": np.arange(n) // 3,
        }
    )


@pytest.mark.parametrize(
    ("label", "kind", "figure", "least"),
    [
        ("single", "single_label", "accuracy", 0.6),
        ("multi", "multi_label", "macro_f1", 0.6),
        ("flag", "multi_label", "macro_f1", 0.6),
        ("number", "regression", "pearson", 0.85),
    ],
)
def test_train_writes_a_directory_that_scores_the_same(
    tmp_path: Path, model: StandIn, label: str, kind: str, figure: str, least: float
) -> None:
    data = labelled()
    trained = train(data, label=label, head="mine", model="stand-in", output=tmp_path / "mine", n_resamples=50)
    head = trained.head
    assert head.kind == kind and trained.test is not None and sum(trained.n.values()) == 600
    assert abs(trained.n["train"] - 480) <= 5 and abs(trained.n["test"] - 60) <= 5
    found = trained.test.overall[figure]
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.value > least and found.low < found.value <= found.high
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]
    loaded = base.load(tmp_path / "mine")
    (again,) = loaded.heads
    np.testing.assert_array_equal(again.weight, head.weight)
    np.testing.assert_array_equal(again.thresholds, head.thresholds)
    assert again.info["rows"] == trained.n and again.info["test"]["overall"][figure]["value"] == found.value
    assert loaded.predict(data["text"].combine_chunks())["mine"].shape == (600, len(head.labels))
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "## Test" in card and "not stated" in card and "stand-in" in card
    # The same head, judged on the same rows by the other way in.
    judged = evaluate_head(data, label=label, model=tmp_path / "mine", n_resamples=0)
    assert judged.n == 600 and judged.kind == kind and judged.settings["head"] == "mine"


def test_train_repeats_itself(tmp_path: Path, model: StandIn) -> None:
    for name in ("a", "b"):
        train(labelled(), label="multi", head="mine", model=model, output=tmp_path / name / "mine", n_resamples=20)
    for file in ("affect.json", "model.safetensors"):
        assert (tmp_path / "a" / "mine" / file).read_bytes() == (tmp_path / "b" / "mine" / file).read_bytes()


def test_groups_and_equal_texts_stay_in_one_split(model: StandIn) -> None:
    data = labelled()
    grouped = train(data, label="single", head="mine", model=model, group="prompt", n_resamples=20)
    assert grouped.dev.n_clusters < grouped.dev.n and "rows of a prompt together" in grouped.settings["split"]
    doubled = pa.concat_tables([data, data])
    assert train(doubled, label="single", head="mine", model=model, n_resamples=0).notes == ()


def test_splits_that_are_given(tmp_path: Path, model: StandIn) -> None:
    import pyarrow.parquet as pq

    data, more = labelled(300), labelled(60, seed=5)
    pq.write_table(more, tmp_path / "more.parquet")
    tested = train(data, label="single", head="mine", model=model, test=tmp_path / "more.parquet", n_resamples=0)
    assert tested.n["test"] == 60 and tested.n["train"] + tested.n["dev"] == 300
    deved = train(data, label="single", head="mine", model=model, dev=tmp_path / "more.parquet", n_resamples=0)
    assert deved.n == {"train": 300, "dev": 60, "test": 0} and deved.test is None
    assert any("no test data" in note for note in deved.notes)
    parts = data.append_column("part", pa.array(["train"] * 200 + ["dev"] * 50 + ["test"] * 50))
    named = train(parts, label="single", head="mine", model=model, split="part", n_resamples=0)
    assert named.n == {"train": 200, "dev": 50, "test": 50}
    without = parts.filter(pa.compute.not_equal(parts["part"], "dev"))
    less = train(without, label="single", head="mine", model=model, split="part", n_resamples=0)
    assert less.n["test"] == 50 and less.n["train"] + less.n["dev"] == 200 and less.n["dev"] >= 18
    assert "dev split off train at random" in less.settings["split"]
    only = evaluate_head(parts, label="single", model=StandIn([named.head]), split="part", n_resamples=0)
    assert named.test is not None and only.n == 50
    assert only.overall["accuracy"].value == named.test.overall["accuracy"].value
    assert only.overall["log_loss"].value == pytest.approx(named.test.overall["log_loss"].value, rel=1e-5)
    leaky = train(data, label="single", head="mine", model=model, dev=more, test=data.slice(0, 40), n_resamples=0)
    assert any("Texts of test that are also in train: 40 of 40" in note for note in leaky.notes)
    with pytest.raises(UsageError, match="already names dev and test"):
        train(parts, label="single", head="mine", model=model, split="part", dev=more)


def test_labels_that_only_other_splits_have(model: StandIn) -> None:
    data = labelled(300)
    part = ["train"] * 200 + ["dev"] * 50 + ["test"] * 50
    single = data["single"].to_pylist()
    single[-1] = "unseen"
    multi = data["multi"].to_pylist()
    multi[-1] = ["a", "unseen"]
    table = pa.table({"text": data["text"], "single": single, "multi": multi, "part": part})
    for label in ("single", "multi"):
        trained = train(table, label=label, head="mine", model=model, split="part", n_resamples=0)
        assert "unseen" not in trained.head.labels and trained.test is not None and trained.test.n == 50
        assert "Labels without training rows: unseen." in trained.notes


def test_rows_without_text_or_label_are_left_out(model: StandIn) -> None:
    data = labelled(300)
    written = data["text"].to_pylist()
    written[3] = None
    single = data["single"].to_pylist()
    single[7] = None
    trained = train(
        pa.table({"text": written, "single": single}), label="single", head="mine", model=model, n_resamples=0
    )
    assert sum(trained.n.values()) == 298
    assert "Rows without text or label, left out: 2 of 300." in trained.notes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "My Head"}, UsageError, "lower-case letters"),
        ({"head": "vader_compound", "label": "flag"}, UsageError, "rename the head"),
        ({"kind": "mutli"}, UsageError, r"unknown kind 'mutli' \(did you mean 'multi'\?\)"),
        ({"label": []}, UsageError, "--label"),
        ({"data": labelled(20)}, UsageError, "too few"),
        ({"data": labelled(100).set_column(1, "single", pa.array(["x"] * 100))}, UsageError, "at least two labels"),
        ({"output": "here"}, OutputError, "--overwrite"),
    ],
)
def test_train_refuses(
    tmp_path: Path, model: StandIn, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"data": labelled(100), "label": "single", "head": "mine", "model": model, "n_resamples": 0, **options}
    if "output" in options:
        given["output"] = tmp_path
    with pytest.raises(error, match=message):
        train(given.pop("data"), **given)


def test_overwrite_replaces_a_model_and_nothing_else(tmp_path: Path, model: StandIn) -> None:
    target = tmp_path / "mine"
    options: dict[str, Any] = {"label": "single", "head": "mine", "model": model, "output": target, "n_resamples": 0}
    train(labelled(100), **options)
    (target / "stray").write_text("")
    before = (target / "model.safetensors").read_bytes()
    train(labelled(120), **options, overwrite=True)
    assert (target / "model.safetensors").read_bytes() != before and not (target / "stray").exists()
    (target / "affect.json").unlink()
    with pytest.raises(OutputError, match="no model directory"):
        train(labelled(100), **options, overwrite=True)
    assert (target / "README.md").exists() and [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_directory_of_heads_stands_for_its_base(tmp_path: Path, model: StandIn) -> None:
    options: dict[str, Any] = {"label": "flag", "n_resamples": 0}
    train(labelled(100), head="one", model="stand-in", output=tmp_path / "one", **options)
    train(labelled(100), head="two", model=tmp_path / "one", output=tmp_path / "two", **options)
    assert base.read_record(tmp_path / "two")["base"] == {"name": "stand-in", "content_hash": model.content_hash}
    assert [h.name for h in base.load(tmp_path / "two").heads] == ["two"]
    record = json.loads((tmp_path / "one" / "affect.json").read_text())
    del record["base"]
    (tmp_path / "one" / "affect.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="it has neither network nor base"):
        train(labelled(100), head="three", model=tmp_path / "one", **options)


def test_evaluate_head_finds_its_head(tmp_path: Path, model: StandIn) -> None:
    data = labelled(200)
    for name in ("one", "two"):
        train(data, label="flag", head=name, model=model, output=tmp_path / name, n_resamples=0)
    two = StandIn([base.load(tmp_path / name).heads[0] for name in ("one", "two")])
    with pytest.raises(UsageError, match=r"several heads.*one, two"):
        evaluate_head(data, label="flag", model=two)
    with pytest.raises(UsageError, match=r"no head 'tow' \(did you mean 'two'\?\)"):
        evaluate_head(data, label="flag", model=two, head="tow")
    assert [h.name for h in own_heads(tmp_path / "one", two)] == ["one"]
    with pytest.raises(UsageError, match="no row with a text and a label"):
        evaluate_head(data.set_column(4, "flag", pa.nulls(200, pa.bool_())), label="flag", model=two, head="one")
