"""Conversations and parts from files to files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from texts import DATA
from typer.testing import CliRunner

import affectcore as ac
from affectcore.cli.main import app, main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, InputError, UsageError
from affectcore.io.formats.jsonl import JsonlReader
from affectcore.pipeline.run import Report, score_dataset

METRICS = "vader_compound,n_words,n_bytes"

CHATS: list[Any] = [
    [
        {"role": "system", "content": "Be kind.", "reasoning_content": None},
        {"role": "user", "content": "I feel awful.", "reasoning_content": None},
        {"role": "assistant", "content": "<think>sad, bad</think>I am so sorry!", "reasoning_content": None},
        {"role": "assistant", "content": None, "reasoning_content": "terrible"},
        {"role": "tool", "content": "42", "reasoning_content": None},
        {"role": "assistant", "content": "It is great.", "reasoning_content": "good"},
    ],
    None,
    [],
    [{"role": "assistant", "content": "<think>I never stop", "reasoning_content": None}],
    [{"role": "user", "content": "hi", "reasoning_content": None}],
]


def chats(n: int = 1) -> pa.Table:
    return pa.table({"id": list(range(5 * n)), "messages": pa.array(CHATS * n)})


def turns(n: int = 40, length: int = 3) -> pa.Table:
    rows = [
        {"chat_id": f"c{i}", "role": ["user", "assistant"][k % 2], "text": f"text {i} {k} " + "good " * (i % 7), "n": k}
        for i in range(n)
        for k in range(1 + (i + length) % 5)
    ]
    return pa.Table.from_pylist(rows)


def write(path: Path, data: pa.Table, rows: int = 7) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(data, path, row_group_size=rows)
    elif path.suffix == ".arrow":
        feather.write_feather(data, path, compression="uncompressed", chunksize=rows)
    elif path.suffix == ".csv":
        lines = [",".join(data.column_names)] + [",".join(map(str, row.values())) for row in data.to_pylist()]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in data.to_pylist()))
    return path


def score(
    source: Any, out: Path, batch_bytes: int | None = None, **options: Any
) -> tuple[list[dict[str, Any]], Report]:
    run = {n: options.pop(n) for n in ("keep", "conversation", "resume", "part_bytes", "text") if n in options}
    scorer = ac.Scorer(model="none", metrics=METRICS, threads=2, **options)
    report = score_dataset(source, out, scorer=scorer, batch_bytes=batch_bytes, **run)
    found = pa.concat_tables([pq.read_table(path) for path in sorted(report.outputs)])
    return found.to_pylist(), report


def wanted(data: pa.Table, conversation: str | None = None, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        ac.Scorer(model="none", metrics=METRICS, **options).score(data, conversation=conversation).to_pylist()
    )
    return rows


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
@pytest.mark.parametrize("batch_bytes", [1, 50, None])
def test_chats_of_every_format(tmp_path: Path, name: str, batch_bytes: int | None) -> None:
    path = write(tmp_path / name, chats(3))
    for i, options in enumerate(
        [
            {"unit": "turn"},
            {"unit": "turn", "parts": "both", "roles": "all"},
            {"unit": "conversation"},
            {"unit": "document"},
            {"unit": "document", "parts": "both"},
            {"unit": "segment", "parts": "reasoning"},
        ]
    ):
        rows, report = score(path, tmp_path / f"out{i}.parquet", batch_bytes, **options)
        assert rows == wanted(chats(3), **options), options
        assert report.n_rows == 15
    assert rows == wanted(chats(3), unit="segment", parts="reasoning")


def test_reasoning_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", chats(2))
    assert score(path, tmp_path / "turn.parquet", unit="turn")[1].n_reasoning == 8
    assert score(path, tmp_path / "both.parquet", parts="both")[1].n_reasoning == 4
    assert score(path, tmp_path / "whole.parquet", unit="turn", parts="whole")[1].n_reasoning == 0


def test_both_ways_through_json_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [{"id": i, "messages": chat} for i, chat in enumerate(CHATS)]
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    rows += [
        {"id": 5, "messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]},
        {"id": 6, "messages": [{"role": "assistant", "content": "", "tool_calls": []}]},
        {"id": 7, "messages": [{"role": "assistant", "content": "c", "reasoning": "r", "other": {"deep": [1]}}]},
        {"id": 8, "messages": [{"role": "assistant", "content": "half \ud83d a pair", "thinking": " "}]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(JsonlReader, "block_bytes", 700)  # fields that the first block has not come later
    fast, _ = score(path, tmp_path / "fast.parquet", unit="turn", parts="both")
    monkeypatch.setattr("affectcore.io.formats.jsonl._parse", lambda *_: None)
    slow, _ = score(path, tmp_path / "slow.parquet", unit="turn", parts="both")
    assert fast == slow
    told = [(r["id"], r["part"]) for r in fast if r["id"] > 4]
    assert told == [(6, "answer"), (7, "reasoning"), (7, "answer"), (8, "answer")]


def test_contents_that_differ_from_message_to_message(tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "Look,"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "text", "text": "!"},
    ]
    thinking = [{"type": "thinking", "thinking": "bad"}, {"type": "text", "text": "good"}]
    messages = [
        {"role": "user", "content": "plain"},
        {"role": "assistant", "content": parts},
        {"role": "assistant", "content": thinking},
        {"role": "assistant", "content": {"answer": "an object"}},
    ]
    rows = [{"id": 0, "messages": messages}, {"id": 1, "messages": [{"role": "assistant", "content": 5}]}]
    rows.append({"id": 2, "messages": "a text"})
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, report = score(path, tmp_path / "out.parquet", unit="turn", parts="both")
    assert [(r["id"], r["turn"], r["part"], r["n_bytes"]) for r in found] == [
        (0, 1, "answer", 7),
        (0, 2, "reasoning", 3),
        (0, 2, "answer", 4),
        (0, 3, "answer", 9),
        (2, 0, "answer", 6),
    ]
    (problem,) = report.errors
    assert problem.row == 1
    assert "line 2" in problem.reason


def test_chat_columns_go_first(tmp_path: Path) -> None:
    data = pa.table({"text": ["prompt"] * 5, "transcript": pa.array(CHATS)})
    path = write(tmp_path / "a.parquet", data)
    rows, report = score(path, tmp_path / "turn.parquet", unit="turn")
    assert report.text_columns == ("transcript",)
    assert {r["text"] for r in rows} == {"prompt"}
    rows, report = score(path, tmp_path / "document.parquet")
    assert report.text_columns == ("text",)
    nested = pa.table({"body": pa.StructArray.from_arrays([pa.array(CHATS)], ["messages"])})
    rows, report = score(write(tmp_path / "b.jsonl", nested), tmp_path / "n.parquet", unit="turn", text="body.messages")
    assert rows == [{k: v for k, v in r.items() if k != "id"} for r in wanted(chats(), unit="turn")]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
@pytest.mark.parametrize("odd", [False, True], ids=["plain", "parts"])
def test_refusals_in_a_field_of_their_own(tmp_path: Path, name: str, odd: bool) -> None:
    hello = [{"type": "text", "text": "Hello."}] if odd else "Hello."
    chat = [
        {"role": "user", "content": hello, "refusal": None},
        {"role": "assistant", "content": hello, "refusal": "unused"},
        {"role": "assistant", "content": None, "refusal": "I can't help you with that."},
    ]
    path = write(tmp_path / name, pa.table({"id": [0, 1], "messages": pa.array([chat, chat[:2]])}))
    rows, _ = score(path, tmp_path / "turn.parquet", unit="turn")
    assert [r["n_words"] for r in rows] == [1, 6, 1]
    rows, _ = score(path, tmp_path / "document.parquet")
    assert [r["n_words"] for r in rows] == [6, 1]


# -- turn tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("batch_bytes", [1, 60, None])
def test_turn_tables_of_every_format(tmp_path: Path, name: str, batch_bytes: int | None) -> None:
    data = turns()
    path = write(tmp_path / name, data)
    for unit in ("turn", "conversation"):
        rows, report = score(path, tmp_path / f"{unit}.parquet", batch_bytes, unit=unit)
        assert rows == wanted(data, unit=unit)
        assert report.n_rows == len(data)
        # A turn keeps what stands in its own row, a conversation what stands in its first.
        assert all(r["n"] == (r["turn"] if unit == "turn" else 0) for r in rows)
    rows, _ = score(path, tmp_path / "kept.parquet", batch_bytes, unit="turn", keep=["n"])
    assert rows == [{k: v for k, v in r.items() if k != "chat_id"} for r in wanted(data, unit="turn")]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_what_is_kept_of_turn_tables(tmp_path: Path, name: str) -> None:
    data = turns(5).append_column("tags", pa.array([["t"]] * len(turns(5))))
    path = write(tmp_path / name, data)
    for keep in ([], ["tags", "chat_id"], ["text", "n"]):
        rows, _ = score(path, tmp_path / f"{len(keep)}{keep[:1]}.parquet", unit="conversation", keep=keep)
        assert [list(row)[: len(keep)] for row in rows] == [keep] * len(rows)
        assert [r["n_turns"] for r in rows] == [r["n_turns"] for r in wanted(turns(5), unit="conversation")]
        assert all(row["text"].startswith("text") for row in rows if "text" in keep)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
def test_reasoning_beside_texts(tmp_path: Path, name: str) -> None:
    data = pa.table({"id": [0, 1, 2], "response": ["good", "fine", "x"], "reasoning_content": ["bad", "", "y"]})
    path = write(tmp_path / name, data)
    rows, report = score(path, tmp_path / "both.parquet", parts="both")
    assert rows == wanted(data, parts="both")
    assert [(r["id"], r["part"]) for r in rows if r["part"] == "reasoning"] == [(0, "reasoning"), (2, "reasoning")]
    assert report.n_reasoning == 2
    rows, _ = score(path, tmp_path / "kept.parquet", parts="both", keep=["reasoning_content"])
    assert [r["reasoning_content"] for r in rows] == ["bad", "bad", "", "y", "y"]
    rows, _ = score(path, tmp_path / "plain.parquet", keep=["id", "reasoning_content"])
    assert [r["reasoning_content"] for r in rows] == ["bad", "", "y"]


def test_conversations_end_with_their_file(tmp_path: Path) -> None:
    data = turns(4)
    for i, part in enumerate((data.slice(0, 5), data.slice(5))):
        write(tmp_path / f"{i}.parquet", part)
    rows, _ = score(tmp_path, tmp_path / "out", unit="turn")
    assert rows == wanted(data.slice(0, 5), unit="turn") + wanted(data.slice(5), unit="turn")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_parts_and_resume(tmp_path: Path, name: str) -> None:
    data = turns(60)
    path = write(tmp_path / name, data)
    out = tmp_path / "out"
    options: dict[str, Any] = {"unit": "conversation", "part_bytes": 400, "batch_bytes": 80}
    rows, report = score(path, out, **options)
    assert rows == wanted(data, unit="conversation")
    assert len(report.outputs) > 3
    lines = (out / "_manifest.jsonl").read_text().splitlines()
    for cut in (3, 4, len(lines) - 1):  # behind the settings and the name of the input
        (out / "_manifest.jsonl").write_text("\n".join(lines[:cut]) + "\n")
        for line in lines[cut:]:
            (out / json.loads(line)["output"]).unlink(missing_ok=True)
        again, report = score(path, out, resume=True, **options)
        assert again == rows
        assert report.n_rows == len(data) - sum(json.loads(line)["rows"] for line in lines[2:cut])
        lines = (out / "_manifest.jsonl").read_text().splitlines()
    with pytest.raises(ac.OutputError, match="parts"):
        score(path, out, resume=True, **options, parts="whole")
    with pytest.raises(ac.OutputError, match="conversation"):
        score(path, out, resume=True, **options, conversation="n")


def test_a_conversation_that_comes_back_after_a_resume(tmp_path: Path) -> None:
    data = pa.concat_tables([turns(30), turns(1)])
    path = write(tmp_path / "a.parquet", data)
    out = tmp_path / "out"
    options: dict[str, Any] = {"unit": "turn", "part_bytes": 300, "batch_bytes": 80}
    for resume in (False, True):
        rows, report = score(path, out, resume=resume, **options)
        assert rows == wanted(turns(30), unit="turn")
        (problem,) = report.errors
        assert (problem.file, problem.row) == (str(path), len(turns(30)))
        assert "'c0' goes on here" in problem.reason
        assert "sort the rows by 'chat_id'" in problem.remedy


# Rows of conversations, some of which are left out: the id of the conversation, and whether the row is scored.
ODD = [("a", True), (None, False), ("a", True), ("b", True), ("a", False), ("a", False), ("b", True), ("c", True)]
ODD += [(None, False), (None, False), ("d", True), ("b", False), ("e", True), ("c", False), ("f", True), ("f", True)]
LISTED = [1, 4, 8, 9, 11, 13]  # one for each row without an id, and for each run of rows that comes back


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
@pytest.mark.parametrize("batch_bytes", [1, 14, 40, None])
def test_only_the_rows_that_cannot_be_joined_are_left_out(tmp_path: Path, name: str, batch_bytes: int | None) -> None:
    data = pa.table(
        {
            "chat_id": [c for c, _ in ODD],
            "role": ["assistant"] * len(ODD),
            "text": [f"text {i:02}" for i in range(len(ODD))],
            "n": list(range(len(ODD))),
        }
    )
    left = data.filter(pa.array([good for _, good in ODD]))
    path = write(tmp_path / name, data)
    for unit in ("turn", "conversation"):
        out = tmp_path / unit
        options: dict[str, Any] = {"unit": unit, "batch_bytes": batch_bytes, "part_bytes": 20}
        rows, report = score(path, out, **options)
        assert rows == wanted(left, unit=unit)
        assert [p.row for p in report.errors] == LISTED
        assert report.n_rows == len(left)
        lines = (out / "_manifest.jsonl").read_text().splitlines()
        for cut in range(2, len(lines)):
            for line in lines[cut:]:
                (out / json.loads(line)["output"]).unlink(missing_ok=True)
            (out / "_manifest.jsonl").write_text("\n".join(lines[:cut]) + "\n")
            again, report = score(path, out, resume=True, **options)
            assert again == rows
            assert [p.row for p in report.errors] == LISTED
            lines = (out / "_manifest.jsonl").read_text().splitlines()
    numbers = data.set_column(0, "chat_id", pa.array([float("nan") if c is None else ord(c) for c, _ in ODD]))
    rows, report = score(write(tmp_path / "n.parquet", numbers), tmp_path / "n", batch_bytes, unit="turn", keep=["n"])
    assert [r["n"] for r in rows] == left["n"].to_pylist()
    assert [p.row for p in report.errors] == LISTED


@pytest.mark.parametrize("batch_bytes", [1, 30, None])
def test_a_conversation_without_end_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int | None
) -> None:
    monkeypatch.setattr("affectcore.io.formats.conversations.MAX_TURNS", 4)
    ids = ["a", "b", "b", *["m"] * 30, "b", "m", "d"]
    source = pa.table({"chat_id": ids, "role": ["assistant"] * len(ids), "text": ["x y z"] * len(ids)})
    monkeypatch.setattr("affectcore.io.formats.base.MAX_ROWS", 3)
    path = write(tmp_path / "a.parquet", source, 3)
    rows, report = score(path, tmp_path / "out.parquet", batch_bytes, unit="turn")
    assert [r["chat_id"] for r in rows] == ["a", "b", "b", "d"]
    # The conversation "m" that goes on after a row of "b" is that without end, which is told of once.
    assert [p.row for p in report.errors] == [3, 33]
    assert "more than 4 turns" in report.errors[0].reason


# -- roles ---------------------------------------------------------------------------------------------------------

NAMES = ["Assistant", "ASSISTANT", "gpt", "GPT", "chatgpt", "bot", "chatbot", "model", "Model", "ai", "AI"]


def spoken(name: str, user: str, system: str = "System") -> list[dict[str, Any]]:
    return [
        {"role": system, "content": "Be kind."},
        {"role": user, "content": "I feel awful."},
        {"role": name, "content": "I am so sorry!"},
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_roles_of_well_known_names(tmp_path: Path, name: str) -> None:
    plain = pa.table({"messages": pa.array([spoken("assistant", "user", "system")] * len(NAMES))})
    users = ["human", "Human", "USER", "prompter"]
    named = pa.table({"messages": pa.array([spoken(n, users[i % 4]) for i, n in enumerate(NAMES)])})
    path = write(tmp_path / name, named)
    cases: list[dict[str, Any]] = [{"unit": "turn", "roles": role} for role in ("assistant", "user", "all")]
    for i, options in enumerate([*cases, {"unit": "document"}]):
        text = None if options["unit"] == "turn" else "messages"
        rows, _ = score(path, tmp_path / f"{i}.parquet", text=text, **options)
        assert rows == wanted(plain, **options)
        assert len(rows) == len(NAMES) * (3 if options.get("roles") == "all" else 1)
    flat = [{"chat_id": i, **m} for i, chat in enumerate(named["messages"].to_pylist()) for m in chat]
    rows, _ = score(write(tmp_path / f"flat.{name}", pa.Table.from_pylist(flat)), tmp_path / "flat", unit="turn")
    assert [r["n_words"] for r in rows] == [4] * len(NAMES)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
@pytest.mark.parametrize("slow", [False, True])
def test_sharegpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, slow: bool) -> None:
    chat = spoken("assistant", "user", "system")
    given = [
        {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]} for m in chat
    ]
    path = write(tmp_path / name, pa.table({"id": [1, 2], "conversations": pa.array([given, given[:2]])}))
    if slow:
        monkeypatch.setattr("affectcore.io.formats.jsonl._parse", lambda *_: None)
    plain = pa.table({"id": [1, 2], "conversations": pa.array([chat, chat[:2]])})
    rows, report = score(path, tmp_path / "turn.parquet", unit="turn", roles="all")
    assert rows == wanted(plain, unit="turn", roles="all")
    assert report.text_columns == ("conversations",)
    rows, _ = score(path, tmp_path / "document.parquet", text="conversations")
    assert [r["n_words"] for r in rows] == [4, None]


@pytest.mark.parametrize("slow", [False, True])
def test_messages_without_a_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    rows = [
        {"id": 0, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}]},
        {"id": 1, "messages": [{"content": "nobody"}, {"role": "assistant", "content": "d"}]},
        {"id": 2, "messages": [{"content": "nobody at all"}]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if slow:
        monkeypatch.setattr("affectcore.io.formats.jsonl._parse", lambda *_: None)
    found, report = score(path, tmp_path / "turn.parquet", unit="turn")
    assert [(r["id"], r["turn"], r["n_words"]) for r in found] == [(0, 1, 2), (1, 1, 1)]
    everybody, _ = score(path, tmp_path / "all.parquet", unit="turn", roles="all")
    assert [(r["id"], r["role"]) for r in everybody] == [
        (0, "user"), (0, "assistant"), (1, None), (1, "assistant"), (2, None),
    ]  # fmt: skip
    documents, also = score(path, tmp_path / "document.parquet")
    assert [r["n_words"] for r in documents] == [2, 1, None]
    assert report.errors == also.errors == []
    path.write_text(path.read_text() + '{"id": 3, "messages": ["a", {"role": "assistant", "content": "b"}]}\n')
    (problem,) = score(path, tmp_path / "list.parquet", unit="turn")[1].errors
    assert (problem.row, "a list of other things than messages" in problem.reason) == (3, True)


@pytest.mark.parametrize("unit", ["turn", "conversation"])
@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_no_turn_of_the_role(tmp_path: Path, unit: str, name: str) -> None:
    odd = pa.table({"id": [0, 1], "messages": pa.array([spoken("narrator", "user", "narrator")] * 2)})
    path = write(tmp_path / "odd.jsonl", odd)
    out = tmp_path / name
    with pytest.raises(InputError, match=r"no turn is the assistant's.*'narrator' \(4\), 'user' \(2\).*--roles user"):
        score(path, out, unit=unit)
    assert not out.exists()
    assert len(score(path, tmp_path / "user.parquet", unit=unit, roles="user")[0]) == 2
    # Among others it is listed.
    folder = tmp_path / "in"
    folder.mkdir()
    for i, data in enumerate((odd, pa.table({"id": [2], "messages": pa.array([spoken("assistant", "user")])}))):
        write(folder / f"{i}.jsonl", data)
    for resume in (False, True):
        rows, report = score(folder, out, unit=unit, resume=resume)
        assert [r["id"] for r in rows][-1] == 2
        (problem,) = report.errors
        assert Path(problem.file).name == "0.jsonl" and "no turn is the assistant's" in problem.reason
    if name == "out":
        assert [r["id"] for r in rows] == [2]
    # Conversations without any turns say nothing of roles.
    empty = pa.table({"id": [0], "messages": pa.array([[]], odd["messages"].type)})
    assert score(write(tmp_path / "empty.parquet", empty), tmp_path / "e.parquet", unit=unit)[1].errors == []


def test_rows_that_cannot_be_read_in_a_turn_table(tmp_path: Path) -> None:
    data = turns(20)
    path = write(tmp_path / "a.jsonl", data)
    lines = path.read_text().splitlines()
    lines.insert(10, "no json")
    path.write_text("\n".join(lines) + "\n")
    for size in (50, None):
        out = tmp_path / f"{size}"
        rows, report = score(path, out, size, unit="turn", part_bytes=200)
        assert rows == wanted(data, unit="turn")
        assert [problem.row for problem in report.errors] == [10]


def test_wrong_usage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", turns(3))
    texts = write(tmp_path / "b.parquet", pa.table({"text": ["a"]}))
    talk = write(tmp_path / "c.parquet", chats())
    cases: list[tuple[Path, str, dict[str, Any]]] = [
        (path, "did you mean 'chat_id'", {"unit": "turn", "conversation": "chat"}),
        (path, "unit turn or conversation", {"conversation": "chat_id"}),
        (texts, "no conversations found", {"unit": "conversation"}),
        (talk, "holds whole conversations", {"unit": "turn", "conversation": "id"}),
        (path, "has the name of a score", {"unit": "turn", "keep": ["role"]}),
    ]
    for source, message, options in cases:
        with pytest.raises(UsageError, match=message):
            score(source, tmp_path / "out.parquet", **options)
    ids = pa.table({"chat_id": ["a", "b", "a"], "role": ["user"] * 3, "text": ["x"] * 3})
    with pytest.raises(InputError, match="row 0: no row could be scored; the first: no conversation in column"):
        score(
            write(tmp_path / "d.parquet", ids.set_column(0, "chat_id", pa.nulls(3, pa.string()))),
            tmp_path / "out.parquet",
            unit="turn",
        )
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("shape", ["chats", "turns"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, shape: str) -> None:
    """Four times the conversations need no more memory."""
    text = "some words that are neither good nor bad, " * 25
    peaks = []
    for n in (10_000, 40_000):
        path = tmp_path / f"{n}.parquet"
        with pq.ParquetWriter(path, SHAPES[shape]) as writer:
            for begin in range(0, n, 1000):
                if shape == "chats":
                    chat = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
                    rows = [{"id": i, "messages": chat} for i in range(begin, begin + 1000)]
                else:
                    rows = [
                        {"chat_id": i, "role": role, "text": text}
                        for i in range(begin, begin + 1000)
                        for role in ("user", "assistant")
                    ]
                writer.write_table(pa.Table.from_pylist(rows, SHAPES[shape]))
        code = MEASURE.format(path=str(path), out=str(tmp_path / f"out{n}.parquet"))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        rows_done, peak = map(int, done.stdout.split())
        assert rows_done == n
        peaks.append(peak)
    assert peaks[1] < peaks[0] + (48 << 10)


SHAPES = {
    "chats": pa.schema(
        [("id", pa.int64()), ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))]
    ),
    "turns": pa.schema([("chat_id", pa.int64()), ("role", pa.string()), ("text", pa.string())]),
}
MEASURE = """
import resource
import affectcore as ac
from affectcore.pipeline.run import score_dataset
scorer = ac.Scorer(model="none", metrics="n_bytes,questions", unit="conversation", threads=2)
report = score_dataset({path!r}, {out!r}, scorer=scorer, batch_bytes=1 << 20)
print(report.n_units, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


# -- the command line ----------------------------------------------------------------------------------------------


def command(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["score", *args], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "a.jsonl", chats()))
    common = ("--model", "none", "--metrics", METRICS)
    code, said = command(path, "-o", str(tmp_path / "t.parquet"), "--unit", "turn", *common)
    assert code == EXIT_DONE
    assert "4 texts had reasoning, left out (--parts both scores it apart)" in said
    assert "scored 5 rows to 2 turns" in " ".join(said.split())
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == wanted(chats(), unit="turn")
    both = ("--unit", "turn", "--parts", "both", "--roles", "all", "--exclude", "none")
    code, said = command(path, "-o", str(tmp_path / "b.parquet"), *both, *common)
    assert code == EXIT_DONE
    assert "4 texts had reasoning, scored apart from the answers" in said
    assert pq.read_table(tmp_path / "b.parquet").to_pylist() == wanted(chats(), unit="turn", parts="both", roles="all")
    code, said = command(path, "-o", str(tmp_path / "c.parquet"), "--unit", "conversation", *common)
    assert (code, "scored 5 rows to 5 conversations" in " ".join(said.split())) == (EXIT_DONE, True)
    assert main(["score", path, "-o", str(tmp_path / "d.parquet"), "--unit", "sentence", *common]) == EXIT_USAGE
    assert "document, segment, turn, conversation" in capsys.readouterr().err


def test_exit_codes_of_turn_tables(tmp_path: Path) -> None:
    common = ("--unit", "turn", "--model", "none", "--metrics", METRICS)
    again = str(write(tmp_path / "again.parquet", pa.concat_tables([turns(5), turns(1)])))
    code, said = command(again, "-o", str(tmp_path / "a.parquet"), *common)
    assert (code, "not everything could be scored" in said) == (EXIT_PARTIAL, True)
    (line,) = (tmp_path / "a.parquet.errors.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == len(turns(5))
    ids = pa.array([None, "a"], pa.string())
    said = pa.table({"chat_id": ids, "role": ["user"] * 2, "text": ["x"] * 2})
    nobody = write(tmp_path / "nobody.jsonl", said)
    code, told = command(str(nobody), "-o", str(tmp_path / "u.parquet"), *common, "--roles", "user")
    assert (code, "scored 1 row to 1 turn" in told) == (EXIT_PARTIAL, True)
    assert main(["score", str(nobody), "-o", str(tmp_path / "b.parquet"), *common]) == EXIT_FAILED
    assert not (tmp_path / "b.parquet").exists()


# -- other people's dumps ------------------------------------------------------------------------------------------

SAMPLES = DATA.parent / "samples"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"needs the samples of other tools' dumps at {SAMPLES}")
@pytest.mark.parametrize("unit", ["document", "turn"])
def test_samples(tmp_path: Path, unit: str) -> None:
    dumps = {
        "trl/completions_00001.parquet": "completion",
        "verl/rollout_data_dir/7.jsonl": "output",
        "skyrl/dumped_evals/global_step_1_evals/unknown.jsonl": "output_response",
    }
    scored = 0
    for name, text in dumps.items():
        path = SAMPLES / name
        rows, report = score(path, tmp_path / f"{scored}.parquet", unit=unit, text=text, keep=[])
        assert len(rows) == report.n_rows - report.n_null
        assert not report.errors
        scored += 1
    assert scored
    # Conversations inside of JSON documents, as lines of their own.
    found: list[Any] = []

    def walk(node: Any) -> None:
        if isinstance(node, list) and node and all(isinstance(m, dict) and "role" in m for m in node):
            found.append(node)
        elif isinstance(node, dict | list):
            for inner in node.values() if isinstance(node, dict) else node:
                walk(inner)

    for name in ("eqbench3/eqbench3_runs.trimmed.json", "inspect/sample.json"):
        walk(json.loads((SAMPLES / name).read_text(encoding="utf-8")))
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"id": i, "messages": talk}) + "\n" for i, talk in enumerate(found)))
    rows, report = score(path, tmp_path / "talks.parquet", unit=unit)
    assert not report.errors
    if unit == "turn":
        said = [(i, k) for i, talk in enumerate(found) for k, m in enumerate(talk) if m["role"] == "assistant"]
        assert [(r["id"], r["turn"]) for r in rows] == said
