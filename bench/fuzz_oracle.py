"""What a damaged file must give: the rows that a trusted reader vouches for. The verdict on what a command gave."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_made import Made

from affectcore.errors import AffectcoreError
from affectcore.io.formats.base import plain_type
from affectcore.scorer import Scorer

FAULTS = ("fault in affectcore", "Traceback", "unexpected ", "RuntimeWarning", "Segmentation")
_HIDDEN = {"role", "turn", "part"}
_READ = ("id", "text", "messages", "role", "conversation_id")


class Trusted(NamedTuple):
    """What a reader that validates everything found in a file."""

    columns: dict[str, list[Any]]  # of the batches before the first that is not valid
    whole: bool  # whether all of the file is valid
    sure: bool  # whether it could tell: not where only the texts' UTF-8 is wrong, which hides other faults


def verdict(made: Made, path: Path, folder: Path, code: int, said: str, base: dict[Any, list[Any]]) -> str | None:
    """Return what is wrong with a command's outcome, or None.

    Parameters
    ----------
    made, path
        The undamaged file; the damaged one.
    folder
        OUT of the command.
    code, said
        Its exit code and standard error.
    base
        The rows of the undamaged file by id, of `rows_of`.
    """
    if code not in (0, 1, 2, 3):
        return f"exit code {code}"
    fault = next((line for line in said.splitlines() if any(f in line for f in FAULTS)), None)
    if fault:
        return fault
    if code in (1, 2) and "error:" not in said:
        return f"exit code {code} without an error"
    if made.command[0] == "score" and made.option("-o").endswith(".parquet"):
        out = folder / "out.parquet"
        if code in (0, 3) and not out.exists():
            return f"exit code {code} without an output"
        if code == 3 and not (folder / "out.parquet.errors.jsonl").exists():
            return "exit code 3 without a list of errors"
        listed = folder / "out.parquet.errors.jsonl"
        if code in (1, 3) and any(w in said for w in ("name of a column", "is decimal")):
            return None  # the schema is damaged
        if code and "a page's header" in said + (listed.read_text() if listed.exists() else ""):
            return None  # of Parquet; the trusted reader passes over what is damaged in it
        table = pq.read_table(out) if out.exists() else None
        return _dump(made, path, code, table) if made.arrow else _lines(made, path, code, table, base)
    if made.command[0] == "compare" and made.arrow:
        return _comparison(made, path, folder, code)
    return None


# -- Arrow and Parquet ---------------------------------------------------------------------------------------------


def trusted(path: Path, asked: list[str] | None) -> Trusted:
    """Read columns of an Arrow or Parquet file; None for all that are not nested, and the texts."""
    found: dict[str, list[Any]] = defaultdict(list)
    try:
        whole, batches = _opened(path, asked)
        for batch in batches:
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                if "UTF8" not in str(error):
                    raise
                return Trusted({}, False, False)
            for name in batch.schema.names:
                if name in _READ or "distress" in (asked or ()):
                    found[name] += values(batch.column(name))
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        return Trusted(dict(found), False, isinstance(error, pa.ArrowException | OSError))
    return Trusted(dict(found), whole, True)


def _opened(path: Path, asked: list[str] | None) -> tuple[bool, Any]:
    """Return whether a file has an end, and its batches of the columns asked for."""
    data = path.read_bytes()

    def wanted(schema: pa.Schema) -> list[int]:
        texts = ("text", "messages")
        return [
            i
            for i, f in enumerate(schema)
            if (f.name in asked if asked else f.name in texts or not pa.types.is_nested(plain_type(f.type)))
        ]

    if path.suffix == ".parquet":
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        names = [file.schema_arrow.names[i] for i in wanted(file.schema_arrow)]
        groups = (file.read_row_group(i, columns=names) for i in range(file.num_row_groups))
        return True, (batch for group in groups for batch in group.to_batches())
    whole = data[:6] != b"ARROW1" or data[-6:] == b"ARROW1"
    raw = pa.py_buffer(data if data[:6] != b"ARROW1" else data[8:])
    if whole and data[:6] == b"ARROW1":
        try:
            columns = wanted(pa.ipc.open_file(pa.py_buffer(data)).schema)
        except (pa.ArrowException, OSError):
            whole = False
        else:
            options = pa.ipc.IpcReadOptions(included_fields=columns)
            reader = pa.ipc.open_file(pa.py_buffer(data), options=options)
            return True, (reader.get_batch(i) for i in range(reader.num_record_batches))
    columns = wanted(pa.ipc.open_stream(raw).schema)
    stream = pa.BufferReader(raw)
    batches = list(_till_it_fails(pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(included_fields=columns))))
    whole = whole and not isinstance(batches[-1], Exception) and not any(data[stream.tell() :])
    return whole, _raised(batches)


def _till_it_fails(batches: Iterable[pa.RecordBatch]) -> Iterator[Any]:
    try:
        yield from batches
    except (pa.ArrowException, OSError) as error:
        yield error
    else:
        yield None


def _raised(batches: list[Any]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if isinstance(batch, Exception):
            raise batch
        if batch is not None:
            yield batch


def values(array: pa.Array) -> list[Any]:
    """Return values as Python's, texts as bytes."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        known = values(array.dictionary)
        return [None if i is None else known[i] for i in array.indices.to_pylist()]
    if pa.types.is_struct(kind):
        fields = {f.name: values(array.field(i)) for i, f in enumerate(kind)}
        rows = [dict(zip(fields, row)) for row in zip(*fields.values())]
        return [row if there else None for row, there in zip(rows, array.is_valid().to_pylist())]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [values(scalar.values) if scalar.is_valid else None for scalar in array]
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        return [scalar.as_buffer().to_pybytes() if scalar.is_valid else None for scalar in array]
    return array.to_pylist()


@lru_cache(maxsize=32)
def _scorer(unit: str, parts: str) -> Scorer:
    return Scorer("none", unit=unit, parts=parts, threads=1)


def _dump(made: Made, path: Path, code: int, out: pa.Table | None) -> str | None:
    keep = made.option("--keep")
    asked = [*keep.split(","), *(_READ if made.option("--unit") in ("turn", "conversation") else _READ[:3])]
    found, whole, sure = trusted(path, asked if keep else None)
    if not sure:
        return None
    if code == 0 and not whole:
        return "exit code 0 for a file that a trusted reader refuses"
    columns: dict[str, Any] = {"id": found["id"]} if "id" in found else {}
    if not any(found.values()):
        return f"{out.num_rows} rows, where a trusted reader has none" if out is not None and out.num_rows else None
    for name in ("text", "role", "conversation_id"):
        if name in found:
            columns[name] = pa.array([v.encode() if isinstance(v, str) else v for v in found[name]], pa.binary())
    if "messages" in found:
        fields = dict.fromkeys(k for row in found["messages"] or () for m in row or () for k in m or ())
        columns["messages"] = pa.array(found["messages"], pa.list_(pa.struct([(k, pa.binary()) for k in fields])))
    scorer = _scorer(made.option("--unit"), made.option("--parts"))
    try:
        wanted = scorer.score(pa.table(columns))
    except (AffectcoreError, pa.ArrowException) as error:
        return None if code else f"exit code 0, where the trusted rows give {error}"
    scores = [f.name for f in scorer.schema]
    n, most = 0 if out is None else out.num_rows, wanted.num_rows
    if code in (1, 2):
        lost = most and code == 1 and "id" in found
        return f"{most} rows before the damage are lost: exit code {code}" if lost else None
    if n > most:
        return f"{n} rows, where a trusted reader has {most}"
    if out is None or out.num_rows == 0:
        return None
    for name in scores:
        if not out[name].combine_chunks().cast(wanted[name].type).equals(wanted[name].slice(0, n).combine_chunks()):
            return f"wrong rows: column {name}"
    if (
        "id" in out.column_names
        and "id" in wanted.column_names
        and out["id"].to_pylist() != wanted["id"].slice(0, n).to_pylist()
    ):
        return "wrong rows: column id"
    if n < most and code == 0:
        return f"{n} rows of {most}, exit code 0"
    # A conversation whose end the damage hides is left out.
    return f"{most - n} of {most} rows are lost" if n < most and "conversation_id" not in found else None


def _comparison(made: Made, path: Path, folder: Path, code: int) -> str | None:
    names = ["model", "prompt_id", "distress", *(["n_words"] if "--where" in made.command else [])]
    found, whole, sure = trusted(path, names)
    if not sure:
        return None
    if code == 0 and not whole:
        return "exit code 0 for a score file that a trusted reader refuses"
    if code or not found:
        fine = code == 1 and trusted(path, ["model", "prompt_id", "distress", "n_words"])[1:] == (True, True)
        return "an error for a score file that a trusted reader takes" if fine else None
    sums: dict[Any, list[float]] = defaultdict(list)
    for i, (model, value) in enumerate(zip(found["model"], found["distress"])):
        if "n_words" in found and not (found["n_words"][i] is not None and found["n_words"][i] >= 5):
            continue
        if value is not None and math.isfinite(value):
            sums[model if model is None else model.decode("utf-8", "replace")].append(value)
    for row in json.loads((folder / "out.json").read_text())["leaderboard"]:
        mine = sums.get(row["by"], [])
        mean = sum(mine) / len(mine) if mine else None
        if (row["mean"] is None) != (mean is None) or (mean and not math.isclose(mean, row["mean"], rel_tol=1e-6)):
            return f"wrong mean of {row['by']!r}: {row['mean']}, not {mean}"
    return None


# -- lines ---------------------------------------------------------------------------------------------------------


def rows_of(table: pa.Table) -> dict[Any, list[Any]]:
    """Return the scores of an output by id: texts' alone, since damage can move turns."""
    scores = [n for n in table.column_names if n.startswith(("vader", "n_w", "n_b")) or n in _HIDDEN]
    found: dict[Any, list[Any]] = defaultdict(list)
    if "id" in table.column_names:
        for row in table.select(["id", *scores]).to_pylist():
            found[str(row.pop("id"))].append(tuple(row.values()))
    return dict(found)


def _lines(made: Made, path: Path, code: int, out: pa.Table | None, base: dict[Any, list[Any]]) -> str | None:
    """Judge a file of lines: a line that is as it was gives the rows that it gave."""
    if code or out is None or "id" not in out.schema.names:
        return None  # it says what is wrong; or the column has another name now
    if made.option("--unit") in ("turn", "conversation"):
        return None  # whose turn it is may be another matter now
    there = _records(made, unpacked(path))
    got = rows_of(out)
    for number, line in made.lines:
        if line in there and base.get(str(number)) and not set(base[str(number)]) <= set(got.get(str(number), [])):
            return f"row {number} is whole, but has other scores or none"
    return None


def _records(made: Made, data: bytes) -> set[bytes]:
    """Return the lines that are rows of their own: none that stands within quotation marks of others."""
    lines = data.split(b"\n")
    if ".jsonl" in made.name:
        return set(lines)
    found, begin = set(), 0
    reader = csv.reader(
        (line.decode("latin-1") + "\n" for line in lines), delimiter="\t" if ".tsv" in made.name else ","
    )
    try:
        for _ in reader:
            if reader.line_num == begin + 1:
                found.add(lines[begin])
            begin = reader.line_num
    except csv.Error:
        return set()
    return found


def unpacked(path: Path) -> bytes:
    """Return the bytes of a file, decompressed as far as that goes."""
    name = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    if name is None:
        return path.read_bytes()
    pieces = []
    try:
        with pa.CompressedInputStream(pa.OSFile(os.fspath(path)), name) as stream:
            while piece := stream.read(4096):
                pieces.append(piece)
    except OSError:
        pass
    return b"".join(pieces)
