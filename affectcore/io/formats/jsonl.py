"""JSON Lines: blocks cut at line ends and parsed by pyarrow; only a block it cannot hold is parsed line by line.

The first block with a valid line fixes the kept schema. Integers and decimals mixed in it give float64, integers that
int64 cannot hold stay texts, as do texts that look like dates, and a column without a value in it is a string column.
Columns that appear later are left out, missing ones are null, and a string column takes any later value as JSON text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from affectcore.errors import InputError, UsageError, suggest
from affectcore.io.formats.base import Reader, Source, checked_texts, damaged, first_line, valid_strings
from affectcore.io.formats.bytestream import open_bytes
from affectcore.io.formats.conversations import from_messages, said
from affectcore.io.formats.texts import (
    ASSISTANT,
    CHAT_COLUMNS,
    REASONING,
    TEXT_COLUMNS,
    TextColumn,
    is_chat,
    kept_names,
    known_role,
    message_fields,
    pick_text,
    split_path,
    type_of,
)

_BOM = b"\xef\xbb\xbf"
_MAX_LINE = 1 << 30
_FIELDS = ("role", "content")
_LONG = re.compile(rb":\s*-?[0-9]{19,}\s*[,}]")  # an integer that int64 may be too short for
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)  # one that is never closed goes to the end
_NAME = re.compile(rb'"([^"\\]{1,200})"[ \t]*:')
_SAMPLE = 1 << 20
_MOST_VALUES = 1 << 26
"""Rows times columns of the first block, at most: where each row has fields of its own, that is the rows' square."""
_DEEPEST = 1000
"""Objects and lists within each other, at most: pyarrow crashes at some thousands."""
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_FIX_LINE = "the row is left out; correct or remove the line"


@dataclass
class _Block:
    data: bytes
    line: int  # zero-based line of its first byte
    first: int  # rows before it
    end_line: int


@dataclass
class _Line:
    number: int
    data: bytes
    value: dict[str, Any]


class JsonlReader(Reader):
    """Reads JSON Lines, plain or compressed.

    A line that is not a JSON object is recorded as a problem and its row dropped; the other rows go on.
    """

    def __init__(
        self, source: Source, text: str | None, keep: Sequence[str] | None, batch_bytes: int, chats: bool = False
    ) -> None:
        super().__init__(source, batch_bytes, chats)
        self._keep = None if keep is None else list(keep)
        self._wanted = text
        self._parse: pa.Schema | None = None  # what pyarrow parses; None: its types cannot hold this file's texts
        with damaged(source, "cannot read the file"):
            self._stream = open_bytes(source)
        self._blocks_left = self._blocks()
        self._ready: tuple[_Block, pa.RecordBatch, Any] | None = None
        self._open_first()

    # -- blocks of whole lines -------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield ``(bytes, first line, line after)``."""
        carry: list[bytes] = []
        held = line = 0
        while True:
            with damaged(self.source, "cannot read the file", self):
                chunk = self._stream.read(self.block_bytes)
            if not chunk:
                break
            end = chunk.rfind(b"\n") + 1
            if end == 0:
                carry.append(chunk)
                held += len(chunk)
                if held > _MAX_LINE:
                    reason = f"line {line + 1} is longer than 1 GiB"
                    raise InputError(self.source.path, reason, "one JSON object a line is expected", self.row)
                continue
            block = b"".join([*carry, memoryview(chunk)[:end]])
            if line == 0:
                block = block.removeprefix(_BOM)
            carry = [chunk[end:]] if end < len(chunk) else []
            held = len(chunk) - end
            after = line + block.count(b"\n")
            yield block, line, after
            line = after
        if carry:
            yield b"".join(carry).removeprefix(_BOM if line == 0 else b""), line, line + 1

    def _open_first(self) -> None:
        """Read up to the first block with a valid line; it fixes the columns."""
        empty = True
        for data, line, end_line in self._blocks_left:
            empty = empty and not data.strip()
            block = _Block(data, line, 0, end_line)
            if line == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise InputError(self.source.path, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
            try:
                ready = self._infer(block)
            except UnicodeError:
                raise InputError(self.source.path, "the name of a column is not UTF-8", "rename it") from None
            if ready is not None:
                self._ready = (block, *ready)
                return
        if empty:
            raise InputError(self.source.path, "empty file (no rows)", "write it again, or leave it out")
        reason = self._problems[0][1].reason if self._problems else "no rows"
        row = self._problems[0][1].row if self._problems else None
        raise InputError(
            self.source.path,
            f"no line is a JSON object; the first: {reason}",
            "one object a line is expected; for one JSON document: jq -c '.[]' FILE > FILE.jsonl",
            row,
        )

    def _batches(self, start: int) -> Iterator[tuple[int, pa.RecordBatch, Any]]:
        if self._ready is None:
            raise ValueError("a reader can be read once; open the file again")
        (_, kept, texts), self._ready = self._ready, None
        first = 0
        if len(texts):
            yield first, kept, texts
            first += len(texts)
        for data, line, end_line in self._blocks_left:
            kept, texts = self._convert(_Block(data, line, first, end_line))
            if len(texts):
                yield first, kept, texts
                first += len(texts)

    # -- the first block -------------------------------------------------------------------------------------------

    def _infer(self, block: _Block) -> tuple[pa.RecordBatch, Any] | None:
        """Fix the columns by this block and convert it; None where it holds no valid line."""
        many = _has_many_names(block.data)
        table = None if many else _parse(block.data, None)
        lines: list[_Line] | None = None
        if table is None:
            lines = self._lines(block)
            if not lines:
                return None
            table = None if many else _parse(b"\n".join(x.data for x in lines), None)
        if table is not None:
            if table.num_rows == 0:
                return None
            kinds = [
                pa.string() if _is_long(c) and _LONG.search(block.data) else _settled(c.type) for c in table.columns
            ]
            self._settle(pa.schema([f.with_type(kind) for f, kind in zip(table.schema, kinds)]))
        else:
            self._settle_by_value([x.value for x in lines or []])
        return self._convert(block, lines)

    def _settle(self, schema: pa.Schema) -> None:
        found = schema
        for name in self._usual if self._wanted is None else (self._wanted,):
            # Empty lists of messages have no type yet.
            i = schema.get_field_index(name)
            if i >= 0 and _is_empty_list(schema.field(i).type):
                found = found.set(i, schema.field(i).with_type(_chat_type(_FIELDS)))
        self._text = pick_text(found, self._wanted, self.source.path, self._chats)
        self.text_column = self._text.name
        dtype = type_of(found, self._text)
        self._messages = is_chat(dtype)
        self._fields = message_fields([f.name for f in dtype.value_type]) if self._messages else _FIELDS
        self.chat = self._chats and self._messages
        names = kept_names(found, self._text.column, self._keep, self.source.path)
        self.schema = pa.schema([found.field(n) for n in names])
        fields = list(self.schema)
        if self._text.column not in names:
            text_type = found.field(self._text.column).type
            fields.append(pa.field(self._text.column, _pruned(text_type, self._text.fields, self.chat)))
        self._parse = pa.schema(fields)

    def _settle_by_value(self, rows: list[dict[str, Any]]) -> None:
        """Fix the columns where values of one field differ in type from row to row."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        if len(names) * len(rows) > _MOST_VALUES:
            if self._keep is None:
                raise UsageError(
                    f"{self.source.path}: {len(names):,} different fields in the first {len(rows):,} rows;"
                    " name those to keep with --keep"
                )
            path = (self._wanted or "").split(".")
            asked = {*self._keep, *self._usual, *(".".join(path[:k]) for k in range(1, len(path) + 1))}
            names = [name for name in names if name in asked]
        columns = {name: [row.get(name) for row in rows] for name in names}
        self._text = self._pick_by_value(columns)
        self.text_column = self._text.name
        types = {name: _type_of(values) for name, values in columns.items()}
        if self._keep is None:
            chosen = [n for n, t in types.items() if t is not None and n != self._text.column]
        else:
            everything = pa.schema([(n, pa.null()) for n in names])
            chosen = kept_names(everything, self._text.column, self._keep, self.source.path)
        self.schema = pa.schema([(n, types[n] or _nested_type(columns[n])) for n in chosen])
        texts = columns[self._text.column]
        reached = texts
        for field in self._text.fields:
            reached = [v.get(field) if isinstance(v, dict) else None for v in reached]
        self._messages = any(_has_roles(v) for v in reached)
        self._fields = message_fields({name for v in reached if v and _is_messages(v) for m in v for name in m})
        self.chat = self._chats and self._messages
        plain = all(v is None or isinstance(v, str) for v in texts)
        plain_chat = self._messages and all(_is_plain_chat(v, self._fields[1]) for v in texts)
        if self._text.fields or self._text.column in chosen or not (plain or plain_chat):
            self._parse = None
        else:
            chat = _pruned(_chat_type(self._fields), (), self.chat)
            text_field = pa.field(self._text.column, pa.string() if plain else chat)
            self._parse = pa.schema([*self.schema, text_field])

    def _pick_by_value(self, columns: dict[str, list[Any]]) -> TextColumn:
        names = list(columns)
        listing = f"the columns are: {', '.join(names)}"
        if self._wanted is None:
            for name in CHAT_COLUMNS if self._chats else ():
                if name in columns and any(_has_roles(v) for v in columns[name]):
                    return TextColumn(name)
            for name in TEXT_COLUMNS:
                if name in columns and any(isinstance(v, str) or _has_roles(v) for v in columns[name]):
                    return TextColumn(name)
            raise UsageError(f"{self.source.path}: no text column found; {listing}. Name it with --text")
        found = split_path(self._wanted, names)
        if found is None:
            raise UsageError(f"{self.source.path}: no column {self._wanted!r}{suggest(self._wanted, names)}; {listing}")
        values = columns[found.column]
        for field in found.fields:
            values = [v.get(field) if isinstance(v, dict) else None for v in values]
        if not any(isinstance(v, str) or _has_roles(v) for v in values) and any(v is not None for v in values):
            raise UsageError(f"{self.source.path}: column {self._wanted!r} holds no text; {listing}")
        return found

    @property
    def _usual(self) -> tuple[str, ...]:
        return (*CHAT_COLUMNS, *TEXT_COLUMNS) if self._chats else TEXT_COLUMNS

    # -- every block -----------------------------------------------------------------------------------------------

    def _convert(self, block: _Block, lines: list[_Line] | None = None) -> tuple[pa.RecordBatch, Any]:
        if self._parse is not None:
            table = _parse(block.data, self._parse) if lines is None else None
            if table is None:
                lines = self._lines(block) if lines is None else lines
                table = _parse(b"\n".join(x.data for x in lines), self._parse)
            if table is not None:
                return self._from_table(table)
        if lines is None:
            lines = self._lines(block)
        return self._from_lines(lines, block)

    def _from_table(self, table: pa.Table) -> tuple[pa.RecordBatch, Any]:
        batches = table.combine_chunks().to_batches()
        if not batches:
            return self._empty()
        batch = batches[0]
        kept = []
        for field in self.schema:
            column = batch.column(field.name)
            kept.append(valid_strings(column) if pa.types.is_string(field.type) else column)
        texts = self._texts(batch.column(self._text.column), self._text.fields)
        if self.chat:
            reasoning = None if texts.reasoning is None else checked_texts(texts.reasoning)
            texts = replace(texts, content=checked_texts(texts.content), reasoning=reasoning)
            texts = replace(texts, role=valid_strings(texts.role))
        else:
            texts = checked_texts(texts)
        return pa.RecordBatch.from_arrays(kept, schema=self.schema), texts

    def _empty(self) -> tuple[pa.RecordBatch, Any]:
        kept = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in self.schema], schema=self.schema)
        return kept, from_messages([], _utf8, self._fields) if self.chat else pa.array([], pa.string())

    def _lines(self, block: _Block) -> list[_Line]:
        """Parse a block line by line, noting the lines that are not JSON objects."""
        lines = []
        for number, raw in enumerate(block.data.split(b"\n"), block.line):
            stripped = raw.strip()
            if not stripped:
                continue
            try:
                if _too_deep(stripped):
                    raise RecursionError(f"more than {_DEEPEST:,} objects and lists within each other")
                # Bytes that are not UTF-8 go through as they are and are counted when the text is scored.
                value = json.loads(stripped.decode("utf-8", "surrogateescape"))
            except (ValueError, RecursionError) as exc:
                reason = f"line {number + 1}: not JSON ({first_line(exc)})"
                self._record(block.first, number, reason, _FIX_LINE)
                continue
            if isinstance(value, dict):
                lines.append(_Line(number, stripped, value))
            else:
                reason = f"line {number + 1}: a JSON {_kind(value)} where an object was expected"
                self._record(block.first, number, reason, _FIX_LINE)
        return lines

    def _from_lines(self, lines: list[_Line], block: _Block) -> tuple[pa.RecordBatch, Any]:
        texts: list[Any] = []
        rows: list[_Line] = []
        for line in lines:
            value: Any = line.value.get(self._text.column)
            for field in self._text.fields:
                value = value.get(field) if isinstance(value, dict) else None
            try:
                text = self._chat_of(value) if self.chat else self._text_of(value)
            except TypeError as exc:
                reason = f"line {line.number + 1}: {self.text_column} {exc}"
                self._record(block.first, line.number, reason, _FIX_LINE)
                continue
            texts.append(text if self.chat or text is None else _utf8(str(text)))
            rows.append(line)
        kept = [self._column(field, rows) for field in self.schema]
        if self.chat:
            return pa.RecordBatch.from_arrays(kept, schema=self.schema), from_messages(texts, _utf8, self._fields)
        array = pa.array(texts, pa.binary())
        with contextlib.suppress(pa.ArrowInvalid):  # not all UTF-8: the scorer counts the bytes that are not
            array = array.cast(pa.string())
        return pa.RecordBatch.from_arrays(kept, schema=self.schema), array

    def _column(self, field: pa.Field, rows: list[_Line]) -> pa.Array:
        values = []
        for row in rows:
            value = row.value.get(field.name)
            try:
                values.append(_cast(value, field.type))
            except (TypeError, pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                keep = ", ".join(f.name for f in self.schema if f.name != field.name)
                remedy = "leave the column out" + (f" with --keep {keep}" if keep else "") + ", or make it one type"
                raise InputError(
                    self.source.path,
                    f"line {row.number + 1}: column {field.name!r} holds a {_kind(value)} where the rows before it"
                    f" hold {field.type}",
                    remedy,
                    row.number,
                ) from None
        return pa.array(values, field.type)

    def _text_of(self, value: Any) -> str | None:
        """Return the text of a JSON value: a string, chat messages, or an object with answer or text."""
        if value is None or isinstance(value, str):
            return value
        if _is_messages(value) and (self._messages or _has_roles(value)):
            names = self._fields if self._messages else message_fields({name for m in value for name in m})
            for message in reversed(value):
                role = message.get(names[0])
                if isinstance(role, str) and known_role(role) == ASSISTANT:
                    content: str | None = said(message.get(names[1]))[0]
                    refusal = message.get("refusal")
                    return content or (refusal if isinstance(refusal, str) and refusal else content)
            return None
        if isinstance(value, dict):
            return said(value)[0]
        if isinstance(value, list) and self._messages:
            raise TypeError("is a list of other things than messages")
        raise TypeError(f"is a {_kind(value)}, not a text")

    def _chat_of(self, value: Any) -> Any:
        """Return a JSON value that is a conversation, or a text, as it is; TypeError where it is neither."""
        if _is_messages(value):
            for message in value:
                said(message.get(self._fields[1]))
            return value
        return self._text_of(value)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _parse(data: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """Parse whole lines with pyarrow; None where it cannot, or where lines and objects do not match one to one."""
    # Every line must begin with an object: a first line "null" crashes pyarrow 26, and objects that share a line or
    # span several would shift the line numbers.
    raw = np.frombuffer(data, np.uint8)
    starts = np.flatnonzero(raw == 10) + 1
    heads = raw[np.concatenate([np.zeros(1, starts.dtype), starts[starts < len(raw)]])] if len(raw) else raw
    n_lines = int(np.count_nonzero(heads == 0x7B))
    if n_lines + int(np.count_nonzero(heads == 10)) != len(heads):
        return None
    bounds = np.concatenate([[0], starts, [len(raw)]])
    for i in np.flatnonzero(np.diff(bounds) > 2 * _DEEPEST):
        if _too_deep(data, int(bounds[i]), int(bounds[i + 1])):
            return None
    if n_lines == 0:
        return pa.schema([] if schema is None else schema).empty_table()
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None
    return table if table.num_rows == n_lines else None


def _has_many_names(data: bytes) -> bool:
    """Tell whether so many fields are named that a column for each, of objects within objects too, takes too much."""
    sample = data[:_SAMPLE]
    names = len(set(_NAME.findall(sample)))
    return names * max(1, sample.count(b"\n")) * (len(data) / max(1, len(sample))) ** 2 > _MOST_VALUES and names > 1000


def _too_deep(data: bytes, begin: int = 0, end: int | None = None) -> bool:
    """Tell whether a line has more than `_DEEPEST` objects and lists within each other."""
    end = len(data) if end is None else end
    if data.count(b"{", begin, end) + data.count(b"[", begin, end) <= _DEEPEST:
        return False
    line = data[begin:end]
    return _depth(line) > _DEEPEST and _depth(_STRING.sub(b"", line)) > _DEEPEST  # brackets in texts are none


def _depth(line: bytes) -> int:
    folded = np.frombuffer(line, np.uint8) & 0xDF  # braces to square brackets
    steps = folded[(folded == 0x5B) | (folded == 0x5D)]
    return int(np.cumsum(0x5C - steps.astype(np.int64)).max(initial=0))


def _is_long(column: pa.ChunkedArray) -> bool:
    """Tell whether a column that came as float64 holds integers that int64 cannot hold: they would be others."""
    if not pa.types.is_float64(column.type):
        return False
    values = column.drop_null().to_numpy()
    return bool(len(values) and (values == np.floor(values)).all() and (np.abs(values) >= 2.0**63).any())


def _settled(dtype: pa.DataType) -> pa.DataType:
    """Undo what inference guesses too much: dates stay the strings they were, and no value yet means string."""
    if pa.types.is_timestamp(dtype) or pa.types.is_null(dtype):
        return pa.string()
    if pa.types.is_list(dtype):
        return dtype if pa.types.is_null(dtype.value_type) else pa.list_(_settled(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(dtype.field(i).name, _settled(dtype.field(i).type)) for i in range(dtype.num_fields)])
    return dtype


def _pruned(dtype: pa.DataType, fields: tuple[str, ...], turns: bool = False) -> pa.DataType:
    """Leave only what leads to the text, so that nothing else of a message or struct is parsed."""
    if fields:
        return pa.struct([(fields[0], _pruned(dtype.field(fields[0]).type, fields[1:], turns))])
    if is_chat(dtype):
        item = dtype.value_type
        role, content = message_fields([field.name for field in item])
        found = [(role, pa.string()), (content, item.field(content).type), ("refusal", pa.string())]
        if turns:  # also where the first block has none of them
            found += [(name, pa.string()) for name in REASONING]
            found.append(("tool_calls", pa.list_(pa.struct([("type", pa.string())]))))
        return pa.list_(pa.struct(found))
    return dtype


def _chat_type(fields: tuple[str, str]) -> pa.DataType:
    return pa.list_(pa.struct([(name, pa.string()) for name in fields]))


def _is_empty_list(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_list(dtype) and pa.types.is_null(dtype.value_type))


def _type_of(values: list[Any]) -> pa.DataType | None:
    """Return the type of a column of JSON values; None for a nested one, string for a mixture."""
    kinds = {type(v) for v in values if v is not None}
    if kinds and kinds <= {dict, list}:
        return None
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64() if all(v is None or -(2**63) <= v < 2**63 for v in values) else pa.string()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string()


def _nested_type(values: list[Any]) -> pa.DataType:
    if len(set(_NAME.findall(json.dumps(values).encode()))) * len(values) > _MOST_VALUES:
        return pa.string()
    try:
        return _settled(pa.array(values).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.string()


def _cast(value: Any, dtype: pa.DataType) -> Any:
    """Return a JSON value as one of a column's type; TypeError where it does not fit."""
    if value is None:
        return None
    if pa.types.is_string(dtype):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return _utf8(text).decode("utf-8", "replace")
    if pa.types.is_boolean(dtype):
        if isinstance(value, bool):
            return value
    elif pa.types.is_floating(dtype):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif pa.types.is_integer(dtype):
        if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
            return pa.scalar(int(value), dtype).as_py()
    else:
        return pa.scalar(value, dtype).as_py()
    raise TypeError(_kind(value))


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(m, dict) for m in value)


def _has_roles(value: Any) -> bool:
    """Tell whether a JSON value is a list of messages at least one of which says whose it is, or an empty list."""
    return _is_messages(value) and (not value or any("role" in m or ("from" in m and "value" in m) for m in value))


def _is_plain_chat(value: Any, content: str) -> bool:
    return value is None or (
        _is_messages(value) and all(m.get(content) is None or isinstance(m[content], str) for m in value)
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # Escaped bytes come back as they were; half a surrogate pair (from \\ud800) is no character.
        return _LONE_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return names.get(type(value), type(value).__name__)
