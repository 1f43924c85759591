"""Conversations: from columns of chat messages, or from tables with a row per turn, to turns side by side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import InputError, UsageError, suggest
from affectcore.io.formats.base import Problem, Reader, cut, offsets_of, plain, python_values, text_bytes
from affectcore.io.formats.texts import (
    ASSISTANT,
    CONVERSATION_COLUMNS,
    REASONING,
    content_of,
    is_chat,
    is_string,
    known_roles,
    message_fields,
    or_refusal,
    storage,
    strings,
)

MAX_TURNS = 1 << 16
MAX_BYTES = 1 << 28
"""Turns and bytes of text in one conversation of a turn table, at most: it has to fit into memory."""


_JSON = {bool: "boolean", int: "number", float: "number"}


@dataclass(frozen=True)
class Turns:
    """Turns of n conversations, one after the other; or n texts with their reasoning, each a conversation of one.

    Parameters
    ----------
    offsets
        int64 (n + 1,): conversation c has turns ``offsets[c]:offsets[c + 1]``.
    content
        string, large_string, binary or large_binary array, one for each turn; null where a turn has no text.
    reasoning
        The same for reasoning that came apart from the content; None where there is none.
    role
        string array; None where every turn is the assistant's.
    missing
        bool (n,): conversations that are null; None for none.
    own_rows
        Whether the columns that are kept beside them have a row for each turn, and not for each conversation.
    """

    offsets: np.ndarray
    content: pa.Array
    reasoning: pa.Array | None = None
    role: pa.Array | None = None
    missing: np.ndarray | None = None
    own_rows: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def slice(self, begin: int, length: int | None = None) -> Turns:
        """Return the conversations from `begin` on."""
        end = len(self) if length is None else min(begin + length, len(self))
        low, high = int(self.offsets[begin]), int(self.offsets[end])

        def cut(column: pa.Array | None) -> pa.Array | None:
            return None if column is None else column.slice(low, high - low)

        return Turns(
            self.offsets[begin : end + 1] - low,
            cut(self.content),
            cut(self.reasoning),
            cut(self.role),
            None if self.missing is None else self.missing[begin:end],
            self.own_rows,
        )

    def beside(self, kept: pa.RecordBatch, begin: int, length: int | None = None) -> pa.RecordBatch:
        """Slice the columns kept beside these turns as `slice` would slice the turns."""
        if not self.own_rows:
            return kept.slice(begin, length)
        end = len(self) if length is None else min(begin + length, len(self))
        return kept.slice(int(self.offsets[begin]), int(self.offsets[end] - self.offsets[begin]))

    @property
    def byte_offsets(self) -> np.ndarray:
        """int64 (n + 1,): bytes of text before each conversation."""
        total = np.zeros(len(self.content) + 1, np.int64)
        for column in (self.content, self.reasoning):
            if column is not None and len(column):
                # Under a null there can be bytes, and they count: they have to be held all the same.
                ends = offsets_of(column).astype(np.int64)
                total += ends - ends[0]
        out: np.ndarray = total[self.offsets]
        return out

    @property
    def null_count(self) -> int:
        """Conversations without any text."""
        there = self.content.is_valid().to_numpy(zero_copy_only=False)
        if self.reasoning is not None:
            there = there | self.reasoning.is_valid().to_numpy(zero_copy_only=False)
        count = np.concatenate([[0], np.cumsum(there)])
        return int(np.count_nonzero(np.diff(count[self.offsets]) == 0))

    @property
    def number(self) -> np.ndarray:
        """int32: the number of each turn within its conversation, from 0."""
        begin = np.repeat(self.offsets[:-1], np.diff(self.offsets))
        out: np.ndarray = (np.arange(len(self.content)) - begin).astype(np.int32)
        return out

    def has_role(self, role: str) -> np.ndarray:
        """Return a bool for each turn: whether it is `role`'s."""
        if self.role is None:
            return np.full(len(self.content), role == ASSISTANT)
        equal = pc.equal(self.role.cast(pa.large_binary()), pa.scalar(role.encode(), pa.large_binary()))
        out: np.ndarray = pc.fill_null(equal, False).to_numpy(zero_copy_only=False)
        return out

    @property
    def last(self) -> Turns:
        """The last assistant turn of each conversation, a null one where there is none."""
        turns = np.where(self.has_role(ASSISTANT), np.arange(len(self.content)), -1)
        latest = np.concatenate([[-1], np.maximum.accumulate(turns)]) if len(turns) else np.array([-1])
        found = latest[self.offsets[1:]]
        indices = pa.array(np.maximum(found, 0), mask=found < self.offsets[:-1])
        return Turns(
            np.arange(len(self) + 1, dtype=np.int64),
            self.content.take(indices),
            None if self.reasoning is None else self.reasoning.take(indices),
        )


def turns(column: pa.Array) -> Turns:
    """Return the turns of a column: of chats all messages; a text is one turn of the assistant's.

    Parameters
    ----------
    column
        Array of a type that `is_text` accepts.
    """
    column = storage(column)
    n = len(column)
    if not is_chat(column.type):
        return Turns(np.arange(n + 1, dtype=np.int64), strings(column))
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):  # fixed-size lists, list views
        column = column.cast(pa.large_list(column.type.value_type))
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    messages = column.flatten()  # of this slice, without what lies under nulls
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    fields = {messages.type.field(i).name for i in range(messages.type.num_fields)}
    role_field, content_field = message_fields(fields)
    role = known_roles(strings(pc.struct_field(messages, [role_field])))
    content, reasoning = content_of(pc.struct_field(messages, [content_field]))
    for name in REASONING:
        if name in fields:
            told = storage(pc.struct_field(messages, [name]))
            if not pa.types.is_nested(told.type):
                reasoning = _either(reasoning, strings(told), content.type)
    content = or_refusal(content, messages)
    if "tool_calls" in fields:
        content = _without_calls(content, pc.struct_field(messages, ["tool_calls"]))
    if not pa.types.is_string(role.type):
        role = role.cast(pa.string(), safe=False)
    return Turns(offsets, content, _told(reasoning), role, missing)


def spoken(role: pa.Array) -> dict[str | None, int]:
    """Return how many turns each role has."""
    counts = pc.value_counts(role.cast(pa.large_binary())).to_pylist()
    return {None if c["values"] is None else c["values"].decode("utf-8", "replace"): c["counts"] for c in counts}


def unvoiced(path: str | Path, wanted: str, others: Counter[str | None]) -> InputError:
    """Return what is wrong with an input whose turns are all of other roles than the one that is wanted."""
    listed = [f"{'no role' if role is None else repr(role)} ({n:,})" for role, n in others.most_common(8)]
    more = f" and {len(others) - len(listed):,} more" if len(others) > len(listed) else ""
    other = "user" if wanted == ASSISTANT else ASSISTANT
    remedy = f"rename the role that is the {wanted}'s to {wanted!r}"
    if other in others:
        remedy += f", or score the {other}'s turns with --roles {other}"
    reason = f"no turn is the {wanted}'s; the roles and their turns are: {', '.join(listed)}{more}"
    return InputError(path, reason, remedy)


def _either(first: pa.Array | None, second: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return `first` where it says something, else `second`; of type `dtype`."""
    second = like(second, dtype)
    if first is None:
        return second
    blank = pc.equal(pc.binary_length(first), 0)
    return pc.coalesce(pc.if_else(pc.fill_null(blank, True), pa.nulls(len(first), dtype), first), second)


def like(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return texts as another of the types of texts, whatever bytes they hold."""
    if column.type == dtype:
        return column
    wide = pa.types.is_large_string(dtype) or pa.types.is_large_binary(dtype)
    return column.cast(pa.large_binary() if wide else pa.binary()).view(dtype)


def _told(reasoning: pa.Array | None) -> pa.Array | None:
    """Return reasoning with null for blank texts; None where nothing is left."""
    if reasoning is None or reasoning.null_count == len(reasoning):
        return None
    blank = pc.fill_null(pc.match_substring_regex(reasoning, r"^\s*$"), True)
    if pc.all(blank).as_py():
        return None
    return pc.if_else(blank, pa.nulls(len(reasoning), reasoning.type), reasoning)


def _without_calls(content: pa.Array, calls: pa.Array) -> pa.Array:
    """Return contents with null for the empty ones of messages that call tools: nothing was said there."""
    calls = storage(calls)
    if not (pa.types.is_list(calls.type) or pa.types.is_large_list(calls.type)):
        return content
    calling = pc.fill_null(pc.greater(pc.list_value_length(calls), 0), False)
    silent = pc.and_(calling, pc.fill_null(pc.equal(pc.binary_length(content), 0), False))
    if not pc.any(silent).as_py():
        return content
    return pc.if_else(silent, pa.nulls(len(content), content.type), content)


def from_messages(rows: Sequence[Any], encode: Any, fields: tuple[str, str] = ("role", "content")) -> Turns:
    """Return the turns of rows of JSON values: lists of messages, texts, objects with a text, or None.

    Parameters
    ----------
    rows
        One value for each conversation, each accepted by `affectcore.io.formats.jsonl` before.
    encode
        Makes bytes of a str.
    fields
        Names of the fields with the role and the content of a message, see `message_fields`. A message without a role
        has a null one.
    """
    counts: list[int] = []
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for row in rows:
        messages = row if isinstance(row, list) else [] if row is None else [dict(zip(fields, (ASSISTANT, row)))]
        counts.append(len(messages))
        for message in messages:
            content, reasoning = _said(message, fields[1])
            role = message.get(fields[0])
            for column, value in zip(columns, (content, reasoning, role if isinstance(role, str) else None)):
                column.append(None if value is None else encode(value))
    content, reasoning = (_text_array(column) for column in columns[:2])
    role = known_roles(pa.array([r if r is None else r.decode("utf-8", "replace") for r in columns[2]], pa.string()))
    missing = np.array([row is None for row in rows], bool)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Turns(offsets, content, _told(reasoning), role, missing if missing.any() else None)


def _text_array(texts: list[bytes | None]) -> pa.Array:
    array = pa.array(texts, pa.binary())
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:  # not all UTF-8: the scorer counts the bytes that are not
        return array


def _said(message: dict[str, Any], field: str) -> tuple[str | None, str | None]:
    """Return the content and the reasoning of a JSON message."""
    content, apart = said(message.get(field))
    if not content and isinstance(message.get("refusal"), str) and message["refusal"]:
        content = message["refusal"]
    told = [message[name] for name in REASONING if isinstance(message.get(name), str) and message[name]]
    if content == "" and message.get("tool_calls"):
        content = None
    return content, apart or (told[0] if told else None)


def said(content: Any) -> tuple[str | None, str | None]:
    """Return the text and the reasoning of the JSON content of a message; see `affectcore.io.formats.texts.content_of`.

    Raises
    ------
    TypeError
        If it holds no text: says what it is.
    """
    if content is None or isinstance(content, str):
        return content, None
    if isinstance(content, dict):
        for name in ("answer", "text"):
            if isinstance(content.get(name), str):
                return str(content[name]), None
        raise TypeError("has content with neither answer nor text")
    if not isinstance(content, list):
        raise TypeError(f"has content that is a {_JSON.get(type(content), type(content).__name__)}, not a text")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if part.get("type") in REASONING:
                told = [part[name] for name in (*REASONING, "text") if isinstance(part.get(name), str)]
                thoughts += told[:1]
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
    return "\n".join(texts) if texts or not content else None, "\n".join(thoughts) if thoughts else None


# -- tables with a row per turn ------------------------------------------------------------------------------------


class TurnTable:
    """Makes conversations of rows that hold a turn each.

    Parameters
    ----------
    schema
        The columns beside the text.
    conversation
        Column of the conversation's id; None for one of `CONVERSATION_COLUMNS`, if there is a column ``role``, else
        every row is a conversation of its own.
    path
        The file or table, for messages.
    needed
        Whether whole conversations are wanted: then the columns kept are those of a conversation's first row, else each
        turn's own.
    documents
        Whether rows are texts of their own, whoever said them: then the reasoning beside them is all that counts.

    Attributes
    ----------
    schema
        The columns kept: all but those that are used up, ``role`` and the reasoning, until `keep` says which.

    Raises
    ------
    UsageError
        If there is no such column, or none where one is needed.
    """

    def __init__(
        self,
        schema: pa.Schema,
        conversation: str | None,
        path: str | Path,
        needed: bool = False,
        documents: bool = False,
    ) -> None:
        names = schema.names
        self._path = path
        self._own_rows = not (needed or documents)
        there = "role" in names and not documents and is_string(schema.field("role").type)
        self._role = "role" if there else None
        if conversation is not None and conversation not in names:
            raise UsageError(
                f"{path}: no column {conversation!r} that could tell conversations apart"
                f"{suggest(conversation, names)}; the columns are: {', '.join(names)}"
            )
        if conversation is None and self._role:
            conversation = next((name for name in CONVERSATION_COLUMNS if name in names), None)
        if conversation is None and needed:
            raise UsageError(
                f"{path}: no conversations found: the texts are no chat messages, and no column says to which"
                f" conversation a row belongs; name one with --conversation, or a column of chats with --text;"
                f" the columns are: {', '.join(names)}"
            )
        self.conversation = conversation
        self._note: Callable[[int, str, str], None] | None = None
        self._problem: InputError | None = None  # the first one
        self._reasoning = [n for n in REASONING if n in names and is_string(schema.field(n).type)]
        self.keep(schema, [n for n in names if n != self._role and n not in self._reasoning])

    @property
    def uses(self) -> list[str]:
        """The columns that it needs beside the text."""
        return [*filter(None, (self.conversation, self._role)), *self._reasoning]

    def keep(self, schema: pa.Schema, names: Sequence[str]) -> None:
        """Keep these columns of a schema, which are those of the batches from now on."""
        self._names = list(names)
        self.schema = pa.schema([schema.field(name) for name in names])

    def read(
        self,
        batches: Iterable[tuple[pa.RecordBatch, pa.Array]],
        first: int = 0,
        note: Callable[[int, str, str], None] | None = None,
    ) -> Iterator[tuple[pa.RecordBatch, Turns, np.ndarray]]:
        """Yield the kept columns and the turns of whole conversations, and the rows at which they begin.

        Rows that name no conversation, or one that had ended before, are left out, as if they were not there; so are
        conversations that are too long to hold. What had been yielded of a conversation that comes back stays: to know
        of it in time, all of the table would have to be held.

        Parameters
        ----------
        batches
            Columns beside the text, and texts.
        first
            Number of the first row.
        note
            Called with the row, the reason and the remedy where something is left out; None to raise instead.

        Yields
        ------
        kept, turns, starts
            ``starts`` is int64 (n + 1,) and ends with the row after the last of them, or one before which all rows are
            left out.

        Raises
        ------
        InputError
            If something is left out and there is no `note`, or all is.
        """
        self._note = note
        seen = _Seen()
        held: list[tuple[pa.RecordBatch, pa.Array]] = []  # rows of the conversation that goes on in the next batch
        held_from, n_held, too_long, found = first, 0, False, False
        for columns, texts in batches:
            n = len(texts)
            if n == 0:
                continue
            if self.conversation is None:
                yield self._made([(columns, texts)], np.arange(n + 1), np.arange(first, first + n + 1))
                first, found = first + n, True
                continue
            columns, texts, rows, begins = self._sorted(columns, texts, np.arange(first, first + n), seen)
            first += n
            if too_long:
                rest = int(begins[0]) if len(begins) else len(texts)
                columns, texts, rows, begins = columns.slice(rest), texts.slice(rest), rows[rest:], begins - rest
                too_long = not len(begins)
            if len(begins):
                last = int(begins[-1])
                offsets = np.concatenate([[0] if held else [], n_held + begins]).astype(np.int64)
                if len(offsets) > 1:
                    pieces = [*held, (columns.slice(0, last), texts.slice(0, last))]
                    starts = np.concatenate([[held_from] if held else [], rows[begins]]).astype(np.int64)
                    yield self._made(pieces, offsets, starts)
                    found = True
                held, held_from, n_held = [], int(rows[last]), 0
                columns, texts = columns.slice(last), texts.slice(last)
            if len(texts):
                held.append((columns, texts))
                n_held += len(texts)
            if n_held > MAX_TURNS or sum(text_bytes(piece) for _, piece in held) > MAX_BYTES:
                reason = f"the conversation that begins here has more than {MAX_TURNS:,} turns or {MAX_BYTES >> 20} MiB"
                self._leave_out(
                    [(held_from, reason, f"see whether column {self.conversation!r} tells conversations apart")]
                )
                held, n_held, too_long = [], 0, True
        if held:
            yield self._made(held, np.array([0, n_held]), np.array([held_from, first], np.int64))
        if self._problem is not None and not (held or found):
            first_one = self._problem
            raise InputError(
                self._path, f"no row could be scored; the first: {first_one.reason}", first_one.remedy, first_one.row
            )

    def _leave_out(self, lost: list[tuple[int, str, str]]) -> None:
        """Note, or raise, what is left out: rows, reasons, remedies."""
        for row, reason, remedy in lost:
            problem = InputError(self._path, reason, remedy, row)
            if self._note is None:
                raise problem
            self._problem = self._problem or problem
            self._note(row, reason, remedy)

    def _sorted(
        self, columns: pa.RecordBatch, texts: pa.Array, rows: np.ndarray, seen: _Seen
    ) -> tuple[pa.RecordBatch, pa.Array, np.ndarray, np.ndarray]:
        """Leave rows of a batch out that belong to no conversation, or to one that had ended before.

        Returns
        -------
        columns, texts, rows, begins
            What is left, and at which of it another conversation begins than that of the row before.
        """
        assert self.conversation is not None
        ids = plain(columns.column(self.conversation))
        nowhere = pc.is_null(ids, nan_is_null=True)
        fits = ~nowhere.to_numpy(zero_copy_only=False)
        lost = [(int(row), f"no conversation in column {self.conversation!r}", "fill it in") for row in rows[~fits]]
        if lost:
            mask = pa.array(fits)
            columns, texts, ids, rows = columns.filter(mask), texts.filter(mask), ids.filter(mask), rows[fits]
        if not len(rows):
            self._leave_out(lost)
            return columns, texts, rows, np.empty(0, np.int64)
        changes = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
        runs = np.flatnonzero(np.concatenate([[True], changes]))
        names = python_values(ids.take(pa.array(runs)))
        state = seen.add(names)
        without = "" if self._note is None else "; what stood before has been scored without these rows"
        lost += [
            (
                int(rows[runs[run]]),
                f"conversation {names[run]!r} goes on here, after rows of others{without}",
                f"sort the rows by {self.conversation!r}, so that the turns of a conversation stand together",
            )
            for run in np.flatnonzero(state == _Seen.BACK)
        ]
        self._leave_out(sorted(lost))
        if (state < _Seen.BACK).all():
            return columns, texts, rows, runs[state == _Seen.NEW]
        size = np.diff(np.append(runs, len(ids)))
        keep = np.repeat(state < _Seen.BACK, size)
        new = np.zeros(len(ids), bool)
        new[runs[state == _Seen.NEW]] = True
        mask = pa.array(keep)
        return columns.filter(mask), texts.filter(mask), rows[keep], np.flatnonzero(new[keep])

    def _made(
        self, pieces: list[tuple[pa.RecordBatch, pa.Array]], offsets: np.ndarray, starts: np.ndarray
    ) -> tuple[pa.RecordBatch, Turns, np.ndarray]:
        texts = [piece for _, piece in pieces]
        if len({piece.type for piece in texts}) > 1:  # a batch that is not all UTF-8 comes as bytes
            texts = [like(piece, pa.large_binary()) for piece in texts]
        content = pa.concat_arrays(texts)

        def column(name: str) -> pa.Array:
            return pa.concat_arrays([strings(columns.column(name)) for columns, _ in pieces])

        role = known_roles(column(self._role)) if self._role else None
        reasoning: pa.Array | None = None
        for name in self._reasoning:
            reasoning = _either(reasoning, column(name), content.type)
        turns = Turns(offsets, content, _told(reasoning), role, own_rows=self._own_rows)
        kept = [pa.concat_arrays([c.column(name) for c, _ in pieces]) for name in self._names]
        if not self._own_rows:
            kept = [column.take(pa.array(offsets[:-1])) for column in kept]
        return pa.RecordBatch.from_arrays(kept, schema=self.schema), turns, starts


class TurnTableReader:
    """Reads conversations of a turn table; a stand-in for the `Reader` of its rows.

    Its rows are those of the table, so that parts and `--resume` work as for other inputs; a batch ends where a
    conversation does. Reading from a later row on goes through the earlier ones, too, to know their conversations.
    """

    chat = True
    at_boundary = True

    def __init__(self, reader: Reader, table: TurnTable) -> None:
        self._reader = reader
        self._table = table
        self.source = reader.source
        self.schema = table.schema
        self.text_column = reader.text_column
        self.row = 0
        self.starts: np.ndarray | None = None

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, Turns]]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[tuple[pa.RecordBatch, Turns]]:
        """Yield kept columns and conversations from row `start` on; see `Reader.read`."""
        self.row = start
        for kept, turns, starts in self._table.read(self._reader.read(), note=self._note):
            done = int(np.searchsorted(starts, start))
            if start and done >= len(turns):
                self._reader.take_problems(start)
                continue
            if done:
                self._reader.take_problems(start)
                kept, turns, starts = turns.beside(kept, done), turns.slice(done), starts[done:]
            for begin, end in cut(turns, self._reader.batch_bytes):
                self.row = int(starts[end])
                self.starts = starts[begin : end + 1]
                yield turns.beside(kept, begin, end - begin), turns.slice(begin, end - begin)

    def _note(self, row: int, reason: str, remedy: str) -> None:
        self._reader._record(row, row, reason, remedy)

    def take_problems(self, before: int | None = None) -> list[Problem]:
        """Return, and forget, the problems met before row `before` (all of them for None)."""
        return self._reader.take_problems(before)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> TurnTableReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Seen:
    """The conversations that there have been, in 16 bytes each."""

    NEW, SAME, BACK, STILL_BACK = range(4)

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []  # sorted, each at least twice as long as the next
        self._live = self._last = np.bytes_()  # of the conversation that is kept, and of the row before

    def add(self, ids: list[Any]) -> np.ndarray:
        """Add the conversations of runs of rows.

        Parameters
        ----------
        ids
            One for each run; the first can be that of the rows before.

        Returns
        -------
        numpy.ndarray
            int (n,): NEW; SAME, where the conversation before goes on, but for rows that are left out; BACK, where one
            that had ended goes on; STILL_BACK, where that was told of the rows before already.
        """
        marks = [
            hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest() for value in ids
        ]
        new = np.array(marks, "S16") if marks else np.empty(0, "S16")
        again = np.ones(len(new), bool)
        again[np.unique(new, return_index=True)[1]] = False
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, new), len(run) - 1)
            again |= run[at] == new
        state = np.where(again, self.BACK, self.NEW)
        live, last = self._live, self._last
        for i in np.flatnonzero(again):
            # The run before this one was new, unless it is among these, too.
            if i and not again[i - 1]:
                live = new[i - 1]
            before = new[i - 1] if i else last
            if new[i] == live:
                state[i] = self.SAME
            elif new[i] == before:
                state[i] = self.STILL_BACK
        if len(new):
            fresh = np.flatnonzero(~again)
            self._live = new[fresh[-1]] if len(fresh) else live
            self._last = new[-1]
        new = np.sort(new[~again])
        while self._runs and len(self._runs[-1]) <= 2 * len(new):
            new = np.sort(np.concatenate([self._runs.pop(), new]))
        if len(new):
            self._runs.append(new)
        return state
