"""What a call for one short text costs, beside vaderSentiment, and a thousand of them beside one call.

Usage: python bench/short_calls.py [--rounds N]. Each figure is the median of many calls, all callers taking turns, so
that a busy machine slows them alike. Texts: one sentence, and with AFFECTCORE_DATA the first thousand answers of
arena-hard-auto as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from machine import Neighbours
from rich.console import Console
from rich.table import Table
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

import affectcore as ac
from affectcore.settings import usable_cores

SENTENCE = "I am so sorry, I can't believe this failed again. Thank you for your patience!"


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each call; they take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # warms the caches that the other calls have emptied
            began = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in found.items()}


def short_calls(rounds: int) -> dict[str, float]:
    """Time one sentence."""
    vader = SentimentIntensityAnalyzer()
    compound, lexical, static = (ac.Scorer("none", "vader_compound"), ac.Scorer("none"), ac.Scorer("static"))
    return medians(
        {
            "vaderSentiment.polarity_scores": lambda: vader.polarity_scores(SENTENCE),
            "vader_compound: score_one": lambda: compound.score_one(SENTENCE),
            "vader_compound: score([text])": lambda: compound.score([SENTENCE]),
            "none, all metrics: score_one": lambda: lexical.score_one(SENTENCE),
            "none, all metrics: score([text])": lambda: lexical.score([SENTENCE]),
            "static, all metrics: score_one": lambda: static.score_one(SENTENCE),
            "static, all metrics: score([text])": lambda: static.score([SENTENCE]),
        },
        rounds,
    )


def thousands(texts: list[str]) -> dict[str, float]:
    """Time a call of all texts, and a call for each."""
    static = ac.Scorer("static")
    return medians(
        {
            "one call": lambda: static.score(texts),
            "a call each: score_one": lambda: [static.score_one(text) for text in texts],
            "a call each: score": lambda: [static.score([text]) for text in texts],
        },
        5,
    )


def answers(n: int) -> list[str]:
    """Return answers of arena-hard-auto, none where it is not here."""
    folder = Path(os.environ.get("AFFECTCORE_DATA", "../shared/data")) / "arena-hard-auto"
    found = []
    for path in sorted(folder.glob("data/*/model_answer/*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if not line:
                continue
            content = json.loads(line)["messages"][-1]["content"]
            found.append(content if isinstance(content, str) else content["answer"])
    return found[:n]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    console = Console(markup=False, highlight=False)
    neighbours = Neighbours()
    single = short_calls(arguments.rounds)
    own = single["vaderSentiment.polarity_scores"]
    table = Table("one sentence of 78 bytes", "ms a call", "vaderSentiment = 1", box=None)
    for name, seconds in single.items():
        table.add_row(name, f"{1e3 * seconds:.3f}", f"{seconds / own:.1f}")
    console.print(table)
    for what, texts in (
        ("1,000 sentences", [f"{SENTENCE} That was number {k}." for k in range(1000)]),
        ("1,000 answers of arena-hard-auto", answers(1000)),
    ):
        if not texts:
            console.print(f"{what}: not here (AFFECTCORE_DATA)")
            continue
        found = thousands(texts)
        table = Table(f"{what}, static, all metrics", "ms", "one call = 1", box=None)
        for name, seconds in found.items():
            table.add_row(name, f"{1e3 * seconds:.1f}", f"{seconds / found['one call']:.1f}")
        console.print(table)
    others = neighbours.cores()
    console.print(
        f"{usable_cores()} usable cores" + ("" if others is None else f"; others kept {others:.1f} busy meanwhile")
    )


if __name__ == "__main__":
    main()
