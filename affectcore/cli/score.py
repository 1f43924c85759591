"""``affectcore score``: files of texts in, files of scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affectcore import escape
from affectcore.cli.compiling import uncounted
from affectcore.cli.console import err, give_memory_back, hint, model_column, progress, split_names
from affectcore.errors import EXIT_PARTIAL, AffectcoreError, Interrupted, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from affectcore.models.encoder import Report as Work
    from affectcore.pipeline.run import Report
    from affectcore.scorer import Scorer


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders or glob patterns: Parquet, Arrow IPC/Feather, JSONL, CSV or TSV (also .gz, .zst);"
            " - for standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            envvar="AFFECTCORE_OUTPUT",
            help="Where the scores go: a file (.parquet, .arrow, .feather, .ipc, .jsonl), or a folder.",
            show_default=False,
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="AFFECTCORE_FORMAT", help="Format of the inputs; auto goes by the file names."
        ),
    ] = "auto",
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_TEXT",
            help="Column that holds the texts, or chat messages; a dot reaches into structs.",
            show_default="text, response, output, ...: the first there is",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLS",
            envvar="AFFECTCORE_KEEP",
            help="Columns to copy to the output, separated by commas.",
            show_default="all but the text and nested ones",
        ),
    ] = None,
    unit: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_UNIT",
            help="What one output row stands for: document, segment, turn, conversation.",
        ),
    ] = "document",
    parts: Annotated[
        str,
        typer.Option(
            metavar="PART",
            envvar="AFFECTCORE_PARTS",
            help="What is scored of texts with <think> tags: answer, reasoning, both (a row each) or whole.",
        ),
    ] = "answer",
    roles: Annotated[
        str,
        typer.Option(metavar="ROLE", envvar="AFFECTCORE_ROLES", help="Whose turns are scored: assistant, user or all."),
    ] = "assistant",
    conversation: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            envvar="AFFECTCORE_CONVERSATION",
            help="Column that joins rows to conversations, where rows are turns.",
            show_default="conversation_id, ..., if there is a column role",
        ),
    ] = None,
    exclude: Annotated[
        str,
        typer.Option(
            metavar="KINDS",
            envvar="AFFECTCORE_EXCLUDE",
            help="What a model's scores leave out: code, quote, table, url, separated by commas, or none.",
        ),
    ] = "code,quote,table,url",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="AFFECTCORE_MODEL",
            help="static, mini, none (lexical metrics only), a directory, or a checkpoint in the hub's cache.",
        ),
    ] = "static",
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            envvar="AFFECTCORE_METRICS",
            help="Metrics or groups, separated by commas; `affectcore metrics` lists them.",
            show_default="all but the taxonomies and emonet",
        ),
    ] = None,
    taxonomy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            envvar="AFFECTCORE_TAXONOMY",
            help="Also write emotions in coarser taxonomies: ekman, plutchik, sentiment.",
            show_default="none",
        ),
    ] = None,
    logits: Annotated[
        bool,
        typer.Option(
            "--logits", envvar="AFFECTCORE_LOGITS", help="Also write the logits of the heads.", show_default="off"
        ),
    ] = False,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="AFFECTCORE_BACKEND", help="Implementation: auto, numba, triton or reference."
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME", envvar="AFFECTCORE_PRECISION", help="What an encoder computes in: auto, fp32, bf16 or int8."
        ),
    ] = "auto",
    long: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            envvar="AFFECTCORE_LONG",
            help="What an encoder makes of documents: segment, window, truncate or error.",
        ),
    ] = "segment",
    vader: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            envvar="AFFECTCORE_VADER",
            help="exact is vaderSentiment 3.3.2; corrected repairs rules that misfire.",
        ),
    ] = "exact",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", envvar="AFFECTCORE_OVERWRITE", help="Replace an output that exists.", show_default="off"
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", envvar="AFFECTCORE_RESUME", help="Go on with a run that was cut off.", show_default="off"
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            envvar="AFFECTCORE_VERIFY",
            help="With --resume, go by checksums of parts and inputs (inputs: if the first run had it, too).",
            show_default="off",
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="AFFECTCORE_THREADS",
            help="Threads that score.",
            show_default="one per usable core",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="AFFECTCORE_QUIET", help="Print errors only.", show_default="off")
    ] = False,
) -> None:
    """Score texts: one output row per document, segment, turn or conversation, the kept columns beside the scores."""
    give_memory_back()
    if overwrite and resume:
        raise UsageError("--overwrite starts anew and --resume goes on: give one of them")
    from affectcore.pipeline.run import score_dataset
    from affectcore.scorer import Scorer
    from affectcore.warmup import load_kernels

    console = err()
    scorer = Scorer(
        model=model,
        metrics=split_names(metrics) or "default",
        unit=unit,
        backend=backend,
        logits=logits,
        vader=vader,
        threads=threads,
        taxonomy=split_names(taxonomy) or (),
        precision=precision,
        long=long,
        parts=parts,
        roles=roles,
        exclude=exclude,
    )
    load_kernels(scorer)
    try:
        with progress(console, quiet=quiet) as callback:
            report = score_dataset(
                inputs,
                output,
                scorer=scorer,
                text=text,
                keep=split_names(keep),
                format=format,
                conversation=conversation,
                overwrite=overwrite,
                resume=resume,
                verify=verify,
                threads=threads,
                progress=callback,
            )
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop)) from stop
    _finish(console, report, output, quiet, scorer)
    if report.errors:
        raise typer.Exit(EXIT_PARTIAL)


def _finish(console: Console, report: Report, output: Path, quiet: bool, scorer: Scorer) -> None:
    if report.errors:
        problems = f"{len(report.errors):,} {'problem is' if len(report.errors) == 1 else 'problems are'}"
        listed = output / "_errors.jsonl" if output.is_dir() else Path(f"{output}.errors.jsonl")
        console.print(f"not everything could be scored: {problems} listed in {listed}")
    if quiet:
        return
    for note in report.notes:
        console.print(f"note: {note}")
    size = report.n_bytes / 1e6
    rows = f"{report.n_rows:,} {'row' if report.n_rows == 1 else 'rows'}"
    digits = 1 if size >= 1 else 3
    seconds = max(report.seconds - report.compile_seconds, 1e-9)
    speed = f"{size:,.{digits}f} MB of text in {seconds:.1f} s, {size / seconds:,.1f} MB/s"
    if scorer.unit in ("turn", "conversation"):
        rows += f" to {report.n_units:,} {scorer.unit}{'' if report.n_units == 1 else 's'}"
    console.print(f"scored {rows} ({speed}) to {output}")
    if report.compile_seconds:
        console.print(uncounted(report.compile_seconds))
    if report.text_columns:
        one = report.n_null == 1
        nulls = f"; {report.n_null:,} of the rows had no text, and its scores are null" if one else ""
        if report.n_null > 1:
            nulls = f"; {report.n_null:,} of the rows had no text, and their scores are null"
        if scorer.unit == "turn" and report.n_null:
            nulls = f"; {report.n_null:,} {'conversation' if one else 'conversations'} had no text"
        console.print(f"texts: column {', '.join(report.text_columns)}{nulls}")
    if report.n_reasoning:
        console.print(_reasoning(report.n_reasoning, scorer.parts))
    work = scorer.work
    if work is not None and work.n_computed:
        console.print(_encoder(work, seconds))
    if report.skipped:
        console.print(f"{len(report.skipped):,} of the inputs had been finished by an earlier run")
    names = _columns(output)
    column = model_column(names)
    if not names:
        return
    if column:
        hint(console, f"affectcore compare {escape.shell(str(output))} --by {column}")
    else:
        hint(
            console,
            f"affectcore compare {escape.shell(str(output))} --by COLUMN ranks models, once a column names them "
            "(--keep copies it from the input)",
        )


def _reasoning(n: int, parts: str) -> str:
    """Return a line on what was split."""
    what = {
        "answer": "left out (--parts both scores it apart)",
        "reasoning": "scored without the answers",
        "both": "scored apart from the answers",
    }
    return f"{n:,} {'text' if n == 1 else 'texts'} had reasoning, {what[parts]}"


def _encoder(work: Work, seconds: float) -> str:
    """Return a line on what the encoder did."""
    doing = {"tokenize": "tokenizing", "pack": "packing", "compute": "computing"}
    shares = ", ".join(f"{share:.0%} {doing[stage]}" for stage, share in work.shares().items())
    return (
        f"encoder: {work.n_tokens / max(seconds, 1e-9):,.0f} tokens/s; {shares}; {work.padded_share:.0%} padding; "
        f"{work.n_computed:,} of {work.n_sequences:,} sequences computed (equal ones once)"
    )


def _columns(output: Path) -> list[str]:
    from affectcore.comparison import columns

    try:
        return columns(output)
    except AffectcoreError:
        return []  # nothing was written, so there is nothing to compare
