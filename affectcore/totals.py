"""Sums and counts of measures per model and key, from score files: what comparisons and stability are made of.

Files are read batch by batch, the needed columns only; what is held are the sums, not the rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import UsageError
from affectcore.io.scorefiles import Condition, Scores, as_text
from affectcore.metrics.registry import GROUPS, select

__all__ = [
    "ANSWER",
    "MOST_MODELS",
    "PAIR_COLUMNS",
    "ROWS",
    "Bound",
    "add_up",
    "answers",
    "bounds",
    "codes",
    "is_answer",
    "metric_names",
    "models_of",
    "pair_column",
    "values",
]

PAIR_COLUMNS = (
    "uid",
    "question_id",
    "doc_id",
    "example_id",
    "sample_id",
    "instance_id",
    "item_id",
    "document_id",
    "id",
)
"""Columns that pair models if the same id comes up under several of them, in order of preference."""

ROWS = "rows"
"""The value of `pair_by` that makes every row a cluster of its own."""
MOST_MODELS = 1000
ANSWER = {"role": "assistant", "part": "answer"}
"""Columns that say whose words a row is about, and of which rows a model's means are made."""

_MERGE_CELLS = 1 << 20


# Measures


def metric_names(metrics: str | Iterable[str] | None, source: Scores) -> list[str]:
    """Return the names of the columns, groups and bounds that were asked for; of groups, the columns there are."""
    given = [metrics] if isinstance(metrics, str) else ["vader_compound"] if metrics is None else list(metrics)
    names: list[str] = []
    for raw in given:
        for name in raw.split(","):
            stem = name.strip()
            if stem in source.types:
                names.append(stem)
            elif stem == "default" or stem in GROUPS:
                names.extend(m.name for m in select(stem) if m.name in source.types)
            elif stem:
                names.append(stem)  # a bound, or reported as missing by `bounds`, with the columns there are
    if not names:
        asked = ", ".join(raw for raw in given if raw.strip(" ,"))
        why = f"{asked} names no column of the scores" if asked else "none is named"
        raise UsageError(f"no metric to compare: {why}")
    return list(dict.fromkeys(names))


class Bound(NamedTuple):
    """A column, or the share of its values that meet a bound."""

    column: str
    condition: Condition | None = None


_IS_BOUND = re.compile(r".+?(>=|<=|>|<|=)")


def bounds(names: Sequence[str | Bound], source: Scores) -> list[Bound]:
    """Return what names stand for.

    Raises
    ------
    UsageError
        If a column is missing or holds no numbers, or a bound is no number.
    """
    read = [_bound(name, source) if isinstance(name, str) else name for name in names]
    source.require([bound.column for bound in read], "the metric; choose others with metrics (--metric)")
    for bound in read:
        kind = source.types[bound.column]
        if not _is_numeric(kind):
            raise UsageError(f"column {bound.column!r} holds {kind}, not numbers: choose another metric")
    return read


def _bound(name: str, source: Scores) -> Bound:
    if name in source.types or not _IS_BOUND.match(name):
        return Bound(name)
    condition = Condition.parse(name)
    condition.number()
    return Bound(condition.column, condition)


def _is_numeric(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    ) or pa.types.is_null(kind)


def values(batch: pa.RecordBatch, bound: Bound) -> tuple[Any, Any]:
    """Return the values of a measure, float64 and 0 where there is none, and whether there is one: it is finite."""
    number = batch[bound.column].cast(pa.float64(), safe=False)  # of long integers, the nearest
    good = pc.fill_null(pc.is_finite(number), False)
    if bound.condition is not None:
        number = bound.condition.holds(number).cast(pa.float64())
    return pc.if_else(good, number, 0.0), good


# Models, clusters and answers


def codes(column: pa.ChunkedArray) -> tuple[list[Any], Any]:
    """Return the distinct values, sorted with null last, and each entry's position among them (int64)."""
    encoded = pc.dictionary_encode(column)
    chunks = encoded.unify_dictionaries().chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    if not chunks:
        return [], np.zeros(0, dtype=np.int64)
    names = chunks[0].dictionary
    order = pc.sort_indices(names).to_numpy()
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order] = np.arange(len(order))
    place[-1] = len(order)
    indices = np.concatenate([pc.fill_null(chunk.indices, len(order)).to_numpy() for chunk in chunks])
    has_null = column.null_count > 0
    return names.take(pa.array(order)).to_pylist() + [None] * has_null, place[indices]


def pair_column(source: Scores, by: str) -> str:
    """Choose the column of the clusters as `compare` documents it."""
    # An id that some of the files lack cannot pair their rows.
    everywhere = source.types.keys() - source.lacking.keys()
    if "prompt_id" in everywhere:
        return "prompt_id"
    for name in PAIR_COLUMNS:
        if name in everywhere and name != by and _repeats_across(source, by, name):
            return name
    return "conversation_id" if "conversation_id" in everywhere else ROWS


def _repeats_across(source: Scores, by: str, name: str) -> bool:
    """Tell whether some id comes up under two models; stops at the first."""
    if pa.types.is_nested(source.types[name]) or pa.types.is_nested(source.types[by]):
        return False
    model_of: dict[Any, int] = {}
    seen: pa.Table | None = None
    for batch in source.batches([by, name], []):
        names = pc.dictionary_encode(as_text(batch[by]), null_encoding="encode")
        local = [model_of.setdefault(value, len(model_of)) for value in names.dictionary.to_pylist()]
        codes = pa.array(np.asarray(local, dtype=np.int64)[names.indices.to_numpy()])
        part = pa.table({"id": as_text(batch[name]), "low": codes, "high": codes})
        part = part.filter(pc.is_valid(part["id"]))
        seen = part if seen is None else pa.concat_tables([seen, part])
        seen = (
            seen.group_by("id", use_threads=False)
            .aggregate([("low", "min"), ("high", "max")])
            .rename_columns(["id", "low", "high"])
        )
        if pc.any(pc.less(seen["low"], seen["high"])).as_py():
            return True
    return False


def answers(source: Scores, used: tuple[str, ...]) -> dict[str, int]:
    """Return the columns of `ANSWER` that tell the model's answers from other rows, and how many others there are.

    A model is not what its users say, nor what it does not say aloud. A column that serves for something else, or in
    which all rows are alike, chooses nothing.
    """
    found = {}
    for column in ANSWER:
        if column in source.types and column not in used and not pa.types.is_nested(source.types[column]):
            n = same = 0
            for batch in source.batches([column], []):
                n += batch.num_rows
                same += pc.sum(is_answer(batch, column)).as_py() or 0
            if 0 < same < n:
                found[column] = n - same
    return found


def is_answer(batch: pa.RecordBatch, column: str) -> Any:
    """Tell which rows are answers, as far as one column of `ANSWER` says; never null."""
    return pc.fill_null(pc.equal(as_text(batch[column]), ANSWER[column]), False)


def models_of(column: pa.ChunkedArray, by: str) -> tuple[list[str | None], Any]:
    """Return the models of a column, sorted with null last, and each entry's position among them (int64).

    Raises
    ------
    UsageError
        If there are none, or more than `MOST_MODELS`.
    """
    models, code = codes(column)
    if not models:
        raise UsageError("the scores have no rows, so there is nothing to compare")
    if len(models) > MOST_MODELS:
        raise UsageError(
            f"column {by!r} holds {len(models):,} different values, more than {MOST_MODELS:,}: "
            "choose a column that names models, not rows"
        )
    return models, code


# Sums


def add_up(
    source: Scores,
    by: str,
    keys: Sequence[str],
    read: Sequence[Bound],
    only: Sequence[str] = (),
    turn: str | None = None,
    *,
    size: str | None = None,
    merge: bool = True,
) -> pa.Table:
    """Add up measures per model, keys and turn.

    Parameters
    ----------
    source
        The scores.
    by, keys, turn
        Columns of the model, of ids and of a number; rows without an id are cells of their own.
    read
        The measures.
    only
        Columns of `ANSWER`: rows that are no answers do not count.
    size
        A column of lengths, which becomes the last measure; then rows of other roles are cells, too, with that alone.
    merge
        False makes every row a cell.

    Returns
    -------
    pyarrow.Table
        `by`, `key<i>` (large_string), `turn` (int64), `rows` (int64), and of each measure `sum<i>` (float64) and
        `count<i>` (int64): cells in no particular order.

    Raises
    ------
    UsageError
        If `turn` does not number rows.
    """
    measures = len(read) + (size is not None)
    totals = ["rows", *(f"{what}{i}" for i in range(measures) for what in ("sum", "count"))]
    groups = ["by", *(f"key{i}" for i in range(len(keys))), *(["turn"] if turn else [])]
    parts: list[pa.Table] = []
    held = merged = seen = 0

    def added() -> pa.Table:
        table = pa.concat_tables(parts)
        if not merge:
            return table
        grouped = table.group_by(groups, use_threads=False).aggregate([(name, "sum") for name in totals])
        return grouped.select([*groups, *(f"{t}_sum" for t in totals)]).rename_columns([*groups, *totals])

    labels = list(dict.fromkeys([by, *keys, *([turn] if turn else []), *only]))
    numbers = list(dict.fromkeys([b.column for b in read] + ([size] if size else [])))
    for batch in source.batches(labels, numbers):
        for column in only:
            if not (size and column == "role"):
                batch = batch.filter(is_answer(batch, column))
        if not batch.num_rows:
            continue
        # Where `size` is asked for, rows of others stay for the length of their text alone.
        counts_in = is_answer(batch, "role") if size and "role" in only else None
        columns: dict[str, Any] = {"by": as_text(batch[by])}
        for i, key in enumerate(keys):
            columns[f"key{i}"] = _filled(as_text(batch[key]), seen)
        if turn:
            columns["turn"] = _numbers(batch, turn)
        ones = pa.array(np.ones(batch.num_rows, np.int64))
        columns["rows"] = ones if counts_in is None else counts_in.cast(pa.int64())
        for i, bound in enumerate(read):
            number, good = values(batch, bound)
            if counts_in is not None:
                number, good = pc.if_else(counts_in, number, 0.0), pc.and_(good, counts_in)
            columns[f"sum{i}"], columns[f"count{i}"] = number, good.cast(pa.int64())
        if size:
            columns[f"sum{measures - 1}"] = pc.fill_null(batch[size].cast(pa.float64()), 0.0)
            columns[f"count{measures - 1}"] = ones
        parts.append(pa.table(columns))
        seen += batch.num_rows
        held += batch.num_rows
        if merge and held > max(_MERGE_CELLS, merged):
            parts = [added()]
            merged, held = parts[0].num_rows, 0
    if not parts:
        empty = {**dict.fromkeys(groups, pa.large_string()), **dict.fromkeys(totals, pa.float64())}
        return pa.schema(list(empty.items())).empty_table()
    return added()


def _filled(names: Any, seen: int) -> Any:
    """Give rows without a name one of their own, which NUL keeps apart from every real one."""
    if not names.null_count:
        return names
    position = pa.array(np.arange(seen, seen + len(names))).cast(pa.large_string())
    nul, nothing = pa.scalar("\0", pa.large_string()), pa.scalar("", pa.large_string())
    return pc.coalesce(names, pc.binary_join_element_wise(nul, position, nothing))


def _numbers(batch: pa.RecordBatch, column: str) -> Any:
    try:
        found = batch[column].cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"column {column!r} does not number turns ({reason}): choose another with turn") from None
    if found.null_count:
        raise UsageError(f"column {column!r} has {found.null_count:,} nulls: every row needs the number of its turn")
    return found
