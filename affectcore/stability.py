"""How steady models are: by turn and by context length, first lapses, samples of one prompt, run against run.

Every function takes scores as `affectcore.comparison.compare` does and returns a PyArrow table, null where the data
tell too little. Files are read batch by batch and only the columns needed; what is held are sums per model,
conversation and turn, not the rows. As in `compare`, only rows of the role `assistant` and the part `answer` count
where there are others, `metrics` may have bounds (``distress>=0.5`` is the share of values that meet it), and values
that are null, NaN or infinite are left out.

A conversation is a value of the column `conversation`; by default the first of `conversation_id`, `conv_id`,
`dialogue_id`, `chat_id`, `session_id`, `prompt_id`, or a column of `totals.PAIR_COLUMNS`, that all files have. The same
value under two models is two conversations, and a row without one is a conversation of its own. Turns are numbered as
``affectcore score --unit turn`` does: among all messages, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affectcore import totals
from affectcore.errors import UsageError, few
from affectcore.io.formats.texts import CONVERSATION_COLUMNS
from affectcore.io.scorefiles import Condition, Scores, as_text, differing, open_scores
from affectcore.metrics.registry import GROUPS, METRICS
from affectcore.stats import rates as stats_rates
from affectcore.stats import reliability
from affectcore.stats.bootstrap import cluster_bootstrap, expanded_interval
from affectcore.stats.paired import compare_paired, holm

__all__ = [
    "Gate",
    "against",
    "by_length",
    "by_turn",
    "consistency",
    "distributions",
    "emotions",
    "parts",
    "rates",
    "rates_by_turn",
    "survival",
    "trends",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Where = str | Iterable[str]

IDS = ("prompt_id", *totals.PAIR_COLUMNS, *CONVERSATION_COLUMNS)
"""Columns that pair rows of two runs, in order of preference."""
SHORTEST = 128
"""Context lengths below this share a bucket."""

_MERGE_CELLS = 1 << 20
_TABLE_BYTES = 128 << 20  # a table of conversations by turns, or its replicates, held at a time
_MOST_TURNS = 1000  # distinct turns that a change-point is sought among: memory and time go with their square


# Reading


class _Opened(NamedTuple):
    source: Scores
    names: list[str]
    read: list[totals.Bound]
    only: list[str]  # columns that tell answers from other rows


class _Cells(NamedTuple):
    """Sums and counts per model and key; arrays have one entry per cell."""

    models: list[str | None]
    model: Ints
    keys: list[Ints]  # dense codes
    turn: Ints  # empty where none was asked for
    rows: Ints
    sums: Floats  # (cells, measures)
    counts: Ints  # (cells, measures)

    @property
    def means(self) -> Floats:
        """(cells, measures); NaN without a value."""
        out: Floats = np.divide(self.sums, self.counts, out=np.full(self.sums.shape, np.nan), where=self.counts > 0)
        return out

    def take(self, rows: Any) -> _Cells:
        """Return some of the cells."""
        return _Cells(self.models, self.model[rows], [k[rows] for k in self.keys], *(a[rows] for a in self[3:]))

    def of_models(self) -> Iterator[tuple[str | None, _Cells]]:
        """Yield each model's cells, in the order of the names."""
        order = np.argsort(self.model, kind="stable")
        bounds = np.searchsorted(self.model[order], np.arange(len(self.models) + 1))
        for name, a, b in zip(self.models, bounds, bounds[1:]):
            yield name, self.take(order[a:b])


def _open(
    scores: Any, by: str, metrics: Sequence[str], where: Where, names: Sequence[str], confidence: float = 0.95
) -> _Opened:
    """Open scores; `names` are columns of names, ids and turns."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie between 0 and 1, not {confidence:g}")
    source = open_scores(scores).where([where] if isinstance(where, str) else list(where))
    source.require([by], "the column that names the models; choose another with by (--by)")
    source.require(names, "it was asked for")
    for column in (by, *names):
        if pa.types.is_nested(source.types[column]):
            raise UsageError(f"column {column!r} holds {source.types[column]}: a column of names or ids is needed")
    wanted = totals.metric_names(metrics, source) if metrics else []
    read = totals.bounds(wanted, source)
    return _Opened(source, wanted, read, list(totals.answers(source, (by, *names))))


def _turns(scores: Scores, given: str | None, turn: str) -> str:
    """Return the column of the conversations, of scores that have turns."""
    scores.require([turn], "the number of a turn; score with --unit turn, or name another with turn")
    return _conversation(scores, given)


def _conversation(scores: Scores, given: str | None) -> str:
    if given is not None:
        scores.require([given], "the column that tells conversations apart; choose another with conversation")
        return given
    for name in (*CONVERSATION_COLUMNS, "prompt_id", *totals.PAIR_COLUMNS):
        if name in scores.types and name not in scores.lacking:
            return name
    raise UsageError(
        f"{scores.label} has no column that tells conversations apart: name one with conversation, or score again and "
        "keep one (--keep)"
    )


def _cells(
    opened: _Opened,
    by: str,
    keys: Sequence[str] = (),
    turn: str | None = None,
    *,
    size: str | None = None,
    merge: bool = True,
) -> tuple[_Cells, list[pa.ChunkedArray]]:
    """Add up per model, keys and turn, and also return the names of each cell's keys.

    With `size`, rows of other roles are there, too, with counts of 0, and the last measure is the sum of that column
    over all of them. Without `merge`, each row is a cell.
    """
    table = totals.add_up(opened.source, by, keys, opened.read, opened.only, turn, size=size, merge=merge)
    measures = len(opened.read) + (size is not None)
    models, model = totals.models_of(table["by"], by)
    n = table.num_rows

    def stacked(what: str, dtype: Any) -> Any:
        columns = [table[f"{what}{i}"].to_numpy() for i in range(measures)]
        return np.stack(columns, axis=1).astype(dtype, copy=False) if columns else np.empty((n, 0), dtype)

    names = [table[f"key{i}"] for i in range(len(keys))]
    return _Cells(
        models=models,
        model=model,
        keys=[_dense(column) for column in names],
        turn=table["turn"].to_numpy() if turn else np.empty(n, np.int64),
        rows=table["rows"].to_numpy(),
        sums=stacked("sum", np.float64),
        counts=stacked("count", np.int64),
    ), names


def _dense(column: Any) -> Ints:
    """Return codes from 0 for the values of a column without nulls."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # more than one array can hold
        whole = pa.concat_arrays(whole.chunks)
    return np.asarray(whole.dictionary_encode().indices.to_numpy(), np.int64)


def _single(cells: _Cells, names: Any, conversation: str, turn: str) -> None:
    """Raise where a turn comes more than once: then a conversation is several."""
    more = np.flatnonzero(cells.rows > 1)
    if len(more):
        i = int(more[0])
        raise UsageError(
            f"column {conversation!r} does not tell conversations apart: {names[i].as_py()!r} of "
            f"{cells.models[cells.model[i]]!r} has {int(cells.rows[i])} rows of {turn} {int(cells.turn[i])}. Name a "
            "column that does with conversation, or keep one when you score (--keep)"
        )


# Writing


def _table(schema: Sequence[tuple[str, pa.DataType]], columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Make a table; numbers that are not finite become null."""
    arrays = []
    for name, kind in schema:
        values = columns[name]
        if pa.types.is_floating(kind):
            flat = np.array([np.nan if v is None else v for v in values], np.float64)
            arrays.append(pa.array(flat, kind, mask=~np.isfinite(flat)))
        else:
            arrays.append(pa.array(list(values), kind))
    return pa.table(arrays, names=[name for name, _ in schema])


def _from_rows(schema: Sequence[tuple[str, pa.DataType]], rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = list(zip(*rows)) if rows else [()] * len(schema)
    return _table(schema, {name: column for (name, _), column in zip(schema, columns)})


def _some(*columns: str) -> list[tuple[str, pa.DataType]]:
    """Return fields with the types that their names have in all tables."""
    whole = {"n", "n_conversations", "n_prompts", "turn", "low", "high", "at_risk"}
    turns = {"change_turn", "change_low", "change_high"}
    text = {"by", "metric", "unit", "emotion"}
    return [(c, pa.string() if c in text else pa.int64() if c in whole | turns else pa.float64()) for c in columns]


# By turn and by length


def _course(
    cells: _Cells, places: Ints, labels: Sequence[Sequence[Any]], opened: _Opened, confidence: float, n: int, seed: int
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of by, metric, label..., n, n_conversations, mean, low, high for each place that a model has.

    `places` numbers each cell's turn or bucket; -1 is none. Conversations (the first key) are resampled.
    """
    rows: list[tuple[Any, ...]] = []
    m = len(opened.read)
    for by, own in cells._replace(turn=places).of_models():
        own = own.take(own.turn >= 0)
        if not len(own.turn):
            continue
        names, conversation = np.unique(own.keys[0], return_inverse=True)
        there, place = np.unique(own.turn, return_inverse=True)
        c = len(names)
        step = max(1, min(_TABLE_BYTES // (16 * c * m), _TABLE_BYTES // (8 * n * m)))
        for first in range(0, len(there), step):
            inside = (place >= first) & (place < first + step)
            width = min(step, len(there) - first)
            sums, counts = np.zeros((c * width, m)), np.zeros((c * width, m))
            cell = conversation[inside] * width + place[inside] - first
            for k in range(m):
                sums[:, k] = np.bincount(cell, own.sums[inside, k], c * width)
                counts[:, k] = np.bincount(cell, own.counts[inside, k], c * width)
            boot = cluster_bootstrap(
                sums.reshape(c, -1), counts.reshape(c, -1), np.arange(c), np.zeros(c, np.int64), n_models=1,
                n_resamples=n, seed=seed,
            )  # fmt: skip
            low, high = expanded_interval(boot.replicates[:, 0], boot.n_clusters[0], confidence)
            shape = (width, m)
            table = [a.reshape(shape) for a in (boot.n_values[0], boot.n_clusters[0], boot.mean[0], low, high)]
            for t in range(width):
                label = labels[there[first + t]]
                rows += [(by, k, *label, *(a[t, k].item() for a in table)) for k in range(m) if table[0][t, k]]
    rows.sort(key=lambda row: row[1])  # by metric; models and turns stay in their order
    for row in rows:
        yield (row[0], opened.names[row[1]], *row[2:])


def by_turn(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pa.Table:
    """Return the mean of metrics at each turn, with intervals that resample conversations.

    Parameters
    ----------
    scores
        Paths, or a table; as for `affectcore.comparison.compare`.
    by
        Column that names the models.
    metrics
        Numeric columns, groups of the registry, or columns with bounds.
    conversation, turn
        Columns of the conversation and of the turn's number.
    where
        Conditions that rows must meet; as for `compare`.
    confidence
        Share of intervals that should cover the truth; `affectcore.stats.bootstrap.expanded_interval`.
    seed, n_resamples
        Seed and replicates of the bootstrap.

    Returns
    -------
    pyarrow.Table
        `by`, `metric` (string), `turn`, `n` (values), `n_conversations` (int64), `mean`, `ci_low`, `ci_high` (float64):
        metric by metric, model by model. Turns without a value have no row; one conversation has no interval. Fewer
        conversations reach late turns, so the mean can move because the short ones are gone: `trends` knows that.

    Raises
    ------
    UsageError
        If a column is missing or of no use, or no rows are left.
    InputError
        If a file is missing or cannot be read.
    """
    source = open_scores(scores)
    key = _turns(source, conversation, turn)
    opened = _open(source, by, _some_metrics(metrics), where, [key, turn], confidence)
    cells, _ = _cells(opened, by, [key], turn)
    turns, places = np.unique(cells.turn, return_inverse=True)
    labels = [(int(t),) for t in turns]
    rows = list(_course(cells, places.astype(np.int64), labels, opened, confidence, n_resamples, seed))
    return _from_rows(_some("by", "metric", "turn", "n", "n_conversations", "mean", "ci_low", "ci_high"), rows)


def _some_metrics(metrics: str | Iterable[str]) -> list[str]:
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise UsageError("no metric was named: give at least one with metrics (--metric)")
    return names


def by_length(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    *,
    size: str | None = None,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pa.Table:
    """Return the mean of metrics by the length of the context before a turn.

    The length is the sum of `size` over all earlier turns of the conversation, whoever said them. So the scores must
    have them: ``affectcore score --unit turn --roles all``. Reasoning in rows of its own does not count, as chat
    templates leave it out of later turns' context. Buckets go in powers of two; all below 128 is one.

    Parameters
    ----------
    size
        Column with a turn's length; by default `n_tokens`, else `n_bytes`.
    scores, by, metrics, conversation, turn, where, confidence, seed, n_resamples
        As for `by_turn`. Conditions choose the turns that are counted as context, too.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `low`, `high` (int64: lengths in this bucket, both included), `n`, `mean`, `ci_low`, `ci_high`.

    Raises
    ------
    UsageError
        As `by_turn` does; if there is no column of lengths, or the scores hold nobody's turns but the assistant's; or
        if a conversation has a turn twice.
    InputError
        As `by_turn`.
    """
    source = open_scores(scores)
    key = _turns(source, conversation, turn)
    everywhere = source.types.keys() - source.lacking.keys()
    column = size or next((name for name in ("n_tokens", "n_bytes") if name in everywhere), "n_bytes")
    source.require([column], "the length of a turn; score with n_tokens or n_bytes among the metrics")
    opened = _open(source, by, _some_metrics(metrics), where, [key, turn], confidence)
    if "role" not in opened.only:
        raise UsageError(
            f"{source.label} holds no turns of others than the assistant (column 'role'), so the length of the context "
            "is unknown: score with --unit turn --roles all"
        )
    totals.bounds([totals.Bound(column)], opened.source)
    cells, (names,) = _cells(opened, by, [key], turn, size=column)
    _single(cells, names, key, turn)
    order = np.lexsort((cells.turn, cells.keys[0], cells.model))
    cells = cells.take(order)
    length = cells.sums[:, -1]
    new = (np.diff(cells.keys[0], prepend=-1) != 0) | (np.diff(cells.model, prepend=-1) != 0)
    before = np.cumsum(length) - length
    context = before - before[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    top = max(float(context.max(initial=0)), SHORTEST)
    edges = [0, *(SHORTEST << k for k in range(int(math.log2(top / SHORTEST)) + 1))]
    labels = list(zip(edges, [e - 1 for e in [*edges[1:], 2 * edges[-1]]]))
    places = np.where((cells.counts[:, :-1] > 0).any(axis=1), stats_rates.buckets(context, edges), -1)
    cells = cells._replace(sums=cells.sums[:, :-1], counts=cells.counts[:, :-1])
    rows = [(*row[:5], *row[6:]) for row in _course(cells, places, labels, opened, confidence, n_resamples, seed)]
    return _from_rows(_some("by", "metric", "low", "high", "n", "mean", "ci_low", "ci_high"), rows)


def trends(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pa.Table:
    """Return the slope per turn, and the turn at which the mean changes.

    Both compare the turns of a conversation with each other only (`affectcore.stats.rates.slope`, `change_point`), so
    that conversations which end early fake no drift.

    Parameters
    ----------
    scores, by, metrics, conversation, turn, where, confidence, seed, n_resamples
        As for `by_turn`.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`; `slope`, `slope_low`, `slope_high` in units of the metric per turn (a message: an assistant who
        answers each message speaks every other turn); `change_turn` (int64), the first turn with the new mean, with its
        interval `change_low`, `change_high`; `change_before`, the mean over turns before it, and `change_after`, that
        plus the change within conversations; `p_change`, of no change at all. A steady rise is a change, too. Null
        where no conversation has two turns, and the change where there are more than 1,000 distinct ones.

    Raises
    ------
    UsageError, InputError
        As `by_turn` does.
    """
    source = open_scores(scores)
    key = _turns(source, conversation, turn)
    opened = _open(source, by, _some_metrics(metrics), where, [key, turn], confidence)
    cells, _ = _cells(opened, by, [key], turn)
    rows = []
    for k, metric in enumerate(opened.names):
        for name, own in cells.of_models():
            value = own.means[:, k]
            given = value, own.keys[0], own.turn
            line = stats_rates.slope(*given, n_resamples=n_resamples, seed=seed, confidence=confidence).slope
            row = [name, metric, line.value, line.low, line.high]
            known = ~np.isnan(value)
            if len(np.unique(own.turn[known])) > _MOST_TURNS:
                rows.append([*row, *[None] * 6])
                continue
            found = stats_rates.change_point(*given, n_resamples=n_resamples, seed=seed, confidence=confidence)
            at, change = found.turn, found.change.value
            before = after = None
            if at.value is not None and change is not None:
                earlier = known & (own.turn < at.value)
                before = float(value[earlier].mean())
                after = before + change
            turns = [None if t is None else int(t) for t in (at.value, at.low, at.high)]
            rows.append([*row, *turns, before, after, found.p])
    columns = ("slope", "slope_low", "slope_high", "change_turn", "change_low", "change_high", "change_before")
    return _from_rows(_some("by", "metric", *columns, "change_after", "p_change"), rows)


# Over a threshold


def _over(
    scores: Any, by: str, thresholds: Mapping[str, float], where: Where, names: Sequence[str], confidence: float
) -> _Opened:
    """Open scores to count values of at least a threshold."""
    if not thresholds:
        raise UsageError("no threshold was given: name a metric and the value that counts, such as distress 0.5")
    for metric, threshold in thresholds.items():
        if not math.isfinite(threshold):
            raise UsageError(f"the threshold of {metric} must be finite, not {threshold}")
    opened = _open(scores, by, (), where, names, confidence)
    read = [totals.Bound(m, Condition(m, ">=", repr(float(t)))) for m, t in thresholds.items()]
    return opened._replace(names=list(thresholds), read=totals.bounds(read, opened.source))


def rates(
    scores: Any,
    by: str,
    thresholds: Mapping[str, float],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
) -> pa.Table:
    """Return how often metrics are at or over a threshold, by row and by conversation.

    Parameters
    ----------
    thresholds
        Metric to value; a value counts from there on.
    scores, by, conversation, turn, where, confidence
        As for `by_turn`. Scores without turns have no conversations; their rows are clustered as in `compare`.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `threshold`, `unit`, `n` (int64), `rate`, `ci_low`, `ci_high`. The unit is `turn` (share of
        turns; `row` where the scores have no turns), with Wilson intervals that know of clusters
        (`affectcore.stats.rates.rates`), or `conversation`: share of conversations with any such turn. Longer
        conversations have more chances: hold models against each other by `rates_by_turn`.

    Raises
    ------
    UsageError, InputError
        As `by_turn` does; UsageError if a conversation has a turn twice.
    """
    source = open_scores(scores)
    talks = turn in source.types
    key = _turns(source, conversation, turn) if talks else totals.pair_column(source, by)
    keys = [] if key == totals.ROWS and key not in source.types else [key]
    opened = _over(source, by, thresholds, where, [*keys, *([turn] if talks else [])], confidence)
    cells, names = _cells(opened, by, keys, turn if talks else None)
    if talks:
        _single(cells, names[0], key, turn)
    rows = []
    for k, (metric, threshold) in enumerate(thresholds.items()):
        for name, own in cells.of_models():
            over, n = own.sums[:, k].astype(np.int64), own.counts[:, k]
            # One entry per value again; in what order the values of a cell come does not matter.
            values = np.repeat(np.tile([1.0, 0.0], len(n)), np.stack([over, n - over], axis=1).ravel())
            cluster = np.repeat(own.keys[0], n) if keys else None
            found = {"turn" if talks else "row": stats_rates.rates(values, 0.5, cluster=cluster, confidence=confidence)}
            if talks:
                group = np.unique(own.keys[0], return_inverse=True)[1]
                size = int(group.max(initial=-1)) + 1
                any_over = np.bincount(group, over, size) > 0
                known = np.bincount(group, n, size) > 0
                ever = any_over[known].astype(np.float64)
                found["conversation"] = stats_rates.rates(ever, 0.5, confidence=confidence)
            for unit, f in found.items():
                rows.append([name, metric, threshold, unit, f.n[0].item(), f.rate[0], f.low[0], f.high[0]])
    return _from_rows(_some("by", "metric", "threshold", "unit", "n", "rate", "ci_low", "ci_high"), rows)


def survival(
    scores: Any,
    by: str,
    thresholds: Mapping[str, float],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
) -> pa.Table:
    """Return the share of conversations without a turn at or over a threshold so far, turn by turn.

    Parameters
    ----------
    scores, by, thresholds, conversation, turn, where, confidence
        As for `rates`.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `threshold`, `turn`, `at_risk` (int64: conversations that got to this turn without one before),
        `survival` (Kaplan-Meier, after this turn), `ci_low`, `ci_high` (`affectcore.stats.rates.survival`); a row for
        each turn of the model. Conversations that end because of what is measured bias the curve.

    Raises
    ------
    UsageError, InputError
        As `rates` does; UsageError without SciPy.
    """
    source = open_scores(scores)
    key = _turns(source, conversation, turn)
    opened = _over(source, by, thresholds, where, [key, turn], confidence)
    cells, (names,) = _cells(opened, by, [key], turn)
    _single(cells, names, key, turn)
    rows = []
    for k, (metric, threshold) in enumerate(thresholds.items()):
        for name, own in cells.of_models():
            value = own.means[:, k]
            curve = stats_rates.survival(value, 0.5, own.keys[0], own.turn, confidence=confidence)
            # The curve has the turns at which something happens: in between nobody leaves, afterwards nobody is left.
            turns = np.unique(own.turn[~np.isnan(value)])
            at_risk = np.r_[curve.n_at_risk, 0][np.searchsorted(curve.turn, turns, side="left")]
            last = np.searchsorted(curve.turn, turns, side="right")
            share = [np.r_[1.0, line][last].tolist() for line in (curve.survival, curve.low, curve.high)]
            rows += [[name, metric, threshold, *x] for x in zip(turns.tolist(), at_risk.tolist(), *share)]
    return _from_rows(_some("by", "metric", "threshold", "turn", "at_risk", "survival", "ci_low", "ci_high"), rows)


def rates_by_turn(
    scores: Any,
    by: str,
    thresholds: Mapping[str, float],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
) -> pa.Table:
    """Return the share of conversations that have been at or over a threshold by each turn: 1 minus `survival`.

    Parameters
    ----------
    scores, by, thresholds, conversation, turn, where, confidence
        As for `rates`.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `threshold`, `turn`, `at_risk`, `rate`, `ci_low`, `ci_high`.

    Raises
    ------
    UsageError, InputError
        As `survival` does.
    """
    table = survival(scores, by, thresholds, conversation=conversation, turn=turn, where=where, confidence=confidence)
    rate, high, low = (pc.subtract(1.0, table[name]) for name in ("survival", "ci_low", "ci_high"))
    kept = table.select(["by", "metric", "threshold", "turn", "at_risk"])
    for name, column in (("rate", rate), ("ci_low", low), ("ci_high", high)):
        kept = kept.append_column(name, column)
    return kept


# Samples, parts and runs


def consistency(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    prompt: str = "prompt_id",
    *,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
) -> pa.Table:
    """Return how alike several samples of one prompt are.

    Parameters
    ----------
    prompt
        Column of the prompt. Where the scores have turns, samples are compared at the same turn: each turn of a prompt
        is an item of its own, and intervals take the turns of a prompt for independent.
    scores, by, metrics, turn, where, confidence
        As for `by_turn`. Rows without a prompt are left out. Memory is that of the values, one number each.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `n_prompts` (prompts with a value, or their turns), `n` (values), `within_sd` (pooled standard
        deviation within prompts), `icc`, `icc_low`, `icc_high` (ICC(1); `affectcore.stats.reliability.consistency`).
        Null where no prompt has two values.

    Raises
    ------
    UsageError, InputError
        As `by_turn` does; UsageError without SciPy.
    """
    source = open_scores(scores)
    source.require([prompt], "the column of the prompt; choose another with prompt")
    at = turn if turn in source.types else None
    opened = _open(source, by, _some_metrics(metrics), where, [prompt, *([at] if at else [])], confidence)
    cells, (names,) = _cells(opened, by, [prompt], at, merge=False)
    cells = cells.take(np.flatnonzero(~_nameless(names)))
    rows = []
    for k, metric in enumerate(opened.names):
        for name, own in cells.of_models():
            item = own.keys[0]
            if at and len(item):
                item = np.unique(np.stack([item, own.turn]), axis=1, return_inverse=True)[1].ravel()
            found = reliability.consistency(own.means[:, k], item, confidence=confidence)
            icc = found.icc
            rows.append([name, metric, found.n_prompts, found.n_values, found.within_sd, icc.value, icc.low, icc.high])
    return _from_rows(_some("by", "metric", "n_prompts", "n", "within_sd", "icc", "icc_low", "icc_high"), rows)


def _nameless(names: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Tell which names `_filled` made up."""
    return np.asarray(pc.starts_with(names, "\0").to_numpy(), bool)


def parts(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    *,
    conversation: str | None = None,
    turn: str = "turn",
    where: Where = (),
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> pa.Table:
    """Compare what a model says in its reasoning with what it says in its answer (``affectcore score --parts both``).

    Parameters
    ----------
    conversation
        Column of the conversation, or of the document's id where the scores have no turns; default as for `by_turn`.
        Several samples of a document are averaged.
    scores, by, metrics, turn, where, confidence, seed, n_resamples
        As for `by_turn`.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `reasoning`, `answer` (means over the documents or turns that have both), `diff` (reasoning
        minus answer), `diff_low`, `diff_high` (resampling conversations), `n` (documents or turns with both).

    Raises
    ------
    UsageError
        As `by_turn` does; if there is no column `part`.
    InputError
        As `by_turn`.
    """
    source = open_scores(scores)
    source.require(["part"], "it tells reasoning from answers: score with --parts both")
    at = turn if turn in source.types else None
    key = _conversation(source, conversation)
    opened = _open(source, by, _some_metrics(metrics), where, [key, "part", *([at] if at else [])], confidence)
    cells, (_, said) = _cells(opened, by, [key, "part"], at)
    place = pc.index_in(said, pa.array(["reasoning", "answer"], said.type)).combine_chunks()
    part = np.asarray(pc.fill_null(place, -1).to_numpy(zero_copy_only=False), np.int64)
    m = len(opened.read)
    rows = []
    for name, own in cells._replace(keys=[*cells.keys, part]).of_models():
        at_turn = own.turn if at else np.zeros(len(own.model), np.int64)
        units, unit = np.unique(np.stack([own.keys[0], at_turn]), axis=1, return_inverse=True)
        means = np.full((2, units.shape[1], m), np.nan)
        known = own.keys[2] >= 0
        means[own.keys[2][known], unit.ravel()[known]] = own.means[known]
        both = ~np.isnan(means).any(axis=0)
        names, cluster = np.unique(units[0], return_inverse=True)
        c = len(names)
        sums, counts = np.zeros((2, c, m)), np.zeros((c, m))
        for side in (0, 1):
            np.add.at(sums[side], cluster, np.where(both, means[side], 0.0))
        np.add.at(counts, cluster, both.astype(np.float64))
        rows += [
            (name, k, *values) for k, values in enumerate(_differences(sums, counts, confidence, n_resamples, seed))
        ]
    rows.sort(key=lambda row: row[1])
    named = [[row[0], opened.names[row[1]], *row[2:5], *row[5:]] for row in rows]
    return _from_rows(_some("by", "metric", "reasoning", "answer", "diff", "diff_low", "diff_high", "n"), named)


def _differences(
    sums: Floats, counts: Floats, confidence: float, n_resamples: int, seed: int
) -> Iterator[tuple[float, float, float, float, float, int]]:
    """Yield both means, first minus second with its interval, and the number of pairs, for each metric.

    `sums` is (2, clusters, metrics), `counts` (clusters, metrics); pairs of a cluster are drawn together.
    """
    c, m = counts.shape
    both = np.concatenate(list(sums)), np.concatenate([counts, counts])
    cluster, side = np.tile(np.arange(c), 2), np.repeat([0, 1], c)
    boot = cluster_bootstrap(*both, cluster, side, n_models=2, n_resamples=n_resamples, seed=seed)
    drawn = boot.replicates[:, 0] - boot.replicates[:, 1]
    low, high = expanded_interval(drawn, boot.n_clusters[0], confidence)
    for k in range(m):
        a, b = boot.mean[:, k]
        yield a, b, a - b, low[k], high[k], int(boot.n_values[0, k])


@dataclass(frozen=True)
class Gate:
    """What moved between two runs, and whether it got worse; `against` makes it.

    Parameters
    ----------
    table
        `by`, `metric`; `old`, `new` (means over what both runs have), `diff` (new minus old), `diff_low`, `diff_high`;
        `p` and `p_holm`, corrected for all rows of the table; `worse` (bool): the difference goes the bad way, by the
        registry, and p_holm is below 1 - confidence; null where the registry knows no bad way, or there is no p.
    tolerance
        Differences up to this size, in the metric's unit, do not fail.
    notes
        What a reader of the numbers must know, as sentences: what was left out as it has no partner, among others.
    """

    table: pa.Table
    tolerance: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> pa.Table:
        """The rows that are worse by more than the tolerance."""
        beyond = pc.greater(pc.abs(self.table["diff"]), self.tolerance)
        return self.table.filter(pc.fill_null(pc.and_(self.table["worse"], beyond), False))

    @property
    def failed(self) -> bool:
        """Whether any metric of any model got worse by more than the tolerance."""
        return bool(self.regressions.num_rows)


def against(
    new_scores: Any,
    old_scores: Any,
    by: str,
    metrics: str | Iterable[str],
    pair_by: str | None = None,
    *,
    tolerance: float = 0.0,
    where: Where = (),
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Gate:
    """Compare two runs, such as two checkpoints of a model on the same prompts.

    Parameters
    ----------
    new_scores, old_scores
        As `scores` of `by_turn`. Models are held against themselves by name; where both runs have one model only, it
        may have two names.
    by, metrics, where, confidence, seed, n_resamples
        As for `by_turn`.
    pair_by
        Column that pairs rows; by default the first of `IDS` that both have. Values of one id are averaged first, so
        each id counts once.
    tolerance
        Differences up to this size, in the metric's unit, are no failure of the gate.

    Returns
    -------
    Gate
        Differences are tested as in `compare`: by flipping signs of paired differences, or the normal approximation of
        that where there are many.

    Raises
    ------
    UsageError
        As `by_turn` does; if the runs have no model or no id in common.
    InputError
        As `by_turn`.
    """
    if not tolerance >= 0:
        raise UsageError(f"tolerance must be at least 0, not {tolerance:g}")
    sources = open_scores(new_scores), open_scores(old_scores)
    shared = [set(s.types) - set(s.lacking) for s in sources]
    key = pair_by or next((name for name in IDS if name in shared[0] & shared[1] and name != by), None)
    if key is None:
        raise UsageError(
            "no column pairs the rows of the two runs: name one with pair_by (--pair-by), or score again and keep an id"
        )
    names = _some_metrics(metrics)
    opened = [_open(source, by, names, where, [key], confidence) for source in sources]
    found = [_cells(each, by, [key]) for each in opened]
    ids = _dense(pa.chunked_array([c for _, (column,) in found for c in column.chunks]))
    n_new = len(found[0][0].model)
    new, old = (
        cells.take(at)._replace(keys=[code[at]])
        for (cells, (column,)), code in zip(found, (ids[:n_new], ids[n_new:]))
        for at in [np.flatnonzero(~_nameless(column))]
    )
    notes = list(dict.fromkeys(note for source in sources for note in source.notes))
    pairs = _partners(new.models, old.models, by, notes)
    rows: list[list[Any]] = []
    n_pairs: dict[int, str] = {}
    for name, code_new, code_old in pairs:
        x, y = new.take(new.model == code_new), old.take(old.model == code_old)
        there, a, b = np.intersect1d(x.keys[0], y.keys[0], assume_unique=True, return_indices=True)
        left = len(x.model) + len(y.model) - 2 * len(there)
        if left:
            notes.append(
                f"{_name(name)}: {left:,} of {len(x.model) + len(y.model) - len(there):,} {key} are in one run only "
                "and were left out."
            )
        means = np.stack([x.means[a], y.means[b]])
        both = ~np.isnan(means).any(axis=0)
        sums, counts = np.where(both, means, np.zeros_like(means)), np.asarray(both, np.float64)
        tests = compare_paired(*means, seed=seed, rank_test=False)
        for k, values in enumerate(_differences(sums, counts, confidence, n_resamples, seed)):
            now, before, diff, low, high, n = values
            p = tests.p_permutation[k] if n > 1 else math.nan
            rows.append([name, k, before, now, diff, low, high, p])
            n_pairs.setdefault(n, _name(name))
    if not max(n_pairs, default=0):
        raise UsageError(f"the two runs have no {key} in common with values of both: name another column with pair_by")
    alpha = 1 - confidence
    for n, model in sorted(n_pairs.items()):
        if 2.0 ** (1 - n) * len(rows) > alpha:  # the least p that flipping the signs of n differences can give
            tests_made = f"{len(rows)} {'test' if len(rows) == 1 else 'tests'}"
            notes.append(f"{model}: {n:,} pairs are too few to find any difference among {tests_made}.")
    rows.sort(key=lambda row: row[1])
    corrected = holm([row[7] for row in rows])
    out = [
        [row[0], opened[0].names[row[1]], *row[2:], p, _worse(opened[0].read[row[1]], row[4], p, alpha)]
        for row, p in zip(rows, corrected)
    ]
    changed = differing(*(s.settings for s in reversed(sources))) if all(s.settings for s in sources) else []
    if changed:
        notes.append(f"The runs were scored with different settings, old and new: {', '.join(changed)}.")
    columns = ("by", "metric", "old", "new", "diff", "diff_low", "diff_high", "p", "p_holm")
    return Gate(_from_rows([*_some(*columns), ("worse", pa.bool_())], out), tolerance, tuple(notes))


def _name(model: str | None) -> str:
    return "(null)" if model is None else model


def _partners(
    new: list[str | None], old: list[str | None], by: str, notes: list[str]
) -> list[tuple[str | None, int, int]]:
    """Return the models of both runs, with their codes."""
    if len(new) == len(old) == 1:
        if new != old:
            notes.append(f"{_name(new[0])} is held against {_name(old[0])}.")
        return [(new[0], 0, 0)]
    both = [(name, new.index(name), old.index(name)) for name in new if name in old]
    if not both:
        raise UsageError(f"the two runs have no model in common (column {by!r}): {few(new)}; and {few(old)}")
    lonely = [name for name in [*new, *old] if (name in new) != (name in old)]
    if lonely:
        notes.append(f"In one run only, and left out: {few(lonely)}.")
    return both


def _worse(bound: totals.Bound, diff: float, p: float, alpha: float) -> bool | None:
    bad = METRICS[bound.column].higher_is if bound.column in METRICS else "neither"
    if bad == "neither" or math.isnan(p):
        return None
    up = (bad == "worse") != (bound.condition is not None and bound.condition.operator.startswith("<"))
    return bool(p < alpha and (diff > 0) == up)


# Descriptions


def emotions(scores: Any, by: str, *, where: Where = ()) -> pa.Table:
    """Return the mean probability of every emotion that the scores have.

    Parameters
    ----------
    scores, by, where
        As for `by_turn`.

    Returns
    -------
    pyarrow.Table
        `by`, `emotion` (its label, in the registry's order), `mean` over the rows; no rows where the scores have no
        columns ``emotion_<label>``.

    Raises
    ------
    UsageError, InputError
        As `by_turn` does.
    """
    source = open_scores(scores)
    there = [name for name in GROUPS["emotion"] if name in source.types and name not in source.lacking]
    schema = _some("by", "emotion", "mean")
    if not there:
        return _from_rows(schema, [])
    opened = _open(source, by, there, where, [])
    cells, _ = _cells(opened, by)
    labels = [name.removeprefix("emotion_") for name in opened.names]
    return _from_rows(
        schema,
        [[name, label, x] for name, own in cells.of_models() for label, x in zip(labels, own.means[0])],
    )


def distributions(scores: Any, by: str, metrics: str | Iterable[str], *, bins: int = 40, where: Where = ()) -> pa.Table:
    """Return histograms: the share of each model's values in bins of equal width, the same for all models.

    Parameters
    ----------
    bins
        Number of bins between the least and the greatest value of any model.
    scores, by, metrics, where
        As for `by_turn`. The files are read twice.

    Returns
    -------
    pyarrow.Table
        `by`, `metric`, `low`, `high`, `share` (float64); shares of a model sum up to 1. The last bin holds its upper
        end, too. Values that are all equal lie in the middle bin of an interval of width 1.

    Raises
    ------
    UsageError, InputError
        As `by_turn` does; UsageError if there is no bin.
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, not {bins}")
    opened = _open(scores, by, _some_metrics(metrics), where, [])
    m = len(opened.read)
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    for _, values, good in _streamed(opened, by):
        for k in range(m):
            found = values[k][good[k]]
            low[k], high[k] = min(low[k], found.min(initial=np.inf)), max(high[k], found.max(initial=-np.inf))
    flat = low == high
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    models: dict[str | None, int] = {}
    table = np.zeros((0, m, bins), np.int64)
    for names, values, good in _streamed(opened, by):
        code = _code(names, models)
        if len(models) > len(table):
            table = np.concatenate([table, np.zeros((len(models) - len(table), m, bins), np.int64)])
        for k in range(m):
            at = ((values[k][good[k]] - low[k]) / (high[k] - low[k]) * bins).astype(np.int64)
            cell = code[good[k]] * bins + np.minimum(at, bins - 1)
            table[:, k] += np.bincount(cell, minlength=len(table) * bins).reshape(-1, bins)
    rows: list[list[Any]] = []
    for k, metric in enumerate(opened.names):
        ends = np.linspace(low[k], high[k], bins + 1).tolist() if np.isfinite(low[k]) else []
        for name in sorted(models, key=lambda v: (v is None, v or "")):
            count = table[models[name], k]
            if count.sum():
                rows += [[name, metric, *bin] for bin in zip(ends, ends[1:], (count / count.sum()).tolist())]
    kinds = [("by", pa.string()), ("metric", pa.string()), *((n, pa.float64()) for n in ("low", "high", "share"))]
    return _from_rows(kinds, rows)


def _streamed(opened: _Opened, by: str) -> Iterator[tuple[Any, list[Floats], list[NDArray[np.bool_]]]]:
    """Yield the models, the values and whether there is one, of the rows that count, batch by batch."""
    columns = list(dict.fromkeys(bound.column for bound in opened.read))
    for batch in opened.source.batches(list(dict.fromkeys([by, *opened.only])), columns):
        for column in opened.only:
            batch = batch.filter(totals.is_answer(batch, column))
        pairs = [totals.values(batch, bound) for bound in opened.read]
        to_numpy: Callable[[Any], Any] = lambda column: column.to_numpy(zero_copy_only=False)  # noqa: E731
        yield as_text(batch[by]), [to_numpy(v) for v, _ in pairs], [to_numpy(g) for _, g in pairs]


def _code(names: Any, models: dict[str | None, int]) -> Ints:
    """Return the codes of models, which grow with new ones."""
    found = pc.dictionary_encode(names, null_encoding="encode")
    local = [models.setdefault(value, len(models)) for value in found.dictionary.to_pylist()]
    if len(models) > totals.MOST_MODELS:
        raise UsageError(f"the scores have more than {totals.MOST_MODELS:,} models: choose another column with by")
    return np.asarray(local, np.int64)[found.indices.to_numpy()] if local else np.empty(0, np.int64)
