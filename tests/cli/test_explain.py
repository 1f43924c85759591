"""`affectcore explain`, `affectcore.explain`, and what `affectcore metrics NAME` says of tone."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import toned

import affectcore as ac
from affectcore.cli.main import main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from affectcore.metrics import registry
from affectcore.metrics.registry import METRICS, Figure
from affectcore.models import base

SAD = "I am so sorry, it's all my fault.\n\n```\nx = 1\n```\n\nI give up. The list is empty."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toned.save(tmp_path_factory.mktemp("explain") / "static-tone", "static"))


@pytest.mark.parametrize("metric", ["distress", "refusal", "politeness", "valence", "emotion_remorse"])
def test_the_score_is_that_of_the_scorer(model: str, metric: str) -> None:
    found = ac.explain(SAD, metric, model)
    assert found.score == ac.Scorer(model, metric).score([SAD])[metric][0].as_py()
    assert (found.metric, found.model) == (metric, "static-tone")
    segments = ac.Scorer(model, metric, unit="segment").score([SAD]).to_pylist()
    assert sorted((s.start, s.kind, s.score) for s in found.segments) == sorted(
        (row["segment_start"], row["segment_kind"], row[metric]) for row in segments
    )
    scores = [s.score for s in found.segments if s.score is not None]
    assert scores == sorted(scores, reverse=True) and found.segments[-1].kind == "code"


@pytest.mark.parametrize("metric", ["distress", "refusal", "politeness"])
def test_features_add_up_to_the_score(model: str, metric: str) -> None:
    found = ac.explain(SAD, metric, model)
    assert found.logit == pytest.approx(sum(feature.adds for feature in found.features))
    assert found.score == pytest.approx(1 / (1 + np.exp(-found.logit)), abs=1e-6)  # type: ignore[operator]
    sizes = [abs(feature.adds) for feature in found.features]
    assert sizes == sorted(sizes, reverse=True)
    names = {feature.name for feature in found.features}
    assert names == ({"bias", *toned.WEIGHTS} if metric == "distress" else {"bias", "text"})


def test_terms_of_the_segments(model: str) -> None:
    found = {s.text: s.terms for s in ac.explain(SAD, model=model).segments}
    assert found["I give up."] == (("first_person", "i"), ("giving_up", "i give up"))
    assert ("self_blame", "all my fault") in found["I am so sorry, it's all my fault."]
    assert found["The list is empty."] == ()
    # Distress names the lists that it is made of; other scores name all.
    praise = "Great question, perhaps."
    assert ac.explain(praise, model=model).segments[0].terms == ()
    assert {name for name, _ in ac.explain(praise, "refusal", model).segments[0].terms} == {"flattery", "hedges"}


@pytest.mark.parametrize("text", ["", " \n", "```\nx\n```\n", "<think>I give up.</think>"])
def test_texts_without_words(model: str, text: str) -> None:
    for metric, neutral in (("distress", 0), ("refusal", 0), ("politeness", 0.5)):
        found = ac.explain(text, metric, model)
        assert (found.score, found.logit, found.features) == (neutral, None, ())


LONG = "\n".join(
    f"I am so sorry about {thing}, it was all my fault.\n> quoted: {thing}\nThe list of {thing} is empty; look again."
    for thing in ("the bread", "the letter", "the garden " * 30, "the index", "42")
)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("", "emotion_remorse"), ("", "distress"), ("", "refusal"), ("mini", "emotion_remorse")],
)
def test_passages_are_what_was_scored(model: str, name: str, metric: str) -> None:
    model = name or model
    for text in (SAD, LONG):
        found = ac.explain(text, metric, model)
        network = base.load(model)
        values = np.frombuffer(text.encode(), np.uint8)
        scored = network.score(values, np.array([0, len(values)]))
        weights = base.weights(scored)
        assert sorted(p.n_tokens for p in found.passages) == sorted(weights[weights > 0].astype(int))
        scores = [p.score for p in found.passages]
        assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
        assert all(text.encode()[p.start :].decode().strip().startswith(p.text) for p in found.passages)
        assert not any("quoted" in p.text or "x = 1" in p.text for p in found.passages)
        if metric == "emotion_remorse":
            mean = sum((p.score or 0.0) * p.n_tokens for p in found.passages) / weights.sum()
            assert found.score == pytest.approx(mean, abs=1e-6)
        if metric == "distress":  # the passage with the highest score is the peak of how distress goes along
            peak = ac.Scorer(model, "distress_peak").score([text])["distress_peak"][0].as_py()
            assert peak is None or peak == pytest.approx(scores[0], abs=1e-6)


def test_means_over_passages_have_no_logit(model: str) -> None:
    found = ac.explain(SAD, "emotion_remorse", model)
    assert found.logit is None and found.features == () and found.segments[0].score is not None


def test_what_cannot_be_explained(model: str) -> None:
    for metric, message in (
        ("hedges", "'hedges' needs no explanation"),
        ("vader_compound", "needs no explanation"),
        ("distres", "did you mean 'distress'"),
        ("_distress_voice", "unknown metric"),
        ("valence_sd", "needs no explanation"),
    ):
        with pytest.raises(ac.UsageError, match=message):
            ac.explain(SAD, metric, model)
    with pytest.raises(ac.UsageError, match="must be str, not list"):
        ac.explain([SAD], model=model)  # type: ignore[arg-type]
    with pytest.raises(ac.UsageError, match="needs a model"):
        ac.explain(SAD, model="none")


def test_command_prints_score_features_and_segments(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", SAD, "--model", model, "--segments", "2"]) == EXIT_DONE
    shown = capsys.readouterr().out
    found = ac.explain(SAD, model=model)
    assert shown.startswith(f"distress {found.score:.3f}, logit {found.logit:+.2f} (model static-tone)\n")
    for feature in found.features:
        assert f"{feature.adds:+.3f}" in shown and feature.name in shown
    assert "giving_up: i give up" in shown
    assert "and 2 more; --segments N shows more" in shown
    assert "as it was scored" in shown
    for passage in found.passages:
        assert f"{passage.score:.3f}" in shown and f"{passage.n_tokens:,}" in shown
    assert main(["explain", LONG, "--metric", "emotion_remorse", "--model", model, "--segments", "1"]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert "the mean over the passages, weighted by their tokens" in shown and "more passages" in shown


def test_command_writes_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", SAD, "--model", model, "--metric", "refusal", "--json"]) == EXIT_DONE
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads(json.dumps(ac.explain(SAD, "refusal", model).to_dict()))
    assert len(content["segments"]) == 4


def test_command_reads_files_and_standard_input(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answer.txt"
    path.write_text(SAD, encoding="utf-8")
    outputs = []
    for arguments in ([SAD], ["--file", str(path)], ["-"], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SAD.encode())))
        assert main(["explain", *arguments, "--model", model]) == EXIT_DONE
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1


def test_command_says_what_is_wrong(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, message in (
        ([], EXIT_USAGE, "give either a text or --file"),
        (["a", "--file", "b"], EXIT_USAGE, "give either a text or --file"),
        (["--file", str(tmp_path / "none.txt")], EXIT_FAILED, "cannot be read"),
        (["a", "--metric", "hedges"], EXIT_USAGE, "needs no explanation"),
    ):
        assert main(["explain", *arguments, "--model", model]) == code
        assert message in capsys.readouterr().err


def test_metrics_show_figures_and_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("mini", "a set, 5 folds", "AUROC", 0.875, 0.85, 0.9, 300, keywords=0.6, vader=0.55)
    entry = registry.replace(METRICS["dependence"], figures=(figure,), validated_on="said by figures")
    monkeypatch.setitem(METRICS, "dependence", entry)
    assert main(["metrics", "dependence"]) == EXIT_DONE
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "experimental",
        "lower is better",
        "[0, 1]",
        "a set, 5 folds, AUROC: mini 0.88 (95% interval 0.85 to 0.90) against keywords 0.60, VADER 0.55; 300 texts",
        "contrast sets of our own",
    ):
        assert part in shown
    assert main(["metrics", "dependence", "--json"]) == EXIT_DONE
    (content,) = json.loads(capsys.readouterr().out)
    assert content["experimental"] is True and content["figures"][0]["keywords"] == 0.6
    assert main(["metrics", "dynamics", "--json"]) == EXIT_DONE
    assert len(json.loads(capsys.readouterr().out)) == 10


def test_models_say_how_distress_is_made(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", model, "--json"]) == EXIT_DONE
    content = json.loads(capsys.readouterr().out)
    assert content["distress"] == toned.RECORD
    assert {head["name"] for head in content["heads"]} >= {"refusal", "_distress_voice"}
    assert main(["models", model]) == EXIT_DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert "manipulation, distress" in shown and "_distress" not in shown
