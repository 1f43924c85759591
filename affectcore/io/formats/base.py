"""What every reader of a file format shares: sources, problems, batches cut by bytes."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import InputError
from affectcore.io.formats.pipe import Pipe

MAX_ROWS = 16384
"""Rows in a batch at most: scores of short texts are written while the next ones are read."""

MAX_PROBLEMS = 1000
"""Problems listed one by one for a file; the rest are counted, so a hopeless file does not fill the memory."""

DAMAGED = "the file is truncated or damaged: copy it again, or write it again"

# pyarrow's own errors about bad data: a damaged length can ask for more memory than there is. Not KeyboardInterrupt's
# ArrowCancelled.
ARROW_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowNotImplementedError,
    pa.ArrowTypeError,
    pa.ArrowKeyError,
    pa.ArrowIndexError,
    pa.ArrowSerializationError,
    pa.ArrowMemoryError,
    OSError,
)


@dataclass(frozen=True)
class Source:
    """One input file.

    Parameters
    ----------
    path
        The file.
    format
        ``parquet``, ``ipc``, ``jsonl``, ``csv`` or ``tsv``.
    name
        Its path relative to the folder or pattern it was found by, with forward slashes; names outputs.
    compression
        ``none``, ``gzip`` or ``zstd``: of the whole file, as in ``.jsonl.gz``.
    pipe
        Where the path is no file but something that can be read once.
    """

    path: Path
    format: str
    name: str
    compression: str = "none"
    pipe: Pipe | None = None


@dataclass(frozen=True)
class Problem:
    """One thing that could not be scored: a file that failed, or a row that was dropped.

    Parameters
    ----------
    file
        The file.
    row
        Zero-based row or line of the file, or None where it is not known.
    reason
        What is wrong.
    remedy
        What to do about it.
    """

    file: str
    row: int | None
    reason: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary."""
        return {"file": self.file, "row": self.row, "reason": self.reason, "remedy": self.remedy}


class Reader(ABC):
    """Reads one source as batches of kept columns and texts, in bounded memory.

    Iterating yields ``(kept, texts)``: a `pyarrow.RecordBatch` with `schema` and a string, large_string, binary or
    large_binary array, both of the same length and at most about ``batch_bytes`` of text (a single longer text is a
    batch of its own). Nulls stay nulls. Where whole conversations are wanted, texts of chat columns are
    `affectcore.io.formats.conversations.Turns` instead.

    Attributes
    ----------
    source
        What is read.
    schema
        Schema of the kept columns.
    text_column
        Name, or dotted path, of the text column.
    row
        Rows delivered up to the end of the batch yielded last, rows skipped by ``start`` included.
    chat
        True where texts are whole conversations.
    starts
        Rows at which the conversations of the batch yielded last begin, int64; None where each is a row.
    at_boundary
        True where reading can begin again after the batch yielded last without decoding anything before it.
    """

    schema: pa.Schema
    text_column: str
    block_bytes = 8 << 20
    """Bytes read at a time from JSON Lines and CSV; fixed, so that types never depend on the size of a batch."""
    at_boundary = True
    starts: np.ndarray | None = None
    _boundary = True  # set by formats that can begin again only at some rows

    def __init__(self, source: Source, batch_bytes: int, chats: bool = False) -> None:
        self.source = source
        self.batch_bytes = batch_bytes
        self.chat = False
        self._chats = chats  # whether whole conversations are wanted
        self.row = 0
        self._start = 0
        self._problems: list[tuple[int, Problem]] = []
        self._uncounted = 0

    @abstractmethod
    def _batches(self, start: int) -> Iterator[tuple[int, pa.RecordBatch, Any]]:
        """Yield ``(first_row, kept, texts)`` in file order; rows before `start` may be left out."""

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, Any]]:
        return self.read()

    def read(self, start: int = 0) -> Iterator[tuple[pa.RecordBatch, Any]]:
        """Yield ``(kept, texts)`` from row `start` on.

        Raises
        ------
        InputError
            The file is truncated or damaged; names the row reached.
        """
        if self.source.pipe is not None:
            self.source.pipe.begin()
        self._start = start
        self.row = start
        self._problems = [(at, problem) for at, problem in self._problems if at >= start]
        for first, kept, texts in self._batches(start):
            if first < start:
                drop = start - first
                if drop >= len(texts):
                    continue
                kept, texts, first = kept.slice(drop), texts.slice(drop), start
            boundary = self._boundary
            for begin, end in cut(texts, self.batch_bytes):
                whole = begin == 0 and end == len(texts)
                self.row = first + end
                self.at_boundary = boundary and end == len(texts)
                yield (kept, texts) if whole else (kept.slice(begin, end - begin), texts.slice(begin, end - begin))

    def take_problems(self, before: int | None = None) -> list[Problem]:
        """Return, and forget, the problems met before row `before` (all of them for None)."""
        if before is None:
            taken = [problem for _, problem in self._problems]
            if self._uncounted:
                more = f"{self._uncounted:,} more rows of this file could not be read"
                taken.append(Problem(str(self.source.path), None, more, "see the rows listed before"))
            self._problems, self._uncounted = [], 0
            return taken
        taken = [problem for at, problem in self._problems if at < before]
        self._problems = [(at, problem) for at, problem in self._problems if at >= before]
        return taken

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the kept columns of a raw batch."""
        columns = [plain(batch.column(field.name)) for field in self.schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _texts(self, column: pa.Array, fields: tuple[str, ...]) -> Any:
        """Return the texts of the raw text column, or its conversations."""
        from affectcore.io.formats.conversations import turns
        from affectcore.io.formats.texts import extract, reach

        return turns(reach(column, fields)) if self.chat else extract(column, fields)

    def _record(self, at: int, row: int | None, reason: str, remedy: str) -> None:
        """Note a dropped row, met after `at` delivered rows."""
        if at < self._start:
            return
        if len(self._problems) >= MAX_PROBLEMS:
            self._uncounted += 1
            return
        self._problems.append((at, Problem(str(self.source.path), row, reason, remedy)))

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def damaged(source: Source, what: str, reader: Reader | None = None) -> Iterator[None]:
    """Turn pyarrow's errors about the data of `source` into an InputError that names the row reached."""
    try:
        yield
    except ARROW_ERRORS as exc:
        if isinstance(exc, FileNotFoundError | PermissionError | IsADirectoryError):
            raise InputError(source.path, exc.strerror or str(exc), "check the path and its permissions") from exc
        raise InputError(
            source.path, f"{what}: {first_line(exc)}", DAMAGED, None if reader is None else reader.row
        ) from exc


def first_line(exc: BaseException) -> str:
    """Return the first line of an exception's message, without a full stop."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


def offsets_of(texts: Any) -> Any:
    """Return the byte offsets of a string or binary array, or of conversations.

    Parameters
    ----------
    texts
        string, binary, large_string or large_binary array of length ``n``; a slice keeps its offset. Or `Turns`.

    Returns
    -------
    numpy.ndarray
        ``(n + 1,)`` int32 or int64, a view of the array's buffer.
    """
    if not isinstance(texts, pa.Array):
        return texts.byte_offsets
    wide = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    buffer = texts.buffers()[1]
    if buffer is None or len(texts) == 0:
        return np.zeros(1, dtype=np.int64)
    dtype = np.dtype(np.int64 if wide else np.int32)
    return np.frombuffer(buffer, dtype=dtype, count=len(texts) + 1, offset=texts.offset * dtype.itemsize)


def batch_bytes_of(batch: pa.RecordBatch) -> int:
    """Return about how many bytes a batch has; of views, as many as they point into."""
    try:
        return int(batch.nbytes)
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError):  # old PyArrow and views
        return int(batch.get_total_buffer_size())


def text_bytes(texts: Any) -> int:
    """Return how many bytes of text a string or binary array (a slice, too), or conversations, hold."""
    offsets = offsets_of(texts)
    return int(offsets[-1]) - int(offsets[0])


def cut(texts: Any, limit: int) -> Iterator[tuple[int, int]]:
    """Yield ``(begin, end)`` of runs of rows with at most `limit` bytes and MAX_ROWS rows; at least one row each."""
    n = len(texts)
    offsets = offsets_of(texts)
    begin = 0
    while begin < n:
        end = int(np.searchsorted(offsets, offsets[begin] + np.int64(limit), side="right")) - 1
        end = min(max(end, begin + 1), begin + MAX_ROWS, n)
        yield begin, end
        begin = end


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type a kept column is delivered in.

    Dictionaries, run-end encodings and views differ from batch to batch in ways that IPC files and row groups cannot
    hold, so they become the type of their values, within lists and structs, too; decimals that Parquet cannot hold,
    with a scale below 0 or above the precision, become wider ones; every other type stays.
    """
    types = pa.types
    if types.is_decimal(dtype) and not 0 <= dtype.scale <= dtype.precision:
        digits = max(dtype.precision, dtype.scale) - min(dtype.scale, 0)
        if digits > 76:
            return pa.string()
        return (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, max(dtype.scale, 0))
    if types.is_dictionary(dtype) or types.is_run_end_encoded(dtype):
        return plain_type(dtype.value_type)
    if types.is_string_view(dtype):
        return pa.large_string()
    if types.is_binary_view(dtype):
        return pa.large_binary()
    made = dtype
    if types.is_struct(dtype):
        made = pa.struct([_plain_field(dtype.field(i)) for i in range(dtype.num_fields)])
    elif types.is_map(dtype):
        made = pa.map_(_plain_field(dtype.key_field), _plain_field(dtype.item_field), dtype.keys_sorted)
    elif types.is_fixed_size_list(dtype):
        made = pa.list_(_plain_field(dtype.value_field), dtype.list_size)
    elif types.is_list(dtype) or types.is_list_view(dtype):
        made = pa.list_(_plain_field(dtype.value_field))
    elif types.is_large_list(dtype) or types.is_large_list_view(dtype):
        made = pa.large_list(_plain_field(dtype.value_field))
    return dtype if made == dtype else made


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def plain(column: pa.Array) -> pa.Array:
    """Return `column` in its `plain_type`, without a copy where that is its type already.

    Raises
    ------
    pyarrow.ArrowNotImplementedError
        PyArrow cannot take the type apart; see `can_keep`.
    """
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        if plain_type(dtype.value_type) != dtype.value_type:
            column = pa.DictionaryArray.from_arrays(column.indices, plain(column.dictionary))
        return column.dictionary_decode()
    if pa.types.is_run_end_encoded(dtype):
        rows = np.arange(column.offset, column.offset + len(column))
        runs = np.searchsorted(column.run_ends.to_numpy(), rows, side="right")
        return plain(column.values).take(pa.array(runs))
    target = plain_type(dtype)
    if target == dtype:
        return column
    null = column.is_null() if column.null_count else None
    if pa.types.is_struct(target):
        fields = [target.field(i) for i in range(target.num_fields)]
        return pa.StructArray.from_arrays(
            [plain(column.field(i)) for i in range(len(fields))], fields=fields, mask=null
        )
    if pa.types.is_list(target) or pa.types.is_large_list(target):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        wide = pa.types.is_large_list(target)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64 if wide else np.int32)
        made = pa.LargeListArray if wide else pa.ListArray
        return made.from_arrays(offsets, plain(column.flatten()), type=target, mask=null)
    return from_views(column) if target in _FROM_VIEWS else column.cast(target)


_FROM_VIEWS = (pa.large_string(), pa.large_binary())


def from_views(column: pa.Array) -> pa.Array:
    """Return an array of string or binary views as large_string or large_binary.

    Under a null a view may be anything, but Arrow's cast adds up the lengths of all, and crashes on some sums.
    """
    if column.null_count:
        there = column.is_valid()
        _, views, *data = column.buffers()
        raw = np.frombuffer(views, np.int64, 2 * len(column), 16 * column.offset).reshape(-1, 2)
        raw = np.where(there.to_numpy(zero_copy_only=False)[:, None], raw, 0)
        own = [there.buffers()[1], pa.py_buffer(raw), *data]
        column = pa.Array.from_buffers(column.type, len(column), own, column.null_count)
    return column.cast(plain_type(column.type))


def can_keep(dtype: pa.DataType) -> bool:
    """Tell whether columns of a type can be delivered, and their rows repeated, which some units need."""
    try:
        plain(pa.nulls(1, dtype)).take(pa.array([0, 0]))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return False
    return True


def valid_strings(column: pa.Array) -> pa.Array:
    """Return a string array whose bytes are valid UTF-8, invalid ones replaced by U+FFFD.

    Parameters
    ----------
    column
        string or binary array that came from bytes nobody checked.
    """
    binary = column.cast(pa.binary()) if pa.types.is_string(column.type) else column
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid:
        values = binary.to_pylist()
        return pa.array([v if v is None else v.decode("utf-8", "replace") for v in values], pa.string())


def python_values(column: pa.Array) -> list[Any]:
    """Return the values of a column that is not nested as Python's, whatever is in it.

    What is not UTF-8 in a text is replaced by U+FFFD; a date that Python has no number for is text.
    """
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        raw = plain(column).cast(pa.large_binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "replace") for value in raw]
    except (ValueError, OverflowError):
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def checked_texts(column: pa.Array) -> pa.Array:
    """Return `column` as it is where it is valid UTF-8, else the same bytes as a binary array."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return column.view(pa.binary())
    return column
