"""CSV and TSV, quoted fields with line ends in them included: blocks of whole rows, parsed by pyarrow.

The first block fixes the types: whole numbers and decimals become int64 and float64 unless that would change them
(leading zeros, more digits than a float holds); everything else, dates and true/false too, stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from affectcore.errors import InputError
from affectcore.io.formats.base import Reader, Source, checked_texts, damaged, valid_strings
from affectcore.io.formats.bytestream import open_bytes
from affectcore.io.formats.texts import kept_names, pick_text

_BOM = b"\xef\xbb\xbf"
_MAX_ROW = 1 << 30
_STRETCH = 1 << 18  # bytes that are searched for the ends of rows at once
_FIX_ROW = "the row is left out; correct or remove it"
_UNCLOSED = "a quotation mark that is never closed, so that the rest of the file is one row"


class DelimitedReader(Reader):
    """Reads CSV or TSV with a header line, plain or compressed; rows with too few or too many fields are dropped."""

    def __init__(
        self, source: Source, text: str | None, keep: Sequence[str] | None, batch_bytes: int, chats: bool = False
    ) -> None:
        super().__init__(source, batch_bytes, chats)
        self._delimiter = "\t" if source.format == "tsv" else ","
        self._names: list[str] | None = None  # None: the next block begins with the header
        self._rows = 0  # rows of the file before the next block, dropped ones included
        with damaged(source, "cannot read the file"):
            self._stream = open_bytes(source)
        self._unclosed = False  # whether the file ends within quotation marks
        self._blocks_left = self._blocks()
        first = next(self._blocks_left, b"")
        if self._unclosed:
            raise InputError(source.path, "the header line has " + _UNCLOSED, "close it")
        if not first.strip():
            raise InputError(source.path, "empty file (no header line)", "write it again, or leave it out")
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(source.path, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
        try:
            with damaged(source, "not a readable CSV file"):
                inferred = self._parse(first, None, None).schema
                raw = self._parse(first, dict.fromkeys(inferred.names, pa.binary()), None)
        except UnicodeDecodeError:
            raise InputError(
                source.path, "the header line is not UTF-8", "convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW"
            ) from None
        self._text = pick_text(pa.schema([(n, pa.string()) for n in inferred.names]), text, source.path)
        self.text_column = self._text.name
        names = kept_names(inferred, self._text.column, None if keep is None else list(keep), source.path)
        types = {n: _safe_type(inferred.field(n).type, raw, n) for n in names}
        if self._text.column in types:
            types[self._text.column] = pa.string()
        self.schema = pa.schema([(n, types[n]) for n in names])
        # Strings are read as bytes: pyarrow gives up the block at the first byte that is not UTF-8.
        self._types = {n: pa.binary() if t == pa.string() else t for n, t in types.items()}
        self._types[self._text.column] = pa.binary()
        self._all_names = inferred.names
        self._first_block: bytes | None = first

    def _blocks(self) -> Iterator[bytes]:
        """Yield blocks of whole rows."""
        held: list[bytes] = []
        n_held = 0
        rows = RowEnds(self._delimiter.encode())
        while True:
            with damaged(self.source, "cannot read the file", self):
                chunk = self._stream.read(self.block_bytes)
            if not chunk:
                break
            end = rows.feed(chunk)
            if end:
                held.append(chunk[:end])
                block, held = b"".join(held), [chunk[end:]]
                n_held = len(chunk) - end
                del chunk
                yield block
                del block  # a row can be large: it is not held while the next is read
                continue
            held.append(chunk)
            n_held += len(chunk)
            if n_held > _MAX_ROW:
                reason = "a row longer than 1 GiB; a quotation mark may be missing"
                raise InputError(self.source.path, reason, "correct the row", self._rows)
        # What is left has no line end outside of quotation marks: with one more, it is the last row, or none.
        self._unclosed = bool(n_held) and not rows.feed(b"\n")
        if n_held and not self._unclosed:
            yield b"".join(held)

    def _parse(self, data: bytes, types: dict[str, pa.DataType] | None, record_at: int | None) -> pa.Table:
        """Parse a block, all columns or those with types; with `record_at`, note the rows dropped."""
        dropped: list[tuple[int, str]] = []

        def invalid(row: Any) -> str:
            reason = f"{row.actual_columns} fields where the header has {row.expected_columns}"
            dropped.append((int(row.number), reason))
            return "skip"

        def read(data: bytes, handler: Any = invalid) -> pa.Table:
            return pcsv.read_csv(
                pa.BufferReader(data),
                read_options=pcsv.ReadOptions(block_size=len(data) + 1, use_threads=False, column_names=self._names),
                parse_options=pcsv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=handler
                ),
                convert_options=pcsv.ConvertOptions(
                    column_types=types, include_columns=list(types or ()), strings_can_be_null=False
                ),
            )

        # The handler is given rows as str: one that is not UTF-8 fails before it is asked.
        if _is_utf8(data):
            table = read(data)
        else:
            try:
                table = read(data, None)
            except pa.ArrowInvalid:
                table = _from_latin(read(data.removeprefix(_BOM).decode("latin-1").encode()))
        if record_at is not None:
            before = self._rows - self._header_rows()
            for number, reason in dropped:
                self._record(record_at, before + number - 1, reason, _FIX_ROW)
            self._rows += table.num_rows + len(dropped)
        return table

    def _header_rows(self) -> int:
        return 1 if self._names is None else 0

    def _batches(self, start: int) -> Iterator[tuple[int, pa.RecordBatch, pa.Array]]:
        if self._first_block is None:
            raise ValueError("a reader can be read once; open the file again")
        first, block = 0, self._first_block
        self._first_block = None
        while block:
            try:
                with damaged(self.source, "cannot read the CSV data", self):
                    table = self._parse(block, self._types, first)
            except InputError as exc:
                raise self._explain(exc) from exc
            del block  # a row can be large
            self._names = self._all_names
            if table.num_rows:
                batch = table.combine_chunks().to_batches()[0]
                yield (first, *self._split(batch))
                first += len(batch)
            block = next(self._blocks_left, b"")
        if self._unclosed:
            self._record(first, self._rows, _UNCLOSED, _FIX_ROW)

    def _split(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
        kept = [
            valid_strings(batch.column(f.name)) if pa.types.is_string(f.type) else batch.column(f.name)
            for f in self.schema
        ]
        texts = checked_texts(batch.column(self._text.column).view(pa.string()))
        return pa.RecordBatch.from_arrays(kept, schema=self.schema), texts

    def _explain(self, exc: InputError) -> InputError:
        """Name the column of a value that does not convert, and the way around it."""
        found = re.search(r"CSV column #(\d+): (?:Row #(\d+): )?(.*)", exc.reason)
        if not found:
            return exc
        index = int(found[1])
        name = self._all_names[index] if index < len(self._all_names) else found[1]
        others = ",".join(n for n in self.schema.names if n != name)
        remedy = "leave the column out" + (f" with --keep {others}" if others else "") + ", or make it one type"
        row = self._rows - self._header_rows() + int(found[2]) - 1 if found[2] else exc.row
        return InputError(self.source.path, f"column {name!r}: {found[3]}", remedy, row)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _is_utf8(data: bytes) -> bool:
    bounds = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, bounds, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _from_latin(table: pa.Table) -> pa.Table:
    """Return a table that was parsed as Latin-1, in which every byte is a character, with the bytes that there were."""
    for i, field in enumerate(table.schema):
        if pa.types.is_binary(field.type):
            values = [v if v is None else v.decode().encode("latin-1") for v in table.column(i).to_pylist()]
            table = table.set_column(i, field, pa.array(values, field.type))
    return table


class RowEnds:
    """Finds where rows end in the chunks of a file, one after the other, in memory for a stretch of one.

    A quotation mark opens a field only at its beginning; inside, two stand for one. Seen in runs: an even run changes
    nothing; an odd run at the beginning of a field, or after a delimiter inside a quoted text, flips between inside and
    outside; any other odd run ends up outside. So the state after a run is the parity of the flips since the last run
    of the other kind, which needs no loop over the bytes.

    Parameters
    ----------
    delimiter
        One byte.
    """

    def __init__(self, delimiter: bytes) -> None:
        self._begins = np.isin(np.arange(256), [0x0A, 0x0D, delimiter[0]])  # bytes before the beginning of a field
        self._inside = False  # without the run below
        self._run = 0  # quotation marks that the chunks so far end with: the run may go on
        self._at_begin = True  # whether a run that begins now, or that one, stands at the beginning of a field
        self._head = b""  # the first bytes of the file
        self._done = 0  # bytes before the stretch

    def feed(self, chunk: bytes) -> int:
        """Return where the last whole row ends in the next chunk, 0 where none does."""
        if len(self._head) < len(_BOM):
            self._head += chunk[: len(_BOM) - len(self._head)]
        end = 0
        for begin in range(0, len(chunk), _STRETCH):
            found = self._stretch(np.frombuffer(chunk, np.uint8, min(_STRETCH, len(chunk) - begin), begin))
            end = begin + found if found else end
        return end

    def _stretch(self, raw: np.ndarray) -> int:
        first = self._done
        self._done += len(raw)
        quotes = np.flatnonzero(raw == 0x22)
        lead = int(np.count_nonzero(quotes == np.arange(len(quotes))))
        self._run += lead
        if lead == len(raw):
            return 0
        if self._run % 2:
            self._inside = not self._inside and self._at_begin
        starts = np.flatnonzero(np.diff(quotes, prepend=-2) > 1)
        at, lengths = quotes[starts], np.diff(starts, append=len(quotes))
        at, lengths = at[lead > 0 :], lengths[lead > 0 :]
        self._run = 0
        flips = self._begins[raw[at - 1]]
        if self._head == _BOM:
            flips |= first + at == len(_BOM)
        self._at_begin = bool(self._begins[raw[-1]]) or (self._head == _BOM and self._done == len(_BOM))
        if len(at) and at[-1] + lengths[-1] == len(raw):
            self._run, self._at_begin = int(lengths[-1]), bool(flips[-1])
            at, lengths, flips = at[:-1], lengths[:-1], flips[:-1]
        odd = lengths % 2 == 1
        ends, flips = (at + lengths)[odd], flips[odd]
        count = np.cumsum(flips) + self._inside
        settled = np.maximum.accumulate(np.where(flips, 0, count))  # flips up to the last run that ended outside
        inside = np.concatenate([[self._inside], (count - settled) % 2 == 1])  # after so many odd runs
        self._inside = bool(inside[-1])
        newlines = np.flatnonzero(raw == 0x0A)
        # Usually the last line end will do; otherwise look at all of them at once.
        for some in (newlines[-1:], newlines):
            outside = some[~inside[np.searchsorted(ends, some, side="right")]]
            if len(outside):
                return int(outside[-1]) + 1
        return 0


def _safe_type(dtype: pa.DataType, raw: pa.Table, name: str) -> pa.DataType:
    if not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype)):
        return pa.string()
    pattern = r"^[+-]?0[0-9]|^\+" if pa.types.is_integer(dtype) else r"^[+-]?0[0-9]|^\+|^-?[0-9]{16,}$"
    changed = pc.any(pc.match_substring_regex(raw.column(name), pattern)).as_py()
    return pa.string() if changed else dtype
