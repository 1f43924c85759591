"""Where compiled kernels are kept between processes: all of that policy is here.

In Numba's order: the folder that NUMBA_CACHE_DIR names, `__pycache__` beside the source, the user's own cache folder.
Where none of them can be written, a folder of this user alone in the temporary folder, which stays for the next process
(`_private`); where there is none either, every process compiles anew. Nothing of this ends a process, and what is not
as usual is said in one line, when it first matters.

Folders on that list that can be read only are read: an image can be built with its kernels compiled, and run by another
user on a read-only file system.

What is cached is pickled, so whoever can write to a cache can run code as its reader. Hence no folder is used that
others made or can replace, other than beside the source, where they could change the source as well, and where
NUMBA_CACHE_DIR says so.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from numba.core import caching, config
from numba.misc.appdirs import AppDirs

from . import compilation

__all__ = ["CURE", "KernelCache", "Place", "place"]

CURE = "set NUMBA_CACHE_DIR to a folder that can be written, or give the process a HOME that can be"
"""What brings a lasting cache back."""
_MORE = "affectcore doctor says more"

_settings: Any = config  # its attributes are made at run time
_log = logging.getLogger("affectcore")
_lock = Lock()
_said = False  # one line is enough, however many kernels it is true of


class Place(NamedTuple):
    """Where the kernels of one folder of sources are cached."""

    folder: Path | None  # that they are written to; None: nowhere
    readable: tuple[Path, ...]  # that can only be read
    kind: str  # "named", "source", "user", "temporary" or "none"
    refused: tuple[str, ...]  # what comes first and cannot be written, each with the reason

    @property
    def shown(self) -> str:
        """What messages call the place: the folder that all kernels are in."""
        return str(self.folder if self.folder is None or self.kind == "source" else self.folder.parent)

    @property
    def complaint(self) -> str:
        """What a user should know of it, as one line; empty where all is as usual."""
        named = f"{self.refused[0]}; " if _settings.CACHE_DIR and self.kind != "named" else ""
        if self.kind == "none":
            return f"compiled kernels cannot be kept, every process compiles anew: {CURE} ({named}{_MORE})"
        if self.kind == "temporary":
            return f"compiled kernels are kept in {self.shown} for a while: {CURE} ({named}{_MORE})"
        if named:
            return f"compiled kernels are kept in {self.shown} ({named}{_MORE})"
        return ""


@cache
def place(sources: Path) -> Place:
    """Choose where kernels from the sources in a folder are cached; once per process."""
    name = f"{sources.name}_{hashlib.sha256(os.fsencode(sources)).hexdigest()[:32]}"
    folders = {"source": sources / "__pycache__"}
    if _settings.CACHE_DIR:
        folders = {"named": Path(_settings.CACHE_DIR).absolute() / name, **folders}
    home = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)
    if home.is_absolute():  # relative where neither HOME nor the password file knows a home
        folders["user"] = home / name
    readable: list[Path] = []
    refused: list[str] = []
    for kind, folder in folders.items():
        reason = _unwritable(folder, others=kind != "user")
        if not reason:
            return Place(folder, tuple(readable), kind, tuple(refused))
        shown = f"NUMBA_CACHE_DIR={_settings.CACHE_DIR}" if kind == "named" else home if kind == "user" else folder
        refused.append(f"{shown}: {reason}")
        if kind != "user" and os.access(folder, os.R_OK | os.X_OK):
            readable.append(folder)
    private, reason = _private()
    if private is not None:
        reason = _unwritable(private / name)
        if not reason:
            return Place(private / name, tuple(readable), "temporary", tuple(refused))
        reason = f"{private}: {reason}"
    return Place(None, tuple(readable), "none", (*refused, reason))


def _unwritable(folder: Path, others: bool = True) -> str:
    """Make a folder and return why nothing can be written there; an empty string if it can.

    Parameters
    ----------
    folder
        The folder.
    others
        Whether it may belong to another user, or be open to all.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        status = folder.stat()
        if not others and hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH):
            return "other users can write there"
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk takes empty files
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


@cache
def _private() -> tuple[Path | None, str]:
    """Return a temporary folder that is this user's alone, or None and why there is none.

    It has the user's number for a name and stays for the next process, unless somebody else has taken that name: then
    it is one of this process alone, removed at its end.
    """
    none = None, "no temporary folder can be written"
    try:
        base = Path(tempfile.gettempdir()).resolve()
    except OSError:
        return none
    named = [Path(path).resolve() for name in ("TMPDIR", "TEMP", "TMP") if (path := os.environ.get(name))]
    if base == Path.cwd() and base not in named:
        return none  # the current folder is the last that tempfile takes
    if not hasattr(os, "geteuid"):  # Windows: the temporary folder is the user's own
        return base / "affectcore", ""
    user = os.geteuid()
    try:
        for folder in (base, *base.parents):
            status = folder.stat()
            shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
            if status.st_uid not in (0, user) or shared:
                return None, f"{base}: other users could replace what is there"
        folder = base / f"affectcore-{user}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == user and not status.st_mode & 0o077:
            return folder, ""
        folder = Path(tempfile.mkdtemp(prefix="affectcore-", dir=base))
    except OSError as error:
        return None, f"{base}: {error.strerror}"
    atexit.register(_remove, folder, os.getpid())
    return folder, ""


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _say(line: str) -> None:
    global _said
    if not line:
        return
    with _lock:
        told, _said = _said, True
    if not told:  # which goes to standard error where nobody has set logging up, as in our commands
        _log.warning("".join(c if c.isprintable() else "\ufffd" for c in line))


class KernelCache(caching._Cache):
    """The cache of one kernel, for Numba's dispatchers: what cannot be read is compiled, what cannot be kept is not."""

    def __init__(self, function: Any) -> None:
        self._name = compilation.name(function)
        self.place = place(Path(function.__code__.co_filename).absolute().parent)
        self._own = _Files(function, self.place.folder) if self.place.folder else None
        self._others = [_Files(function, folder) for folder in self.place.readable]

    @property
    def cache_path(self) -> str | None:
        """The folder that is written to."""
        return str(self.place.folder) if self.place.folder else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel compiled for a signature, or None."""
        for files in filter(None, [self._own, *self._others]):
            try:
                found = files.load_overload(sig, target_context)
            except Exception as error:  # a damaged file, one of another user: compiling is a way out of all
                _log.debug("cannot load %s from %s: %r", self._name, files.cache_path, error)
                continue
            if found is not None:
                compilation.loaded(self._name)
                if files is self._own:
                    _say(self.place.complaint)
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if there is a place for it."""
        _say(self.place.complaint)
        if self._own is None:
            return
        try:
            self._own.save_overload(sig, data)
        except Exception as error:
            reason = getattr(error, "strerror", None) or repr(error)
            _say(f"compiled kernels cannot be kept in {self.place.shown} any more ({reason}): {CURE}")
            self._own = None

    def enable(self) -> None:
        """Go on, as Numba's caches do; there is nothing to switch off."""

    def disable(self) -> None:
        """As `enable`."""

    def flush(self) -> None:
        """Forget what is cached."""
        if self._own is not None:
            self._own.flush()


class _Files(caching.FunctionCache):
    """Numba's cache of one function in a folder of our choice."""

    def __init__(self, function: Any, folder: Path) -> None:
        self._impl_class: Any = lambda function: _Impl(function, folder)
        super().__init__(function)


class _Impl(caching.CompileResultCacheImpl):
    def __init__(self, function: Any, folder: Path) -> None:
        self._locator_classes: list[Any] = [_Finder(folder)]
        super().__init__(function)


class _Finder:
    """Stands where Numba has a list of classes to try."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def from_function(self, function: Any, path: str) -> _Locator:
        return _Locator(self._folder, path, function.__code__.co_firstlineno)


class _Locator(caching._CacheLocator):
    def __init__(self, folder: Path, path: str, line: int) -> None:
        self._folder, self._path, self._line = folder, path, line
        self._py_file = path  # named in a warning of Numba's

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _stamp(Path(self._path).absolute())

    def get_disambiguator(self) -> str:
        return str(self._line)


_IMPORT = re.compile(rb"^from (\.\w+|affectcore\.kernels\.[\w.]+) import ", re.MULTILINE)


@cache
def _stamp(path: Path) -> str:
    """Hash the source that a kernel was compiled from: its file, and the files of ours that it takes code or values of.

    By content, not by time, which installers and images change; and with the other files, so that no new release
    finds kernels of an older one up to date.
    """
    if getattr(sys, "frozen", False):
        status = Path(sys.executable).stat()
        return f"{status.st_mtime_ns} {status.st_size}"
    here = Path(__file__).absolute().parent
    digest = hashlib.sha256()
    waiting, seen = [path], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen or file.name == "dispatch.py" or not file.exists():
            continue
        seen.add(file)
        text = file.read_bytes()
        digest.update(hashlib.sha256(text).digest())
        for name in map(bytes.decode, _IMPORT.findall(text)):
            parts = name.split(".")
            module = file.parent / parts[1] if name.startswith(".") else here.joinpath(*parts[2:])
            waiting += [module.with_suffix(".py"), module / "__init__.py"]
    return digest.hexdigest()
