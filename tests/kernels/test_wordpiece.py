"""Token ids are those of Hugging Face `tokenizers`, whatever the text."""

from __future__ import annotations

import copy
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import wordpiece_unicode
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import KINDS, ODD, awkward, made, nasty, real, tokenizer
from texts import data
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from affectcore.kernels.wordpiece import WordPiece, build_wordpiece, wordpiece
from affectcore.kernels.wordpiece.reference import _split
from affectcore.training.data import answers, goemotions

# 50000 for a thorough run.
STRINGS = int(os.environ.get("AFFECTCORE_TEST_STRINGS", "5000"))
DOCUMENTS = 25  # in one example: a call costs more than a short string


def ragged(docs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(d) for d in docs], dtype=np.int64)
    return np.frombuffer(b"".join(docs), np.uint8), offsets


def peer(source: dict[str, Any]) -> Tokenizer:
    out = Tokenizer.from_str(json.dumps(source))
    out.no_padding()
    out.no_truncation()
    return out


def tokens(docs: list[bytes], table: WordPiece, max_tokens: int | None = None, special: bool = True) -> list[list[int]]:
    stream = wordpiece(*ragged(docs), table, max_tokens, special)
    assert stream.ids.dtype == np.int32
    assert stream.offsets.dtype == np.int64
    ids, offsets = stream.ids.tolist(), stream.offsets.tolist()
    assert offsets[-1] == len(ids)
    return [ids[a:b] for a, b in zip(offsets[:-1], offsets[1:])]


def differing(
    docs: list[bytes], table: WordPiece, known: Tokenizer, max_tokens: int | None = None, special: bool = True
) -> list[str]:
    """Return the documents that get other ids than from `tokenizers`."""
    texts = [doc.decode("utf-8", "replace") for doc in docs]
    wanted = [e.ids for e in known.encode_batch_fast(texts, add_special_tokens=special)]
    found = tokens(docs, table, max_tokens, special)
    return [text for text, a, b in zip(texts, wanted, found, strict=True) if a != b]


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[WordPiece, Tokenizer]:
    return _pair(request.param)


@pytest.mark.slow
def test_unicode_data_is_what_tokenizers_does() -> None:
    assert wordpiece_unicode.render(wordpiece_unicode.probe()) == wordpiece_unicode.TARGET.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"lowercase": False}, {"clean_text": False, "handle_chinese_chars": False}])
def test_every_code_point(options: dict[str, bool]) -> None:
    # A vocabulary of single characters shows what each code point becomes; far planes hold nothing that is assigned.
    points = (*range(1, 0x20000), *range(0x2F700, 0x2FB00), *range(0xE0000, 0xE0200), 0xFFFFD, 0x10FFFF)
    chars = [chr(c) for c in points if not 0xD800 <= c < 0xE000]
    source = tokenizer(chars, chars, **options)
    assert differing([f"a{c}b".encode() for c in chars], build_wordpiece(source), peer(source)) == []


@pytest.mark.parametrize("strip", [None, False, True])
@pytest.mark.parametrize(("clean", "cjk", "lower"), [*itertools.product([False, True], repeat=3)])
def test_normalization_options(clean: bool, cjk: bool, strip: bool | None, lower: bool) -> None:
    options = {"clean_text": clean, "handle_chinese_chars": cjk, "strip_accents": strip, "lowercase": lower}
    table = build_wordpiece(tokenizer(["a"], ["a"], **options))
    normalizer, splitter = normalizers.BertNormalizer(**options), pre_tokenizers.BertPreTokenizer()
    # Marks of several classes, some of which the normalizer keeps and must put in order, among all else.
    rng = np.random.default_rng(0)
    marks = "\u1b44\u1baa\ua953\u302e\U00011446\U0001d165\U0001d16e\U0001e01d\u08dc\u0301\u0345\u034f\u0327"
    marks += "\0 !é中\U0001d15e"
    texts = ["".join(rng.choice(list(marks), rng.integers(1, 10))) for _ in range(300)]
    texts += [doc.decode("utf-8", "replace") for doc in nasty(700, 1)]
    for text in texts:
        wanted = [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
        assert list(_split(text, table)) == wanted, ascii(text)


@lru_cache(maxsize=8)
def _pair(kind: str) -> tuple[WordPiece, Tokenizer]:
    source = real() if kind == "real" else made(kind)
    return build_wordpiece(source), peer(source)


@given(
    docs=st.lists(awkward(), min_size=DOCUMENTS, max_size=DOCUMENTS),
    kind=st.sampled_from([*KINDS, "real"]),
    special=st.booleans(),
)
@settings(max_examples=max(1, STRINGS // DOCUMENTS))
def test_made_texts(docs: list[bytes], kind: str, special: bool) -> None:
    assert differing(docs, *_pair(kind), special=special) == []


def test_nasty_texts(pair: tuple[WordPiece, Tokenizer]) -> None:
    assert differing(nasty(STRINGS, 2), *pair) == []


def test_nasty_texts_with_a_real_vocabulary() -> None:
    source = real()
    assert differing(nasty(STRINGS, 3), build_wordpiece(source), peer(source)) == []


@pytest.mark.slow
@pytest.mark.parametrize("cased", [False, True])
def test_real_texts(cased: bool) -> None:
    source = real()
    source["normalizer"]["lowercase"] = not cased
    table, known = build_wordpiece(source), peer(source)
    folder = data("goemotions").parent
    texts = [text for split in ("train", "dev", "test") for text in goemotions(folder, split).texts]
    texts += answers(folder)
    assert len(texts) > 50_000
    assert differing([text.encode() for text in texts], table, known) == []


def test_every_key_of_a_real_vocabulary() -> None:
    source = real()
    keys = list(source["model"]["vocab"])
    docs = [key.removeprefix("##").encode() for key in keys] + [f"q{key.removeprefix('##')}".encode() for key in keys]
    assert differing(docs, build_wordpiece(source), peer(source)) == []


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("max_tokens", [2, 3, 4, 7, 20])
def test_truncation(pair: tuple[WordPiece, Tokenizer], max_tokens: int, special: bool) -> None:
    table, known = pair[0], copy.deepcopy(pair[1])
    known.enable_truncation(max_tokens)
    docs = [word.encode() * k for word in ODD for k in range(1, 6)] + nasty(500, 4) + [b"the good, the bad " * 50]
    assert differing(docs, table, known, max_tokens, special=special) == []
    assert max(map(len, tokens(docs, table, max_tokens, special))) == max_tokens


def test_truncation_needs_room_for_special_tokens() -> None:
    table = build_wordpiece(made("uncased"))
    with pytest.raises(ValueError, match="special tokens alone are 2"):
        tokens([b"x"], table, 1)
    assert tokens([b"x", b""], table, 0, False) == [[], []]


def test_long_words(pair: tuple[WordPiece, Tokenizer]) -> None:
    docs = [char.encode() * n for char in ("a", "é", "日", "1", "\ua953") for n in (*range(1, 30), 99, 100, 101, 300)]
    docs += [b"x " + b"able" * n + b"'s" for n in range(1, 30)]
    assert differing(docs, *pair) == []


def test_ends_of_documents_and_of_memory(pair: tuple[WordPiece, Tokenizer]) -> None:
    text = "Unaffable [MASK]s 日本 é!".encode()
    docs = [text[a:b] for a in range(len(text)) for b in range(a, len(text) + 1)]
    assert differing(docs, *pair) == []
    for doc in docs[:200]:  # each at the end of an array of its own
        assert tokens([doc], pair[0]) == tokens([doc, b""], pair[0])[:1]


def test_cache_of_rare_words_is_verified() -> None:
    source = made("uncased")
    table = build_wordpiece(source)
    rng = np.random.default_rng(5)
    # More words than the cache has room for, each several times.
    words = [bytes(rng.integers(97, 123, rng.integers(2, 24)).astype(np.uint8)) for _ in range(10_000)]
    docs = [b" ".join(words[k] for k in rng.integers(0, len(words), 200)) for _ in range(300)]
    assert differing(docs, table, peer(source)) == []


def test_offsets_need_not_start_at_zero(pair: tuple[WordPiece, Tokenizer]) -> None:
    docs = [b"skipped ", "good 😀 caf\u00e9".encode(), b"bad", b"rest"]
    values, offsets = ragged(docs)
    wanted = tokens(docs, pair[0])
    for backend in ("reference", "numba"):
        part = wordpiece(values, offsets[1:-1], pair[0], backend=backend)
        assert part.ids.tolist() == wanted[1] + wanted[2]
        assert part.offsets.tolist() == [0, len(wanted[1]), len(wanted[1]) + len(wanted[2])]


def test_blocks_and_threads_do_not_change_tokens(pair: tuple[WordPiece, Tokenizer]) -> None:
    docs = nasty(2000, 6)
    whole = tokens(docs, pair[0])
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda k: tokens(docs[k : k + 70], pair[0]), range(0, len(docs), 70))
    assert [ids for part in parts for ids in part] == whole


def test_post_processors() -> None:
    source = made("uncased")
    source["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    assert differing([b"good", b""], build_wordpiece(source), peer(source)) == []
    assert tokens([b""], build_wordpiece(source)) == [[2, 3]]
    source["post_processor"] = None
    assert differing([b"good", b""], build_wordpiece(source), peer(source)) == []
    assert tokens([b""], build_wordpiece(source)) == [[]]


def test_no_added_tokens() -> None:
    source = made("uncased")
    source["added_tokens"] = []
    assert differing([b"[MASK]", b"", b"a [CLS]b"], build_wordpiece(source), peer(source)) == []


def test_stripping_added_tokens() -> None:
    source = made("uncased")
    for token in source["added_tokens"]:
        token["lstrip"] = token["rstrip"] = True
    docs = [b"un [MASK] able", b"un\x0b\t[MASK]\xc2\xa0 [CLS]\nx", b"[MASK] "]
    assert differing(docs, build_wordpiece(source), peer(source)) == []


def test_truncation_and_padding_of_the_file_are_not_used() -> None:
    source = made("uncased")
    plain = tokens([b"good " * 20], build_wordpiece(source))
    source["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    assert tokens([b"good " * 20], build_wordpiece(source)) == plain


def _broken(path: list[Any], value: Any) -> dict[str, Any]:
    source = made("uncased")
    *inner, last = path
    part = source
    for key in inner:
        part = part[key]
    part[last] = value
    return source


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["model", "type"], "BPE", "model BPE"),
        (["model", "unk_token"], "<unk>", "lacks the tokenizer's unk_token '<unk>'"),
        (["model", "max_input_chars_per_word"], 0, "max_input_chars_per_word must be from 1"),
        (["model", "vocab", "good"], -1, "no int32"),
        (["normalizer"], None, "normalizer None"),
        (["normalizer", "type"], "NFC", "normalizer NFC"),
        (["pre_tokenizer", "type"], "Whitespace", "pre_tokenizer Whitespace"),
        (["post_processor", "type"], "RobertaProcessing", "post_processor RobertaProcessing"),
        (["post_processor", "single"], [], "the text 0 times"),
        (["post_processor", "single", 1, "Sequence", "id"], "B", "sequence B"),
        (["added_tokens", 4, "normalized"], True, r"'\[MASK\]' with normalized"),
        (["added_tokens", 4, "single_word"], True, r"'\[MASK\]' with single_word"),
        (["added_tokens", 4], {"content": " x", "lstrip": True}, "white space at its edges"),
        (["added_tokens", 4], {"content": "\ufffd"}, r"holds U\+FFFD"),
    ],
)
def test_unsupported_parts_are_named(path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_wordpiece(_broken(path, value))
