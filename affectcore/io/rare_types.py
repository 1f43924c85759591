"""Texts of values that few columns hold: lists, structs, unions, durations, intervals, odd times, UUIDs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore import escape

_WIDE = pa.large_string()
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def nested(column: pa.Array, texts_of: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return lists, maps (as lists of pairs), structs and unions as JSON texts, null where they are.

    Parameters
    ----------
    column
        Array of ``n`` such values.
    texts_of
        Makes JSON texts of an array of what is in them, without nulls.

    Returns
    -------
    pyarrow.Array
        ``(n,)`` large_string.
    """
    dtype = column.type
    if not len(column):
        return pa.array([], _WIDE)
    if pa.types.is_union(dtype):
        return _of_union(column, texts_of)
    if pa.types.is_struct(dtype):
        names = [escape.json(dtype.field(i).name) for i in range(dtype.num_fields)]
        pieces: list[Any] = [pa.repeat(pa.scalar("{", _WIDE), len(column))]
        for i, name in enumerate(names):
            pieces += [f"{', ' if i else ''}{name}: ", texts_of(column.field(i)).cast(_WIDE)]
        made = _together(*pieces, "}")
    else:
        if pa.types.is_map(dtype):
            entries = pa.StructArray.from_arrays([column.keys, column.items], ["key", "value"])
            buffers = column.buffers()[:2]
            lists = pa.list_(entries.type)
            column = pa.Array.from_buffers(lists, len(column), buffers, offset=column.offset, children=[entries])
            pairs = column.flatten()
            key, value = (texts_of(pairs.field(i)).cast(_WIDE) for i in range(2))
            inner = _together("[", key, ", ", value, "]")
        else:
            inner = texts_of(column.flatten()).cast(_WIDE)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        joined = pc.binary_join(pa.LargeListArray.from_arrays(bounds, inner), pa.scalar(", ", _WIDE))
        made = _together("[", joined, "]")
    return pc.if_else(column.is_null(), pa.scalar(None, _WIDE), made) if column.null_count else made


def _together(*pieces: Any) -> pa.Array:
    scalars = [pa.scalar(piece, _WIDE) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar("", _WIDE))


def _of_union(column: pa.Array, texts_of: Callable[[pa.Array], pa.Array]) -> pa.Array:
    dtype = column.type
    texts = [texts_of(column.field(i)).cast(_WIDE) for i in range(dtype.num_fields)]
    number = np.zeros(128, np.int64)
    number[dtype.type_codes] = np.arange(dtype.num_fields)
    # PyArrow's properties for these forget where a slice begins.
    n, begin = len(column), column.offset
    child = number[np.frombuffer(column.buffers()[1], np.int8, n, begin)]
    at = np.frombuffer(column.buffers()[2], np.int32, n, 4 * begin) if dtype.mode == "dense" else np.arange(n)
    begins = np.cumsum([0, *map(len, texts)])
    return pa.chunked_array(texts, _WIDE).combine_chunks().take(pa.array(begins[child] + at))


def durations(column: pa.Array) -> pa.Array:
    """Return durations as strings of ISO 8601, in seconds: ``PT90.5S``."""
    digits = _DIGITS[column.type.unit]
    values = column.view(pa.int64()).to_pylist()  # Python's durations have no nanoseconds, and an end
    return pa.array([None if v is None else f"PT{_seconds(v, digits)}S" for v in values], pa.string())


def intervals(column: pa.Array) -> pa.Array:
    """Return calendar intervals as strings of ISO 8601: ``P1M2DT3.5S``."""
    values = [None if v is None else f"P{v[0]}M{v[1]}DT{_seconds(v[2], 9)}S" for v in column.to_pylist()]
    return pa.array(values, pa.string())


def _seconds(value: int, digits: int) -> str:
    whole, part = divmod(abs(value), 10**digits)
    return f"{'-' if value < 0 else ''}{whole}" + (f".{part:0{digits}d}".rstrip("0") if part else "")


def times(column: pa.Array) -> pa.Array:
    """Return dates, times and timestamps as strings; those of a time zone that nobody knows in UTC."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.string())


def uuids(column: pa.Array) -> pa.Array:
    """Return 16 bytes each as the strings that UUIDs are written as."""
    return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in column.to_pylist()], pa.string())
