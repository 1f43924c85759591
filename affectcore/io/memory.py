"""Texts in memory: lists, tables, frames and streams, as text arrays, conversations, or batches of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from io import IOBase
from typing import Any, NamedTuple

import pyarrow as pa

from affectcore.errors import UsageError
from affectcore.io.formats.base import first_line
from affectcore.io.formats.conversations import Turns, from_messages, said
from affectcore.io.formats.texts import CONVERSATION_COLUMNS, REASONING, message_fields

__all__ = ["Texts", "open_texts"]

_OF_MESSAGES = {"role", "content", "from", "value", "name", "refusal", "tool_calls", "tool_call_id", "id", *REASONING}
"""Keys of dicts that are messages of one conversation; any other makes them rows of a table."""
_BATCH_ROWS = 1 << 14
_KINDS = "a text, a list of them, chats as lists of messages, rows as dicts, a dict of columns, or Arrow data"


class Texts(NamedTuple):
    """What was given: either `pieces`, or the batches of a table."""

    pieces: list[Any] | None  # arrays of text or chats, or `Turns`
    table: Any  # has a `schema` and iterates over record batches; None where there are pieces
    n_bytes: int  # of texts, about; of a stream, which nobody has counted, 2**62


def open_texts(given: Any) -> Texts:
    """Tell what was given, and convert it without a copy where it is Arrow data.

    Parameters
    ----------
    given
        A str or bytes; a list of str, bytes, None (also NaN and pandas' NA), or conversations as lists of messages, as
        OpenAI's or ShareGPT's format has them; one conversation; rows as dicts; a dict of columns; an array, table,
        frame or stream with the Arrow PyCapsule interface (PyArrow, Polars, pandas, DuckDB, nanoarrow); a Polars
        LazyFrame, which is collected; a `datasets.Dataset` or `IterableDataset`.

    Raises
    ------
    UsageError
        If it is nothing of these; the message names the first item that does not fit.
    """
    if isinstance(given, (str, bytes)):
        return _of_array(_encode([given]))
    if isinstance(given, pa.Array):
        return _of_array(given)
    if isinstance(given, pa.ChunkedArray):
        return Texts(given.chunks, None, given.nbytes)
    if isinstance(given, Turns):
        return Texts([given], None, int(given.byte_offsets[-1]))
    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if isinstance(given, pa.Table):
        return Texts(None, given.to_reader(), given.nbytes)
    if isinstance(given, pa.RecordBatchReader):
        return _stream(given)
    if _is_of(given, "polars", "LazyFrame"):
        given = given.collect()
    if hasattr(given, "__arrow_c_stream__"):
        try:
            return _stream(pa.RecordBatchReader.from_stream(given))
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
            return open_texts(pa.chunked_array(given))
    if hasattr(given, "__arrow_c_array__"):
        return _of_array(pa.array(given))
    if _is_of(given, "datasets", "Dataset") or _is_of(given, "datasets", "IterableDataset"):
        return _stream(_of_dataset(given))
    if _is_of(given, "datasets", "DatasetDict") or _is_of(given, "datasets", "IterableDatasetDict"):
        splits = ", ".join(repr(name) for name in given)
        raise UsageError(f"a {type(given).__name__} has several splits ({splits}): give one of them, dataset[NAME]")
    if hasattr(given, "__dataframe__"):  # going through it would give the names of its columns
        raise UsageError(
            "a data frame without the Arrow interface, which pandas has since 2.2: give pyarrow.Table.from_pandas(...)"
        )
    if isinstance(given, Mapping):
        return open_texts(_of_columns(given))
    if isinstance(given, Iterable) and not isinstance(given, (Set, IOBase)):
        return _of_rows(list(given))
    raise UsageError(f"cannot read texts from {type(given).__name__}: give {_KINDS}")


def _of_array(array: pa.Array) -> Texts:
    return Texts([array], None, array.nbytes)


def _stream(reader: Any) -> Texts:
    return Texts(None, reader, 1 << 62)


def _is_of(given: Any, package: str, name: str) -> bool:
    """Tell whether something is of a class of a package that may not be installed."""
    return any(c.__name__ == name and c.__module__.partition(".")[0] == package for c in type(given).__mro__)


def _of_dataset(dataset: Any) -> pa.RecordBatchReader:
    """Return the batches of a dataset of Hugging Face, filtered and shuffled as it is."""
    tables: Iterator[pa.Table] = dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS)
    first = next(tables, None)
    if first is None:
        schema = pa.schema([]) if dataset.features is None else dataset.features.arrow_schema
        return schema.empty_table().to_reader()

    def batches() -> Iterator[pa.RecordBatch]:
        for table in (first, *tables):
            yield from table.cast(first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _of_columns(columns: Mapping[Any, Any]) -> pa.Table:
    """Return a table of a dict: of columns, or of the one row that its values are."""
    if not columns or not all(isinstance(name, str) for name in columns):
        raise UsageError("cannot read texts from a dict whose keys are not names of columns")
    if all(value is None or isinstance(value, (str, bytes, int, float)) for value in columns.values()):
        return _table([dict(columns)])
    try:
        return pa.table(dict(columns))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UsageError(f"cannot make a table of this dict: {first_line(error)}; give columns of one length") from None


def _of_rows(rows: list[Any]) -> Texts:
    if set(map(type, rows)) <= {str, bytes, type(None)}:  # nearly always
        return _of_array(_encode(rows))
    rows = [None if _is_missing(row) else row for row in rows]
    there = [row for row in rows if row is not None]
    if there and all(isinstance(row, Mapping) for row in there):
        return _of_dicts(rows)
    if any(isinstance(row, (list, tuple)) for row in there):
        return _of_chats(rows)
    return _of_array(_encode(rows))


def _is_missing(row: Any) -> bool:
    """Tell whether an item stands for no text: NaN from a list of a pandas series, NA and NaT."""
    return (isinstance(row, float) and row != row) or type(row).__name__ in ("NAType", "NaTType")


def _of_dicts(rows: list[Any]) -> Texts:
    """Return a conversation, where dicts are its messages and say nothing else, or a table."""
    names = {name for row in rows if row is not None for name in row}
    role, content = message_fields(names)
    if {role, content} <= names <= _OF_MESSAGES and names.isdisjoint(CONVERSATION_COLUMNS):
        return _of_chats([[row for row in rows if row is not None]])
    return open_texts(_table([{} if row is None else dict(row) for row in rows]))


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array([None if _is_missing(v) else v for v in values])
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"the rows' {name!r} cannot be one column: {first_line(error)}; make its values one type, or leave it "
                "out"
            ) from None
    return pa.table(columns)


def _of_chats(rows: Sequence[Any]) -> Texts:
    names: set[str] = set()
    for number, row in enumerate(rows):
        if row is None or isinstance(row, str):
            continue
        if not isinstance(row, (list, tuple)):
            raise UsageError(f"text {number} is {type(row).__name__}, among conversations that are lists of messages")
        for k, message in enumerate(row):
            if not isinstance(message, Mapping):
                kind = type(message).__name__
                raise UsageError(
                    f"text {number} is a list whose item {k} is {kind}: messages of a conversation are dicts"
                )
            names.update(message)
    fields = message_fields(names)
    if names and not set(fields) <= names:
        keys = ", ".join(sorted(map(repr, names)))
        raise UsageError(f"messages need 'role' and 'content', or 'from' and 'value'; these have {keys}")
    for number, row in enumerate(rows):
        for k, message in enumerate(row if isinstance(row, (list, tuple)) else ()):
            try:
                said(message.get(fields[1]))
            except TypeError as error:
                raise UsageError(f"text {number}: message {k} {error}") from None
    listed = [list(map(dict, row)) if isinstance(row, (list, tuple)) else row for row in rows]
    turns = from_messages(listed, lambda text: text.encode("utf-8", "surrogatepass"), fields)
    return Texts([turns], None, int(turns.byte_offsets[-1]))


def _encode(rows: list[Any]) -> pa.Array:
    for row, item in enumerate(rows):
        if item is not None and not isinstance(item, (str, bytes)):
            raise UsageError(f"text {row} is {type(item).__name__}, not str, bytes or None")
    try:
        if not any(isinstance(item, bytes) for item in rows):
            return pa.array(rows, pa.large_string())
    except UnicodeEncodeError:
        pass  # lone surrogates, which no UTF-8 can hold: they become invalid bytes, and count as such
    encoded = [item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item for item in rows]
    return pa.array(encoded, pa.large_binary())
