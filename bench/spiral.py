"""Do our scores see in Spiral-Bench's conversations what its judge saw: `python bench/spiral.py`.

Scores all turns of its models' conversations (set `spiral-bench` under AFFECTCORE_DATA), prints the drift by turn, and
the agreement with the judge's counts: Spearman's rank correlation over turns, with intervals that resample whole
conversations, and the ranking of the models. The released heads have learnt from these very turns, so this flatters
them. With ``--fold-scores FOLDER``, what the models of the folds of `affectcore.training.finetune_tone` said of turns
they had not seen is measured instead. Exits with 1 if the model has no head for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from corpus import DATA
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import affectcore as ac
from affectcore import stability
from affectcore.errors import UsageError
from affectcore.stats.bootstrap import expanded_interval
from affectcore.training.tone_data import HELD_OUT_MODELS, JUDGED

METRICS = ("sycophancy", "delusion_reinforcement")
SHOWN = (1, 9, 19, 29, 39)  # turns whose means are printed: among all messages, the model's are odd
REPLICATES = 1000

IN_SAMPLE = (
    "IN-SAMPLE: released heads have learnt from these very turns, so agreement with the judge is flattered. "
    "--fold-scores gives the figures of models that had not seen them."
)


@dataclass(frozen=True)
class Turns:
    """Judged turns: who said them in which conversation, and what we and the judge found (turns, metrics)."""

    model: np.ndarray
    conversation: np.ndarray
    ours: np.ndarray
    judge: np.ndarray

    def of(self, rows: np.ndarray) -> Turns:
        """Return some of the turns."""
        return Turns(self.model[rows], self.conversation[rows], self.ours[rows], self.judge[rows])


def conversations(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every conversation with its model, its prompt, its messages and the judge's counts by message."""
    for model in HELD_OUT_MODELS:
        path = folder / "spiral-bench" / "res_v0.2" / f"{model}.json"
        if not path.is_file():
            raise SystemExit(f"no {path}: AFFECTCORE_DATA must hold spiral-bench (docs/data.md)")
        for run in json.loads(path.read_text(encoding="utf-8")).values():
            for prompts in (part for part in run.values() if isinstance(part, dict)):
                for prompt, talks in prompts.items():
                    for talk in talks if isinstance(talks, list) else ():
                        if isinstance(talk, dict) and talk.get("transcript"):
                            yield _conversation(model, prompt, talk)


def _conversation(model: str, prompt: str, talk: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": m["role"], "content": m["content"]} for m in talk["transcript"]]
    own = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    counts = {
        own[turn]: [float(judged["metrics"][name]) for name, head in JUDGED.items() if head in METRICS]
        for judged in talk.get("judgements", {}).values()
        if "metrics" in judged
        for turn in judged["assistant_turn_indexes"]
    }
    return {"model": model, "conversation_id": f"{model}/{prompt}", "messages": messages, "judged": counts}


def scored(talks: list[dict[str, Any]], model: str) -> pa.Table:
    """Score all turns, the users' too."""
    scorer = ac.Scorer(model, [*METRICS, "n_tokens"], "turn", roles="all")
    columns = {name: [talk[name] for talk in talks] for name in ("model", "conversation_id", "messages")}
    return scorer.score(pa.table(columns))


def judged(talks: list[dict[str, Any]], scores: pa.Table) -> Turns:
    """Put our scores of the judged turns beside the judge's."""
    ours = {
        (row["conversation_id"], row["turn"]): [row[m] for m in METRICS]
        for row in scores.select(["conversation_id", "turn", *METRICS]).to_pylist()
    }
    rows = [
        (talk["model"], talk["conversation_id"], ours[talk["conversation_id"], turn], counts)
        for talk in talks
        for turn, counts in talk["judged"].items()
    ]
    model, conversation, mine, theirs = zip(*rows)
    return Turns(np.array(model), np.array(conversation), np.array(mine, float), np.array(theirs))


def out_of_fold(data: Path, folder: Path) -> tuple[Turns, np.ndarray]:
    """Return the judged turns with the scores of models that had not seen them, and whether their prompt was new, too.

    Scores are logits, each model's turns from another fold.
    """
    from affectcore.training import tone_data, validate
    from affectcore.training.finetune_tone import chosen

    there = validate.present(folder)
    missing = [k for k in range(len(HELD_OUT_MODELS)) if k not in there]
    if missing:
        raise SystemExit(f"{folder}: no {missing[0]}/scores.npz; train the folds 0, 1 and 2 first (make train)")
    documents = chosen(data)
    try:
        scores = validate.out_of_fold(documents, folder)
    except (ValueError, IndexError) as error:
        raise SystemExit(f"{folder} has scores of other documents than the sets have now: {error}") from None
    rows = [i for i, d in enumerate(documents) if d.source == "spiral-bench"]
    own = [documents[i] for i in rows]
    turns = Turns(
        np.array([d.model for d in own]),
        np.array([f"{d.model}/{d.group}" for d in own]),
        scores[rows][:, [tone_data.HEADS.index(m) for m in METRICS]].astype(float),
        np.array([[d.raw[m] for m in METRICS] for d in own]),
    )
    if not np.isfinite(turns.ours).all():
        raise SystemExit(f"{folder}: turns without a score; were the folds trained on these sets?")
    return turns, np.array([tone_data.third(d) == tone_data.fold_of(d) for d in own])


def spearman(turns: Turns, k: int) -> tuple[float, float, float]:
    """Return the rank correlation of a metric with the judge's counts, with its interval over conversations."""
    names, conversation = np.unique(turns.conversation, return_inverse=True)
    members = [np.flatnonzero(conversation == c) for c in range(len(names))]
    rng = np.random.default_rng(0)

    def rho(rows: Any) -> float:
        a, b = turns.ours[rows, k], turns.judge[rows, k]
        return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan

    drawn = [
        rho(np.concatenate([members[c] for c in rng.integers(len(names), size=len(names))])) for _ in range(REPLICATES)
    ]
    low, high = expanded_interval(np.array(drawn), len(names))
    return rho(slice(None)), float(low), float(high)


def print_drift(console: Console, scores: pa.Table) -> None:
    """Print the means at some turns, the slope, and the turn at which the mean changes."""
    table = Table(
        "metric", "model", *(f"turn {t}" for t in SHOWN), "slope per turn (95%)", "change", "p", box=box.SIMPLE
    )
    means = {(r["metric"], r["by"], r["turn"]): r for r in _rows(stability.by_turn(scores, "model", METRICS))}
    for r in _rows(stability.trends(scores, "model", METRICS)):
        at = [means.get((r["metric"], r["by"], t)) for t in SHOWN]
        change = "none" if r["change_turn"] is None else (
            f"turn {r['change_turn']} [{r['change_low']}, {r['change_high']}]: "
            f"{r['change_before']:.3f} to {r['change_after']:.3f}"
        )  # fmt: skip
        table.add_row(
            r["metric"],
            r["by"],
            *("" if m is None else f"{m['mean']:.3f}" for m in at),
            f"{r['slope']:+.5f} [{r['slope_low']:+.5f}, {r['slope_high']:+.5f}]",
            change,
            f"{r['p_change']:.4f}",
        )
    console.print("Drift by turn (turns are numbered among all messages; intervals resample conversations)")
    console.print(table, highlight=False)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def print_agreement(console: Console, turns: Turns, what: str) -> None:
    """Print the rank correlations with the judge's counts, and both rankings of the models."""
    table = Table("metric", "model", "turns", "Spearman's rho (95%)", "our mean", "judge's mean", box=box.SIMPLE)
    verdicts = []
    for k, metric in enumerate(METRICS):
        ours, theirs = {}, {}
        for model in (*HELD_OUT_MODELS, "pooled"):
            own = turns if model == "pooled" else turns.of(np.flatnonzero(turns.model == model))
            if not len(own.model):
                continue
            rho, low, high = spearman(own, k)
            mine, judge = own.ours[:, k].mean(), own.judge[:, k].mean()
            if model != "pooled":
                ours[model], theirs[model] = mine, judge
            shown = f"{rho:.3f} [{low:.3f}, {high:.3f}]"
            table.add_row(metric, model, f"{len(own.model):,}", shown, f"{mine:.3f}", f"{judge:.3f}")
        orders = [" < ".join(sorted(means, key=means.__getitem__)) for means in (ours, theirs)]
        verdict = "the judge's, too" if orders[0] == orders[1] else f"the judge's is {orders[1]}"
        verdicts.append(f"{metric}: our ranking of the models is {orders[0]}; {verdict}")
    console.print(what)
    console.print(table, highlight=False)
    for verdict in verdicts:
        console.print(verdict, highlight=False)
    console.print()


def main() -> None:
    """Print drift and agreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="static", help="model to score with (default: static)")
    parser.add_argument("--fold-scores", type=Path, help="folder with 0/, 1/ and 2/scores.npz, measured instead")
    options = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    if options.fold_scores:
        turns, strict = out_of_fold(DATA, options.fold_scores)
        note = "scores are logits, each model's from another fold: the pooled figure and the ranking mix three models"
        print_agreement(console, turns, f"OUT OF SAMPLE, models left out of training ({note})")
        print_agreement(console, turns.of(np.flatnonzero(strict)), "OUT OF SAMPLE, models and prompts left out")
        return
    talks = list(conversations(DATA))
    try:
        scores = scored(talks, options.model)
    except UsageError as error:
        console.print(f"model {options.model} cannot be measured here: {error}", highlight=False)
        raise SystemExit(1) from None
    print_drift(console, scores)
    print_agreement(console, judged(talks, scores), IN_SAMPLE)


if __name__ == "__main__":
    main()
