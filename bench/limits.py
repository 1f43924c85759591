"""What the machine can do at best: read bytes, copy them, read a text column and write score columns.

As a script: `python bench/limits.py DUMP SCORES OUTPUT` does what `affectcore score` cannot do without, with PyArrow
alone: it reads the column `response` of the Parquet file DUMP and writes the columns of the Arrow file SCORES, which
are affectcore's own scores of DUMP, to the Parquet file OUTPUT.
"""

from __future__ import annotations

import sys

import numpy as np


def read(lanes: np.ndarray) -> int:
    """Read memory once: the sum of uint64 (n,)."""
    return int(lanes.sum())


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """Read memory once and write it once."""
    np.copyto(target, source)


def read_and_write(dump: str, scores: str, output: str) -> None:
    """Read the text column of a Parquet file, and write score columns that lie ready in an Arrow file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pq.read_table(dump, columns=["response"])
    with pa.memory_map(scores) as file:
        table = pa.ipc.open_file(file).read_all()
        if len(table) != len(texts):
            raise SystemExit(f"{scores} has {len(table)} rows, {dump} has {len(texts)}")
        repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
        # affectcore's own settings, so that both write the same bytes.
        pq.write_table(table, output, compression="zstd", compression_level=1, use_dictionary=repeating)


if __name__ == "__main__":
    read_and_write(*sys.argv[1:])
