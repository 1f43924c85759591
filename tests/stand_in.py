"""A model for tests of heads: features are counts of letters, so they need no weights and no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore.models.base import Head, Model, Scored
from affectcore.stats.calibration import activate


class StandIn(Model):
    """Counts of a to z, log(1 + count), and a feature that never changes."""

    def __init__(
        self, heads: Sequence[Head] = (), name: str = "stand-in", content_hash: str = "0123456789abcdef"
    ) -> None:
        self.heads, self.name, self.content_hash = tuple(heads), name, content_hash

    def score(self, values: np.ndarray, offsets: np.ndarray, *_: Any) -> Scored:
        raise NotImplementedError("heads are trained on features")

    def features(self, texts: pa.Array, backend: str = "numba") -> np.ndarray:
        out = np.zeros((len(texts), 27), np.float32)
        for row, text in enumerate(texts.to_pylist()):
            if text:
                raw = text if isinstance(text, bytes) else text.encode()
                count = np.bincount(np.frombuffer(raw.lower(), np.uint8), minlength=256)[97:123]
                out[row, :26] = np.log1p(count)
                out[row, 26] = 1
        return out

    def predict(self, texts: pa.Array, heads: Any = None, backend: str = "numba") -> dict[str, np.ndarray]:
        x = self.features(texts)
        return {
            h.name: activate(x @ h.weight + h.bias, h.kind, h.scale, h.shift, h.low, h.high).astype(np.float32)
            for h in (self.heads if heads is None else heads)
        }

    def with_heads(self, heads: Sequence[Head], name: str, content_hash: str) -> StandIn:
        return StandIn(heads, name, content_hash)


def texts(n: int, seed: int = 0) -> list[str]:
    """Different texts of random letters."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(26, 0.4), size=n)
    return ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 30, p=w)) for w in weights]
