"""How well scores agree with labels: figures with bootstrap intervals, for classifiers and regressions.

One function computes all figures from row weights. With weights of one it gives the estimates; with multinomial weights
it gives a bootstrap replicate, so estimates and intervals cannot drift apart. Ranks are taken by sorting once: a
replicate only changes the weights of rows in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore import escape
from affectcore.errors import UsageError
from affectcore.settings import usable_cores
from affectcore.stats.bootstrap import interval
from affectcore.stats.calibration import log_loss

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["BINS", "Bin", "Evaluation", "Figure", "evaluate", "reliability"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
"""Equal-width bins of the calibration error and of reliability tables."""

_CELLS = 1 << 17  # rows x replicates worked on at a time: they stay in a core's cache

_TITLES = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "micro_precision": "micro precision",
    "micro_recall": "micro recall",
    "macro_auroc": "macro AUROC",
    "macro_average_precision": "macro average precision",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "macro_ece": "calibration error, macro",
    "top_ece": "calibration error, top label",
    "pearson": "Pearson r",
    "spearman": "Spearman rho",
    "mae": "mean absolute error",
    "r2": "R2",
}
_COLUMNS = {
    "precision": "prec.",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "AP",
    "ece": "ECE",
    "pearson": "Pearson r",
    "spearman": "Spearman",
    "mae": "MAE",
    "r2": "R2",
}


@dataclass(frozen=True)
class Figure:
    """A figure and the ends of its interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self, digits: int = 3, *, ends: bool = True) -> str:
        """Return for example ``0.431 [0.412, 0.448]``, or ``–`` where there is no value."""
        if self.value is None:
            return "–"
        if not ends or self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class Bin:
    """One row of a reliability table: `n` rows scored in [low, high), their mean score, and what was observed."""

    low: float
    high: float
    n: int
    predicted: float | None
    observed: float | None


@dataclass(frozen=True)
class Evaluation:
    """The outcome of `evaluate`.

    Parameters
    ----------
    kind
        ``multi_label``, ``single_label`` or ``regression``.
    labels
        Names of the outputs.
    n, n_clusters
        Rows, and clusters that were resampled (rows, unless clusters were given).
    support
        Per label: rows that have it; for regressions, rows.
    overall
        Name of a figure to figure: over all labels.
    per_label
        Label to name of a figure to figure.
    reliability
        Label to its reliability table, and ``(all)`` to that of all labels together (for single-label heads, of the
        chosen label and its score).
    thresholds
        Per label, what decisions were made with; None where the highest score decides, or nothing is decided.
    n_resamples, seed, confidence
        Settings of the bootstrap.
    notes
        What a reader of the figures must know, as sentences.
    """

    kind: str
    labels: tuple[str, ...]
    n: int
    n_clusters: int
    support: dict[str, int]
    overall: dict[str, Figure]
    per_label: dict[str, dict[str, Figure]]
    reliability: dict[str, list[Bin]]
    thresholds: dict[str, float] | None
    n_resamples: int
    seed: int
    confidence: float
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The rows, replicates, seed and interval method, as one line."""
        clusters = "" if self.n_clusters == self.n else f" in {self.n_clusters:,} clusters"
        if not self.n_resamples:
            return f"{self.n:,} rows{clusters}; no intervals"
        return (
            f"{self.n:,} rows{clusters}; {self.n_resamples:,} bootstrap replicates, seed {self.seed}; "
            f"{self.confidence * 100:g}% percentile intervals"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain, JSON-able values; figures as {value, low, high}."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "n": self.n,
            "n_clusters": self.n_clusters,
            "support": self.support,
            "overall": {name: vars(figure) for name, figure in self.overall.items()},
            "per_label": {
                label: {name: vars(figure) for name, figure in figures.items()}
                for label, figures in self.per_label.items()
            },
            "reliability": {label: [vars(row) for row in rows] for label, rows in self.reliability.items()},
            "thresholds": self.thresholds,
            "n_resamples": self.n_resamples,
            "seed": self.seed,
            "confidence": self.confidence,
            "interval": "percentile of the bootstrap",
            "notes": list(self.notes),
            **self.settings,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text that ends with a line feed."""
        return escape.json(self.to_dict(), indent=1) + "\n"

    def to_markdown(self) -> str:
        """Return tables of figures and the reliability table as Markdown, with a final line feed."""
        lines = ["| figure | value | interval |", "| --- | ---: | --- |"]
        for name, figure in self.overall.items():
            lines.append(f"| {_TITLES[name]} | {figure.text(ends=False)} | {_ends(figure)} |")
        columns = list(next(iter(self.per_label.values())))
        lines += ["", f"| label | n | {' | '.join(_COLUMNS[c] for c in columns)} |"]
        lines.append("| --- | ---: |" + " ---: |" * len(columns))
        for label in self.labels:
            cells = [self.per_label[label][c].text() for c in columns]
            lines.append(f"| {escape.markdown(label, cell=True)} | {self.support[label]:,} | {' | '.join(cells)} |")
        lines += ["", "| score | n | mean score | observed |", "| --- | ---: | ---: | ---: |"]
        for row in self.reliability["(all)"]:
            if row.n:
                span = f"{row.low:.3g} to {row.high:.3g}"
                lines.append(f"| {span} | {row.n:,} | {_number(row.predicted)} | {_number(row.observed)} |")
        for line in (f"{self.method}.", *self.notes):
            lines += ["", escape.markdown(line)]
        return "\n".join(lines) + "\n"

    def to_rich(self, *, table: bool = True) -> RenderableType:
        """Return the report as a rich renderable for a console of 80 columns; `table` adds the reliability table."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        overall = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        overall.add_column(no_wrap=True)
        overall.add_column(no_wrap=True)
        for name, figure in self.overall.items():
            overall.add_row(_TITLES[name], Text(figure.text()))
        parts += [overall, Text("")]
        columns = list(next(iter(self.per_label.values())))
        each = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        each.add_column("label", overflow="ellipsis", no_wrap=True)
        each.add_column("n", justify="right", no_wrap=True)
        for c in columns:
            each.add_column(_COLUMNS[c], justify="right", no_wrap=True)
        with_ends = "pearson" if self.kind == "regression" else "f1"  # for all of them 80 columns are too few
        digits = 3 if self.kind == "regression" else 2
        for label in self.labels:
            figures = self.per_label[label]
            cells = [Text(figures[c].text(3 if c == "ece" else digits, ends=c == with_ends)) for c in columns]
            each.add_row(escape.rich(label), f"{self.support[label]:,}", *cells)
        parts += [each, Text("")]
        if table:
            bins = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
            for name in ("score", "n", "mean score", "observed"):
                bins.add_column(name, justify="right", no_wrap=True)
            for row in self.reliability["(all)"]:
                if row.n:
                    span = f"{row.low:.3g} to {row.high:.3g}"
                    bins.add_row(span, f"{row.n:,}", _number(row.predicted), _number(row.observed))
            parts += [bins, Text("")]
        parts += [escape.rich(line) for line in (self.method, *self.notes)]
        return Group(*parts)

    def summary(self) -> str:
        """Return the most telling figures on one line."""
        wanted = ("macro_f1", "micro_f1", "accuracy", "macro_auroc", "macro_ece", "pearson", "spearman", "mae")
        return "; ".join(f"{_TITLES[name]} {self.overall[name].text()}" for name in wanted if name in self.overall)


def _ends(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def evaluate(
    scores: ArrayLike,
    y: ArrayLike,
    *,
    kind: str,
    labels: Sequence[str],
    thresholds: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Evaluation:
    """Compare scores with labels.

    Parameters
    ----------
    scores
        Activated scores, shape (n, k).
    y
        ``multi_label``: 0 or 1, shape (n, k). ``single_label``: codes of the labels from 0, shape (n,); -1 is a label
        that the head does not know: a wrong decision whatever is decided. ``regression``: values, shape (n, k).
    kind
        ``multi_label``, ``single_label`` or ``regression``.
    labels
        Names of the k outputs.
    thresholds
        Shape (k,); for ``multi_label``, a label is given where its score is at least this (by default 0.5).
        ``single_label`` gives the label with the highest score, of equals the first.
    cluster
        Code of each row's cluster, shape (n,), any integers: clusters are resampled as a whole. By default every row
        is one.
    n_resamples
        Number of bootstrap replicates; 0 for no intervals.
    seed
        Seed of the draws: same input, same seed, same report.
    confidence
        Share of the replicates inside an interval.

    Returns
    -------
    Evaluation
        Per label (one against the rest for ``single_label``): precision (0 where the label is never given), recall, F1,
        AUROC (ties count half), average precision (equal scores enter together) and expected calibration error (mean
        over 15 equal-width bins of the distance between mean score and share observed, weighted by rows). A label
        without positives has None for all of them but the calibration error, and is left out of the macro means, which
        are plain means over the other labels; its false alarms still count in the micro figures. Regressions: Pearson,
        Spearman (mean ranks for ties), mean absolute error, R2; their means over outputs if there are several.

        In a replicate without positives of a label, that label is left out as well. Resampling adds noise within bins,
        which raises the calibration error of every replicate: they are moved down so that their mean is the estimate.

    Raises
    ------
    UsageError
        If shapes disagree, a value is not finite, there are no rows or an option is out of range.
    """
    p = np.asarray(scores, np.float64)
    names = tuple(labels)
    t = np.asarray(y, np.int64 if kind == "single_label" else np.float64)
    if kind not in ("multi_label", "single_label", "regression"):
        raise UsageError(f"unknown kind {kind!r}: kinds are multi_label, single_label, regression")
    expected = p.shape[:1] if kind == "single_label" else p.shape
    if p.ndim != 2 or t.shape != expected or p.shape[1] != len(names):
        raise UsageError(f"scores {p.shape}, y {t.shape} and {len(names)} labels do not fit together")
    if len(p) == 0:
        raise UsageError("there are no labelled rows to evaluate on")
    if not np.isfinite(p).all() or not np.isfinite(t).all():
        raise UsageError("scores and labels must be finite: leave rows without them out")
    if n_resamples < 0 or seed < 0 or not 0 < confidence < 1:
        raise UsageError("n_resamples and seed must be at least 0, and confidence between 0 and 1")
    if cluster is None:
        code: Ints | None = None
        n_clusters = len(p)
    else:
        unique, code = np.unique(np.asarray(cluster), return_inverse=True)
        if code.shape != (len(p),):
            raise UsageError(f"cluster {code.shape} must have one code per row, {len(p)}")
        n_clusters = len(unique)

    figures: _Classifier | _Regression
    if kind == "regression":
        figures = _Regression(p, t.astype(np.float64))
    else:
        figures = _Classifier(p, t, kind, thresholds)
    overall, per_label = figures.of(np.ones((len(p), 1)))
    if n_resamples and n_clusters > 1:
        rep_overall, rep_label = _replicates(figures, code, len(p), n_clusters, n_resamples, seed)
    else:
        rep_overall, rep_label = {}, {}

    def ends(name: str, estimate: Floats, replicates: Floats | None) -> tuple[Any, Any]:
        if replicates is None:
            return None, None
        if name.endswith("ece"):  # see the docstring
            replicates = np.maximum(replicates - (replicates.mean(axis=0) - estimate), 0.0)
        return interval(replicates, confidence)

    out_overall: dict[str, Figure] = {}
    for name, value in overall.items():
        low, high = ends(name, value, rep_overall.get(name))
        out_overall[name] = _figure(value[0], low, high)
    out_label: dict[str, dict[str, Figure]] = {name: {} for name in names}
    for name, values in per_label.items():
        low, high = ends(name, values[0], rep_label.get(name))
        for j, label in enumerate(names):
            ends_j = (None, None) if low is None else (low[j], high[j])
            out_label[label][name] = _figure(values[0, j], *ends_j)

    tables, limits = figures.tables()
    notes = figures.notes(names)
    if n_resamples and n_clusters < 20:
        what = "rows" if code is None else "clusters"
        notes.append(f"Only {n_clusters} {what}: intervals from so few are too narrow.")
    return Evaluation(
        kind=kind,
        labels=names,
        n=len(p),
        n_clusters=n_clusters,
        support=dict(zip(names, figures.support)),
        overall=out_overall,
        per_label=out_label,
        reliability=dict(zip((*names, "(all)"), tables)),
        thresholds=None if limits is None else dict(zip(names, limits)),
        n_resamples=n_resamples if n_clusters > 1 else 0,
        seed=seed,
        confidence=confidence,
        notes=tuple(notes),
    )


def _figure(value: float, low: float | None = None, high: float | None = None) -> Figure:
    if math.isnan(value):
        return Figure(None)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return Figure(float(value))
    return Figure(float(value), float(low), float(high))


def _replicates(
    figures: _Classifier | _Regression, code: Ints | None, n: int, n_clusters: int, n_resamples: int, seed: int
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    size = max(4, min(32, _CELLS // n))
    starts = range(0, n_resamples, size)

    def block(start: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        count = min(size, n_resamples - start)
        weights = np.empty((n_clusters, count))
        for i in range(count):
            # A stream per replicate: the numbers do not depend on how replicates are cut into blocks.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, start + i)))
            weights[:, i] = np.bincount(rng.integers(0, n_clusters, n_clusters), minlength=n_clusters)
        return figures.of(weights if code is None else weights[code])

    with ThreadPoolExecutor(min(usable_cores(), len(starts))) as pool:
        parts = list(pool.map(block, starts))
    return tuple({key: np.concatenate([part[i][key] for part in parts]) for key in parts[0][i]} for i in range(2))  # type: ignore[return-value]


def _divide(a: Floats, b: Floats) -> Floats:
    shape = np.broadcast_shapes(a.shape, b.shape)
    out: Floats = np.divide(a, b, out=np.full(shape, np.nan), where=np.broadcast_to(b, shape) > 0)
    return out


def _mean(values: Floats, columns: NDArray[np.bool_]) -> Floats:
    """Return the mean over the chosen columns, of those that are not NaN."""
    chosen = values[:, columns]
    known = ~np.isnan(chosen)
    return _divide(np.where(known, chosen, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64))


class _Order:
    """Rows sorted by score, highest first, with the ends of runs of equal scores, as one label needs them."""

    def __init__(self, score: Floats, y: Floats) -> None:
        self.order = np.argsort(-score, kind="stable")
        ordered = score[self.order]
        self.positive = np.flatnonzero(y[self.order])
        change = np.flatnonzero(np.diff(ordered))
        ends = np.append(change, len(score) - 1)
        starts = np.concatenate([[0], change + 1])
        group = np.searchsorted(ends, self.positive)
        self.group_start, self.group_end = starts[group], ends[group]
        # The first and last positive of each positive's run.
        self.first = np.searchsorted(self.positive, self.group_start, side="left")
        self.last = np.searchsorted(self.positive, self.group_end, side="right") - 1
        bins = _bin(ordered, 0.0, 1.0)
        self.bin_starts = np.flatnonzero(np.diff(bins, prepend=-1))
        self.gap = (y[self.order] - ordered)[:, None]


def _bin(scores: Floats, low: float, high: float) -> Ints:
    width = (high - low) or 1.0
    return np.clip(((scores - low) / width * BINS).astype(np.int64), 0, BINS - 1)


def reliability(scores: ArrayLike, y: ArrayLike, low: float = 0.0, high: float = 1.0) -> list[Bin]:
    """Return the reliability table of scores in [low, high]: 15 equal-width bins.

    Parameters
    ----------
    scores, y
        Scores and what was observed (0 or 1, or the value of a regression), shape (n,).
    low, high
        Range of the bins; scores outside go to the first or last.
    """
    p, t = np.asarray(scores, np.float64), np.asarray(y, np.float64)
    at = _bin(p, low, high)
    n = np.bincount(at, minlength=BINS)
    predicted, observed = (np.bincount(at, weights=v, minlength=BINS) for v in (p, t))
    edges = np.linspace(low, high, BINS + 1)
    return [
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n[i]),
            float(predicted[i] / n[i]) if n[i] else None,
            float(observed[i] / n[i]) if n[i] else None,
        )
        for i in range(BINS)
    ]


class _Classifier:
    """Figures of a classifier as functions of row weights."""

    def __init__(self, p: Floats, y: NDArray[Any], kind: str, thresholds: ArrayLike | None) -> None:
        n, k = p.shape
        self.p, self.kind = p, kind
        self.single = kind == "single_label"
        self.limits: Floats | None = None
        self.unknown = 0
        if self.single:
            self.y = np.zeros((n, k))
            known = y >= 0
            if y.max(initial=-1) >= k:
                raise UsageError(f"a code is {int(y.max())}, but there are only {k} labels")
            self.unknown = int((~known).sum())
            self.y[np.flatnonzero(known), y[known]] = 1
            chosen = p.argmax(axis=1)
            self.given = np.zeros((n, k))
            self.given[np.arange(n), chosen] = 1
            self.correct = (chosen == y).astype(np.float64)
            self.top = _Order(p.max(axis=1), self.correct)
        else:
            if not np.isin(y, (0, 1)).all():
                raise UsageError("labels of a multi-label head must be 0 or 1")
            self.y = y
            limits = np.full(k, 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
            if limits.shape != (k,) or np.isnan(limits).any():
                raise UsageError(f"thresholds must be {k} numbers")
            self.limits = limits
            self.given = (p >= limits).astype(np.float64)
        loss = log_loss(p, y, kind)
        self.has_loss = (~np.isnan(loss)).astype(np.float64)
        self.loss = np.nan_to_num(loss)
        self.columns = np.concatenate([self.given * self.y, self.given, self.y], axis=1)
        self.orders = [_Order(p[:, j], self.y[:, j]) for j in range(k)]
        self.judged: NDArray[np.bool_] = np.asarray(self.y.any(axis=0))
        self.support = [int(v) for v in self.y.sum(axis=0)]

    def of(self, w: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return the figures under weights, shape (n, r): overall (r,), per label (r, k)."""
        r, k = w.shape[1], self.p.shape[1]
        total = w.sum(axis=0)
        both, given, positive = (w.T @ self.columns).reshape(r, 3, k).transpose(1, 0, 2)
        precision = np.where(positive > 0, np.divide(both, given, out=np.zeros((r, k)), where=given > 0), np.nan)
        recall = _divide(both, positive)
        f1 = np.where(positive > 0, _divide(2 * both, given + positive), np.nan)
        auroc, average, error = np.empty((3, r, k))
        for j, order in enumerate(self.orders):
            auroc[:, j], average[:, j], error[:, j] = _ranked(order, w, total)
        overall = {}
        if self.single:
            overall["accuracy"] = (w.T @ self.correct) / total
        overall["macro_f1"] = _mean(f1, self.judged)
        if not self.single:
            overall["micro_f1"] = _divide(2 * both.sum(axis=1), (given + positive).sum(axis=1))
        overall["macro_precision"] = _mean(precision, self.judged)
        overall["macro_recall"] = _mean(recall, self.judged)
        if not self.single:
            overall["micro_precision"] = _divide(both.sum(axis=1), given.sum(axis=1))
            overall["micro_recall"] = _divide(both.sum(axis=1), positive.sum(axis=1))
        overall["macro_auroc"] = _mean(auroc, self.judged)
        overall["macro_average_precision"] = _mean(average, self.judged)
        overall["log_loss"] = _divide(w.T @ self.loss, w.T @ self.has_loss)
        overall["macro_ece"] = _mean(error, np.ones(k, bool))
        if self.single:
            overall["top_ece"] = _gap(self.top, w[self.top.order], total)
        return overall, {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "auroc": auroc,
            "average_precision": average,
            "ece": error,
        }

    def tables(self) -> tuple[list[list[Bin]], list[float] | None]:
        """Return the reliability table per label and over all, and the thresholds."""
        tables = [reliability(self.p[:, j], self.y[:, j]) for j in range(self.p.shape[1])]
        if self.single:
            tables.append(reliability(self.p.max(axis=1), self.correct))
        else:
            tables.append(reliability(self.p.ravel(), self.y.ravel()))
        return tables, None if self.limits is None else [float(v) for v in self.limits]

    def notes(self, names: Sequence[str]) -> list[str]:
        """Say what was left out."""
        notes = []
        absent = [name for name, there in zip(names, self.judged) if not there]
        if absent:
            notes.append(f"No row has {_listed(absent)}: left out of the macro means.")
        silent = [n for n, there, g in zip(names, self.judged, np.asarray(self.given.any(axis=0))) if there and not g]
        if silent:
            notes.append(f"Never given, so precision and F1 are 0: {_listed(silent)}.")
        if self.unknown:
            notes.append(
                f"Rows with a label that the head does not know: {self.unknown:,}. They are wrong decisions, but no "
                "part of the log loss."
            )
        return notes


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _gap(order: _Order, ordered_weights: Floats, total: Floats) -> Floats:
    """Return the expected calibration error, shape (r,)."""
    sums = np.add.reduceat(ordered_weights * order.gap, order.bin_starts, axis=0)
    return np.asarray(np.abs(sums).sum(axis=0) / total)


def _ranked(order: _Order, w: Floats, total: Floats) -> tuple[Floats, Floats, Floats]:
    """Return AUROC, average precision and calibration error of one label, shape (r,) each."""
    ordered = w[order.order]
    error = _gap(order, ordered, total)
    r = w.shape[1]
    if not len(order.positive):
        return np.full(r, np.nan), np.full(r, np.nan), error
    mass = ordered[order.positive]
    cumulated = np.cumsum(ordered, axis=0, out=ordered)
    hits = np.cumsum(mass, axis=0)
    all_end = cumulated[order.group_end]
    all_before = np.where((order.group_start > 0)[:, None], cumulated[order.group_start - 1], 0.0)
    hits_end = hits[order.last]
    hits_before = hits[order.first] - mass[order.first]
    positives = hits[-1]
    negatives = total - positives
    above = all_before - hits_before
    tied = all_end - all_before - (hits_end - hits_before)
    auroc = _divide((mass * (negatives - above - 0.5 * tied)).sum(axis=0), positives * negatives)
    precision = np.divide(hits_end, all_end, out=np.zeros_like(all_end), where=all_end > 0)
    return auroc, _divide((mass * precision).sum(axis=0), positives), error


class _Ranks:
    """Rows sorted by value, with the run of equal values each belongs to."""

    def __init__(self, values: Floats) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        change = np.flatnonzero(np.diff(ordered))
        ends, starts = np.append(change, len(values) - 1), np.concatenate([[0], change + 1])
        group = np.searchsorted(ends, np.arange(len(values)))
        self.back = np.empty(len(values), np.int64)
        self.back[self.order] = group
        self.starts, self.ends = starts, ends

    def of(self, w: Floats) -> Floats:
        """Return the mean rank of each row where row i is there w[i] times, shape (n, r)."""
        cumulated = np.cumsum(w[self.order], axis=0)
        end = cumulated[self.ends]
        before = np.where((self.starts > 0)[:, None], cumulated[self.starts - 1], 0.0)
        return np.asarray((before + (end - before + 1) / 2)[self.back])


class _Regression:
    """Figures of a regression as functions of row weights."""

    def __init__(self, p: Floats, y: Floats) -> None:
        self.p, self.y = p, y
        # Centred once, so that sums of squares lose no digits; the figures do not depend on it.
        self.x, self.t = p - p.mean(axis=0), y - y.mean(axis=0)
        self.error = p - y
        self.rank_x = [_Ranks(column) for column in p.T]
        self.rank_y = [_Ranks(column) for column in y.T]
        self.support = [len(p)] * p.shape[1]

    def of(self, w: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return the figures under weights, shape (n, r): overall (r,), per output (r, k)."""
        total = w.sum(axis=0)[:, None]
        k = self.p.shape[1]
        pearson = _correlation(
            w.T @ self.x, w.T @ self.t, w.T @ self.x**2, w.T @ self.t**2, w.T @ (self.x * self.t), total
        )
        spearman = np.empty_like(pearson)
        for j in range(k):
            a, b = self.rank_x[j].of(w), self.rank_y[j].of(w)
            middle = (total[:, 0] + 1) / 2  # weighted mean ranks always have this mean
            a, b = a - middle, b - middle
            sums = [(w * v).sum(axis=0)[:, None] for v in (a, b, a * a, b * b, a * b)]
            spearman[:, j] = _correlation(sums[0], sums[1], sums[2], sums[3], sums[4], total)[:, 0]
        mean = (w.T @ self.t) / total
        spread = w.T @ self.t**2 - total * mean**2
        found = {
            "pearson": pearson,
            "spearman": spearman,
            "mae": (w.T @ np.abs(self.error)) / total,
            "r2": 1 - _divide(w.T @ self.error**2, np.where(spread > 1e-12 * total, spread, 0.0)),
        }
        every = np.ones(k, bool)
        return {name: _mean(values, every) for name, values in found.items()}, found

    def tables(self) -> tuple[list[list[Bin]], None]:
        """Return the reliability table per output and over all, over the range of the scores."""
        low, high = float(self.p.min()), float(self.p.max())
        tables = [reliability(self.p[:, j], self.y[:, j], low, high) for j in range(self.p.shape[1])]
        return [*tables, reliability(self.p.ravel(), self.y.ravel(), low, high)], None

    def notes(self, names: Sequence[str]) -> list[str]:
        """Say what is not defined."""
        still = [n for n, a, b in zip(names, np.ptp(self.p, axis=0), np.ptp(self.y, axis=0)) if a == 0 or b == 0]
        return [f"Constant, so that no correlation is defined: {_listed(still)}."] if still else []


def _correlation(sx: Floats, sy: Floats, sxx: Floats, syy: Floats, sxy: Floats, total: Floats) -> Floats:
    vx, vy = sxx - sx * sx / total, syy - sy * sy / total
    vx, vy = np.where(vx > 1e-12 * sxx, vx, 0.0), np.where(vy > 1e-12 * syy, vy, 0.0)
    return np.clip(_divide(sxy - sx * sy / total, np.sqrt(vx * vy)), -1, 1)
