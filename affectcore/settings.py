"""What all parts share: names of columns by convention, and what depends on the machine."""

from __future__ import annotations

import os

MODEL_COLUMNS = ("model", "model_id", "model_name", "generator", "system", "engine")
"""Columns that are likely to name the model that wrote a document, most likely first."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
