"""Reads and writes the safetensors format with NumPy alone, so that the embedded model needs no further package.

The format: eight bytes with the length of a JSON header (little-endian), the header, and the arrays end to end.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from affectcore.errors import InputError
from affectcore.models.schema import Each, Map, Record, Text, Whole, check, parse, shown

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_NAMES = {np.dtype(v): k for k, v in _TYPES.items()}
_LONGEST = 100_000_000  # bytes of a header, as in the safetensors package


_ENTRY = Record({"dtype": Text(), "shape": Each(Whole(0, 1 << 48)), "data_offsets": Each(Whole(0, 1 << 48), 2, 2)})
_HEADER = Map(_ENTRY)
_CUT = "it is cut: copy or install it again"
_AGAIN = "copy it again"


class _Entry(NamedTuple):
    bounds: tuple[int, ...]
    name: str
    dtype: str
    shape: tuple[int, ...]


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays (read-only views of a memory map; bfloat16 as float32) and the metadata of a file.

    Raises
    ------
    InputError
        If the file is cut, is no safetensors file, or holds a type that NumPy lacks (8-bit floats); or if its header is
        not what the format allows: arrays that overlap or leave gaps, shapes that are not their bytes.
    """
    try:
        size = path.stat().st_size
        if size < 8:
            raise InputError(path, f"{size} bytes are no safetensors file", "copy or install it again")
        data = np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise InputError(path, f"it cannot be read: {error.strerror or error}", "check its permissions") from None
    length = int(data[:8].view("<u8")[0])
    if length > size - 8:
        raise InputError(
            path, f"its header has {length:,} bytes and the file {size:,}: it is cut or no safetensors file", _AGAIN
        )
    if length > _LONGEST:
        raise InputError(path, f"its header has {length:,} bytes, and {_LONGEST:,} are allowed", _AGAIN)
    header = parse(path, data[8 : 8 + length].tobytes(), _AGAIN, what="its header: ")
    metadata = header.pop("__metadata__", None) or {}
    check(path, metadata, Map(Text()), "__metadata__", remedy=_AGAIN)
    check(path, header, _HEADER, remedy=_AGAIN)
    entries = sorted(
        _Entry(tuple(e["data_offsets"]), name, e["dtype"], tuple(e["shape"])) for name, e in header.items()
    )
    arrays, place = {}, 0
    for entry in entries:
        arrays[entry.name] = _array(path, entry, place, data[8 + length :])
        place = entry.bounds[1]
    if place != size - 8 - length:
        raise InputError(path, f"{size - 8 - length - place:,} bytes behind its arrays belong to none", _AGAIN)
    return {name: arrays[name] for name in header}, metadata


def _array(path: Path, entry: _Entry, place: int, data: np.ndarray) -> np.ndarray:
    """Return an array after a look at its entry in the header; `place` is where the array before it ends."""
    name, (begin, end) = entry.name, entry.bounds
    if entry.dtype not in _TYPES:
        raise InputError(path, f"array {name} is of type {shown(entry.dtype)}", "convert it to float16 or float32")
    if end > len(data):
        raise InputError(path, f"the file ends within array {name}", _CUT)
    n_bytes = np.dtype(_TYPES[entry.dtype]).itemsize * math.prod(entry.shape)
    if end - begin != n_bytes:
        raise InputError(
            path, f"array {name} has {end - begin} bytes, which is not its shape {list(entry.shape)}", _AGAIN
        )
    if begin != place:
        how = "overlaps the array before it" if begin < place else "leaves a gap to the array before it"
        raise InputError(path, f"array {name} {how}: it begins at {begin:,}, not {place:,}", _AGAIN)
    # The header's length is padded so that arrays are aligned; frombuffer does not need them to be.
    raw = np.frombuffer(data[begin:end], _TYPES[entry.dtype])
    if entry.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    try:
        return raw.reshape(entry.shape)
    except ValueError:  # more dimensions than NumPy has, or an empty array with a huge one
        raise InputError(path, f"array {name} has a shape that NumPy does not allow", _AGAIN) from None


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays in order of their names, so that equal arrays give equal bytes.

    A file that is there already is replaced, not written over: models that are loaded are views of it.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    for name, array in ordered.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # arrays start at a multiple of 64 bytes
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for array in ordered.values():
                file.write(array.tobytes())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
