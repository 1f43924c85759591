"""Readers of the labelled data sets and of unlabelled model outputs, from the files as their authors publish them.

Every reader takes the folder that holds one folder per data set (docs/data.md lists them, with sources and licences)
and returns texts with labels as arrays. Splits are the published ones; a set without any is used for training only.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectcore.errors import InputError
from affectcore.metrics.taxonomy import GOEMOTIONS

VAD = ("valence", "arousal", "dominance")
PLUTCHIK = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")


@dataclass(frozen=True)
class Labelled:
    """Texts with one row of targets each: `y` float32 (n, k), one column per name in `labels`."""

    texts: list[str]
    y: np.ndarray
    labels: tuple[str, ...]

    def without(self, unwanted: set[str]) -> Labelled:
        """Return the rows whose text, case and white space folded, is not in `unwanted`."""
        keep = [fold(text) not in unwanted for text in self.texts]
        return Labelled([t for t, k in zip(self.texts, keep) if k], self.y[np.array(keep, bool)], self.labels)


def root(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the data sets: `folder`, or `AFFECTCORE_DATA`, or `../shared/data`."""
    return Path(folder or os.environ.get("AFFECTCORE_DATA") or "../shared/data")


def fold(text: str) -> str:
    """Fold case and white space, to find the same text in two data sets."""
    return " ".join(text.lower().split())


def _open(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from file
    except FileNotFoundError:
        raise InputError(
            path, "not found", "docs/data.md says where the data sets come from; --data names their folder"
        ) from None


def _multi_hot(rows: Iterable[Iterable[int]], k: int) -> np.ndarray:
    listed = [list(row) for row in rows]
    y = np.zeros((len(listed), k), np.float32)
    for i, row in enumerate(listed):
        y[i, row] = 1
    return y


def goemotions(folder: Path, split: str) -> Labelled:
    """Read GoEmotions: Reddit comments with 28 labels, `split` being `train`, `dev` or `test`."""
    rows = [line.rstrip("\r\n").split("\t") for line in _open(folder / "goemotions" / f"{split}.tsv")]
    return Labelled([row[0] for row in rows], _multi_hot((map(int, row[1].split(",")) for row in rows), 28), GOEMOTIONS)


def emobank(folder: Path, split: str) -> Labelled:
    """Read EmoBank (Buechel & Hahn 2017): valence, arousal, dominance, mapped from 1..5 to -1..1."""
    rows = [r for r in csv.DictReader(_open(folder / "emobank" / "emobank.csv")) if r["split"] == split]
    y = np.array([[(float(r[c]) - 3) / 2 for c in "VAD"] for r in rows], np.float32)
    return Labelled([r["text"] for r in rows], y, VAD)


def xed(folder: Path) -> Labelled:
    """Read XED (Oehman et al. 2020): English subtitle lines with Plutchik's eight emotions, or none."""
    emotional = [line.rstrip("\r\n").rsplit("\t", 1) for line in _open(folder / "xed-english" / "en-annotated.tsv")]
    neutral = [line.rstrip("\r\n").split("\t", 1) for line in _open(folder / "xed-english" / "neu_en.txt")]
    numbers = [[int(i) - 1 for i in re.findall(r"\d+", r[1]) if 1 <= int(i) <= 8] for r in emotional]
    texts = [r[0] for r in emotional] + [r[1] for r in neutral]
    return Labelled(texts, _multi_hot([*numbers, *([] for _ in neutral)], 8), PLUTCHIK)


def semeval(folder: Path) -> list[str]:
    """Read the training texts of SemEval-2025 task 11, English, without their labels, which serve as a cross-check."""
    rows = csv.DictReader(_open(folder / "semeval2025-eng" / "track_a" / "train" / "eng.csv"))
    return [row["text"] for row in rows]


def vader_gold(folder: Path) -> Labelled:
    """Read the sentences that VADER's authors had rated: mean valence, mapped from -4..4 to -1..1."""
    texts, y = [], []
    for path in sorted((folder / "vader" / "gold").glob("*_GroundTruth.txt")):
        for line in _open(path):
            _, value, text = line.rstrip("\r\n").split("\t", 2)
            texts.append(text)
            y.append([float(value) / 4])
    return Labelled(texts, np.array(y, np.float32), ("valence",))


def _strings(node: Any, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield every string that stands under a wanted key, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if wanted(key) and isinstance(value, str):
                yield value
            else:
                yield from _strings(value, wanted)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value, wanted)


def answers(folder: Path) -> list[str]:
    """Read unlabelled model output: the answers in arena-hard-auto, spiral-bench and eqbench-v2, each text once.

    Only text is taken; the judges' labels that some of these files hold are left alone.
    """
    texts: list[str] = []
    for path in sorted((folder / "arena-hard-auto" / "data").rglob("model_answer/*.jsonl")):
        for line in _open(path):
            texts += [
                t for m in json.loads(line)["messages"] if m["role"] == "assistant" for t in _content(m["content"])
            ]
    for path in sorted((folder / "spiral-bench").rglob("*.json")):
        tree = json.loads("".join(_open(path)))
        texts += [m["content"] for m in _messages(tree) if isinstance(m["content"], str)]
    for path in sorted((folder / "eqbench-v2" / "results").rglob("*.json")):
        texts += _strings(
            json.loads("".join(_open(path))), lambda key: "raw" in key or "answer" in key or "inference" in key
        )
    return list(dict.fromkeys(t for t in texts if t.strip()))


def _content(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [v for v in content.values() if isinstance(v, str)]


def _messages(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "role" in node and "content" in node:
            yield node
        else:
            for value in node.values():
                yield from _messages(value)
    elif isinstance(node, list):
        for value in node:
            yield from _messages(value)
