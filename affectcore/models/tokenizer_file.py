"""What `tokenizer.json` and the files beside it may hold: checked before the kernels or `tokenizers` see any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affectcore.errors import InputError
from affectcore.kernels import wordpiece
from affectcore.models.schema import (
    AGAIN,
    Each,
    Either,
    Flag,
    Free,
    Ids,
    Map,
    Maybe,
    Number,
    Record,
    Rule,
    Text,
    Whole,
    check,
    meant,
    read,
    refuse,
    shown,
)

__all__ = ["BESIDE", "build", "check_tokenizer", "read_own"]

_TEXT, _FLAG, _ID = Text(), Flag(), Whole(0)
_PAIR = Each(Either((_TEXT, _ID)), 2, 2)
_PROCESSORS: dict[str, Rule] = {
    "TemplateProcessing": Record(
        {
            "single": Each(
                Either(
                    (
                        Record({"SpecialToken": Record({"id": _TEXT}, more=True)}),
                        Record({"Sequence": Record({"id": Text(("A", "B"))}, more=True)}),
                    )
                )
            ),
            "special_tokens": Map(Record({"ids": Each(_ID), "tokens": Each(_TEXT)}, more=True)),
        },
        more=True,
    ),
    "BertProcessing": Record({"sep": _PAIR, "cls": _PAIR}, more=True),
    "RobertaProcessing": Record({"sep": _PAIR, "cls": _PAIR}, more=True),
}
_MODELS: dict[str, Rule] = {
    "WordPiece": Record(
        {
            "vocab": Ids(),
            "unk_token": _TEXT,
            "continuing_subword_prefix": _TEXT,
            "max_input_chars_per_word": Whole(1),
        },
        more=True,
    ),
    # A tokenizer that drops merges at random gives other scores each time.
    "BPE": Record({"vocab": Ids()}, {"dropout": Maybe(Number(0, 0))}, more=True),
    "WordLevel": Record({"vocab": Ids()}, more=True),
    "Unigram": Record({"vocab": Each(Each(Either((_TEXT, Number())), 2, 2), least=1)}, more=True),
}
_OTHER = Record({"vocab": Free()}, more=True)
_PART = Maybe(Record({"type": _TEXT}, more=True))
_FILE = Record(
    {"model": Record({}, {"type": Maybe(_TEXT)}, more=True)},
    {
        "added_tokens": Maybe(
            Each(
                Record(
                    {"content": _TEXT, "id": _ID},
                    dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), _FLAG),
                    more=True,
                )
            )
        ),
        **dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor"), _PART),
    },
    more=True,
)
_NORMALIZER = Record(
    dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), _FLAG),
    {"strip_accents": Maybe(_FLAG)},
    more=True,
)


def check_tokenizer(path: Path, record: dict[str, Any]) -> None:
    """Check what a `tokenizer.json` says, as far as it is read here, whatever runs it."""
    check(path, record, _FILE)
    model, normalizer = record["model"], record.get("normalizer") or {}
    kind = model.get("type") or ("WordPiece" if "max_input_chars_per_word" in model else "")
    check(path, model, _MODELS.get(kind, _OTHER), "model")
    if normalizer.get("type") == "BertNormalizer":
        check(path, normalizer, _NORMALIZER, "normalizer")
    processor = record.get("post_processor") or {}
    if processor.get("type") in _PROCESSORS:
        check(path, processor, _PROCESSORS[processor["type"]], "post_processor")
        _check_special(path, record, processor)


def _check_special(path: Path, record: dict[str, Any], processor: dict[str, Any]) -> None:
    """Check that the tokens that are put around a text have the ids that they have elsewhere."""
    vocab = record["model"]["vocab"]
    known = {token["content"]: token["id"] for token in record.get("added_tokens") or ()}
    known |= vocab if isinstance(vocab, dict) else {}
    if processor["type"] != "TemplateProcessing":
        for name in ("sep", "cls"):
            token, number = processor[name]
            if known.get(token, number) != number or not isinstance(number, int):
                refuse(
                    path, f"is {shown(number)}: the id of {token!r} is {known.get(token)}", "post_processor", name, 1
                )
        return
    for name, token in processor["special_tokens"].items():
        place = ("post_processor", "special_tokens", name, "ids")
        if len(token["ids"]) != len(token["tokens"]):
            refuse(path, f"has {len(token['ids'])} ids for {len(token['tokens'])} tokens", *place)
        for at, (content, number) in enumerate(zip(token["tokens"], token["ids"])):
            if known.get(content, number) != number:
                refuse(path, f"is {number}: the id of {shown(content)} is {known[content]}", *place, at)
    for at, piece in enumerate(processor["single"]):
        name = piece.get("SpecialToken", {}).get("id")
        if name is not None and name not in processor["special_tokens"]:
            hint = meant(name, list(processor["special_tokens"]))
            refuse(
                path,
                f"is {shown(name)}: special_tokens has none of that name{hint}",
                *("post_processor", "single", at, "SpecialToken", "id"),
            )


def read_own(path: Path) -> tuple[dict[str, Any], int]:
    """Read the tokenizer of one of our own models: a WordPiece tokenizer, whose ids are 0 to n - 1.

    Returns
    -------
    dict, int
        What the file says, and n.
    """
    record = read(path)
    check_tokenizer(path, record)
    vocab = record["model"]["vocab"]
    if record["model"].get("type", "WordPiece") != "WordPiece":
        refuse(path, f"is {shown(record['model']['type'])}: it must be 'WordPiece'", "model", "type")
    added = {token["content"] for token in record.get("added_tokens") or ()} - vocab.keys() - {""}  # behind the others
    if max(vocab.values()) != len(vocab) - 1:
        ids = set(vocab.values())
        missing = next(i for i in range(len(ids)) if i not in ids)
        refuse(path, f"lacks the token of id {missing:,}", "model", "vocab")
    return record, len(vocab) + len(added)


def build(path: Path, record: dict[str, Any]) -> wordpiece.WordPiece:
    """Build the kernels' tables of what `read_own` read.

    Raises
    ------
    InputError
        If the kernels cannot run it.
    """
    try:
        return wordpiece.build_wordpiece(record)
    except ValueError as error:
        raise InputError(path, f"the kernels cannot run it: {error}", AGAIN) from None


_TOKEN = Maybe(
    Either(
        (
            _TEXT,
            Record(
                {"content": _TEXT}, dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), _FLAG), more=True
            ),
        )
    )
)
BESIDE = Record(
    {},
    {
        "tokenizer_class": Maybe(_TEXT),
        "model_max_length": Maybe(Number(1)),
        **dict.fromkeys(
            ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "do_basic_tokenize"),
            Maybe(_FLAG),
        ),
        **{f"{name}_token": _TOKEN for name in ("cls", "sep", "unk", "pad", "mask")},
    },
    more=True,
)
"""What `tokenizer_config.json` and `special_tokens_map.json` may hold of what is read of them."""
