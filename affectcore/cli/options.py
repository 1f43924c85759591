"""Options that several commands have, and the reports that they write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affectcore.cli.console import write_whole
from affectcore.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Resamples = Annotated[
    int, typer.Option(metavar="N", envvar="AFFECTCORE_RESAMPLES", help="Replicates of the bootstrap.")
]
Seed = Annotated[int, typer.Option(metavar="N", envvar="AFFECTCORE_SEED", help="Seed of the bootstrap.")]
Confidence = Annotated[
    float,
    typer.Option(metavar="SHARE", envvar="AFFECTCORE_CONFIDENCE", help="Share of the replicates inside an interval."),
]
AnswerText = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        envvar="AFFECTCORE_TEXT",
        help="Column of a dump that holds the answers.",
        show_default="answer, text, response, output, ...: the first there is",
    ),
]
Question = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        envvar="AFFECTCORE_QUESTION",
        help="Column of a dump with the question's id.",
        show_default="question_id, qid, item_id, prompt_id, id: the first there is",
    ),
]
AnsweredBy = Annotated[
    str | None,
    typer.Option(
        metavar="COL",
        envvar="AFFECTCORE_BY",
        help="Column of a dump that names the models.",
        show_default="model, model_id, ...: the first there is, else a file is a model",
    ),
]

_WRITERS = {".json": "to_json", ".csv": "to_csv", ".md": "to_markdown"}


def reported(kinds: Sequence[str]) -> Any:
    """Return the option of a report in files of some kinds."""
    return typer.Option(
        "--report",
        "-o",
        metavar="FILE",
        envvar="AFFECTCORE_REPORT",
        help=f"Also write the result to a file, replacing it: {', '.join(kinds)}.",
        show_default="standard output only",
    )


def check_report(path: Path | None, kinds: Sequence[str]) -> None:
    """Raise UsageError for a path that ends in none of the kinds."""
    if path is not None and path.suffix.lower() not in kinds:
        raise UsageError(f"{path}: unknown kind of report; known are {', '.join(kinds)}")


def write_report(result: Any, path: Path, table: pa.Table | None = None) -> None:
    """Write a result to a .json, .csv or .md file, or a table to a .parquet file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        import io

        import pyarrow.parquet as pq

        target = io.BytesIO()
        pq.write_table(table, target)
        write_whole(path, target.getvalue())
    else:
        write_whole(path, getattr(result, _WRITERS[ending])())
