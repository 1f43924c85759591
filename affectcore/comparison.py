"""Compare the models behind a set of scores: a leaderboard with paired cluster-bootstrap intervals.

Only the needed columns are read, file by file and batch by batch, and added up per pair of model and cluster; memory
holds those sums, not the rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from affectcore import escape
from affectcore.errors import UsageError, few
from affectcore.io.scorefiles import Condition, Scores, open_scores
from affectcore.metrics.registry import METRICS
from affectcore.settings import usable_cores
from affectcore.stats.bootstrap import (
    Bootstrap,
    check_settings,
    cluster_bootstrap,
    expanded_interval,
    rank_interval,
    ranks,
)
from affectcore.stats.paired import compare_paired, compare_unpaired, holm
from affectcore.totals import (
    ANSWER,
    MOST_MODELS,
    ROWS,
    Bound,
    add_up,
    answers,
    bounds,
    codes,
    metric_names,
    models_of,
    pair_column,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Comparison", "columns", "compare"]

Order = Literal["ascending", "descending"]

_MAX_FACETS = 100
_FEW_CLUSTERS = 10
_TABLE_CELLS = 1 << 24  # of cluster means that effect sizes hold at a time
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
        how = "every row is one" if self.pair_by == ROWS else f"by {self.pair_by}"
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
        return escape.json(content, indent=1) + "\n"

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
        return pa.concat_tables(named, promote_options="default")  # some may lack the baseline

    def to_markdown(self) -> str:
        """Return the leaderboard as one Markdown table per metric, with the method below."""
        from affectcore.report.table import markdown

        return markdown(self)

    def to_html(self, scores: Any = None, **options: Any) -> str:
        """Return a page with charts that needs no network: of the comparison, and of the scores it was made from.

        Parameters
        ----------
        scores
            As they were given to `compare`: adds what only they tell (turns, distributions, texts, ...).
        options
            As for `affectcore.report.build.build`: `dump`, `thresholds`, `frontier`, `title`.

        Raises
        ------
        UsageError
            If the extra `report` is not installed.
        InputError
            If a file is missing or cannot be read.
        """
        from affectcore.report.html import Report, render

        if scores is None:
            return render(Report(title=options.get("title") or f"{self.metrics[0]} by {self.by}", comparison=self))
        from affectcore.report.build import build

        return render(build(self, scores, **options))

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
    names = metric_names(metrics, source)
    read = bounds(names, source)
    if pair_by is not None and not (pair_by == ROWS and ROWS not in source.types):
        source.require([pair_by], "the column that pairs rows; choose another with pair_by (--pair-by)")
    key = pair_by or pair_column(source, by)
    for column in {by, key} - {ROWS}:
        if pa.types.is_nested(source.types[column]):
            raise UsageError(f"column {column!r} holds {source.types[column]}: a column of names or ids is needed")

    only = answers(source, (by, key))
    apart = key == ROWS
    cells = add_up(source, by, [] if apart else [key], read, list(only), merge=not apart)
    if conditions and not len(cells):
        raise UsageError(f"the scores have no rows where {' and '.join(conditions)}, so there is nothing to compare")
    models, model_codes = models_of(cells["by"], by)
    cluster_codes = np.arange(len(cells)) if apart else codes(cells["key0"])[1]
    n_clusters = int(cluster_codes.max()) + 1
    sums = np.stack([cells[f"sum{i}"].to_numpy() for i in range(len(names))], axis=1)
    counts = np.stack([cells[f"count{i}"].to_numpy() for i in range(len(names))], axis=1)
    if baseline is not None and baseline not in models:
        named = [m for m in models if m]
        close = [m for m in named if baseline and baseline in m] or difflib.get_close_matches(baseline, named, n=1)
        raise UsageError(
            f"there is no model {baseline!r} in column {by!r}"
            + (f": did you mean {close[0]!r}?" if close else f"; there are {few(models)}")
        )
    n_rows = np.zeros(len(models), dtype=np.int64)
    np.add.at(n_rows, model_codes, cells["rows"].to_numpy())
    uneven = "" if apart else _uneven(cells["rows"].to_numpy(), by, key)
    del cells  # the names of clusters take more memory than all the rest
    boot = cluster_bootstrap(
        sums, counts, cluster_codes, model_codes, n_models=len(models), n_resamples=n_resamples, seed=seed
    )

    orders: dict[str, Order] = {name: order or _registry_order(bound) for name, bound in zip(names, read)}
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
        rows = source.where([Condition(facet or "", "=", value)])
        here = baseline if baseline in rows.distinct(by, MOST_MODELS) else None
        facets[value] = compare(
            rows, by, names, key, order=order, baseline=here, n_resamples=n_resamples, seed=seed, confidence=confidence
        )
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
            *(f"{n:,} rows whose {column} is not {ANSWER[column]} were left out." for column, n in only.items()),
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


def _registry_order(bound: Bound) -> Order:
    worse = bound.column in METRICS and METRICS[bound.column].higher_is == "worse"
    below = bound.condition is not None and bound.condition.operator.startswith("<")
    return "ascending" if worse != below else "descending"


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
        at = slice(part.start, part.stop)
        means = cells.means(part)
        if paired:
            pairs = compare_paired(means, other, seed=seed, rank_test=False)
            found["d"][at], found["delta"][at], found["p"][at] = pairs.d_z, pairs.cliffs_delta, pairs.p_permutation
        else:
            apart = [compare_unpaired(column, other[:, 0]) for column in means.T]
            found["d"][at], found["delta"][at], found["p"][at] = zip(*apart)
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
            f"{few(lonely)} {verb} no {key} with another model: those differences are not paired, "
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
        yield f"No interval for {few(alone)}: values of one cluster only, which cannot show how much clusters differ."
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == metric and row["ci_low"] is not None]
        flat = {row["by"] for row in mine if not has_width(row)}
        if flat:
            yield f"{metric}: no width for {few(flat)}, whose clusters all have one mean; that is not certainty."
    smallest = min((row["n_clusters"] for row in rows if row["n_clusters"] > 1), default=_FEW_CLUSTERS)
    if smallest < _FEW_CLUSTERS:
        yield f"Only {smallest} clusters: intervals from so few are rough."
    left_out = sum(row["n_null"] for row in rows)
    if left_out:
        yield f"{left_out:,} {'value is' if left_out == 1 else 'values are'} null and left out (column n_null)."
    if key == ROWS and chosen:
        yield "No prompt or conversation id was found, so rows count as independent; --pair-by can name one."
    elif not paired and len(set(table["by"].to_pylist())) > 1:
        why = "Rows stand alone" if key == ROWS else f"No {key} comes up under two models"
        yield f"{why}, so differences are not paired."
    if not paired and any(row["p_to_best"] is None and row["delta_to_best"] is not None for row in rows):
        yield "Without SciPy there are no p-values of differences that are not paired: pip install 'affectcore[stats]'."
    yield from source.notes
    if source.mixed:
        yield f"The score files were made with different settings: {source.mixed}."


def has_width(row: dict[str, Any]) -> bool:
    """Tell whether the interval of a row of `Comparison.table` is wider than rounding makes it; False without one."""
    if row["ci_low"] is None:
        return False
    return bool(row["ci_high"] - row["ci_low"] > 1e-9 * abs(row["mean"]))
