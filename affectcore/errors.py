"""Exceptions of the engine and the exit codes of the command line.

Every message names what was wrong (file, row or option) and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3  # done, but some rows or files could not be scored
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells expect


class AffectcoreError(Exception):
    """Base of every error that the engine raises on purpose."""

    exit_code = EXIT_FAILED


class UsageError(AffectcoreError, ValueError):
    """An argument or option that cannot be used: unknown name, impossible combination, missing column."""

    exit_code = EXIT_USAGE


class InputError(AffectcoreError):
    """An input that cannot be read.

    Parameters
    ----------
    path
        The file.
    reason
        What is wrong with it, as one sentence without a full stop.
    remedy
        What the user can do, as one sentence without a full stop.
    row
        Zero-based row (or line) at which reading stopped, where known.
    """

    def __init__(self, path: str | Path, reason: str, remedy: str = "", row: int | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        self.remedy = remedy
        self.row = row
        where = f"{path}" if row is None else f"{path}, row {row}"
        super().__init__(f"{where}: {reason}" + (f" ({remedy})" if remedy else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors of a process pool's workers are pickled; by default with the message alone."""
        return type(self), (self.path, self.reason, self.remedy, self.row)


class TextError(UsageError):
    """A text that the settings refuse.

    Parameters
    ----------
    number
        Zero-based number of the text among those given.
    reason, remedy
        As of `InputError`.
    where
        What messages call the text; default: ``text <number>``.
    """

    def __init__(self, number: int, reason: str, remedy: str, where: str = "") -> None:
        self.number = number
        self.reason = reason
        self.remedy = remedy
        self.where = where
        super().__init__(f"{where or f'text {number}'}: {reason} ({remedy})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.number, self.reason, self.remedy, self.where)


class OutputError(AffectcoreError):
    """An output that cannot be written: it exists, its folder is read-only, or the disk is full."""


class Interrupted(AffectcoreError):  # noqa: N818
    """Ctrl-C in a command; the message says what is kept and how to go on."""

    exit_code = EXIT_INTERRUPTED


class BackendError(AffectcoreError):
    """A backend that was asked for by name cannot run; the message says why and what would."""


def suggest(name: object, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name that is closest to an unknown one, or an empty string."""
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close and close[0] != name else ""


def few(names: Iterable[str | None]) -> str:
    """Return the first names of some models, sorted, and the number of the others."""
    known = sorted("(null)" if name is None else name for name in names)
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
