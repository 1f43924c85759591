"""Write score batches to one file, whole or not at all.

The format goes by the extension. A file is written beside its final place under a temporary name and moved there once
it is complete and on the disk, so a reader never sees half a file and an older one stays until the new one is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from affectcore import escape
from affectcore.errors import OutputError, UsageError
from affectcore.io import rare_types
from affectcore.io.files import create, sync, writing
from affectcore.io.formats.base import plain, python_values

__all__ = ["EXTENSIONS", "Writer", "appeared", "check_types", "is_file_output", "open_writer"]

EXTENSIONS = {
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".jsonl": "jsonl",
}
_OTHER_FILES = (".pq", ".csv", ".tsv", ".json", ".ndjson", ".txt", ".gz", ".zst", ".xlsx", ".db", ".html", ".md")

_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 32 << 20


def is_file_output(path: str | Path) -> bool:
    """Say whether an output path is one file (by its extension) rather than a folder of parts.

    Raises
    ------
    UsageError
        The extension is one of a file, but of a format that is not written.
    """
    suffix = Path(path).suffix.lower()
    if any("\udc80" <= c <= "\udcff" for c in str(path)):  # how Python writes bytes that are not UTF-8
        raise UsageError("the name of the output is not UTF-8, and Arrow writes no other files")
    if str(path) == "-":
        raise UsageError("scores are not written to standard output; name a file or a folder")
    if suffix in EXTENSIONS:
        return True
    if suffix in _OTHER_FILES:
        raise UsageError(f"{path}: cannot write {suffix} files; end the name in one of {', '.join(EXTENSIONS)}")
    return False


def check_types(path: str | Path, schema: pa.Schema, source: str | Path) -> None:
    """Raise where a file cannot hold columns of some types, which is told by writing a null of each.

    Parameters
    ----------
    path
        The output; a name of no format that is written stands for a folder of Parquet files.
    schema
        Columns of an input.
    source
        The input, for the message.

    Raises
    ------
    UsageError
        Names the column and what to do.
    """
    kind = EXTENSIONS.get(Path(path).suffix.lower(), "parquet")
    for field in schema:
        if _is_plain(field.type) or _holds(kind, field.type):
            continue
        others = [f for f in ("parquet", "ipc", "jsonl") if f != kind and _holds(f, field.type)]
        remedy = " or ".join(f".{'arrow' if f == 'ipc' else f}" for f in others)
        rest = ",".join(name for name in schema.names if name != field.name)
        raise UsageError(
            f"{source}: column {field.name!r} is {field.type}, which {_CALLED[kind]} cannot hold; "
            + (f"write a file that ends in {remedy}, or " if others else "")
            + (f"leave the column out with --keep {rest}" if rest else "leave the column out")
        )


_CALLED = {"parquet": "Parquet files", "ipc": "Arrow files", "jsonl": "JSON Lines"}


def _is_plain(dtype: pa.DataType) -> bool:
    """Tell whether every format holds a type; a glance, since there can be thousands of columns."""
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return any(is_kind(dtype) for is_kind in kinds)


def _holds(kind: str, dtype: pa.DataType) -> bool:
    schema = pa.schema([("column", dtype)])
    table = pa.Table.from_arrays([pa.nulls(1, dtype)], schema=schema)
    sink = pa.BufferOutputStream()
    try:
        if kind == "jsonl":
            json_texts(table.column(0).chunk(0))
        elif kind == "ipc":
            with pa.ipc.new_file(sink, schema) as writer:
                writer.write_table(table)
        else:
            import pyarrow.parquet as pq

            with pq.ParquetWriter(sink, schema) as writer:
                writer.write_table(table)
    except (pa.ArrowException, OSError):
        return False
    return True


def open_writer(path: str | Path, schema: pa.Schema, *, overwrite: bool = False) -> Writer:
    """Return a writer of one file; use it as a context manager.

    Parameters
    ----------
    path
        Ends in ``.parquet``, ``.arrow``, ``.feather``, ``.ipc`` or ``.jsonl``.
    schema
        Schema of every batch. Its metadata is written too (JSON Lines has no place for it).
    overwrite
        Replace a file that is there, once the new one is complete.

    Raises
    ------
    OutputError
        The file exists, or its folder cannot be written to. Writing raises it too, when the disk is full.
    UsageError
        The extension is not one of these.
    """
    path = Path(path)
    if not is_file_output(path):
        raise UsageError(f"{path}: end the name in one of {', '.join(EXTENSIONS)}")
    with writing(path):
        present = path.exists()
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file in it")
    if present and not overwrite:
        raise OutputError(f"{path} exists; pass --overwrite to replace it, or --resume to go on with an earlier run")
    kinds: dict[str, type[Writer]] = {"parquet": _ParquetWriter, "ipc": _IpcWriter, "jsonl": _JsonlWriter}
    # A link stays a link: what it points to is replaced.
    return kinds[EXTENSIONS[path.suffix.lower()]](Path(os.path.realpath(path)), schema, overwrite)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn errors of writing values into an OutputError, too: some formats lack values of a type that they have."""
    try:
        with writing(path):
            yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as exc:
        reason = str(exc).splitlines()[0]
        raise OutputError(
            f"cannot write {path}: {reason}; leave the column out with --keep, or write another format"
        ) from exc


class Writer(ABC):
    """Writes batches to one file; the file appears when the ``with`` block ends without an exception.

    Attributes
    ----------
    path
        The file.
    rows
        Rows written so far.
    size, sha256
        Bytes of the whole file and their checksum, hexadecimal, once it is sealed.
    """

    def __init__(self, path: Path, schema: pa.Schema, overwrite: bool = False) -> None:
        self.path = path
        self.schema = schema
        self._overwrite = overwrite
        self.rows = 0
        self._temporary: Path | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0

    def __enter__(self) -> Writer:
        return self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def begin(self) -> Writer:
        """Create the temporary file; end with `commit` or `discard`, or use the writer in a ``with`` block."""
        try:
            with _writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle, self._temporary = create(self.path)
                self._file = _Sink(handle)
                self._sink = pa.PythonFile(self._file, mode="w")
                self._begin()
        except BaseException:
            self.discard()
            raise
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the writer's schema.

        Raises
        ------
        OutputError
            The disk is full, or the file cannot be written for another reason.
        """
        self.rows += batch.num_rows
        if batch.num_rows:
            self._pending.append(batch)
            self._pending_rows += batch.num_rows
            self._pending_bytes += batch.nbytes
        # Groups of exactly so many rows, whatever the batches were, unless wide rows make that too much to hold.
        while self._pending_rows >= _GROUP_ROWS:
            self._flush(_GROUP_ROWS)
        if self._pending_bytes >= _GROUP_BYTES:
            self._flush(self._pending_rows)

    def _flush(self, rows: int) -> None:
        if not rows:
            return
        table = pa.Table.from_batches(self._pending, self.schema)
        rest = table.slice(rows)
        self._pending = rest.to_batches() if rest.num_rows else []
        self._pending_rows, self._pending_bytes = rest.num_rows, rest.nbytes
        with _writing(self.path):
            self._group(table.slice(0, rows))

    def commit(self) -> None:
        """Complete the file and move it to its place."""
        self.seal()
        self.place()

    def seal(self) -> None:
        """Complete the file, under its temporary name still; what it holds is on the disk then."""
        try:
            self._flush(self._pending_rows)
            with _writing(self.path):
                self._end()
                self._sink.close()
                self._file.close()
                assert self._temporary is not None
                sync(self._temporary)
            self.size, self.sha256 = self._file.size, self._file.sha256
        except BaseException:
            self.discard()
            raise

    def place(self) -> None:
        """Move the sealed file to its place."""
        try:
            assert self._temporary is not None
            with _writing(self.path):
                if self._overwrite:
                    self._temporary.replace(self.path)
                else:
                    self._claim(self._temporary)
                sync(self.path.parent)
        except BaseException:
            self.discard()
            raise

    def _claim(self, temporary: Path) -> None:
        """Move the file to its place unless something has been put there meanwhile."""
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            raise appeared(self.path) from None
        except OSError:  # a file system without hard links
            if os.path.lexists(self.path):
                raise appeared(self.path) from None
            temporary.replace(self.path)
        else:
            temporary.unlink()

    def discard(self) -> None:
        """Remove the temporary file; the place of the file is left as it was."""
        self._pending = []
        if self._temporary is None:
            return
        with contextlib.suppress(Exception):
            self._abandon()
        with contextlib.suppress(Exception):
            self._sink.close()
        with contextlib.suppress(Exception):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _group(self, table: pa.Table) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    @abstractmethod
    def _abandon(self) -> None:
        """Let go of the file without completing it."""


def appeared(path: Path) -> OutputError:
    """Return the error for a file that is in an output's place and was not there before."""
    return OutputError(
        f"{path} was put there by somebody else meanwhile; move it away, or pass --overwrite to replace it"
    )


class _Sink:
    """A file that Arrow writes to, and the checksum of what it wrote."""

    mode = "wb"

    def __init__(self, handle: int) -> None:
        self._file = os.fdopen(handle, "wb", buffering=1 << 16)
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Any) -> int:
        n = self._file.write(data)
        self._hash.update(data)
        self.size += n
        return n

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class _ParquetWriter(Writer):
    def _begin(self) -> None:
        import pyarrow.parquet as pq

        # Scores hardly repeat: a dictionary of them costs time and saves nothing.
        dictionary = [f.name for f in self.schema if not (pa.types.is_floating(f.type) or pa.types.is_nested(f.type))]
        self._parquet: Any = pq.ParquetWriter(
            self._sink,
            self.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=dictionary,
            write_page_checksum=True,
        )

    def _group(self, table: pa.Table) -> None:
        for i, field in enumerate(table.schema):
            # Parquet has no seconds; where milliseconds do not reach as far, old PyArrow writes other times.
            if pa.types.is_timestamp(field.type) and field.type.unit == "s":
                table.column(i).cast(pa.timestamp("ms", field.type.tz))
        self._parquet.write_table(table, row_group_size=table.num_rows)

    def _end(self) -> None:
        self._parquet.close()

    def _abandon(self) -> None:
        self._parquet.is_open = False  # else it writes a footer when it is collected


class _IpcWriter(Writer):
    def _begin(self) -> None:
        self._ipc: Any = pa.ipc.new_file(self._sink, self.schema)

    def _group(self, table: pa.Table) -> None:
        for batch in table.combine_chunks().to_batches():
            self._ipc.write_batch(batch)

    def _end(self) -> None:
        self._ipc.close()

    def _abandon(self) -> None:
        self._ipc = None


class _JsonlWriter(Writer):
    def _begin(self) -> None:
        """Lines need no header."""

    def _group(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=1 << 14):
            pieces: list[Any] = []
            for i, field in enumerate(self.schema):
                pieces.append(pa.scalar(("," if i else "{") + json.dumps(field.name, ensure_ascii=False) + ":"))
                pieces.append(json_texts(batch.column(i)))
            pieces.append(pa.scalar("}\n"))
            wide = [p.cast(pa.large_string()) for p in pieces]
            lines = pc.binary_join_element_wise(*wide, pa.scalar("", pa.large_string()))
            data = lines.buffers()[2]
            self._sink.write(data)

    def _end(self) -> None:
        """Lines need no end mark."""

    def _abandon(self) -> None:
        """Nothing is held back."""


def json_texts(column: pa.Array) -> pa.Array:
    """Return each value of a column as JSON text; nulls, NaN and infinities become ``null``.

    Parameters
    ----------
    column
        Array of any type, length ``n``.

    Returns
    -------
    pyarrow.Array
        ``(n,)`` string or large_string without nulls.
    """
    dtype = column.type
    if pa.types.is_dictionary(dtype) or pa.types.is_run_end_encoded(dtype) or pa.types.is_binary_view(dtype):
        return json_texts(plain(column))
    if isinstance(dtype, pa.BaseExtensionType):
        is_uuid = getattr(dtype, "extension_name", "") == "arrow.uuid"
        return json_texts(rare_types.uuids(column.storage) if is_uuid else column.storage)
    if pa.types.is_null(dtype):
        return pa.array(["null"] * len(column), pa.string())
    if pa.types.is_float16(dtype):
        return json_texts(column.cast(pa.float32()))
    if pa.types.is_floating(dtype):
        texts = pc.if_else(pc.is_finite(column), column.cast(pa.string()), pa.scalar("null"))
    elif pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_decimal(dtype):
        texts = column.cast(pa.string())
    elif pa.types.is_duration(dtype):
        texts = _quoted(rare_types.durations(column))
    elif pa.types.is_interval(dtype):
        texts = _quoted(rare_types.intervals(column))
    elif pa.types.is_temporal(dtype):
        texts = _quoted(rare_types.times(column))
    elif pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        texts = _quoted(_as_text(column.cast(pa.large_string())))
    elif pa.types.is_nested(dtype):
        texts = rare_types.nested(plain(column), json_texts)
    elif pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype):
        texts = _quoted(_as_text(column))
    else:
        texts = pa.array([json.dumps(v, default=str) for v in python_values(column)], pa.string())
    return pc.fill_null(texts, "null")


def _as_text(column: pa.Array) -> pa.Array:
    column = column.cast(pa.large_binary())  # a column of strings may hold what is not UTF-8, too
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = [None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
        return pa.array(texts, pa.large_string())


def _quoted(texts: pa.Array) -> pa.Array:
    given, replace = texts, pc.replace_substring
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        texts = replace(texts, char, escaped)
    steering = pc.fill_null(pc.match_substring_regex(texts, escape.HIDDEN), False)
    rare = given.filter(steering)
    if len(rare):
        texts = pc.replace_with_mask(
            texts, steering, pa.array([escape.json(t)[1:-1] for t in rare.to_pylist()], texts.type)
        )
    quote = pa.scalar('"', texts.type)
    return pc.binary_join_element_wise(quote, texts, quote, pa.scalar("", texts.type))
