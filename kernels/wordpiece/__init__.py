"""Op family `wordpiece`: UTF-8 bytes to token ids of a BERT-type tokenizer.

Ragged text is `(values, offsets)`: `values` uint8 (n_bytes,), `offsets` int64 (n + 1,), document i being
`values[offsets[i]:offsets[i + 1]]`. Offsets need not start at 0, so sliced Arrow buffers map onto it without a copy,
and segments of documents can be passed as documents.

wordpiece
    What Hugging Face `tokenizers` (0.22 and 0.23) does with the same `tokenizer.json`, token for token:
    1. Invalid UTF-8 becomes U+FFFD, one for each maximal subpart (Unicode 16, section 3.9).
    2. Added tokens ("[MASK]") are cut out of the raw text: leftmost first, the longest of those that start there.
    3. The rest is normalized (BertNormalizer): control characters dropped and white space made blank (`clean_text`),
       blanks around CJK ideographs (`handle_chinese_chars`), canonical decomposition with canonical order, then
       nonspacing marks dropped (`strip_accents`), lower case by character (`lowercase`).
    4. It is split at white space and around punctuation (BertPreTokenizer).
    5. A word becomes the longest vocabulary entry that it starts with, then the longest continuation ("##ing") that
       follows, and so on (Schuster & Nakajima 2012); the unknown token if it cannot be cut up or has too many
       characters.
    6. A document keeps its first `max_tokens` tokens, special ones included; these are put before and behind it.
    What a character becomes depends on the character alone, but for the order of combining marks: one two-stage table.
    The properties come from `tokenizers` itself, code point by code point (`unicode_data.py`), since its crates follow
    several versions of Unicode.

    The hash of a key in zero-padded little-endian 64-bit lanes x_0..x_k is h = HASH_SEED, or CONTINUATION_SEED for what
    continues a word; then for each lane h = (h ^ x) * M, h ^= h >> 32, modulo 2^64. Keys stand in an open-addressing
    table; a hit is verified on its bytes.
    Reads n_bytes; writes 4 bytes a token.

Tolerance: bit-exact on every backend.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import TokenStream, WordPiece, build_wordpiece

__all__ = ["TokenStream", "WordPiece", "build_wordpiece", "wordpiece"]


def wordpiece(
    values: Any,
    offsets: Any,
    table: WordPiece,
    max_tokens: int | None = None,
    special: bool = True,
    *,
    backend: str = "auto",
) -> TokenStream:
    """Turn text into token ids (see the module).

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents; it need not be valid UTF-8.
    offsets
        int64 (n + 1,): document bounds.
    table
        Tables from `build_wordpiece`.
    max_tokens
        Most tokens of a document, special ones included; None: no limit.
    special
        Put the special tokens of the tokenizer's post-processor ("[CLS]", "[SEP]") before and behind each document.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    TokenStream
        Tokens of all documents, end to end.

    Raises
    ------
    ValueError
        If `max_tokens` leaves no room for the special tokens.
    """
    n_special = len(table.prefix) + len(table.suffix) if special else 0
    if max_tokens is not None and max_tokens < n_special:
        raise ValueError(f"max_tokens is {max_tokens}, but the special tokens alone are {n_special}")
    return implementation("wordpiece", backend, values, offsets).wordpiece(values, offsets, table, max_tokens, special)  # type: ignore[no-any-return]
