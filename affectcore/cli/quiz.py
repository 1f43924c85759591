"""``affectcore quiz``: accuracy in a multiple-choice test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectcore.cli.console import err, give_memory_back, out
from affectcore.cli.options import (
    AnsweredBy,
    AnswerText,
    Confidence,
    Question,
    Resamples,
    Seed,
    check_report,
    reported,
    write_report,
)
from affectcore.errors import EXIT_PARTIAL

_KINDS = (".json", ".csv", ".md", ".parquet")


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
    text: AnswerText = None,
    question: Question = None,
    by: AnsweredBy = None,
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
    resamples: Resamples = 2000,
    seed: Seed = 0,
    confidence: Confidence = 0.95,
    report: Annotated[Path | None, reported(_KINDS)] = None,
) -> None:
    """Score answers to a multiple-choice test, against a stated baseline if there is one."""
    check_report(report, _KINDS)
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
        write_report(result, report, result.table)
    out().print(result.to_rich())
    if report is not None:
        err().print(f"wrote {report}")
    if result.n_left_out:
        raise typer.Exit(EXIT_PARTIAL)
