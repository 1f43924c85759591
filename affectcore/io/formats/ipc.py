"""Arrow IPC: the file format (Feather V2) and the stream format, mapped into memory."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from affectcore.errors import InputError
from affectcore.io.formats.base import ARROW_ERRORS, Reader, Source, batch_bytes_of, damaged, plain_type
from affectcore.io.formats.damage import check_batch, check_end, check_schema
from affectcore.io.formats.pipe import PipeReader
from affectcore.io.formats.texts import is_chat, kept_names, pick_text, type_of

_MAGIC = b"ARROW1"
_FORGET = 64 << 20  # bytes scored before pages of the map are handed back


class IpcReader(Reader):
    """Reads an Arrow IPC file or stream.

    The file is mapped, so a record batch of any size costs no memory of its own; pages already scored are handed back
    to the system. A file whose footer is missing or damaged is read as the stream it holds, up to where that ends.
    """

    def __init__(
        self, source: Source, text: str | None, keep: Sequence[str] | None, batch_bytes: int, chats: bool = False
    ) -> None:
        super().__init__(source, batch_bytes, chats)
        self._map: Any = b""
        if source.pipe is not None:
            head = source.pipe.open().read(8)
            if head.startswith(_MAGIC):
                reason = "an Arrow IPC file cannot be read from a pipe, since its index stands at its end"
                raise InputError(source.path, reason, "write an IPC stream to the pipe, or a file and name that")
        else:
            if source.path.stat().st_size == 0:
                raise InputError(source.path, "empty file (0 bytes)", "write it again, or leave it out")
            with source.path.open("rb") as handle:
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            self._buffer = pa.py_buffer(self._map)
            head = self._map[:8]
        if head[:4] == b"FEA1":
            raise InputError(
                source.path, "Feather V1, a format of 2016", "write it again with pyarrow.feather.write_feather"
            )
        self._is_file = head.startswith(_MAGIC)
        self._has_footer = self._is_file and self._map[-6:] == _MAGIC and len(self._map) > 16
        with damaged(source, "not a readable Arrow IPC file"):
            try:
                schema = self._open().schema
            except ARROW_ERRORS:
                if not self._has_footer:
                    raise
                self._has_footer = False  # the footer is damaged: what it says stands at the beginning, too
                schema = self._open().schema
            check_schema(schema)
        self._text = pick_text(schema, text, source.path, chats)
        self.chat = chats and is_chat(type_of(schema, self._text))
        self.text_column = self._text.name
        names = kept_names(schema, self._text.column, None if keep is None else list(keep), source.path)
        self.schema = pa.schema([schema.field(n).with_type(plain_type(schema.field(n).type)) for n in names])
        self._read = list(dict.fromkeys([*names, self._text.column]))
        self._fields = sorted(schema.get_field_index(n) for n in self._read)

    def _open(self, fields: list[int] | None = None) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
        options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        if self.source.pipe is not None:
            if self._stream is None:
                self._piped = self.source.pipe.open()
                self._bytes = pa.PythonFile(self._piped, "r")
                self._stream = ipc.open_stream(self._bytes, options=options)
            return self._stream
        if self._has_footer:
            return ipc.open_file(self._buffer, options=options)
        self._bytes = pa.BufferReader(self._buffer[8:] if self._is_file else self._buffer)
        return ipc.open_stream(self._bytes, options=options)

    def _raw(self) -> Iterator[pa.RecordBatch]:
        # Choosing columns makes Arrow copy the whole batch out of the map, which pays only where the batches are
        # compressed and have to be unpacked anyway; or where columns that nobody needs are damaged.
        if self.source.pipe is not None:
            yield from self._opened(None, 0)
            return
        done = 0
        for fields in (None, self._fields):
            try:
                for batch in self._opened(fields, done):
                    if fields is None and done == 0 and not self._is_mapped(batch):
                        break
                    yield batch
                    done += 1
                else:
                    break
            except ARROW_ERRORS:
                if fields is not None:
                    raise
        if self._is_file and not self._has_footer:
            raise pa.ArrowInvalid("the footer is missing or damaged")

    def _opened(self, fields: list[int] | None, begin: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches from number `begin` on, with all columns or with some."""
        opened = self._open(fields)
        if self._has_footer:
            yield from (opened.get_batch(i) for i in range(begin, opened.num_record_batches))
            return
        yield from itertools.islice(opened, begin, None)
        if not self._is_file:
            check_end(self._bytes)

    def _batches(self, start: int) -> Iterator[tuple[int, pa.RecordBatch, Any]]:
        first = 0
        raw = self._raw()
        while True:
            with damaged(self.source, "cannot read the Arrow data", self):
                batch = next(raw, None)
                if batch is None:
                    return
                batch = batch.select(self._read)
                if first + len(batch) <= start:
                    batch.validate()
                    first += len(batch)
                    continue
                check_batch(batch)
            # One record batch may be the whole file: convert it a stretch at a time.
            step = self._step(batch)
            for begin in range(0, len(batch), step):
                part = batch.slice(begin, step)
                with damaged(self.source, "cannot read the Arrow data", self):
                    kept = self._kept(part)
                    texts = self._texts(part.column(self._text.column), self._text.fields)
                yield first + begin, kept, texts
                self._forget(batch_bytes_of(part))
            first += len(batch)

    def _is_mapped(self, batch: pa.RecordBatch) -> bool:
        begin, end = self._buffer.address, self._buffer.address + self._buffer.size
        buffers = [b for b in batch.column(self._text.column).buffers() if b is not None and b.size]
        return all(begin <= b.address < end for b in buffers)

    def _step(self, batch: pa.RecordBatch) -> int:
        each = max(batch_bytes_of(batch) // max(len(batch), 1), 1)
        return max(1, min(1 << 16, 4 * self.batch_bytes // each))

    _unreleased = 0
    _piped: PipeReader | None = None
    _stream: ipc.RecordBatchStreamReader | None = None  # of a pipe
    _bytes: pa.NativeFile  # what the stream is read from

    def _forget(self, n_bytes: int) -> None:
        self._unreleased += n_bytes
        if self._unreleased >= _FORGET and self._map and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # a page still in use is simply read again
            self._unreleased = 0

    def close(self) -> None:
        """Drop the map; it closes with the last array that points into it."""
        self._buffer = None
        if self._piped is not None:
            self._piped.close()
