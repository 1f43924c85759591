"""Tokenizers of checkpoints: `tokenizer.json` run by our kernels where they are exact, else by `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from affectcore.errors import InputError
from affectcore.forks import loading
from affectcore.kernels import dispatch, wordpiece
from affectcore.models.schema import AGAIN, Ids, check, read, read_bytes, shown
from affectcore.models.tokenizer_file import BESIDE, build, check_tokenizer, read_own

__all__ = ["Tokenizer", "read_tokenizer"]

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


def read_tokenizer(directory: Path, own: bool = False) -> Tokenizer:
    """Read the tokenizer of a checkpoint.

    It is `tokenizer.json`, whose truncation and padding are not used, or is made of the files that older checkpoints
    have instead: `vocab.txt` (BERT, DistilBERT, ELECTRA), `vocab.json` and `merges.txt` (RoBERTa). As in transformers,
    `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` and `add_prefix_space` of `tokenizer_config.json` go
    before what `tokenizer.json` says, unless it names a general class of tokenizers.

    Parameters
    ----------
    directory
        Folder of the checkpoint.
    own
        Whether it is one of our own models, whose tokenizer the kernels must run; see `read_own`.

    Raises
    ------
    InputError
        If there is none, it is no tokenizer, or it needs the package `tokenizers` and that is not installed.
    """
    settings = _settings(directory)
    path = directory / "tokenizer.json"
    if own:
        record = read_own(path)[0]
    elif path.is_file():
        record = read(path)
        check_tokenizer(path, record)
        settings.check(directory, record)
    else:
        path, record = _older(directory, settings)
    normalizer, before = record.get("normalizer") or {}, record.get("pre_tokenizer") or {}
    if settings.family == "bert" and normalizer.get("type") == "BertNormalizer":
        record["normalizer"] = {**normalizer, **settings.normalizer()}
    if settings.family == "roberta" and before.get("type") == "ByteLevel":
        record["pre_tokenizer"] = {**before, "add_prefix_space": bool(settings.get("add_prefix_space", False))}
    limit = settings.get("model_max_length")
    limit = None if limit is None or limit >= _LARGEST else int(limit)
    try:
        table = build(path, record) if own else wordpiece.build_wordpiece(record)
    except ValueError as error:
        return _library(path, record, limit, error)
    special = (*_ids(table.prefix), *_ids(table.suffix))
    n_ids = 1 + max(*record["model"]["vocab"].values(), *_ids(table.added_ids), *special)
    return Tokenizer(_ids(table.prefix), _ids(table.suffix), limit, n_ids, "wordpiece", _kernels(table))


def _ids(array: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in array)


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

    def check(self, directory: Path, record: dict[str, Any]) -> None:
        """Refuse a `tokenizer.json` without the special tokens that are named beside it: it is another model's."""
        vocab = record["model"]["vocab"]
        known = set(vocab) if isinstance(vocab, dict) else {str(entry[0]) for entry in vocab if isinstance(entry, list)}
        known |= {token["content"] for token in record.get("added_tokens") or ()}
        for name in ("cls", "sep", "pad"):
            token = self.get(f"{name}_token")
            content = token["content"] if isinstance(token, dict) else token
            if content is not None and content not in known:
                raise InputError(
                    directory / "tokenizer.json",
                    f"it lacks the {name}_token {shown(content)}, which tokenizer_config.json or "
                    "special_tokens_map.json names",
                    "copy all its files again from one source",
                )

    def normalizer(self) -> dict[str, Any]:
        return {
            "lowercase": bool(self.get("do_lower_case", True)),
            "strip_accents": self.get("strip_accents"),
            "handle_chinese_chars": bool(self.get("tokenize_chinese_chars", True)),
        }


def _settings(directory: Path) -> _Settings:
    names = ("config.json", "special_tokens_map.json", "tokenizer_config.json")
    config, special, values = (read(directory / n) if (directory / n).is_file() else {} for n in names)
    for name, found in zip(names[1:], (special, values)):
        check(directory / name, found, BESIDE)
    named = values.get("tokenizer_class") or config.get("tokenizer_class")
    if named:
        return _Settings(_CLASSES.get(str(named).removesuffix("Fast"), ""), {**special, **values})
    return _Settings(_FAMILIES.get(str(config.get("model_type")), ""), {**special, **values})


def _older(directory: Path, settings: _Settings) -> tuple[Path, dict[str, Any]]:
    """Return one of the files of an older checkpoint's tokenizer, and what they say as `tokenizer.json` would."""
    more, merges = directory / "added_tokens.json", directory / "merges.txt"
    plain = not (more.is_file() and read(more)) and settings.get("do_basic_tokenize", True)
    model: dict[str, Any]
    if plain and settings.family == "bert" and (path := directory / "vocab.txt").is_file():
        vocab = {token: i for i, token in enumerate(_lines(path))}
        special = [settings.token(name, f"[{name.upper()}]") for name in ("cls", "sep", "unk", "pad", "mask")]
        model = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
        normalizer = {"type": "BertNormalizer", "clean_text": True, **settings.normalizer()}
        before: dict[str, Any] = {"type": "BertPreTokenizer"}
    elif plain and settings.family == "roberta" and merges.is_file() and (path := directory / "vocab.json").is_file():
        vocab = read(path, Ids())
        names = {"cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
        special = [settings.token(name, token) for name, token in names.items()]
        model = {"type": "BPE", "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
        model["merges"] = [line for line in _lines(merges) if line and not line.startswith("#version")]
        _check_merges(merges, model["merges"], vocab)
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


def _check_merges(path: Path, merges: list[str], vocab: dict[str, int]) -> None:
    """Refuse merges that were cut: they make all tokens of the vocabulary but bytes and some special ones."""
    made = {first + second for first, _, second in (line.partition(" ") for line in merges)}
    without = [token for token in vocab if len(token) > 1 and token not in made]
    if len(without) > _SPECIAL:
        raise InputError(
            path,
            f"{len(without):,} tokens of vocab.json are made by none of its {len(merges):,} lines, such as "
            f"{shown(without[-1])}",
            "it is cut, or belongs to another vocab.json: copy both again",
        )


_SPECIAL = 16
"""Tokens of RoBERTa's vocabularies that no merge makes, at most."""


def _lines(path: Path) -> list[str]:
    try:
        lines = read_bytes(path).decode("utf-8").split("\n")  # splitlines would also cut at U+2028
    except UnicodeDecodeError as error:
        raise InputError(path, f"it is no UTF-8: {error.reason} at byte {error.start}", AGAIN) from None
    return lines[:-1] if lines[-1] == "" else lines


def _kernels(table: wordpiece.WordPiece) -> Encode:
    @lru_cache(maxsize=4)
    def placed(backend: str) -> Any:
        return dispatch.place(table, backend)

    def encode(values: np.ndarray, offsets: np.ndarray, backend: str, trim: bool) -> tuple[np.ndarray, np.ndarray]:
        with loading:
            there = placed(backend)
        values, offsets = dispatch.place((values, offsets), backend)
        stream = wordpiece.wordpiece(values, offsets, there, special=False, backend=backend)
        return dispatch.fetch(stream.ids), dispatch.fetch(stream.offsets)

    return encode


@contextmanager
def _asked(path: Path, what: str) -> Iterator[None]:
    """Turn the errors of the package `tokenizers`, which are of no class of their own, into ours."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # what panics in Rust is no Exception
        raise InputError(path, f"{what}: {error}", "copy it again, or pip install -U tokenizers") from None


def _library(path: Path, record: dict[str, Any], limit: int | None, reason: Exception) -> Tokenizer:
    """Return a tokenizer that the package `tokenizers` runs."""
    try:
        import tokenizers
    except ImportError:
        raise InputError(
            path, f"the kernels cannot run it: {reason}", "pip install 'affectcore[encoder]', which can"
        ) from None
    with _asked(path, "tokenizers cannot read it"):
        library = tokenizers.Tokenizer.from_str(json.dumps(record))
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
        with _asked(path, "tokenizers cannot run it"):
            found = [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        ids = np.fromiter(chain.from_iterable(found), np.int32, int(counts.sum()))
        return ids, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    n_ids = 1 + max([*library.get_vocab(with_added_tokens=True).values(), *prefix, *suffix], default=0)
    return Tokenizer(tuple(prefix), tuple(suffix), limit, n_ids, "tokenizers", encode)
