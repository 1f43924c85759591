"""Compare the models behind a set of scores: a leaderboard with paired cluster-bootstrap intervals.

Only the needed columns are read, file by file and batch by batch, and added up per pair of model and cluster; memory
holds those sums, not the rows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import AffectcoreError, InputError, UsageError
from affectcore.metrics.registry import GROUPS, METRICS, select
from affectcore.stats.bootstrap import cluster_bootstrap, interval, rank_interval, ranks

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["PAIR_COLUMNS", "Comparison", "columns", "compare"]

Order = Literal["ascending", "descending"]

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

_ROWS = "rows"  # the value of pair_by that makes every row a cluster of its own
_BATCH_ROWS = 1 << 16
_MERGE_CELLS = 1 << 20
_MAX_MODELS = 1000
_FEW_CLUSTERS = 20
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
_SCHEMA = pa.schema(
    [
        ("by", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("n_clusters", pa.int64()),
        ("mean", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("rank", pa.int64()),
        ("rank_low", pa.int64()),
        ("rank_high", pa.int64()),
        ("diff_to_best", pa.float64()),
        ("diff_low", pa.float64()),
        ("diff_high", pa.float64()),
        ("n_null", pa.int64()),
    ]
)
_PAIRS_SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("diff", pa.float64()),
        ("diff_low", pa.float64()),
        ("diff_high", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`.

    Parameters
    ----------
    table
        One row per metric and model, best rank first: `by` (string, null where the column was null), `metric`, `n`
        (values), `n_clusters`, `mean`, `ci_low`, `ci_high`, `rank` (1 is first, equal means share a rank), `rank_low`,
        `rank_high`, `diff_to_best` (mean minus the mean of the first), `diff_low`, `diff_high`, `n_null` (rows left out
        because their value is null or not finite). Intervals are null where fewer than two clusters have values.
    pairs
        One row per metric and pair of models, `a` ranked before `b`: `metric`, `a`, `b`, `diff` (mean of `a` minus mean
        of `b`), `diff_low`, `diff_high`.
    by
        Column that names the models.
    pair_by
        Column whose values are the clusters, or `rows`.
    metrics
        Names of the compared columns.
    orders
        For each metric, `descending` (the highest mean is first) or `ascending`.
    n_models, n_clusters, n_rows
        Numbers of models, clusters and rows.
    paired
        True if models share clusters, so that differences are taken within clusters.
    n_resamples, seed, confidence
        Settings of the bootstrap.
    notes
        What a reader of the numbers must know, as sentences.
    """

    table: pa.Table
    pairs: pa.Table
    by: str
    pair_by: str
    metrics: tuple[str, ...]
    orders: dict[str, Order]
    n_models: int
    n_clusters: int
    n_rows: int
    paired: bool
    n_resamples: int
    seed: int
    confidence: float
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The clusters, replicates, seed and interval method, as one line."""
        what = f"{self.n_clusters:,} {'cluster' if self.n_clusters == 1 else 'clusters'}"
        how = "every row is one" if self.pair_by == _ROWS else f"by {self.pair_by}"
        return (
            f"{what} ({how}{', paired across models' if self.paired else ''}); {self.n_resamples:,} bootstrap "
            f"replicates, seed {self.seed}; {self.confidence * 100:g}% percentile intervals"
        )

    def settings(self) -> dict[str, Any]:
        """Return everything but the numbers, as plain, JSON-able values."""
        return {
            "by": self.by,
            "pair_by": self.pair_by,
            "paired": self.paired,
            "orders": self.orders,
            "metrics": {m: METRICS[m].version if m in METRICS else None for m in self.metrics},
            "n_models": self.n_models,
            "n_clusters": self.n_clusters,
            "n_rows": self.n_rows,
            "n_resamples": self.n_resamples,
            "seed": self.seed,
            "confidence": self.confidence,
            "interval": "percentile of the cluster bootstrap",
            "notes": list(self.notes),
        }

    def to_rich(self) -> RenderableType:
        """Return the leaderboard as a rich renderable that fits the console it is printed on."""
        from affectcore.report.table import Leaderboard

        return Leaderboard(self)

    def to_json(self) -> str:
        """Return settings, leaderboard and pairs as a JSON object that ends with a line feed."""
        content = {**self.settings(), "leaderboard": self.table.to_pylist(), "pairs": self.pairs.to_pylist()}
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return the leaderboard as CSV with a header line; numbers are not rounded."""
        from affectcore.report.table import csv_text

        return csv_text(self.table)

    def to_markdown(self) -> str:
        """Return the leaderboard as one Markdown table per metric, with the method below."""
        from affectcore.report.table import markdown

        return markdown(self)

    def __str__(self) -> str:
        """Return the leaderboard as plain text, 80 columns wide."""
        from affectcore.report.table import plain

        return plain(self)


def compare(
    scores: Any,
    by: str = "model",
    metrics: str | Iterable[str] | None = None,
    pair_by: str | None = None,
    *,
    order: Order | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """Rank the models behind a set of scores, with intervals that respect repeated prompts.

    Parameters
    ----------
    scores
        Path, glob pattern or folder of score files (Parquet, Arrow IPC, JSONL or CSV), several of those, or anything
        with the Arrow stream interface (a PyArrow or Polars table, ...).
    by
        Column that names the models; its nulls make a model of their own.
    metrics
        Numeric columns, or names of groups of the registry; by default `vader_compound`.
    pair_by
        Column whose values are the clusters that are resampled. By default `prompt_id`; else the first of
        `PAIR_COLUMNS` whose ids come up under several models; else `conversation_id`; else every row is a cluster.
        ``"rows"`` asks for the last. A row whose id is null is a cluster of its own.
    order
        Which mean is first; by default as the registry says: ascending where higher is worse, else descending.
    n_resamples
        Number of bootstrap replicates.
    seed
        Seed of the bootstrap: same scores, same seed, same numbers.
    confidence
        Share of the replicates inside an interval.

    Returns
    -------
    Comparison
        Values that are null, NaN or infinite are left out and counted in `n_null`. Of scores of turns and parts, only
        rows of the role `assistant` and the part `answer` count where there are others, and a note says so, unless
        `by` or `pair_by` is that column.

    Raises
    ------
    UsageError
        If a column is missing (the message lists those there are) or not numeric, an option is out of range, or there
        are no rows.
    InputError
        If a file is missing or cannot be read.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, not {confidence:g}")
    needed = int(np.ceil(2 / (1 - confidence) - 1e-9))
    if n_resamples < needed:
        raise UsageError(
            f"{n_resamples} replicates are too few for a {confidence * 100:g}% interval: use at least {needed}"
        )
    if seed < 0:
        raise UsageError(f"seed must be at least 0, not {seed}")
    if order not in (None, "ascending", "descending"):
        raise UsageError(f"unknown order {order!r}: choose ascending or descending, or leave it out")

    source = _open(scores)
    source.require([by], "the column that names the models; choose another with by (--by)")
    names = _metric_names(metrics, source)
    source.require(names, "the metric to compare; choose others with metrics (--metric)")
    for name in names:
        if not _is_numeric(source.types[name]):
            raise UsageError(f"column {name!r} holds {source.types[name]}, not numbers: choose another metric")
    if pair_by is not None and not (pair_by == _ROWS and _ROWS not in source.types):
        source.require([pair_by], "the column that pairs rows; choose another with pair_by (--pair-by)")
    key = pair_by or _pair_column(source, by)
    for column in {by, key} - {_ROWS}:
        if pa.types.is_nested(source.types[column]):
            raise UsageError(f"column {column!r} holds {source.types[column]}: a column of names or ids is needed")

    only = _answers(source, (by, key))
    cells = _add_up(source, by, key, names, only)
    models, model_codes = _codes(cells["by"])
    if not models:
        raise UsageError("the scores have no rows, so there is nothing to compare")
    if len(models) > _MAX_MODELS:
        raise UsageError(
            f"column {by!r} holds {len(models):,} different values, more than {_MAX_MODELS:,}: "
            "choose a column that names models, not rows"
        )
    clusters, cluster_codes = _codes(cells["cluster"])
    n_clusters = len(clusters)
    sums = np.stack([cells[f"sum{i}"].to_numpy() for i in range(len(names))], axis=1)
    counts = np.stack([cells[f"count{i}"].to_numpy() for i in range(len(names))], axis=1)
    n_rows = np.zeros(len(models), dtype=np.int64)
    np.add.at(n_rows, model_codes, cells["rows"].to_numpy())
    del cells, clusters  # the names of clusters take more memory than all the rest
    boot = cluster_bootstrap(
        sums, counts, cluster_codes, model_codes, n_models=len(models), n_resamples=n_resamples, seed=seed
    )

    orders: dict[str, Order] = {name: order or _registry_order(name) for name in names}
    parts = [
        _leaderboard(
            name,
            models,
            boot.mean[:, i],
            boot.n_values[:, i],
            boot.n_clusters[:, i],
            n_rows,
            boot.replicates[:, :, i],
            orders[name] == "descending",
            confidence,
        )
        for i, name in enumerate(names)
    ]
    table = pa.concat_tables([part[0] for part in parts])
    return Comparison(
        table=table,
        pairs=pa.concat_tables([part[1] for part in parts]),
        by=by,
        pair_by=key,
        metrics=tuple(names),
        orders=orders,
        n_models=len(models),
        n_clusters=n_clusters,
        n_rows=int(n_rows.sum()),
        paired=boot.paired,
        n_resamples=n_resamples,
        seed=seed,
        confidence=confidence,
        notes=(
            *_overlap(models, model_codes, cluster_codes, key, boot.paired),
            *_notes(source, table, key, boot.paired, pair_by is None),
            *(f"{n:,} rows whose {column} is not {_ANSWER[column]} were left out." for column, n in only.items()),
        ),
    )


def columns(scores: Any) -> list[str]:
    """Return the names of the columns of a set of scores, given as for `compare`.

    Raises
    ------
    UsageError, InputError
        As `compare` does.
    """
    return list(_open(scores).types)


def _metric_names(metrics: str | Iterable[str] | None, source: _Scores) -> list[str]:
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
                names.append(stem)  # reported as missing by the caller, who lists the columns there are
    if not names:
        raise UsageError(f"no metric to compare: {', '.join(given) or 'none'} names no column of the scores")
    return list(dict.fromkeys(names))


def _registry_order(name: str) -> Order:
    return "ascending" if name in METRICS and METRICS[name].higher_is == "worse" else "descending"


def _is_numeric(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    ) or pa.types.is_null(kind)


def _leaderboard(
    metric: str,
    models: list[str | None],
    mean: Any,
    n_values: Any,
    n_clusters: Any,
    n_rows: Any,
    replicates: Any,
    descending: bool,
    confidence: float,
) -> tuple[pa.Table, pa.Table]:
    """Build the rows of one metric for the leaderboard and for the pairs."""
    rank = ranks(mean, descending=descending)
    # One cluster cannot show how much clusters differ: its replicates are all alike, an interval would have no width.
    known = n_clusters >= 2
    low, high = interval(replicates, confidence)
    rank_low, rank_high = rank_interval(replicates, confidence, descending=descending)
    order = sorted(range(len(models)), key=lambda i: (rank[i], models[i] is None, models[i] or ""))
    best = order[0]
    rows, pairs = [], []
    best_low, best_high = interval(replicates - replicates[:, best, None], confidence)
    for place, i in enumerate(order):
        scored = bool(n_values[i])
        apart = bool(known[i] and known[best] and i != best)
        rows.append(
            {
                "by": models[i],
                "metric": metric,
                "n": int(n_values[i]),
                "n_clusters": int(n_clusters[i]),
                "mean": mean[i] if scored else None,
                "ci_low": low[i] if known[i] else None,
                "ci_high": high[i] if known[i] else None,
                "rank": int(rank[i]) if scored else None,
                "rank_low": int(rank_low[i]) if known[i] else None,
                "rank_high": int(rank_high[i]) if known[i] else None,
                "diff_to_best": mean[i] - mean[best] if scored else None,
                "diff_low": best_low[i] if apart else None,
                "diff_high": best_high[i] if apart else None,
                "n_null": int(n_rows[i] - n_values[i]),
            }
        )
        after = order[place + 1 :]
        pair_low, pair_high = interval(replicates[:, i, None] - replicates[:, after], confidence)
        for j, a, b in zip(after, pair_low, pair_high):
            both = bool(known[i] and known[j])
            pairs.append(
                {
                    "metric": metric,
                    "a": models[i],
                    "b": models[j],
                    "diff": mean[i] - mean[j] if scored and n_values[j] else None,
                    "diff_low": a if both else None,
                    "diff_high": b if both else None,
                }
            )
    return pa.Table.from_pylist(rows, schema=_SCHEMA), pa.Table.from_pylist(pairs, schema=_PAIRS_SCHEMA)


def _overlap(models: list[str | None], model_codes: Any, cluster_codes: Any, key: str, paired: bool) -> Iterator[str]:
    """Say where models were not asked the same: a difference may then lie in the prompts."""
    if not paired:
        return
    shared = np.bincount(cluster_codes)[cluster_codes] > 1
    mates = np.bincount(model_codes, weights=shared, minlength=len(models))
    owned = np.bincount(model_codes, minlength=len(models))
    lonely = [name for name, count in zip(models, mates) if not count]
    if lonely:
        verb = "shares" if len(lonely) == 1 else "share"
        yield (
            f"{_few(lonely)} {verb} no {key} with another model: those differences are not paired, "
            "and part of them may lie in the prompts."
        )
    elif owned.min() < owned.max():
        yield (
            f"Models have between {owned.min():,} and {owned.max():,} of the {int(cluster_codes.max()) + 1:,} clusters "
            f"(by {key}): part of a difference may lie in the prompts."
        )


def _notes(source: _Scores, table: pa.Table, key: str, paired: bool, chosen: bool) -> Iterator[str]:
    rows = table.to_pylist()
    alone = {row["by"] for row in rows if row["n_clusters"] == 1}
    if alone:
        yield f"No interval for {_few(alone)}: values of one cluster only, which cannot show how much clusters differ."
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == metric and row["ci_low"] is not None]
        flat = {row["by"] for row in mine if not has_width(row)}
        if flat:
            yield f"{metric}: no width for {_few(flat)}, whose clusters all have one mean; that is not certainty."
    smallest = min((row["n_clusters"] for row in rows if row["n_clusters"] > 1), default=_FEW_CLUSTERS)
    if smallest < _FEW_CLUSTERS:
        yield f"Only {smallest} clusters: percentile intervals from so few tend to be too narrow."
    left_out = sum(row["n_null"] for row in rows)
    if left_out:
        yield f"{left_out:,} {'value is' if left_out == 1 else 'values are'} null and left out (column n_null)."
    if key == _ROWS and chosen:
        yield "No prompt or conversation id was found, so rows count as independent; --pair-by can name one."
    elif not paired and len(set(table["by"].to_pylist())) > 1:
        why = "Rows stand alone" if key == _ROWS else f"No {key} comes up under two models"
        yield f"{why}, so differences are not paired."
    if source.mixed:
        yield f"The score files were made with different settings: {source.mixed}."


def has_width(row: dict[str, Any]) -> bool:
    """Tell whether the interval of a row of `Comparison.table` is wider than rounding makes it; False without one."""
    if row["ci_low"] is None:
        return False
    return bool(row["ci_high"] - row["ci_low"] > 1e-9 * abs(row["mean"]))


def _few(names: Iterable[str | None]) -> str:
    known = sorted("(null)" if name is None else name for name in names)
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")


def _codes(column: pa.ChunkedArray) -> tuple[list[Any], Any]:
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


def _pair_column(source: _Scores, by: str) -> str:
    """Choose the column of the clusters as `compare` documents it."""
    # An id that some of the files lack cannot pair their rows.
    everywhere = source.types.keys() - source.lacking.keys()
    if "prompt_id" in everywhere:
        return "prompt_id"
    for name in PAIR_COLUMNS:
        if name in everywhere and name != by and _repeats_across(source, by, name):
            return name
    return "conversation_id" if "conversation_id" in everywhere else _ROWS


def _repeats_across(source: _Scores, by: str, name: str) -> bool:
    """Tell whether some id comes up under two models; stops at the first."""
    if pa.types.is_nested(source.types[name]) or pa.types.is_nested(source.types[by]):
        return False
    model_of: dict[Any, int] = {}
    seen: pa.Table | None = None
    for batch in source.batches([by, name], []):
        names = pc.dictionary_encode(_as_text(batch[by]), null_encoding="encode")
        local = [model_of.setdefault(value, len(model_of)) for value in names.dictionary.to_pylist()]
        codes = pa.array(np.asarray(local, dtype=np.int64)[names.indices.to_numpy()])
        part = pa.table({"id": _as_text(batch[name]), "low": codes, "high": codes})
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


_ANSWER = {"role": "assistant", "part": "answer"}
"""Columns that say whose words a row is about, and of which rows a model's means are made."""


def _answers(source: _Scores, used: tuple[str, ...]) -> dict[str, int]:
    """Return the columns of `_ANSWER` that tell the model's answers from other rows, and how many others there are.

    A model is not what its users say, nor what it does not say aloud. A column that serves for something else, or in
    which all rows are alike, chooses nothing.
    """
    found = {}
    for column in _ANSWER:
        if column in source.types and column not in used and not pa.types.is_nested(source.types[column]):
            n = same = 0
            for batch in source.batches([column], []):
                n += batch.num_rows
                same += pc.sum(_is_answer(batch, column)).as_py() or 0
            if 0 < same < n:
                found[column] = n - same
    return found


def _is_answer(batch: pa.RecordBatch, column: str) -> Any:
    return pc.fill_null(pc.equal(_as_text(batch[column]), _ANSWER[column]), False)


def _add_up(source: _Scores, by: str, key: str, names: list[str], only: Iterable[str] = ()) -> pa.Table:
    """Add up values per pair of model and cluster: columns by, cluster, rows, sum<i> and count<i> of metric i.

    Rows count that are answers as all the columns `only` say.
    """
    labels = list(dict.fromkeys([by, *([] if key == _ROWS else [key]), *only]))
    totals = ["rows", *(f"{what}{i}" for i in range(len(names)) for what in ("sum", "count"))]
    parts: list[pa.Table] = []
    held = merged = seen = 0

    def merge() -> pa.Table:
        table = pa.concat_tables(parts)
        if key == _ROWS:
            return table
        grouped = table.group_by(["by", "cluster"], use_threads=False).aggregate([(name, "sum") for name in totals])
        return grouped.select(["by", "cluster", *(f"{t}_sum" for t in totals)]).rename_columns(
            ["by", "cluster", *totals]
        )

    for batch in source.batches(labels, names):
        for column in only:
            batch = batch.filter(_is_answer(batch, column))
        if not batch.num_rows:
            continue
        position = pa.array(np.arange(seen, seen + batch.num_rows))
        seen += batch.num_rows
        values: dict[str, Any] = {"by": _as_text(batch[by])}
        if key == _ROWS:
            values["cluster"] = position
        else:
            values["cluster"] = _as_text(batch[key])
            if values["cluster"].null_count:
                # NUL keeps the made-up name of a row without id apart from every real one.
                nul, nothing = pa.scalar("\0", pa.large_string()), pa.scalar("", pa.large_string())
                alone = pc.binary_join_element_wise(nul, position.cast(pa.large_string()), nothing)
                values["cluster"] = pc.coalesce(values["cluster"], alone)
        values["rows"] = pa.array(np.ones(batch.num_rows, dtype=np.int64))
        for i, name in enumerate(names):
            number = batch[name].cast(pa.float64())
            good = pc.fill_null(pc.is_finite(number), False)
            values[f"sum{i}"] = pc.if_else(good, number, 0.0)
            values[f"count{i}"] = good.cast(pa.int64())
        parts.append(pa.table(values))
        if key != _ROWS:
            held += batch.num_rows
            if held > max(_MERGE_CELLS, merged):
                parts = [merge()]
                merged, held = parts[0].num_rows, 0
    if not parts:
        empty = {name: pa.array([], pa.float64()) for name in totals}
        return pa.table({"by": pa.array([], pa.large_string()), "cluster": pa.array([], pa.large_string()), **empty})
    return merge()


def _as_text(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string())


@dataclass
class _Scores:
    """Score files or a table, readable several times by column."""

    label: str
    types: dict[str, pa.DataType]
    batches: Callable[[list[str], list[str]], Iterator[pa.RecordBatch]]  # of (columns of names and ids, metrics)
    mixed: str = ""
    lacking: dict[str, str] = field(default_factory=dict)  # column -> first file without it

    def require(self, names: Sequence[str], what: str) -> None:
        """Raise UsageError if a column is missing, naming those there are."""
        for name in names:
            if name in self.types and name not in self.lacking:
                continue
            where = self.lacking.get(name, self.label)
            close = difflib.get_close_matches(name, self.types, n=1)
            hint = f"; did you mean {close[0]!r}" if close and close[0] != name else ""
            there = ", ".join(column for column in self.types if self.lacking.get(column) != where)
            raise UsageError(f"{where} has no column {name!r} ({what}){hint}. The columns are: {there}")


def _open(scores: Any) -> _Scores:
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
    return _Scores(
        "the table",
        {f.name: f.type for f in table.schema},
        lambda labels, numbers: iter(
            table.select(list(dict.fromkeys([*labels, *numbers]))).to_batches(max_chunksize=_BATCH_ROWS)
        ),
    )


def _open_files(given: Sequence[str | Path]) -> _Scores:
    files = _find(given)
    types: dict[str, pa.DataType] = {}
    columns_of: list[set[str]] = []
    settings: dict[bytes, Any] = {}
    differing: dict[str, None] = {}
    for path in files:
        schema = _guard(path, partial(_schema, path))
        columns_of.append(set(schema.names))
        for column in schema:
            types.setdefault(column.name, column.type)
        found = {k: v for k, v in (schema.metadata or {}).items() if k not in (b"ARROW:schema", b"pandas")}
        for name, value in found.items():
            if settings.setdefault(name, value) != value:
                differing.update(dict.fromkeys(_different_settings(name, settings[name], value)))
    lacking = {name: str(path) for name in types for path, there in zip(files, columns_of) if name not in there}

    def batches(labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
        for path in files:
            reader = _read(path, labels, numbers)
            while (batch := _guard(path, partial(next, reader, None))) is not None:
                yield batch

    label = str(files[0]) if len(files) == 1 else f"the {len(files)} score files"
    return _Scores(label, types, batches, ", ".join(differing), lacking)


def _different_settings(name: bytes, one: bytes, other: bytes) -> list[str]:
    """Name what differs between two values of a metadata key, each with both values where they are settings of ours."""
    try:
        a, b = json.loads(one), json.loads(other)
        return [f"{k} ({a.get(k)} and {b.get(k)})" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    except (ValueError, AttributeError):
        return [name.decode(errors="replace")]


def _find(given: Sequence[str | Path]) -> list[Path]:
    """Return the score files that paths, folders and glob patterns stand for, each once."""
    files: dict[Path, None] = {}
    for item in given:
        path = Path(item)
        if path.is_file():
            if path.suffix.lower() not in _FORMATS:
                raise UsageError(f"{path}: unknown kind of file; score files end in {', '.join(_FORMATS)}")
            files[path] = None
            continue
        if path.is_dir():
            found = [path]
        else:
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))) if str(item) else []
            if not found:
                raise InputError(path, "there is no such file or folder", "check the path")
        inside = [f for p in found for f in (sorted(p.rglob("*")) if p.is_dir() else [p])]
        kept = [f for f in inside if f.is_file() and _is_score_file(f, path if path.is_dir() else None)]
        if not kept:
            raise InputError(path, "no score files in it", f"score files end in {', '.join(_FORMATS)}")
        files.update(dict.fromkeys(kept))
    if not files:
        raise UsageError("no score files were given")
    return list(files)


def _is_score_file(path: Path, folder: Path | None) -> bool:
    parts = path.relative_to(folder).parts if folder else (path.name,)
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and path.suffix.lower() in _FORMATS and not path.name.endswith(".errors.jsonl")


def _guard(path: Path, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except AffectcoreError:
        raise
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise InputError(path, reason, "is it a complete score file? Score the dump again or leave it out") from error


def _schema(path: Path) -> pa.Schema:
    kind = _FORMATS[path.suffix.lower()]
    if path.stat().st_size == 0:
        raise InputError(path, "the file is empty", "score the dump again or leave it out")
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.read_schema(path)
    if kind == "ipc":
        with _ipc(path) as reader:
            return reader.schema
    with _text_reader(path, kind, None) as reader:
        return reader.schema


def _read(path: Path, labels: list[str], numbers: list[str]) -> Iterator[pa.RecordBatch]:
    columns = list(dict.fromkeys([*labels, *numbers]))
    kind = _FORMATS[path.suffix.lower()]
    if kind == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
    elif kind == "ipc":
        with _ipc(path) as reader:
            whole = (
                (reader.get_batch(i) for i in range(reader.num_record_batches))
                if isinstance(reader, pa.ipc.RecordBatchFileReader)
                else reader
            )
            for batch in whole:
                yield batch.select(columns)
    else:
        with _text_reader(path, kind, (labels, numbers)) as reader:
            for batch in reader:
                yield batch.select(columns)


def _ipc(path: Path) -> Any:
    # A memory map reads the needed columns only. Both flavours of the format use the same file extensions.
    with path.open("rb") as file:
        magic = file.read(6)
    return (
        pa.ipc.open_file(pa.memory_map(str(path)))
        if magic == b"ARROW1"
        else pa.ipc.open_stream(pa.memory_map(str(path)))
    )


def _text_reader(path: Path, kind: str, wanted: tuple[list[str], list[str]] | None) -> Any:
    """Open JSONL or CSV for streaming; `wanted` are the columns to parse, those of names or ids and the metrics.

    Metrics are read as float64: by its first values alone, a metric could pass for a column of integers.
    """
    labels, numbers = wanted or ([], [])
    if kind == "jsonl":
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
