"""Parquet: batches within runs of row groups, read through a small buffer so that a huge row group stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from affectcore.errors import InputError
from affectcore.io.formats.base import MAX_ROWS, Reader, Source, damaged, plain_type
from affectcore.io.formats.damage import check_batch, check_schema
from affectcore.io.formats.pages import check_pages
from affectcore.io.formats.texts import is_chat, kept_names, pick_text, type_of

_BUFFER = 1 << 20  # bytes read ahead per column; without it a whole column chunk is loaded at once
_RUN = 64 << 20  # bytes of row groups read through one iterator: small row groups still fill whole batches


class ParquetReader(Reader):
    """Reads a Parquet file; only the columns that are needed are decoded."""

    def __init__(
        self, source: Source, text: str | None, keep: Sequence[str] | None, batch_bytes: int, chats: bool = False
    ) -> None:
        super().__init__(source, batch_bytes, chats)
        if source.path.stat().st_size == 0:
            raise InputError(source.path, "empty file (0 bytes)", "write it again, or leave it out")
        with damaged(source, "not a readable Parquet file"):
            try:
                self._file = pq.ParquetFile(
                    source.path, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True
                )
                paths = [self._file.schema.column(i).path for i in range(len(self._file.schema))]
            except UnicodeDecodeError as exc:
                raise pa.ArrowInvalid("the name of a column is not UTF-8") from exc
            schema = self._file.schema_arrow
            check_schema(schema)
        self._text = pick_text(schema, text, source.path, chats)
        self.chat = chats and is_chat(type_of(schema, self._text))
        self.text_column = self._text.name
        names = kept_names(schema, self._text.column, None if keep is None else list(keep), source.path)
        self.schema = pa.schema([schema.field(n).with_type(plain_type(schema.field(n).type)) for n in names])
        # A dotted path reads its own leaf only, unless the whole struct is kept.
        text_leaf = self._text.column if self._text.column in names else self._text.name
        self._columns = list(dict.fromkeys([*names, text_leaf]))
        wanted = {*self._columns}
        self._needed = {i: path for i, path in enumerate(paths) if not wanted.isdisjoint(_prefixes(path))}
        self._flat = {i for i in self._needed if self._file.schema.column(i).max_repetition_level == 0}
        leaves = _leaves(schema)
        self._leaves = leaves[self._text.column], [i for n in names for i in leaves[n]]

    def _batches(self, start: int) -> Iterator[tuple[int, pa.RecordBatch, Any]]:
        first = 0
        for groups, rows, size in self._runs():
            if first + rows <= start:  # finished earlier: not read at all
                first += rows
                continue
            self.row = max(first, start)
            begin, end = first, first + rows
            try:
                for kept, texts in self._read(groups, size):
                    self._boundary = first + len(texts) == end
                    yield first, kept, texts
                    first += len(texts)
            except InputError:
                if len(groups) == 1:
                    raise
                # A batch may reach over several groups: those before the damaged one are whole.
                self._boundary = False
                for group in groups:
                    for kept, texts in self._read([group], size):
                        if begin + len(texts) > first:
                            left = first - begin
                            yield first, kept.slice(left), texts.slice(left)
                            first = begin + len(texts)
                        begin += len(texts)
            if first != end:
                raise InputError(self.source.path, "fewer rows than its footer says", "write the file again", first)

    def _read(self, groups: list[int], size: int) -> Iterator[tuple[pa.RecordBatch, Any]]:
        """Yield the kept columns and the texts of row groups, in batches of `size` rows."""
        with damaged(self.source, "cannot read the Parquet data", self), self.source.path.open("rb") as file:
            for group in groups:
                check_pages(file, self._file.metadata.row_group(group), self._needed, self._flat)
        batches = self._file.iter_batches(size, row_groups=groups, columns=self._columns, use_threads=False)
        while True:
            with damaged(self.source, "cannot read the Parquet data", self):
                batch = next(batches, None)
                if batch is None:
                    return
                check_batch(batch)
                kept = self._kept(batch)
                texts = self._texts(batch.column(self._text.column), self._text.fields)
            yield kept, texts

    def _runs(self) -> Iterator[tuple[list[int], int, int]]:
        """Yield ``(row groups, rows, rows per batch)`` for runs of row groups with texts of similar length."""
        groups: list[int] = []
        rows = size = total = 0
        metadata = self._file.metadata
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            here = self._batch_rows(group)
            if groups and (total >= _RUN or not size / 2 <= here <= size * 2):
                yield groups, rows, size
                groups, rows, total = [], 0, 0
            size = min(size, here) if groups else here
            groups.append(g)
            rows += group.num_rows
            total += group.total_byte_size
        if groups:
            yield groups, rows, size

    def _batch_rows(self, group: Any) -> int:
        text = [group.column(i) for i in self._leaves[0]]
        kept = [group.column(i) for i in self._leaves[1]]
        n = max(group.num_rows, 1)
        text_each = sum(c.total_uncompressed_size for c in text) / n
        kept_each = sum(c.total_uncompressed_size for c in kept) / n
        # A dictionary hides how long its repeated texts are, so such columns get smaller batches.
        most = MAX_ROWS // 4 if any(c.has_dictionary_page for c in text) else MAX_ROWS
        rows = min(self.batch_bytes / max(text_each, 1), 4 * self.batch_bytes / max(text_each + kept_each, 1))
        return max(1, min(most, int(rows)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _prefixes(path: str) -> list[str]:
    """Return the dotted paths that lead to a leaf, itself included."""
    return [path, *(path[:i] for i, c in enumerate(path) if c == ".")]


def _leaves(schema: pa.Schema) -> dict[str, range]:
    """Return the indices of each top-level column's Parquet leaf columns."""
    leaves: dict[str, range] = {}
    first = 0
    for field in schema:
        width = _width(field.type)
        leaves.setdefault(field.name, range(first, first + width))
        first += width
    return leaves


def _width(dtype: pa.DataType) -> int:
    if isinstance(dtype, pa.BaseExtensionType):
        return _width(dtype.storage_type)
    if pa.types.is_nested(dtype):
        return sum(_width(dtype.field(i).type) for i in range(dtype.num_fields))
    return 1
