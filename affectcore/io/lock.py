"""One run at a time for each output: a lock that ends with its process, however that ends.

The lock is a hidden file, ``<folder>/.affectcore.lock`` or ``.<name>.affectcore.lock`` beside an output file, with the
process, host and time of the run that holds it. What holds is not the file but the system's lock on it (``flock``, on
Windows ``msvcrt.locking``), so the file that a killed run leaves behind blocks nobody, and the next run takes it over.
A run that ends removes it.

Some network file systems have no locks (Lustre without ``-o flock``, say). There a second file, ``….lock-held``, holds
by being there. It is stale where its process was one of this host and is gone; a run on another host that was killed
leaves one that a person must remove, and the message says so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import stat
import sys
import time
from pathlib import Path
from typing import Any

from affectcore.errors import OutputError
from affectcore.io.files import writing

__all__ = ["Lock", "take"]

_TRIES = 100
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Lock:
    """A lock that is held; `release` it, or let the process end.

    Attributes
    ----------
    held
        False where the folder cannot be written to, so that nothing guards it and nothing needs to.
    note
        What a user should know of it, as a sentence: that this place has no locks, or cannot be written to. Else empty.
    """

    def __init__(self, path: Path, handle: int | None, made: list[Path], note: str = "") -> None:
        self.note = note
        self._path = path
        self._handle = handle
        self._made = made

    @property
    def held(self) -> bool:
        return self._handle is not None

    def release(self) -> None:
        """Remove the lock's file, and folders made for it that are still empty; others may take the lock now."""
        handle, self._handle = self._handle, None
        if handle is not None:
            mine = _same(handle, self._path)  # not one that took its place
            if sys.platform == "win32":  # no file is removed that is open, here or in another process
                os.close(handle)
            if mine:
                with contextlib.suppress(OSError):
                    self._path.unlink()
            if sys.platform != "win32":
                os.close(handle)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._made = []


def take(path: Path, output: Path, *, reading: bool = False) -> Lock:
    """Take the lock of an output, or say who has it.

    Parameters
    ----------
    path
        The lock's file; its folder is made where it is not there.
    output
        What messages call the output.
    reading
        Whether the run may turn out to have nothing to write. Then a folder that cannot be written to is no error.

    Returns
    -------
    Lock

    Raises
    ------
    OutputError
        Another run holds it, or the folder cannot be written to.
    """
    made: list[Path] = []
    try:
        with writing(output):
            for left in reversed(range(_TRIES)):
                handle = None
                try:
                    _make_folder(path.parent, made)
                    handle = _opened(path)
                    if not _locked(handle):
                        raise _taken(output, _owner(path))
                    if _same(handle, path):
                        _sign(handle)
                        return Lock(path, handle, made)
                except _NoLocksError:
                    _close(handle)
                    with contextlib.suppress(OSError):
                        path.unlink()
                    return _held_by_name(path, output, made)
                except FileNotFoundError:  # the run before removed the folder that it had made
                    if not left:
                        raise
                except BaseException:
                    _close(handle)
                    raise
                # The run before has removed this file meanwhile: who locks it now locks nothing.
                _close(handle)
    except OutputError as exc:
        cause = exc.__cause__
        forbidden = isinstance(cause, OSError) and cause.errno in _READ_ONLY
        effective = os.access in os.supports_effective_ids
        if reading and forbidden and not os.access(path.parent, os.W_OK, effective_ids=effective):
            return Lock(path, None, made, f"{output} cannot be written to, so no lock guards it")
        Lock(path, None, made).release()
        raise
    raise OutputError(f"cannot write {output}: {path} comes and goes; remove it, or write to another place")


class _NoLocksError(Exception):
    """The file system has no locks."""


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            if folder not in made:
                made.append(folder)


def _opened(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN, 0o666)
    except PermissionError:
        # Another user's, left by a killed run: it can be locked, though not written to.
        try:
            handle = os.open(path, os.O_RDONLY | _OPEN)
        except FileNotFoundError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return handle


def _locked(handle: int) -> bool:
    """Lock an open file; False where another holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)  # behind the text, which others may read
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EAGAIN):  # as lockf says it, which stands behind flock on NFS
            return False
        if exc.errno == errno.EBADF:  # NFS locks only what can be written to: another user's file cannot
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from exc
        raise _NoLocksError from exc
    return True


def _same(handle: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    mine = os.fstat(handle)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _close(handle: int | None) -> None:
    if handle is not None:
        with contextlib.suppress(OSError):
            os.close(handle)


# -- whose it is -----------------------------------------------------------------------------------------------------


def _sign(handle: int) -> str:
    """Write who holds the lock into its file, and return what was written."""
    owner = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "began": _began(os.getpid()),
        "token": secrets.token_hex(8),
    }
    text = json.dumps(owner)
    with contextlib.suppress(OSError):  # a full disk, or another user's file: it is locked all the same
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, text.encode())
    return text


def _owner(path: Path) -> dict[str, Any]:
    """Return who signed a lock's file; empty where that cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | _OPEN)
        try:
            owner = json.loads(os.read(handle, 4096))
        finally:
            os.close(handle)
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _taken(output: Path, owner: dict[str, Any], remedy: str = "") -> OutputError:
    who = ""
    if isinstance(owner.get("pid"), int):
        who = f" (process {owner['pid']} on {owner.get('host')}, since {owner.get('since')})"
    remedy = remedy or "wait for it, or write to another place"
    return OutputError(f"another run is writing to {output}{who}; {remedy}")


def _began(pid: int) -> str:
    """Return when a process began, in the system's own words; empty where it does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError, ValueError):
        return ""


def _gone(owner: dict[str, Any]) -> bool:
    """Tell whether the process that signed a lock was one of this host and has surely ended."""
    pid = owner.get("pid")
    if owner.get("host") != platform.node() or not isinstance(pid, int) or pid < 1 or sys.platform == "win32":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    began = _began(pid)
    return bool(began and owner.get("began") and began != owner["began"])  # another process with its number


# -- without locks ---------------------------------------------------------------------------------------------------


def _held_by_name(path: Path, output: Path, made: list[Path]) -> Lock:
    held = path.with_name(path.name + "-held")
    for _ in range(_TRIES):
        try:
            handle = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o666)
        except FileExistsError:
            owner = _owner(held)
            if not _gone(owner):
                remedy = f"wait for it; if it is dead, remove {held} (this file system has no locks)"
                raise _taken(output, owner, remedy) from None
            _take_away(held, owner)
            continue
        _sign(handle)
        note = f"{output} is on a file system without locks: {held.name} keeps other runs away meanwhile"
        return Lock(held, handle, made, note)
    raise _taken(output, _owner(held))


def _take_away(held: Path, owner: dict[str, Any]) -> None:
    """Remove a stale file, unless another run has put its own in its place since it was looked at."""
    aside = held.with_name(f"{held.name}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        held.rename(aside)
        if _owner(aside) == owner:
            aside.unlink()
        elif not held.exists():
            aside.rename(held)
