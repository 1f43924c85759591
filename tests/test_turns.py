"""Conversations and parts through `Scorer`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import data
from texts import texts as any_text

import affectcore as ac
from affectcore.errors import InputError, UsageError
from affectcore.metrics import context, registry
from affectcore.models import base

METRICS = "vader_compound,valence,emotion_joy,n_words,n_tokens"

SYSTEM = {"role": "system", "content": "You are kind."}
DEVELOPER = {"role": "developer", "content": "Answer briefly."}
HELLO = {"role": "user", "content": "I feel awful today."}
THOUGHT = {"role": "assistant", "content": "<think>They are sad.</think>\n\nI am so sorry to hear that!"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
EMPTY_CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "2", "type": "function"}]}
TOOL = {"role": "tool", "content": "42 degrees, terrible"}
EMPTY = {"role": "assistant", "content": ""}
APART = {"role": "assistant", "content": "Sure, great.", "reasoning_content": "This is awful."}
UNCLOSED = {"role": "assistant", "content": "<think>I go on and on"}
LAST = {"role": "assistant", "content": "Take care, friend!"}

CHATS: list[Any] = [
    [SYSTEM, DEVELOPER, HELLO, THOUGHT, HELLO, CALL, TOOL, EMPTY_CALL, TOOL, LAST],
    None,
    [],
    [SYSTEM, HELLO],
    [HELLO, EMPTY, HELLO, APART, HELLO, UNCLOSED],
    [{"role": "assistant", "content": "No user here."}],
    [{"role": None, "content": "nobody"}, {"role": "user", "content": None}],
]


def table(chats: list[Any] = CHATS) -> pa.Table:
    return pa.table({"id": list(range(len(chats))), "messages": pa.array(chats)})


def scored(source: Any, metrics: str = METRICS, **options: Any) -> list[dict[str, Any]]:
    text = {name: options.pop(name) for name in ("text", "conversation") if name in options}
    rows: list[dict[str, Any]] = ac.Scorer(metrics=metrics, **options).score(source, **text).to_pylist()
    return rows


def alone(texts: list[str | None], **options: Any) -> list[dict[str, Any]]:
    return scored(pa.array(texts, pa.string()), parts="whole", **options)


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


KEYS = ("id", "turn", "role", "part")


def test_a_row_per_assistant_turn() -> None:
    rows = scored(table(), unit="turn")
    wanted = [
        (0, 3, "I am so sorry to hear that!"),
        (0, 9, "Take care, friend!"),
        (4, 1, ""),
        (4, 3, "Sure, great."),
        (5, 0, "No user here."),
    ]
    assert [(r["id"], r["turn"]) for r in rows] == [w[:2] for w in wanted]
    assert {r["role"] for r in rows} == {"assistant"}
    assert without(rows, *KEYS) == alone([w[2] for w in wanted])
    assert list(rows[0])[:3] == ["id", "turn", "role"]


def test_roles() -> None:
    user = scored(table(), unit="turn", roles="user")
    assert [(r["id"], r["turn"]) for r in user] == [(0, 2), (0, 4), (3, 1), (4, 0), (4, 2), (4, 4)]
    assert without(user, *KEYS) == alone(["I feel awful today."] * 6)
    everybody = scored(table(), unit="turn", roles="all")
    assert [(r["turn"], r["role"]) for r in everybody if r["id"] == 0] == [
        (0, "system"),
        (1, "developer"),
        (2, "user"),
        (3, "assistant"),
        (4, "user"),
        (6, "tool"),
        (8, "tool"),
        (9, "assistant"),
    ]
    assert [(r["turn"], r["role"]) for r in everybody if r["id"] == 6] == [(0, None)]


@pytest.mark.parametrize("unit", ["turn", "conversation"])
def test_turns_of_other_roles_only_are_an_error_as_in_files(unit: str) -> None:
    chats = pa.array([[{"role": "alice", "content": "Hi."}, {"role": "user", "content": "Yes?"}]] * 2)
    rows = pa.table({"conversation_id": [1, 1], "role": ["user", "user"], "text": ["a", "b"]})
    said = r"no turn is the assistant's; the roles and their turns are: .*'user' \(2\) .*--roles user"
    for source in (chats, pa.table({"messages": chats}), rows):
        with pytest.raises(InputError, match=said):
            ac.Scorer("none", unit=unit).score(source)
        with pytest.raises(InputError, match=said):
            list(ac.Scorer("none", unit=unit).stream(source))
        assert ac.Scorer("none", unit=unit, roles="user").score(source).num_rows > 0
    one = pa.table({"messages": pa.array([chats[0].as_py(), [{"role": "gpt", "content": "Hi."}]])})
    assert ac.Scorer("none", unit="turn").score(one).num_rows == 1
    assert ac.Scorer("none", unit="turn").score(one.slice(0, 0)).num_rows == 0


def test_parts_of_turns() -> None:
    both = scored(table(), unit="turn", parts="both")
    assert [(r["id"], r["turn"], r["part"]) for r in both] == [
        (0, 3, "reasoning"),
        (0, 3, "answer"),
        (0, 9, "answer"),
        (4, 1, "answer"),
        (4, 3, "reasoning"),
        (4, 3, "answer"),
        (4, 5, "reasoning"),
        (5, 0, "answer"),
    ]
    assert list(both[0])[:4] == ["id", "turn", "role", "part"]
    answers = [r for r in both if r["part"] == "answer"]
    reasons = [r for r in both if r["part"] == "reasoning"]
    assert without(answers, "part") == scored(table(), unit="turn")
    assert without(reasons, "part") == scored(table(), unit="turn", parts="reasoning")
    assert without(reasons, *KEYS) == alone(["They are sad.", "This is awful.", "I go on and on"])
    whole = scored(table(), unit="turn", parts="whole")
    assert without(whole, *KEYS) == alone(
        [THOUGHT["content"], LAST["content"], "", "Sure, great.", UNCLOSED["content"], "No user here."]
    )
    # What a user writes between tags is no reasoning of the model's.
    chat = [[{"role": "user", "content": "<think>a</think>b"}]]
    said = scored(table(chat), unit="turn", roles="user", parts="both")
    assert without(said, *KEYS) == alone(["<think>a</think>b"])


def test_parts_of_documents() -> None:
    last = ["Take care, friend!", None, None, None, None, "No user here.", None]
    assert without(scored(table()), "id") == alone(last)
    texts = ["<think>sad</think>good", "plain", None, "<think>on and on", "so</think>", ""]
    answers = ["good", "plain", None, None, "", ""]
    reasons = ["sad", None, None, "on and on", "so", None]
    assert scored(texts) == alone(answers)
    assert scored(texts, parts="reasoning") == alone(reasons)
    assert scored(texts, parts="whole") == alone(texts)
    both = scored(texts, parts="both")
    assert [
        r["part"] for r in both
    ] == "reasoning answer answer answer reasoning answer reasoning answer answer".split()
    assert without(both, "part") == alone(["sad", "good", "plain", None, "on and on", None, "so", "", ""])
    apart = table([[HELLO, APART], [HELLO, THOUGHT], [HELLO, LAST]])
    kept = scored(apart, parts="both")
    assert [(r["id"], r["part"]) for r in kept] == [
        (0, "reasoning"),
        (0, "answer"),
        (1, "reasoning"),
        (1, "answer"),
        (2, "answer"),
    ]
    assert without(kept, *KEYS) == alone(
        ["This is awful.", "Sure, great.", "They are sad.", "I am so sorry to hear that!", LAST["content"]]
    )


def test_parts_of_segments() -> None:
    texts = ["<think>Sad. Bad.</think>Good. `x` Fine.", None, "One. Two."]
    answers = scored(pa.array(["Good. `x` Fine.", "One. Two."]), unit="segment", parts="whole")
    assert scored(texts, unit="segment") == answers
    both = scored(texts, unit="segment", parts="both")
    assert [r["part"] for r in both] == ["reasoning"] * 2 + ["answer"] * (len(both) - 2)
    assert next(iter(both[0])) == "part"
    assert without(both[2:], "part") == answers


CONTENT = [
    {"type": "text", "text": "Look,"},
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}, "text": None},
    {"type": "input_audio", "input_audio": {"data": "AAAA"}, "text": None},
    {"type": "text", "text": "how lovely!"},
]


def test_contents_of_other_shapes() -> None:
    thinking = [{"type": "thinking", "thinking": "Hm, bad."}, {"type": "text", "text": "Good!"}]
    reasoned = [{"type": "reasoning", "reasoning": "Hm, worse."}, {"type": "text", "text": "Best!"}]
    image = [{"type": "image_url", "text": None}]
    for content, answer, reason in [
        (CONTENT, "Look,\nhow lovely!", None),
        (thinking, "Good!", "Hm, bad."),
        (reasoned, "Best!", "Hm, worse."),
        ([*thinking, *thinking], "Good!\nGood!", "Hm, bad.\nHm, bad."),
        (image, None, None),
        ({"answer": "An object."}, "An object.", None),
    ]:
        chat = pa.table({"messages": pa.array([[hello_as(content), {"role": "assistant", "content": content}]])})
        rows = scored(chat, unit="turn", parts="both")
        assert [r["part"] for r in rows] == ["reasoning"] * (reason is not None) + ["answer"] * (answer is not None)
        assert without(rows, *KEYS) == alone([t for t in (reason, answer) if t is not None])


def hello_as(content: Any) -> dict[str, Any]:
    """A user's message of the same type as `content`, since a column has one."""
    if isinstance(content, dict):
        return {"role": "user", "content": {"answer": "hi"}}
    return {"role": "user", "content": [{"type": "text", "text": "hi"}]}


def test_a_message_with_reasoning_in_several_places() -> None:
    chat = [[{"role": "assistant", "content": "<think>b</think>c", "reasoning": "", "thinking": "a"}]]
    rows = scored(table(chat), unit="turn", parts="both")
    assert without(rows, *KEYS) == alone(["a\n\nb", "c"])


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, pa.list_view], ids=lambda k: k.__name__)
def test_nested_sliced_and_other_lists(kind: Any) -> None:
    column = pa.array(CHATS * 2, kind(pa.array(CHATS).type.value_type))
    body = pa.StructArray.from_arrays([column], ["messages"])
    source = pa.table({"id": list(range(14)), "body": body}).slice(3, 8)
    rows = scored(source, unit="turn", text="body.messages")
    wanted = [{**r, "id": r["id"] + 7 * k} for k in (0, 1) for r in scored(table(), unit="turn")]
    assert rows == [r for r in wanted if 3 <= r["id"] < 11]


# -- conversations -------------------------------------------------------------------------------------------------


def test_a_conversation_is_the_mean_of_its_turns() -> None:
    names = [name for name in ac.Scorer().schema.names if name not in registry.GROUPS["dynamics"]]
    turns = scored(table(), "default", unit="turn")
    whole = scored(table(), "default", unit="conversation")
    assert [r["id"] for r in whole] == list(range(7))
    assert [r["n_turns"] for r in whole] == [2, None, 0, 0, 2, 1, 0]
    for row in whole:
        own = [t for t in turns if t["id"] == row["id"]]
        for name in names:
            if row["id"] == 1:
                assert row[name] is None
            elif registry.METRICS[name].dtype == "int32":
                assert row[name] == sum(t[name] for t in own)
            elif not own:
                assert row[name] is None
            else:
                assert row[name] == pytest.approx(np.mean([t[name] for t in own]), abs=1e-6)


def test_conversations_of_users_and_of_reasoning() -> None:
    user = scored(table(), unit="conversation", roles="user")
    assert [r["n_turns"] for r in user] == [2, None, 0, 1, 3, 0, 0]
    assert not {"mirroring", "valence_sd"} & set(user[0])
    reasons = scored(table(), unit="conversation", parts="reasoning")
    assert [r["n_turns"] for r in reasons] == [1, None, 0, 0, 2, 0, 0]


def test_dynamics_and_mirroring_of_real_scores() -> None:
    said = ["I love it!", "This is terrible.", "Fine.", "What a wonderful day!", "I hate this so much."]
    chat = [{"role": role, "content": text} for text in said for role in ("user", "assistant")]
    (row,) = scored(table([chat]), "valence,mirroring,n_turns", unit="conversation")
    assert row["n_turns"] == 5
    assert row["mirroring"] == pytest.approx(1)
    valence = [r["valence"] for r in alone(said, metrics="valence")]  # type: ignore[arg-type]
    assert row["valence"] == pytest.approx(np.mean(valence), abs=1e-6)
    assert row["valence_sd"] == pytest.approx(np.std(valence, ddof=1), abs=1e-5)
    # Named alone, a metric of conversations does not bring the scores that it is computed from.
    (row,) = scored(table([chat]), "mirroring", unit="conversation")
    assert set(row) == {"id", "n_turns", "mirroring"}
    (row,) = scored(table([chat]), "n_turns", unit="conversation")
    assert set(row) == {"id", "n_turns"}


def test_users_turns_are_scored_where_a_metric_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Joy stands in for a claim and sadness for pushback: heads whose answers are plain.
    static = base.load("static")
    emotion = next(head for head in static.heads if head.name == "emotion")
    k = [emotion.labels.index(label) for label in ("joy", "sadness")]
    columns = ("delusion_reinforcement", "pushback")
    arrays = {n: getattr(emotion, n)[..., k] for n in ("weight", "bias", "scale", "shift", "thresholds")}
    head = replace(emotion, name="tone", labels=columns, columns=columns, **arrays)
    monkeypatch.setattr(base, "load", lambda _: static.with_heads([head], "tone", "0" * 16))
    glad, sad = "I am so happy, what a joy!", "I am so sad, this makes me cry."
    plain = "The index maps keys to rows."

    def chat(*said: str) -> list[dict[str, str]]:
        return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]

    source = table([chat(glad, sad, plain, plain), chat(plain, sad), chat(glad, plain, glad, sad), []])
    (joy, grief, none) = (r["pushback"] for r in alone([glad, sad, plain], metrics="pushback"))
    assert grief > 0.5 > max(joy, none)
    wanted = [grief, None, (none + grief) / 2, None]
    for names in ("boundary_keeping", "pushback,delusion_reinforcement", "n_words,boundary_keeping"):
        found = scored(source, names, unit="conversation")
        assert [r["boundary_keeping"] for r in found] == [
            w if w is None else pytest.approx(w, abs=1e-6) for w in wanted
        ]
        assert ("pushback" in found[0]) == ("pushback" in names)
        assert [r["n_turns"] for r in found] == [2, 1, 2, 0]  # the user's turns are in no mean
    (group,) = scored(source.slice(0, 1), "pushback", unit="conversation")
    assert "boundary_keeping" not in group
    with pytest.raises(ac.UsageError, match="'mirroring' needs a model with valence"):
        scored(source, "mirroring", unit="conversation")


# -- tables with a row per turn ------------------------------------------------------------------------------------


def flat(chats: list[Any] = CHATS) -> pa.Table:
    rows = [
        {"conversation_id": f"c{i}", "place": k, "model": f"m{i % 2}", "role": m["role"], "text": m["content"]}
        for i, chat in enumerate(chats)
        for k, m in enumerate(chat or [])
        if m.get("reasoning_content") is None
    ]
    return pa.Table.from_pylist(rows)


def nested() -> pa.Table:
    """What `flat` is made of, as chats."""
    chats = [
        [{"role": m["role"], "content": m["content"]} for m in chat if m.get("reasoning_content") is None]
        for chat in CHATS
        if chat
    ]
    names = [f"c{i}" for i, chat in enumerate(CHATS) if chat]
    models = [f"m{i % 2}" for i, chat in enumerate(CHATS) if chat]
    return pa.table({"conversation_id": names, "model": models, "messages": pa.array(chats)})


@pytest.mark.parametrize("unit", ["turn", "conversation"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_turn_tables_are_conversations(unit: str, size: int) -> None:
    scorer = ac.Scorer(metrics=METRICS, unit=unit)
    source = flat()
    reader = pa.RecordBatchReader.from_batches(source.schema, source.to_batches(size))
    rows = pa.Table.from_batches(scorer.stream(reader)).to_pylist()
    wanted = scorer.score(nested()).to_pylist()
    if unit == "turn":  # no tool calls here that would tell an empty message from an empty answer
        rows = [r for r in rows if r["n_words"]]
        wanted = [r for r in wanted if r["n_words"]]
    assert without(rows, "place") == wanted
    if unit == "conversation":
        assert {r["place"] for r in rows} == {0}


def test_turn_tables_of_other_types() -> None:
    source, wanted = flat(), scored(flat(), unit="turn")
    kinds: list[Any] = [pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    for kind in kinds:
        batches = [
            pa.RecordBatch.from_arrays(
                [c.cast(kind) if pa.types.is_string(c.type) else c for c in batch.columns], batch.schema.names
            )
            for batch in source.to_batches(3)
        ]
        reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
        assert pa.Table.from_batches(ac.Scorer(metrics=METRICS, unit="turn").stream(reader)).to_pylist() == wanted
        segments = ac.Scorer(metrics=METRICS, unit="segment").score(pa.Table.from_batches(batches))
        assert segments.to_pylist() == scored(source, unit="segment")
    numbers = pa.array([int(c[1:]) for c in source["conversation_id"].to_pylist()])
    rows = scored(source.set_column(0, "conversation_id", numbers), unit="turn")
    assert without(rows, "conversation_id") == without(wanted, "conversation_id")


def test_turn_tables_of_other_columns() -> None:
    source = flat().rename_columns(["thread", "place", "model", "role", "text"])
    with pytest.raises(ac.UsageError, match="name one with --conversation"):
        scored(source, unit="conversation")
    assert len(scored(source, unit="conversation", conversation="thread")) == 5
    with pytest.raises(ac.UsageError, match="did you mean 'thread'"):
        scored(source, unit="conversation", conversation="thred")
    # Without a conversation every row is one, and roles still tell whose it is.
    rows = scored(source, unit="turn")
    assert {r["turn"] for r in rows} == {0}
    assert {r["role"] for r in rows} == {"assistant"}
    without_roles = source.drop_columns(["role"])
    assert len(scored(without_roles, unit="turn")) == source["text"].null_count * -1 + len(source) - 1  # one unclosed
    with pytest.raises(ac.UsageError, match="no column 'role'"):
        scored(without_roles, unit="turn", roles="user")
    with pytest.raises(ac.UsageError, match="whole conversations"):
        scored(table(), unit="turn", conversation="id")
    with pytest.raises(ac.UsageError, match="unit turn or conversation"):
        scored(source, conversation="thread")
    with pytest.raises(ac.UsageError, match="chat messages"):
        ac.Scorer(unit="conversation").score(["text"])


def test_reasoning_beside_a_turn() -> None:
    source = pa.table(
        {"conv_id": [7, 7], "role": ["user", "assistant"], "content": ["hi", "Good."], "reasoning": [None, "Bad."]}
    )
    rows = scored(source, unit="turn", parts="both")
    assert [(r["turn"], r["part"]) for r in rows] == [(1, "reasoning"), (1, "answer")]
    assert without(rows, *KEYS, "conv_id") == alone(["Bad.", "Good."])


def test_reasoning_beside_a_text() -> None:
    source = pa.table(
        {
            "role": ["user", "assistant", "assistant"],
            "response": ["hi", "Good.", None],
            "reasoning_content": [" ", "Bad.", "Worse."],
        }
    )
    assert scored(source)[1]["reasoning_content"] == "Bad."
    both = scored(source, parts="both")
    assert [(r["role"], r["part"]) for r in both] == [
        ("user", "answer"),
        ("assistant", "reasoning"),
        ("assistant", "answer"),
        ("assistant", "reasoning"),
        ("assistant", "answer"),
    ]
    assert without(both, *KEYS) == alone(["hi", "Bad.", "Good.", "Worse.", None])
    assert without(scored(source, parts="reasoning"), *KEYS) == alone([None, "Bad.", "Worse."])
    assert without(scored(source.drop_columns("reasoning_content"), parts="both"), *KEYS) == alone(
        ["hi", "Good.", None]
    )


def test_roles_and_fields_of_other_formats() -> None:
    names = {"assistant": "gpt", "user": "Human"}
    chats = [[HELLO, THOUGHT, HELLO, LAST], None, [HELLO, EMPTY]]
    other = [
        chat and [{"from": names[message["role"]], "value": message["content"]} for message in chat] for chat in chats
    ]
    for options in ({"unit": "turn", "roles": "all", "parts": "both"}, {"unit": "conversation"}, {}):
        assert scored(table(other), **options) == scored(table(chats), **options)
    rows = flat(chats)
    roles = pa.array([names[role] for role in rows["role"].to_pylist()])
    assert scored(rows.set_column(3, "role", roles), unit="turn") == scored(rows, unit="turn")


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_conversation_that_comes_back_is_an_error(size: int) -> None:
    ids = ["a", "a", "b", "c", "b", "d"]
    source = pa.table({"chat_id": ids, "role": ["assistant"] * 6, "text": ["x"] * 6})
    batches = pa.RecordBatchReader.from_batches(source.schema, source.to_batches(size))
    with pytest.raises(InputError, match=r"row 4: conversation 'b' goes on here.*sort the rows by 'chat_id'"):
        list(ac.Scorer(metrics="n_words", unit="turn").stream(batches))
    source = source.set_column(0, "chat_id", pa.array(["a", "a", None, "c", "b", "d"]))
    with pytest.raises(InputError, match="row 2: no conversation"):
        scored(source, unit="turn")


def test_a_conversation_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectcore.io.formats.conversations.MAX_TURNS", 10)
    source = pa.table({"chat_id": ["m"] * 30, "role": ["assistant"] * 30, "text": ["x"] * 30})
    batches = pa.RecordBatchReader.from_batches(source.schema, source.to_batches(4))
    with pytest.raises(InputError, match="row 0: the conversation that begins here has more than 10 turns"):
        list(ac.Scorer(metrics="n_words", unit="turn").stream(batches))


# -- properties ----------------------------------------------------------------------------------------------------

MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["assistant", "assistant", "user", "system", "tool", None]),
        "content": st.one_of(st.none(), any_text(), any_text().map("<think>a</think>".__add__)),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(MESSAGE, max_size=5)), max_size=5))
def test_any_conversation(chats: list[Any]) -> None:
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    source = pa.table({"id": pa.array(range(len(chats)), pa.int64()), "messages": pa.array(chats, kind)})
    roles = {m["role"] for chat in chats for m in chat or []}
    if roles and "assistant" not in roles:
        with pytest.raises(InputError, match="no turn is the assistant's"):
            scored(source, unit="turn")
        return
    turns = scored(source, unit="turn", parts="whole")
    said = [
        (i, k, m["content"])
        for i, chat in enumerate(chats)
        for k, m in enumerate(chat or [])
        if m["role"] == "assistant" and m["content"] is not None
    ]
    assert [(r["id"], r["turn"]) for r in turns] == [s[:2] for s in said]
    assert without(turns, *KEYS) == alone([s[2] for s in said])
    # The answer that is split off a turn is what is split off a document.
    answers = scored(source, unit="turn")
    texts = scored(pa.array([s[2] for s in said], pa.string()))
    assert without(answers, *KEYS) == [t for t in texts if t["n_words"] is not None]
    whole = scored(source, unit="conversation")
    count = Counter(r["id"] for r in answers)
    assert [r["n_turns"] for r in whole] == [None if c is None else count[i] for i, c in enumerate(chats)]
    for row in whole:
        own = [r["vader_compound"] for r in answers if r["id"] == row["id"]]
        assert row["vader_compound"] == (pytest.approx(np.mean(own), abs=1e-6) if own else None)


# -- what has no tone ----------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows `n_excluded_bytes`."""
    if "n_excluded_bytes" not in registry.METRICS:
        entry = registry._count("n_excluded_bytes", "bytes", "neither", "d", "l")
        monkeypatch.setitem(registry.METRICS, "n_excluded_bytes", entry)
        monkeypatch.setattr(registry, "_OF_TOKENS", (*registry._OF_TOKENS, "n_excluded_bytes"))


CODE = "```python\nraise TerribleAwfulError('I hate this')\n```\n"
URL = "https://example.org/terrible-awful"
QUOTE = "> terrible, awful, sad\n> the worst\n"
TABLE = "| bad | worse |\n| --- | --- |\n| awful | terrible |\n"


@pytest.mark.parametrize("model", ["static", "mini"])
@pytest.mark.usefixtures("counted")
def test_exclude(model: str) -> None:
    texts = ["I love this!\n" + CODE, f"Lovely, see {URL}", "Great:\n\n" + TABLE, "Only words.", QUOTE + "How nice!"]
    names = "valence,vader_compound,n_bytes,n_excluded_bytes"

    def rows(**options: Any) -> list[dict[str, Any]]:
        return scored(texts, names, model=model, **options)

    default, nothing = rows(), rows(exclude="none")
    assert default == rows(exclude=["url", "code", "table", "quote"])
    assert [r["n_excluded_bytes"] for r in default] == [len(CODE), len(URL), len(TABLE), 0, len(QUOTE)]
    assert [r["n_excluded_bytes"] for r in nothing] == [0] * 5
    code = rows(exclude="code")
    assert [r["n_excluded_bytes"] for r in code] == [len(CODE), 0, 0, 0, 0]
    for i in (0, 1, 2, 4):
        assert nothing[i]["valence"] < default[i]["valence"]
        assert {r[i]["vader_compound"] for r in (default, nothing, code)} == {default[i]["vader_compound"]}
    assert code[0] == default[0]
    assert [r["valence"] for r in code[1:]] == [r["valence"] for r in nothing[1:]]
    assert nothing[3] == default[3]
    segments = scored(texts[:1], names + ",n_words", model=model, unit="segment")
    assert [(s["segment_kind"], s["valence"] is None) for s in segments] == [("text", False), ("code", True)]
    assert [s["n_excluded_bytes"] for s in segments] == [0, len(CODE)]
    kept = scored(texts[:1], names, model=model, unit="segment", exclude="none")
    assert [(s["segment_kind"], s["valence"] is None) for s in kept] == [("text", False), ("code", False)]
    chats = table([[{"role": "assistant", "content": t}] for t in texts])
    assert without(scored(chats, names, model=model, unit="turn", exclude="none"), *KEYS) == nothing
    (whole,) = scored(
        table([[{"role": "assistant", "content": t} for t in texts]]), names, model=model, unit="conversation"
    )
    assert whole["n_excluded_bytes"] == len(CODE) + len(URL) + len(TABLE) + len(QUOTE)


def test_long_texts_of_encoders_are_taken_whole() -> None:
    scorer = ac.Scorer("mini", metrics="valence,n_tokens", long="truncate")
    assert scorer._score_model(np.frombuffer(CODE.encode(), np.uint8), np.array([0, len(CODE)]))[
        "n_excluded_bytes"
    ].tolist() == [0]


# -- settings ------------------------------------------------------------------------------------------------------


def test_provenance_tells_defaults_too() -> None:
    told = ac.Scorer().provenance()
    assert (told["parts"], told["exclude"]) == ("answer", ["code", "quote", "table", "url"])
    assert "roles" not in told
    turns = ac.Scorer(model="none", unit="turn", roles="all", parts="both").provenance()
    assert (turns["unit"], turns["roles"], turns["parts"]) == ("turn", "all", "both")
    assert "exclude" not in turns
    assert json.loads(ac.Scorer(unit="conversation").schema.metadata[b"affectcore"])["unit"] == "conversation"


def test_columns_that_are_there_already() -> None:
    for name in ("turn", "role", "vader_compound"):
        source = table().append_column(name, pa.array(range(7)))
        with pytest.raises(ac.UsageError, match=f"score columns already \\({name}\\)"):
            scored(source, unit="turn")
    source = table().append_column("part", pa.array(range(7)))
    assert len(scored(source, unit="turn")) == 5
    with pytest.raises(ac.UsageError, match="part"):
        scored(source, unit="turn", parts="both")


def test_threads_and_batches_change_nothing() -> None:
    source = table(CHATS * 50)
    for unit in ("turn", "conversation"):
        one = ac.Scorer(metrics=METRICS, unit=unit, threads=1).score(source)
        assert one.equals(ac.Scorer(metrics=METRICS, unit=unit, threads=3).score(source))
        batches = pa.RecordBatchReader.from_batches(source.schema, source.to_batches(13))
        assert pa.Table.from_batches(ac.Scorer(metrics=METRICS, unit=unit).stream(batches)).equals(one)


def test_a_text_that_an_encoder_refuses_is_named_by_its_conversation() -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "word " * 3000}]
    scorer = ac.Scorer("mini", metrics="valence", unit="turn", long="error")
    with pytest.raises(ac.UsageError, match="text 1: it has"):
        scorer.score(table([[HELLO, LAST], chat]))


def test_real_conversations() -> None:
    path = sorted(data("spiral-bench").glob("res_v*/*.json"))[0]
    node: Any = json.loads(path.read_text(encoding="utf-8"))["1"]
    prompts = [found for file in node.values() if isinstance(file, dict) for found in file.values()]
    runs = [run for found in prompts for run in found][:4]
    source = pa.table(
        {"prompt_id": [r["prompt_id"] for r in runs], "transcript": pa.array([r["transcript"] for r in runs])}
    )
    turns = scored(source, unit="turn")
    said = [m["content"] for r in runs for m in r["transcript"] if m["role"] == "assistant"]
    assert without(turns, *KEYS, "prompt_id") == alone(said)
    whole = scored(source, unit="conversation")
    assert [r["n_turns"] for r in whole] == [sum(m["role"] == "assistant" for m in r["transcript"]) for r in runs]
    assert all(-1 <= r["mirroring"] <= 1 for r in whole)
    assert set(context.available({"valence"})) <= set(whole[0])


def test_metrics_of_the_assistants_turns_need_its_turns() -> None:
    with pytest.raises(UsageError, match=r"'valence_sd' is about the assistant's turns: it needs roles assistant"):
        ac.Scorer(unit="conversation", roles="user", metrics="n_words,valence_sd")
    assert "n_words" in ac.Scorer(unit="conversation", roles="user", metrics="n_words,n_turns").schema.names
