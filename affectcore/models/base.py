"""What a model is: frozen features of texts, and heads (small classifiers or regressors) on them.

A model directory holds `affect.json` (heads, calibration, provenance), `model.safetensors` (arrays), a `README.md` (the
model card) and, where the model has a network of its own, `tokenizer.json`. A directory without a network names the
model whose features its heads use (`base`), by name and content hash.
"""

from __future__ import annotations

import abc
import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from affectcore.errors import InputError, UsageError
from affectcore.models import safetensors

EMBEDDED = Path(__file__).with_name("embedded")
FORMAT = 1
NETWORKS = ("static",)
"""Types of network that this version can run."""

Kind = Literal["multi_label", "single_label", "regression"]


@dataclass(frozen=True)
class Head:
    """A small classifier or regressor on a model's frozen features.

    Parameters
    ----------
    name
        Name of the head, for example ``emotion``.
    kind
        ``multi_label`` (a sigmoid per label), ``single_label`` (softmax over labels) or ``regression``.
    labels
        Names of the k outputs.
    columns
        Names of the k score columns.
    weight, bias
        float32 (d, k) and (k,): logit = features @ weight + bias.
    scale, shift
        float32 (k,): calibration; the activation works on ``scale * logit + shift``.
    thresholds
        float32 (k,): decision thresholds on the activated scores; NaN for regressions.
    low, high
        Range that a regression is clipped to.
    level
        Where a long document's score is made. ``passage``: activated for each passage, then averaged, weighted by
        tokens: the share of the text that expresses the label. ``document``: features are averaged first.
    info
        Training data, licences, measured quality, seeds; goes into `affect.json` as it is.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    thresholds: np.ndarray
    low: float = 0.0
    high: float = 1.0
    level: Literal["passage", "document"] = "document"
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def logit_columns(self) -> tuple[str, ...]:
        """Names of the columns of logits: `logit_<label>` for emotions; a user's labels may be called like these."""
        return tuple(f"logit_{name}" for name in (self.labels if self.name == "emotion" else self.columns))


class Model(abc.ABC):
    """Features of texts, and heads on them."""

    name: str
    content_hash: str
    """SHA-256 of the files that scores depend on, 16 hexadecimal digits."""
    heads: tuple[Head, ...]

    @abc.abstractmethod
    def features(self, texts: pa.Array, backend: str = "numba") -> np.ndarray:
        """Return the frozen features of whole texts, float32 (n, d): zeros for null, empty and text-free ones."""

    @abc.abstractmethod
    def predict(
        self, texts: pa.Array, heads: Sequence[Head] | None = None, backend: str = "numba"
    ) -> dict[str, np.ndarray]:
        """Return the activated scores of `heads` (default: all of the model's), each float32 (n, k), by head's name."""

    @abc.abstractmethod
    def with_heads(self, heads: Sequence[Head], name: str, content_hash: str) -> Model:
        """Return this model with other heads."""


def embedded() -> list[str]:
    """Name the models that come with the package and that it can run."""
    return sorted(
        path.parent.name
        for path in EMBEDDED.glob("*/affect.json")
        if json.loads(path.read_text(encoding="utf-8"))["network"]["type"] in NETWORKS
    )


def load(name_or_path: str | Path) -> Model:
    """Load an embedded model by name, or a model directory.

    Raises
    ------
    UsageError
        If there is no such model; the message proposes the nearest name.
    InputError
        If a file of the model is missing or cut, or the model needs another one than the one that is here.
    """
    name = str(name_or_path)
    if name in embedded():
        return _load(EMBEDDED / name)
    directory = Path(name_or_path)
    if not directory.is_dir():
        close = difflib.get_close_matches(name, embedded(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown model {name!r}: {hint}there are {', '.join(embedded())}, and directories of models")
    return _load(directory.resolve())


@lru_cache(maxsize=8)
def _load(directory: Path) -> Model:
    record = read_record(directory)
    arrays, _ = safetensors.read(_existing(directory / "model.safetensors"))
    heads = tuple(_head(entry, arrays, directory) for entry in record["heads"])
    if "base" in record:
        base = load(record["base"]["name"])
        if base.content_hash != record["base"]["content_hash"]:
            raise InputError(
                directory / "affect.json",
                f"its heads were trained on {base.name} {record['base']['content_hash']}; here is {base.content_hash}",
                "train them again with affectcore train",
            )
        own = {h.name for h in heads}
        kept = [h for h in base.heads if h.name not in own]
        return base.with_heads([*kept, *heads], directory.name, content_hash(directory))
    if record["network"]["type"] not in NETWORKS:
        raise InputError(
            directory / "affect.json",
            f"its network is of type {record['network']['type']!r}, which this version cannot run",
            f"it runs {', '.join(NETWORKS)}",
        )
    from affectcore.models.static import Static

    return Static(directory, record, arrays, heads)


def read_record(directory: Path) -> dict[str, Any]:
    """Return what `affect.json` says."""
    path = _existing(directory / "affect.json")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"no JSON: {error}") from None
    if record.get("format") != FORMAT:
        raise InputError(
            path, f"format {record.get('format')!r}, not {FORMAT}", "another version of affectcore made it"
        )
    return record


def content_hash(directory: Path) -> str:
    """Hash the files that scores depend on: SHA-256, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in ("affect.json", "model.safetensors", "tokenizer.json"):
        if (directory / name).exists():
            digest.update(name.encode() + b"\0" + (directory / name).read_bytes())
    return digest.hexdigest()[:16]


def save_heads(directory: Path, base: Model, heads: Sequence[Head], card: str) -> None:
    """Write heads as a model directory that names `base` as the source of their features.

    Parameters
    ----------
    directory
        Folder to write; made if it does not exist.
    base
        Model whose features the heads were trained on.
    heads
        At least one.
    card
        The model card, Markdown, for `README.md`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save(directory, {"base": {"name": base.name, "content_hash": base.content_hash}}, {}, heads, card)


def save(
    directory: Path, record: dict[str, Any], arrays: dict[str, np.ndarray], heads: Sequence[Head], card: str
) -> None:
    """Write a model directory: `affect.json`, `model.safetensors` and `README.md`."""
    entries = []
    arrays = dict(arrays)
    for head in heads:
        entries.append(
            {
                "name": head.name,
                "kind": head.kind,
                "level": head.level,
                "labels": list(head.labels),
                "columns": list(head.columns),
                "low": head.low,
                "high": head.high,
                "info": head.info,
            }
        )
        for part in _PARTS:
            arrays[f"heads.{head.name}.{part}"] = np.asarray(getattr(head, part), np.float32)
    safetensors.write(directory / "model.safetensors", arrays)
    text = json.dumps({"format": FORMAT, **record, "heads": entries}, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "affect.json").write_text(text + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")


_PARTS = ("weight", "bias", "scale", "shift", "thresholds")


def _head(entry: dict[str, Any], arrays: dict[str, np.ndarray], directory: Path) -> Head:
    parts = {}
    for part in _PARTS:
        name = f"heads.{entry['name']}.{part}"
        if name not in arrays:
            raise InputError(directory / "model.safetensors", f"array {name} is missing", "copy the model again")
        parts[part] = arrays[name].astype(np.float32)
    return Head(
        name=entry["name"],
        kind=entry["kind"],
        labels=tuple(entry["labels"]),
        columns=tuple(entry["columns"]),
        low=entry["low"],
        high=entry["high"],
        level=entry["level"],
        info=entry["info"],
        **parts,
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "not found", "this is no model directory, or one that is not whole")
    return path
