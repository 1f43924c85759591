"""Models with tone heads, hidden heads and distress for tests: an embedded network and emotions, random tone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore.metrics import tone
from affectcore.models import base, safetensors
from affectcore.models.base import Head

HIDDEN = ("_distress_voice", "_distress_reaction")
WEIGHTS = {
    "emotion_sadness": 2.0,
    "emotion_remorse": 3.0,
    "emotion_caring": -1.0,
    "_distress_voice": 0.5,
    "_distress_reaction": -0.25,
    "first_person": 0.05,
    "self_blame": 0.5,
    "hopelessness": 0.4,
    "giving_up": 0.4,
    "apologies": 0.125,
}
RECORD = {"version": 1, "bias": -1.5, "weights": WEIGHTS, "info": {"trained_on": "nothing", "validation": []}}


def head(name: str, size: float, width: int, rng: np.random.Generator, level: Any) -> Head:
    """A head of one label with random weights, whose logits are a few units wide for features of such a size."""
    return Head(
        name=name,
        kind="multi_label",
        labels=(name,),
        columns=(name,),
        weight=rng.normal(scale=3 / size, size=(width, 1)).astype(np.float32),
        bias=rng.normal(size=1).astype(np.float32),
        scale=np.array([0.75], np.float32),
        shift=np.array([-0.5], np.float32),
        thresholds=np.array([0.5], np.float32),
        level=level,
        info={"trained_on": "nothing", "validation": []},
    )


def heads(model: base.Model, seed: int = 0) -> list[Head]:
    """The emotions and valence of a model, then every tone head, then hidden ones."""
    rng = np.random.default_rng(seed)
    features = model.features(pa.array(["I am sorry, I cannot do that.", "The list is empty; check line 42."]))
    size, width = float(np.linalg.norm(features, axis=1).mean()), features.shape[1]
    own = [h for h in model.heads if h.name in ("emotion", "vad")]
    levels = {name: entry.level for name, entry in tone.HEADS.items()} | {
        "_distress_voice": "strongest",
        "_distress_reaction": "document",
    }
    return [*own, *(head(name, size, width, rng, level) for name, level in levels.items())]


def save(directory: Path, of: str = "static", distress: bool = True) -> Path:
    """Write a model directory with the network of an embedded model."""
    source = base.EMBEDDED / of
    record = {k: v for k, v in base.read_record(source).items() if k not in ("format", "heads", "distress")}
    arrays, _ = safetensors.read(source / "model.safetensors")
    arrays = {name: array for name, array in arrays.items() if not name.startswith("heads.")}
    directory.mkdir(parents=True)
    for name in ("tokenizer.json", "config.json"):
        if (source / name).exists():
            shutil.copy(source / name, directory / name)
    made = {**record, **({"distress": RECORD} if distress else {})}
    base.save(directory, made, arrays, heads(base.load(of)), "# A model for tests\n")
    return directory
