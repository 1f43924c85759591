"""Labelled texts of a user: read from files, told apart by kind, split into train, dev and test."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectcore.arrow import check_table
from affectcore.errors import UsageError, suggest

__all__ = ["KINDS", "SPLITS", "Rows", "Target", "encode", "folded", "read", "split_rows"]

KINDS = {"auto": "auto", "single": "single_label", "multi": "multi_label", "regression": "regression"}
"""What `--kind` takes, and the kinds of heads."""

SPLITS = ("train", "dev", "test")
_SPLIT_NAMES = {
    "train": 0,
    "training": 0,
    "dev": 1,
    "development": 1,
    "valid": 1,
    "validation": 1,
    "val": 1,
    "test": 2,
    "testing": 2,
}
_SHARES = (0.8, 0.1, 0.1)
_MOST_LABELS = 1000
_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Labelled rows as they are in the files.

    Parameters
    ----------
    texts
        string, large_string, binary or large_binary array, (n,).
    labels
        Name of the label to its column, (n,) each.
    columns
        Name of the label to the name of its column.
    split
        0, 1, 2 for train, dev, test, shape (n,), or None.
    group
        Code of each row's group, shape (n,), or None.
    files
        First row of each file, and the file.
    text_column
        Where the texts came from.
    notes
        What was left out while reading.
    n_unread
        Rows that could not be read.
    """

    texts: pa.Array
    labels: dict[str, pa.Array]
    columns: dict[str, str]
    split: NDArray[np.int8] | None
    group: Ints | None
    files: list[tuple[int, str]]
    text_column: str
    notes: tuple[str, ...] = ()
    n_unread: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, row: int) -> str:
        """Return the file and zero-based row of a row, for messages."""
        at = bisect.bisect_right([first for first, _ in self.files], row) - 1
        first, path = self.files[at]
        return f"{path}, row {row - first}"


@dataclass(frozen=True)
class Target:
    """What a head learns, or is compared with.

    Parameters
    ----------
    kind
        ``multi_label``, ``single_label`` or ``regression``.
    labels
        Names of the k outputs.
    y
        ``multi_label``: 0 or 1, float32 (n, k). ``single_label``: int64 (n,), -1 for a label that is not among
        `labels`. ``regression``: float32 (n, k).
    known
        Rows that have a label, bool (n,); `y` means nothing elsewhere.
    notes
        What a reader must know.
    """

    kind: str
    labels: tuple[str, ...]
    y: NDArray[Any]
    known: NDArray[np.bool_]
    notes: tuple[str, ...] = field(default=())


def read(
    data: Any,
    *,
    text: str | None,
    label: Sequence[str],
    split: str | None = None,
    group: str | None = None,
) -> Rows:
    """Read texts with labels.

    Parameters
    ----------
    data
        File, folder or pattern (Parquet, Arrow IPC, JSONL, CSV, TSV), several of those, or an Arrow table.
    text
        Column of the texts; None for the first of the usual names.
    label
        Columns of the labels, or ``LABEL=COL`` where a column is not named like its label.
    split, group
        Columns that name the split and the group of each row.

    Raises
    ------
    UsageError
        If a column is missing (the message lists those there are), or a split is none of train, dev and test.
    InputError
        If a file cannot be read.
    """
    if not label:
        raise UsageError("name the column of the labels with label (--label)")
    columns: dict[str, str] = {}
    for item in label:
        name, _, column = item.partition("=")
        columns[name.strip()] = (column or name).strip()
    wanted = list(dict.fromkeys([*columns.values(), *([split] if split else []), *([group] if group else [])]))
    tables: list[pa.Table] = []
    texts: list[pa.Array] = []
    files: list[tuple[int, str]] = []
    notes: list[str] = []
    n = unread = 0
    text_column = ""
    if hasattr(data, "__arrow_c_stream__") or isinstance(data, pa.Table | pa.RecordBatch):
        from affectcore.io.formats.base import plain
        from affectcore.io.formats.texts import extract, kept_names, pick_text

        table = check_table(pa.table(data)).combine_chunks()
        found = pick_text(table.schema, text, "the table")
        text_column = found.name
        names = kept_names(table.schema, found.column, wanted, "the table")
        texts = [extract(table[found.column].combine_chunks(), found.fields)]
        tables = [pa.table({name: plain(table[name].combine_chunks()) for name in names})]
        files, n = [(0, "the table")], table.num_rows
    else:
        from affectcore.io.readers import discover, open_reader

        for source in discover(data):
            files.append((n, str(source.path)))
            with open_reader(source, text=text, keep=wanted) as reader:
                batches = []
                for kept, part in reader:
                    batches.append(kept)
                    texts.append(part)
                    n += len(part)
                tables.append(pa.Table.from_batches(batches, reader.schema))
                text_column = reader.text_column
                problems = reader.take_problems()
            unread += len(problems)
            if problems:
                first = problems[0]
                at = "" if first.row is None else f", row {first.row}"
                notes.append(
                    f"Rows that could not be read: {len(problems):,}; the first: {source.path}{at}: {first.reason}."
                )
    if n == 0:
        raise UsageError(f"{files[0][1]}: no rows, so there is nothing to learn from")
    kinds = {t.schema for t in tables}
    if len(kinds) > 1:
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(f"the files' columns {', '.join(wanted)} differ in type: {error}") from None
    else:
        table = pa.concat_tables(tables)
    rows = Rows(
        texts=_joined(texts),
        labels={name: table[column].combine_chunks() for name, column in columns.items()},
        columns=columns,
        split=None,
        group=None,
        files=files,
        text_column=text_column,
        notes=tuple(notes),
        n_unread=unread,
    )
    codes = None if split is None else _split_codes(rows, table[split].combine_chunks(), split)
    groups = None if group is None else _group_codes(table[group].combine_chunks(), group)
    return replace(rows, split=codes, group=groups)


def _joined(parts: list[pa.Array]) -> pa.Array:
    """Concatenate text arrays of whatever text types, with 64-bit offsets."""
    binary = any(pa.types.is_binary(p.type) or pa.types.is_large_binary(p.type) for p in parts)
    wide = pa.large_binary() if binary else pa.large_string()
    return pa.concat_arrays([p.cast(wide) for p in parts])


def _split_codes(rows: Rows, column: pa.Array, name: str) -> NDArray[np.int8]:
    if pa.types.is_nested(column.type):
        raise UsageError(f"column {name!r} holds {column.type}: a column of train, dev and test is needed")
    encoded = column.cast(pa.string()).dictionary_encode()
    codes = []
    for value in encoded.dictionary.to_pylist():
        code = _SPLIT_NAMES.get(value.strip().lower())
        if code is None:
            row = int(np.flatnonzero(pc.equal(column.cast(pa.string()), value).fill_null(False).to_numpy(False))[0])
            raise UsageError(f"{rows.where(row)}: column {name!r} has {value!r}: use train, dev or test")
        codes.append(code)
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(False))[0])
        raise UsageError(f"{rows.where(row)}: column {name!r} is null: use train, dev or test")
    found: NDArray[np.int8] = np.array(codes, np.int8)[encoded.indices.to_numpy(False)]
    return found


def _group_codes(column: pa.Array, name: str) -> Ints:
    """Return a code per value; each null is a group of its own."""
    if pa.types.is_nested(column.type):
        raise UsageError(f"column {name!r} holds {column.type}: a column of ids is needed")
    encoded = column.dictionary_encode()
    codes: Ints = encoded.indices.fill_null(-1).to_numpy(False).astype(np.int64)
    nulls = codes < 0
    codes[nulls] = len(encoded.dictionary) + np.arange(int(nulls.sum()))
    return codes


def folded(*texts: pa.Array) -> list[Ints]:
    """Return codes of texts, equal where texts are equal up to case and white space, for each array given."""
    parts = []
    for array in texts:
        try:
            plain = array.cast(pa.large_string())
            plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(plain), r"\s+", " "))
        except pa.ArrowInvalid:  # not valid UTF-8
            plain = array
        parts.append(plain.cast(pa.large_binary()))
    codes = _group_codes(pa.concat_arrays(parts), "text")
    return np.split(codes, np.cumsum([len(a) for a in texts])[:-1])


def encode(
    rows: Rows,
    *,
    kind: str = "auto",
    labels: Sequence[str] | None = None,
    sep: str | None = None,
    unknown: str = "error",
) -> Target:
    """Turn label columns into targets.

    Parameters
    ----------
    rows
        What `read` returned.
    kind
        ``auto``, or a kind of head. ``auto``: a list column, or a string column with `sep`, is multi-label; another
        string column single-label; true/false or 0/1 columns multi-label; other numbers regression.
    labels
        Names of the outputs; None for those in the data (sorted), or the names of several label columns.
    sep
        What separates labels within a string (multi-label).
    unknown
        What to do with a label that is not in `labels`: ``error``, or ``note`` it and leave it out.

    Raises
    ------
    UsageError
        If a column does not hold what its kind needs; names the file, row, column and remedy.
    """
    if len(rows.labels) > 1:
        return _several(rows, kind, labels)
    ((name, column),) = rows.labels.items()
    source = rows.columns[name]
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        column = column.dictionary_decode()
        dtype = column.type
    is_list = pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
    is_string = pa.types.is_string(dtype) or pa.types.is_large_string(dtype)
    is_number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    if not (is_list or is_string or is_number or pa.types.is_boolean(dtype)):
        raise UsageError(
            f"column {source!r} holds {dtype}: labels are strings, lists of strings, numbers or true/false"
        )
    binary = pa.types.is_boolean(dtype) or (is_number and _is_binary(column))
    if kind == "auto":
        if is_list or (is_string and sep is not None) or binary:
            kind = "multi_label"
        else:
            kind = "single_label" if is_string else "regression"
    if kind == "regression":
        if is_list:
            raise UsageError(f"column {source!r} holds lists: a regression needs one number a row")
        y, known = _numbers(rows, column, source)
        names = _fixed(labels, (name,), source)
        return Target(kind, names, y[:, None].astype(np.float32), known)
    if kind == "multi_label" and binary and (labels is None or len(labels) == 1):
        y, known = _numbers(rows, column, source)
        return Target(kind, _fixed(labels, (name,), source), y[:, None].astype(np.float32), known)
    if kind == "single_label" and is_list:
        raise UsageError(f"column {source!r} holds lists, so rows can have several labels: use --kind multi")
    if kind == "single_label":
        values = _strings(column)
        known = pc.fill_null(pc.not_equal(values, ""), False).to_numpy(False)
        encoded = values.dictionary_encode()
        there = [v for v in encoded.dictionary.to_pylist() if v]
        names, place, notes = _known(rows, encoded, there, labels, source, unknown)
        at = np.array([place.get(v, -1) for v in encoded.dictionary.to_pylist()] or [-1], np.int64)
        code = at[encoded.indices.fill_null(0).to_numpy(False)] if len(encoded.dictionary) else np.full(len(rows), -1)
        return Target(kind, names, np.where(known, code, -1), known, notes)
    if is_list:
        known = column.is_valid().to_numpy(False)
        flat, parent = _strings(pc.list_flatten(column)), pc.list_parent_indices(column).to_numpy(False)
    else:
        values = _strings(column)
        known = values.is_valid().to_numpy(False)
        lists = pc.split_pattern(values, "," if sep is None else sep)
        flat, parent = pc.utf8_trim_whitespace(pc.list_flatten(lists)), pc.list_parent_indices(lists).to_numpy(False)
    full = pc.fill_null(pc.not_equal(flat, ""), False)
    flat, parent = flat.filter(full), parent[full.to_numpy(False)]
    encoded = flat.dictionary_encode()
    names, place, notes = _known(rows, encoded, encoded.dictionary.to_pylist(), labels, source, unknown, parent)
    at = np.array([place.get(v, -1) for v in encoded.dictionary.to_pylist()] or [-1], np.int64)
    code = at[encoded.indices.to_numpy(False)] if len(flat) else np.zeros(0, np.int64)
    y = np.zeros((len(rows), len(names)), np.float32)
    y[parent[code >= 0], code[code >= 0]] = 1
    return Target(kind, names, y, known, notes)


def _fixed(labels: Sequence[str] | None, names: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Return the names of outputs; one column stands for the one output of a head, whatever it is called."""
    if labels is None:
        return names
    if len(labels) != 1:
        raise UsageError(
            f"column {source!r} holds one value a row, but the head has {len(labels)} outputs ({', '.join(labels)}): "
            "name a column for each with --label, as OUTPUT=COLUMN where names differ"
        )
    return tuple(labels)


def _several(rows: Rows, kind: str, labels: Sequence[str] | None) -> Target:
    """Return the target of several label columns, one per output."""
    if kind == "single_label":
        raise UsageError("several label columns cannot be single-label: use one column of label names, or --kind multi")
    values, known = [], np.ones(len(rows), bool)
    for name, column in rows.labels.items():
        y, there = _numbers(rows, column, rows.columns[name])
        values.append(y)
        known &= there
    y = np.stack(values, axis=1)
    if kind == "auto":
        kind = "multi_label" if np.isin(y[known], (0, 1)).all() else "regression"
    if kind == "multi_label":
        wrong = ~np.isin(y, (0, 1)) & known[:, None]
        if wrong.any():
            row, j = (int(v[0]) for v in np.nonzero(wrong))
            raise UsageError(
                f"{rows.where(row)}: column {rows.columns[list(rows.labels)[j]]!r} has {y[row, j]:g}: columns of a "
                "multi-label head hold 0 and 1; --kind regression learns numbers"
            )
    names = tuple(rows.labels)
    if labels is not None:
        missing = [label for label in labels if label not in names]
        extra = [name for name in names if name not in labels]
        if missing or extra:
            hint = suggest(extra[0], labels) if extra else ""
            raise UsageError(
                (f"{extra[0]!r} is no output of the head{hint}; " if extra else f"no column for {missing[0]!r}; ")
                + f"its outputs are {', '.join(labels)}; --label takes OUTPUT=COLUMN where names differ"
            )
        y, names = y[:, [names.index(label) for label in labels]], tuple(labels)
    return Target(kind, names, y.astype(np.float32), known)


def _is_binary(column: pa.Array) -> bool:
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = values[~np.isnan(values)]
    return bool(len(known)) and bool(np.isin(known, (0, 1)).all())


def _numbers(rows: Rows, column: pa.Array, source: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return float64 values and where there are any; NaN and infinite ones count as missing."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        out = np.full(len(column), np.nan)
        for row, value in enumerate(column.to_pylist()):
            if value is None or not value.strip():
                continue
            try:
                out[row] = _TRUTH.get(value.strip().lower()) if value.strip().lower() in _TRUTH else float(value)
            except ValueError:
                raise UsageError(
                    f"{rows.where(row)}: column {source!r} has {_short(value)}, which is no number; "
                    "--kind single learns label names"
                ) from None
    elif pa.types.is_nested(column.type):
        raise UsageError(f"column {source!r} holds {column.type}, not numbers")
    else:
        out = np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    known = np.isfinite(out)
    return np.where(known, out, 0.0), known


def _short(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:37] + "...")


def _strings(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type) and len(column) and pc.all(pc.equal(column, pc.floor(column))).as_py():
        column = column.cast(pa.int64())  # 3.0 is label 3: a null in a column of integers makes it float
    return pc.utf8_trim_whitespace(column.cast(pa.large_string()))


def _known(
    rows: Rows,
    encoded: pa.Array,
    there: list[str],
    labels: Sequence[str] | None,
    source: str,
    unknown: str,
    parent: Ints | None = None,
) -> tuple[tuple[str, ...], dict[str, int], tuple[str, ...]]:
    """Return the names of the outputs, the place of every label, and notes on labels that have none."""
    if labels is None:
        if len(there) > _MOST_LABELS:
            raise UsageError(
                f"column {source!r} holds {len(there):,} different labels, more than {_MOST_LABELS:,}: name a column "
                "of labels, or learn numbers with --kind regression"
            )
        # Numbers in their own order, then names.
        names = tuple(
            sorted(there, key=lambda v: (not v.lstrip("-").isdigit(), int(v) if v.lstrip("-").isdigit() else 0, v))
        )
        return names, {v: i for i, v in enumerate(names)}, ()
    place = {v: i for i, v in enumerate(labels)}
    foreign = [v for v in there if v not in place]
    if not foreign:
        return tuple(labels), place, ()
    if len(foreign) == len(there) and all(v.isdigit() and int(v) < len(labels) for v in there):
        note = f"Labels in column {source!r} are numbers: taken as positions in the head's labels, from 0."
        return tuple(labels), {v: int(v) for v in there}, (note,)
    if unknown == "error":
        value = foreign[0]
        code = encoded.dictionary.to_pylist().index(value)
        at = int(np.flatnonzero(encoded.indices.fill_null(-1).to_numpy(False) == code)[0])
        row = at if parent is None else int(parent[at])
        hint = suggest(value, labels)
        shown = ", ".join(labels[:40]) + (", ..." if len(labels) > 40 else "")
        raise UsageError(
            f"{rows.where(row)}: column {source!r} has the label {_short(value)}{hint}; the head knows {shown}"
        )
    shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
    return tuple(labels), place, (f"Labels without training rows: {shown}.",)


def split_rows(
    target: Target, group: Ints | None, *, shares: Sequence[float] = _SHARES, seed: int = 0
) -> NDArray[np.int8]:
    """Split rows at random, stratified, without cutting groups.

    Strata are the labels (of a row with several, the rarest), for regressions the tenths of the first output's values.
    Within a stratum, groups come in random order and each goes where most rows are missing, so that a label with three
    rows has them in the first split.

    Parameters
    ----------
    target
        The targets; rows without a label are split, too.
    group
        Code of each row's group, shape (n,); None for rows that stand alone.
    shares
        Share of the rows of each split.
    seed
        Seed of the order.

    Returns
    -------
    ndarray of int8
        Number of the split of each row, shape (n,).
    """
    n = len(target.known)
    stratum = _strata(target)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    code = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
    n_groups = int(code.max(initial=-1)) + 1
    size = np.bincount(code, minlength=n_groups)
    # A group belongs to the rarest stratum that one of its rows has.
    rarity = np.argsort(np.argsort(np.bincount(stratum, minlength=int(stratum.max(initial=0)) + 1), kind="stable"))
    rarest = np.full(n_groups, len(rarity), np.int64)
    np.minimum.at(rarest, code, rarity[stratum])
    order = np.lexsort((rng.random(n_groups), rarest))
    out = np.zeros(n_groups, np.int8)
    have = [0.0] * len(shares)
    seen, previous = 0, -1
    for g in order.tolist():
        if rarest[g] != previous:
            previous, seen, have = int(rarest[g]), 0, [0.0] * len(shares)
        seen += int(size[g])
        missing = [share * seen - have[s] for s, share in enumerate(shares)]
        # Of equal needs, the first; rounding must not decide.
        best = max(range(len(shares)), key=lambda s: (round(missing[s], 9), -s))
        have[best] += float(size[g])
        out[g] = best
    return out[code]


def _strata(target: Target) -> Ints:
    if target.kind == "single_label":
        return np.asarray(target.y, np.int64) + 1
    if target.kind == "multi_label":
        count = target.y.sum(axis=0)
        cost = np.where(target.y > 0, count, np.inf)
        rare = cost.argmin(axis=1)
        return np.asarray(np.where(target.y.any(axis=1), rare + 1, 0), np.int64)
    first = target.y[:, 0]
    edges = np.quantile(first[target.known], np.linspace(0, 1, 11)[1:-1]) if target.known.any() else np.zeros(0)
    return np.asarray(np.searchsorted(edges, first), np.int64)


def source_name(data: Any) -> str:
    """Name a data set for the record: the names of its files, without folders, or ``table``."""
    if hasattr(data, "__arrow_c_stream__"):
        return "table"
    items = [data] if isinstance(data, str | Path) else list(data)
    return ", ".join(Path(item).name for item in items)
