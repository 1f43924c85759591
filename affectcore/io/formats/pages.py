"""Parquet's pages, counted before they are read.

A page's header says how many values it has, and no checksum covers it. With a wrong number pyarrow takes values of one
row for those of another, and finds out, if at all, at the end of the row group: too late for the rows delivered before.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import pyarrow as pa

__all__ = ["check_pages"]

_HEADER = 1 << 10  # bytes that a header takes, unless its statistics hold long values
_VALUES_OF = {5: 0, 8: 3}  # fields of PageHeader that hold numbers of values, and the types of page they are of
_I32, _BINARY, _LIST, _SET, _STRUCT = 5, 8, 9, 10, 12  # kinds of values


def check_pages(file: BinaryIO, group: Any, leaves: dict[int, str], flat: set[int]) -> None:
    """Raise `pyarrow.ArrowInvalid` where a row group's pages have not as many values as its footer says.

    Parameters
    ----------
    file
        The file, of which page headers alone are read.
    group
        `pyarrow.parquet.RowGroupMetaData`.
    leaves
        Numbers of the columns that will be read, and their names.
    flat
        Those that are not repeated: they have a value for each row.
    """
    for leaf, name in leaves.items():
        chunk = group.column(leaf)
        wanted = group.num_rows if leaf in flat else chunk.num_values
        if chunk.num_values < wanted:
            raise pa.ArrowInvalid(f"column {name!r} has {chunk.num_values:,} values for {wanted:,} rows")
        at = chunk.data_page_offset
        if chunk.has_dictionary_page and chunk.dictionary_page_offset:
            at = min(at, chunk.dictionary_page_offset)
        end = at + chunk.total_compressed_size
        found = 0
        while at < end:
            n_values, n_bytes = _page(file, at, end)
            found += n_values
            at += n_bytes
        if found != wanted:
            raise pa.ArrowInvalid(f"column {name!r} has {found:,} values in its pages, not {wanted:,}")


def _page(file: BinaryIO, at: int, end: int) -> tuple[int, int]:
    """Return the values and the bytes of a page, those of its header included; no values for a dictionary."""
    size = min(_HEADER, end - at)
    while True:
        file.seek(at)
        data = file.read(size)
        try:
            values, n_bytes, width = _header(data)
        except IndexError:
            if size >= end - at or len(data) < size:
                raise pa.ArrowInvalid("a page's header ends early") from None
            size = min(size * 16, end - at)
            continue
        if n_bytes < 0 or values < 0:
            raise pa.ArrowInvalid("a page's header has a negative size")
        return values, width + n_bytes


def _header(data: bytes) -> tuple[int, int, int]:
    """Return values and bytes of a page and the width of its header, in Thrift's compact protocol."""
    compressed = values = number = at = 0
    page = -1  # its type; pyarrow passes over pages of unknown types
    while data[at]:
        number, kind, at = _field(data, at, number)
        if number == 1 and kind == _I32:
            page, at = _varint(data, at)
        elif number == 3 and kind == _I32:
            compressed, at = _varint(data, at)
        elif _VALUES_OF.get(number) == page and kind == _STRUCT:
            inner = 0
            while data[at]:
                inner, kind, at = _field(data, at, inner)
                if inner == 1 and kind == _I32:
                    values, at = _varint(data, at)
                else:
                    at = _skip(data, at, kind)
            at += 1
        else:
            at = _skip(data, at, kind)
    return values, compressed, at + 1


def _field(data: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Return the number and the kind of a field and where its value begins."""
    kind, step = data[at] & 15, data[at] >> 4
    if step:
        return before + step, kind, at + 1
    number, at = _varint(data, at + 1)
    return number, kind, at


def _varint(data: bytes, at: int, signed: bool = True) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1) if signed else value, at
        shift += 7
        if shift > 63:
            raise pa.ArrowInvalid("a page's header holds a number that is too long")


def _skip(data: bytes, at: int, kind: int, depth: int = 0) -> int:
    if depth > 16:
        raise pa.ArrowInvalid("a page's header is too deep")
    if kind in (1, 2):  # true and false are kinds
        return at
    if kind == 3:
        return at + 1
    if kind in (4, _I32, 6):
        return _varint(data, at)[1]
    if kind == 7:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(data, at, signed=False)
        return at + size
    if kind in (_LIST, _SET):
        size, of = data[at] >> 4, data[at] & 15
        size, at = _varint(data, at + 1, signed=False) if size == 15 else (size, at + 1)
        for _ in range(size):
            at = at + 1 if of in (1, 2) else _skip(data, at, of, depth + 1)
            data[at]
        return at
    if kind == _STRUCT:
        number = 0
        while data[at]:
            number, inner, at = _field(data, at, number)
            at = _skip(data, at, inner, depth + 1)
        return at + 1
    raise pa.ArrowInvalid("a page's header holds an unknown kind of value")
