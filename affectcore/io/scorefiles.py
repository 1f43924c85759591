"""Scores as they come back: Parquet, Arrow IPC, JSONL and CSV files, or a table, read by column and by batch."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from affectcore import escape
from affectcore.errors import AffectcoreError, InputError, UsageError, suggest
from affectcore.io.finished import finished_parts
from affectcore.io.formats.base import from_views, valid_strings
from affectcore.io.formats.damage import check_batch, check_end, check_schema
from affectcore.io.manifest import MANIFEST, few_names

__all__ = ["Condition", "Scores", "as_text", "differing", "open_scores"]

_BATCH_ROWS = 1 << 16
_REMEDY = "is it a complete score file? Score the dump again or leave it out"
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".arrows": "ipc",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}


def as_text(column: Any) -> Any:
    """Return an array as `large_string`: names and ids compare as text, whatever their type."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column, pa.Array) and (pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type)):
        column = from_views(column)
    try:
        text = column.cast(pa.large_string())
        column = text.cast(pa.large_binary())
        return column.cast(pa.large_string())  # from bytes: strings of a file may hold what is not UTF-8, too
    except pa.ArrowInvalid:
        values = [v if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
        return pa.array(values, pa.large_string())


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "!=": pc.not_equal,
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    "==": pc.equal,
    "=": pc.equal,
    ">": pc.greater,
    "<": pc.less,
}
_CONDITION = re.compile(rf"(.+?)\s*({'|'.join(map(re.escape, _OPERATORS))})\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """What rows must have in a column, such as ``dataset=mt-bench`` or ``distress>=0.5``; nulls never do.

    ``=`` and ``!=`` compare numbers where the column holds numbers, else text; the others compare numbers. The value
    None, with ``=``, asks for nulls.
    """

    column: str
    operator: str
    value: str | None

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises
        ------
        UsageError
            If there is no operator in it.
        """
        found = _CONDITION.fullmatch(text.strip())
        if not found:
            raise UsageError(f"{text!r} is no condition: write COLUMN=VALUE, or one of {' '.join(_OPERATORS)}")
        return cls(*found.groups())

    @property
    def ordered(self) -> bool:
        """Whether it compares sizes, which only numbers have here."""
        return self.operator in (">=", "<=", ">", "<")

    def number(self) -> float:
        """Return the value as a number."""
        try:
            number = float(self.value or "")
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise UsageError(
                f"{self.column}{self.operator}{self.value}: {self.value!r} is no number, as {self.column} is"
            )
        return number

    def holds(self, column: Any) -> Any:
        """Return for each value of a column whether it meets the condition: bool, never null."""
        if self.value is None:
            return pc.is_null(column)
        if _is_number(column.type):
            met = _OPERATORS[self.operator](*self._sides(column))
        elif self.ordered:
            met = _OPERATORS[self.operator](_as_number(column, self), self.number())
        else:
            met = _OPERATORS[self.operator](as_text(column), pa.scalar(self.value, pa.large_string()))
        return pc.fill_null(met, False)

    def _sides(self, column: Any) -> tuple[Any, Any]:
        number = self.number()
        if pa.types.is_integer(column.type):
            with contextlib.suppress(ValueError, OverflowError, pa.ArrowInvalid):
                return column, pa.scalar(int(self.value or ""), column.type)  # ids that a float64 cannot hold
        return column.cast(pa.float64(), safe=False), number


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _as_number(column: Any, condition: Condition) -> Any:
    try:
        return as_text(column).cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise UsageError(f"column {condition.column!r} holds text, not numbers to compare sizes of: {error}") from None


@dataclass
class Scores:
    """Score files or a table, readable several times by column."""

    label: str
    types: dict[str, pa.DataType]
    batches: Callable[[list[str], list[str]], Iterator[pa.RecordBatch]]  # of (columns of names and ids, metrics)
    mixed: str = ""
    settings: dict[str, Any] = field(default_factory=dict)  # what the first file was scored with, where it says so
    lacking: dict[str, str] = field(default_factory=dict)  # column -> first file without it
    twice: dict[str, str] = field(default_factory=dict)  # column -> file that has two of that name
    notes: tuple[str, ...] = ()  # what was left out of folders, as sentences

    def require(self, names: Sequence[str], what: str) -> None:
        """Raise UsageError if a column is missing, naming those there are."""
        for name in names:
            if name in self.twice:
                raise UsageError(f"{self.twice[name]} has several columns {name!r} ({what}): rename them")
            if name in self.types and name not in self.lacking:
                continue
            where = self.lacking.get(name, self.label)
            there = ", ".join(column for column in self.types if self.lacking.get(column) != where)
            raise UsageError(
                f"{where} has no column {name!r}{suggest(name, self.types)} ({what}). The columns are: {there}"
            )

    def _flat(self, names: Sequence[str]) -> None:
        for name in names:
            if pa.types.is_nested(kind := self.types[name]):
                raise UsageError(f"column {name!r} holds {kind}: a column of names, ids or numbers is needed")

    def where(self, conditions: Sequence[str | Condition]) -> Scores:
        """Return the rows that meet all conditions.

        Raises
        ------
        UsageError
            If a condition cannot be read or names a column that is missing.
        """
        parsed = [Condition.parse(c) if isinstance(c, str) else c for c in conditions]
        if not parsed:
            return self
        self.require([c.column for c in parsed], "a condition on rows names it (--where)")
        needed = [c.column for c in parsed]
        self._flat(needed)
        read = self.batches

        def batches(labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
            kept = list(dict.fromkeys([*labels, *numbers]))
            # A metric that a condition is on is read once, as a number.
            for batch in read(list(dict.fromkeys([*labels, *(n for n in needed if n not in numbers)])), numbers):
                met = reduce(pc.and_, [c.holds(batch[c.column]) for c in parsed])
                yield batch.filter(met).select(kept)

        return replace(self, batches=batches)

    def distinct(self, column: str, most: int) -> list[str | None]:
        """Return the different values of a column as text, sorted, null last.

        Raises
        ------
        UsageError
            If there are more than `most`, or the column is missing.
        """
        self.require([column], "its values were asked for")
        self._flat([column])
        found: set[str | None] = set()
        for batch in self.batches([column], []):
            found.update(pc.unique(as_text(batch[column])).to_pylist())
            if len(found) > most:
                raise UsageError(f"column {column!r} holds more than {most:,} different values: choose another")
        return sorted(found, key=lambda v: (v is None, v or ""))


def open_scores(scores: Any) -> Scores:
    """Open paths, folders, glob patterns, or a table with the Arrow interface.

    Of a folder that a run wrote, those parts are read that its manifest says are finished, and `Scores.notes` says what
    was left out. Files that are named, or that a pattern matches, are read as they are.

    Raises
    ------
    UsageError
        If it is nothing of these.
    InputError
        If a file is missing or cannot be read.
    """
    if isinstance(scores, Scores):
        return scores
    if isinstance(scores, (str, Path)):
        return _open_files([scores])
    if isinstance(scores, (list, tuple)):
        return _open_files(scores)
    if isinstance(scores, pa.RecordBatch):
        table = pa.Table.from_batches([scores])
    elif hasattr(scores, "__arrow_c_stream__"):
        table = scores if isinstance(scores, pa.Table) else pa.table(scores)
    else:
        raise UsageError(
            f"cannot compare {type(scores).__name__}: give paths of score files, or a table with the Arrow interface"
        )

    def batches(labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in table.select(list(dict.fromkeys([*labels, *numbers]))).to_batches(max_chunksize=_BATCH_ROWS):
            _guard("the table", partial(check_batch, batch), row, "make it again: its buffers do not fit together")
            yield batch
            row += len(batch)

    return Scores(
        "the table",
        {f.name: f.type for f in table.schema},
        batches,
        settings=_settings(table.schema.metadata),
        twice=dict.fromkeys(_repeated(table.column_names), "the table"),
    )


def _open_files(given: Sequence[str | Path]) -> Scores:
    files, notes = _find(given)
    types: dict[str, pa.DataType] = {}
    columns_of: list[set[str]] = []
    twice: dict[str, str] = {}
    settings: dict[bytes, Any] = {}
    mixed: dict[str, None] = {}
    for path in files:
        schema = _guard(path, partial(_schema, path))
        _guard(path, partial(check_schema, schema))
        columns_of.append(set(schema.names))
        if len(columns_of[-1]) < len(schema):
            twice |= dict.fromkeys(_repeated(schema.names), str(path))
        for column in schema:
            types.setdefault(column.name, column.type)
        found = {k: v for k, v in (schema.metadata or {}).items() if k not in (b"ARROW:schema", b"pandas")}
        for name, value in found.items():
            if settings.setdefault(name, value) != value:
                mixed.update(dict.fromkeys(_different_settings(name, settings[name], value)))
    lacking = {name: str(path) for name in types for path, there in zip(files, columns_of) if name not in there}

    def batches(labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
        for path in files:
            reader, row = _read(path, labels, numbers), 0
            while (batch := _guard(path, partial(next, reader, None), row)) is not None:
                yield batch
                row += len(batch)

    label = str(files[0]) if len(files) == 1 else f"the {len(files)} score files"
    made = _settings(settings)
    mixture = ", ".join(mixed)
    return Scores(label, types, batches, mixture, lacking=lacking, settings=made, twice=twice, notes=notes)


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, n in Counter(names).items() if n > 1]


def _settings(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    try:
        made = json.loads((metadata or {}).get(b"affectcore", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _different_settings(name: bytes, one: bytes, other: bytes) -> list[str]:
    """Name what differs between two values of a metadata key, each with both values where they are settings of ours."""
    try:
        return differing(json.loads(one), json.loads(other))
    except (ValueError, AttributeError):
        return [name.decode(errors="replace")]


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what differs between two settings, each with both values; of settings within one, the first three."""
    told = []
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping) and a != b:
            inner = differing(a, b)
            told.append(f"{name}: {', '.join(inner[:3])}" + (f" and {len(inner) - 3:,} more" if len(inner) > 3 else ""))
        elif a != b:
            told.append(f"{name} ({a} and {b})")
    return told


def _find(given: Sequence[str | Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the score files that paths, folders and glob patterns stand for, each once, and what was left out."""
    files: dict[Path, None] = {}
    notes: dict[str, None] = {}
    for item in given:
        if not str(item):  # as a path it would be the current folder
            raise UsageError("the name of a score file is empty")
        path = Path(item)
        if path.is_file():
            if path.suffix.lower() not in _FORMATS:
                raise UsageError(f"{path}: unknown kind of file; score files end in {', '.join(_FORMATS)}")
            files[path] = None
            continue
        if path.exists() and not path.is_dir():
            reason = "a pipe can be read once, and score files are read several times"
            raise InputError(path, reason, "write it to a file and name that")
        if path.is_dir():
            found = [path]
        else:
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
            if not found:
                raise InputError(path, "there is no such file or folder", "check the path")
        kept, left_out = [], []
        for p in found:
            inside, told = _inside(p) if p.is_dir() else ([p] if p.is_file() and _is_score_file(p.name) else [], [])
            kept += inside
            left_out += told
        if not kept:
            if left_out:
                raise InputError(path, "nothing in it is finished", " ".join(left_out))
            raise InputError(path, "no score files in it", f"score files end in {', '.join(_FORMATS)}")
        files.update(dict.fromkeys(kept))
        notes.update(dict.fromkeys(left_out))
    if not files:
        raise UsageError("no score files were given")
    return list(files), tuple(notes)


def _inside(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the score files in a folder and in those in it, sorted, and what is left out of those with a manifest."""
    there = [f for f in sorted(folder.rglob("*")) if not _hidden(f.parent.relative_to(folder).parts) and f.is_file()]
    files = {f for f in there if _is_score_file(f.name)}
    notes: list[str] = []
    for manifest in [f for f in there if f.name == MANIFEST]:
        counted, told_of, told = finished_parts(manifest.parent)
        others = {f for f in files if f.parent == manifest.parent} - {*counted}
        files = (files - others) | {*counted}
        unknown = [f.name for f in others if f.name not in told_of]
        if unknown:
            told.append(f"Left out of {manifest.parent}: files that its manifest does not count, {few_names(unknown)}.")
        notes += told
    return sorted(files), notes


def _is_score_file(name: str) -> bool:
    return not _hidden([name]) and Path(name).suffix.lower() in _FORMATS and not name.endswith(".errors.jsonl")


def _hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith((".", "_")) for part in parts)


def _guard(path: Path | str, action: Callable[[], Any], row: int | None = None, remedy: str = _REMEDY) -> Any:
    """Do something with a score file; what pyarrow says against it is an InputError, with the row reached."""
    try:
        return action()
    except AffectcoreError:
        raise
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise InputError(path, reason, remedy, row) from error


def _schema(path: Path) -> pa.Schema:
    kind = _FORMATS[path.suffix.lower()]
    if path.stat().st_size == 0:
        raise InputError(path, "the file is empty", "score the dump again or leave it out")
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.read_schema(path)
    if kind == "ipc":
        with pa.memory_map(str(path)) as source, _ipc(path, source) as reader:
            return reader.schema
    with _text_reader(path, kind, None) as reader:
        return reader.schema


def _read(path: Path, labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the batches of some columns of a file, each checked before anything looks into it."""
    for batch in _raw(path, labels, numbers):
        check_batch(batch)
        yield batch


def _raw(path: Path, labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
    columns = list(dict.fromkeys([*labels, *numbers]))
    kind = _FORMATS[path.suffix.lower()]
    if kind == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
    elif kind == "ipc":
        with pa.memory_map(str(path)) as source, _ipc(path, source) as reader:
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                yield from (reader.get_batch(i).select(columns) for i in range(reader.num_record_batches))
            else:
                yield from (batch.select(columns) for batch in reader)
                check_end(source)
    else:
        with _text_reader(path, kind, (labels, numbers)) as reader:
            for batch in reader:
                yield (_valid if kind == "jsonl" else _unmarked)(batch.select(columns))


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with valid UTF-8 in its columns of strings, which pyarrow does not look at in JSON."""
    columns = [valid_strings(c) if pa.types.is_string(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _unmarked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with strings as they were before `affectcore.escape.csv` marked those like formulas."""
    columns = [
        pc.replace_substring_regex(c, escape.CSV_MARK, r"\1\2") if pa.types.is_string(c.type) else c
        for c in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _ipc(path: Path, source: pa.NativeFile) -> Any:
    # A memory map reads the needed columns only. Both flavours of the format use the same file extensions.
    with path.open("rb") as file:
        magic = file.read(6)
    return pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)


def _text_reader(path: Path, kind: str, wanted: tuple[list[str], list[str]] | None) -> Any:
    """Open JSONL or CSV for streaming; `wanted` are the columns to parse, those of names or ids and the metrics.

    Metrics are read as float64: by its first values alone, a metric could pass for a column of integers.
    """
    labels, numbers = wanted or ([], [])
    if kind == "jsonl":
        with path.open("rb") as file:  # a first line "null" crashes pyarrow 26
            if not file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
                raise InputError(path, "its first line is no JSON object", "score the dump again or leave it out")
        import pyarrow.json as pj

        parse = pj.ParseOptions()
        if wanted is not None:
            with pj.open_json(path) as first:
                types = {f.name: pa.string() if pa.types.is_null(f.type) else f.type for f in first.schema}
            schema = {**{name: types[name] for name in labels}, **{name: pa.float64() for name in numbers}}
            parse = pj.ParseOptions(explicit_schema=pa.schema(schema), unexpected_field_behavior="ignore")
        return pj.open_json(path, read_options=pj.ReadOptions(block_size=1 << 24), parse_options=parse)
    import pyarrow.csv as pv

    convert = pv.ConvertOptions(strings_can_be_null=True)
    if wanted is not None:
        kinds = {**{name: pa.string() for name in labels}, **{name: pa.float64() for name in numbers}}
        convert = pv.ConvertOptions(include_columns=list(kinds), column_types=kinds, strings_can_be_null=True)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    return pv.open_csv(
        path,
        parse_options=pv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=convert,
    )
