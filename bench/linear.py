"""Time per byte of texts that repeat one nasty thing, at sizes that double: it has to be flat.

``python bench/linear.py`` prints nanoseconds per byte of every family, for the splitting of reasoning and answer, for
reading the text from JSON Lines and CSV, and for whole scorers; ``--family`` and ``--stage`` choose some. A family that
takes more than 2.5 times as long per byte at the largest size as at its best is marked, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from affectcore import Scorer
from affectcore.io.formats.parts import split
from affectcore.io.readers import discover, open_reader

SIZES = [1 << k for k in range(18, 23)]
STEEP = 2.5
"""Times as long per byte, from which on it counts as more than linear: four doublings of quadratic time would be 16."""

TAGS = {
    "openers": "<think>",
    "closers": "</think>",
    "blocks": "<think>a</think>",
    "empty blocks": "<think></think>",
    "tags in capitals": "<THINK>a</Think>",
    "attributes": '<think time="1">a</think>',
    "long attributes": "<think " + "x" * 199 + ">",
    "openers without an end": "<think ",
    "closers in double quotes": '"</think>"',
    "closers in curly quotes": "“</think>”",
    "closers in brackets and quotes": '("</think>")',
    "closers in backticks": "`</think>`",
    "closers in pairs of backticks": "``</think>``",
    "closers behind more and more backticks": "".join("`" * k + "</think>" for k in range(1, 120)),
    "closers in fences": "```\n</think>\n```\n",
    "openers and closers in fences": "```\n</think>\n```\n<think>",
    "closers in fences never closed": "```\n</think>\n",
    "closers in quoted lines": "> </think>\n",
    "blocks in quoted lines": "> </think><think>\n",
    "blocks, names that change": "<think></thought><thought></think>",
    "Mistral": "[THINK]a[/THINK]",
    "Kimi": "◁think▷a◁/think▷",
    "Sky-T1": "<|begin_of_thought|>a<|end_of_thought|>",
    "Cohere": "<|START_THINKING|>a<|END_THINKING|>",
    "Gemma": "<|channel>thought a<channel|>",
    "harmony's ends": "<|end|>",
    "harmony's ends and spaces": "<|return|> \n ",
    "harmony's channels": "<|channel|>analysis<|message|>a<|end|>",
    "harmony's starts": "<|start|>",
    "harmony's starts and channels": "<|start|>a<|channel|>b<|constrain|>",
    "answers": "<answer>a</answer>",
    "answers' ends": "</answer>",
    "angles": "<",
    "backticks": "`",
    "fences": "```\n",
    "spaces": " ",
    "line ends": "\n",
}
TEXTS = {
    "one word": "a",
    "words": "good ",
    "capitals": "BAD ",
    "digits": "1234567890",
    "exclamations": "!",
    "full stops": ".",
    "question marks and words": "what?! ",
    "but": "good but bad ",
    "not": "not never no ",
    "boosters": "very really ",
    "kinds of": "kind of sort of ",
    "emoji": "😀",
    "emoji joined": "👩‍👩‍👧‍👦",
    "marks on a letter": "́",
    "no-break spaces": " ",
    "Chinese": "好的。",
    "apostrophes": "n't'",
    "hyphens": "well-",
    "underscores and stars": "_*",
    "addresses": "http://a.b/",
    "addresses in one": "http://",
    "addresses, www": "www.",
    "e-mail": "a@b.",
    "table cells": "| a ",
    "table lines": "| a | b |\n",
    "table rules": "|---|---|\n",
    "table rule in one line": "|---",
    "quotation marks": '"',
    "curly quotation marks": "“a",
    "quoted lines": "> a\n",
    "quote signs": ">",
    "brackets": "([{",
    "links": "[a](b",
    "headings": "# a\n",
    "lists": "- a\n",
    "indented": "    a\n",
    "code": "`a` ",
    "entities": "&amp;",
    "control characters": "\x01",
    "carriage returns": "\r\n",
    "replacement characters": "�",
    "smileys": ":) :( ",
    "backslashes": "\\",
    "abbreviations": "e.g. Mr. ",
    "ellipses": "… ",
    "pieces of words": "un##able",
    "contractions": "don't can't ",
    "marks out of order": "\u0301\u0323\u0345\u0334",
    "marks of many classes": "".join(map(chr, range(0x300, 0x34F))),
    "jamo": "\u1112\u1161\u11ab",
    "Arabic": "السلام ",
    "emphasis": "**a** ",
    "stars": "*",
    "underscores": "_",
    "tildes": "~",
    "numbered lists": "1. a\n",
    "grouped digits": "1,000,",
    "times": "12:30 ",
    "initials": "A.B.C. ",
    "closing brackets": ")",
    "markup": "<b>a</b>",
    "slashes": "/",
    "colons": ":",
    "backticks, more and more": " ".join("`" * k for k in range(1, 200)),
    "fences, longer and longer": "\n".join("`" * k for k in range(3, 200)),
    "fences of two kinds": "```\n~~~\n",
    "quoted fences": "> ```\n",
    "table lines, wider and wider": "\n".join("|a" * k for k in range(1, 60)),
    "cells in rules": "| - | : |",
    "quotation marks that open": '("a ',
    "single quotation marks": "'a ",
    "many words once": " ".join(f"w{k:x}" for k in range(40_000)),
    "feelings, then but": "good " * 200 + "but ",
    "words that go on": "aint ",
    "null bytes": "\0",
}
HEADS = ("", "<think>\n", "<|channel|>final<|message|>")


def families() -> dict[str, tuple[str, str]]:
    """Return what each family begins with, and what it repeats."""
    found: dict[str, tuple[str, str]] = {}
    for name, unit in TAGS.items():
        for head in HEADS:
            found[f"{name}{f', after {head.strip()}' if head else ''}"] = (head, unit)
    return found | {name: ("", unit) for name, unit in TEXTS.items()}


def text_of(family: tuple[str, str], size: int) -> str:
    """Return a text of a family with about `size` bytes."""
    head, unit = family
    return head + unit * max(1, (size - len(head)) // len(unit.encode()))


def read(text: str, suffix: str, folder: Path) -> Callable[[], object]:
    """Return what reads a file with a row of this text."""
    path = folder / f"one{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.write(json.dumps({"id": 1, "text": text}) + "\n")
        else:
            csv.writer(file).writerows([["id", "text"], [1, text]])

    def call() -> int:
        with open_reader(discover(path)[0]) as reader:
            return sum(len(texts) for _, texts in reader)

    return call


def stages(folder: Path) -> dict[str, Callable[[str], Callable[[], object]]]:
    """Return what is timed: a function that prepares a text and returns the call."""

    def scorer(model: str) -> Callable[[str], Callable[[], object]]:
        made = Scorer(model, threads=1)
        made.score(["warm"])
        return lambda text: lambda: made.score([text])

    def splitting(text: str) -> Callable[[], object]:
        array = pa.array([text])
        return lambda: split(array)

    return {
        "split": splitting,
        "jsonl": lambda text: read(text, ".jsonl", folder),
        "csv": lambda text: read(text, ".csv", folder),
        "none": scorer("none"),
        "static": scorer("static"),
    }


def best(call: Callable[[], object], rounds: int) -> float:
    """Return the shortest time of some calls in seconds."""
    least = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        call()
        least = min(least, time.process_time() - started)
    return least


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="", help="only families whose names hold this")
    parser.add_argument("--stage", nargs="*", help="split, jsonl, csv, none, static; default: all")
    parser.add_argument("--most", type=float, default=4.0, help="the largest text in MiB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = [size for size in SIZES if size <= options.most * (1 << 20)]
    print("ns per byte at " + ", ".join(f"{size / (1 << 20):g}" for size in sizes) + " MiB, and the last by the least")
    steep = 0
    with tempfile.TemporaryDirectory() as folder:
        for stage, prepare in stages(Path(folder)).items():
            if options.stage and stage not in options.stage:
                continue
            for name, family in families().items():
                if options.family not in name:
                    continue
                each: list[float] = []
                seconds: list[float] = []
                for size in sizes:
                    text = text_of(family, size)
                    seconds.append(best(prepare(text), options.rounds))
                    each.append(seconds[-1] / len(text.encode()) * 1e9)
                grown = each[-1] / min(each)
                slow = grown > STEEP and seconds[-1] > 0.02
                steep += slow
                numbers = " ".join(f"{n:8.1f}" for n in each)
                print(f"{stage:7} {name:60} {numbers}  x{grown:.2f}{'  STEEP' if slow else ''}", flush=True)
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(main())
