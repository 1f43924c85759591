"""Inputs that can be read once: named pipes, ``<(command)`` and standard input."""

from __future__ import annotations

import os
import stat
import sys
import weakref
from pathlib import Path
from typing import BinaryIO

from affectcore.errors import InputError

STDIN = "/dev/stdin"


class Pipe:
    """A pipe that readers open as they open a file: as often as they like, until one begins to read rows.

    What columns there are is asked before that, more than once at times, so until then what comes through is held.

    Parameters
    ----------
    path
        Its name. It is opened with the first reader, which waits until somebody writes to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._held = bytearray()
        self._begun = False
        self._opened = 0

    def open(self) -> PipeReader:
        """Return a reader of all that comes through.

        Raises
        ------
        InputError
            It has been read.
        OSError
            It cannot be opened.
        """
        if self._begun:
            raise InputError(self._path, "a pipe can be read once, and has been", "write it to a file and name that")
        if self._file is None:
            stdin = str(self._path) == STDIN  # which can be a socket, and those are not opened by name
            self._file = os.fdopen(os.dup(0), "rb") if stdin else self._path.open("rb")
            weakref.finalize(self, self._file.close)
        self._opened += 1
        return PipeReader(self, self._opened)

    def begin(self) -> None:
        """Hold nothing any more from now on: rows are read."""
        self._begun = True

    def _read(self, at: int, size: int) -> bytes:
        found = bytes(memoryview(self._held)[at : at + size])
        if at + size >= len(self._held) and self._begun:
            self._held = bytearray()
        if self._file is None:
            raise ValueError("the pipe is closed")
        if len(found) < size:
            more = self._file.read(size - len(found))  # waits for as many, so that blocks never depend on the writer
            if not self._begun:
                self._held += more
            found = found + more if found else more
        return found

    def _close(self, number: int) -> None:
        # Before rows are read another reader may come, and what an earlier one does then is no longer of interest.
        if self._begun and number == self._opened and self._file is not None:
            self._file.close()
            self._file = None


class PipeReader:
    """What a reader of a format sees of a pipe: ``read`` and ``close``, as of a file."""

    closed = False

    def __init__(self, pipe: Pipe, number: int) -> None:
        self._pipe = pipe
        self._number = number
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end only."""
        found = self._pipe._read(self._at, size)
        self._at += len(found)
        return found

    def readable(self) -> bool:
        """Return True: PyArrow asks."""
        return True

    def close(self) -> None:
        """Close the pipe if its rows have been read by this reader."""
        self.closed = True
        self._pipe._close(self._number)


def is_pipe(path: Path) -> bool:
    """Tell whether an input is no file, but something that can be read once.

    Raises
    ------
    InputError
        It is a terminal.
    """
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) or (stat.S_ISSOCK(mode) and str(path) == STDIN):
        return True
    if not stat.S_ISCHR(mode):
        return False
    if str(path) == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise InputError(path, "standard input is a terminal", "pipe the texts into it, or name a file")
    return True
