"""Which kernels this process has compiled, and how long that took: for progress lines, reports and warming up.

Numba says when it compiles; loading from the cache is no compilation. One kernel is compiled at a time, whatever the
number of threads, and threads that need one wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, NamedTuple

_lock = RLock()
_known: dict[str, None] = {}  # kernels whose modules have been imported
_loaded: set[str] = set()
_compiled: list[str] = []  # in the order of their ends; for each kind of arguments
_watchers: list[Callable[[], None]] = []
_depth = 0  # of compilations: one kernel's needs another's
_since = _seconds = 0.0
_listening = False


class State(NamedTuple):
    """How far compilation is."""

    active: bool  # whether a kernel is being compiled
    compiled: tuple[str, ...]  # names of the kernels that this process has compiled, once for each type of arguments
    about: int  # how many it will have, at most, unless more modules are imported
    seconds: float  # wall time during which a kernel was being compiled


def name(function: Any) -> str:
    """Return what a kernel is called: its family and the function's name."""
    family = function.__module__.removeprefix("affectcore.kernels.").removesuffix(".cpu")
    return f"{family}.{function.__name__.strip('_')}"


def state() -> State:
    """Return how far compilation is."""
    with _lock:
        running = time.monotonic() - _since if _depth else 0.0
        about = len(_known.keys() - _loaded | set(_compiled))
        return State(_depth > 0, tuple(_compiled), about, _seconds + running)


@contextmanager
def watched(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` at the beginning and the end of each compilation, in the thread that compiles."""
    with _lock:
        _watchers.append(callback)
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(callback)


def register(function: Any) -> None:
    """Count a function among those that may have to be compiled."""
    global _listening
    with _lock:
        _known[name(function)] = None
        if _listening:
            return
        _listening = True
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            _begin(event.data["dispatcher"].py_func)

        def on_end(self, event: Any) -> None:
            _end(event.data["dispatcher"].py_func)

    event.register("numba:compile", Listener())


def loaded(kernel: str) -> None:
    """Note that a kernel came from the cache."""
    with _lock:
        _loaded.add(kernel)


def _begin(function: Any) -> None:
    global _depth, _since
    if not function.__module__.startswith("affectcore.kernels."):
        return  # a kernel of the user's own
    with _lock:
        first = not _compiled and not _depth
        if not _depth:
            _since = time.monotonic()
        _depth += 1
        told = tuple(_watchers)
    if first:
        import logging  # late, for commands that compile nothing

        logging.getLogger("affectcore").info("compiling kernels for this CPU (once); affectcore.warm_up does so ahead")
    for callback in told:
        callback()


def _end(function: Any) -> None:
    global _depth, _seconds
    if not function.__module__.startswith("affectcore.kernels."):
        return
    with _lock:
        _depth -= 1
        if not _depth:
            _seconds += time.monotonic() - _since
        if name(function) in _known:
            _compiled.append(name(function))
        told = tuple(_watchers)
    for callback in told:
        callback()
