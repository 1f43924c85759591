"""Train a head on a model's frozen features: fit, calibrate, choose thresholds, and judge it on rows it never saw.

`fit` is the arithmetic (NumPy arrays in, a head out), `train` the whole way from labelled files to a model directory,
`evaluate_head` judges a head of a model on labelled files.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore import escape
from affectcore._version import __version__
from affectcore.errors import OutputError, UsageError, suggest
from affectcore.models import base
from affectcore.models.base import Head, Kind, Model
from affectcore.stats.calibration import Calibration, Thresholds, activate, calibrate, choose_thresholds, log_loss
from affectcore.stats.evaluation import Evaluation, evaluate
from affectcore.stats.optimize import minimize
from affectcore.training.labelled import KINDS, SPLITS, Rows, Target, encode, folded, read, source_name, split_rows

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["PENALTIES", "Fit", "Trained", "evaluate_head", "fit", "train"]

Floats = NDArray[np.float64]

PENALTIES = tuple(float(f"{v:.0e}") for v in 10.0 ** np.arange(0, -6.5, -0.5))
"""L2 penalties that are tried, strongest first: half the penalty times the squared weights of standardized features is
added to the mean loss."""

_LEAST_ROWS = 30
_LEAST_STD = 1e-6
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True)
class Fit:
    """A fitted head, and how it was chosen.

    Parameters
    ----------
    head
        The head.
    penalty
        The L2 penalty with the lowest loss on dev.
    losses
        Loss on dev of every penalty tried: mean log loss; for regressions the mean squared error, in units of the
        targets' variance.
    calibration
        How scale and shift were chosen.
    thresholds
        How thresholds were chosen; None unless multi-label.
    """

    head: Head
    penalty: float
    losses: dict[float, float]
    calibration: Calibration
    thresholds: Thresholds | None


def fit(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_dev: ArrayLike,
    y_dev: ArrayLike,
    *,
    kind: Kind,
    labels: Sequence[str],
    name: str = "head",
    columns: Sequence[str] | None = None,
    group_dev: ArrayLike | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Fit:
    """Fit a head: logistic (a sigmoid per label), softmax or ridge regression on standardized features.

    Penalties are tried from strong to weak, each from the weights of the one before, until the loss on dev has risen
    twice. The features are turned into their principal directions, where a diagonal scaling makes the loss nearly round
    and L-BFGS needs few steps; a penalty on the weights does not depend on such a turn.

    Parameters
    ----------
    x_train, x_dev
        Features, float32 (n, d).
    y_train, y_dev
        ``multi_label``: 0 or 1, (n, k). ``single_label``: codes from 0, (n,); rows with code -1 are left out.
        ``regression``: (n, k).
    kind
        Kind of the head.
    labels
        Names of the k outputs.
    name
        Name of the head.
    columns
        Names of the score columns; by default the head's name for one output, else ``<name>_<label>``.
    group_dev
        Codes of clusters of the rows of dev, for the folds that calibration and thresholds are chosen over.
    penalties
        L2 penalties, strongest first.
    seed
        Seed of those folds.

    Returns
    -------
    Fit

    Raises
    ------
    UsageError
        If shapes disagree, features are not finite, or there are no rows.
    """
    x, xd = np.asarray(x_train, np.float32), np.asarray(x_dev, np.float32)
    dtype = np.int64 if kind == "single_label" else np.float32
    y, yd = np.asarray(y_train, dtype), np.asarray(y_dev, dtype)
    k = len(labels)
    if x.ndim != 2 or xd.ndim != 2 or x.shape[1] != xd.shape[1] or len(x) != len(y) or len(xd) != len(yd):
        raise UsageError(f"features {x.shape}, {xd.shape} and targets {y.shape}, {yd.shape} do not fit together")
    groups = None if group_dev is None else np.asarray(group_dev)
    if kind == "single_label":
        there, known = np.asarray(y) != -1, np.asarray(yd) != -1
        x, y = x[there], y[there]
        xd, yd, groups = xd[known], yd[known], None if groups is None else groups[known]
        if k < 2:
            raise UsageError("a single-label head needs at least two labels")
    elif y.shape[1:] != (k,) or yd.shape[1:] != (k,):
        raise UsageError(f"targets {y.shape}, {yd.shape} do not have {k} columns")
    if not len(x) or not len(xd):
        raise UsageError("there are no rows to train on, or none to choose by")
    if not np.isfinite(x).all() or not np.isfinite(xd).all():
        raise UsageError("features must be finite")

    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    # A feature that never changes tells nothing: its weight is 0, whatever it is on other rows.
    inverse = np.where(spread > _LEAST_STD * (1 + np.abs(mean)), 1 / np.maximum(spread, 1e-30), 0.0)
    z = (x - mean.astype(np.float32)) * inverse.astype(np.float32)
    values, vectors = np.linalg.eigh((z.T @ z).astype(np.float64) / len(z))
    values = np.maximum(values, 0.0)
    turned = z @ vectors.astype(np.float32)
    turned_dev = ((xd - mean.astype(np.float32)) * inverse.astype(np.float32)) @ vectors.astype(np.float32)

    solve = _Ridge(turned, y, values) if kind == "regression" else _Logistic(turned, y, values, kind, k)
    losses: dict[float, float] = {}
    best: tuple[float, Floats, Floats] | None = None
    rises, last = 0, np.inf
    for penalty in penalties:
        weight, bias = solve(penalty)
        logits = turned_dev @ weight.astype(np.float32) + bias.astype(np.float32)
        if kind == "regression":
            scale = np.maximum(y.var(axis=0), 1e-12)
            loss = float((((logits - yd) ** 2).mean(axis=0) / scale).mean())
        else:
            loss = float(log_loss(activate(logits, kind), yd, kind).mean())
        losses[float(penalty)] = loss
        if best is None or loss < min(v for p, v in losses.items() if p != penalty):
            best = (float(penalty), weight, bias)
        rises = rises + 1 if loss > last else 0
        last = loss
        if rises == 2:
            break
    if best is None:
        raise UsageError("penalties must not be empty")
    penalty, weight, bias = best

    folded_weight = (inverse[:, None] * (vectors @ weight)).astype(np.float32)
    folded_bias = (bias - mean @ folded_weight.astype(np.float64)).astype(np.float32)
    head = Head(
        name=name,
        kind=kind,
        labels=tuple(labels),
        columns=tuple(columns) if columns is not None else column_names(name, labels),
        weight=folded_weight,
        bias=folded_bias,
        scale=np.ones(k, np.float32),
        shift=np.zeros(k, np.float32),
        thresholds=np.full(k, np.nan, np.float32),
        low=float(y.min()) if kind == "regression" else 0.0,
        high=float(y.max()) if kind == "regression" else 1.0,
    )
    logits = xd @ head.weight + head.bias
    calibration = calibrate(logits, yd, kind, group=groups, seed=seed)
    head = replace(head, scale=calibration.scale, shift=calibration.shift)
    thresholds = None
    if kind == "multi_label":
        scores = activate(logits, kind, head.scale, head.shift)
        thresholds = choose_thresholds(scores, yd, group=groups, seed=seed)
        head = replace(head, thresholds=thresholds.values)
    return Fit(head, penalty, losses, calibration, thresholds)


class _Ridge:
    """Ridge regression in closed form, for any penalty, in principal directions."""

    def __init__(self, x: NDArray[np.float32], y: NDArray[Any], values: Floats) -> None:
        self.bias = y.mean(axis=0, dtype=np.float64)
        self.moments = (x.T @ (y - self.bias.astype(np.float32))).astype(np.float64) / len(x)
        self.values = values

    def __call__(self, penalty: float) -> tuple[Floats, Floats]:
        return self.moments / (self.values + penalty)[:, None], self.bias


class _Logistic:
    """Logistic or softmax regression by L-BFGS, in principal directions; begins at the weights found last."""

    def __init__(self, x: NDArray[np.float32], y: NDArray[Any], values: Floats, kind: str, k: int) -> None:
        self.x, self.values, self.kind = x, values, kind
        self.y = np.eye(k, dtype=np.float32)[y] if kind == "single_label" else y
        rate = (self.y.sum(axis=0, dtype=np.float64) + 1) / (len(x) + 2)
        self.curvature = rate * (1 - rate)
        self.start = np.log(rate) if kind == "single_label" else np.log(rate / (1 - rate))
        self.weight, self.bias = np.zeros((x.shape[1], k)), self.start.copy()

    def __call__(self, penalty: float) -> tuple[Floats, Floats]:
        n, (d, k) = len(self.x), self.weight.shape
        scale = 1 / np.sqrt(self.curvature * self.values[:, None] + penalty)
        bias_scale = 1 / np.sqrt(self.curvature)
        hold = 1e-6 * self.curvature  # keeps the bias of a label finite whose rows are all alike

        def parts(u: Floats) -> tuple[Floats, Floats]:
            return u[: d * k].reshape(d, k) * scale, u[d * k :] * bias_scale

        def objective(u: Floats) -> tuple[float, Floats]:
            weight, bias = parts(u)
            z = self.x @ weight.astype(np.float32) + bias.astype(np.float32)
            if self.kind == "single_label":
                z -= z.max(axis=1, keepdims=True)
                e = np.exp(z)
                total = e.sum(axis=1, keepdims=True)
                loss = float((np.log(total[:, 0]) - (z * self.y).sum(axis=1)).sum(dtype=np.float64))
                error = e / total - self.y
            else:
                shrunk = np.exp(-np.abs(z))
                loss = float((np.log1p(shrunk) + np.maximum(z, 0) - z * self.y).sum(dtype=np.float64))
                error = np.where(z >= 0, 1, shrunk) / (1 + shrunk) - self.y
            away = bias - self.start
            value = loss / n + penalty / 2 * float((weight * weight).sum()) + float(hold @ (away * away)) / 2
            slope = (self.x.T @ error).astype(np.float64) / n + penalty * weight
            slope_bias = error.sum(axis=0, dtype=np.float64) / n + hold * away
            return value, np.concatenate([(slope * scale).ravel(), slope_bias * bias_scale])

        begin = np.concatenate([(self.weight / scale).ravel(), self.bias / bias_scale])
        self.weight, self.bias = parts(minimize(objective, begin, iterations=100, tolerance=2e-6))
        return self.weight, self.bias


def column_names(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the score columns of a head: its name for one output, else ``<name>_<label>`` in lower case."""
    if len(labels) == 1:
        return (name,)
    out: list[str] = []
    for label in labels:
        stem = f"{name}_" + (re.sub(r"\W+", "_", label.lower()).strip("_") or "label")
        column, again = stem, 2
        while column in out:
            column, again = f"{stem}_{again}", again + 1
        out.append(column)
    return tuple(out)


@dataclass(frozen=True)
class Trained:
    """The outcome of `train`.

    Parameters
    ----------
    fit
        The head and how it was chosen.
    model
        Name of the model whose features it uses.
    directory
        Where it was written, or None.
    n
        Rows of each split.
    dev, test
        Figures; `test` is None where there was no test data. Penalty, calibration and thresholds were chosen on dev, so
        its figures flatter the head.
    seconds
        Time that features, fitting and evaluation took.
    notes
        What a reader must know.
    """

    fit: Fit
    model: str
    directory: Path | None
    n: dict[str, int]
    dev: Evaluation
    test: Evaluation | None
    seconds: float
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """The head."""
        return self.fit.head

    @property
    def incomplete(self) -> bool:
        """True if rows of the files could not be read; the notes say which."""
        return bool(self.settings.get("n_unread"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the weights as plain, JSON-able values."""
        return {**self.head.info, "head": self.head.name, "kind": self.head.kind, "seconds": self.seconds}

    def to_rich(self) -> RenderableType:
        """Return the report as a rich renderable."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for label, value in _description(self):
            table.add_row(escape.rich(label, "bold"), escape.rich(value))
        judged = self.test or self.dev
        title = "Test, evaluated once" if self.test else "Dev: penalty, calibration and thresholds were chosen on it"
        return Group(table, Text(""), Text(title, style="bold"), judged.to_rich(), *map(escape.rich, self.notes))


def _description(trained: Trained) -> list[tuple[str, str]]:
    fit, head = trained.fit, trained.head
    kinds = {"multi_label": "multi-label", "single_label": "single-label", "regression": "regression"}
    outputs = f"{len(head.labels)} {'output' if len(head.labels) == 1 else 'outputs'}"
    rows = ", ".join(f"{name} {trained.n[name]:,}" for name in SPLITS if trained.n[name])
    lines = [
        ("head", f"{head.name}: {kinds[head.kind]}, {outputs}, on the {len(head.weight)} features of {trained.model}"),
        ("rows", f"{rows}; {trained.settings['split']}"),
        ("L2 penalty", f"{fit.penalty:g}, of {len(fit.losses)} tried on dev"),
        ("calibration", fit.calibration.method + _cross_fitted(fit.calibration)),
    ]
    if fit.thresholds:
        trust = fit.thresholds.strength
        how = {0.0: "on the observed labels", np.inf: "as the calibrated scores expect it"}.get(
            trust, f"on the labels, drawn towards the scores by {trust:g} positives' worth"
        )
        lines.append(("thresholds", f"best F1 {how}"))
    lines.append(("dev", trained.dev.summary()))
    if trained.test:
        lines.append(("test", trained.test.summary()))
    lines.append(("time", f"{trained.seconds:.1f} s, seed {trained.settings['seed']}"))
    return lines


def _cross_fitted(calibration: Calibration) -> str:
    if not calibration.losses:
        return " (too few rows in dev to fit one)"
    return " (cross-fitted loss " + ", ".join(f"{name} {v:.4f}" for name, v in calibration.losses.items()) + ")"


def train(
    data: Any,
    *,
    label: str | Sequence[str],
    head: str,
    text: str | None = None,
    output: str | Path | None = None,
    kind: str = "auto",
    model: str | Path | Model = "static",
    dev: Any = None,
    test: Any = None,
    split: str | None = None,
    group: str | None = None,
    sep: str | None = None,
    licence: str = "",
    n_resamples: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
    backend: str = "numba",
) -> Trained:
    """Train, calibrate and judge a head from labelled texts, and write it as a model directory.

    Parameters
    ----------
    data
        File, folder or pattern of labelled texts, several of those, or an Arrow table.
    label
        Column of the labels, or several (one per output); ``LABEL=COL`` where a column is not named like its label.
    head
        Name of the head, which names its score columns: lower-case letters, digits and underscores.
    text
        Column of the texts; None for the first of the usual names.
    output
        Directory to write; None to write nothing.
    kind
        ``auto``, ``single``, ``multi`` or ``regression``. ``auto``: a list column, or a string column with `sep`, is
        multi-label; another string column single-label; true/false or 0/1 columns multi-label; other numbers
        regression.
    model
        Model whose frozen features the head works on; a directory of heads stands for the model below them.
    dev, test
        More labelled texts, with the same columns: to choose on, and to judge on.
    split
        Column with train, dev or test for each row.
    group
        Column (a prompt, a conversation, an author) whose rows must not stand in two splits, and are resampled as a
        whole. Equal texts share a split in any case where the split is made here.
    sep
        What separates labels in a string.
    licence
        Licence of the data, for the model card.
    n_resamples
        Replicates of the bootstrap behind the intervals.
    seed
        Seed of the split, the folds and the bootstrap.
    overwrite
        Replace a model directory that exists.
    backend
        Backend that computes the features.

    Returns
    -------
    Trained

    Raises
    ------
    UsageError
        If an option is out of range, columns do not hold what they should, or there are too few rows.
    InputError
        If a file cannot be read.
    OutputError
        If the directory exists, or cannot be written.
    """
    started = time.perf_counter()
    chosen_kind = _kind(kind)
    _check_name(head)
    source_model = model if isinstance(model, Model) else _base(model)
    directory = None if output is None else Path(output)
    if directory is not None:
        _check_output(directory, overwrite)
    if split is not None and (dev is not None or test is not None):
        raise UsageError("a split column already names dev and test: leave dev and test files (--dev, --test) out")
    names = [label] if isinstance(label, str) else list(label)

    sets = [read(data, text=text, label=names, split=split, group=group)]
    sets += [read(more, text=text, label=names, group=group) for more in (dev, test) if more is not None]
    target = encode(sets[0], kind=chosen_kind, sep=sep)
    targets = [target]
    for rows in sets[1:]:
        targets.append(encode(rows, kind=target.kind, labels=target.labels, sep=sep, unknown="note"))
    notes = [note for rows in sets for note in rows.notes]
    usable = []
    for rows, t in zip(sets, targets):
        keep = t.known & rows.texts.is_valid().to_numpy(False)
        if not keep.all():
            notes.append(f"Rows without text or label, left out: {int((~keep).sum()):,} of {len(rows):,}.")
        usable.append(np.flatnonzero(keep))
    codes = [c[u] for c, u in zip(folded(*(rows.texts for rows in sets)), usable)]

    # Which row is in which split: pairs of (set, rows of it).
    rows0 = usable[0]
    if split is not None:
        code = sets[0].split[rows0] if sets[0].split is not None else np.zeros(len(rows0), np.int8)
        how = f"as column {split} says"
    elif dev is None and test is None:
        code = _auto(target, rows0, _groups(sets[0], rows0, codes[0], group), (0.8, 0.1, 0.1), seed)
        how = f"split at random (seed {seed})" + (f", rows of a {group} together" if group else "")
    elif dev is None:
        code = _auto(target, rows0, _groups(sets[0], rows0, codes[0], group), (0.9, 0.1), seed)
        how = "test from its own file, dev split off at random"
    else:
        code = np.zeros(len(rows0), np.int8)
        how = "dev and test from their own files" if test is not None else "dev from its own file"
    if split is not None and not (code == 1).any():
        train_rows = np.flatnonzero(code == 0)
        groups0 = _groups(sets[0], rows0, codes[0], group)
        code[train_rows] = _auto(target, rows0[train_rows], groups0[train_rows], (0.9, 0.1), seed)
        how += "; dev split off train at random"
    members: dict[str, tuple[int, NDArray[np.int64]]] = {
        name: (0, rows0[code == number]) for number, name in enumerate(SPLITS)
    }
    place = 1
    if dev is not None:
        members["dev"], place = (place, usable[place]), place + 1
    if test is not None:
        members["test"] = (place, usable[place])
    n = {name: len(rows) for name, (_, rows) in members.items()}
    if n["train"] < _LEAST_ROWS or n["dev"] < 5:
        raise UsageError(
            f"{source_name(data)}: {n['train']} rows to train on and {n['dev']} to choose by are too few: at least "
            f"{_LEAST_ROWS} and 5 labelled rows are needed, and some hundreds for figures that mean anything"
        )

    targets, dropped = _without_untrained(targets, members["train"][1])
    notes += [note for t in targets for note in t.notes] + dropped
    target = targets[0]
    if target.kind == "single_label" and len(target.labels) < 2:
        raise UsageError(f"all training rows have the label {target.labels[0]!r}: at least two labels are needed")

    features: dict[str, NDArray[np.float32]] = {}
    for name, (which, at) in members.items():
        features[name] = source_model.features(sets[which].texts.take(at), backend=backend)
    ys = {name: targets[which].y[at] for name, (which, at) in members.items()}
    clusters: dict[str, Any] = {}
    for name, (which, at) in members.items():
        groups_of = sets[which].group
        clusters[name] = None if groups_of is None else groups_of[at]

    kind_name: Kind = target.kind  # type: ignore[assignment]
    fitted = fit(
        features["train"],
        ys["train"],
        features["dev"],
        ys["dev"],
        kind=kind_name,
        labels=target.labels,
        name=head,
        group_dev=clusters["dev"],
        seed=seed,
    )
    _check_columns(fitted.head, source_model)

    def judge(name: str) -> Evaluation:
        made = fitted.head
        logits = features[name].astype(np.float64) @ made.weight + made.bias
        scores = activate(logits, made.kind, made.scale, made.shift, made.low, made.high)
        return evaluate(
            scores,
            ys[name],
            kind=made.kind,
            labels=made.labels,
            thresholds=made.thresholds if made.kind == "multi_label" else None,
            cluster=clusters[name],
            n_resamples=n_resamples,
            seed=seed,
        )

    judged_dev = judge("dev")
    judged_test = judge("test") if n["test"] else None
    notes += _leaks(members, codes, usable)
    if judged_test is None:
        notes.append("There is no test data: the figures on dev flatter the head, which was chosen on dev.")
    settings = {"split": how, "seed": seed, "n_unread": sum(rows.n_unread for rows in sets)}
    info = {
        "engine_version": __version__,
        "base": {"name": source_model.name, "content_hash": source_model.content_hash},
        "data": source_name(data),
        "licence": licence,
        "text": sets[0].text_column,
        "label": names,
        "group": group,
        "rows": n,
        "split": how,
        "seed": seed,
        "penalty": fitted.penalty,
        "dev_loss_by_penalty": {f"{p:g}": v for p, v in fitted.losses.items()},
        "calibration": fitted.calibration.method,
        "cross_fitted_loss": fitted.calibration.losses,
        "dev": judged_dev.to_dict(),
        "test": None if judged_test is None else judged_test.to_dict(),
        "notes": notes,
    }
    fitted = replace(fitted, head=replace(fitted.head, info=info))
    trained = Trained(
        fitted,
        source_model.name,
        directory,
        n,
        judged_dev,
        judged_test,
        time.perf_counter() - started,
        tuple(notes),
        settings,
    )
    if directory is not None:
        _write(directory, source_model, trained, overwrite)
    return trained


def _kind(kind: str) -> str:
    for given, name in KINDS.items():
        if kind in (given, name):
            return name
    raise UsageError(f"unknown kind {kind!r}{suggest(kind, KINDS)}: kinds are {', '.join(KINDS)}")


def _base(model: str | Path) -> Model:
    """Load the model whose features to use: of a directory of heads, the one that they were trained on."""
    if _has_own_network(model):
        return base.load(model)
    record = base.read_record(Path(model))
    return base.load(record["base"]["name"] if "base" in record else model)


def _has_own_network(model: str | Path) -> bool:
    """Tell whether a model is an embedded one, or a checkpoint: by name, or a directory without `affect.json`."""
    return str(model) in base.embedded() or not (Path(model) / "affect.json").is_file()


def _check_name(head: str) -> None:
    if not _NAME.match(head):
        raise UsageError(
            f"head name {head!r} cannot name columns: use lower-case letters, digits and underscores, a letter first"
        )


def _check_columns(head: Head, model: Model) -> None:
    """Refuse columns that another head or metric writes."""
    from affectcore.metrics.registry import METRICS

    own = {c for h in model.heads if h.name == head.name for c in h.columns}
    taken = ({c for h in model.heads for c in h.columns} | set(METRICS)) - own
    clash = next((c for c in head.columns if c in taken), None)
    if clash is not None:
        raise UsageError(
            f"head {head.name!r} would write the column {clash!r}, which there is already: rename the head"
        )


def _check_output(directory: Path, overwrite: bool) -> None:
    if directory.exists() and not overwrite:
        raise OutputError(f"{directory} exists: choose another directory with -o, or replace it with --overwrite")
    if directory.exists() and not (directory / "affect.json").is_file():
        raise OutputError(f"{directory} exists and is no model directory, so it is left alone: choose another with -o")


def _groups(rows: Rows, chosen: NDArray[np.int64], texts: NDArray[np.int64], group: str | None) -> NDArray[np.int64]:
    """Return the code of what must not be cut: the group, or else the text itself."""
    return texts if group is None or rows.group is None else rows.group[chosen]


def _auto(
    target: Target, rows: NDArray[np.int64], group: NDArray[np.int64], shares: Sequence[float], seed: int
) -> NDArray[np.int8]:
    part = replace(target, y=target.y[rows], known=target.known[rows])
    return split_rows(part, group, shares=shares, seed=seed)


def _without_untrained(targets: list[Target], rows: NDArray[np.int64]) -> tuple[list[Target], list[str]]:
    """Leave out labels that no training row has."""
    first = targets[0]
    if first.kind == "regression":
        return targets, []
    k = len(first.labels)
    y = first.y[rows]
    count = np.bincount(y[y >= 0], minlength=k) if first.kind == "single_label" else y.sum(axis=0)
    keep = count > 0
    if keep.all():
        return targets, []
    if not keep.any():
        raise UsageError("no training row has a label: is the label column the right one?")
    gone = [name for name, kept in zip(first.labels, keep) if not kept]
    labels = tuple(name for name, kept in zip(first.labels, keep) if kept)
    out = []
    for t in targets:
        if t.kind == "single_label":
            at = np.where(keep, np.cumsum(keep) - 1, -1)
            y = np.where(t.y >= 0, at[t.y.clip(0)], -1)
        else:
            y = t.y[:, keep]
        out.append(replace(t, labels=labels, y=y))
    shown = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    return out, [f"Labels without training rows: {shown}."]


def _leaks(
    members: dict[str, tuple[int, NDArray[np.int64]]],
    codes: list[NDArray[np.int64]],
    usable: list[NDArray[np.int64]],
) -> list[str]:
    """Say how many texts of dev and test the head was trained on."""

    def of(name: str) -> NDArray[np.int64]:
        which, rows = members[name]
        return codes[which][np.searchsorted(usable[which], rows)]

    trained_on = np.unique(of("train"))
    notes = []
    for name in ("dev", "test"):
        seen = int(np.isin(of(name), trained_on).sum())
        if seen:
            notes.append(f"Texts of {name} that are also in train: {seen:,} of {len(of(name)):,}; its figures flatter.")
    return notes


def _write(directory: Path, model: Model, trained: Trained, overwrite: bool) -> None:
    """Write the model directory as a whole or not at all."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            made = scratch / directory.name
            base.save_heads(made, model, [trained.head], card(trained))
            if overwrite and directory.exists():
                directory.rename(scratch / "old")
            made.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}; choose another place with -o") from error


def card(trained: Trained) -> str:
    """Return the model card, Markdown."""
    head, info = trained.head, trained.head.info
    model = escape.code(trained.model)
    lines = [
        f"# {escape.markdown(head.name, cell=True)}",
        "",
        f"A head on the frozen features of the model {model}, made by affectcore",
    ]
    lines[-1] += f" {__version__} (`affectcore train`)."
    lines += ["", "| | |", "| --- | --- |"]
    told = [(name, value) for name, value in _description(trained) if name not in ("time", "head")]
    told += [
        ("kind", head.kind),
        ("data", str(info["data"])),
        ("licence of the data", info["licence"] or "not stated"),
        ("base", f"{info['base']['name']}, content hash {info['base']['content_hash']}"),
    ]
    rows = [(name, escape.markdown(value, cell=True)) for name, value in told]
    rows.insert(-3, ("columns", ", ".join(map(escape.code, head.columns))))
    lines += [f"| {name} | {value} |" for name, value in rows]
    if trained.test:
        lines += ["", "## Test", "", trained.test.to_markdown().rstrip()]
    lines += [
        "",
        "## Dev (penalty, calibration and thresholds were chosen on it)",
        "",
        trained.dev.to_markdown().rstrip(),
    ]
    lines += ["", "## Limits", ""]
    lines.append(
        "It knows what its training texts showed: on other kinds of text, judge it with `affectcore eval` first."
    )
    for note in trained.notes:
        lines += ["", escape.markdown(note)]
    return "\n".join(lines) + "\n"


def own_heads(model: str | Path, loaded: Model) -> list[Head]:
    """Return the heads that a model directory adds to its base; all heads of an embedded model."""
    if _has_own_network(model):
        return list(loaded.heads)
    names = {entry["name"] for entry in base.read_record(Path(model))["heads"]}
    return [head for head in loaded.heads if head.name in names]


def evaluate_head(
    data: Any,
    *,
    label: str | Sequence[str],
    model: str | Path | Model = "static",
    head: str | None = None,
    text: str | None = None,
    group: str | None = None,
    sep: str | None = None,
    split: str | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    backend: str = "numba",
) -> Evaluation:
    """Judge a head of a model on labelled texts, with the calibration and thresholds of the model.

    Parameters
    ----------
    data, label, text, group, sep
        As for `train`. Labels must be those of the head; numbers, where the head's labels are names, are positions.
    model
        Name of an embedded model, or a model directory.
    head
        Name of the head; None where the model has one, or the directory adds one.
    split
        Column of the splits: only rows of ``test`` are taken.
    n_resamples, seed
        Settings of the bootstrap.
    backend
        Backend that computes the scores.

    Returns
    -------
    Evaluation

    Raises
    ------
    UsageError
        If there is no such head, or the labels are not its labels.
    InputError
        If a file cannot be read.
    """
    loaded = model if isinstance(model, Model) else base.load(model)
    chosen = _head(loaded, list(loaded.heads) if isinstance(model, Model) else own_heads(model, loaded), head)
    names = [label] if isinstance(label, str) else list(label)
    rows = read(data, text=text, label=names, split=split, group=group)
    target = encode(rows, kind=chosen.kind, labels=chosen.labels, sep=sep)
    keep = target.known & rows.texts.is_valid().to_numpy(False)
    notes = [*rows.notes, *target.notes]
    if rows.split is not None:
        keep &= rows.split == 2
        notes.append(f"Only the rows whose {split} is test.")
    elif not keep.all():
        notes.append(f"Rows without text or label, left out: {int((~keep).sum()):,} of {len(rows):,}.")
    at = np.flatnonzero(keep)
    if not len(at):
        raise UsageError(f"{source_name(data)}: no row with a text and a label to evaluate on")
    scores = loaded.predict(rows.texts.take(at), [chosen], backend=backend)[chosen.name]
    result = evaluate(
        scores,
        target.y[at],
        kind=chosen.kind,
        labels=chosen.labels,
        thresholds=chosen.thresholds if chosen.kind == "multi_label" else None,
        cluster=None if rows.group is None else rows.group[at],
        n_resamples=n_resamples,
        seed=seed,
    )
    settings = {
        "engine_version": __version__,
        "model": {"name": loaded.name, "content_hash": loaded.content_hash},
        "head": chosen.name,
        "data": source_name(data),
        "text": rows.text_column,
        "label": names,
        "group": group,
        "n_unread": rows.n_unread,
    }
    return replace(result, notes=(*notes, *result.notes), settings=settings)


def _head(model: Model, own: list[Head], name: str | None) -> Head:
    names = [head.name for head in model.heads]
    if name is None:
        if len(own) == 1:
            return own[0]
        raise UsageError(f"model {model.name} has several heads: name one with head (--head): {', '.join(names)}")
    for head in model.heads:
        if head.name == name:
            return head
    listed = ", ".join(names) or "none"
    raise UsageError(f"model {model.name} has no head {name!r}{suggest(name, names)}: its heads are {listed}")
