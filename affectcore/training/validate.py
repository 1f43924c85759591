"""How well tone heads agree with labels, out of fold, beside keyword matching and VADER.

``python -m affectcore.training.validate --scores build/tone`` reads what `affectcore.training.finetune_tone` wrote for
the folds, fits the distress index and the calibration on held-out scores, and writes them with every figure to
``build/tone/validation.json``. Every figure comes from models that were trained without the fold it is measured on.
Decision thresholds are chosen on the other folds, for the baselines too. Intervals are bootstrap percentiles over
groups (prompts, articles), 1,000 replicates.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affectcore.metrics.taxonomy import GOEMOTIONS
from affectcore.models.base import load
from affectcore.stats.calibration import activate, platt
from affectcore.training import data, tone_data
from affectcore.training.finetune_tone import chosen, pool
from affectcore.training.tone_data import EVENTS, HEADS, JUDGED, SHARPNESS, STYLES, Document

KEYWORDS = {
    "refusal": r"\bsorry\b|\bcan(?:no|')t\b|\bunable\b|\bas an ai\b|\bwon't\b|\binappropriate\b|\bnot able to\b",
    "politeness": r"\bplease\b|\bthank|\bcould you\b|\bwould you\b|\bsorry\b|\bappreciate|\bhi\b|\bhello\b",
    "hedging": r"\bmay\b|\bmight\b|\bcould\b|\bsuggest|\bappear|\bseem|\bpossibl|\bperhaps\b|\blikely\b|\bprobabl",
    "toxicity": r"\bfuck|\bshit|\bbitch|\bass\b|\bhoe|\bpussy|\bidiot|\bstupid|\bhate\b|\btrash\b|\bdumb",
    "warmth": r"\bsorry\b|\bsad\b|\bheart|\bfeel for\b|\bhope\b|\bterrible\b|\bpoor\b|\bsuffer",
    "sycophancy": r"\bgreat\b|\bbrilliant|\bamazing|\binsight|\bprofound|\bexactly\b|\babsolutely\b|\bremarkabl",
    "delusion_reinforcement": r"\bpattern|\breal\b|\bawaken|\bchosen\b|\benergy\b|\bconscious|\btruth\b|\breality\b",
    "escalation": r"!|\bprofound|\bcosmic|\btranscend|\buniverse\b|\bsacred|\beternal|\bmagic|\bpower",
    "pushback": r"\bhowever\b|\bbut\b|\bnot\b|\bevidence\b|\bactually\b|\bdisagree|\bcaution|\bcareful",
    "seek_help": r"\btherap|\bdoctor|\bprofessional|\bhelpline|\bhotline|\bcounsel|\bmental health|\bsupport",
    "dependence": r"\bonly me\b|\bneed me\b|\bdon't need\b|\bstay\b|\bleave\b|\balways be here\b|\bunderstand",
    "manipulation": r"\bshould\b|\bashamed\b|\bonly chance\b|\bdisappoint|\bafter all i\b|\bowe\b|\btoo late\b",
    "distress": r"\bsad\b|\bhopeless|\bgive up\b|\bfail|\bsorry\b|\bafraid\b|\bdespair|\bworthless|\bupset|\banxious",
}
"""Keyword baselines: matches per 100 words."""
NEGATIVE = {
    "refusal",
    "hedging",
    "toxicity",
    "pushback",
    "seek_help",
    "manipulation",
    "distress",
    "dependence",
    "warmth",
}
"""Metrics for which VADER's compound counts with a minus, as a reader would guess before looking."""


def present(folder: Path) -> list[int]:
    """Return the folds that have been trained."""
    return [k for k in range(tone_data.FOLDS) if (folder / str(k) / "scores.npz").exists()]


def out_of_fold(documents: list[Document], folder: Path) -> np.ndarray:
    """Return every document's scores by the model that did not see it; NaN where no fold that is there tests it.

    They are those of the packaged heads: passages' logits times `SHARPNESS`, pooled as the heads' level says.
    """
    out = np.full((len(documents), len(HEADS)), np.nan, np.float32)
    sharp = torch.tensor([SHARPNESS.get(head, 1.0) for head in HEADS])
    fold = np.array([tone_data.fold_of(d) for d in documents])
    for k in present(folder):
        with np.load(folder / str(k) / "scores.npz") as file:
            logits, lengths, first = file["tone"].astype(np.float32), file["lengths"], file["first"]
        unit = torch.from_numpy(np.repeat(np.arange(len(documents)), np.diff(first)))
        values = pool(torch.from_numpy(logits) * sharp, unit, torch.from_numpy(lengths), len(documents)).numpy()
        out[fold == k] = values[fold == k]
    return out


def auroc(score: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the area under the ROC curve, rows weighted, ties counted half."""
    order = np.argsort(score, kind="stable")
    s, t, w = score[order], y[order], weight[order]
    new = np.flatnonzero(np.r_[True, np.diff(s) != 0])
    positive, negative = np.add.reduceat(w * t, new), np.add.reduceat(w * (1 - t), new)
    below = np.cumsum(negative) - negative
    total = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / total) if total else float("nan")


def pearson(score: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted correlation."""
    w = weight / weight.sum()
    a, b = score - w @ score, y - w @ y
    return float((w * a) @ b / np.sqrt(((w * a) @ a) * ((w * b) @ b)))


def macro_f1(decided: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean of both classes' F1."""
    both = []
    for c in (0, 1):
        hit = (weight * ((decided == c) & (y == c))).sum()
        both.append(2 * hit / ((weight * (decided == c)).sum() + (weight * (y == c)).sum()))
    return float(np.mean(both))


def accuracy(decided: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the share of rows decided right."""
    return float((weight * (decided == y)).sum() / weight.sum())


def decide(score: np.ndarray, y: np.ndarray, fold: np.ndarray, measure: Callable[..., float]) -> np.ndarray:
    """Decide every row at the threshold that is best on the other folds."""
    out = np.zeros(len(score))
    for k in np.unique(fold):
        other = fold != k
        cuts = np.unique(np.quantile(score[other], np.linspace(0.01, 0.99, 99)))
        ones = np.ones(int(other.sum()))
        best = max(cuts, key=lambda c: measure((score[other] > c).astype(float), y[other], ones))
        out[fold == k] = score[fold == k] > best
    return out


def figure(
    measure: Callable[..., float], score: np.ndarray, y: np.ndarray, groups: list[str], replicates: int = 1000
) -> tuple[float, float, float]:
    """Return the estimate and its 95% bootstrap interval over groups."""
    _, code = np.unique(groups, return_inverse=True)
    n = int(code.max()) + 1
    rng = np.random.default_rng(0)
    found = [
        measure(score, y, np.bincount(rng.integers(n, size=n), minlength=n)[code].astype(float))
        for _ in range(replicates)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return measure(score, y, np.ones(len(y))), float(low), float(high)


def rate(pattern: str, text: str) -> float:
    """Return matches per 100 words."""
    return 100 * len(re.findall(pattern, text.lower())) / max(len(text.split()), 1)


class Judge:
    """Measures scores of documents against their labels, with both baselines."""

    def __init__(self, documents: list[Document], folds: list[int]) -> None:
        self.documents = documents
        self.folds = folds
        self.fold = np.array([tone_data.fold_of(d) for d in documents])
        self._vader: np.ndarray | None = None

    def vader(self) -> np.ndarray:
        """Return VADER's compound of every document."""
        if self._vader is None:
            from affectcore import Scorer

            scores = Scorer(model="none", metrics="vader_compound").score([d.text for d in self.documents])
            self._vader = scores["vader_compound"].to_numpy()
        return self._vader

    def entry(
        self, metric: str, what: str, measure: str, rows: np.ndarray, y: np.ndarray, score: np.ndarray,
        apart: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Return one validation: estimate, interval, rows and the baselines' estimates.

        With `apart`, it is measured fold by fold and averaged: what different models score is not ranked together.
        """
        function = {"AUROC": auroc, "Pearson": pearson, "macro-F1": macro_f1, "accuracy": accuracy}[measure]
        groups = [self.documents[i].group for i in rows]
        fold = self.fold[rows]
        if apart:
            whole = function

            def function(score: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
                parts = [whole(score[fold == k], y[fold == k], weight[fold == k]) for k in np.unique(fold)]
                return float(np.nanmean(parts))

        keywords = np.array([rate(KEYWORDS[metric], self.documents[i].text) for i in rows])
        vader = self.vader()[rows] * (-1 if metric in NEGATIVE else 1)

        def shown(values: np.ndarray) -> np.ndarray:
            return decide(values, y, fold, function) if measure in ("macro-F1", "accuracy") else values

        estimate, low, high = figure(function, shown(score), y, groups)
        ones = np.ones(len(y))
        if len(self.folds) < tone_data.FOLDS and "folds" in what:
            what += f" (figures of folds {', '.join(map(str, self.folds))})"
        return {
            "what": what,
            "measure": measure,
            "estimate": round(estimate, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "n": len(rows),
            "keywords": round(function(shown(keywords), y, ones), 4),
            "vader": round(function(shown(vader), y, ones), 4),
        }

    def rows(self, source: str) -> np.ndarray:
        """Return the numbers of a set's documents."""
        there = np.isin(self.fold, self.folds)
        return np.array([i for i, d in enumerate(self.documents) if d.source == source and there[i]])

    def raw(self, rows: np.ndarray, name: str) -> np.ndarray:
        """Return published values."""
        return np.array([self.documents[i].raw[name] for i in rows])

    def tone(self, scores: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        """Measure all tone heads: scores (n, heads), out of fold."""
        out: dict[str, list[dict[str, Any]]] = {}

        def add(metric: str, what: str, measure: str, rows: np.ndarray, y: np.ndarray, apart: bool = False) -> None:
            score = scores[rows, HEADS.index(metric)]
            out.setdefault(metric, []).append(self.entry(metric, what, measure, rows, y, score, apart))

        rows = self.rows("chatgpt-refusals")
        what = "chatgpt-refusals, rejected against complied, 5 folds by prompt"
        add("refusal", what, "macro-F1", rows, self.raw(rows, "label"))
        rows = self.rows("refusal-direction")
        y = np.array([self.documents[i].targets["refusal"] for i in rows])
        add("refusal", "refusal-direction, five models, automatic labels, 5 folds by prompt", "macro-F1", rows, y)
        rows = self.rows("politeness")
        values = self.raw(rows, "score")
        low, high = np.quantile(values, [0.25, 0.75])
        rows = rows[(values <= low) | (values >= high)]
        y = (self.raw(rows, "score") >= high).astype(float)
        add("politeness", "Stack Exchange requests, top against bottom quartile, 5 folds", "accuracy", rows, y)
        rows = self.rows("certainty")
        add(
            "hedging",
            "scientific findings, sentence-level certainty, 5 folds",
            "Pearson",
            rows,
            -self.raw(rows, "certainty"),
        )
        rows = self.rows("tweets")
        add(
            "toxicity",
            "tweets, hateful or offensive against neither, 5 folds",
            "macro-F1",
            rows,
            self.raw(rows, "label"),
        )
        rows = self.rows("essays")
        add(
            "warmth",
            "reactions to news, writers' own empathy, 5 folds by article",
            "Pearson",
            rows,
            self.raw(rows, "empathy"),
        )
        rows = self.rows("spiral-bench")
        strict = rows[[tone_data.third(self.documents[i]) == self.fold[i] for i in rows]]
        for head in JUDGED.values():
            for what, part in (("prompts left out too", strict), ("all prompts", rows)):
                y = (self.raw(part, head) > 0).astype(float)
                what = f"Spiral-Bench turns of a model left out of training, mean of three models, {what}"
                add(head, what, "AUROC", part, y, apart=True)
        rows = self.rows("syco-bench")
        add("delusion_reinforcement", "syco-bench replies, three judges' median, 5 folds by statement", "Pearson",
            rows, self.raw(rows, "score"))  # fmt: skip
        for name in ("refusal", "dependence", "manipulation"):
            rows = self.rows(f"contrast-{name}")
            add(name, "our contrast set for training, 5 folds by topic", "accuracy", rows, self.raw(rows, "label"))
        return out


EVEN = (*EVENTS, "toxicity")
"""Heads whose labels are there or not."""


def calibration(documents: list[Document], scores: np.ndarray) -> dict[str, tuple[float, float]]:
    """Fit scale and shift of every head on held-out scores.

    Heads of `EVEN` are fitted to even odds: how common their labels are in these sets says nothing of how common they
    are elsewhere, so that 0.5 stands for what is as likely as not where positives are as many as negatives.
    """
    out = {}
    y, importance = tone_data.targets(documents), np.array([d.weight for d in documents])
    for k, head in enumerate(HEADS):
        known = np.isfinite(y[:, k]) & np.isfinite(scores[:, k])
        z, t = scores[known, k].astype(float), y[known, k].astype(float)
        weight = importance[known]
        if head in EVEN:
            weight = weight * np.where(t > 0.5, 0.5 / (weight @ (t > 0.5)), 0.5 / (weight @ (t <= 0.5))) * len(t)
        scale, shift = platt(z[:, None], t[:, None], weight=weight[:, None])
        out[head] = (float(scale[0]), float(shift[0]))
    return out


EMOTIONS = ("sadness", "grief", "remorse", "fear", "nervousness", "disappointment", "caring", "neutral")
MARKERS = ("first_person", "absolutist", "self_blame", "hopelessness", "giving_up", "apologies")
FEATURES = (
    *(f"emotion_{label}" for label in EMOTIONS), "_distress_voice", "_distress_reaction", *MARKERS
)  # fmt: skip
"""What the distress index adds up: mean probabilities, logits of hidden heads, markers per 100 words, 10 at most."""


def features(documents: list[Document], folder: Path, scores: np.ndarray, emotion: Any) -> np.ndarray:
    """Return the index's features, float64 (n, features), out of fold; `emotion` is the calibrated emotion head."""
    from affectcore import Scorer

    fold = np.array([tone_data.fold_of(d) for d in documents])
    mean = np.full((len(documents), 28), np.nan)
    for k in present(folder):
        with np.load(folder / str(k) / "scores.npz") as file:
            logits, first = file["goemotions"].astype(np.float64), file["first"]
        p = activate(logits, emotion.kind, emotion.scale, emotion.shift)
        whole = np.add.reduceat(p, first[:-1]) / np.diff(first)[:, None]
        mean[fold == k] = whole[fold == k]
    table = Scorer(model="none", metrics=list(MARKERS)).score([d.text for d in documents])
    parts = [mean[:, [GOEMOTIONS.index(label) for label in EMOTIONS]]]
    parts.append(scores[:, [HEADS.index(h) for h in FEATURES if h.startswith("_")]])
    parts.append(np.minimum(np.stack([table[name].to_numpy() for name in MARKERS], 1), 10))
    return np.concatenate(parts, 1)


def logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float = 3.0) -> np.ndarray:
    """Fit a ridge-penalized logistic model to soft targets by Newton's method: weights, then the bias."""
    mean, std = x.mean(0), x.std(0) + 1e-9
    a = np.c_[(x - mean) / std, np.ones(len(x))]
    ridge = np.diag([penalty] * x.shape[1] + [0.0])
    w = np.zeros(a.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-a @ w))
        step = np.linalg.solve(
            (a * (weight * p * (1 - p))[:, None]).T @ a + ridge, a.T @ (weight * (p - y)) + ridge @ w
        )
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return np.append(w[:-1] / std, w[-1] - (w[:-1] * mean / std).sum())


LOWERS = ("emotion_caring", "emotion_neutral")
EITHER = ("first_person", "absolutist")
SIGN = np.array([-1 if name in LOWERS else 0 if name in EITHER else 1 for name in FEATURES])
"""Which way a feature may move distress: 0 for any."""


def signed(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """As `logistic`, of `FEATURES`, without those that would count the wrong way: they get weight 0."""
    kept = np.ones(len(FEATURES), bool)
    while True:
        out = np.zeros(len(FEATURES) + 1)
        out[np.append(kept, True)] = logistic(x[:, kept], y, weight, penalty)
        wrong = out[:-1] * SIGN < 0
        if not wrong.any():
            return out
        kept &= ~wrong


def crossed(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, fold: np.ndarray, penalty: float, fit: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return every row's logit by a model that was fitted to the other folds."""
    out = np.zeros(len(x))
    for k in np.unique(fold):
        other = fold != k
        fitted = fit(x[other], y[other], weight[other], penalty)
        out[~other] = x[~other] @ fitted[:-1] + fitted[-1]
    return out


PARTS = (*GOEMOTIONS, *data.VAD, *STYLES)
"""Heads whose logits, averaged over passages, warmth adds up. As all are linear, so is their sum: one head."""


def averaged(documents: list[Document], folder: Path) -> np.ndarray:
    """Return the logits of `PARTS`, averaged over passages by tokens, float64 (n, parts), out of fold."""
    fold = np.array([tone_data.fold_of(d) for d in documents])
    out = np.full((len(documents), len(PARTS)), np.nan)
    for k in present(folder):
        with np.load(folder / str(k) / "scores.npz") as file:
            logits = np.concatenate([file["goemotions"], file["vad"], file["tone"][:, -len(STYLES) :]], 1)
            weight, first = file["lengths"].astype(np.float64), file["first"]
        total = np.add.reduceat(logits.astype(np.float64) * weight[:, None], first[:-1])
        mean = total / np.add.reduceat(weight, first[:-1])[:, None]
        out[fold == k] = mean[fold == k]
    return out


def warmth(judge: Judge, x: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Fit warmth to both of its sets on held-out logits `x`, and put cross-fitted logits into `scores`, in place."""
    rows = [i for i, d in enumerate(judge.documents) if "warmth" in d.targets and judge.fold[i] in judge.folds]
    at = np.array(rows)
    target = np.array([judge.documents[i].targets["warmth"] for i in rows])
    # What people say they felt shows in their text in part only: it needs more weight to be heard beside our labels.
    w = np.array([12.0 if judge.documents[i].source == "essays" else 1.0 for i in rows])
    scores[at, HEADS.index("warmth")] = crossed(x[at], target, w, judge.fold[at], 3000.0, logistic)
    fitted = logistic(x[at], target, w, 3000.0)
    return {"bias": float(fitted[-1]), "weights": dict(zip(PARTS, map(float, fitted)))}


ORDINARY = ("chatgpt-refusals", "refusal-direction", "certainty", "syco-bench", "spiral-bench")
"""Sets whose writers are hardly ever distressed. They keep the index from finding distress in ordinary text."""


def distress(judge: Judge, x: np.ndarray) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fit the distress index on held-out features, and measure it by cross-fitting over the same folds."""
    documents = judge.documents
    # What writers said of themselves shows in their text in part only: it needs more weight to be heard at all. On
    # held-out scores, weights from 1 to 5 move its correlation up by 0.07 and the accuracy on our set down by 0.01.
    importance = {"contrast-distress": 1.0, "contrast-tone": 0.5, "essays": 5.0, **dict.fromkeys(ORDINARY, 0.3)}
    rows, y, weight = [], [], []
    for i, d in enumerate(documents):
        known = "_distress_reaction" in d.targets or d.source in ORDINARY
        if d.source in importance and known and judge.fold[i] in judge.folds:
            rows.append(i)
            y.append(d.targets.get("_distress_reaction", 0.0))
            weight.append(importance[d.source])
    at, target, w = np.array(rows), np.array(y), np.array(weight)
    # Even odds, as in `calibration`.
    short = np.array([documents[i].source.startswith("contrast") for i in at])
    target[~short] = target[~short].clip(0.02, 0.98)  # none of the others is a case of 0 or 1 below
    w[short & (target > 0.5)] *= w[short & (target <= 0.5)].sum() / w[short & (target > 0.5)].sum()

    def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
        found = signed(x, y, weight, penalty)
        # Essays move the whole scale: 0.5 shall be even odds on our sets.
        part = (y < 0.01) | (y > 0.99)
        z = (x[part] @ found[:-1] + found[-1])[:, None]
        scale, shift = platt(z, y[part, None], weight=weight[part, None])
        return np.append(found[:-1] * scale, found[-1] * scale + shift)

    score = crossed(x[at], target, w, judge.fold[at], 3.0, fit)
    entries = []
    for source, what, measure in (
        ("essays", "reactions to news, writers' own distress, 5 folds by article", "Pearson"),
        ("contrast-distress", "our contrast set for training, 5 folds by topic", "accuracy"),
    ):
        part = np.array([documents[i].source == source for i in at])
        name = "distress" if source == "essays" else "label"
        p = 1 / (1 + np.exp(-score[part]))
        entries.append(judge.entry("distress", what, measure, at[part], judge.raw(at[part], name), p))
    fitted = fit(x[at], target, w, 3.0)
    weights = {name: round(float(v), 5) for name, v in zip(FEATURES, fitted)}
    return {"version": 1, "bias": round(float(fitted[-1]), 5), "weights": weights}, entries


def main() -> None:
    """Measure, and write the figures and calibrations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--model", required=True, help="the embedded model whose emotion head is calibrated")
    options = parser.parse_args()
    documents = chosen(data.root(options.data))
    scores = out_of_fold(documents, options.scores)
    judge = Judge(documents, present(options.scores))
    emotion = next(h for h in load(options.model).heads if h.name == "emotion")
    added = warmth(judge, averaged(documents, options.scores), scores)
    index, entries = distress(judge, features(documents, options.scores, scores, emotion))
    record = {
        "calibration": calibration(documents, scores),
        "warmth": added,
        "distress": index,
        "validation": judge.tone(scores) | {"distress": entries},
    }
    (options.scores / "validation.json").write_text(json.dumps(record, indent=1))
    for metric, entries in record["validation"].items():
        for e in entries:
            print(
                f"{metric:24} {e['measure']:9} {e['estimate']:.3f} [{e['low']:.3f}, {e['high']:.3f}] n={e['n']:<6}"
                f" keywords {e['keywords']:.3f} VADER {e['vader']:.3f}  {e['what']}"
            )


if __name__ == "__main__":
    main()
