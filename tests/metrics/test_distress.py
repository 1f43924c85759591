"""Distress, what it is made of, and how it and valence go along the passages of a text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import toned

import affectcore as ac
from affectcore.arrow import ragged
from affectcore.errors import InputError
from affectcore.kernels import segments
from affectcore.metrics import distress, dynamics, emotion, lexical, registry
from affectcore.models import base
from affectcore.models.base import weights

SAD = "I am so sorry, it's all my fault. I give up. There is no hope left for me, and I can't go on. "
CALM = "The list is empty because the loop ends early. Check line 42 first, then run the tests again. "
CODE = "```python\nraise SystemExit\n```\n"
ROWS = [SAD, CALM, CALM * 9 + SAD * 4 + CALM * 5, CALM * 4 + "\n" + CODE + SAD * 6, "", " \n ", CODE, None, "Hi"]
NAMES = [f"{score}_{what}" for score in ("valence", "distress") for what in dynamics.MEASURES]


def features(model: str, unit: str = "document") -> dict[str, np.ndarray]:
    """Every feature of distress by its own way: columns of scores, rates, and logits of hidden heads."""
    network = base.load(model)
    table = ac.Scorer(model, "emotion,lexical", unit=unit).score(ROWS)
    found = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name[:8] != "segment_"}
    values, offsets = ragged(pa.array([row or "" for row in ROWS], pa.large_string()))
    own = emotion.score(values, offsets, toned.HIDDEN, network, unit=unit)
    return found | {name: own[name] for name in toned.HIDDEN}


@pytest.mark.parametrize("unit", ["document", "segment"])
def test_the_index_is_the_published_formula(model: str, unit: str) -> None:
    own = features(model, unit)
    x = np.full(len(own["emotion_joy"]), toned.RECORD["bias"])
    for name, weight in toned.WEIGHTS.items():
        x = x + weight * (own[name] if name.startswith(("emotion", "_")) else np.minimum(own[name], 10))
    wanted = 1 / (1 + np.exp(-x))
    if unit == "document":
        wanted[4:7] = 0  # no words
        wanted[7] = np.nan
    found = ac.Scorer(model, "distress", unit=unit).score(ROWS)["distress"].to_numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.isnan(found).sum() == (1 if unit == "document" else 2)  # code blocks have none


def test_hidden_logits_are_pooled_as_their_level_says(static: str) -> None:
    network = base.load(static)
    values, offsets = ragged(pa.array(ROWS[:4], pa.large_string()))
    scored = network.score(values, offsets)
    columns = [column for head in network.heads for column in head.columns]
    own = emotion.score(values, offsets, toned.HIDDEN, network)
    raw, weight = scored.logits.astype(np.float64), weights(scored).astype(np.float64)
    for name, power in (("_distress_voice", 1.0), ("_distress_reaction", 0.0)):
        logit = raw[:, columns.index(name)]
        w = weight * np.exp(power * logit)
        for d, (a, b) in enumerate(zip(scored.first, scored.first[1:])):
            assert own[name][d] == pytest.approx(np.sum((w * logit)[a:b]) / np.sum(w[a:b]), abs=1e-5)


def test_contributions_add_up_to_the_logit(static: str) -> None:
    network = base.load(static)
    own = features(static)
    shares = distress.contributions(own, network)
    assert list(shares) == ["bias", *toned.WEIGHTS]
    score = ac.Scorer(static, "distress").score(ROWS)["distress"].to_numpy()
    total = sum(share[0] for share in shares.values())
    assert 1 / (1 + math.exp(-total)) == pytest.approx(score[0], abs=1e-6)
    assert shares["self_blame"][0] == pytest.approx(0.5 * min(own["self_blame"][0], 10))
    with pytest.raises(ValueError, match=r"needs the columns .*self_blame"):
        distress.contributions({"emotion_sadness": own["emotion_sadness"]}, network)
    bare = network.with_heads(network.heads, "bare", "0")
    bare.distress = None
    with pytest.raises(ValueError, match="bare has no distress"):
        distress.contributions(own, bare)


def test_rates_are_capped() -> None:
    class Made:
        name = "made"
        distress = distress_model({"self_blame": 0.5, "emotion_fear": 1.0})

    found = distress.index({"self_blame": np.array([9, 10, 50]), "emotion_fear": np.array([0, 0, 0])}, Made())  # type: ignore[arg-type]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-x)) for x in (4.5, 5, 5)], rtol=1e-6)


def distress_model(weights: dict[str, float]) -> distress.Distress:
    return distress.Distress.of_record({"version": 3, "bias": 0, "weights": weights})


def test_extreme_logits_do_not_overflow() -> None:
    class Made:
        name = "made"
        distress = distress_model({"_voice": 1e4})

    found = distress.index({"_voice": np.array([1e4, -1e4, np.nan])}, Made())  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, [1, 0, np.nan])


def test_records_round_trip(static: str) -> None:
    found = base.load(static).distress
    assert found is not None
    assert distress.Distress.of_record(json.loads(json.dumps(found.to_record()))) == found
    assert found.rates == ("first_person", "self_blame", "hopelessness", "giving_up", "apologies")


def test_records_that_are_not_whole(static: str, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for path in Path(static).iterdir():
        if path.name != "affect.json":
            (folder / path.name).write_bytes(path.read_bytes())
    record = json.loads((Path(static) / "affect.json").read_text())
    for wrong, message in (
        ({"bias": 1, "weights": {"_distress_voice": 1}}, "distress.version is missing"),
        ({"version": 1, "bias": 1, "weights": {"a": "b"}}, "distress.weights.a is 'b': a finite number"),
        ({"version": 1, "bias": 1, "weights": {}}, "distress.weights is an empty object"),
        ({"version": 1, "bias": 1, "weights": {"apology": 1}}, r"apology is of no .*did you mean 'apologies'\?"),
        (7, "distress is 7: an object"),
    ):
        (folder / "affect.json").write_text(json.dumps({**record, "distress": wrong}))
        with pytest.raises(InputError, match=message):
            base.load(folder)


def test_no_distress_without_its_features(static: str) -> None:
    network = base.load(static)
    assert network.derived == ("distress",)
    fewer = [head for head in network.heads if head.name != "_distress_voice"]
    other = network.with_heads(fewer, "fewer", "0")
    assert other.distress == network.distress and other.derived == ()
    assert "distress" not in {m.name for m in registry.select("default", fewer, (), network.counts, other.derived)}


def test_heads_of_a_user_inherit_distress(static: str, tmp_path: Path) -> None:
    network = base.load(static)
    made = toned.head("mood", 1.0, network.heads[0].weight.shape[0], np.random.default_rng(1), "document")
    base.save_heads(tmp_path / "own", network, [made], "")
    own = base.load(tmp_path / "own")
    assert own.distress == network.distress
    table = ac.Scorer(str(tmp_path / "own")).score(ROWS)
    assert table["distress"].equals(ac.Scorer(static).score(ROWS)["distress"]) and "mood" in table.column_names


def test_rates_have_to_be_given(static: str) -> None:
    values, offsets = ragged(pa.array([SAD], pa.large_string()))
    with pytest.raises(ValueError, match="needs the columns"):
        emotion.score(values, offsets, {"distress"}, base.load(static))


# -- along a text --------------------------------------------------------------------------------------------------


def test_dynamics_over_the_passages_of_a_text(model: str) -> None:
    network = base.load(model)
    table = ac.Scorer(model, ["dynamics", "lexical"]).score(ROWS).to_pydict()
    values, offsets = ragged(pa.array([row or "" for row in ROWS], pa.large_string()))
    scored = network.score(values, offsets)
    columns = [column for head in network.heads for column in head.columns]
    begin, parts = 0, {}
    for head in network.heads:
        k = len(head.columns)
        parts[head.name] = emotion.of_units(head, scored.logits[:, begin : begin + k])
        begin += k
    vad = next(head for head in network.heads if head.name == "vad")
    toned_units = weights(scored) > 0
    assert segments.CODE in scored.kind[scored.first[3] + 1 : scored.first[4] - 1]  # a gap that keeps its place
    for d, (a, b) in enumerate(zip(scored.first, scored.first[1:])):
        if ROWS[d] is None:
            assert all(table[name][d] is None for name in NAMES)
            continue
        x = np.full(b - a, toned.RECORD["bias"])
        for name, weight in toned.WEIGHTS.items():
            if name.startswith("emotion_"):
                emotions = next(head for head in network.heads if head.name == "emotion")
                x += weight * parts["emotion"][a:b, emotions.columns.index(name)]
            elif name.startswith("_"):
                x += weight * scored.logits[a:b, columns.index(name)]
            else:
                x += weight * min(table[name][d], 10)
        series = {"valence": parts["vad"][a:b, vad.columns.index("valence")], "distress": 1 / (1 + np.exp(-x))}
        for score, whole in series.items():
            there = whole[toned_units[a:b]].astype(np.float64)
            peak, sd = table[f"{score}_peak"][d], table[f"{score}_sd"][d]
            assert peak == (pytest.approx(there.max(), abs=1e-6) if len(there) else None)
            assert sd == (pytest.approx(np.std(there, ddof=1), abs=1e-6) if len(there) > 1 else None)
            at = np.flatnonzero(toned_units[a:b])
            slope = table[f"{score}_slope"][d]
            assert slope == (pytest.approx(np.polyfit(at, there, 1)[0], abs=1e-5) if len(there) > 1 else None)


def test_a_text_of_one_passage_has_a_peak_only(static: str) -> None:
    (row,) = ac.Scorer(static, "distress,valence,dynamics").score(["I give up."]).to_pylist()
    assert row["valence_peak"] == pytest.approx(row["valence"], abs=1e-6)
    assert row["distress_peak"] == pytest.approx(row["distress"], abs=1e-6)
    assert {name for name in NAMES if row[name] is None} == set(NAMES) - {"valence_peak", "distress_peak"}


def test_dynamics_are_no_columns_of_segments(static: str) -> None:
    assert not set(NAMES) & set(ac.Scorer(static, unit="segment").schema.names)
    for name in ("valence_sd", "dynamics"):
        with pytest.raises(ac.UsageError, match="about several segments"):
            ac.Scorer(static, name, unit="segment")


def test_dynamics_of_conversations_are_over_turns(static: str) -> None:
    import pyarrow as pa

    said = [SAD, CALM, SAD + CALM, CALM * 9]
    chat = [{"role": role, "content": text} for text in said for role in ("user", "assistant")]
    table = pa.table({"id": [0], "messages": [chat]})
    (row,) = ac.Scorer(static, unit="conversation").score(table).to_pylist()
    turns = ac.Scorer(static, "valence,distress").score(said).to_pydict()
    for name in ("valence", "distress"):
        assert row[f"{name}_peak"] == pytest.approx(max(turns[name]), abs=1e-6)
        assert row[f"{name}_sd"] == pytest.approx(np.std(turns[name], ddof=1), abs=1e-6)
    assert {"response_to_distress", "mirroring", "boundary_keeping"} <= set(row)
    (turn, *_) = ac.Scorer(static, unit="turn").score(table).to_pylist()
    assert turn["distress_peak"] is not None


def test_named_conversation_metrics_bring_what_they_need(static: str) -> None:
    import pyarrow as pa

    chat = [{"role": "user", "content": SAD}, {"role": "assistant", "content": CALM}]
    table = pa.table({"id": [0], "messages": [chat]})
    (row,) = ac.Scorer(static, "response_to_distress", unit="conversation").score(table).to_pylist()
    assert set(row) == {"id", "n_turns", "response_to_distress"}
    score = ac.Scorer(static, "distress").score([SAD])["distress"][0].as_py()
    assert score >= 0.5 and row["response_to_distress"] is not None


# -- terms ---------------------------------------------------------------------------------------------------------


def test_terms_are_what_the_rates_count() -> None:
    from affectcore.lexicons import LISTS

    texts = [SAD, CALM, "Don\u2019t be sorry to hear it; SORRY! (I) quit my job, i quit.", "", "it's pointless to try"]
    values, offsets = ragged(pa.array(texts, pa.large_string()))
    found = lexical.terms(values, offsets, LISTS)
    counted: Any = lexical.score(values, offsets, LISTS)
    for d, terms in enumerate(found):
        for name in LISTS:
            n = sum(1 for other, _ in terms if other == name)
            assert n == pytest.approx(counted[name][d] * counted["n_words"][d] / 100, abs=1e-4), (name, terms)
    assert ("giving_up", "i quit") in found[2] and len([t for t in found[2] if t[0] == "giving_up"]) == 1
    assert lexical.terms(values, offsets, ["giving_up"])[0] == [
        ("giving_up", "i give up"),
        ("giving_up", "i can't go on"),
    ]
