"""Keeps what a launcher makes of its tables (addresses, padded copies), so that short calls do not make it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_MOST = 8


def prepared(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """Cache a function of one table by the table's identity: arrays have no hash, and tables do not change once made.

    The last few tables and results stay in memory. Threads may call it at the same time: at worst two make the same.
    """
    kept: list[tuple[Any, T]] = []

    def get(table: Any) -> T:
        for known, result in kept:
            if known is table:
                return result
        result = make(table)
        kept.append((table, result))
        del kept[:-_MOST]
        return result

    return get
