"""VADER parity: equal to vaderSentiment 3.3.2 in every decimal it prints."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import arena_hard, spiral_bench, texts, vader_gold

import affectcore as ac

COLUMNS = {"vader_compound": "compound", "vader_pos": "pos", "vader_neu": "neu", "vader_neg": "neg"}


@lru_cache(maxsize=1)
def peer() -> Any:
    module = pytest.importorskip("vaderSentiment.vaderSentiment")
    return module.SentimentIntensityAnalyzer()


def differences(rows: list[str], backend: str = "numba") -> list[str]:
    scores = ac.Scorer(metrics="vader", backend=backend).score(rows)
    columns = {mine: scores[mine].to_numpy() for mine in COLUMNS}
    out = []
    for k, text in enumerate(rows):
        wanted = peer().polarity_scores(text)
        found = {theirs: round(float(columns[mine][k]), 4) for mine, theirs in COLUMNS.items()}
        if found != {name: round(value, 4) for name, value in wanted.items()}:
            out.append(f"{text[:200]!r}: {wanted} against {found}")
    return out


@pytest.mark.parametrize("source", [vader_gold, arena_hard, spiral_bench], ids=lambda f: f.__name__)
def test_real_texts(source: Any) -> None:
    rows = source()
    assert len(rows) > 2000
    assert differences(rows) == []


@given(st.lists(texts(), min_size=50, max_size=50))
@settings(max_examples=400)  # 20,000 strings
def test_made_texts(rows: list[str]) -> None:
    assert differences(rows) == []


@pytest.mark.parametrize("backend", ["reference", "triton"])
@given(rows=st.lists(texts(), min_size=4, max_size=4))
@settings(max_examples=10)
def test_made_texts_on_other_backends(backend: str, rows: list[str]) -> None:
    assert differences(rows, backend) == []


@pytest.mark.parametrize(("backend", "step"), [("reference", 29), ("triton", 700)])
def test_sample_of_real_texts_on_other_backends(backend: str, step: int) -> None:
    assert differences(vader_gold()[::step], backend) == []


def test_real_answers_on_the_reference() -> None:
    assert differences(arena_hard()[::100], "reference") == []


def test_half_way_values_round_like_python() -> None:
    # 1 positive word among k neutral ones: shares such as 0.0625 lie exactly between two decimals.
    rows = ["good " + "x " * k for k in range(400)]
    assert differences(rows) == []


def test_equal_sentiments_around_but() -> None:
    # 3.0 halves to 1.5, which then is the first value equal to a later 1.5, and so on down the chain.
    words = ["awesome", "love", "great", "superb", "good", "okay", "fine", "bad", "horrible", "sad", "but", "x"]
    random = np.random.default_rng(7)
    rows = [" ".join(random.choice(words, size=random.integers(2, 60))) for _ in range(500)]
    assert differences(rows) == []


def time_of(scorer: ac.Scorer, text: str) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        scorer.score([text])
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize(
    "unit",
    ["😀", "good but ", "awesome good fine but bad ", "x", "!", "n't", "\u00e9", "no kind of never so bad ass "],
    ids=["emoji", "but", "chains at but", "one word", "marks", "contraction", "two bytes", "rules"],
)
def test_time_is_linear(unit: str) -> None:
    scorer = ac.Scorer(metrics="default")
    scorer.score([unit * 10])
    short, long = time_of(scorer, unit * 20_000), time_of(scorer, unit * 160_000)
    # Eight times the text; quadratic would be 64 times. The floor keeps noise of short runs out.
    assert long < 24 * max(short, 2e-4)


CORRECTED = {
    # vaderSentiment issue 144: an idiom counts as a whole, wherever it stands.
    "kiss of death": -0.3612,
    "it was his kiss of death": -0.3612,
    "The kiss of death comes first here": -0.3612,
    "I missed the bus stop": ac.Scorer(vader="corrected").score(["I missed the place"])["vader_compound"][0].as_py(),
}


@pytest.mark.parametrize("text", CORRECTED)
def test_corrected_idioms(text: str) -> None:
    score = ac.Scorer(vader="corrected").score([text])["vader_compound"][0].as_py()
    assert score == pytest.approx(CORRECTED[text], abs=1e-4)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("I did not. Good!", "Good!"),  # negation does not reach across the end of a sentence
        ("It isn’t good", "It is good"),  # curly apostrophes negate
        ("I think all of this good", "I think all of that good"),  # "this" alone does not strengthen
    ],
)
def test_corrected_never_exceeds(less: str, more: str) -> None:
    low, high = ac.Scorer(vader="corrected").score([less, more])["vader_compound"].to_pylist()
    assert low <= high


def test_corrected_but_stays_in_its_sentence() -> None:
    rows = ["It is great. I know. Slow, but nice.", "Slow, but nice. It is great. I know."]
    corrected = ac.Scorer(vader="corrected").score(rows)["vader_compound"].to_pylist()
    exact = ac.Scorer().score(rows)["vader_compound"].to_pylist()
    assert corrected[0] == corrected[1]
    assert exact[0] != exact[1]


def test_corrected_text_after_an_emoji_is_a_word() -> None:
    exact, corrected = (
        ac.Scorer(vader=mode).score(["🙂great"])["vader_pos"][0].as_py() for mode in ("exact", "corrected")
    )
    assert corrected > exact
