"""The sets that tone heads learn from: documents with targets for some heads, grouped so that folds cannot leak.

Every document has a row of targets, one per head of `HEADS`, in [0, 1]; NaN where its set says nothing of a head. Folds
are drawn by group: the prompt, article, topic or neighbourhood that near-duplicates share. Spiral-Bench's turns have a
rule of their own, by model and by prompt (`FOLDS`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affectcore.training import data

EVENTS = (
    "refusal", "sycophancy", "delusion_reinforcement", "escalation", "pushback", "seek_help", "dependence",
    "manipulation", "_distress_voice",
)  # fmt: skip
"""Heads of what a text does somewhere: the passages that do it most decide (level `strongest`)."""
STYLES = ("politeness", "hedging", "toxicity", "warmth", "_distress_reaction", "_empathy")
"""Heads of how a text is written throughout: means over passages (level `document`). `_empathy` goes into warmth;
`_distress_reaction` learns from writers' own distress beside the contrast sets, `_distress_voice` from these alone.
"""
HEADS = EVENTS + STYLES

SHARPNESS = {head: 1.0 if head == "sycophancy" else 0.2 for head in EVENTS}
"""What the logits of `EVENTS` are multiplied by in the package. Level `strongest` weighs passages by the exponential of
their logit, so the less, the more of a text counts. Training takes 1; on held-out folds, 0.2 agrees better with labels.
"""

JUDGED = {
    "sycophancy or praise": "sycophancy",
    "delusion reinforcement": "delusion_reinforcement",
    "emotional or narrative escalation": "escalation",
    "pushback": "pushback",
    "suggestions to seek help": "seek_help",
}
"""Spiral-Bench's criteria and the heads that learn from them."""

LEARNT_BY = {"distress": ("_distress_voice", "_distress_reaction")}
"""The heads that learn from a label of the contrast sets, where they are not named as it is."""

FOLDS = 5
HELD_OUT_MODELS = ("kimi-k2", "claude-3.5-sonnet", "llama-4-maverick")
"""Fold k < 3 leaves out all turns of model k and, for the strict figure, the prompts of third k of other models."""

CONTRAST = Path(__file__).parent / "contrast"


@dataclass(frozen=True)
class Document:
    """A text with targets by head; `group` decides the fold, `source` names the set, `raw` holds published values."""

    text: str
    targets: dict[str, float]
    source: str
    group: str
    model: str = ""
    raw: dict[str, float] = field(default_factory=dict)
    weight: float = 1.0


def fold_of(document: Document) -> int:
    """Return the fold that tests a document; -1 for those that no fold tests."""
    if document.source == "spiral-bench":
        return HELD_OUT_MODELS.index(document.model)
    if document.weight < 1:
        return -1
    return _hash(document.group) % FOLDS


def trains(document: Document, fold: int) -> bool:
    """Say whether fold `fold`'s model may learn from a document; fold -1 is the released model, which sees all."""
    if fold < 0:
        return True
    if document.source == "spiral-bench":
        # Neither the model left out nor the prompts that its strict figure is measured on.
        return fold < 3 and document.model != HELD_OUT_MODELS[fold] and third(document) != fold
    return fold_of(document) != fold


def third(document: Document) -> int:
    """Return the third of Spiral-Bench's prompts that a turn belongs to."""
    return _hash(document.group) % 3


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def documents(folder: Path) -> list[Document]:
    """Read all sets; texts that come twice count once, in favour of the first."""
    seen: set[str] = set()
    out: list[Document] = []
    for document in _all(folder):
        key = data.fold(document.text)[:400]
        if key and key not in seen:
            seen.add(key)
            out.append(document)
    return out


def _all(folder: Path) -> Iterator[Document]:
    yield from contrast()
    yield from _refusals(folder)
    yield from _weak_refusals(folder)
    yield from _politeness(folder)
    yield from _certainty(folder)
    yield from _tweets(folder)
    yield from _essays(folder)
    yield from _spiral(folder)
    yield from _delusions(folder)
    yield from _background(folder)


def contrast() -> Iterator[Document]:
    """Read the contrast sets that come with the package. Neighbours, which share topics, share a group."""
    for name in ("refusal", "distress", "dependence", "manipulation", "tone", "spiral"):
        for number, row in enumerate(rows(CONTRAST / f"{name}.jsonl")):
            group = f"contrast/{name}/{number // 10}"
            labels = row["labels"] if "labels" in row else {name: row["label"]}
            targets = {head: float(y) for label, y in labels.items() for head in LEARNT_BY.get(label, (label,))}
            yield Document(row["text"], targets, f"contrast-{name}", group, raw={"label": float(row.get("label", -1))})


def rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _refusals(folder: Path) -> Iterator[Document]:
    """Hand-labelled replies of ChatGPT: rejected against complied; what redirects or contradicts is left out."""
    path = folder / "chatgpt-refusals" / "data" / "all_hand_labeled.json"
    for row in json.loads("".join(data._open(path))):
        if row["tone"] in ("rejected", "complied"):
            y = float(row["tone"] == "rejected")
            group = "chatgpt/" + " ".join(data.fold(row["prompt"]).split()[-3:])  # whom or what it is about
            yield Document(row["response"], {"refusal": y}, "chatgpt-refusals", group, raw={"label": y})


def _weak_refusals(folder: Path) -> Iterator[Document]:
    """Replies of five models; both automatic labels must agree, and text that loops is dropped."""
    for path in sorted((folder / "refusal-direction").rglob("*_evaluations.json")):
        model = path.parts[-3]
        for row in json.loads("".join(data._open(path)))["completions"]:
            words = row["response"].lower().split()
            complied = row["is_jailbreak_substring_matching"]
            guard = row.get("is_jailbreak_llamaguard2", complied)
            if guard == complied and len(words) > 3 and len(set(words)) > 0.45 * len(words):
                group = f"direction/{data.fold(row['prompt'])}"
                yield Document(row["response"], {"refusal": 1.0 - complied}, "refusal-direction", group, model)


def _politeness(folder: Path) -> Iterator[Document]:
    """Stack Exchange requests with a normalized politeness; the target is its place on a normal scale."""
    path = folder / "politeness-stackexchange" / "stack-exchange.annotated.csv"
    for row in csv.DictReader(data._open(path)):
        score = float(row["Normalized Score"])
        y = 0.5 * (1 + math.erf(score / 0.7 / math.sqrt(2)))
        group = f"politeness/{data.fold(row['Request'])[:60]}"
        yield Document(row["Request"], {"politeness": y}, "politeness", group, raw={"score": score})


def _certainty(folder: Path) -> Iterator[Document]:
    """Scientific findings with a certainty of 1 to 6."""
    path = folder / "certainty-science" / "data" / "annotated_data" / "sentence-level-certainty.jsonl"
    for line in data._open(path):
        row = json.loads(line)
        certainty = float(row["sentence-level-certainty"])
        group = f"certainty/{data.fold(row['finding'])[:60]}"
        yield Document(
            row["finding"], {"hedging": (6 - certainty) / 5}, "certainty", group, raw={"certainty": certainty}
        )


def _tweets(folder: Path) -> Iterator[Document]:
    """Tweets that most annotators found hateful or offensive (1), or neither (0)."""
    path = folder / "davidson-hate" / "data" / "labeled_data.csv"
    for row in csv.DictReader(data._open(path)):
        y = float(row["class"] != "2")
        text = " ".join(word for word in row["tweet"].split() if not word.startswith("http"))
        plain = " ".join(w for w in data.fold(text).split() if w != "rt" and not w.startswith("@"))
        yield Document(text, {"toxicity": y}, "tweets", f"tweet/{plain[:40]}", raw={"label": y})


def _essays(folder: Path) -> Iterator[Document]:
    """Reactions to news stories, with the writers' own empathy and distress of 1 to 7."""
    path = folder / "empathic-reactions" / "data" / "responses" / "data" / "messages.csv"
    for row in csv.DictReader(data._open(path)):
        raw = {"empathy": float(row["empathy"]), "distress": float(row["distress"])}
        targets = {"_empathy": (raw["empathy"] - 1) / 6, "_distress_reaction": (raw["distress"] - 1) / 6}
        targets["warmth"] = targets["_empathy"]
        # Twice the weight: their two hidden heads have few other teachers, or stronger ones.
        yield Document(row["essay"], targets, "essays", f"article/{row['article_id']}", raw=raw, weight=2.0)


def _spiral(folder: Path) -> Iterator[Document]:
    """Turns of three models with a user who spirals, judged by a language model: intensity by criterion."""
    for model in HELD_OUT_MODELS:
        runs = json.loads("".join(data._open(folder / "spiral-bench" / "res_v0.2" / f"{model}.json")))
        for prompts in (part for run in runs.values() for part in run.values()):
            if not isinstance(prompts, dict):
                continue
            for prompt, conversations in prompts.items():
                if not isinstance(conversations, list):
                    continue
                for conversation in conversations:
                    said = [m["content"] for m in conversation.get("transcript", ()) if m["role"] == "assistant"]
                    for judged in conversation.get("judgements", {}).values():
                        if "metrics" not in judged:
                            continue
                        for turn in judged["assistant_turn_indexes"]:
                            raw = {head: float(judged["metrics"][name]) for name, head in JUDGED.items()}
                            raw["turn"] = float(turn)
                            y = {h: 0.0 if raw[h] == 0 else min(0.6 + 0.1 * raw[h], 1.0) for h in JUDGED.values()}
                            yield Document(said[turn], y, "spiral-bench", f"spiral/{prompt}", model, raw)


def _delusions(folder: Path) -> Iterator[Document]:
    """Replies to delusional statements, 0 (challenges them) to 5 (supports them), by the median of three judges."""
    for path in sorted((folder / "syco-bench" / "output").rglob("delusion_results.csv")):
        for row in csv.DictReader(data._open(path)):
            score = float(row["median_score"])
            group = f"syco/{data.fold(row['statement'])[:60]}"
            targets = {"delusion_reinforcement": score / 5}
            yield Document(row["response"], targets, "syco-bench", group, row["Name"], {"score": score})


def _background(folder: Path, n: int = 500) -> Iterator[Document]:
    """Ordinary answers, taken for free of what they hardly ever hold; weak evidence, and never tested on."""
    texts: list[str] = []
    for path in sorted((folder / "arena-hard-auto" / "data").rglob("model_answer/*.jsonl")):
        for line in data._open(path):
            for message in json.loads(line)["messages"]:
                if message["role"] == "assistant":
                    texts += data._content(message["content"])
    absent = ("delusion_reinforcement", "dependence", "manipulation", "_distress_voice", "toxicity", "escalation",
              "sycophancy", "seek_help")  # fmt: skip
    for text in random.Random(0).sample(texts, min(n, len(texts))):
        yield Document(text[:1500], dict.fromkeys((*absent, "refusal"), 0.0), "answers", "answers", weight=0.3)


def targets(chosen: Iterable[Document]) -> np.ndarray:
    """Return float32 (n, heads), NaN where a set says nothing of a head."""
    return np.array([[d.targets.get(h, math.nan) for h in HEADS] for d in chosen], np.float32)
