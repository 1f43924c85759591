"""Tone heads: their levels, their columns, and heads that are hidden."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import toned
from hypothesis import given, settings
from hypothesis import strategies as st

import affectcore as ac
from affectcore.kernels import segments
from affectcore.metrics import emotion, registry, tone
from affectcore.models import base
from affectcore.models.base import Head, Scored

LONG = (
    "The list is empty because the loop ends early, so the function returns None. Check line 42 first, then run it. "
    "The tests pass on my machine. Both files are in the folder, next to the log, and the log has three lines. "
)
ANGRY = "I am so terribly sorry, this is all my fault and I hate myself for it! "
ROWS = [LONG * 3, ANGRY, LONG * 2 + ANGRY + LONG, "", "  \n", "```\nx = 1\n```\n", None, "Hi", "> quoted\n\nHow nice!"]


# -- levels --------------------------------------------------------------------------------------------------------


def one(level: Any, **changes: Any) -> Head:
    """A head of one label without a network: its logits are given."""
    made = Head(
        name="event",
        kind="multi_label",
        labels=("event",),
        columns=("event",),
        weight=np.zeros((1, 1), np.float32),
        bias=np.zeros(1, np.float32),
        scale=np.array([0.5], np.float32),
        shift=np.array([0.25], np.float32),
        thresholds=np.array([0.5], np.float32),
        level=level,
    )
    return replace(made, **changes)


def units(logits: list[float], n_tokens: list[int], first: list[int], kind: list[int] | None = None) -> Scored:
    n = len(logits)
    return Scored(
        np.array(logits, np.float32).reshape(n, 1),
        np.array(first, np.int64),
        np.array(kind or [segments.TEXT] * n, np.uint8),
        np.array(n_tokens, np.int64),
        np.diff(first),
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pooled(logits: list[float], weights: list[int]) -> float:
    powers = [w * math.exp(min(max(x, -20), 20)) for x, w in zip(logits, weights)]
    return sum(p * x for p, x in zip(powers, logits)) / sum(powers)


def test_the_strongest_passages_decide() -> None:
    scored = units([-4, -4, 4, -4, 2], [10, 30, 5, 20, 7], [0, 4, 5, 5])
    ((raw, activated),) = emotion.scores([one("strongest")], scored)
    wanted = [pooled([-4, -4, 4, -4], [10, 30, 5, 20]), 2.0]
    np.testing.assert_allclose(raw[:2, 0], wanted, rtol=1e-6)
    assert wanted[0] > 3.9
    np.testing.assert_allclose(activated[:2, 0], [sigmoid(0.5 * x + 0.25) for x in wanted], rtol=1e-6)
    assert activated[2, 0] == 0  # a document without passages


def test_levels_differ_as_they_say() -> None:
    scored = units([-4, 4], [30, 10], [0, 2])
    found = {
        level: float(next(emotion.scores([one(level)], scored))[1][0, 0])
        for level in ("document", "passage", "strongest")
    }
    assert found["document"] == pytest.approx(sigmoid(0.5 * -2 + 0.25))
    assert found["passage"] == pytest.approx(0.75 * sigmoid(-1.75) + 0.25 * sigmoid(2.25))
    assert found["strongest"] == pytest.approx(sigmoid(0.5 * pooled([-4, 4], [30, 10]) + 0.25))


def test_what_has_no_tone_does_not_weigh() -> None:
    kind = [segments.TEXT, segments.CODE, segments.TEXT]
    scored = units([1, 100, math.nan], [4, 50, 0], [0, 3], kind)
    ((raw, activated),) = emotion.scores([one("strongest")], scored)
    assert raw[0, 0] == 1 and activated[0, 0] == pytest.approx(sigmoid(0.75))
    ((raw, activated),) = emotion.scores([one("strongest")], scored, "segment")
    np.testing.assert_array_equal(raw[:, 0], [1, math.nan, math.nan])


def test_levels_side_by_side_do_not_touch() -> None:
    scored = units([-4, 4, 1], [30, 10, 2], [0, 2, 3])
    both = scored._replace(logits=np.repeat(scored.logits, 3, axis=1))
    heads = [one(level, name=level) for level in ("document", "strongest", "passage")]
    for head, (raw, activated) in zip(heads, emotion.scores(heads, both)):
        ((own, alone),) = emotion.scores([head], scored)
        np.testing.assert_array_equal(raw, own)
        np.testing.assert_array_equal(activated, alone)


LOGITS = st.floats(-60, 60, width=32)


@settings(max_examples=100)
@given(st.lists(st.lists(st.tuples(LOGITS, st.integers(1, 99)), max_size=6), min_size=1, max_size=4))
def test_strongest_against_the_formula(documents: list[list[tuple[float, int]]]) -> None:
    flat = [pair for document in documents for pair in document]
    first = np.cumsum([0, *map(len, documents)]).tolist()
    logits = np.array([x for x, _ in flat], np.float32).reshape(-1, 1)
    found = emotion.strongest(logits, np.array(first), np.array([w for _, w in flat], np.float32))
    assert found.dtype == np.float32 and found.shape == (len(documents), 1)
    for document, value in zip(documents, found[:, 0].tolist()):
        if not document:
            assert math.isnan(value)
            continue
        xs = [x for x, _ in document]
        assert value == pytest.approx(pooled(xs, [w for _, w in document]), rel=1e-4, abs=1e-4)
        assert min(xs) - 1e-3 <= value <= max(xs) + 1e-3


def test_level_survives_the_model_directory(static: str) -> None:
    levels = {head.name: head.level for head in base.load(static).heads}
    assert {name: levels[name] for name in tone.NAMES} == {name: entry.level for name, entry in tone.HEADS.items()}


# -- columns -------------------------------------------------------------------------------------------------------


def test_tone_is_in_default_and_in_range(model: str) -> None:
    scorer = ac.Scorer(model)
    names = scorer.schema.names
    assert set(registry.GROUPS["tone"]) | set(registry.GROUPS["dynamics"]) <= set(names)
    assert not [name for name in names if name.startswith("_")]
    table = scorer.score(ROWS)
    for name in registry.GROUPS["tone"]:
        values = table[name].to_pylist()
        assert values[6] is None
        assert all(0 <= value <= 1 for value in values[:6] + values[7:]), name
    for row in (3, 4, 5):
        own = {name: table[name][row].as_py() for name in registry.GROUPS["tone"]}
        assert own == {name: 0.5 if name == "politeness" else 0.0 for name in own}


def test_models_without_tone_have_no_such_columns(tmp_path: Path) -> None:
    network = base.load("static")
    bare = [head for head in network.heads if head.name in ("emotion", "vad")]
    arrays = {
        k: v
        for k, v in base.safetensors.read(base.EMBEDDED / "static" / "model.safetensors")[0].items()
        if "heads." not in k
    }
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((base.EMBEDDED / "static" / "tokenizer.json").read_bytes())
    base.save(folder, {"network": base.read_record(base.EMBEDDED / "static")["network"]}, arrays, bare, "")
    names = set(ac.Scorer(str(folder)).schema.names)
    assert "valence" in names and "valence_sd" in names
    assert not names & {*registry.GROUPS["tone"], "distress_sd"}
    for name in ("refusal", "distress", "distress_peak"):
        with pytest.raises(ac.UsageError, match=f"{name}.* needs a model with tone heads"):
            ac.Scorer(str(folder), metrics=name)


def test_hidden_heads_cannot_be_asked_for(static: str) -> None:
    for name in toned.HIDDEN:
        with pytest.raises(ac.UsageError, match="unknown metric"):
            ac.Scorer(static, metrics=name)
    names = ac.Scorer(static, logits=True).schema.names
    assert "logit_refusal" in names and not [name for name in names if "distress_voice" in name]


@pytest.mark.parametrize("unit", ["document", "segment"])
def test_each_tone_column_alone_is_that_of_all(model: str, unit: str) -> None:
    every = ac.Scorer(model, unit=unit).score(ROWS)
    for name in ("refusal", "warmth", "distress"):
        assert ac.Scorer(model, metrics=name, unit=unit).score(ROWS)[name].equals(every[name])


def test_segments_have_their_own_logits(static: str) -> None:
    first, second = "The list is empty.", ANGRY.strip()
    rows = ac.Scorer(static, "refusal,warmth", unit="segment", logits=True).score([f"{first} {second}"]).to_pylist()
    alone = ac.Scorer(static, "refusal,warmth", logits=True).score([first, second]).to_pylist()
    assert len(rows) == 2
    for row, other in zip(rows, alone):
        for name in ("refusal", "warmth"):
            assert row[f"logit_{name}"] == pytest.approx(other[f"logit_{name}"], abs=1e-5)
            assert row[name] == pytest.approx(sigmoid(0.75 * row[f"logit_{name}"] - 0.5), abs=1e-6)


def test_an_event_does_not_fade_as_a_text_grows(static: str) -> None:
    network = base.load(static)
    event = next(head for head in network.heads if head.name == "refusal")
    values = [float(network.predict(pa.array([text]), [event])["refusal"][0, 0]) for text in (LONG, ANGRY)]
    loud, plain = (ANGRY, LONG) if values[1] > values[0] else (LONG, ANGRY)
    texts = pa.array([plain * 40, plain * 40 + "\n" + loud])
    strong = network.predict(texts, [event])["refusal"][:, 0]
    mean = network.predict(texts, [replace(event, level="document")])["refusal"][:, 0]
    assert strong[1] - strong[0] > 2 * (mean[1] - mean[0]) > 0


def test_the_reference_agrees(static: str) -> None:
    rows = [ANGRY + LONG, "Hi", ""]
    found = ac.Scorer(static, "tone,dynamics").score(rows).to_pydict()
    wanted = ac.Scorer(static, "tone,dynamics", backend="reference").score(rows).to_pydict()
    for name, values in wanted.items():
        assert found[name] == [None if x is None else pytest.approx(x, abs=1e-4) for x in values], name


def test_scores_do_not_depend_on_threads_or_neighbours(model: str) -> None:
    whole = ac.Scorer(model, threads=1).score(ROWS)
    assert (
        ac.Scorer(model, threads=3)
        .score(pa.chunked_array([ROWS[:3], ROWS[3:]]))
        .combine_chunks()
        .equals(whole.combine_chunks())
    )
    for k, row in enumerate(ROWS):
        assert ac.Scorer(model).score([row]).to_pylist()[0] == pytest.approx(whole.slice(k, 1).to_pylist()[0], abs=1e-6)


def test_a_users_head_takes_the_place_of_a_models(static: str, tmp_path: Path) -> None:
    network = base.load(static)
    own = next(head for head in network.heads if head.name == "refusal")
    base.save_heads(tmp_path / "own", network, [replace(own, bias=own.bias + 9)], "")
    base_scores = ac.Scorer(static).score(ROWS)
    found = ac.Scorer(str(tmp_path / "own")).score(ROWS)
    assert found["refusal"][0].as_py() > base_scores["refusal"][0].as_py()
    assert found["distress"].equals(base_scores["distress"])


# -- registry ------------------------------------------------------------------------------------------------------


def test_entries_of_tone_heads() -> None:
    assert registry.GROUPS["tone"] == ("distress", *tone.NAMES)
    assert {m.name for m in registry.METRICS.values() if m.experimental} == {"dependence", "manipulation"}
    for name in tone.NAMES:
        metric = registry.METRICS[name]
        assert (metric.range, metric.dtype, metric.needs_model) == ((0, 1), "float32", True)
        assert metric.validated_on != "" and len(metric.limits) > 100
    assert registry.METRICS["distress"].higher_is == "worse"


def test_figures_come_from_the_embedded_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"what": "some set, 5 folds", "measure": "AUROC", "estimate": 0.91, "low": 0.9, "high": 0.92, "n": 1234}
    for model, estimate in (("static", 0.81), ("mini", 0.91)):
        (tmp_path / model).mkdir()
        validation = [{**entry, "estimate": estimate, "keywords": 0.6, "vader": None}, {**entry, "what": "another"}]
        record = {
            "heads": [{"name": "refusal", "info": {"validation": validation}}, {"name": "warmth", "info": {}}],
            "distress": {"info": {"validation": validation[1:]}},
        }
        (tmp_path / model / "affect.json").write_text(json.dumps(record))
    monkeypatch.setattr(registry, "_EMBEDDED", tmp_path)
    registry._record.cache_clear()
    try:
        found = {metric.name: metric for metric in registry._tone()}
    finally:
        registry._record.cache_clear()
    assert found["refusal"].validated_on == (
        "some set, 5 folds, AUROC: static 0.81 (95% interval 0.90 to 0.92) against keywords 0.60; 1,234 texts, "
        "mini 0.91 (95% interval 0.90 to 0.92) against keywords 0.60; 1,234 texts. another, AUROC: static 0.91 (95% "
        "interval 0.90 to 0.92); 1,234 texts, mini 0.91 (95% interval 0.90 to 0.92); 1,234 texts"
    )
    assert [figure.model for figure in found["distress"].figures] == ["static", "mini"]
    assert found["warmth"].validated_on == "not measured yet" and found["warmth"].figures == ()
    assert json.loads(json.dumps(found["refusal"].to_dict()))["figures"][0]["vader"] is None
