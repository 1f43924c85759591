"""Reads BERT-type checkpoints in the Hugging Face layout into `affectcore.kernels.encoder.Network`.

A checkpoint is a directory with `config.json`, `model.safetensors` (or its parts and `model.safetensors.index.json`),
`tokenizer.json` and perhaps `tokenizer_config.json`. Settings mean what they mean to transformers 4.50 to 5.24; what
would need arithmetic that the kernels lack is refused, never ignored. No pickle is ever loaded, and nothing is ever
fetched: names of the hub are looked up in its cache on this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np

from affectcore.errors import InputError
from affectcore.io.formats.texts import TEXT_COLUMNS
from affectcore.kernels.encoder import Embedding, Head, Layer, Linear, Network, Norm, Relative
from affectcore.metrics import registry, taxonomy
from affectcore.models import base, safetensors, schema
from affectcore.models.schema import AGAIN, Each, Either, Flag, Map, Maybe, Number, Record, Rule, Text, Whole, shown
from affectcore.models.tokenizer import Tokenizer, read_tokenizer

__all__ = [
    "ARCHITECTURES",
    "Checkpoint",
    "Encoder",
    "as_heads",
    "called",
    "encoder_network",
    "find",
    "mini_network",
    "read_arrays",
    "read_checkpoint",
    "read_encoder",
    "side_by_side",
]

T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder with its head, and what turns text into its inputs.

    Parameters
    ----------
    model_type
        `model_type` of `config.json`.
    network
        float32 arrays, not yet prepared for a backend.
    tokenizer
        The tokenizer.
    first_position
        Position of a text's first token: 0, or `pad_id` + 1 where positions count tokens that are no padding.
    pad_id
        Id of the padding token.
    max_tokens
        Most tokens of a text, special ones included: what positions there are for, or the tokenizer's limit if lower.
    non_finite
        Names of the arrays that hold NaN or infinity.
    """

    model_type: str
    network: Network
    tokenizer: Tokenizer
    first_position: int
    pad_id: int
    max_tokens: int
    non_finite: tuple[str, ...]

    def positions(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return each token's position, int32 (n_tokens,), as transformers counts them.

        RoBERTa and its relatives count the tokens that are no padding, even where a text spells `<pad>`; such a token
        has the position `pad_id`.

        Parameters
        ----------
        ids, offsets
            int32 (n_tokens,) and int64 (n + 1,): packed sequences, special tokens included.
        """
        counts = np.diff(offsets)
        if not self.first_position:
            place: np.ndarray = np.arange(len(ids)) - np.repeat(offsets[:-1], counts)
            return place.astype(np.int32)
        real = ids != self.pad_id
        total = np.concatenate([[0], np.cumsum(real)])
        number: np.ndarray = total[1:] - np.repeat(total[offsets[:-1]], counts)
        position: np.ndarray = number * real + self.pad_id
        return position.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Checkpoint(Encoder):
    """A sequence classifier.

    Parameters
    ----------
    labels
        `id2label`, in order.
    kind
        What becomes of the logits, as in transformers' text-classification pipeline: see `read_checkpoint`.
    """

    labels: tuple[str, ...]
    kind: base.Kind


def find(name_or_path: str | Path) -> Path | None:
    """Return the directory of a checkpoint, or None.

    Parameters
    ----------
    name_or_path
        A local directory, or a name on the hub (`SamLowe/roberta-base-go_emotions`) whose files are in the hub's cache:
        `HF_HUB_CACHE`, else `HF_HOME`/hub, else ~/.cache/huggingface/hub. Of several revisions it is `main`.
    """
    try:
        path = Path(name_or_path).expanduser()
        if path.is_dir():
            return path
    except (OSError, RuntimeError, ValueError):  # too long for a path, no such home, half a character
        return None
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name_or_path)):
        return None
    environment = os.environ
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    folder = Path(os.path.expandvars(cache)).expanduser() / f"models--{str(name_or_path).replace('/', '--')}"
    snapshots = folder / "snapshots"
    head = folder / "refs" / "main"
    if head.is_file():
        snapshot = snapshots / head.read_text(encoding="utf-8").strip()
        return snapshot if snapshot.is_dir() else None
    found = list(snapshots.iterdir()) if snapshots.is_dir() else []
    return found[0] if len(found) == 1 else None


def called(directory: Path) -> str:
    """Return the name of a checkpoint's directory; of one in the hub's cache, its name on the hub."""
    organization, _, name = directory.parent.parent.name.removeprefix("models--").partition("--")
    in_cache = directory.parent.name == "snapshots" and directory.parent.parent.name.startswith("models--")
    return "/".join(filter(None, (organization, name))) if in_cache else directory.name


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a sequence classifier.

    Its kind is what transformers' text-classification pipeline does with it: `problem_type` regression: nothing;
    multi_label_classification, or a single label (whatever `problem_type` says, or if it says nothing): a sigmoid per
    label; else softmax.

    Parameters
    ----------
    directory
        Its folder.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the checkpoint needs something that the kernels lack; the message names the
        file, the setting and the remedy.
    """
    config = _Config.read(directory)
    kinds = config.values.get("architectures") or []
    if kinds and not any(kind.endswith(_CLASSIFIER) for kind in kinds):
        config.refuse(
            "architectures", f"only ...{_CLASSIFIER} is run", "use a model that was trained to classify texts"
        )
    labels = _labels(config)
    source = _Source(*read_arrays(directory))
    family = _family(config)
    with np.errstate(over="ignore", invalid="ignore"):  # weights that are not finite are reported, not refused
        head = family.head(config, source, len(labels))
        network = family.encoder(config, source, head, family.prefix)
    source.finish()
    problem: Any = config.values.get("problem_type")
    known: dict[Any, base.Kind] = {
        None: "single_label",
        "regression": "regression",
        "single_label_classification": "single_label",
        "multi_label_classification": "multi_label",
    }
    if problem not in known:
        names = list(known)[1:]
        hint = schema.meant(str(problem), [str(name) for name in names])
        config.refuse(
            "problem_type", f"there is no such problem{hint}", f"set it to one of {', '.join(map(str, names))}"
        )
    kind = known[problem]
    if kind == "single_label" and len(labels) == 1:
        kind = "multi_label"
    parts = _encoder_parts(directory, config, network, source)
    return Checkpoint(**parts, labels=labels, kind=kind)


def read_encoder(
    directory: Path,
    head: Head | Callable[[int], Head],
    arrays: Mapping[str, np.ndarray] | None = None,
    prefix: str | None = None,
    *,
    own: bool = False,
) -> Encoder:
    """Read an encoder and put a head of ours on it; heads of the checkpoint are left out.

    Parameters
    ----------
    directory
        Its folder.
    head
        The head, or a function that makes it for a number of features.
    arrays
        The checkpoint's arrays, where they were read before.
    prefix
        What the names of the encoder's arrays begin with; None: nothing, or what transformers puts there.
    own
        Whether it is one of our own models, all of whose ids and rows must fit.

    Raises
    ------
    InputError
        As in `read_checkpoint`.
    """
    config = _Config.read(directory)
    read, path = read_arrays(directory) if arrays is None else (arrays, directory / "model.safetensors")
    source = _Source(read, path)
    network = _bare(config, source, head, prefix)
    return Encoder(**_encoder_parts(directory, config, network, source, own))


def encoder_network(
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    head: Head | Callable[[int], Head],
    prefix: str | None = None,
    *,
    path: Path = Path("model"),
) -> Network:
    """Return the network of an encoder and a head; see `read_encoder`.

    Parameters
    ----------
    config
        What `config.json` says.
    arrays
        The arrays by name; int8 rows with a `<name>.scale` of float32 each are made float32.
    head
        The head, or a function that makes it for a number of features.
    prefix
        What the names of the encoder's arrays begin with; None: nothing, or what transformers puts there.
    path
        What error messages call the checkpoint.
    """
    return _bare(_Config(path, dict(config)), _Source(arrays, path), head, prefix)


def mini_network(directory: Path, arrays: Mapping[str, np.ndarray], heads: Sequence[base.Head]) -> Encoder:
    """Read one of our own encoders: arrays named `encoder.*`, mean pooling, `heads` side by side.

    Parameters
    ----------
    directory
        Its folder.
    arrays
        What its `model.safetensors` holds.
    heads
        At least one.
    """
    return read_encoder(directory, side_by_side(heads), arrays, "encoder.", own=True)


def side_by_side(heads: Sequence[base.Head], pooling: Literal["first", "mean"] = "mean") -> Head:
    """Return heads on the pooled vectors as one, whose outputs are theirs in order."""
    weight = np.concatenate([h.weight for h in heads], axis=1).T
    bias = np.concatenate([h.bias for h in heads])
    out = Linear(np.ascontiguousarray(weight, np.float32), bias.astype(np.float32))
    return Head(pooling=pooling, dense=None, activation="", norm=None, out=out)


def as_heads(checkpoint: Checkpoint, name: str | Path) -> tuple[base.Head, ...]:
    """Return a checkpoint's last layer as a head on what enters it.

    Where all labels are emotions of GoEmotions (Ekman's are among them), and it is no regression, it is called
    `emotion`, with columns `emotion_<label>`. Else it is called after the checkpoint, and its columns are the labels in
    lower case; one that says nothing (`LABEL_0`), or is another metric's name, has the head's name before it. Coarser
    taxonomies need all 28 labels of GoEmotions. A regression has no limits.

    Parameters
    ----------
    checkpoint
        The checkpoint.
    name
        Its directory or name on the hub.
    """
    labels, regression = checkpoint.labels, checkpoint.kind == "regression"
    lower = tuple(label.lower() for label in labels)
    if not regression and set(lower) <= set(taxonomy.GOEMOTIONS) and len(set(lower)) == len(lower):
        called, labels, columns = "emotion", lower, tuple(f"emotion_{label}" for label in lower)
    else:
        called = _slug(Path(name).name) or "checkpoint"
        called = f"{called}_head" if called in registry.GROUPS or called in registry.METRICS else called
        columns = _columns(called, labels)
    out = checkpoint.network.head.out
    k = len(labels)
    return (
        base.Head(
            name=called,
            kind=checkpoint.kind,
            labels=labels,
            columns=columns,
            weight=np.ascontiguousarray(out.weight.T),
            bias=out.bias,
            scale=np.ones(k, np.float32),
            shift=np.zeros(k, np.float32),
            thresholds=np.full(k, np.nan if regression else 0.5, np.float32),
            low=-np.inf if regression else 0.0,
            high=np.inf if regression else 1.0,
            level="passage",
            info={"source": f"checkpoint {name}"},
        ),
    )


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower()).strip("_")


def _columns(head: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Return a column for each label, all different and none of them another metric's."""
    out: list[str] = []
    for label in labels:
        stem = _slug(label)
        if re.fullmatch(r"((label|class)_?)?\d*|.", stem):
            stem = head if len(labels) == 1 else f"{head}_{stem}"
        elif stem in _TAKEN or stem in registry.METRICS or re.match(r"\d|(segment|logit)(_|$)", stem):
            stem = f"{head}_{stem}"
        column, again = stem, 2
        while column in out:
            column, again = f"{stem}_{again}", again + 1
        out.append(column)
    return tuple(out)


_TAKEN = {*TEXT_COLUMNS, "model", "model_id", "model_name", "generator", "system", "engine"}
"""Usual names of columns of dumps, which labels must not take."""
_CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True)
class _Config:
    """What `config.json` says, with transformers' defaults where it says nothing."""

    path: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> _Config:
        path = directory / "config.json"
        values = schema.read(path, _CONFIG, missing="this is no directory of a model, or one that is not whole")
        return cls(path, values)

    @property
    def model_type(self) -> str:
        return str(self.values.get("model_type"))

    def get(self, name: str, default: T, rule: Rule | None = None) -> T:
        """Return a setting, which must follow a rule: by default, be of the default's type (an int is a float)."""
        if name not in self.values:
            return default
        value = self.values[name]
        schema.check(self.path, value, rule or _TYPES[type(default)], name)
        return type(default)(value)

    def size(self, name: str, default: int, most: int = schema.INT32) -> int:
        """Return a setting that is a whole number above 0."""
        return self.get(name, default, Whole(1, most))

    def positions(self, default: int) -> int:
        """Return the number of positions, which tables are made for."""
        return self.size("max_position_embeddings", default, _MOST_POSITIONS)

    def eps(self, name: str, default: float) -> float:
        """Return what a norm adds to the variance."""
        return self.get(name, default, Number(0, 0.01))

    def activation(self, name: str, default: str) -> str:
        """Return the kernels' name of an activation."""
        value = self.get(name, default)
        if value not in _ACTIVATIONS:
            self.refuse(
                name, f"the kernels run {', '.join(_ACTIVATIONS)}{schema.meant(value, list(_ACTIVATIONS))}", _OTHER
            )
        return _ACTIVATIONS[value]

    def refuse(self, name: str, reason: str, remedy: str) -> NoReturn:
        raise InputError(self.path, f"{name} is {shown(self.values.get(name))}: {reason}", remedy)

    def must_be(self, name: str, *allowed: Any, reason: str) -> None:
        if self.values.get(name, allowed[0]) not in allowed:
            self.refuse(name, reason, _OTHER)


_TYPES: dict[type, Rule] = {bool: Flag(), int: Whole(), float: Number(), str: Text()}
_MOST_POSITIONS = 1 << 20
_THETA = Number(1, 1e9)
_CONFIG = Record(
    {},
    {
        "architectures": Maybe(Each(Text())),
        "id2label": Maybe(Map(Either((Text(), Whole())), least=1)),
        "model_type": Maybe(Text()),
        "problem_type": Maybe(Text()),
        "pos_att_type": Maybe(Either((Text(), Each(Text())))),
        "layer_types": Maybe(Each(Text())),
        "rope_parameters": Maybe(Record(more=True)),
        "local_rope_theta": Maybe(_THETA),
        "global_rope_theta": _THETA,
        "pad_token_id": Maybe(Whole()),
        "tokenizer_class": Maybe(Text()),
    },
    more=True,
)
"""Settings that more than one type of value may stand for; the others are checked where they are asked for."""


_OTHER = "use another checkpoint, or run this one with transformers"
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "linear": "",
}
# Arrays that a checkpoint may hold and its network does not use: buffers of older versions, heads of other tasks.
_LEFT_OVER = re.compile(
    r"(.*\.)?(position_ids|token_type_ids)"
    r"|(.*\.)?(pooler|rotary_emb)\..*"
    r"|(cls|lm_head|discriminator_predictions|generator_predictions|generator_lm_head|lm_predictions|mask_predictions"
    r"|vocab_transform|vocab_layer_norm|vocab_projector|qa_outputs|decoder)\..*"
)


class _Source:
    """The arrays of a checkpoint, and which of them were asked for."""

    def __init__(self, arrays: Mapping[str, np.ndarray], path: Path) -> None:
        self.path = path
        self.arrays = {_modern(name): array for name, array in arrays.items()}
        self.used: set[str] = set()
        self.non_finite: list[str] = []

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Return an array as float32."""
        if name not in self.arrays:
            raise InputError(
                self.path,
                f"array {name} is missing",
                "copy the checkpoint again; if it has no trained head, train one: affectcore train",
            )
        array = self.arrays[name]
        if array.shape != shape:
            raise InputError(
                self.path,
                f"array {name} has the shape {array.shape}, and config.json says {shape}",
                "copy both files again from one source",
            )
        self.used.add(name)
        scale = self.arrays.get(f"{name}.scale")
        if array.dtype == np.int8 and scale is not None and scale.shape == shape[:1] and scale.dtype.kind == "f":
            self.used.add(f"{name}.scale")
            array = array.astype(np.float32) * scale.astype(np.float32)[:, None]
        elif array.dtype.kind != "f":
            raise InputError(
                self.path,
                f"array {name} is of type {array.dtype}: weights quantized like that are not run",
                "use the checkpoint that they were made from",
            )
        array = np.require(array, np.float32, ["C", "A"])
        if not _finite(array):
            self.non_finite.append(name)
        return array

    def norm(self, name: str, d: int, eps: float, bias: bool = True) -> Norm:
        weight = self.take(f"{name}.weight", d)
        return Norm(weight, self.take(f"{name}.bias", d) if bias else np.zeros(d, np.float32), eps)

    def linear(self, name: str, n_out: int, n_in: int, bias: bool = True) -> Linear:
        weight = self.take(f"{name}.weight", n_out, n_in)
        return Linear(weight, self.take(f"{name}.bias", n_out) if bias else np.zeros(n_out, np.float32))

    def stacked(self, names: Sequence[str], n_out: int, n_in: int) -> Linear:
        """Return linear layers of one input as one."""
        parts = [self.linear(name, n_out, n_in) for name in names]
        return Linear(np.concatenate([p.weight for p in parts]), np.concatenate([p.bias for p in parts]))

    def finish(self, *others: str) -> None:
        """Refuse arrays that nothing asked for, unless their names are known or begin with one of `others`."""
        left = sorted(self.arrays.keys() - self.used)
        odd = [name for name in left if not _LEFT_OVER.fullmatch(name) and not name.startswith(others)]
        if odd:
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            raise InputError(
                self.path,
                f"array {odd[0]}{more} belongs to nothing that config.json describes",
                "copy both files again from one source; adapters must be merged first",
            )


def _modern(name: str) -> str:
    """Return an array's name as it is today: checkpoints converted from TensorFlow call norms' arrays gamma, beta."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))


def _finite(array: np.ndarray) -> bool:
    # The extremes are NaN if anything is, and take no memory.
    return array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))


@dataclass(frozen=True)
class _Family:
    """How an architecture's settings and arrays become a network."""

    prefix: str
    encoder: Callable[[_Config, _Source, Head, str], Network]
    head: Callable[[_Config, _Source, int], Head]


def _family(config: _Config) -> _Family:
    if config.model_type not in _FAMILIES:
        config.refuse("model_type", f"affectcore runs {', '.join(_FAMILIES)}", _OTHER)
    for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        config.must_be(name, False, None, reason="only encoders are run")
    config.must_be("quantization_config", None, reason="quantized checkpoints are not run")
    return _FAMILIES[config.model_type]


def _bert_encoder(config: _Config, source: _Source, head: Head, prefix: str) -> Network:
    """BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019), XLM-R (Conneau et al. 2020), ELECTRA (Clark et al. 2020).

    Token types are all 0: a single text has no other.
    """
    config.must_be("position_embedding_type", "absolute", None, reason="only absolute positions are run")
    electra = config.model_type == "electra"
    d, m = (
        config.size("hidden_size", 256 if electra else 768),
        config.size("intermediate_size", 1024 if electra else 3072),
    )
    eps = config.eps("layer_norm_eps", 1e-12)
    e = config.size("embedding_size", 128) if electra else d
    at = f"{prefix}embeddings."
    types = source.take(f"{at}token_type_embeddings.weight", config.size("type_vocab_size", 2), e)
    positions = source.take(f"{at}position_embeddings.weight", config.positions(512), e)
    n_words = config.size("vocab_size", 50265 if config.model_type == "roberta" else 30522)
    embedding = Embedding(
        words=source.take(f"{at}word_embeddings.weight", n_words, e),
        positions=positions + types[0],
        norm=source.norm(f"{at}LayerNorm", e, eps),
        project=source.linear(f"{prefix}embeddings_project", d, e) if e != d else None,
    )
    layers = []
    for number in range(config.size("num_hidden_layers", 12)):
        at = f"{prefix}encoder.layer.{number}."
        layers.append(_bert_layer(source, at, ("query", "key", "value"), d, m, eps))
    n_heads, width = _heads(config, "num_attention_heads", 4 if electra else 12, d)
    return Network(
        embedding=embedding,
        layers=tuple(layers),
        final_norm=None,
        head=head,
        n_heads=n_heads,
        scale=width**-0.5,
        activation=config.activation("hidden_act", "gelu"),
    )


def _bert_layer(source: _Source, at: str, qkv: Sequence[str], d: int, m: int, eps: float) -> Layer:
    """Read a layer named as BERT names it; only what makes q, k and v is called otherwise in its relatives."""
    return Layer(
        norm_in=None,
        qkv=source.stacked([f"{at}attention.self.{part}" for part in qkv], d, d),
        out=source.linear(f"{at}attention.output.dense", d, d),
        norm_mid=source.norm(f"{at}attention.output.LayerNorm", d, eps),
        up=source.linear(f"{at}intermediate.dense", m, d),
        down=source.linear(f"{at}output.dense", d, m),
        norm_out=source.norm(f"{at}output.LayerNorm", d, eps),
    )


def _heads(config: _Config, name: str, default: int, d: int) -> tuple[int, int]:
    """Return the number of attention heads and their width."""
    n = config.size(name, default)
    if d % n:
        config.refuse(name, f"the width {d} must be a multiple of it", "copy the file again")
    for other in ("head_dim", "attention_head_size"):
        config.must_be(other, d // n, None, reason="heads must be as wide as the hidden size allows")
    return n, d // n


def _distilbert_encoder(config: _Config, source: _Source, head: Head, prefix: str) -> Network:
    """DistilBERT (Sanh et al. 2019, arXiv 1910.01108): BERT's layers without token types."""
    d, m, eps = config.size("dim", 768), config.size("hidden_dim", 3072), 1e-12
    at = f"{prefix}embeddings."
    embedding = Embedding(
        words=source.take(f"{at}word_embeddings.weight", config.size("vocab_size", 30522), d),
        positions=source.take(f"{at}position_embeddings.weight", config.positions(512), d),
        norm=source.norm(f"{at}LayerNorm", d, eps),
        project=None,
    )
    layers = []
    for number in range(config.size("n_layers", 6)):
        at = f"{prefix}transformer.layer.{number}."
        layers.append(
            Layer(
                norm_in=None,
                qkv=source.stacked([f"{at}attention.{part}_lin" for part in "qkv"], d, d),
                out=source.linear(f"{at}attention.out_lin", d, d),
                norm_mid=source.norm(f"{at}sa_layer_norm", d, eps),
                up=source.linear(f"{at}ffn.lin1", m, d),
                down=source.linear(f"{at}ffn.lin2", d, m),
                norm_out=source.norm(f"{at}output_layer_norm", d, eps),
            )
        )
    n_heads, width = _heads(config, "n_heads", 12, d)
    return Network(
        embedding=embedding,
        layers=tuple(layers),
        final_norm=None,
        head=head,
        n_heads=n_heads,
        scale=width**-0.5,
        activation=config.activation("activation", "gelu"),
    )


def _deberta_encoder(config: _Config, source: _Source, head: Head, prefix: str) -> Network:
    """DeBERTa v2 and v3 (He et al. 2021, arXiv 2006.03654 and 2111.09543)."""
    d, m = config.size("hidden_size", 1536), config.size("intermediate_size", 6144)
    e = config.size("embedding_size", d)
    eps = config.eps("layer_norm_eps", 1e-7)
    n_positions = config.positions(512)
    if config.get("conv_kernel_size", 0, Whole(0)) > 0:
        config.refuse("conv_kernel_size", "a convolution between the layers is not run", _OTHER)
    at = f"{prefix}embeddings."
    words = source.take(f"{at}word_embeddings.weight", config.size("vocab_size", 128100), e)
    positions = np.zeros((0, e), np.float32)
    if config.get("position_biased_input", True):
        positions = source.take(f"{at}position_embeddings.weight", n_positions, e)
    else:
        source.used.add(f"{at}position_embeddings.weight")  # transformers leaves it out, too
    n_types = config.get("type_vocab_size", 0, Whole(0))
    if n_types > 0:
        types = source.take(f"{at}token_type_embeddings.weight", n_types, e)
        if len(positions):
            positions = positions + types[0]
        else:
            words = words + types[0]
    if e != d:  # before the norm, so it goes into the tables
        project = source.take(f"{at}embed_proj.weight", d, e).astype(np.float64).T
        words, positions = ((table @ project).astype(np.float32) for table in (words, positions))
    embedding = Embedding(words, positions, source.norm(f"{at}LayerNorm", d, eps), None)

    kinds = config.values.get("pos_att_type") or []
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else kinds
    if not {"c2p", "p2c"}.issuperset(kinds):
        config.refuse("pos_att_type", "the kernels run c2p and p2c", _OTHER)
    shared = config.get("share_att_key", False)
    rows, bucket = None, np.zeros(1, np.int32)
    if config.get("relative_attention", False):
        rows, bucket = _relative(config, source, f"{prefix}encoder.", d, eps, n_positions)
    none = np.zeros((0, d), np.float32)
    layers = []
    for number in range(config.size("num_hidden_layers", 24)):
        at = f"{prefix}encoder.layer.{number}."
        self = f"{at}attention.self."
        relative = None
        if rows is not None and kinds:
            key_name, query_name = ("key_proj", "query_proj") if shared else ("pos_key_proj", "pos_query_proj")
            key = _rows(source.linear(f"{self}{key_name}", d, d), rows) if "c2p" in kinds else none
            query = _rows(source.linear(f"{self}{query_name}", d, d), rows) if "p2c" in kinds else none
            relative = Relative(key, query, bucket)
        layer = _bert_layer(source, at, ("query_proj", "key_proj", "value_proj"), d, m, eps)
        layers.append(replace(layer, relative=relative))
    n_heads, width = _heads(config, "num_attention_heads", 24, d)
    return Network(
        embedding=embedding,
        layers=tuple(layers),
        final_norm=None,
        head=head,
        n_heads=n_heads,
        scale=(width * (1 + len(set(kinds)))) ** -0.5,
        activation=config.activation("hidden_act", "gelu"),
    )


def _relative(
    config: _Config, source: _Source, prefix: str, d: int, eps: float, n_positions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of relative positions, float64 (2 * span, d), and the bucket of each distance."""
    furthest = config.get("max_relative_positions", -1, Whole(-1, _MOST_POSITIONS))
    furthest = furthest if furthest >= 1 else n_positions
    n_buckets = config.get("position_buckets", -1, Whole(-1, _MOST_POSITIONS))
    span = n_buckets if n_buckets > 0 else furthest
    rows = source.take(f"{prefix}rel_embeddings.weight", 2 * span, d).astype(np.float64)
    norms = [part.strip() for part in config.get("norm_rel_ebd", "none").lower().split("|")]
    if "layer_norm" in norms:
        norm = source.norm(f"{prefix}LayerNorm", d, eps)
        rows = rows - rows.mean(axis=1, keepdims=True)
        rows = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + norm.eps) * norm.weight + norm.bias
    # Far enough that both ends are the outermost buckets, which is what distances beyond have, too.
    distance = np.arange(max(n_positions, 2 * furthest))
    bucket = distance
    if n_buckets > 0:
        bucket = _log_bucket(distance, n_buckets, furthest)
    bucket = np.concatenate([-bucket[:0:-1], bucket])
    return rows, np.clip(bucket + span, 0, 2 * span - 1).astype(np.int32)


def _log_bucket(distance: np.ndarray, n_buckets: int, furthest: int) -> np.ndarray:
    """Return the buckets of distances >= 0: themselves up to half of the buckets, then by their logarithm.

    In float32, as transformers computes them: a logarithm that is nearly whole may fall to either side.
    """
    middle = n_buckets // 2
    if middle < 1 or furthest - 1 <= middle:
        return distance
    share = np.maximum(distance, middle).astype(np.float32) / np.float32(middle)
    step = np.log(share) / np.log(np.float32((furthest - 1) / middle)) * np.float32(middle - 1)
    return np.where(distance <= middle, distance, np.ceil(step).astype(np.int64) + middle)


def _rows(layer: Linear, rows: np.ndarray) -> np.ndarray:
    out: np.ndarray = rows @ layer.weight.T.astype(np.float64) + layer.bias
    return out.astype(np.float32)


def _modernbert_encoder(config: _Config, source: _Source, head: Head, prefix: str) -> Network:
    """ModernBERT (Warner et al. 2024, arXiv 2412.13663): pre-norm, rotary positions, GeGLU, local and global layers."""
    d, m = config.size("hidden_size", 768), config.size("intermediate_size", 1152)
    eps, bias = config.eps("norm_eps", 1e-5), config.get("norm_bias", False)
    attention_bias, mlp_bias = config.get("attention_bias", False), config.get("mlp_bias", False)
    embedding = Embedding(
        words=source.take(f"{prefix}embeddings.tok_embeddings.weight", config.size("vocab_size", 50368), d),
        positions=np.zeros((0, d), np.float32),
        norm=source.norm(f"{prefix}embeddings.norm", d, eps, bias),
        project=None,
    )
    n_layers = config.size("num_hidden_layers", 22)
    every = config.size("global_attn_every_n_layers", 3)
    types = config.values.get("layer_types")
    if types is None:
        types = ["sliding_attention" if number % every else "full_attention" for number in range(n_layers)]
    theta = _theta(config)
    if len(types) != n_layers or not set(types).issubset(theta):
        config.refuse("layer_types", f"it must name {n_layers} of {', '.join(theta)}", "copy the file again")
    window = config.get("local_attention", 128, Whole(0)) // 2
    if window < 1:
        config.refuse("local_attention", "windows must hold a neighbour to each side", _OTHER)
    n_heads, width = _heads(config, "num_attention_heads", 12, d)
    if width % 2:
        config.refuse("num_attention_heads", "rotary positions need heads of even width", _OTHER)
    layers = []
    for number, kind in enumerate(types):
        at = f"{prefix}layers.{number}."
        layers.append(
            Layer(
                norm_in=source.norm(f"{at}attn_norm", d, eps, bias) if number else None,
                qkv=source.linear(f"{at}attn.Wqkv", 3 * d, d, attention_bias),
                out=source.linear(f"{at}attn.Wo", d, d, attention_bias),
                norm_mid=source.norm(f"{at}mlp_norm", d, eps, bias),
                up=source.linear(f"{at}mlp.Wi", 2 * m, d, mlp_bias),
                down=source.linear(f"{at}mlp.Wo", d, m, mlp_bias),
                norm_out=None,
                window=window if kind == "sliding_attention" else 0,
                rotary_base=theta[kind],
            )
        )
    return Network(
        embedding=embedding,
        layers=tuple(layers),
        final_norm=source.norm(f"{prefix}final_norm", d, eps, bias),
        head=head,
        n_heads=n_heads,
        scale=width**-0.5,
        activation=config.activation("hidden_activation", "gelu"),
        gated=True,
        pre_norm=True,
    )


def _theta(config: _Config) -> dict[str, float]:
    """Return the base of rotary positions by type of layer: transformers 5 has a dictionary, 4 two settings."""
    config.must_be("rope_scaling", None, reason="scaled rotary positions are not run")
    everywhere = config.get("global_rope_theta", 160_000.0)
    local = config.values.get("local_rope_theta", 10_000.0)
    theta = {"full_attention": everywhere, "sliding_attention": everywhere if local is None else float(local)}
    parameters = config.values.get("rope_parameters") or {}
    for kind in theta:
        entry = parameters.get(kind) or {}
        rule = Record({}, {"rope_theta": _THETA}, more=True)
        schema.check(config.path, entry, rule, "rope_parameters", kind)
        if entry.get("rope_type", "default") != "default":
            config.refuse("rope_parameters", "scaled rotary positions are not run", _OTHER)
        theta[kind] = float(entry.get("rope_theta", theta[kind]))
    return theta


def _bert_head(config: _Config, source: _Source, k: int) -> Head:
    d = config.size("hidden_size", 768)
    dense = source.linear("bert.pooler.dense", d, d)
    return Head("first", dense, "tanh", None, source.linear("classifier", k, d))


def _distilbert_head(config: _Config, source: _Source, k: int) -> Head:
    d = config.size("dim", 768)
    return Head("first", source.linear("pre_classifier", d, d), "relu", None, source.linear("classifier", k, d))


def _roberta_head(config: _Config, source: _Source, k: int) -> Head:
    electra = config.model_type == "electra"
    d = config.size("hidden_size", 256 if electra else 768)
    dense, out = source.linear("classifier.dense", d, d), source.linear("classifier.out_proj", k, d)
    return Head("first", dense, "gelu" if electra else "tanh", None, out)


def _deberta_head(config: _Config, source: _Source, k: int) -> Head:
    d = config.size("hidden_size", 1536)
    config.must_be("pooler_hidden_size", d, reason="the pooler must be as wide as the layers")
    activation = config.activation("pooler_hidden_act", "gelu")
    return Head("first", source.linear("pooler.dense", d, d), activation, None, source.linear("classifier", k, d))


def _modernbert_head(config: _Config, source: _Source, k: int) -> Head:
    d = config.size("hidden_size", 768)
    poolings: dict[str, Literal["first", "mean"]] = {"cls": "first", "mean": "mean"}
    pooling = config.get("classifier_pooling", "cls")
    if pooling not in poolings:
        config.refuse("classifier_pooling", f"the kernels run {', '.join(poolings)}", _OTHER)
    return Head(
        pooling=poolings[pooling],
        dense=source.linear("head.dense", d, d, config.get("classifier_bias", False)),
        activation=config.activation("classifier_activation", "gelu"),
        norm=source.norm("head.norm", d, config.eps("norm_eps", 1e-5), config.get("norm_bias", False)),
        out=source.linear("classifier", k, d),
    )


_FAMILIES = {
    "bert": _Family("bert.", _bert_encoder, _bert_head),
    "distilbert": _Family("distilbert.", _distilbert_encoder, _distilbert_head),
    "roberta": _Family("roberta.", _bert_encoder, _roberta_head),
    "xlm-roberta": _Family("roberta.", _bert_encoder, _roberta_head),
    "camembert": _Family("roberta.", _bert_encoder, _roberta_head),
    "electra": _Family("electra.", _bert_encoder, _roberta_head),
    "deberta-v2": _Family("deberta.", _deberta_encoder, _deberta_head),
    "modernbert": _Family("model.", _modernbert_encoder, _modernbert_head),
}
ARCHITECTURES = tuple(_FAMILIES)
"""The values of `model_type` that can be read."""

_COUNTS_TOKENS = ("roberta", "xlm-roberta", "camembert")
"""Architectures whose positions count the tokens that are no padding, from the padding token's id + 1 on."""


def _bare(config: _Config, source: _Source, head: Head | Callable[[int], Head], prefix: str | None) -> Network:
    """Return the network of an encoder and a head of ours."""
    family = _family(config)
    if prefix is None:
        prefix = family.prefix if any(name.startswith(family.prefix) for name in source.arrays) else ""
    nothing = np.zeros(0, np.float32)
    stand_in = Head("mean", None, "", None, Linear(nothing.reshape(0, 0), nothing))
    with np.errstate(over="ignore", invalid="ignore"):
        network = family.encoder(config, source, stand_in, prefix)
    source.finish("classifier.", "pre_classifier.", "head.", "heads.")
    made = head(network.width) if callable(head) else head
    first = made.out if made.dense is None else made.dense
    if first.weight.shape[1] != network.width:
        raise InputError(
            source.path,
            f"the encoder gives {network.width} features and the head takes {first.weight.shape[1]}",
            "train the head on this encoder: affectcore train",
        )
    return replace(network, head=made)


_MULTIPLES = (1, 64, 128, 256, 512)
"""Numbers of rows are padded to multiples of these."""
_BOTH = "copy both files again from one source"


def _encoder_parts(
    directory: Path, config: _Config, network: Network, source: _Source, own: bool = False
) -> dict[str, Any]:
    tokenizer = read_tokenizer(directory, own)
    words = network.embedding.words
    path, n = directory / "tokenizer.json", tokenizer.n_ids
    if n > len(words):
        raise InputError(path, f"it has ids up to {n - 1}, and the network has {len(words)} rows for them", _BOTH)
    if own and n < len(words):
        raise InputError(path, f"it has {n:,} tokens, and the network has {len(words):,} rows for them", _BOTH)
    if own and not len(tokenizer.prefix) == len(tokenizer.suffix) == 1:
        raise InputError(path, "post_processor puts other than one token before a text and one behind it", AGAIN)
    lines = directory / "vocab.txt"
    if not path.is_file() and lines.is_file() and not any(len(words) == -(-n // m) * m for m in _MULTIPLES):
        raise InputError(
            lines,
            f"it has {n:,} tokens, and the network has {len(words):,} rows for them",
            "it is cut: copy it again; if it is whole, make tokenizer.json with transformers: "
            f"AutoTokenizer.from_pretrained({str(directory)!r}).save_pretrained({str(directory)!r})",
        )
    counts = config.model_type in _COUNTS_TOKENS
    pad_id = (
        config.get("pad_token_id", 1, Whole(0, len(words) - 1)) if counts else config.values.get("pad_token_id") or 0
    )
    first = pad_id + 1 if counts else 0
    limit = config.positions(8192 if config.model_type == "modernbert" else 512) - first
    room = len(tokenizer.prefix) + len(tokenizer.suffix)
    if limit <= room:
        config.refuse("max_position_embeddings", "it leaves no room for a text's tokens", "copy the file again")
    if tokenizer.max_length is not None and tokenizer.max_length <= room:
        raise InputError(
            directory / "tokenizer_config.json",
            f"model_max_length is {tokenizer.max_length}: it leaves no room for a text's tokens",
            AGAIN,
        )
    limit = min(limit, tokenizer.max_length or limit)
    return {
        "model_type": config.model_type,
        "network": network,
        "tokenizer": tokenizer,
        "first_position": first,
        "pad_id": pad_id,
        "max_tokens": limit,
        "non_finite": tuple(dict.fromkeys(source.non_finite)),
    }


def _labels(config: _Config) -> tuple[str, ...]:
    """Return `id2label` in order; without one, LABEL_0 and so on, of which transformers has two unless it says more."""
    mapping = config.values.get("id2label")
    if mapping is None:
        return tuple(f"LABEL_{i}" for i in range(config.size("num_labels", 2)))
    numbered = {int(key): str(label) for key, label in mapping.items() if re.fullmatch(r"[0-9]{1,9}", key)}
    if len(numbered) != len(mapping) or sorted(numbered) != list(range(len(numbered))):
        config.refuse("id2label", "it must number the labels from 0 on", "correct it")
    return tuple(numbered[i] for i in range(len(numbered)))


def read_arrays(directory: Path) -> tuple[dict[str, np.ndarray], Path]:
    """Return a checkpoint's arrays, and the file that errors name."""
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return safetensors.read(whole)[0], whole
    if not index.is_file():
        others = [*directory.glob("*.bin"), *directory.glob("*.bin.index.json"), *directory.glob("*.h5")]
        others += directory.glob("*.msgpack")
        if others:
            raise InputError(
                others[0],
                "weights are read from model.safetensors alone: other formats can run code, or need a framework",
                f"convert it once, where you trust it: transformers.{'AutoModel' + _CLASSIFIER}"
                ".from_pretrained(...).save_pretrained(..., safe_serialization=True)",
            )
        raise InputError(whole, "not found", "this is no directory of a model, or one that is not whole")
    mapping: dict[str, str] = schema.read(index, _INDEX)["weight_map"]
    arrays: dict[str, np.ndarray] = {}
    for name in sorted(set(mapping.values())):
        if Path(name).name != name or len(os.fsencode(name)) > 255:
            raise InputError(index, f"weight_map names {shown(name)}, which is no file beside it", AGAIN)
        if not (directory / name).is_file():
            raise InputError(directory / name, f"not found, and {index.name} names it", "copy the checkpoint again")
        part = safetensors.read(directory / name)[0]
        twice = sorted(part.keys() & arrays.keys())
        if twice:
            raise InputError(directory / name, f"array {twice[0]} is in another file, too", "copy the checkpoint again")
        arrays.update(part)
    missing = sorted(mapping.keys() - arrays.keys())
    if missing:
        raise InputError(index, f"array {missing[0]} is in none of its files", "copy the checkpoint again")
    return arrays, index


_INDEX = Record({"weight_map": Map(Text(), least=1)}, more=True)
