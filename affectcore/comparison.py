"""Compare the models behind a set of scores: a leaderboard with paired cluster-bootstrap intervals.

Only the needed columns are read, file by file and batch by batch, and added up per pair of model and cluster; memory
holds those sums, not the rows.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import UsageError
from affectcore.io.scorefiles import Condition, Scores, as_text, open_scores
from affectcore.metrics.registry import GROUPS, METRICS, select
from affectcore.settings import usable_cores
from affectcore.stats.bootstrap import (
    Bootstrap,
    check_settings,
    cluster_bootstrap,
    expanded_interval,
    rank_interval,
    ranks,
)
from affectcore.stats.paired import cliffs_delta, holm, scipy, sign_flip

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
_MERGE_CELLS = 1 << 20
_MAX_MODELS = 1000
_MAX_FACETS = 100
_FEW_CLUSTERS = 10
_TABLE_CELLS = 1 << 24  # of cluster means that effect sizes hold at a time
_MANY_PAIRS = 10_000  # from which on a mean's distribution under sign flips is taken to be normal
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
        ("d_to_best", pa.float64()),
        ("delta_to_best", pa.float64()),
        ("p_to_best", pa.float64()),
        ("p_holm_to_best", pa.float64()),
    ]
)
_BASELINE_COLUMNS = (
    "diff_to_baseline",
    "diff_low_to_baseline",
    "diff_high_to_baseline",
    "d_to_baseline",
    "delta_to_baseline",
    "p_to_baseline",
    "p_holm_to_baseline",
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
    where, baseline, facet
        As they were given.
    facets
        The same comparison of the rows of each value of `facet`.
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
    where: tuple[str, ...] = ()
    baseline: str | None = None
    facet: str | None = None
    facets: dict[str | None, Comparison] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The clusters, replicates, seed and interval method, as one line."""
        what = f"{self.n_clusters:,} {'cluster' if self.n_clusters == 1 else 'clusters'}"
        how = "every row is one" if self.pair_by == _ROWS else f"by {self.pair_by}"
        return (
            f"{what} ({how}{', paired across models' if self.paired else ''}); {self.n_resamples:,} bootstrap "
            f"replicates, seed {self.seed}; {self.confidence * 100:g}% expanded percentile intervals"
            + (f"; rows where {' and '.join(self.where)}" if self.where else "")
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
            "interval": "expanded percentile of the cluster bootstrap",
            "where": list(self.where),
            "baseline": self.baseline,
            "facet": self.facet,
            "notes": list(self.notes),
        }

    def to_rich(self) -> RenderableType:
        """Return the leaderboard as a rich renderable that fits the console it is printed on."""
        from affectcore.report.table import Leaderboard

        return Leaderboard(self)

    def to_json(self) -> str:
        """Return settings, leaderboard and pairs as a JSON object that ends with a line feed."""
        rows = self.with_facets().to_pylist()
        content = {**self.settings(), "leaderboard": rows, "pairs": self.pairs.to_pylist()}
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return the leaderboard as CSV with a header line; numbers are not rounded."""
        from affectcore.report.table import csv_text

        return csv_text(self.with_facets())

    def with_facets(self) -> pa.Table:
        """Return the table, with the rows of all facets behind it, if there are: column `facet`, null for all rows."""
        if self.facet is None:
            return self.table
        parts: list[tuple[str | None, pa.Table]] = [(None, self.table)]
        parts += [("(null)" if value is None else value, part.table) for value, part in self.facets.items()]
        named = [t.add_column(0, "facet", pa.array([value] * t.num_rows, pa.string())) for value, t in parts]
        return pa.concat_tables(named)

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
    where: str | Iterable[str] = (),
    baseline: str | None = None,
    facet: str | None = None,
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
        Numeric columns, or names of groups of the registry; by default `vader_compound`. A column with a bound,
        such as ``distress>=0.5``, is compared by the share of its values that meet it.
    pair_by
        Column whose values are the clusters that are resampled. By default `prompt_id`; else the first of
        `PAIR_COLUMNS` whose ids come up under several models; else `conversation_id`; else every row is a cluster.
        ``"rows"`` asks for the last. A row whose id is null is a cluster of its own.
    order
        Which mean is first; by default as the registry says: ascending where higher is worse, else descending.
    where
        Conditions that rows must meet, such as ``dataset=mt-bench`` or ``n_words>=5``, all of them. Nulls meet none.
    baseline
        Model whose difference to every other is reported, too.
    facet
        Column by whose values the comparison is made once more each (`Comparison.facets`).
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
    check_settings(n_resamples, seed, confidence)
    if order not in (None, "ascending", "descending"):
        raise UsageError(f"unknown order {order!r}: choose ascending or descending, or leave it out")

    conditions = [where] if isinstance(where, str) else list(where)
    source = open_scores(scores).where(conditions)
    source.require([by], "the column that names the models; choose another with by (--by)")
    names = _metric_names(metrics, source)
    read = {name: _bound(name, source) for name in names}
    source.require(
        [bound.column for bound in read.values()], "the metric to compare; choose others with metrics (--metric)"
    )
    for bound in read.values():
        if not _is_numeric(source.types[bound.column]):
            raise UsageError(
                f"column {bound.column!r} holds {source.types[bound.column]}, not numbers: choose another metric"
            )
    if pair_by is not None and not (pair_by == _ROWS and _ROWS not in source.types):
        source.require([pair_by], "the column that pairs rows; choose another with pair_by (--pair-by)")
    key = pair_by or _pair_column(source, by)
    for column in {by, key} - {_ROWS}:
        if pa.types.is_nested(source.types[column]):
            raise UsageError(f"column {column!r} holds {source.types[column]}: a column of names or ids is needed")

    only = _answers(source, (by, key))
    cells = _add_up(source, by, key, list(read.values()), only)
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
    if baseline is not None and baseline not in models:
        close = difflib.get_close_matches(baseline, [m for m in models if m], n=1)
        raise UsageError(
            f"there is no model {baseline!r} in column {by!r}"
            + (f": did you mean {close[0]!r}?" if close else f"; there are {_few(models)}")
        )
    n_rows = np.zeros(len(models), dtype=np.int64)
    np.add.at(n_rows, model_codes, cells["rows"].to_numpy())
    uneven = "" if key == _ROWS else _uneven(cells["rows"].to_numpy(), by, key)
    del cells, clusters  # the names of clusters take more memory than all the rest
    boot = cluster_bootstrap(
        sums, counts, cluster_codes, model_codes, n_models=len(models), n_resamples=n_resamples, seed=seed
    )

    orders: dict[str, Order] = {name: order or _registry_order(read[name]) for name in names}
    base = None if baseline is None else models.index(baseline)

    def leaderboard(i: int) -> tuple[pa.Table, pa.Table]:
        cells = _Cells(model_codes, cluster_codes, sums[:, i], counts[:, i], n_clusters)
        descending = orders[names[i]] == "descending"
        return _leaderboard(names[i], models, boot, i, cells, n_rows, descending, confidence, base, seed)

    with ThreadPoolExecutor(usable_cores()) as pool:  # NumPy lets go of the interpreter lock while it sorts
        parts = list(pool.map(leaderboard, range(len(names))))
    table = pa.concat_tables([part[0] for part in parts])
    facets = {}
    for value in [] if facet is None else source.distinct(facet, _MAX_FACETS):
        part = Condition(facet or "", "=", value)
        facets[value] = compare(
            source.where([part]), by, names, key, order=order, baseline=baseline, n_resamples=n_resamples, seed=seed,
            confidence=confidence,
        )  # fmt: skip
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
        where=tuple(conditions),
        baseline=baseline,
        facet=facet,
        facets=facets,
        notes=(
            *_overlap(models, model_codes, cluster_codes, key, boot.paired),
            *([uneven] if uneven else []),
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
    return list(open_scores(scores).types)


def _metric_names(metrics: str | Iterable[str] | None, source: Scores) -> list[str]:
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
                names.append(
                    stem
                )  # a bound on a column, or else reported as missing by the caller, who lists the columns there are
    if not names:
        raise UsageError(f"no metric to compare: {', '.join(given) or 'none'} names no column of the scores")
    return list(dict.fromkeys(names))


class _Bound(NamedTuple):
    """A column, or the share of its values that meet a bound."""

    column: str
    condition: Condition | None = None


_IS_BOUND = re.compile(r".+?(>=|<=|>|<|=)")


def _bound(name: str, source: Scores) -> _Bound:
    if name in source.types or not _IS_BOUND.match(name):
        return _Bound(name)
    condition = Condition.parse(name)
    condition.number()
    return _Bound(condition.column, condition)


def _registry_order(bound: _Bound) -> Order:
    worse = bound.column in METRICS and METRICS[bound.column].higher_is == "worse"
    below = bound.condition is not None and bound.condition.operator.startswith("<")
    return "ascending" if worse != below else "descending"


def _is_numeric(kind: pa.DataType) -> bool:
    return any(
        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    ) or pa.types.is_null(kind)


class _Cells(NamedTuple):
    """Sums and counts of one metric for pairs of model and cluster."""

    model: Any  # int64 (cells,)
    cluster: Any  # int64 (cells,)
    sums: Any  # float64 (cells,)
    counts: Any  # float64 (cells,)
    n_clusters: int

    def means(self, models: range) -> Any:
        """Return means by cluster and model of a range, float64 (clusters, models), NaN without a value."""
        out = np.full((self.n_clusters, len(models)), np.nan)
        at = (self.model >= models.start) & (self.model < models.stop) & (self.counts > 0)
        out[self.cluster[at], self.model[at] - models.start] = self.sums[at] / self.counts[at]
        return out


def _effects(cells: _Cells, n_models: int, reference: int, paired: bool, seed: int) -> dict[str, Any]:
    """Return effect sizes and p-values of every model against one: arrays (models,), NaN for that one itself.

    Paired by cluster, or, where no cluster has two models, of the clusters' means as independent samples.
    """
    found = {name: np.full(n_models, np.nan) for name in ("d", "delta", "p", "p_holm")}
    other = cells.means(range(reference, reference + 1))
    step = max(1, _TABLE_CELLS // max(1, cells.n_clusters))
    for first in range(0, n_models, step):
        part = range(first, min(first + step, n_models))
        means = cells.means(part)
        if paired:
            d = means - other
            n = (~np.isnan(d)).sum(axis=0)
            mean = np.nansum(d, axis=0) / np.where(n > 0, n, np.nan)
            sd = np.sqrt(np.nansum((d - mean) ** 2, axis=0) / np.where(n > 1, n - 1, np.nan))
            at = slice(part.start, part.stop)
            found["d"][at] = np.divide(mean, sd, out=np.full(len(part), np.nan), where=sd > 0)
            found["delta"][at] = np.nansum(np.sign(d), axis=0) / np.where(n > 0, n, np.nan)
            few = n <= _MANY_PAIRS
            p = np.full(len(part), np.nan)
            if few.any():
                p[few] = sign_flip(d[:, few], seed=seed)
            for j in np.flatnonzero(~few):
                p[j] = math.erfc(abs(mean[j]) / sd[j] * math.sqrt(n[j] / 2)) if sd[j] > 0 else float(mean[j] == 0)
            found["p"][at] = p
        else:
            y = other[~np.isnan(other)]
            for k in range(len(part)):
                x = means[~np.isnan(means[:, k]), k]
                if len(x) > 1 and len(y) > 1:
                    spread = math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
                    i = first + k
                    found["d"][i] = (x.mean() - y.mean()) / spread if spread > 0 else np.nan
                    found["delta"][i], found["p"][i] = cliffs_delta(x, y), _mann_whitney(x, y)
    for values in found.values():
        values[reference] = np.nan
    found["p_holm"] = holm(found["p"])
    return found


def _leaderboard(
    metric: str,
    models: list[str | None],
    boot: Bootstrap,
    at: int,
    cells: _Cells,
    n_rows: Any,
    descending: bool,
    confidence: float,
    baseline: int | None,
    seed: int,
) -> tuple[pa.Table, pa.Table]:
    """Build the rows of one metric for the leaderboard and for the pairs."""
    mean, n_values, n_clusters = boot.mean[:, at], boot.n_values[:, at], boot.n_clusters[:, at]
    replicates = boot.replicates[:, :, at]
    rank = ranks(mean, descending=descending)
    # One cluster cannot show how much clusters differ: its replicates are all alike, an interval would have no width.
    known, scored = n_clusters >= 2, n_values > 0
    low, high = expanded_interval(replicates, n_clusters, confidence)
    rank_low, rank_high = rank_interval(replicates, confidence, descending=descending)
    order = np.array(sorted(range(len(models)), key=lambda i: (rank[i], models[i] is None, models[i] or "")))
    best = int(order[0])

    def against(reference: int, suffix: str, ends: tuple[str, str]) -> dict[str, pa.Array]:
        n = np.minimum(n_clusters, n_clusters[reference])
        from_low, from_high = expanded_interval(replicates - replicates[:, reference, None], n, confidence)
        apart = known & known[reference]
        apart[reference] = False
        effects = _effects(cells, len(models), reference, boot.paired, seed)
        return {
            f"diff_to_{suffix}": _array(mean - mean[reference], scored),
            ends[0]: _array(from_low, apart),
            ends[1]: _array(from_high, apart),
            **{f"{name}_to_{suffix}": _array(values, apart) for name, values in effects.items()},
        }

    names = pa.array(models, pa.string())
    values = {
        "by": names,
        "metric": pa.array([metric] * len(models), pa.string()),
        "n": pa.array(n_values),
        "n_clusters": pa.array(n_clusters),
        "mean": _array(mean, scored),
        "ci_low": _array(low, known),
        "ci_high": _array(high, known),
        "rank": pa.array(rank, mask=~scored),
        "rank_low": pa.array(rank_low, mask=~known),
        "rank_high": pa.array(rank_high, mask=~known),
        **against(best, "best", ("diff_low", "diff_high")),
        "n_null": pa.array(n_rows - n_values),
    }
    schema = _SCHEMA
    if baseline is not None:
        values |= against(baseline, "baseline", ("diff_low_to_baseline", "diff_high_to_baseline"))
        schema = pa.schema([*_SCHEMA, *((name, pa.float64()) for name in _BASELINE_COLUMNS)])
    table = pa.table(values).select(schema.names).cast(schema).take(pa.array(order))

    by_model = np.ascontiguousarray(replicates[:, order].T)
    first, second = np.triu_indices(len(models), 1)
    ends = np.empty((2, len(first)))
    n = n_clusters[order]
    for i in range(len(models) - 1):
        mine = slice(*np.searchsorted(first, [i, i + 1]))
        ends[:, mine] = expanded_interval((by_model[i] - by_model[i + 1 :]).T, np.minimum(n[i], n[i + 1 :]), confidence)
    both = known[order][first] & known[order][second]
    ordered = names.take(pa.array(order))
    pairs = pa.table(
        {
            "metric": pa.array([metric] * len(first), pa.string()),
            "a": ordered.take(pa.array(first)),
            "b": ordered.take(pa.array(second)),
            "diff": _array(mean[order][first] - mean[order][second], scored[order][first] & scored[order][second]),
            "diff_low": _array(ends[0], both),
            "diff_high": _array(ends[1], both),
        },
        _PAIRS_SCHEMA,
    )
    return table, pairs


def _mann_whitney(x: Any, y: Any) -> float:
    """Return the two-sided p-value of Mann and Whitney's test; NaN without SciPy."""
    try:
        return float(scipy("stats").mannwhitneyu(x, y).pvalue)
    except UsageError:
        return math.nan


def _array(values: Any, known: Any) -> pa.Array:
    return pa.array(values, pa.float64(), mask=~(known & np.isfinite(values)))


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


def _uneven(rows: Any, by: str, key: str) -> str:
    """Say where some models have more rows of a cluster than others: repeated prompts, conversations of any length."""
    if not len(rows) or rows.min() == rows.max():
        return ""
    return (
        f"There are between {rows.min():,} and {rows.max():,} rows per {by} and {key}: means weigh rows alike, and "
        "rows of one cluster are resampled together."
    )


def _notes(source: Scores, table: pa.Table, key: str, paired: bool, chosen: bool) -> Iterator[str]:
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
        yield f"Only {smallest} clusters: intervals from so few are rough."
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


def _pair_column(source: Scores, by: str) -> str:
    """Choose the column of the clusters as `compare` documents it."""
    # An id that some of the files lack cannot pair their rows.
    everywhere = source.types.keys() - source.lacking.keys()
    if "prompt_id" in everywhere:
        return "prompt_id"
    for name in PAIR_COLUMNS:
        if name in everywhere and name != by and _repeats_across(source, by, name):
            return name
    return "conversation_id" if "conversation_id" in everywhere else _ROWS


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


_ANSWER = {"role": "assistant", "part": "answer"}
"""Columns that say whose words a row is about, and of which rows a model's means are made."""


def _answers(source: Scores, used: tuple[str, ...]) -> dict[str, int]:
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
    return pc.fill_null(pc.equal(as_text(batch[column]), _ANSWER[column]), False)


def _add_up(source: Scores, by: str, key: str, read: list[_Bound], only: Iterable[str] = ()) -> pa.Table:
    """Add up values per pair of model and cluster: columns by, cluster, rows, sum<i> and count<i> of metric i.

    Rows count that are answers as all the columns `only` say.
    """
    labels = list(dict.fromkeys([by, *([] if key == _ROWS else [key]), *only]))
    totals = ["rows", *(f"{what}{i}" for i in range(len(read)) for what in ("sum", "count"))]
    names = list(dict.fromkeys(bound.column for bound in read))
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
        values: dict[str, Any] = {"by": as_text(batch[by])}
        if key == _ROWS:
            values["cluster"] = position
        else:
            values["cluster"] = as_text(batch[key])
            if values["cluster"].null_count:
                # NUL keeps the made-up name of a row without id apart from every real one.
                nul, nothing = pa.scalar("\0", pa.large_string()), pa.scalar("", pa.large_string())
                alone = pc.binary_join_element_wise(nul, position.cast(pa.large_string()), nothing)
                values["cluster"] = pc.coalesce(values["cluster"], alone)
        values["rows"] = pa.array(np.ones(batch.num_rows, dtype=np.int64))
        for i, bound in enumerate(read):
            number = batch[bound.column].cast(pa.float64())
            good = pc.fill_null(pc.is_finite(number), False)
            if bound.condition is not None:
                number = bound.condition.holds(number).cast(pa.float64())
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
