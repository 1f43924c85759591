"""``affectcore eqbench``: the EQ-Bench v2 score of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affectcore.cli.console import err, give_memory_back, out
from affectcore.errors import EXIT_PARTIAL, UsageError


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
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_TEXT",
            help="Column of a dump that holds the answers.",
            show_default="answer, text, response, output, ...: the first there is",
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_QUESTION",
            help="Column of a dump with the question's id, as the questions are numbered.",
            show_default="question_id, qid, item_id, prompt_id, id: the first there is",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_BY",
            help="Column of a dump that names the models.",
            show_default="model, model_id, ...: the first there is, else a file is a model",
        ),
    ] = None,
    iteration: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_ITERATION",
            help="Column of a dump that tells several answers of a model to one question apart.",
            show_default="iteration, if there is one",
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
            help="Also write the result to a .json, .csv, .md or .parquet file, replacing it.",
            show_default="standard output only",
        ),
    ] = None,
) -> None:
    """Score answers to EQ-Bench v2: predictions of what people in a dialogue feel, and how much."""
    from affectcore.exams import check_report, write

    check_report(report)
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
        write(result, report)
    out().print(result.to_rich())
    if report is not None:
        err().print(f"wrote {report}")
    if result.n_left_out:
        raise typer.Exit(EXIT_PARTIAL)
