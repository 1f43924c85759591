from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import affectcore as ac
from affectcore.errors import UsageError
from affectcore.explanation import explain
from affectcore.report import texts

GLAD = ["I am so happy, what a joy!", "The index maps keys to rows.", "What a wonderful, joyful day! It made me happy."]
PLAIN = ["Sort the rows first.", "Restart the server. I am happy to help.", "See line 42 – naïve, but it works."]


def chats() -> list[dict[str, Any]]:
    rows = []
    for model, answers in (("glad", GLAD), ("plain", PLAIN)):
        for k in range(2):
            messages = [
                m
                for i, text in enumerate(answers[k:])
                for m in (
                    {"role": "user", "content": f"I am overjoyed, so happy! {i}"},
                    {
                        "role": "assistant",
                        "content": f"<think>Joy, joy, what happiness!</think>\n\n{text}" if k else text,
                    },
                )
            ]
            rows.append({"model": model, "prompt_id": f"p{k}", "messages": messages})
    return rows


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in chats()), encoding="utf-8")
    return path


def scored(dump: Path, metrics: str = "emotion_joy,vader_compound,n_bytes,n_words", **options: Any) -> Path:
    out = dump.with_name("scores.parquet")
    keep = options.pop("keep", None)
    ac.score_dataset(dump, out, scorer=ac.Scorer(metrics=metrics, **options), keep=keep, overwrite=True)
    return out


@pytest.mark.parametrize("parts", ["answer", "both"])
def test_the_highest_scores_with_their_texts(dump: Path, parts: str) -> None:
    scores = scored(dump, unit="turn", roles="all", parts=parts)
    rows = pq.read_table(scores).to_pylist()
    found = texts.telling(scores, "model", ["emotion_joy", "n_words"], dump, 2).to_pylist()
    assert [f["metric"] for f in found] == ["emotion_joy"] * 4 + ["n_words"] * 4
    for metric in ("emotion_joy", "n_words"):
        mine = [f for f in found if f["metric"] == metric]
        assert [f["score"] for f in mine] == sorted((f["score"] for f in mine), reverse=True)
        for model in ("glad", "plain"):
            # Users' turns and reasoning are full of joy, and not what the model answered.
            answers = [
                r[metric]
                for r in rows
                if r["model"] == model and r["role"] == "assistant" and r.get("part", "answer") == "answer"
            ]
            assert [f["score"] for f in mine if f["by"] == model] == sorted(answers, reverse=True)[:2]
    for f in found:
        assert f["text"] in (GLAD if f["by"] == "glad" else PLAIN)
        assert ac.Scorer(metrics=f["metric"]).score([f["text"]])[0][0].as_py() == pytest.approx(f["score"])
        assert any(m["content"].endswith(f["text"]) for m in chats()[f["row"]]["messages"])
        assert f["file"] == str(dump)


def test_segments_are_those_of_the_explanation(dump: Path) -> None:
    scores = scored(dump, unit="turn")
    found = texts.telling(scores, "model", ["emotion_joy", "vader_compound"], dump, 5).to_pylist()
    assert {len(f["segments"]) for f in found} >= {1, 2}
    vader = ac.Scorer("none", "vader_compound")
    for f in found:
        pieces = [f["text"][s["start"] : s["end"]] for s in f["segments"]]
        if f["metric"] == "emotion_joy":
            wanted = {s.text: s.score for s in explain(f["text"], "emotion_joy").segments}
            assert dict(zip(pieces, [s["score"] for s in f["segments"]])) == pytest.approx(wanted)
        else:
            assert [s["score"] for s in f["segments"]] == pytest.approx(vader.score(pieces)[0].to_pylist())
            assert "".join(pieces).replace(" ", "") == f["text"].replace(" ", "")


def test_a_text_kept_in_the_scores_needs_no_dump() -> None:
    said = pa.table({"model": ["a", "a", "b"], "text": ["One.", "Two, three. Four", "Five six"]})
    scores = ac.Scorer("none", "n_words").score(said)
    kept = scores.append_column("text", said["text"])
    found = texts.telling(kept, "model", "n_words", most=1).to_pylist()
    assert [(f["by"], f["score"], f["text"], f["row"]) for f in found] == [
        ("a", 3, "Two, three. Four", 1),
        ("b", 2, "Five six", 2),
    ]
    assert [s["score"] for s in found[0]["segments"]] == [2, 1]
    with pytest.raises(UsageError, match=r"no column 'text': give the dump"):
        texts.telling(scores, "model", "n_words")


def test_documents_of_several_samples_are_told_apart_by_their_length(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    rows = [{"model": "a", "prompt_id": "p", "response": text} for text in ("Fine.", "Very fine, thank you.", "Bad")]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    scores = scored(path, "vader_compound,n_bytes", model="none")
    found = texts.telling(scores, "model", "vader_compound", path, 1).to_pylist()
    assert [(f["text"], f["row"]) for f in found] == [("Very fine, thank you.", 1)]
    without = pq.read_table(scores).drop_columns(["n_bytes"])
    with pytest.raises(
        UsageError, match=r"several texts of the dump fit one row of the scores \(model=a, prompt_id=p\)"
    ):
        texts.telling(without, "model", "vader_compound", path, 1)


def test_rows_of_a_turn_table(tmp_path: Path) -> None:
    rows = [
        {"model": m, "conversation_id": m, "role": ("user", "assistant")[k % 2], "text": f"{m} {'so ' * k}good"}
        for m in "xy"
        for k in range(4)
    ]
    path = tmp_path / "turns.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    scores = scored(path, "n_words,n_bytes", model="none", unit="turn")
    found = texts.telling(scores, "model", "n_words", path, 2).to_pylist()
    assert sorted((f["text"], f["row"]) for f in found) == [
        ("x so good", 1),
        ("x so so so good", 3),
        ("y so good", 5),
        ("y so so so good", 7),
    ]


def test_a_long_text_is_cut_round_its_strongest_segment() -> None:
    dull = "Ä plain line of text. " * 400
    said = dull + "I love this wonderful, happy day! " + dull
    made = ac.Scorer("none", "vader_compound").score(pa.table({"model": ["a"], "id": ["1"], "text": [said]}))
    (f,) = texts.telling(made.append_column("text", pa.array([said])), "model", "vader_compound").to_pylist()
    assert len(f["text"]) == texts.LONGEST + 2
    assert f["text"][0] == f["text"][-1] == "…"
    strongest = max(f["segments"], key=lambda s: s["score"])
    assert f["text"][strongest["start"] : strongest["end"]] == "I love this wonderful, happy day!"
    assert all(0 < s["start"] < s["end"] < len(f["text"]) for s in f["segments"])
    whole = [s for s in f["segments"] if s["start"] > 1 and s["end"] < texts.LONGEST]
    assert {f["text"][s["start"] : s["end"]] for s in whole} == {
        "I love this wonderful, happy day!",
        "Ä plain line of text.",
    }


def test_a_segment_at_the_cut_is_cut_with_it() -> None:
    said = "happy " * 2000
    made = pa.table({"model": ["a"], "text": [said], "vader_compound": [1.0]})
    (f,) = texts.telling(made, "model", "vader_compound").to_pylist()
    assert f["text"] == said[: texts.LONGEST] + "…"
    assert (f["segments"][0]["start"], f["segments"][-1]["end"]) == (0, texts.LONGEST)


def test_a_changed_model_explains_nothing(dump: Path) -> None:
    scores = pq.read_table(scored(dump, unit="turn"))
    made = json.loads(scores.schema.metadata[b"affectcore"])
    for change in ({"model_hash": "0" * 16}, {"model": "no-such-model"}):
        changed = scores.replace_schema_metadata({"affectcore": json.dumps({**made, **change})})
        found = texts.telling(changed, "model", ["emotion_joy", "vader_compound"], dump, 1).to_pylist()
        assert [bool(f["segments"]) for f in found] == [False, False, True, True]
        assert all(f["text"] for f in found)


def test_what_is_impossible_is_said(dump: Path, tmp_path: Path) -> None:
    scores = scored(dump, unit="turn")
    with pytest.raises(UsageError, match=r"scores of conversations, which are not looked up"):
        texts.telling(scored(dump, unit="conversation"), "model", "n_words", dump)
    scores = scored(dump, unit="turn", keep=["model"])
    with pytest.raises(UsageError, match="no id ties the scores to the rows of the dump"):
        texts.telling(scores, "model", "n_words", dump)
    scores = scored(dump, unit="turn")
    other = tmp_path / "other.jsonl"
    other.write_text(dump.read_text().replace("p1", "q1"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"rows are not in the dump, the first model=.*prompt_id=p1"):
        texts.telling(scores, "model", "n_words", other, 50)
    with pytest.raises(UsageError, match="most must be at least 1"):
        texts.telling(scores, "model", "n_words", dump, 0)


def test_ties_and_missing_scores() -> None:
    values = [None, 0.5, np.nan, 0.5, 0.5, np.inf]
    made = pa.table({"model": ["a"] * 6, "text": [f"t{i}" for i in range(6)], "x": pa.array(values, pa.float64())})
    found = texts.telling(made, "model", "x", most=2).to_pylist()
    assert [f["text"] for f in found] == ["t1", "t3"]
    assert [f["segments"] for f in found] == [[], []]
