"""Reads and writes the safetensors format with NumPy alone, so that the embedded model needs no further package.

The format: eight bytes with the length of a JSON header (little-endian), the header, and the arrays end to end.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from affectcore.errors import InputError

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


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays (read-only views of a memory map; bfloat16 as float32) and the metadata of a file.

    Raises
    ------
    InputError
        If the file is cut, no safetensors file, or holds a type that NumPy lacks (8-bit floats).
    """
    size = path.stat().st_size
    if size < 8:
        raise InputError(path, f"{size} bytes are no safetensors file", "copy or install it again")
    data = np.memmap(path, np.uint8, "r")
    length = int(data[:8].view("<u8")[0])
    try:
        if length > size - 8:
            raise ValueError
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = header.pop("__metadata__", {})
        entries = [(name, e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for name, e in header.items()]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise InputError(
            path, "it does not begin with a header in JSON", "it is cut or no safetensors file: copy it again"
        ) from None
    arrays = {}
    for name, dtype, shape, begin, end in entries:
        if dtype not in _TYPES:
            raise InputError(path, f"array {name} is of type {dtype}", "convert it to float16 or float32")
        if 8 + length + end > size:
            raise InputError(path, f"the file ends within array {name}", "it is cut: copy or install it again")
        if begin < 0 or end - begin != np.dtype(_TYPES[dtype]).itemsize * math.prod(shape):
            raise InputError(
                path, f"array {name} has {end - begin} bytes, which is not its shape {shape}", "copy it again"
            )
        # The header's length is padded so that arrays are aligned; frombuffer does not need them to be.
        raw = np.frombuffer(data[8 + length + begin : 8 + length + end], _TYPES[dtype])
        if dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        arrays[name] = raw.reshape(shape)
    return arrays, metadata


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays in order of their names, so that equal arrays give equal bytes."""
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
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in ordered.values():
            file.write(array.tobytes())
