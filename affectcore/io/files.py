"""Files made with care: whole or not at all, never through somebody else's link, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

from affectcore.errors import OutputError

__all__ = ["NAME_MAX", "create", "remove_leftovers", "sync", "write_whole", "writing"]

NAME_MAX = 255
"""Bytes in a file's name, at most, on the usual file systems."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the system's errors about `path` into an OutputError that says what to do."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            reason = "the disk is full, or a size limit is reached; free some space, or write elsewhere"
        elif exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "no permission to write here; write to another folder"
        elif exc.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = "a part of this path is a file, not a folder; write to another folder"
        elif exc.errno == errno.ENOENT:
            reason = "this folder cannot be written to; write to another folder"
        elif exc.errno == errno.ENAMETOOLONG:
            reason = "the name is too long; choose a shorter one"
        elif exc.errno == errno.ELOOP:
            reason = "there is a link in its place; remove it, or write to another folder"
        else:
            reason = (exc.strerror or str(exc)).splitlines()[0]
        raise OutputError(f"cannot write {path}: {reason}") from exc


def create(path: Path) -> tuple[int, Path]:
    """Create a hidden temporary file beside `path`; nothing that is there already is opened, a link least of all.

    Returns
    -------
    int, Path
        A descriptor to write to, and the file's name, ``.<name>.<number>.tmp``, which `remove_leftovers` knows.

    Raises
    ------
    OSError
        It cannot be created.
    """
    for number in itertools.chain([os.getpid()], (random.randrange(10**9, 10**10) for _ in range(100))):
        temporary = path.with_name(f".{path.name}.{number}.tmp")
        # The first name is taken where another process has this number in another container, or by a planted link.
        with contextlib.suppress(FileExistsError):
            return os.open(temporary, _EXCLUSIVE, 0o666), temporary
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is on the disk as a whole or not at all; a link in its place is replaced.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with writing(path):
        handle, temporary = create(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync(path.parent)


def remove_leftovers(folder: Path, pattern: str = r".*") -> None:
    """Remove temporary files that a killed run left in a folder, of outputs whose names match `pattern`."""
    temporary = re.compile(rf"\.({pattern})\.\d+\.tmp", re.DOTALL)
    if folder.is_dir():
        for entry in list(folder.iterdir()):
            if temporary.fullmatch(entry.name) and (entry.is_symlink() or not entry.is_dir()):
                with writing(entry):
                    entry.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # not every system opens folders
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
