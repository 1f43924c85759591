"""Coarser taxonomies: the mappings against the published ones, and what conversion gives."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from affectcore.metrics.taxonomy import GOEMOTIONS, TAXONOMIES, convert

# ekman_mapping.json and sentiment_mapping.json of the GoEmotions repository, in their order.
EKMAN = {
    "anger": "anger annoyance disapproval",
    "disgust": "disgust",
    "fear": "fear nervousness",
    "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
    "sadness": "sadness disappointment embarrassment grief remorse",
    "surprise": "surprise realization confusion curiosity",
}
SENTIMENT = {
    "positive": "amusement excitement joy love desire optimism caring pride admiration gratitude relief approval",
    "negative": "fear nervousness remorse embarrassment disappointment sadness grief disgust anger annoyance "
    "disapproval",
    "ambiguous": "realization surprise curiosity confusion",
}


def probabilities(n: int = 50) -> np.ndarray:
    return np.random.default_rng(3).random((n, 28), np.float32)


def test_labels() -> None:
    assert len(GOEMOTIONS) == len(set(GOEMOTIONS)) == 28
    assert GOEMOTIONS[:-1] == tuple(sorted(GOEMOTIONS[:-1]))
    assert GOEMOTIONS[-1] == "neutral"
    assert TAXONOMIES["ekman"].labels == ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")
    assert TAXONOMIES["plutchik"].labels == (
        *("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust"),
    )
    assert TAXONOMIES["sentiment"].labels == ("positive", "negative", "neutral")


def test_ekman_and_sentiment_are_the_published_ones() -> None:
    ekman, sentiment = TAXONOMIES["ekman"].mapping, TAXONOMIES["sentiment"].mapping
    assert {k: set(v) for k, v in ekman.items()} == {k: set(v.split()) for k, v in EKMAN.items()} | {
        "neutral": {"neutral"}
    }
    assert set(sentiment["positive"]) == set(SENTIMENT["positive"].split())
    assert set(sentiment["negative"]) == set(SENTIMENT["negative"].split())
    assert set(sentiment["neutral"]) == {*SENTIMENT["ambiguous"].split(), "neutral"}


@pytest.mark.parametrize("name", TAXONOMIES)
def test_every_label_has_its_place(name: str) -> None:
    taxonomy = TAXONOMIES[name]
    counted = [label for members in taxonomy.mapping.values() for label in members]
    if name == "plutchik":
        assert set(counted) == set(GOEMOTIONS) - {"neutral"}
        assert {label for label in GOEMOTIONS if len(taxonomy.coarse(label)) == 2} == {
            *("excitement", "gratitude", "love", "optimism", "remorse"),
        }
    else:
        assert sorted(counted) == sorted(GOEMOTIONS)  # a partition
    for label in GOEMOTIONS:
        assert all(label in taxonomy.mapping[coarse] for coarse in taxonomy.coarse(label))
    for members in taxonomy.mapping.values():
        assert list(members) == sorted(members, key=GOEMOTIONS.index)
    # A label of both sets means the same in both.
    assert all(label in taxonomy.mapping[label] for label in set(taxonomy.labels) & set(GOEMOTIONS))


@pytest.mark.parametrize("name", TAXONOMIES)
def test_convert_takes_the_highest(name: str) -> None:
    p = probabilities()
    out = convert(p, name)
    assert out.dtype == np.float32
    assert out.shape == (len(p), len(TAXONOMIES[name].labels))
    for row, found in zip(p.tolist(), out.tolist()):
        by_label = dict(zip(GOEMOTIONS, row))
        assert found == [max(by_label[x] for x in members) for members in TAXONOMIES[name].mapping.values()]


@pytest.mark.parametrize("name", TAXONOMIES)
def test_a_single_label_goes_where_it_belongs(name: str) -> None:
    out = convert(np.eye(28, dtype=np.float32), name)
    for label, row in zip(GOEMOTIONS, out):
        assert tuple(np.array(TAXONOMIES[name].labels)[row == 1]) == TAXONOMIES[name].coarse(label)


def test_convert_of_nothing_and_of_missing_values() -> None:
    assert convert(np.empty((0, 28), np.float32), "plutchik").shape == (0, 8)
    p = probabilities(2)
    p[0] = np.nan
    out = convert(p, "ekman")
    assert np.isnan(out[0]).all()
    assert not np.isnan(out[1]).any()


def test_errors_name_the_choices() -> None:
    with pytest.raises(ValueError, match=r"unknown taxonomy 'eckman': choose from ekman, plutchik, sentiment"):
        convert(probabilities(1), "eckman")
    with pytest.raises(ValueError, match=r"shape \(1, 27\); it must be \(n, 28\)"):
        convert(probabilities(1)[:, 1:], "ekman")
    with pytest.raises(ValueError, match="no label 'hope'"):
        TAXONOMIES["ekman"].coarse("hope")


def test_taxonomies_cannot_be_changed() -> None:
    taxonomy = TAXONOMIES["ekman"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        taxonomy.name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        taxonomy.mapping["joy"] = ()  # type: ignore[index]


def test_metrics_do_not_import_training_or_numpy() -> None:
    code = (
        "import sys; from affectcore.metrics import taxonomy, emonet; "
        "print(sorted({'numpy', 'pyarrow', 'affectcore.training'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
