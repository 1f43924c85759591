"""The tone sets: what comes with the package is sound, folds do not leak, and figures are those of scikit-learn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk
from texts import DATA

import affectcore
from affectcore.training import data, tone_data, validate
from affectcore.training.tone_data import FOLDS, HEADS, HELD_OUT_MODELS, fold_of, trains

PACKAGE = Path(affectcore.__file__).parent
TEST, TRAIN = PACKAGE / "data" / "contrast", PACKAGE / "training" / "contrast"
SETS = ("dependence", "distress", "manipulation", "refusal", "tone")
LEAST = {"distress": 300, "dependence": 200, "manipulation": 200, "refusal": 150, "tone": 150}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("folder", [TEST, TRAIN], ids=["test", "train"])
def test_contrast_sets_are_whole(folder: Path, name: str) -> None:
    rows = tone_data.rows(folder / f"{name}.jsonl")
    assert len(rows) >= LEAST[name]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({data.fold(row["text"]) for row in rows}) == len(rows)
    assert all(row["text"].strip() and row["kind"] for row in rows)
    if name == "tone":
        named = {*HEADS, "distress"} - {"_distress_voice", "_distress_reaction", "_empathy"}
        assert all(set(row["labels"]) == named and set(row["labels"].values()) <= {0, 0.5, 1} for row in rows)
    else:
        assert 0.45 < np.mean([row["label"] for row in rows]) < 0.55
        words = {y: np.median([len(r["text"].split()) for r in rows if r["label"] == y]) for y in (0, 1)}
        assert 0.6 < words[0] / words[1] < 1.6, "length gives the label away"


@pytest.mark.parametrize("name", SETS)
def test_training_items_are_not_tested_on(name: str) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = data.fold(text).split()
        return {tuple(words[k : k + 9]) for k in range(len(words) - 8)}

    trained = [row["text"] for path in TRAIN.glob("*.jsonl") for row in tone_data.rows(path)]
    seen = set().union(*map(runs, trained))
    known = set(map(data.fold, trained))
    for row in tone_data.rows(TEST / f"{name}.jsonl"):
        assert data.fold(row["text"]) not in known
        assert not runs(row["text"]) & seen, row["id"]


@pytest.fixture(scope="module")
def documents() -> list[tone_data.Document]:
    if not (DATA / "spiral-bench").exists():
        pytest.skip("no data sets under AFFECTCORE_DATA")
    return tone_data.documents(DATA)


def test_every_set_is_read(documents: list[tone_data.Document]) -> None:
    n = Counter(d.source for d in documents)
    assert n["chatgpt-refusals"] > 1300
    assert n["politeness"] > 6000
    assert n["certainty"] > 1500
    assert n["tweets"] > 24000
    assert n["essays"] > 1800
    assert n["spiral-bench"] > 1600
    assert n["syco-bench"] > 450
    assert all(0 <= y <= 1 for d in documents for y in d.targets.values())
    assert {h for d in documents for h in d.targets} == set(HEADS)


@pytest.mark.parametrize("fold", range(FOLDS))
def test_folds_do_not_leak(documents: list[tone_data.Document], fold: int) -> None:
    tested = [d for d in documents if fold_of(d) == fold]
    learnt = [d for d in documents if trains(d, fold)]
    assert not {d.group for d in tested if d.source != "spiral-bench"} & {d.group for d in learnt}
    judged = [d for d in learnt if d.source == "spiral-bench"]
    if fold < 3:
        assert {d.model for d in tested if d.source == "spiral-bench"} == {HELD_OUT_MODELS[fold]}
        assert HELD_OUT_MODELS[fold] not in {d.model for d in judged}
        strict = {d.group for d in tested if d.source == "spiral-bench" and tone_data.third(d) == fold}
        assert strict and not strict & {d.group for d in judged}
    else:
        assert not judged


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    score, y = rng.normal(size=400).round(1), rng.integers(0, 2, 400).astype(float)
    weight = rng.integers(0, 4, 400).astype(float)
    assert validate.auroc(score, y, weight) == pytest.approx(sk.roc_auc_score(y, score, sample_weight=weight))
    decided = (score > 0.2).astype(float)
    wanted = sk.f1_score(y, decided, average="macro", sample_weight=weight)
    assert validate.macro_f1(decided, y, weight) == pytest.approx(wanted)
    assert validate.accuracy(decided, y, weight) == pytest.approx(sk.accuracy_score(y, decided, sample_weight=weight))
    many = np.repeat(np.arange(400), weight.astype(int))
    assert validate.pearson(score, y, weight) == pytest.approx(np.corrcoef(score[many], y[many])[0, 1])


def test_thresholds_come_from_other_folds() -> None:
    score = np.r_[np.linspace(0, 1, 100), np.linspace(5, 6, 100)]
    y = np.r_[np.linspace(0, 1, 100) > 0.5, np.linspace(0, 1, 100) > 0.5].astype(float)
    fold = np.repeat([0, 1], 100)
    decided = validate.decide(score, y, fold, validate.accuracy)
    assert decided[:100].sum() == 0 and decided[100:].sum() == 100  # each fold is cut where the other one is best


def test_logistic_finds_the_model_that_made_the_data() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20000, 3)) * [1, 5, 0.2] + [0, 3, 1]
    true = np.array([1.0, -0.3, 2.0, 0.5])
    p = 1 / (1 + np.exp(-(x @ true[:3] + true[3])))
    found = validate.logistic(x, (rng.random(20000) < p).astype(float), np.ones(20000))
    np.testing.assert_allclose(found, true, atol=0.12)


def test_passages_pool_as_documented() -> None:
    torch = pytest.importorskip("torch")
    from affectcore.training.finetune_tone import pool

    rng = np.random.default_rng(2)
    z, weight = rng.normal(size=(5, len(HEADS))) * 3, np.array([3.0, 1, 7, 2, 5])
    out = pool(torch.from_numpy(z).float(), torch.tensor([0, 0, 0, 1, 1]), torch.from_numpy(weight).float(), 2).numpy()
    for document, rows in enumerate(([0, 1, 2], [3, 4])):
        for k, head in enumerate(HEADS):
            w = weight[rows] * (np.exp(z[rows, k]) if head in tone_data.EVENTS else 1)
            assert out[document, k] == pytest.approx((w * z[rows, k]).sum() / w.sum(), rel=1e-4)


def test_rows_are_json() -> None:
    for path in [*TEST.glob("*.jsonl"), *TRAIN.glob("*.jsonl")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert isinstance(json.loads(line), dict)
