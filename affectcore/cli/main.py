"""Entry point of the command line: the application, its errors and exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.main

from affectcore import escape
from affectcore._version import __version__
from affectcore.cli import compare, demo, doctor, eqbench, evaluate, explain, metrics, models, quiz, score, train
from affectcore.cli.compiling import notes
from affectcore.cli.console import echo
from affectcore.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    AffectcoreError,
    InputError,
    Interrupted,
    UsageError,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="affectcore",
    help="Scores the affect and tone of texts that language models wrote, and compares the models.",
    epilog="Data goes to standard output, everything else to standard error. Each option can also be set by the "
    "environment variable shown with it. Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but some rows or files "
    "could not be scored; 130 interrupted. AFFECTCORE_DEBUG=1 shows the traceback of an error.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("score", short_help="Score the texts of a dump.")(score.score)
app.command("compare", short_help="Rank models by their scores.")(compare.compare)
app.command("explain", short_help="Explain a text's score.")(explain.explain)
app.command("metrics", short_help="Explain the metrics.")(metrics.metrics)
app.command("models", short_help="List the models, or describe one.")(models.models)
app.command("train", short_help="Train a head of your own from labelled texts.")(train.train)
app.command("eval", short_help="Judge a head on labelled texts.")(evaluate.evaluate)
app.command("eqbench", short_help="Score answers to EQ-Bench v2.")(eqbench.eqbench)
app.command("quiz", short_help="Score answers to a multiple-choice test.")(quiz.quiz)
app.command("doctor", short_help="Check the installation.")(doctor.doctor)
app.command("demo", short_help="Score and rank a made-up dump.")(demo.demo)

# Newer typer carries its own click, so its exceptions are reached through typer's public names.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _show_version(asked: bool) -> None:
    if asked:
        echo(f"affectcore {__version__}")
        raise typer.Exit(EXIT_DONE)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help(), to_err=True)
        raise typer.Exit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code, one of `affectcore.errors.EXIT_*`. Errors are printed, not raised, unless the environment
        variable AFFECTCORE_DEBUG is set to 1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal's encoding lacks must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    kept = ""
    try:
        with notes(_note):
            code = typer.main.get_command(app)(args=arguments, prog_name="affectcore", standalone_mode=False)
        sys.stdout.flush()
        code = code if isinstance(code, int) else EXIT_DONE
    except (typer.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except Interrupted as stop:
        code, kept = EXIT_INTERRUPTED, str(stop)
    except typer.Exit as stop:
        code = int(stop.exit_code)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except BrokenPipeError:
        # The reader of our output has gone (`affectcore compare ... | head`); do not fail again while flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except Exception as error:
        if os.environ.get("AFFECTCORE_DEBUG") == "1":
            raise
        code = _report(error, arguments)
    if code == EXIT_INTERRUPTED:  # raised, or turned into a code by typer already
        _say("interrupted", kept)
    return code


def _note(text: str) -> None:
    sys.stderr.write(f"{escape.line(text)}\n")  # which is the progress line's console while there is one


def _report(error: Exception, arguments: list[str]) -> int:
    """Print an error and its remedy on standard error and return the exit code."""
    command = _command(arguments)
    usage = f"affectcore {command} --help" if command else "affectcore --help"
    if isinstance(error, _ClickException):
        _say(str(error.format_message()), f"{usage} explains the arguments and options")
        return EXIT_USAGE
    if isinstance(error, UsageError):
        _say(str(error), f"{usage} explains the arguments and options")
        return error.exit_code
    if isinstance(error, InputError):
        where = error.path if error.row is None else f"{error.path}, row {error.row}"
        _say(f"{where}: {error.reason}", error.remedy)
        return error.exit_code
    if isinstance(error, AffectcoreError):
        _say(str(error))
        return error.exit_code
    kernels = sys.modules.get("affectcore.kernels.dispatch")
    if kernels is not None and isinstance(error, kernels.BackendError):
        _say(str(error), "affectcore doctor lists what can run here")
        return EXIT_FAILED
    if isinstance(error, MemoryError):
        _say("out of memory", "fewer threads (--threads) hold fewer batches at a time")
        return EXIT_FAILED
    _say(
        f"unexpected {type(error).__name__}: {error}",
        "this is a fault in affectcore; AFFECTCORE_DEBUG=1 shows the traceback, which belongs in a report of it",
    )
    return EXIT_FAILED


def _command(arguments: list[str]) -> str | None:
    return next((a for a in arguments if a in {c.name for c in app.registered_commands}), None)


def _say(message: str, remedy: str = "") -> None:
    echo(message if message == "interrupted" else f"error: {escape.line(message)}", to_err=True)
    if remedy:
        echo(f"hint: {escape.line(remedy)}", to_err=True)


if __name__ == "__main__":
    sys.exit(main())
