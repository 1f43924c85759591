"""affectcore scores what language models feel like: fast, exact affect and tone metrics for dumps of LLM outputs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from affectcore._version import __version__

if TYPE_CHECKING:
    from affectcore.comparison import Comparison, compare
    from affectcore.errors import AffectcoreError, InputError, OutputError, UsageError
    from affectcore.explanation import Explanation, explain
    from affectcore.pipeline.run import Report, score_dataset
    from affectcore.scorer import Scorer, score
    from affectcore.warmup import WarmUp, warm_up

__all__ = [
    "AffectcoreError",
    "Comparison",
    "Explanation",
    "InputError",
    "OutputError",
    "Report",
    "Scorer",
    "UsageError",
    "WarmUp",
    "__version__",
    "compare",
    "explain",
    "score",
    "score_dataset",
    "warm_up",
]

_HOMES = {
    "AffectcoreError": "affectcore.errors",
    "Comparison": "affectcore.comparison",
    "Explanation": "affectcore.explanation",
    "InputError": "affectcore.errors",
    "OutputError": "affectcore.errors",
    "Report": "affectcore.pipeline.run",
    "Scorer": "affectcore.scorer",
    "UsageError": "affectcore.errors",
    "WarmUp": "affectcore.warmup",
    "compare": "affectcore.comparison",
    "explain": "affectcore.explanation",
    "score": "affectcore.scorer",
    "score_dataset": "affectcore.pipeline.run",
    "warm_up": "affectcore.warmup",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import affectcore` stays cheap."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'affectcore' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
