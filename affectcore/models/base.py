"""What a model is: frozen features of texts, and heads (small classifiers or regressors) on them.

A model directory holds `affect.json` (heads, calibration, distress, provenance), `model.safetensors` (arrays), a
`README.md` (the model card) and, where the model has a network of its own, `tokenizer.json`. A directory without a
network names the model whose features its heads use (`base`), by name and content hash.
"""

from __future__ import annotations

import abc
import copy
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from affectcore.errors import InputError, UsageError, suggest
from affectcore.metrics.distress import Distress
from affectcore.models import safetensors

if TYPE_CHECKING:
    from affectcore.kernels.segments import Segments

EMBEDDED = Path(__file__).with_name("embedded")
FORMAT = 1
NETWORKS = ("static", "bert")
"""Types of network that this version can run."""
PASSAGE_BYTES = 256
"""Consecutive sentences are scored together up to this many bytes: about what the labelled training texts hold."""

Kind = Literal["multi_label", "single_label", "regression"]


@dataclass(frozen=True, eq=False)
class Head:
    """A small classifier or regressor on a model's frozen features.

    Parameters
    ----------
    name
        Name of the head, for example ``emotion``. A head called like ``_voice``, as its column is, is hidden: it is
        computed for other scores (`affectcore.metrics.distress`) and never written.
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
        Range that a regression is clipped to; infinite where there is no limit.
    level
        Where a long document's score is made. ``passage``: activated for each passage, then averaged, weighted by
        tokens: the share of the text that expresses the label. ``document``: features are averaged first: how the text
        reads on the whole. ``strongest``: the logit is the mean over passages, weighted by tokens and by the
        exponential of the passage's own raw logit l, ``sum(n * exp(l) * l) / sum(n * exp(l))`` (in the exponent, l is
        clipped to -20 to 20), so that a passage that expresses the label strongly decides, however long the rest is.
        That is exponential softmax pooling of multiple-instance learning (Wang, Li & Metze 2019, "A Comparison of Five
        Multiple Instance Learning Pooling Functions for Sound Event Detection with Weak Labeling", ICASSP), of logits
        instead of probabilities.
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
    level: Literal["passage", "document", "strongest"] = "document"
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def logit_columns(self) -> tuple[str, ...]:
        """Names of the columns of logits: `logit_<label>` for emotions; a user's labels may be called like these."""
        return tuple(f"logit_{name}" for name in (self.labels if self.name == "emotion" else self.columns))

    @property
    def hidden(self) -> bool:
        """Whether it is computed for other scores only, and never written."""
        return self.name.startswith("_")


class Scored(NamedTuple):
    """Logits of the units of some documents: passages, segments, windows or whole documents."""

    logits: np.ndarray  # float32 (n_units, k)
    first: np.ndarray  # int64 (n + 1,): document d owns units first[d]:first[d + 1]
    kind: np.ndarray  # uint8 (n_units,): `affectcore.kernels.segments` kinds; only TEXT is scored for tone
    n_tokens: np.ndarray  # int64 (n_units,)
    n_segments: np.ndarray  # int64 (n,): sentence-like segments of each document
    n_total: np.ndarray | None = None  # int64 (n,): tokens of each document, where units overlap or leave some out
    truncated: np.ndarray | None = None  # bool (n,): whether the end of a document was left out
    n_excluded: np.ndarray | None = None  # int64 (n,), or (n_units,) of segments: bytes of them that have no tone


def weights(scored: Scored) -> np.ndarray:
    """Return the weight of each unit within its document, float32: its tokens; none for code, tables, quotes, URLs."""
    from affectcore.kernels import segments

    return np.where(scored.kind == segments.TEXT, scored.n_tokens, 0).astype(np.float32)


class Model(abc.ABC):
    """Features of texts, and heads on them."""

    name: str
    content_hash: str
    """SHA-256 of the files that scores depend on, 16 hexadecimal digits."""
    heads: tuple[Head, ...]
    source: str = ""
    """What `load` finds it by on this machine, where that is not its name: the path of its directory."""

    distress: Distress | None = None
    """How distress is computed; None where it is not."""
    counts: tuple[str, ...] = ("n_segments", "n_tokens", "n_excluded_bytes")
    """Names of the integer columns that come with its scores."""
    exclude: tuple[str, ...] = ("code", "quote", "table", "url")
    """Kinds of segments that have no tone; what is left out here counts as text."""
    deals: bool = False
    """Whether it deals its work out to threads itself, so that it should be given much text at once."""
    batch_bytes: int = 8 << 20
    """Text that is scored in one go, about: what one thread has to do at least, and what memory is bounded by."""

    @property
    def derived(self) -> tuple[str, ...]:
        """Names of the columns that are computed from the scores of several heads."""
        there = self.distress is not None and self.distress.computable(self.heads)
        return ("distress",) if there else ()

    def settings(self, backend: str) -> dict[str, str]:
        """Return what else its scores depend on, for provenance."""
        return {}

    def excluding(self, kinds: Sequence[str]) -> Model:
        """Return this model with other kinds of segments without tone; the network is shared."""
        other = copy.copy(self)
        other.exclude = tuple(kinds)
        return other

    def toned(self, found: Segments, unit: str, backend: str) -> tuple[Segments, np.ndarray]:
        """Return segments with kind TEXT for all that is not excluded, and the bytes excluded.

        Parameters
        ----------
        found
            Segments of n documents, where `backend` wants them.
        unit
            `segment`: bytes are counted for each; else for each document, int64 (n,).
        backend
            `reference`, `numba` or `triton`.
        """
        from affectcore.kernels import dispatch, segments

        codes = {"code": segments.CODE, "quote": segments.QUOTE, "table": segments.TABLE, "url": segments.URL}
        kind, bounds = dispatch.fetch(found.kind), dispatch.fetch(found.offsets)
        toneless = np.zeros(256, bool)
        toneless[[codes[name] for name in self.exclude]] = True
        excluded = toneless[kind]
        n_excluded = np.where(excluded, bounds[1:] - bounds[:-1], 0)
        if len(self.exclude) < len(codes):
            kind = np.where(excluded, kind, segments.TEXT).astype(kind.dtype)
            found = found._replace(kind=dispatch.place(kind, backend))
        if unit == "segment":
            return found, n_excluded
        ends = np.concatenate([[0], np.cumsum(n_excluded)])[dispatch.fetch(found.first)]
        return found, ends[1:] - ends[:-1]

    @abc.abstractmethod
    def score(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        unit: str = "passage",
        backend: str = "numba",
        pool: ThreadPoolExecutor | None = None,
    ) -> Scored:
        """Return the logits of all heads for every passage, or `segment`, of ragged text."""

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
    """Load an embedded model by name, a model directory, or a checkpoint in Hugging Face's layout.

    Parameters
    ----------
    name_or_path
        Name of an embedded model, a directory, or a name on the hub whose files are in the hub's cache on this machine.

    Raises
    ------
    UsageError
        If there is no such model; the message proposes the nearest name.
    InputError
        If a file of the model is missing or cut, or the model needs another one than the one that is here, or cannot be
        run; the message says why.
    """
    directory = locate(name_or_path)
    if is_checkpoint(directory):
        return _load_checkpoint(directory, "" if Path(name_or_path).expanduser().is_dir() else str(name_or_path))
    return _load(directory)


def locate(name_or_path: str | Path) -> Path:
    """Return the directory of a model; see `load`."""
    name = str(name_or_path)
    if name in embedded():
        return EMBEDDED / name
    from affectcore.models.checkpoint import find

    directory = find(name_or_path)
    if directory is None:
        cached = " (nothing is downloaded: fetch it first with hf download)" if "/" in name else ""
        raise UsageError(
            f"unknown model {name!r}{suggest(name, embedded())}: there are {', '.join(embedded())}, "
            f"directories of models, and names of checkpoints that are in the hub's cache{cached}"
        )
    return directory.resolve()


def is_checkpoint(directory: Path) -> bool:
    """Tell whether a directory holds a checkpoint in Hugging Face's layout, and no model of ours."""
    return (directory / "config.json").is_file() and not (directory / "affect.json").is_file()


@lru_cache(maxsize=8)
def _load_checkpoint(directory: Path, name: str) -> Model:
    from affectcore.models import checkpoint
    from affectcore.models.encoder import Encoder

    parts = checkpoint.read_checkpoint(directory)
    called = name or checkpoint.called(directory)
    model = Encoder(parts, checkpoint.as_heads(parts, called), called, content_hash(directory))
    model.source = "" if name else str(directory)
    return model


@lru_cache(maxsize=8)
def _load(directory: Path) -> Model:
    model = _read(directory)
    model.source = "" if directory.parent == EMBEDDED else str(directory)
    return model


def _read(directory: Path) -> Model:
    record = read_record(directory)
    arrays, _ = safetensors.read(_existing(directory / "model.safetensors"))
    heads = tuple(_head(entry, arrays, directory) for entry in record["heads"])
    if "base" in record:
        try:
            base = load(record["base"]["name"])
        except UsageError as error:
            raise InputError(
                directory / "affect.json",
                f"its heads are on the features of another model: {error}",
                "put that model back, or correct base.name; its content hash is compared",
            ) from None
        if base.content_hash != record["base"]["content_hash"]:
            raise InputError(
                directory / "affect.json",
                f"its heads were trained on {base.name} {record['base']['content_hash']}; here is {base.content_hash}",
                "train them again with affectcore train",
            )
        own = {h.name for h in heads}
        kept = [h for h in base.heads if h.name not in own]
        model = base.with_heads([*kept, *heads], directory.name, content_hash(directory))
        model.distress = _distress(record, directory) or base.distress
        return model
    kind = record.get("network", {}).get("type")
    if kind == "static":
        from affectcore.models.static import Static

        static = Static(directory, record, arrays, heads)
        static.distress = _distress(record, directory)
        return static
    if kind == "bert":
        from affectcore.models.checkpoint import mini_network
        from affectcore.models.encoder import Encoder

        parts = mini_network(directory, arrays, heads)
        encoder = Encoder(parts, heads, directory.name, content_hash(directory), "int8")
        encoder.distress = _distress(record, directory)
        return encoder
    raise InputError(
        directory / "affect.json",
        f"its network is of type {kind!r}, which this version cannot run",
        f"it runs {', '.join(NETWORKS)}",
    )


def _distress(record: dict[str, Any], directory: Path) -> Distress | None:
    if "distress" not in record:
        return None
    try:
        return Distress.of_record(record["distress"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            directory / "affect.json", f"distress is not understood: {error!r}", "copy the model again"
        ) from None


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
    names = {"affect.json", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"}
    names |= {"merges.txt", "model.safetensors.index.json", *(p.name for p in directory.glob("*.safetensors"))}
    for name in sorted(names):
        if (directory / name).exists():
            digest.update(name.encode() + b"\0")
            with (directory / name).open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()[:16]


def save_heads(directory: Path, base: Model, heads: Sequence[Head], card: str) -> None:
    """Write heads as a model directory that names `base` as the source of their features.

    Parameters
    ----------
    directory
        Folder to write; made if it does not exist.
    base
        Model whose features the heads were trained on. Where it was loaded from a directory, that path is recorded.
    heads
        At least one.
    card
        The model card, Markdown, for `README.md`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = base.source or base.name
    save(directory, {"base": {"name": name, "content_hash": base.content_hash}}, {}, heads, card)


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
                "low": head.low if np.isfinite(head.low) else None,  # JSON has no infinity
                "high": head.high if np.isfinite(head.high) else None,
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
        low=-np.inf if entry["low"] is None else entry["low"],
        high=np.inf if entry["high"] is None else entry["high"],
        level=entry["level"],
        info=entry["info"],
        **parts,
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        also = "; a checkpoint would have a config.json" if path.name == "affect.json" else ""
        raise InputError(path, "not found", f"this is no model directory, or one that is not whole{also}")
    return path
