"""``affectcore metrics``: what each score column means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectcore import escape
from affectcore.cli.console import echo, out

if TYPE_CHECKING:
    from affectcore.metrics.registry import Metric


def metrics(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A metric or group to explain in full.", show_default="list all"),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="AFFECTCORE_JSON", help="Print the entries as a JSON array.", show_default="off"),
    ] = False,
) -> None:
    """Explain the metrics: unit, range, definition, source, validation with baselines, limits and known failures."""
    from affectcore.metrics.registry import GROUPS, METRICS, ON_REQUEST, select

    chosen = list(METRICS.values()) if as_json and name is None else select(name or "default")
    if as_json:
        echo(escape.json([metric.to_dict() for metric in chosen], indent=1))
        return
    console = out()
    if name is None:
        console.print(_table(chosen))
        groups = ", ".join(f"{group} ({len(GROUPS[group])})" for group in ON_REQUEST)
        console.print()
        console.print(
            f"  Written only when asked for: the groups {groups}; affectcore metrics GROUP explains them.",
            soft_wrap=True,
        )
        return
    for number, metric in enumerate(chosen):
        if number:
            console.print()
        console.print(_entry(metric))


def _table(chosen: list[Metric]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("name", "unit", "range"):
        table.add_column(head, no_wrap=True)
    table.add_column("what")
    for metric in chosen:
        what = re.split(r": |; |\. ", metric.definition, maxsplit=1)[0].rstrip(".")
        table.add_row(metric.name, metric.unit, Text(metric.range_text), Text(what))
    return table


def _entry(metric: Metric) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    judged = {"better": "higher is better", "worse": "lower is better", "neither": "no value is better"}
    checks = [f"{figure.what}, {figure.measure}: {figure}" for figure in metric.figures] or [metric.validated_on]
    for label, value in (
        ("metric", f"{metric.name}, version {metric.version}, {metric.dtype}, group {metric.group}"),
        *([("status", "experimental: nothing but sets of our own has tested it")] if metric.experimental else []),
        ("definition", metric.definition),
        ("unit", metric.unit),
        ("range", f"{metric.range_text}; {judged[metric.higher_is]}"),
        ("source", metric.source),
        *(("" if number else "validated", said) for number, said in enumerate(checks)),
        ("limits", metric.limits),
    ):
        table.add_row(Text(label, style="bold"), Text(value))
    return table
