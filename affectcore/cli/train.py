"""``affectcore train``: a head of the user's own from labelled texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectcore import escape
from affectcore.cli.console import err, give_memory_back, hint, out
from affectcore.cli.options import Resamples
from affectcore.errors import EXIT_PARTIAL, UsageError


def train(
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
            help="Column of the labels; several columns, one per output, can be given. LABEL=COL renames.",
            show_default=False,
        ),
    ],
    head: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_HEAD",
            help="Name of the head; its score columns are called after it.",
            show_default=False,
        ),
    ],
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_TEXT",
            help="Column that holds the texts.",
            show_default="text, response, output, ...: the first there is",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            envvar="AFFECTCORE_OUTPUT",
            help="Model directory to write.",
            show_default="./NAME",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_KIND",
            help="single (one label a row), multi (any number), regression (numbers), or auto: strings are single, "
            "lists, --sep, true/false and 0/1 are multi, other numbers regression.",
        ),
    ] = "auto",
    model: Annotated[
        str, typer.Option(metavar="NAME", envvar="AFFECTCORE_MODEL", help="Model whose frozen features are used.")
    ] = "static",
    dev: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_DEV",
            help="Labelled texts to choose penalty, calibration and thresholds on.",
            show_default="a tenth of the data",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_TEST",
            help="Labelled texts to judge the head on, once.",
            show_default="a tenth of the data, unless --dev is given",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="COL",
            envvar="AFFECTCORE_SPLIT",
            help="Column that says train, dev or test for each row.",
            show_default="none: split at random",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_GROUP",
            help="Column (a prompt, an author) whose rows stay in one split and are resampled as a whole.",
            show_default="none: equal texts stay together",
        ),
    ] = None,
    sep: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            envvar="AFFECTCORE_SEP",
            help="What separates the labels of a row in a string column.",
            show_default="none; a comma with --kind multi",
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            envvar="AFFECTCORE_LICENCE",
            help="Licence of the data, for the model card.",
            show_default="not stated",
        ),
    ] = "",
    resamples: Resamples = 1000,
    seed: Annotated[
        int, typer.Option(metavar="N", envvar="AFFECTCORE_SEED", help="Seed of the split, folds and bootstrap.")
    ] = 0,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            envvar="AFFECTCORE_OVERWRITE",
            help="Replace a model directory that exists.",
            show_default="off",
        ),
    ] = False,
) -> None:
    """Train, calibrate and judge a head of your own on a model's features, and write it as a model directory."""
    give_memory_back()
    check_numbers(seed, resamples)
    from affectcore.training.fit_head import train as run

    target = Path(head) if output is None else output
    trained = run(
        data,
        label=label,
        head=head,
        text=text,
        output=target,
        kind=kind,
        model=model,
        dev=dev,
        test=test,
        split=split,
        group=group,
        sep=sep,
        licence=licence,
        n_resamples=resamples,
        seed=seed,
        overwrite=overwrite,
    )
    out().print(trained.to_rich())
    console = err()
    console.print(f"wrote {target}")
    hint(console, f"affectcore score YOUR_DUMP.jsonl --model {escape.shell(str(target))} -o scores.parquet")
    if trained.incomplete:
        raise typer.Exit(EXIT_PARTIAL)


def check_numbers(seed: int, resamples: int) -> None:
    """Refuse a seed or a number of replicates that is out of range, before anything is read."""
    if seed < 0:
        raise UsageError(f"--seed must be at least 0, not {seed}")
    if resamples < 0:
        raise UsageError(f"--resamples must be at least 0, not {resamples}; 0 leaves intervals out")
