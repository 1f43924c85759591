"""Gather what a report shows from files of scores: what their columns allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from affectcore import stability
from affectcore._version import __version__
from affectcore.errors import UsageError
from affectcore.io.scorefiles import open_scores
from affectcore.report.html import Report
from affectcore.report.texts import telling

if TYPE_CHECKING:
    import pyarrow as pa

    from affectcore.comparison import Comparison
    from affectcore.frontier import Frontier

__all__ = ["build"]

_CURVES = 8  # metrics that are followed along turns, at most


def build(
    result: Comparison,
    scores: Any,
    *,
    dump: str | Path | Sequence[str | Path] = (),
    thresholds: Mapping[str, float] | None = None,
    frontier: Frontier | None = None,
    title: str | None = None,
) -> Report:
    """Return the report of a comparison.

    Parameters
    ----------
    result
        What `affectcore.compare` found in `scores`.
    scores
        As for `affectcore.compare`.
    dump
        Files whose texts were scored, for the most telling of them; by default a column `text` of the scores.
    thresholds
        From which value of a metric on a turn counts, for survival curves; by default 0.5 of `distress` and `refusal`.
    frontier
        Costs.
    title
        Heading; by default it names the first metric.

    Raises
    ------
    UsageError, InputError
        As `affectcore.compare` does.
    """
    source = open_scores(scores)
    columns = source.types
    metrics = list(result.metrics)
    limits = {m: t for m, t in (thresholds or {"distress": 0.5, "refusal": 0.5}).items() if m in columns}
    found: dict[str, Any] = {}
    notes: list[str] = []

    def add(name: str, make: Callable[..., pa.Table], *given: Any, **options: Any) -> None:
        try:
            found[name] = make(scores, result.by, *given, where=result.where, **options)
        except UsageError as error:
            notes.append(f"Without {name}: {error}.")

    add("distributions", stability.distributions, metrics)
    if "turn" in columns:
        add("turns", stability.by_turn, metrics[:_CURVES])
        add("buckets", stability.by_length, metrics[:_CURVES])
        if limits:
            add("survival", stability.survival, limits)
    if limits:
        add("rates", stability.rates, limits)
        if "rates" in found:
            found["rates"] = _one_unit(found["rates"])
    if any(name.startswith("emotion_") for name in columns):
        add("emotions", stability.emotions)
    add("texts", telling, metrics[:_CURVES], dump or None)
    if frontier is not None:
        found["frontier"], found["cost_label"] = frontier.table, frontier.label
        notes += frontier.notes
    methods = {"Software": f"affectcore {__version__}."}
    if source.settings:
        kept = {name: value for name, value in source.settings.items() if not isinstance(value, (dict, list))}
        methods["Scores"] = "Made with " + ", ".join(f"{name} {value}" for name, value in kept.items()) + "."
    if notes:
        methods["Notes"] = " ".join(notes)
    return Report(title=title or f"{metrics[0]} by {result.by}", comparison=result, methods=methods, **found)


def _one_unit(rates: pa.Table) -> pa.Table:
    """Return the rates of conversations, where there are, else of turns or rows."""
    units = set(rates["unit"].to_pylist())
    unit = next(name for name in ("conversation", "turn", "row") if name in units) if units else ""
    return rates.filter(pc.equal(rates["unit"], unit)).drop_columns(["unit"])
