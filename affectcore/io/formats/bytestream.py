"""Plain, gzip and zstd files as one stream of bytes."""

from __future__ import annotations

import pyarrow as pa

from affectcore.io.formats.base import Source


def open_bytes(source: Source) -> pa.NativeFile:
    """Open a file for reading, decompressing it on the way (several gzip members or zstd frames count as one)."""
    raw = pa.OSFile(str(source.path), "rb")
    return raw if source.compression == "none" else pa.CompressedInputStream(raw, source.compression)
