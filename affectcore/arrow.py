"""From Arrow arrays of text to ragged bytes, without a copy, and to blocks that suit a backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore.errors import InputError, UsageError

BLOCK_BYTES = {"numba": 1 << 20, "triton": 32 << 20}
"""Text that one call of the kernels works on: on a CPU its word stream stays in a core's cache; it fills a GPU."""
_DAMAGED = "what made it gave wrong offsets, lengths or indices: make it again"
_MOST_BYTES = 2**31 - 1


def check_text(texts: pa.Array) -> None:
    """Raise UsageError where an array holds no texts or chat messages, InputError where its buffers are damaged."""
    from affectcore.io.formats.damage import check
    from affectcore.io.formats.texts import is_text

    if not is_text(texts.type):
        raise UsageError(f"texts are of type {texts.type}; string, large_string or binary is needed")
    try:
        check(texts)
    except pa.ArrowInvalid as exc:
        raise InputError("the array of texts", f"damaged Arrow data: {exc}", _DAMAGED) from None


def check_table(table: Any) -> Any:
    """Return a table, or a batch of one, as it is; raise InputError where its buffers are damaged."""
    from affectcore.io.formats.damage import check_batch

    try:
        for batch in table.to_batches() if isinstance(table, pa.Table) else [table]:
            check_batch(batch)
    except pa.ArrowInvalid as exc:
        raise InputError("the table", f"damaged Arrow data: {exc}", _DAMAGED) from None
    return table


def ragged(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Map a text array to `(values, offsets)`: a view of its bytes, and offsets as int64."""
    wide = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    if not (wide or pa.types.is_string(texts.type) or pa.types.is_binary(texts.type)):
        from affectcore.io.formats.texts import extract

        check_text(texts)
        return ragged(extract(texts))
    n = len(texts)
    if n == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offset_buffer, data = texts.buffers()
    kind = np.dtype(np.int64 if wide else np.int32)
    offsets = np.frombuffer(offset_buffer, kind, n + 1, texts.offset * kind.itemsize).astype(np.int64, copy=False)
    values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    longest = int(np.diff(offsets).argmax())
    if offsets[longest + 1] - offsets[longest] > _MOST_BYTES:
        raise UsageError(f"text {longest} has {offsets[longest + 1] - offsets[longest]} bytes; the limit is 2 GiB")
    return values, offsets


def blocks(offsets: np.ndarray, backend: str = "numba") -> Iterator[tuple[int, int]]:
    """Cut documents into runs of about `BLOCK_BYTES`; a longer document is a run of its own."""
    size = BLOCK_BYTES["triton" if backend == "triton" else "numba"]
    begin, n = 0, len(offsets) - 1
    while begin < n:
        end = int(np.searchsorted(offsets, offsets[begin] + size, side="right")) - 1
        end = min(max(end, begin + 1), n)
        yield begin, end
        begin = end
