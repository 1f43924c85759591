"""What `Scorer.score` takes: every plain way to hold texts in Python gives the scores of the same texts in a list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import affectcore as ac

LOVE, HATE = "I love this, it is wonderful.", "What a terrible, sad day."
CHAT = [{"role": "user", "content": HATE}, {"role": "assistant", "content": LOVE}]
SHAREGPT = [{"from": "human", "value": HATE}, {"from": "gpt", "value": LOVE}]
PARTS = [{"role": "assistant", "content": [{"type": "text", "text": LOVE}, {"type": "image_url"}]}]


@pytest.fixture(scope="module")
def scorer() -> ac.Scorer:
    return ac.Scorer("none", "vader_compound,n_words")


def scores(scorer: ac.Scorer, texts: Any, **options: Any) -> list[tuple[Any, Any]]:
    table = scorer.score(texts, **options)
    return list(zip(table["vader_compound"].to_pylist(), table["n_words"].to_pylist()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (LOVE, [LOVE]),
        (LOVE.encode(), [LOVE]),
        ((LOVE, HATE), [LOVE, HATE]),
        (iter([LOVE, None]), [LOVE, None]),
        ([LOVE, math.nan, None], [LOVE, None, None]),
        (np.array([LOVE, HATE]), [LOVE, HATE]),
        (np.array([LOVE, None], object), [LOVE, None]),
        ([{"text": LOVE, "model": "a"}, {"text": HATE}], [LOVE, HATE]),
        ([{"text": LOVE}, None, {"text": math.nan}], [LOVE, None, None]),
        ({"text": [LOVE, HATE], "model": ["a", "b"]}, [LOVE, HATE]),
        ({"text": LOVE, "model": "a"}, [LOVE]),
        (CHAT, [LOVE]),
        (SHAREGPT, [LOVE]),
        (PARTS, [LOVE]),
        ([CHAT, None, HATE, tuple(CHAT)], [LOVE, None, HATE, LOVE]),
        ([[]], [None]),
        ([{"messages": CHAT, "model": "a"}], [LOVE]),
    ],
)
def test_plain_python_is_taken_as_it_is_meant(scorer: ac.Scorer, given: Any, said: list[str | None]) -> None:
    assert scores(scorer, given) == scores(scorer, said)


def test_rows_keep_their_columns_and_other_units_see_conversations(scorer: ac.Scorer) -> None:
    kept = scorer.score([{"text": LOVE, "model": "a"}, {"text": HATE, "n": 3}])
    assert kept.select(["model", "n"]).to_pylist() == [{"model": "a", "n": None}, {"model": None, "n": 3}]
    turns = ac.Scorer("none", "n_words", "turn", roles="all").score([CHAT, CHAT])
    assert turns["role"].to_pylist() == ["user", "assistant"] * 2
    rows = [{**message, "conversation_id": 7} for message in CHAT]  # a column more: a table with a row per turn
    whole = ac.Scorer("none", "n_words", "conversation").score(rows)
    assert whole["conversation_id"].to_pylist() == [7]
    assert ac.Scorer("none", "n_words", "conversation").score(CHAT)["n_turns"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([LOVE, ["x"]], "text 1 is a list whose item 0 is str"),
        ([CHAT, 3], "text 1 is int"),
        ([[{"a": 1}]], "'role' and 'content'.*these have 'a'"),
        ([[{"role": "assistant", "content": 3}]], "text 0: message 0 has content that is a number"),
        ({1: [LOVE]}, "names of columns"),
        ({"text": [LOVE], "id": [1, 2]}, "columns of one length"),
        ([{"text": 1}, {"text": LOVE}], "'text' cannot be one column"),
        (5, "cannot read texts from int"),
    ],
)
def test_what_is_not_plain_is_named(scorer: ac.Scorer, given: Any, message: str) -> None:
    with pytest.raises(ac.UsageError, match=message):
        scorer.score(given)


def test_frames_and_data_sets_of_other_libraries(scorer: ac.Scorer) -> None:
    polars = pytest.importorskip("polars")
    datasets = pytest.importorskip("datasets")
    wanted = scores(scorer, [LOVE, HATE])
    columns = {"text": [LOVE, HATE], "id": [1, 2]}
    assert scores(scorer, polars.LazyFrame(columns)) == wanted
    assert scores(scorer, polars.DataFrame(columns)) == wanted
    data = datasets.Dataset.from_dict(columns)
    assert scores(scorer, data) == wanted
    assert scorer.score(data)["id"].to_pylist() == [1, 2]
    assert scores(scorer, data.select([1, 0])) == wanted[::-1]  # the order that it shows, not that of its file
    assert scores(scorer, data.to_iterable_dataset()) == wanted
    assert scores(scorer, data.select([])) == []
    assert [batch.num_rows for batch in scorer.stream(data)] == [2]
    with pytest.raises(ac.UsageError, match=r"splits \('train'\): give one"):
        scorer.score(datasets.DatasetDict(train=data))


def test_a_series_as_a_list_has_nan_for_missing_texts(scorer: ac.Scorer) -> None:
    pandas = pytest.importorskip("pandas")
    given = pandas.Series([LOVE, None, pandas.NA]).tolist()
    assert scores(scorer, given) == scores(scorer, [LOVE, None, None])


def test_arrow_data_is_not_copied(scorer: ac.Scorer) -> None:
    array = pa.array([LOVE, HATE])
    assert scores(scorer, pa.chunked_array([array, array])) == scores(scorer, [LOVE, HATE] * 2)
    assert scores(scorer, pa.RecordBatch.from_arrays([array], ["text"])) == scores(scorer, [LOVE, HATE])


TEXTS = [
    LOVE,
    HATE.encode(),
    None,
    "",
    "   ",
    "```\ncode\n```",
    "<think>So sad.</think>I am fine!",
    "<think>never closed",
    "[THINK]why?[/THINK]",
    "<answer>yes</answer>",
    "bad \ud800 surrogate",
    b"\xff\xfe",
    "Great! " * 300,
]


@pytest.mark.parametrize("parts", ["answer", "reasoning", "whole"])
@pytest.mark.parametrize("model", ["none", "static"])
def test_one_text_has_the_scores_of_a_list(model: str, parts: str) -> None:
    scorer = ac.Scorer(model, parts=parts, logits=model != "none")
    at_once = scorer.score(TEXTS).to_pylist()
    for text, wanted in zip(TEXTS, at_once):
        alone = scorer.score_one(text)
        assert list(alone) == scorer.schema.names
        assert alone == wanted
        assert scorer.score([text]).to_pylist() == [wanted]  # a batch of one adds up as a batch of many
        assert {type(value) for value in alone.values()} <= {float, int, type(None)}
    assert scorer.score_one(CHAT) == scorer.score([CHAT]).to_pylist()[0]


def test_one_text_is_one_row() -> None:
    for options in ({"unit": "segment"}, {"parts": "both"}):
        with pytest.raises(ac.UsageError, match="use score"):
            ac.Scorer("none", **options).score_one(LOVE)  # type: ignore[arg-type]
