"""What all commands share: consoles, hints, progress. Imports nothing heavy, because `--help` loads it.

All that commands print goes through `out`, `err` and `echo`, which show what would steer the terminal, so that no
command has to think of it. Renderables that lay out texts of others take them from `affectcore.escape.rich` all the
same: the width of what is shown is known only there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from affectcore import escape
from affectcore.errors import OutputError
from affectcore.settings import MODEL_COLUMNS

if TYPE_CHECKING:
    from rich.console import Console

_LOG_SECONDS = 60.0
_READING = "reading the first batch"


def out() -> Console:
    """Return the console for data: standard output. A str is one line, whatever is in it."""
    console = _console()(soft_wrap=False)
    if console.width < 1:  # COLUMNS=0, from terminals that do not know their size
        console.width = 80
    return console


def err() -> Console:
    """Return the console for messages, logs and progress: standard error; long lines are left to the terminal."""
    return _console()(stderr=True, soft_wrap=True)


def echo(text: str, *, to_err: bool = False) -> None:
    """Print a text of any number of lines as it is, never folded, but for what would steer the terminal."""
    typer.echo(escape.terminal(text), err=to_err)


@lru_cache(maxsize=1)
def _console() -> type[Console]:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class EscapingConsole(Console):
        """A console without markup, on which no text steers the terminal; its own styles do."""

        def __init__(self, **options: Any) -> None:
            # NO_COLOR asks for text without codes; rich would leave bold.
            colors = None if os.environ.get("NO_COLOR") else "auto"
            super().__init__(highlight=False, markup=False, emoji=False, color_system=colors, **options)  # type: ignore[arg-type]

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape.line(text), **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=escape.terminal(segment.text))

    return EscapingConsole


def hint(console: Console, text: str) -> None:
    """Print a hint after a blank line."""
    console.print()
    console.print(f"hint: {text}")


def split_names(values: Iterable[str] | None) -> list[str] | None:
    """Split option values at commas; None stays None, for an option that was not given."""
    if not values:
        return None
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def model_column(names: Iterable[str]) -> str | None:
    """Return the first of the columns that are likely to name the model, or None."""
    there = set(names)
    return next((name for name in MODEL_COLUMNS if name in there), None)


@contextmanager
def progress(
    console: Console, *, quiet: bool = False, every: float = _LOG_SECONDS, task: str = _READING
) -> Iterator[Callable[[int, int, int], None] | None]:
    """Show progress: a live line on a terminal, first `task`, else one log line every `every` seconds.

    The speed leaves out the time in which kernels were compiled, which is shown instead.

    Yields
    ------
    callable or None
        Takes rows, bytes and files done so far; None if `quiet`.
    """
    from affectcore.cli import compiling
    from affectcore.kernels import compilation

    if quiet:
        import logging

        log = logging.getLogger("affectcore")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            with compiling.display():
                yield None
        finally:
            log.setLevel(level)
        return
    started, before = time.monotonic(), compilation.state().seconds

    def text(rows: int, size: int, files: int) -> str:
        seconds = max(time.monotonic() - started - (compilation.state().seconds - before), 1e-9)
        done = f"{files:,} {'file' if files == 1 else 'files'} done"
        return f"scored {rows:,} rows, {size / 1e6:,.1f} MB, {size / 1e6 / seconds:,.1f} MB/s, {done}"

    if console.is_terminal:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            line = bar.add_task(task, total=None)
            after = "scoring the first batch" if task == _READING else task  # reading is over by then

            def look() -> None:
                state = compilation.state()
                bar.update(line, description=compiling.doing(state) if state.active else after)

            def show(rows: int, size: int, files: int) -> None:
                nonlocal after
                after = text(rows, size, files)
                bar.update(line, description=after)

            with compiling.display(), compilation.watched(look):
                yield show
        return

    last = started
    lines = compiling.Lines(console.print)

    def report(rows: int, size: int, files: int) -> None:
        nonlocal last
        lines.went_on()
        if time.monotonic() - last >= every:
            last = time.monotonic()
            console.print(text(rows, size, files))

    with compiling.display(), compilation.watched(lines.watch):
        yield report
    lines.went_on()


def give_memory_back() -> None:
    """Let Arrow take its memory from the system's allocator, unless the environment chooses one.

    Arrow's own default keeps freed memory for later, which costs these commands up to half as much again at their peak
    and gains them nothing. Arrow reads the variable when it is imported, so this comes first in a command.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there as a whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import os
    import tempfile

    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)  # a temporary file is private, a report is as open as any other file
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place with -o") from error
