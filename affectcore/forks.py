"""Locks that a forked process finds free.

A process that forks while another of its threads holds a lock leaves that lock held for good in the child, which waits
for it forever; data loaders and process pools do fork processes that have scored. So a fork waits until no thread
loads anything or compiles a kernel, and both processes go on with locks that are free and tables that are whole.
"""

from __future__ import annotations

import os
import sys
from threading import RLock
from typing import Any

__all__ = ["counting", "loading"]

loading = RLock()
"""Held while tables, networks or tokenizers are made, which happens once in a process, and not once per thread."""
counting = RLock()
"""Held while counts are added up; nothing else is asked for meanwhile."""

_held: list[Any] = []


def _hold() -> None:
    # In the order in which one thread takes them: what loads may compile.
    compiler = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    for lock in (loading, counting, compiler):
        if lock is not None:
            lock.acquire()
            _held.append(lock)


def _let_go() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
