"""Tokenizers to test with: made ones, small and awkward, and a real one where it is installed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import strategies as st
from texts import documents

from affectcore.models.base import EMBEDDED

WORDS = (
    "the of and to in is it you that he was for on are with as his they at be this have from or had by hot word but "
    "what some we can out other were all there when up use your how said an each she hello world good bad happy un "
    "café 日 本 中 привет телефонографический ß ı ﬁ ά ω 한 각 ᄒ ᅡ ᆫ ा क naive"
).split()
PIECES = (
    "able aff ing ed ly s er est ness ment tion less un re ö é ло ива 国 ᅡ ᆫ ᆨ ा ꥓ 𑑆 bcdefghijklmnopqrstuvwxyzabcdefghijk"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer(
    words: list[str],
    pieces: list[str],
    added: list[str] | None = None,
    prefix: str = "##",
    max_chars: int = 100,
    **normalizer: Any,
) -> dict[str, Any]:
    """Return the `tokenizer.json` of a BERT-type tokenizer."""
    vocab = dict.fromkeys([*SPECIAL, *words, *(prefix + piece for piece in pieces)])
    vocab = {key: number for number, key in enumerate(vocab)}
    tokens = [*SPECIAL, *(added or ())]
    options = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    new = {key: len(vocab) + k for k, key in enumerate(key for key in tokens if key not in vocab)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": {**vocab, **new}[t], "content": t, "special": True, **flags} for t in tokens],
        "normalizer": {"type": "BertNormalizer", **options, **normalizer},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": max_chars,
            "vocab": vocab,
        },
    }


_LETTERS = [chr(c) for c in range(33, 127)]


def made(kind: str) -> dict[str, Any]:
    """Return a made tokenizer: `uncased`, `cased` (keeps what it can), or `odd` (unusual in all other ways)."""
    if kind == "uncased":
        return tokenizer([*_LETTERS, *WORDS], [*"abcdefghijklmnopqrstuvwxyz0123456789", *PIECES[:-1]])
    if kind == "cased":
        return tokenizer(
            [*_LETTERS, *WORDS, *(word.title() for word in WORDS), "Abcdefghijklmnopqrstuvwxyzabcdefghijk"],
            [*_LETTERS, *PIECES, "\0", "\ufffd"],
            added=["[MASK]s", "[M", "ing", "日本", "é!"],
            clean_text=False,
            handle_chinese_chars=False,
            strip_accents=False,
            lowercase=False,
        )
    return tokenizer(
        [*"abcdefghijklmn", *WORDS],
        ["abc", "n", "ing", *"abcdefgh", "꥓", "𑑆", "᮪", "𝅥"],
        added=["<a>", "<a><b>", "[SEP][SEP]"],
        prefix="_",
        max_chars=7,
        strip_accents=True,
        lowercase=False,
    )


KINDS = ("uncased", "cased", "odd")


def real() -> dict[str, Any]:
    """Return the embedded model's tokenizer: all-MiniLM-L6-v2's, which is BERT's uncased vocabulary."""
    return json.loads((EMBEDDED / "static" / "tokenizer.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


ODD = (
    "[CLS] [SEP] [MASK] [MASK]s [mask] [M <a> <a><b> [[ ## ##s _ing 日本 中文 한국어 각 क़ İstanbul Straße ﬁne Ǆ naïve "
    "e\u0301 é! \u1b44\U0001d165\u1baa \U00011446\u1b44 \ua953\U00011446 \u0f71\u0f72 ≠ ≮ \u037e \u1fef \u2000 "
    "a\u034f\u1baa\u1b44 \ufffd \0 \x7f \x85 \u200b \xad \u2028 \ufeff \ue000 豈 \U0002f800 \U0001d15e 😀 ’ “x” — … "
    "unaffable abcdefghijklmnopqrstuvwxyzabcdefghijk Abcdefghijklmnopqrstuvwxyzabcdefghijk "
    "телефонографический"
).split(" ")


def awkward() -> st.SearchStrategy[bytes]:
    """A document that reaches the rules of tokenization: odd words glued to others, and texts of all kinds."""
    glued = st.lists(
        st.one_of(
            st.sampled_from(ODD),
            st.sampled_from(ODD + WORDS + PIECES),
            st.sampled_from([*" \t\n-'.,[]#"]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
            st.text("abcdefghijklmnop ABCé\u0301", max_size=30),
        ),
        max_size=12,
    ).map(lambda parts: "".join(parts).encode())
    cut = st.builds(lambda text, k: text[k % (len(text) + 1) :], glued, st.integers(0, 60))
    broken = st.builds(bytes.__add__, cut, st.binary(max_size=5))
    return st.one_of(glued, glued, documents(), broken)


def nasty(n: int, seed: int) -> list[bytes]:
    """Return `n` seeded documents made of ranges of code points that matter, odd words and stray bytes."""
    rng = np.random.default_rng(seed)
    pools = [(32, 127), (32, 127), (0, 0x250), (0x300, 0x370), (0x370, 0x600), (0x900, 0x1200), (0x1A00, 0x2100)]
    pools += [(0x3000, 0xA000), (0xA000, 0xB000), (0xAC00, 0xD7A4), (0xF900, 0x10000), (0x10000, 0x11800)]
    pools += [(0x16000, 0x1F000), (0x1D100, 0x1D200), (0x2F800, 0x2FA20), (0, 0xD800), (0xE000, 0x110000)]
    out = []
    for _ in range(n):
        parts = []
        for _ in range(rng.integers(1, 6)):
            kind = rng.integers(0, 8)
            if kind < 5:
                lo, hi = pools[rng.integers(len(pools))]
                parts.append("".join(map(chr, rng.integers(lo, hi, rng.integers(1, 8)))).encode("utf-8", "ignore"))
            elif kind < 7:
                parts.append(ODD[rng.integers(len(ODD))].encode())
            else:
                parts.append(rng.bytes(rng.integers(1, 5)))
            parts.append(b" " if rng.random() < 0.3 else b"")
        out.append(b"".join(parts))
    return out
