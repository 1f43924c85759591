"""``affectcore compare``: a leaderboard of models from files of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore.cli.console import err, give_memory_back, out, split_names, write_whole
from affectcore.cli.options import Confidence, Resamples, Seed, check_report, reported, write_report
from affectcore.errors import EXIT_FAILED

_KINDS = (".json", ".csv", ".md", ".parquet", ".html")


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
            show_default="those of --preset, else vader_compound",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_PRESET",
            help="Metrics for a question: least-depressed, stability, safety or warmth.",
            show_default="none",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            envvar="AFFECTCORE_WHERE",
            help="Only rows that meet it, such as dataset=mt-bench or 'turn<=3'; can be given several times.",
            show_default="all rows",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            envvar="AFFECTCORE_BASELINE",
            help="Also report every model's difference to this one.",
            show_default="none",
        ),
    ] = None,
    facet: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_FACET",
            help="Compare once more for each value of this column.",
            show_default="none",
        ),
    ] = None,
    cost: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_COST",
            help="CSV file with models and their prices or sizes: shows who is on the frontier.",
            show_default="none",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORES",
            envvar="AFFECTCORE_AGAINST",
            help="Earlier scores of the same texts: shows what moved since, and ends with exit code 1 if a metric got "
            "worse.",
            show_default="none",
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X",
            envvar="AFFECTCORE_TOLERANCE",
            help="How much worse than --against a mean may get.",
        ),
    ] = 0.0,
    dump: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            envvar="AFFECTCORE_DUMP",
            help="The dump that was scored, for the texts that an .html report shows.",
            show_default="a column text of the scores",
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
    resamples: Resamples = 2000,
    seed: Seed = 0,
    confidence: Confidence = 0.95,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="AFFECTCORE_FIGURES",
            help="Also write the charts of the report as SVG and PNG to this folder.",
            show_default="none",
        ),
    ] = None,
    report: Annotated[Path | None, reported(_KINDS)] = None,
) -> None:
    """Rank models by their mean scores, with intervals that respect repeated prompts."""
    check_report(report, _KINDS)
    give_memory_back()
    from affectcore.comparison import columns
    from affectcore.comparison import compare as run
    from affectcore.presets import preset as named

    chosen: Any = order
    question = None if preset is None else named(preset)
    names: Any = split_names(metric)
    if question is not None and not names:
        names = question.present(columns(list(scores)))
        chosen = chosen or question.order
        if question.metrics[0] not in names:
            err().print(f"note: the scores have no {question.metrics[0]}, which this preset is about")
    conditions = list(where or ())
    result = run(
        list(scores),
        by,
        names,
        pair_by,
        order=chosen,
        where=conditions,
        baseline=baseline,
        facet=facet,
        n_resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    found = None
    if cost is not None:
        from affectcore.frontier import frontier

        found = frontier(result, cost)
    gate = None
    if against is not None:
        from affectcore.stability import against as moved

        gate = moved(
            list(scores), list(against), by, result.metrics, pair_by, where=conditions, tolerance=tolerance,
            seed=seed, confidence=confidence,
        )  # fmt: skip
    page: Any = None
    if figures is not None or (report is not None and report.suffix.lower() == ".html"):
        from affectcore.report.build import build

        thresholds = {} if question is None else question.thresholds
        page = build(result, list(scores), dump=list(dump or ()), thresholds=thresholds, frontier=found)
    if report is not None:
        if report.suffix.lower() == ".html":
            from affectcore.report.html import render

            write_whole(report, render(page))
        else:
            write_report(result, report, result.with_facets())
    if figures is not None:
        from affectcore.report.figures import write_figures

        drawn = write_figures(page, figures)
        err().print(f"wrote {len(drawn)} figures to {figures}")
    if question is not None:
        out().print(question.question, style="bold")
    out().print(result.to_rich())
    if found is not None:
        from affectcore.report.table import costs

        out().print(costs(found))
    if gate is not None:
        from affectcore.report.table import moves

        out().print(moves(gate))
    if report is not None:
        err().print(f"wrote {report}")
    if gate is not None and gate.failed:
        raise typer.Exit(EXIT_FAILED)
