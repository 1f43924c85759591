"""``affectcore eval``: how well a head's scores agree with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectcore.cli.console import err, give_memory_back, out
from affectcore.cli.options import Resamples, Seed, check_report, reported, write_report
from affectcore.cli.train import check_numbers
from affectcore.errors import EXIT_PARTIAL

_KINDS = (".json", ".md")


def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="FILE",
            envvar="AFFECTCORE_LABELLED",
            help="Labelled texts: a file, folder or pattern (Parquet, Arrow IPC, JSONL, CSV, TSV); can be given "
            "several times.",
            show_default=False,
        ),
    ],
    label: Annotated[
        list[str],
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_LABEL",
            help="Column of the labels; several columns, one per output, can be given. OUTPUT=COL renames.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(metavar="NAME", envvar="AFFECTCORE_MODEL", help="Embedded model, or a model directory."),
    ] = "static",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_HEAD",
            help="Head to judge; `affectcore models NAME` lists them.",
            show_default="the one there is, or that the directory adds",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_TEXT",
            help="Column that holds the texts.",
            show_default="text, response, output, ...: the first there is",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_SPLIT",
            help="Column that says train, dev or test: only test is taken.",
            show_default="none: all rows",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_GROUP",
            help="Column (a prompt, an author) whose rows are resampled as a whole.",
            show_default="none: every row alone",
        ),
    ] = None,
    sep: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="AFFECTCORE_SEP",
            help="What separates the labels of a row in a string column.",
            show_default="a comma",
        ),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    report: Annotated[Path | None, reported(_KINDS)] = None,
) -> None:
    """Judge a head on labelled texts: figures with intervals, and how well its probabilities are calibrated."""
    check_report(report, _KINDS)
    check_numbers(seed, resamples)
    give_memory_back()
    from affectcore.training.fit_head import evaluate_head

    result = evaluate_head(
        data,
        label=label,
        model=model,
        head=head,
        text=text,
        group=group,
        sep=sep,
        split=split,
        n_resamples=resamples,
        seed=seed,
    )
    if report is not None:
        write_report(result, report)
    out().print(result.to_rich())
    if report is not None:
        err().print(f"wrote {report}")
    if result.settings.get("n_unread"):
        raise typer.Exit(EXIT_PARTIAL)
