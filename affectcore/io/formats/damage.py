"""Damaged Arrow data: found before anything reads it, since C++ believes every offset and index that it is given.

`Array.validate` looks at sizes and at the first and last offset; all the others it takes on trust. Its full form reads
them all, but reads the texts, too, and refuses those that are not UTF-8, which here are allowed and counted. So the
full form is asked about the same buffers with texts as bytes: one look at each offset, index, run end and bit of a
bitmap, and none at the texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["bare", "check", "check_batch", "check_end", "check_schema"]

_DIGITS = 76  # of the widest decimal


def check(column: pa.Array) -> None:
    """Raise `pyarrow.ArrowInvalid` where an array reaches beyond its buffers or contradicts itself.

    Parameters
    ----------
    column
        Array of any type. Of a slice only its own rows are looked at, those of its dictionary apart.
    """
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    try:
        if pa.types.is_nested(column.type):
            column.validate()
        _check(column)
    except pa.ArrowIndexError as exc:  # of views, which name a buffer that is not there
        raise pa.ArrowInvalid(str(exc)) from None


def _check(column: pa.Array) -> None:
    """Check an array whose buffers are long enough."""
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    dtype = column.type
    # Arrow would look at all that lies below lists and structs, once more for each slice of them.
    if pa.types.is_struct(dtype):
        _own(column, pa.struct([]), 1, [])
        for i in range(dtype.num_fields):
            _check(column.field(i))
    elif pa.types.is_list(dtype) or pa.types.is_map(dtype) or pa.types.is_large_list(dtype):
        made = pa.large_list if pa.types.is_large_list(dtype) else pa.list_
        _own(column, made(pa.null()), 2, [pa.nulls(len(column.values))])
        if len(column):
            begin, end = (column.offsets[i].as_py() for i in (0, len(column)))
            _check(column.values.slice(begin, end - begin))
    else:
        bare(column).validate(full=True)


def bare(column: pa.Array) -> pa.Array:
    """Return an array with bytes for texts."""
    raw = _without_texts(column.type)
    return column if raw == column.type else column.view(raw)


def _own(column: pa.Array, dtype: pa.DataType, n_buffers: int, children: list[pa.Array]) -> None:
    """Check an array without what lies below it."""
    own = column.buffers()[:n_buffers]
    alone = pa.Array.from_buffers(dtype, len(column), own, column.null_count, column.offset, children)
    alone.validate(full=True)


def check_batch(batch: pa.RecordBatch) -> None:
    """Raise `pyarrow.ArrowInvalid` where a batch is not sound; the message names the column.

    Parameters
    ----------
    batch
        Nothing but the columns that will be read: others may be damaged, and do no harm.
    """
    columns = batch.columns
    batch.validate()
    if not any(pa.types.is_nested(column.type) for column in columns):
        # All at once: each call lets go of the interpreter's lock, and may wait for it.
        try:
            pa.RecordBatch.from_arrays([*map(bare, columns)], batch.schema.names).validate(full=True)
        except pa.ArrowException:
            pass  # which column it is, is found below
        else:
            return
    for name, column in zip(batch.schema.names, columns):
        try:
            check(column)
        except pa.ArrowInvalid as exc:
            raise pa.ArrowInvalid(f"column {name!r}: {exc}") from None


def check_end(stream: pa.NativeFile) -> None:
    """Raise `pyarrow.ArrowInvalid` where something follows behind the end of an IPC stream that has been read.

    A length that damage makes zero reads as the end. Padding with zeros is no matter.
    """
    while (rest := stream.read_buffer(1 << 20)).size:
        if np.frombuffer(rest, np.uint8).any():
            raise pa.ArrowInvalid("the stream ends, but more bytes follow")


def check_schema(schema: pa.Schema) -> None:
    """Raise `pyarrow.ArrowInvalid` where a name in a schema is not UTF-8, or a decimal has too many digits."""
    try:
        for _ in _names(schema):
            pass
    except UnicodeDecodeError:
        raise pa.ArrowInvalid("the name of a column is not UTF-8") from None
    for field in schema:
        if pa.types.is_decimal(field.type) and abs(field.type.scale) > _DIGITS:
            raise pa.ArrowInvalid(f"column {field.name!r} is {field.type}")


def _names(fields: Any) -> Iterator[str]:
    for field in fields:
        yield field.name
        dtype = field.type
        while isinstance(dtype, pa.BaseExtensionType):
            dtype = dtype.storage_type
        if pa.types.is_timestamp(dtype) and dtype.tz is not None:
            yield dtype.tz
        yield from _names(dtype.field(i) for i in range(dtype.num_fields))


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


@lru_cache(maxsize=256)
def _without_texts(dtype: pa.DataType) -> pa.DataType:
    """Return a type of the same buffers with bytes for texts."""
    types = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        return _without_texts(dtype.storage_type)
    if types.is_dictionary(dtype):
        return pa.dictionary(dtype.index_type, _without_texts(dtype.value_type), dtype.ordered)
    if types.is_run_end_encoded(dtype):
        return pa.run_end_encoded(dtype.run_end_type, _without_texts(dtype.value_type))
    if types.is_map(dtype):
        return pa.map_(_field(dtype.key_field), _field(dtype.item_field), dtype.keys_sorted)
    if types.is_struct(dtype):
        return pa.struct([_field(dtype.field(i)) for i in range(dtype.num_fields)])
    if types.is_union(dtype):
        return pa.union([_field(dtype.field(i)) for i in range(dtype.num_fields)], dtype.mode, dtype.type_codes)
    if types.is_fixed_size_list(dtype):
        return pa.list_(_field(dtype.value_field), dtype.list_size)
    for is_kind, made in _LISTS:
        if is_kind(dtype):
            return made(_field(dtype.value_field))
    return _BYTES.get(dtype, dtype)


_LISTS: tuple[tuple[Any, Any], ...] = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


def _field(field: pa.Field) -> pa.Field:
    return field.with_type(_without_texts(field.type))
