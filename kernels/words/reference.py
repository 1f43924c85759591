"""Plain Python on `str`: what the `words` ops mean; `__init__` documents them."""

from __future__ import annotations

import codecs
import re
import string

import numpy as np

from .tables import (
    ALL_CAPS,
    CONTRACTED_NOT,
    EMOJI_SHIFT,
    ENDS_SENTENCE,
    HASH_MULTIPLIER,
    HASH_SEED,
    LANE,
    SHOUTED,
    Alphabet,
    Normalized,
    Vocabulary,
    WordStream,
)

_MASK = (1 << 64) - 1


def _documents(values: np.ndarray, offsets: np.ndarray) -> list[bytes]:
    raw = values.tobytes()
    return [raw[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]


def _ragged(documents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(d) for d in documents], dtype=np.int64)
    return np.frombuffer(b"".join(documents), np.uint8), offsets


def _describe(char: str, alphabet: Alphabet) -> str:
    """Return the description of an emoji, or an empty string."""
    code = ord(char)
    number = int(alphabet.data[alphabet.page[code >> 8] + (code & 255)]) >> EMOJI_SHIFT
    return bytes(alphabet.text[alphabet.text_offsets[number] : alphabet.text_offsets[number + 1]]).decode()


def _spell_out(text: str, alphabet: Alphabet, corrected: bool) -> str:
    out = []
    after_space = True
    for char in text:
        description = _describe(char, alphabet)
        if description:
            out.append(("" if after_space else " ") + description + (" " if corrected else ""))
        elif char == "\N{KELVIN SIGN}":
            out.append("K")
        elif corrected and char == "\N{RIGHT SINGLE QUOTATION MARK}":
            out.append("'")
        elif not (corrected and char == "\N{VARIATION SELECTOR-16}"):
            out.append(char)
        after_space = char == " "
    return "".join(out)


def normalize(values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, corrected: bool = False) -> Normalized:
    """See `affectcore.kernels.words.normalize`."""
    out, n_invalid, n_words = [], [], []
    for document in _documents(values, offsets):
        invalid = 0

        def replace(error: UnicodeError) -> tuple[str, int]:
            nonlocal invalid
            assert isinstance(error, UnicodeDecodeError)
            invalid += error.end - error.start
            return "\ufffd", error.end

        codecs.register_error("affectcore.replace", replace)
        text = document.decode("utf-8", "affectcore.replace")
        out.append(_spell_out(text, alphabet, corrected).encode())
        n_invalid.append(invalid)
        n_words.append(-1 if out[-1] == document else len(text.split()))
    if all(n < 0 for n in n_words):
        new_values, new_offsets = values, offsets
    else:
        new_values, new_offsets = _ragged(out)
    return Normalized(new_values, new_offsets, np.array(n_invalid, np.int32), np.array(n_words, np.int32))


def _hash(word: bytes) -> int:
    h = HASH_SEED ^ (len(word) * HASH_MULTIPLIER & _MASK)
    for k in range(0, len(word), LANE):
        h = (h ^ int.from_bytes(word[k : k + LANE], "little")) * HASH_MULTIPLIER & _MASK
        h ^= h >> 32
    return h


def _keys(vocabulary: Vocabulary) -> dict[bytes, int]:
    rows = zip(vocabulary.words, vocabulary.ids)
    return {row[:3].astype("<u8").tobytes()[: int(row[3])]: int(number) for row, number in rows if row[3]}


def words(
    values: np.ndarray, offsets: np.ndarray, alphabet: Alphabet, vocabulary: Vocabulary, spans: bool = True
) -> WordStream:
    """See `affectcore.kernels.words.words`."""
    keys = _keys(vocabulary)
    counts, ids, flags, hashes, starts, lengths = [0], [], [], [], [], []
    for base, document in zip(offsets[:-1].tolist(), _documents(values, offsets)):
        text = document.decode()
        for match in re.finditer(r"\S+", text):
            token, at = match[0], match.start()
            word = token.strip(string.punctuation)
            tail = token[len(token.rstrip(string.punctuation)) :]
            if len(word) <= 2:
                word = token
            else:
                at += len(token) - len(token.lstrip(string.punctuation))
            flag = ALL_CAPS if word.isupper() else 0
            flag |= SHOUTED if word.isupper() and sum(map(str.isupper, word)) > 1 else 0
            flag |= CONTRACTED_NOT if "n't" in word.lower() else 0
            flag |= ENDS_SENTENCE if set(tail) & set(".!?") else 0
            ids.append(keys.get(word.lower().encode(), 0))
            flags.append(flag)
            hashes.append(_hash(word.encode().lower()))
            starts.append(base + len(text[:at].encode()))
            lengths.append(len(word.encode()))
        counts.append(len(ids))
    if not spans:
        hashes, starts, lengths = [], [], []
    return WordStream(
        np.array(counts, np.int64),
        np.array(ids, np.int32),
        np.array(flags, np.uint8),
        np.array(hashes, np.uint64),
        np.array(starts, np.int64),
        np.array(lengths, np.int32),
    )
