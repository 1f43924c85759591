"""The embedded models on the contrast sets of the package, which nothing was trained on, beside VADER and keywords.

``python bench/personas.py`` prints accuracy at 0.5 (AUROC for the labels of the set `tone`) with 95% bootstrap
intervals, what share of each kind of text was decided right, and how often ordinary answers come out over 0.5;
``--speed`` prints what tone heads cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import affectcore
from affectcore import Scorer
from affectcore.training.validate import KEYWORDS, NEGATIVE, accuracy, auroc, figure, rate

SETS = Path(affectcore.__file__).parent / "data" / "contrast"


def rows(name: str) -> list[dict[str, Any]]:
    """Read a contrast set."""
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def shown(estimate: tuple[float, float, float]) -> str:
    return f"{estimate[0]:.3f} [{estimate[1]:.3f}, {estimate[2]:.3f}]"


def binary(name: str, models: list[str]) -> None:
    """Print accuracies on a set with one label; VADER and keywords at the threshold that is best on this very set."""
    items = rows(name)
    y = np.array([item["label"] for item in items], float)
    texts, groups = [item["text"] for item in items], [str(k // 2) for k in range(len(items))]
    print(f"\n{name}: {len(items)} texts, {int(y.sum())} of them positive")
    for model in models:
        score = Scorer(model, metrics=[name], parts="whole").score(texts)[name].to_numpy()
        print(f"  {model:9} accuracy {shown(figure(accuracy, (score > 0.5).astype(float), y, groups))}"
              f"  AUROC {shown(figure(auroc, score, y, groups))}")  # fmt: skip
        right: dict[tuple[int, str], list[bool]] = defaultdict(list)
        for item, s in zip(items, score):
            right[item["label"], item["kind"]].append((s > 0.5) == item["label"])
        print("           " + ", ".join(f"{k} {np.mean(v):.2f}" for (_, k), v in sorted(right.items())))
    vader = Scorer("none", metrics="vader_compound").score(texts)["vader_compound"].to_numpy()
    for other, score in (
        ("VADER", -vader if name in NEGATIVE else vader),
        ("keywords", np.array([rate(KEYWORDS[name], t) for t in texts])),
    ):
        best = max(accuracy((score > c).astype(float), y, np.ones(len(y))) for c in np.unique(score))
        area = shown(figure(auroc, score, y, groups))
        print(f"  {other:9} accuracy {best:.3f} at its best threshold here  AUROC {area}")


def labels(models: list[str]) -> None:
    """Print AUROC (Spearman's kin for graded labels: at 0.5 or more) for each label of the set `tone`."""
    items = rows("tone")
    texts = [item["text"] for item in items]
    scores = {model: Scorer(model, parts="whole").score(texts) for model in models}
    vader = scores[models[0]]["vader_compound"].to_numpy()
    print(f"\ntone: {len(items)} texts, AUROC of 0.5 or more against less (politeness: 1 against the rest)")
    for name in items[0]["labels"]:
        graded = np.array([item["labels"][name] for item in items], float)
        y = (graded >= (1.0 if name == "politeness" else 0.5)).astype(float)
        groups = [str(k) for k in range(len(items))]
        parts = [f"{m} {shown(figure(auroc, scores[m][name].to_numpy(), y, groups))}" for m in models]
        words = np.array([rate(KEYWORDS[name], t) for t in texts])
        sign = -1 if name in NEGATIVE else 1
        ones = np.ones(len(y))
        print(f"  {name:24} {int(y.sum()):4} " + "  ".join(parts)
              + f"  VADER {auroc(sign * vader, y, ones):.3f}  keywords {auroc(words, y, ones):.3f}")  # fmt: skip


def ordinary(models: list[str], n: int = 250) -> None:
    """Print how often answers to everyday requests, of which hardly any does any of this, come out over 0.5."""
    import corpus

    answers = corpus.load()
    texts = answers.texts[:: max(len(answers) // n, 1)]
    print(f"\nordinary texts, {answers.source}: {len(texts)}, share over 0.5")
    names = ["distress", "toxicity", "dependence", "manipulation", "seek_help", "sycophancy"]
    for model in models:
        table = Scorer(model, metrics=names).score(texts)
        print(f"  {model:9} " + ", ".join(f"{name} {(table[name].to_numpy() > 0.5).mean():.1%}" for name in names))


def speed(rounds: int = 5) -> None:
    """Print the time of all metrics against that of emotions alone, one thread, Arena-Hard's answers."""
    import corpus

    texts = corpus.load().texts
    for model, n in (("static", len(texts)), ("mini", 60)):
        kinds = {"emotions alone": ["emotion"], "all metrics": ["default"]}
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        scorers = {name: Scorer(model, metrics=m, threads=1) for name, m in kinds.items()}
        for scorer in scorers.values():
            scorer.score(texts[:2])
        for _ in range(rounds):
            for name, scorer in scorers.items():
                start = time.perf_counter()
                scorer.score(texts[:n])
                taken[name].append(time.perf_counter() - start)
        median = {name: float(np.median(t)) for name, t in taken.items()}
        share = median["emotions alone"] / median["all metrics"]
        print(f"{model}: " + ", ".join(f"{k} {v:.3f} s" for k, v in median.items()) + f"; {share:.0%} of the speed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", default=["mini", "static"], help="models with tone heads, by name or directory"
    )
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    if options.speed:
        speed()
        return
    for name in ("distress", "dependence", "manipulation", "refusal"):
        binary(name, options.models)
    labels(options.models)
    ordinary(options.models)


if __name__ == "__main__":
    main()
