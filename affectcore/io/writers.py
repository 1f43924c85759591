"""Write score batches to one file, whole or not at all.

The format goes by the extension. A file is written beside its final place under a temporary name and moved there once
it is complete and on the disk, so a reader never sees half a file and an older one stays until the new one is finished.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import OutputError, UsageError
from affectcore.io.formats.base import python_values
from affectcore.io.formats.damage import bare

__all__ = ["EXTENSIONS", "Writer", "is_file_output", "open_writer", "remove_leftovers", "writing"]

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
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def remove_leftovers(folder: Path, pattern: str = r".*") -> None:
    """Remove temporary files that a killed run left in a folder, of outputs whose names match `pattern`."""
    temporary = re.compile(rf"\.({pattern})\.\d+\.tmp")
    if folder.is_dir():
        for entry in list(folder.iterdir()):
            if temporary.fullmatch(entry.name):
                with writing(entry):
                    entry.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the system's errors about `path` into an OutputError that says what to do."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            reason = "the disk is full, or a size limit is reached; free some space, or write elsewhere"
        elif exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "no permission to write here; write to another folder"
        elif exc.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = "a part of this path is a file, not a folder; write to another folder"
        elif exc.errno == errno.ENOENT:
            reason = "this folder cannot be written to; write to another folder"
        else:
            reason = (exc.strerror or str(exc)).splitlines()[0]
        raise OutputError(f"cannot write {path}: {reason}") from exc


class Writer(ABC):
    """Writes batches to one file; the file appears when the ``with`` block ends without an exception.

    Attributes
    ----------
    path
        The file.
    rows
        Rows written so far.
    """

    def __init__(self, path: Path, schema: pa.Schema, overwrite: bool = False) -> None:
        self.path = path
        self.schema = schema
        self._overwrite = overwrite
        self.rows = 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = pa.OSFile(str(self._temporary), "wb")
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
        with writing(self.path):
            self._group(table.slice(0, rows))

    def commit(self) -> None:
        """Complete the file and move it to its place."""
        try:
            self._flush(self._pending_rows)
            with writing(self.path):
                self._end()
                self._sink.close()
                _sync(self._temporary)
                if self._overwrite:
                    self._temporary.replace(self.path)
                else:
                    self._claim()
                _sync(self.path.parent)
        except BaseException:
            self.discard()
            raise

    def _claim(self) -> None:
        """Move the file to its place unless another run has put one there meanwhile."""
        try:
            os.link(self._temporary, self.path)
        except FileExistsError:
            raise OutputError(
                f"{self.path} was written by another run meanwhile; pass --overwrite to replace it"
            ) from None
        except OSError:  # a file system without hard links
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink()

    def discard(self) -> None:
        """Remove the temporary file; the place of the file is left as it was."""
        self._pending = []
        with contextlib.suppress(Exception):
            self._abandon()
        with contextlib.suppress(Exception):
            self._sink.close()
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
    if pa.types.is_dictionary(dtype):
        return json_texts(column.dictionary_decode())
    if isinstance(dtype, pa.BaseExtensionType):
        return json_texts(column.storage)
    if pa.types.is_null(dtype):
        return pa.array(["null"] * len(column), pa.string())
    if pa.types.is_floating(dtype):
        texts = pc.if_else(pc.is_finite(column), column.cast(pa.string()), pa.scalar("null"))
    elif pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_decimal(dtype):
        texts = column.cast(pa.string())
    elif pa.types.is_temporal(dtype) and not pa.types.is_duration(dtype) and not pa.types.is_interval(dtype):
        texts = _quoted(column.cast(pa.string()))
    elif pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        texts = _quoted(_as_text(column.cast(pa.large_string())))
    elif pa.types.is_nested(dtype):
        # The one place where rows are visited one by one: JSON of arbitrary depth.
        values = bare(column).to_pylist()
        texts = pa.array([json.dumps(v, ensure_ascii=False, default=_readable) for v in values], pa.string())
    elif pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype):
        texts = _quoted(_as_text(column))
    else:
        texts = pa.array([json.dumps(v, default=str) for v in python_values(column)], pa.string())
    return pc.fill_null(texts, "null")


def _readable(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _as_text(column: pa.Array) -> pa.Array:
    column = column.cast(pa.large_binary())  # a column of strings may hold what is not UTF-8, too
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts = [None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
        return pa.array(texts, pa.large_string())


_CONTROL = r"[\x00-\x1f]"


def _quoted(texts: pa.Array) -> pa.Array:
    replace: Callable[..., Any] = pc.replace_substring
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        texts = replace(texts, char, escaped)
    if pc.any(pc.match_substring_regex(texts, _CONTROL)).as_py():
        for code in range(32):
            texts = replace(texts, chr(code), f"\\u{code:04x}")
    quote = pa.scalar('"', texts.type)
    return pc.binary_join_element_wise(quote, texts, quote, pa.scalar("", texts.type))


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # not every system opens folders
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
