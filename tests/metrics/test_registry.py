from __future__ import annotations

import json

import pytest

from affectcore.errors import UsageError
from affectcore.metrics import METRICS, Metric, emonet, select
from affectcore.metrics.registry import GROUPS
from affectcore.metrics.taxonomy import GOEMOTIONS, TAXONOMIES

COLUMNS = [
    *("vader_compound", "vader_pos", "vader_neu", "vader_neg"),
    *(f"emotion_{label}" for label in GOEMOTIONS),
    *("valence", "arousal", "dominance"),
    *("distress", "refusal", "politeness", "hedging", "toxicity", "warmth", "sycophancy", "delusion_reinforcement"),
    *("escalation", "pushback", "seek_help", "dependence", "manipulation"),
    *(f"{m}_{what}" for m in ("valence", "distress") for what in ("sd", "instability", "inertia", "slope", "peak")),
    *("first_person", "absolutist", "hedges", "boosters", "apologies", "self_blame", "hopelessness", "giving_up"),
    *("flattery", "gratitude"),
    *("exclaims", "questions", "caps"),
    *("n_bytes", "n_words", "n_segments", "n_tokens", "n_excluded_bytes", "truncated", "n_invalid_bytes"),
]
ON_REQUEST = [
    *(f"{name}_{label}" for name, taxonomy in TAXONOMIES.items() for label in taxonomy.labels),
    *GROUPS["conversation"],
    *emonet.NAMES,
]


def test_columns_and_their_order() -> None:
    assert [m for m in METRICS if m not in ON_REQUEST] == COLUMNS
    assert set(METRICS) == {*COLUMNS, *ON_REQUEST}
    assert [m.name for m in select("default")] == COLUMNS
    assert [name for name in METRICS if METRICS[name].group == "emonet"] == list(emonet.NAMES)
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(METRICS)


def test_every_measured_figure_is_there() -> None:
    for name in (*GROUPS["emotion"], *GROUPS["vad"]):
        assert "95% interval" in METRICS[name].validated_on


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_entry_is_documentation(metric: Metric) -> None:
    assert metric.version >= 1
    assert metric.dtype == ("int32" if metric.name.startswith("n_") or metric.group == "counts" else "float32")
    assert metric.higher_is in ("better", "worse", "neither")
    for text in (metric.definition, metric.source, metric.validated_on, metric.limits, metric.unit):
        assert text and text == text.strip() and "  " not in text
    assert metric.definition.endswith(".") and metric.limits.endswith(".")
    low, high = metric.range
    assert low is None or high is None or low < high
    assert json.loads(json.dumps(metric.to_dict()))["range"] == [low, high]
    if metric.group == "vader":
        assert metric.validated_on == "exact to vaderSentiment 3.3.2"
        assert "Hutto & Gilbert 2014" in metric.source
    if metric.group == "lexical":
        assert metric.validated_on == "not validated against human labels yet; a count"
        assert metric.source == f"affectcore/lexicons/{metric.name}.txt, written for this project"
        assert metric.unit == "per 100 words"


def test_word_lists_are_the_lexical_metrics() -> None:
    from affectcore.lexicons import LISTS

    assert GROUPS["lexical"] == tuple(LISTS)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("caps,exclaims", ["caps", "exclaims"]),
        (["n_words", "vader_compound"], ["n_words", "vader_compound"]),
        (
            ["counts"],
            ["n_bytes", "n_words", "n_segments", "n_tokens", "n_excluded_bytes", "truncated", "n_invalid_bytes"],
        ),
        (["caps", "surface", " questions "], ["caps", "exclaims", "questions"]),
        (["hedges", "default"], ["hedges", *(name for name in COLUMNS if name != "hedges")]),
    ],
)
def test_select_keeps_the_order_asked_for(names: str | list[str], expected: list[str]) -> None:
    assert [m.name for m in select(names)] == expected


@pytest.mark.parametrize(
    ("wrong", "meant"), [("vader_compund", "vader_compound"), ("lexicl", "lexical"), ("defualt", "default")]
)
def test_select_proposes_the_nearest_name(wrong: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown metric '{wrong}' \(did you mean '{meant}'\?\)"):
        select([wrong])


def test_select_without_names() -> None:
    with pytest.raises(UsageError, match="no metric was named"):
        select([])


def test_range_text() -> None:
    assert METRICS["vader_compound"].range_text == "[-1, 1]"
    assert METRICS["n_words"].range_text == "[0, no limit)"
