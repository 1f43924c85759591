"""Plain, gzip and zstd files, or pipes, as one stream of bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from affectcore.io.formats.base import Source

MAGICS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def open_bytes(source: Source) -> Any:
    """Open a file for reading, decompressing it on the way (several gzip members or zstd frames count as one).

    Returns
    -------
    Any
        Has ``read`` and ``close``. Of a pipe, the first bytes tell how it is compressed.
    """
    if source.pipe is None:
        raw = pa.OSFile(str(source.path), "rb")
        return raw if source.compression == "none" else pa.CompressedInputStream(raw, source.compression)
    compression = compression_of(source.pipe.open().read(4))
    stream = source.pipe.open()
    return stream if compression == "none" else pa.CompressedInputStream(pa.PythonFile(stream, "r"), compression)


def compression_of(head: bytes) -> str:
    """Return the compression of a file that begins with some bytes: ``gzip``, ``zstd`` or ``none``."""
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), "none")
