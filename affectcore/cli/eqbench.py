"""``affectcore eqbench``: the EQ-Bench v2 score of answers."""

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
from affectcore.errors import EXIT_PARTIAL, UsageError

_KINDS = (".json", ".csv", ".md", ".parquet")


def eqbench(
    answers: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Result files of the benchmark (.json), or dumps with a row per answer (Parquet, Arrow IPC, JSONL, "
            "CSV or TSV); also folders and patterns.",
            show_default=False,
        ),
    ],
    questions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_QUESTIONS",
            help="The benchmark's questions with their reference answers, eq_bench_v2_questions_171.json; needed.",
            show_default=False,
        ),
    ] = None,
    text: AnswerText = None,
    question: Question = None,
    by: AnsweredBy = None,
    iteration: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_ITERATION",
            help="Column of a dump that tells several answers of a model to one question apart.",
            show_default="iteration, if there is one",
        ),
    ] = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    confidence: Confidence = 0.95,
    report: Annotated[Path | None, reported(_KINDS)] = None,
) -> None:
    """Score answers to EQ-Bench v2: predictions of what people in a dialogue feel, and how much."""
    check_report(report, _KINDS)
    if questions is None:
        raise UsageError(
            "the reference answers are needed: --questions eq_bench_v2_questions_171.json, from the folder data of "
            "github.com/EQ-bench/EQ-Bench"
        )
    give_memory_back()
    from affectcore.exams.eqbench import score

    result = score(
        answers,
        questions,
        text=text,
        question=question,
        by=by,
        iteration=iteration,
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
