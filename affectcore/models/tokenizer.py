"""Tokenizers of checkpoints: `tokenizer.json` run by our kernels where they are exact, else by `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from affectcore.errors import InputError
from affectcore.kernels import dispatch, wordpiece

__all__ = ["Tokenizer", "read_json", "read_tokenizer"]

_LARGEST = 1 << 30  # transformers writes 1e30 where a tokenizer has no limit

Encode = Callable[[np.ndarray, np.ndarray, str, bool], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Turns text into token ids.

    Parameters
    ----------
    prefix, suffix
        Ids of the special tokens that go before and behind a single text.
    max_length
        `model_max_length` of `tokenizer_config.json`: tokens of a text, special ones included; None: no limit is known.
    n_ids
        One more than the highest id.
    runs
        What runs it: `wordpiece` (the kernels) or `tokenizers`.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    max_length: int | None
    n_ids: int
    runs: str
    _encode: Encode

    def encode(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        backend: str = "numba",
        max_tokens: int | None = None,
        trim: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of texts, without special tokens.

        Parameters
        ----------
        values, offsets
            Ragged text: uint8 (n_bytes,), int64 (n + 1,). Invalid UTF-8 becomes U+FFFD.
        backend
            What the kernels run on.
        max_tokens
            Keep the first so many of each text; None: all.
        trim
            Leave out the white space around each text. BERT's tokenizers do anyway.

        Returns
        -------
        array, array
            int32 (n_tokens,) and int64 (n + 1,): text i has ids[offsets[i]:offsets[i + 1]].
        """
        ids, ends = self._encode(values, offsets, backend, trim)
        counts = np.diff(ends)
        if max_tokens is None or not len(counts) or counts.max() <= max_tokens:
            return ids, ends
        place = np.arange(len(ids)) - np.repeat(ends[:-1], counts)
        kept = np.concatenate([[0], np.cumsum(np.minimum(counts, max_tokens))])
        return ids[place < max_tokens], kept


def read_tokenizer(directory: Path) -> Tokenizer:
    """Read the tokenizer of a checkpoint.

    It is `tokenizer.json`, whose truncation and padding are not used, or is made of the files that older checkpoints
    have instead: `vocab.txt` (BERT, DistilBERT, ELECTRA), `vocab.json` and `merges.txt` (RoBERTa). As in transformers,
    `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` and `add_prefix_space` of `tokenizer_config.json` go
    before what `tokenizer.json` says, unless it names a general class of tokenizers.

    Parameters
    ----------
    directory
        Folder of the checkpoint.

    Raises
    ------
    InputError
        If there is none, it is no tokenizer, or it needs the package `tokenizers` and that is not installed.
    """
    settings = _settings(directory)
    path = directory / "tokenizer.json"
    if path.is_file():
        record = read_json(path)
        if not isinstance(record.get("model"), dict):
            raise InputError(path, "it holds no tokenizer", "copy it again")
    else:
        path, record = _older(directory, settings)
    normalizer, before = record.get("normalizer") or {}, record.get("pre_tokenizer") or {}
    if settings.family == "bert" and normalizer.get("type") == "BertNormalizer":
        record["normalizer"] = {**normalizer, **settings.normalizer()}
    if settings.family == "roberta" and before.get("type") == "ByteLevel":
        record["pre_tokenizer"] = {**before, "add_prefix_space": bool(settings.get("add_prefix_space", False))}
    limit = settings.get("model_max_length")
    limit = int(limit) if isinstance(limit, (int, float)) and 0 < limit < _LARGEST else None
    try:
        table = wordpiece.build_wordpiece(record)
    except (ValueError, KeyError, TypeError) as error:
        return _library(path, record, limit, error)
    n_ids = 1 + max(*record["model"]["vocab"].values(), *(int(i) for i in table.added_ids))
    return Tokenizer(_ids(table.prefix), _ids(table.suffix), limit, n_ids, "wordpiece", _kernels(table))


def _ids(array: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in array)


def read_json(path: Path, remedy: str = "copy it again") -> dict[str, Any]:
    """Return the object in a JSON file; `remedy` is for the case that there is no such file."""
    if not path.is_file():
        raise InputError(path, "not found", remedy)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"no JSON: {error}", "copy it again") from None
    if not isinstance(record, dict):
        raise InputError(path, "it holds no JSON object", "copy it again")
    return record


_FAMILIES = {"bert": "bert", "distilbert": "bert", "electra": "bert", "roberta": "roberta"}
_CLASSES = {
    **dict.fromkeys(("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"), "bert"),
    "RobertaTokenizer": "roberta",
}


@dataclass(frozen=True)
class _Settings:
    """What the files beside `tokenizer.json` say.

    Parameters
    ----------
    family
        `bert` or `roberta` where transformers takes a class of tokenizers for these, else empty.
    values
        `tokenizer_config.json`, and `special_tokens_map.json` where that says nothing.
    """

    family: str
    values: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    def token(self, name: str, default: str) -> dict[str, Any]:
        """Return a special token as `added_tokens` has it, but for its id."""
        value = self.get(f"{name}_token") or default
        flags = value if isinstance(value, dict) else {"content": str(value)}
        options = {flag: bool(flags.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
        return {"content": str(flags.get("content", default)), "special": True, **options}

    def normalizer(self) -> dict[str, Any]:
        return {
            "lowercase": bool(self.get("do_lower_case", True)),
            "strip_accents": self.get("strip_accents"),
            "handle_chinese_chars": bool(self.get("tokenize_chinese_chars", True)),
        }


def _settings(directory: Path) -> _Settings:
    names = ("config.json", "special_tokens_map.json", "tokenizer_config.json")
    config, special, values = (read_json(directory / n) if (directory / n).is_file() else {} for n in names)
    named = values.get("tokenizer_class") or config.get("tokenizer_class")
    if named:
        return _Settings(_CLASSES.get(str(named).removesuffix("Fast"), ""), {**special, **values})
    return _Settings(_FAMILIES.get(str(config.get("model_type")), ""), {**special, **values})


def _older(directory: Path, settings: _Settings) -> tuple[Path, dict[str, Any]]:
    """Return one of the files of an older checkpoint's tokenizer, and what they say as `tokenizer.json` would."""
    more, merges = directory / "added_tokens.json", directory / "merges.txt"
    plain = not (more.is_file() and read_json(more)) and settings.get("do_basic_tokenize", True)
    model: dict[str, Any]
    if plain and settings.family == "bert" and (path := directory / "vocab.txt").is_file():
        vocab = {token: i for i, token in enumerate(_lines(path))}
        special = [settings.token(name, f"[{name.upper()}]") for name in ("cls", "sep", "unk", "pad", "mask")]
        model = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
        normalizer = {"type": "BertNormalizer", "clean_text": True, **settings.normalizer()}
        before: dict[str, Any] = {"type": "BertPreTokenizer"}
    elif plain and settings.family == "roberta" and merges.is_file() and (path := directory / "vocab.json").is_file():
        vocab = read_json(path)
        names = {"cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
        special = [settings.token(name, token) for name, token in names.items()]
        model = {"type": "BPE", "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
        model["merges"] = [line for line in _lines(merges) if line and not line.startswith("#version")]
        normalizer = None
        before = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    else:
        raise InputError(
            directory / "tokenizer.json",
            "not found",
            f"make it with transformers: AutoTokenizer.from_pretrained({str(directory)!r})"
            f".save_pretrained({str(directory)!r})",
        )
    first, last, unknown = (token["content"] for token in special[:3])
    for token in (first, last, unknown):
        if token not in vocab:
            raise InputError(path, f"it lacks the special token {token!r}", "copy the checkpoint again")
    if model["type"] == "WordPiece":
        model["unk_token"] = unknown
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": first, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": last, "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in (first, last)},
    }
    return path, {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[t["content"]], **t} for t in special if t["content"] in vocab],
        "normalizer": normalizer,
        "pre_tokenizer": before,
        "post_processor": template,
        "decoder": None,
        "model": {**model, "vocab": vocab},
    }


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines would also cut at U+2028
    return lines[:-1] if lines[-1] == "" else lines


def _kernels(table: wordpiece.WordPiece) -> Encode:
    lock = Lock()

    @lru_cache(maxsize=4)
    def placed(backend: str) -> Any:
        return dispatch.place(table, backend)

    def encode(values: np.ndarray, offsets: np.ndarray, backend: str, trim: bool) -> tuple[np.ndarray, np.ndarray]:
        with lock:
            there = placed(backend)
        values, offsets = dispatch.place((values, offsets), backend)
        stream = wordpiece.wordpiece(values, offsets, there, special=False, backend=backend)
        return dispatch.fetch(stream.ids), dispatch.fetch(stream.offsets)

    return encode


def _library(path: Path, record: dict[str, Any], limit: int | None, reason: Exception) -> Tokenizer:
    """Return a tokenizer that the package `tokenizers` runs."""
    try:
        import tokenizers
    except ImportError:
        raise InputError(
            path, f"the kernels cannot run it: {reason}", "pip install 'affectcore[encoder]', which can"
        ) from None
    try:
        library = tokenizers.Tokenizer.from_str(json.dumps(record))
    except Exception as error:  # the package raises plain Exception
        raise InputError(path, f"tokenizers cannot read it: {error}", "pip install -U tokenizers") from None
    library.no_truncation()
    library.no_padding()
    probe = library.encode("a", add_special_tokens=True)
    bare = library.encode("a", add_special_tokens=False).ids
    n_before = next((i for i, special in enumerate(probe.special_tokens_mask) if not special), len(probe.ids))
    prefix, suffix = probe.ids[:n_before], probe.ids[n_before + len(bare) :]
    if prefix + bare + suffix != probe.ids:
        raise InputError(path, "its post-processor does more than put tokens around a text", "use another model")

    def encode(values: np.ndarray, offsets: np.ndarray, backend: str, trim: bool) -> tuple[np.ndarray, np.ndarray]:
        ends = offsets.tolist()
        # Python replaces invalid bytes as the kernels do: one U+FFFD for each maximal subpart.
        texts = [values[b:e].tobytes().decode("utf-8", "replace") for b, e in zip(ends[:-1], ends[1:])]
        if trim:
            texts = [text.strip() for text in texts]
        found = [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        ids = np.fromiter(chain.from_iterable(found), np.int32, int(counts.sum()))
        return ids, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    n_ids = 1 + max(library.get_vocab(with_added_tokens=True).values(), default=0)
    return Tokenizer(tuple(prefix), tuple(suffix), limit, n_ids, "tokenizers", encode)
