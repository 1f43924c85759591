"""Op family `words`: UTF-8 bytes to a stream of words with vocabulary ids and flags.

Ragged text is `(values, offsets)`: `values` uint8 (n_bytes,), `offsets` int64 (n + 1,), document i being
`values[offsets[i]:offsets[i + 1]]`. Offsets need not start at 0, so sliced Arrow buffers map onto it without a copy.

normalize
    Repair invalid UTF-8 and spell out emoji. Invalid bytes become U+FFFD, one for each maximal subpart (Unicode 16,
    section 3.9; what `bytes.decode("utf-8", "replace")` does). Each emoji of the alphabet becomes its description, with
    a space before it unless a space or the start of the document is there (vaderSentiment 3.3.2's rule: what follows an
    emoji directly is glued to its description). U+212A KELVIN SIGN becomes "K", the one character outside ASCII whose
    lower case is an ASCII letter; after this, lower-casing ASCII bytes is enough to look words up. With `corrected`,
    each description is followed by a space too, U+2019 becomes an apostrophe and U+FE0F is dropped.
    Moves n_bytes when nothing changes, about 3 n_bytes else.

words
    Split at white space (`str.split`: all Unicode white space), strip ASCII punctuation from the edges of a word if
    more than two characters remain, and look the lower-cased word up: one pass over the bytes, one slot of a perfect
    hash per word (hash and displace: Belazzougui, Botelho & Dietzfelbinger 2009), a hit verified on its bytes.
    The hash of a word of `length` bytes in zero-padded little-endian 64-bit lanes x_0..x_k (ASCII letters lower-cased)
    is h = SEED ^ (length * M); then for each lane h = (h ^ x) * M, h ^= h >> 32, modulo 2^64.
    Reads n_bytes; writes 5 bytes a word, and 20 more with spans. Text must be valid UTF-8: run `normalize` first.

Tolerance: bit-exact on every backend.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import (
    ALL_CAPS,
    CONTRACTED_NOT,
    ENDS_SENTENCE,
    SHOUTED,
    Alphabet,
    Normalized,
    Vocabulary,
    WordStream,
    build_alphabet,
    build_vocabulary,
)

__all__ = [
    "ALL_CAPS",
    "CONTRACTED_NOT",
    "ENDS_SENTENCE",
    "SHOUTED",
    "Alphabet",
    "Normalized",
    "Vocabulary",
    "WordStream",
    "build_alphabet",
    "build_vocabulary",
    "normalize",
    "words",
]


def normalize(
    values: Any, offsets: Any, alphabet: Alphabet, corrected: bool = False, *, backend: str = "auto"
) -> Normalized:
    """Repair invalid UTF-8 and spell out emoji (see the module).

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents.
    offsets
        int64 (n + 1,): document bounds.
    alphabet
        Tables from `build_alphabet`.
    corrected
        Undo vaderSentiment's misfires around emoji and curly apostrophes.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    Normalized
        `values`, `offsets` (the inputs themselves if nothing changed), `n_invalid` int32 (n,), `n_words` int32 (n,).
    """
    return implementation("words", backend, values, offsets).normalize(values, offsets, alphabet, corrected)  # type: ignore[no-any-return]


def words(
    values: Any, offsets: Any, alphabet: Alphabet, vocabulary: Vocabulary, spans: bool = True, *, backend: str = "auto"
) -> WordStream:
    """Split valid UTF-8 into words and look them up (see the module).

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents, from `normalize`.
    offsets
        int64 (n + 1,): document bounds.
    alphabet
        Tables from `build_alphabet`.
    vocabulary
        Tables from `build_vocabulary`.
    spans
        Also return the hash, start and length of every word.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    WordStream
        Words of all documents, end to end.
    """
    return implementation("words", backend, values, offsets).words(values, offsets, alphabet, vocabulary, spans)  # type: ignore[no-any-return]
