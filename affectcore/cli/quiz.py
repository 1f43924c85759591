"""``affectcore quiz``: accuracy in a multiple-choice test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectcore.cli.console import err, give_memory_back, out
from affectcore.errors import EXIT_PARTIAL


def quiz(
    answers: Annotated[
        list[str],
        typer.Argument(
            metavar="ANSWERS",
            help="Answers, one a row: files, folders or patterns (Parquet, Arrow IPC, JSONL, CSV or TSV).",
            show_default=False,
        ),
    ],
    key: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_KEY",
            help="Answer key: JSON, JSONL, CSV, TSV or Parquet with id, answer and, if there are, options and weight.",
            show_default=False,
        ),
    ],
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_TEXT",
            help="Column that holds the answers, letters or free text.",
            show_default="answer, text, response, output, ...: the first there is",
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_QUESTION",
            help="Column with the question's id, as in the key.",
            show_default="question_id, qid, item_id, prompt_id, id: the first there is",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_BY",
            help="Column that names the models.",
            show_default="model, model_id, ...: the first there is, else a file is a model",
        ),
    ] = None,
    confidence_column: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_CONFIDENCE_COLUMN",
            help="Column with the confidence a model states, as a share or in percent: gives ECE and Brier score.",
            show_default="none",
        ),
    ] = None,
    baseline: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            envvar="AFFECTCORE_QUIZ_BASELINE",
            help="Share right to hold the models against, such as people's: 0.56.",
            show_default="none",
        ),
    ] = None,
    baseline_name: Annotated[
        str, typer.Option(metavar="NAME", envvar="AFFECTCORE_BASELINE_NAME", help="Whose the baseline is.")
    ] = "baseline",
    resamples: Annotated[
        int, typer.Option(metavar="N", envvar="AFFECTCORE_RESAMPLES", help="Replicates of the bootstrap.")
    ] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", envvar="AFFECTCORE_SEED", help="Seed of the bootstrap.")] = 0,
    confidence: Annotated[
        float, typer.Option(metavar="SHARE", envvar="AFFECTCORE_CONFIDENCE", help="Coverage of intervals.")
    ] = 0.95,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            "-o",
            metavar="FILE",
            envvar="AFFECTCORE_REPORT",
            help="Also write the result to a .json, .csv, .md or .parquet file, replacing it.",
            show_default="standard output only",
        ),
    ] = None,
) -> None:
    """Score answers to a multiple-choice test, against a stated baseline if there is one."""
    from affectcore.exams import check_report, write

    check_report(report)
    give_memory_back()
    from affectcore.exams.quiz import score

    result = score(
        answers,
        key,
        text=text,
        question=question,
        by=by,
        confidence_column=confidence_column,
        baseline=baseline,
        baseline_name=baseline_name,
        n_resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    if report is not None:
        write(result, report)
    out().print(result.to_rich())
    if report is not None:
        err().print(f"wrote {report}")
    if result.n_left_out:
        raise typer.Exit(EXIT_PARTIAL)
