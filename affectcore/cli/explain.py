"""``affectcore explain``: why a text has its score."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectcore import escape
from affectcore.cli.console import echo, out
from affectcore.errors import InputError, UsageError

if TYPE_CHECKING:
    from affectcore.explanation import Explanation, Segment


def explain(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text; - reads it from standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="PATH",
            envvar="AFFECTCORE_FILE",
            help="Explain the text in a file instead; - is standard input.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="AFFECTCORE_METRIC", help="The score to explain: distress, or a column of a head."
        ),
    ] = "distress",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_MODEL",
            help="static, mini, a directory, or a checkpoint in the hub's cache.",
        ),
    ] = "static",
    segments: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, envvar="AFFECTCORE_SEGMENTS", help="Most passages and segments to show; --json has all."
        ),
    ] = 5,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="AFFECTCORE_JSON", help="Print everything as JSON.", show_default="off"),
    ] = False,
) -> None:
    """Explain a score of one text: what each feature adds to it, the passages scored, the segments that drive it."""
    from affectcore.explanation import explain as explained

    found = explained(_read(text, file), metric, model)
    if as_json:
        echo(escape.json(found.to_dict(), indent=1))
        return
    _print(found, segments)


def _read(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise UsageError("give either a text or --file, and - for standard input")
    if text is not None and text != "-":
        return os.fsencode(text).decode("utf-8", "replace")
    if text == "-" or str(file) == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    assert file is not None
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise InputError(
            file, f"cannot be read: {error.strerror}", "name a text file, or - for standard input"
        ) from None


def _print(found: Explanation, most: int) -> None:
    console = out()
    score = "no finite score" if found.score is None else f"{found.score:.3f}"
    logit = "" if found.logit is None else f", logit {found.logit:+.2f}"
    console.print(escape.rich(f"{found.metric} {score}{logit} (model {found.model})", "bold"))
    if found.features:
        console.print()
        table = _table(("feature", "value", "adds"))
        for feature in found.features:
            value = "" if feature.value is None else f"{feature.value:.3f}"
            table.add_row(escape.rich(feature.name), value, f"{feature.adds:+.3f}")
        console.print(table)
    elif found.score is not None and found.segments:
        console.print("the mean over the passages, weighted by their tokens, so that no features add up to it")
    if found.passages and most:
        console.print()
        table = _table(("score", "tokens", "passage, as it was scored"))
        for passage in found.passages[:most]:
            score = "none" if passage.score is None else f"{passage.score:.3f}"
            table.add_row(score, f"{passage.n_tokens:,}", escape.rich(_short(passage.text)))
        console.print(table)
        if len(found.passages) > most:
            console.print(f"and {len(found.passages) - most:,} more passages; --segments N shows more")
    if found.segments and most:
        console.print()
        table = _table(("score", "segment, alone", "terms"))
        for segment in found.segments[:most]:
            score = "none" if segment.score is None else f"{segment.score:.3f}"
            table.add_row(score, escape.rich(_shown(segment)), escape.rich(_terms(segment)))
        console.print(table)
        if len(found.segments) > most:
            console.print(f"and {len(found.segments) - most:,} more; --segments N shows more")


def _table(heads: tuple[str, ...]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, no_wrap=head in ("value", "adds", "score", "tokens"))
    return table


def _short(text: str) -> str:
    line = re.sub(r"[ \t\r\n]+", " ", text).strip(" ")  # what else str.split would take for white space is shown
    return f"{line[:157]}..." if len(line) > 160 else line


def _shown(segment: Segment) -> str:
    line = _short(segment.text)
    return line if segment.kind == "text" else f"({segment.kind}) {line}"


def _terms(segment: Segment) -> str:
    lists: dict[str, list[str]] = {}
    for name, term in segment.terms:
        lists.setdefault(name, []).append(term)
    return "; ".join(f"{name}: {', '.join(dict.fromkeys(entries))}" for name, entries in lists.items())
