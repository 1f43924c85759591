"""``affectcore compare``: a leaderboard of models from files of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore.cli.console import err, give_memory_back, out, split_names
from affectcore.errors import OutputError, UsageError

_WRITERS = {".json": "to_json", ".csv": "to_csv", ".md": "to_markdown"}


def compare(
    scores: Annotated[
        list[str],
        typer.Argument(
            metavar="SCORES",
            help="Score files, folders or glob patterns: Parquet, Arrow IPC/Feather, JSONL, CSV or TSV.",
            show_default=False,
        ),
    ],
    by: Annotated[
        str, typer.Option(metavar="COL", envvar="AFFECTCORE_BY", help="Column that names the models.")
    ] = "model",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_METRIC",
            help="Metric, group or any numeric column; can be given several times or with commas.",
            show_default="vader_compound",
        ),
    ] = None,
    pair_by: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_PAIR_BY",
            help="Column whose values are resampled as a whole, so that models are compared prompt by prompt; "
            "rows means every row alone.",
            show_default="prompt_id, else an id that models share, else conversation_id, else rows",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_ORDER",
            help="Which mean comes first: ascending or descending.",
            show_default="ascending where higher is worse, else descending",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(metavar="N", envvar="AFFECTCORE_RESAMPLES", help="Replicates of the bootstrap.")
    ] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", envvar="AFFECTCORE_SEED", help="Seed of the bootstrap.")] = 0,
    confidence: Annotated[
        float,
        typer.Option(
            metavar="SHARE", envvar="AFFECTCORE_CONFIDENCE", help="Share of the replicates inside an interval."
        ),
    ] = 0.95,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            "-o",
            metavar="FILE",
            envvar="AFFECTCORE_REPORT",
            help="Also write the result to a .json, .csv or .md file, replacing it.",
            show_default="standard output only",
        ),
    ] = None,
) -> None:
    """Rank models by their mean scores, with intervals that respect repeated prompts."""
    if report is not None and report.suffix.lower() not in _WRITERS:
        raise UsageError(f"{report}: unknown kind of report; known are {', '.join(_WRITERS)}")
    give_memory_back()
    from affectcore.comparison import compare as run

    chosen: Any = order
    result = run(
        list(scores),
        by,
        split_names(metric),
        pair_by,
        order=chosen,
        n_resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    if report is not None:
        _write(report, getattr(result, _WRITERS[report.suffix.lower()])())
    out().print(result.to_rich())
    if report is not None:
        err().print(f"wrote {report}")


def _write(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    import os
    import tempfile

    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)  # a temporary file is private, a report is as open as any other file
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place with -o") from error
