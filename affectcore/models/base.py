"""What a model is: frozen features of texts, and heads (small classifiers or regressors) on them.

A model directory holds `affect.json` (heads, calibration, distress, provenance), `model.safetensors` (arrays), a
`README.md` (the model card) and, where the model has a network of its own, `tokenizer.json`. A directory without a
network names the model whose features its heads use (`base`), by name and content hash.
"""

from __future__ import annotations

import abc
import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from affectcore.errors import InputError, UsageError, suggest
from affectcore.metrics.distress import Distress
from affectcore.models import affect, safetensors, schema
from affectcore.models.affect import FORMAT, NETWORKS

if TYPE_CHECKING:
    from typing_extensions import Self

    from affectcore.kernels.segments import Segments

EMBEDDED = Path(__file__).with_name("embedded")
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

    loaded_from: tuple[str, str] | None = None
    """What `load` finds it by, and the content hash of what was found."""
    reheaded: bool = False
    """Whether it has other heads than what was loaded."""

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

    def excluding(self, kinds: Sequence[str]) -> Self:
        """Return this model with other kinds of segments without tone; the network is shared."""
        return self._copy(exclude=tuple(kinds))

    def _copy(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it is found by, its settings, and the heads that were put on it; files are read again."""
        if self.loaded_from is None:
            raise pickle.PicklingError(f"model {self.name} was not loaded from a directory, so there is none to name")
        heads = (self.heads, self.name, self.content_hash) if self.reheaded else None
        return _again, (*self.loaded_from, heads, self._changes())

    def _changes(self) -> dict[str, Any]:
        """Return what makes this model again of the one that was loaded: names of methods and their arguments."""
        return {} if self.exclude == Model.exclude else {"excluding": (self.exclude,)}

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
    _check_bases(str(name_or_path), directory)
    if is_checkpoint(directory):
        name = "" if Path(name_or_path).expanduser().is_dir() else str(name_or_path)
        return _load_checkpoint(directory, name, _state(directory))
    return _load(directory, _state(directory))


def _state(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when a file of a model does, so that another model at the same place is loaded."""
    stats = [(path.name, path.stat()) for path in directory.iterdir() if path.is_file()]
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


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
def _load_checkpoint(directory: Path, name: str, state: Any) -> Model:
    from affectcore.models import checkpoint
    from affectcore.models.encoder import Encoder

    parts = checkpoint.read_checkpoint(directory)
    called = name or checkpoint.called(directory)
    model = Encoder(parts, checkpoint.as_heads(parts, called), called, content_hash(directory))
    model.source = "" if name else str(directory)
    model.loaded_from = model.source or name, model.content_hash
    return model


@lru_cache(maxsize=8)
def _load(directory: Path, state: Any) -> Model:
    model = _read(directory)
    model.source = "" if directory.parent == EMBEDDED else str(directory)
    model.loaded_from = model.source or model.name, model.content_hash
    model.reheaded = False
    return model


def _again(
    source: str, content_hash: str, heads: tuple[Sequence[Head], str, str] | None, changes: Mapping[str, Any]
) -> Model:
    """Return a model that was pickled."""
    model = load(source)
    check_same(source, content_hash, model)
    model = model if heads is None else model.with_heads(*heads)
    for name, arguments in changes.items():
        model = getattr(model, name)(*arguments)
    return model


def check_same(source: str, content_hash: str, model: Model) -> None:
    """Raise `InputError` if another model was loaded than was pickled."""
    if model.content_hash != content_hash:
        raise InputError(
            source,
            f"the model that was pickled has the content hash {content_hash}, and the one that is here now "
            f"{model.content_hash}",
            "put the same model there, or pickle anew",
        )


def _read(directory: Path) -> Model:
    record = read_record(directory)
    arrays = safetensors.read(_existing(directory / "model.safetensors"))[0]
    heads = read_heads(directory, record, arrays)
    if "base" in record:
        model = _on_base(directory, record, heads)
    elif record["network"]["type"] == "static":
        from affectcore.models.static import Static

        model = Static(directory, record, arrays, heads)
    else:
        from affectcore.models.checkpoint import mini_network
        from affectcore.models.encoder import Encoder

        parts = mini_network(directory, arrays, heads)
        model = Encoder(parts, heads, directory.name, content_hash(directory), "int8")
    if "distress" in record:
        from affectcore.lexicons import LISTS

        model.distress = Distress.of_record(record["distress"])
        columns = [column for head in model.heads for column in head.columns]
        affect.check_distress(directory / "affect.json", model.distress.weights, [*columns, *LISTS])
    return model


_under_way: ContextVar[tuple[Path, ...]] = ContextVar("_under_way", default=())
"""Directories that are being loaded, each the base of the one before."""


def _on_base(directory: Path, record: dict[str, Any], heads: Sequence[Head]) -> Model:
    """Load the model whose features heads use, and put them beside its own."""
    path = directory / "affect.json"
    token = _under_way.set((*_under_way.get(), directory))
    try:
        base = load(record["base"]["name"])
    except UsageError as error:
        raise InputError(path, f"its heads are on the features of another model: {error}", _CORRECT) from None
    finally:
        _under_way.reset(token)
    if base.content_hash != record["base"]["content_hash"]:
        raise InputError(
            path,
            f"its heads were trained on {base.name} {record['base']['content_hash']}; here is {base.content_hash}",
            "train them again with affectcore train",
        )
    for own, other in zip(heads, base.heads[:1]):  # the rows of all heads of a model are as many
        if len(own.weight) != len(other.weight):
            reason = f"has {len(own.weight)} rows: {base.name} gives {len(other.weight)} features"
            raise InputError(
                directory / "model.safetensors",
                f"array heads.{own.name}.weight {reason}",
                "train it again with affectcore train",
            )
    names = {head.name for head in heads}
    kept = [head for head in base.heads if head.name not in names]
    affect.check_columns(path, [(f"head {h.name!r}", column) for h in (*kept, *heads) for column in h.columns])
    return base.with_heads([*kept, *heads], directory.name, content_hash(directory))


_CORRECT = "put that model back, or correct base.name; its content hash is compared"
_MOST_BASES = 20


def _check_bases(name: str, directory: Path) -> None:
    """Refuse a base that is among the models that it is loaded for, or too far below them."""
    above = _under_way.get()
    reason = f"over {_MOST_BASES} models, each the base of the one before" if len(above) > _MOST_BASES else ""
    if directory in above:
        ring = [*above[above.index(directory) :], directory]
        reason = f"so that it is its own base: {' -> '.join(part.name for part in ring)}"
    if reason:
        schema.refuse(above[-1] / "affect.json", f"is {name!r}, {reason}", "base", "name", remedy=_CORRECT)


def read_record(directory: Path) -> dict[str, Any]:
    """Return what `affect.json` says."""
    return affect.read(directory / "affect.json")


def read_heads(directory: Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> tuple[Head, ...]:
    """Return the heads of a model directory from what its `affect.json` and its `model.safetensors` say."""
    path = directory / "model.safetensors"
    names = {f"heads.{entry['name']}.{part}" for entry in record["heads"] for part in affect.PARTS}
    odd = sorted(name for name in arrays if name not in names and ("base" in record or name.startswith("heads.")))
    if odd:
        raise InputError(path, f"array {odd[0]} belongs to no head of affect.json", "copy both files again")
    heads = tuple(_head(entry, affect.parts(path, arrays, entry)) for entry in record["heads"])
    for head in heads[1:]:
        if len(head.weight) != len(heads[0].weight):
            name, first = f"heads.{head.name}.weight", f"heads.{heads[0].name}.weight"
            reason = f"array {name} has {len(head.weight)} rows, and {first} {len(heads[0].weight)}"
            raise InputError(path, reason, schema.AGAIN)
    return heads


def content_hash(directory: Path) -> str:
    """Hash the files that scores depend on: SHA-256, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    names = {"affect.json", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"}
    names |= {"merges.txt", "model.safetensors.index.json", *(p.name for p in directory.glob("*.safetensors"))}
    for name in sorted(names):
        path = directory / name
        if path.is_file():
            digest.update(name.encode() + b"\0")
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 22):
                        digest.update(block)
            except OSError as error:
                raise InputError(path, f"it cannot be read: {error.strerror}", "check its permissions") from None
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
        for part in affect.PARTS:
            arrays[f"heads.{head.name}.{part}"] = np.asarray(getattr(head, part), np.float32)
    safetensors.write(directory / "model.safetensors", arrays)
    text = json.dumps({"format": FORMAT, **record, "heads": entries}, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "affect.json").write_text(text + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")


def _head(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Head:
    return Head(
        name=entry["name"],
        kind=entry["kind"],
        labels=tuple(entry["labels"]),
        columns=tuple(entry["columns"]),
        low=-np.inf if entry["low"] is None else entry["low"],
        high=np.inf if entry["high"] is None else entry["high"],
        level=entry["level"],
        info=entry["info"],
        **arrays,
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(path, "not found", "this is no model directory, or one that is not whole")
    return path
