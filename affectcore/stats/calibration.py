"""Calibration and decision thresholds of a head, chosen on held-out rows.

A calibrated score is ``activation(scale * logit + shift)``, so a head stores two numbers per label and the kernels need
no tables. Candidates are compared by their cross-fitted loss: each is fitted on four fifths of the rows and judged on
the rest, so that the one with more parameters does not win by having more parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affectcore.errors import UsageError
from affectcore.stats.optimize import minimize

__all__ = ["Calibration", "Thresholds", "activate", "calibrate", "choose_thresholds", "log_loss", "platt"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PRIOR = 2.0  # strength of the pull towards scale 1 and shift 0, in observations
_LEAST_SCALE = 0.05  # calibration must not turn the order of the scores round
_FOLDS = 5
_TINY = 1e-7
_STRENGTHS = (0.0, 10.0, 50.0, np.inf)


@dataclass(frozen=True)
class Calibration:
    """Two numbers per label, and how they were chosen.

    Parameters
    ----------
    method
        ``none``; ``temperature`` (one scale for all labels); ``platt`` (scale and shift for each label, after Platt
        1999, drawn towards 1 and 0); ``bias`` (softmax: one scale, a shift for each label); ``linear`` (regression).
    scale, shift
        Shape (k,), float32.
    losses
        Cross-fitted loss of every candidate: mean log loss, for regressions mean squared error.
    """

    method: str
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    losses: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Thresholds:
    """Decision thresholds, and how they were chosen.

    Parameters
    ----------
    values
        Shape (k,), float32: a label is given where its score is at least this.
    strength
        How many positives' worth of trust the calibrated scores got beside the observed labels: 0 is the optimum on
        the observed labels alone, infinity the optimum that the calibrated scores expect.
    f1
        Cross-fitted macro-F1 of every strength.
    """

    values: NDArray[np.float32]
    strength: float
    f1: dict[float, float] = field(default_factory=dict)


def activate(
    logits: ArrayLike,
    kind: str,
    scale: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
    low: float = -np.inf,
    high: float = np.inf,
) -> Floats:
    """Turn logits into scores.

    Parameters
    ----------
    logits
        Shape (n, k).
    kind
        ``multi_label`` (sigmoid), ``single_label`` (softmax over the k labels) or ``regression`` (clipped).
    scale, shift
        Shape (k,) or scalars.
    low, high
        Range of a regression.

    Returns
    -------
    ndarray of float64
        Shape (n, k).
    """
    z = np.asarray(scale, np.float64) * np.asarray(logits, np.float64) + np.asarray(shift, np.float64)
    if kind == "multi_label":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))  # tanh does not overflow
    if kind == "single_label":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    return np.clip(z, low, high)


def log_loss(scores: ArrayLike, y: ArrayLike, kind: str) -> Floats:
    """Return the loss of each row.

    Parameters
    ----------
    scores
        Activated scores, shape (n, k).
    y
        ``multi_label``: 0 or 1, shape (n, k). ``single_label``: codes from 0, shape (n,); a row with code -1 has NaN.
        ``regression``: shape (n, k).
    kind
        As for `activate`.

    Returns
    -------
    ndarray of float64
        Shape (n,): log loss (a mean over labels for ``multi_label``); for regressions the mean squared error.
    """
    p = np.asarray(scores, np.float64)
    if kind == "multi_label":
        t = np.asarray(y, np.float64)
        return np.asarray(-(t * np.log(p.clip(_TINY)) + (1 - t) * np.log((1 - p).clip(_TINY))).mean(axis=1))
    if kind == "single_label":
        code = np.asarray(y, np.int64)
        chosen = p[np.arange(len(p)), code.clip(0)]
        return np.where(code >= 0, -np.log(chosen.clip(_TINY)), np.nan)
    return np.asarray(((p - np.asarray(y, np.float64)) ** 2).mean(axis=1))


def platt(logits: ArrayLike, y: ArrayLike, *, prior: float = _PRIOR, weight: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """Fit scale and shift of every label by penalized maximum likelihood.

    Parameters
    ----------
    logits
        Shape (n, k).
    y
        0 or 1, shape (n, k).
    prior
        Strength of the pull towards scale 1 and shift 0: without positives, a label's shift still stays finite.
    weight
        Weight of rows, shape (n, 1), or of all.

    Returns
    -------
    scale, shift
        Shape (k,), float64; scale is at least 0.05.
    """
    z, t = np.asarray(logits, np.float64), np.asarray(y, np.float64)
    of = np.asarray(weight, np.float64)
    k = z.shape[1]
    a, b = np.ones(k), np.zeros(k)

    def value(a: Floats, b: Floats) -> Floats:
        u = a * z + b
        fit = (of * (np.logaddexp(0, u) - t * u)).sum(axis=0)
        return np.asarray(fit + prior / 2 * ((a - 1) ** 2 + b**2))

    now = value(a, b)
    for _ in range(100):
        p = activate(z, "multi_label", a, b)
        w, g = of * p * (1 - p), of * (p - t)
        ga, gb = (g * z).sum(axis=0) + prior * (a - 1), g.sum(axis=0) + prior * b
        haa, hab, hbb = (w * z * z).sum(axis=0) + prior, (w * z).sum(axis=0), w.sum(axis=0) + prior
        det = haa * hbb - hab**2
        free = (a > _LEAST_SCALE) | (ga < 0)  # at its bound, a scale moves only if that is upwards
        da = np.where(free, -(hbb * ga - hab * gb) / det, 0.0)
        db = np.where(free, -(haa * gb - hab * ga) / det, -gb / hbb)
        step = np.ones(k)
        for _ in range(30):  # halve the labels whose loss would rise
            trial_a, trial_b = np.maximum(a + step * da, _LEAST_SCALE), b + step * db
            new = value(trial_a, trial_b)
            worse = new > now + 1e-12 * np.abs(now)
            if not worse.any():
                break
            step[worse] *= 0.5
        better = new <= now + 1e-12 * np.abs(now)
        a, b = np.where(better, trial_a, a), np.where(better, trial_b, b)
        settled = now - new <= 1e-10 * np.abs(now) + 1e-12
        now = np.where(better, new, now)
        if settled.all():
            break
    return a, b


def calibrate(
    logits: ArrayLike, y: ArrayLike, kind: str, *, group: ArrayLike | None = None, folds: int = _FOLDS, seed: int = 0
) -> Calibration:
    """Fit the calibration of a head on held-out rows.

    Parameters
    ----------
    logits
        Shape (n, k), of rows that the head was not trained on.
    y
        As for `log_loss`; rows with code -1 are left out.
    kind
        ``multi_label``, ``single_label`` or ``regression``.
    group
        Codes of clusters (for example prompts), shape (n,): rows of one never stand on both sides of a fold.
    folds
        Number of folds that candidates are compared over; fewer rows than ten per fold, and nothing is fitted.
    seed
        Seed of the folds.

    Returns
    -------
    Calibration
        The candidate with the lowest cross-fitted loss, fitted on all rows.
    """
    z = np.asarray(logits, np.float64)
    t = np.asarray(y)
    groups = None if group is None else np.asarray(group)
    if z.ndim != 2 or len(z) != len(t):
        raise UsageError(f"logits {z.shape} and y {t.shape} must have one row per text")
    if kind == "single_label":
        known = t >= 0
        z, t, groups = z[known], t[known], None if groups is None else groups[known]
    candidates = {
        "multi_label": ("none", "temperature", "platt"),
        "single_label": ("none", "temperature", "bias"),
        "regression": ("none", "linear"),
    }[kind]
    k = z.shape[1]
    if len(z) < 10 * folds:
        return _calibration("none", np.ones(k), np.zeros(k), {})
    fold = _folds(len(z), groups, folds, seed)
    losses = {}
    for method in candidates:
        parts = []
        for f in range(folds):
            inside = fold != f
            scale, shift = _fit(method, z[inside], t[inside], kind)
            parts.append(log_loss(activate(z[~inside], kind, scale, shift), t[~inside], kind))
        losses[method] = float(np.concatenate(parts).mean())
    best = min(candidates, key=lambda method: losses[method])
    return _calibration(best, *_fit(best, z, t, kind), losses)


def _calibration(method: str, scale: Floats, shift: Floats, losses: dict[str, float]) -> Calibration:
    return Calibration(method, scale.astype(np.float32), shift.astype(np.float32), losses)


def _fit(method: str, z: Floats, t: NDArray[Any], kind: str) -> tuple[Floats, Floats]:
    k = z.shape[1]
    if method == "platt":
        return platt(z, t)
    if method == "temperature":
        return np.full(k, _temperature(z, t, kind)), np.zeros(k)
    if method == "bias":
        return _bias(z, t)
    if method == "linear":
        x = z - z.mean(axis=0)
        spread = (x * x).sum(axis=0)
        slope = ((x * (t - t.mean(axis=0))).sum(axis=0) + _PRIOR / len(z) * spread) / np.maximum(
            spread * (1 + _PRIOR / len(z)), 1e-30
        )
        slope = np.maximum(slope, _LEAST_SCALE)
        return slope, t.mean(axis=0) - slope * z.mean(axis=0)
    return np.ones(k), np.zeros(k)


def _temperature(z: Floats, t: NDArray[Any], kind: str) -> float:
    """Return the scale, common to all labels, that lowers the log loss most."""

    def objective(x: Floats) -> tuple[float, Floats]:
        scale = x[0]
        p = activate(z, kind, scale)
        wanted = t if kind == "multi_label" else np.eye(z.shape[1])[t]
        loss = float(log_loss(p, t, kind).sum()) * (z.shape[1] if kind == "multi_label" else 1)
        gradient = float(((p - wanted) * z).sum()) + _PRIOR * (scale - 1)
        return (loss + _PRIOR / 2 * (scale - 1) ** 2) / len(z), np.array([gradient / len(z)])

    return max(float(minimize(objective, np.array([1.0]))[0]), _LEAST_SCALE)


def _bias(z: Floats, t: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return one scale and a shift per label for a softmax."""
    k = z.shape[1]
    wanted = np.eye(k)[t]

    def objective(x: Floats) -> tuple[float, Floats]:
        p = activate(z, "single_label", x[0], x[1:])
        g = p - wanted
        pull = np.concatenate([[x[0] - 1], x[1:]])
        loss = float(log_loss(p, t, "single_label").sum()) + _PRIOR / 2 * float(pull @ pull)
        gradient = np.concatenate([[(g * z).sum()], g.sum(axis=0)]) + _PRIOR * pull
        return loss / len(z), gradient / len(z)

    x = minimize(objective, np.concatenate([[1.0], np.zeros(k)]))
    return np.full(k, max(float(x[0]), _LEAST_SCALE)), x[1:]


def _folds(n: int, group: NDArray[Any] | None, folds: int, seed: int) -> Ints:
    """Return the fold of each row; rows of one group share theirs."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    if group is None:
        return rng.permutation(np.arange(n) % folds)
    _, code = np.unique(group, return_inverse=True)
    return rng.permutation(np.arange(int(code.max()) + 1) % folds)[code]


def choose_thresholds(
    scores: ArrayLike, y: ArrayLike, *, group: ArrayLike | None = None, folds: int = _FOLDS, seed: int = 0
) -> Thresholds:
    """Choose a threshold per label for the best F1, without trusting a handful of positives.

    The threshold that is best on the observed labels of a rare label hangs on single rows. Calibrated scores say, too,
    which F1 a threshold can be expected to reach, so observed labels are mixed with scores, ``(1 - w) y + w score``
    with ``w = m / (positives + m)``. The strength m is one number for all labels, chosen by cross-fitted macro-F1.

    Parameters
    ----------
    scores
        Calibrated scores, shape (n, k).
    y
        0 or 1, shape (n, k).
    group, folds, seed
        As for `calibrate`.

    Returns
    -------
    Thresholds
    """
    p, t = np.asarray(scores, np.float64), np.asarray(y, np.float64)
    if p.ndim != 2 or p.shape != t.shape:
        raise UsageError(f"scores {p.shape} and y {t.shape} must have the same shape")
    if len(p) < 10 * folds:
        return Thresholds(_best(p, t, np.inf).astype(np.float32), np.inf)
    fold = _folds(len(p), None if group is None else np.asarray(group), folds, seed)
    judged = t.any(axis=0)
    f1 = {}
    for strength in _STRENGTHS:
        given = np.zeros(p.shape, bool)
        for f in range(folds):
            inside = fold != f
            given[~inside] = p[~inside] >= _best(p[inside], t[inside], strength)
        both, either = (given * t).sum(axis=0), given.sum(axis=0) + t.sum(axis=0)
        f1[strength] = float((2 * both[judged] / either[judged]).mean()) if judged.any() else 0.0
    best = max(_STRENGTHS, key=lambda strength: (f1[strength], strength))
    return Thresholds(_best(p, t, best).astype(np.float32), best, f1)


def _best(p: Floats, t: Floats, strength: float) -> Floats:
    """Return the threshold per label with the best F1 on a mixture of labels and scores."""
    n, k = p.shape
    out = np.full(k, 0.5)
    for j in range(k):
        positives = t[:, j].sum()
        w = 1.0 if np.isinf(strength) or positives + strength == 0 else strength / (positives + strength)
        order = np.argsort(-p[:, j], kind="stable")
        score = p[order, j]
        hits = np.cumsum((1 - w) * t[order, j] + w * score)
        ends = np.append(np.flatnonzero(np.diff(score)), n - 1)  # equal scores are given the label together
        f1 = 2 * hits[ends] / (ends + 1 + max(hits[-1], _TINY))
        at = ends[int(f1.argmax())]
        below = score[at + 1] if at + 1 < n else 0.0
        out[j] = (score[at] + below) / 2
    return out
