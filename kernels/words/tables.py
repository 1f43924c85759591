"""Look-up tables of the `words` ops: character classes, emoji descriptions, and a perfect-hash vocabulary.

Everything here is plain arrays, built once per process and passed to the kernels as arguments.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Classes of a code point, as bits of `Alphabet.data`; the emoji number sits above them.
SPACE, PUNCT, UPPER, LOWER = 1, 2, 4, 8
EMOJI_SHIFT = 8

# Flags of a word.
ALL_CAPS = 1  # at least one upper-case letter and no lower- or title-case one (str.isupper)
CONTRACTED_NOT = 2  # contains "n't" in any case
ENDS_SENTENCE = 4  # its trailing punctuation holds a full stop, exclamation or question mark
SHOUTED = 8  # all caps, with two upper-case letters at least ("I" and "A" are all caps, but nobody shouts)

LANE = 8
MAX_KEY = 3 * LANE  # longest vocabulary key in bytes
HASH_SEED = 0x9E3779B97F4A7C15
HASH_MULTIPLIER = 0xD6E8FEB86659FD93

_PAGES = 0x110000 >> 8
# Every cased code point, every white-space character and every emoji of the lexicons lies below this (Unicode 16).
_CASED_END = 0x20000


class Alphabet(NamedTuple):
    """Classes of all code points in a two-stage table, and the descriptions that replace emoji.

    `data[page[c >> 8] + (c & 255)]` holds the class bits of code point `c`, and from bit 8 on its emoji number
    (0: none). Page 0 comes first, so `data[c]` serves ASCII directly.
    """

    page: Any  # int32 (4352,)
    data: Any  # int32 (n_pages * 256,)
    text: Any  # uint8: the descriptions, end to end
    text_offsets: Any  # int32 (n_emoji + 2,): number e stands at text[text_offsets[e]:text_offsets[e + 1]]


class Vocabulary(NamedTuple):
    """Words by number, in a perfect hash (hash and displace): one slot to look at per word, verified on its bytes.

    Row k of `words` and `ids` is key k; row 0 is no key at all.
    """

    displacement: Any  # int32 (n_buckets,), a power of two
    slots: Any  # uint64 (n_slots,), a power of two: (upper hash half << 32) | row, 0 if free
    words: Any  # uint64 (n_keys + 1, 4): lower-cased bytes in three zero-padded little-endian lanes, then the length
    ids: Any  # int32 (n_keys + 1,): word id of each key; several keys may share one


class WordStream(NamedTuple):
    """The words of n documents, end to end. `hash`, `start` and `length` are empty unless spans were asked for."""

    offsets: Any  # int64 (n + 1,): document i owns words offsets[i]:offsets[i + 1]
    ids: Any  # int32 (n_words,): vocabulary id, 0 if unknown
    flags: Any  # uint8 (n_words,)
    hash: Any  # uint64 (n_words,): of the ASCII-lower-cased bytes
    start: Any  # int64 (n_words,): first byte in `values`
    length: Any  # int32 (n_words,): bytes


class Normalized(NamedTuple):
    """Valid UTF-8 with emoji spelled out. `values` and `offsets` are the inputs themselves when nothing changed."""

    values: Any  # uint8
    offsets: Any  # int64 (n + 1,)
    n_invalid: Any  # int32 (n,): bytes that were not valid UTF-8
    n_words: Any  # int32 (n,): white-space-separated words of the original text; -1 where the text is unchanged


def build_alphabet(emoji: Mapping[str, str]) -> Alphabet:
    """Build the character tables from the running Python's Unicode data.

    Parameters
    ----------
    emoji
        Description of each emoji. Entries of more than one code point are left out, as VADER never matches them.
    """
    chars = np.arange(_CASED_END, dtype=np.uint32).view("U1")  # NumPy asks Python's own Unicode data
    classes = np.zeros(_PAGES << 8, np.int32)
    upper = np.char.isupper(chars)
    # An upper-case letter alone is titled, too; only title-case characters (Lt) are meant.
    lower = np.char.islower(chars) | (np.char.istitle(chars) & ~upper)
    for bit, found in ((SPACE, np.char.isspace(chars)), (UPPER, upper), (LOWER, lower)):
        classes[:_CASED_END][found] |= bit
    classes[[ord(c) for c in string.punctuation]] |= PUNCT

    texts = [b""]
    for char, description in emoji.items():
        if len(char) == 1:
            classes[ord(char)] |= len(texts) << EMOJI_SHIFT
            texts.append(description.encode())
    pages: dict[bytes, int] = {}
    page = [pages.setdefault(block.tobytes(), len(pages)) for block in classes.reshape(_PAGES, 256)]
    return Alphabet(
        page=np.array(page, np.int32) * 256,
        data=np.frombuffer(b"".join(pages), np.int32),
        text=np.frombuffer(b"".join(texts) or b"\0", np.uint8),
        text_offsets=np.cumsum([0] + [len(t) for t in texts], dtype=np.int32),
    )


def pack(words: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lanes, uint64 (n, 3), and lengths, int32 (n,), of lower-cased words of at most 24 bytes."""
    length = np.array([len(w) for w in words], np.int32)
    if len(words) and length.max() > MAX_KEY:
        long = words[int(length.argmax())]
        raise ValueError(f"vocabulary word {long!r} has {len(long)} bytes; the limit is {MAX_KEY}")
    padded = b"".join(w.ljust(MAX_KEY, b"\0") for w in words)
    return np.frombuffer(padded, "<u8").reshape(-1, 3).astype(np.uint64), length


def hash_lanes(lanes: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Hash packed words, uint64 (n, 3) and int32 (n,), as the kernels do; returns uint64 (n,)."""
    m = np.uint64(HASH_MULTIPLIER)
    h = np.uint64(HASH_SEED) ^ (length.astype(np.uint64) * m)
    for k in range(lanes.shape[1]):
        mixed = (h ^ lanes[:, k]) * m
        h = np.where(length > k * LANE, mixed ^ (mixed >> np.uint64(32)), h)
    return h


def build_vocabulary(words: Sequence[bytes], ids: Sequence[int] | None = None) -> Vocabulary:
    """Build the perfect hash of distinct lower-cased words.

    Buckets are placed largest first; each tries displacements until all its words fall on free slots.

    Parameters
    ----------
    words
        Keys of at most 24 bytes.
    ids
        Word id of each key, from 1 on; default: 1, 2, 3, ... A key can be another spelling of a word.

    Raises
    ------
    ValueError
        If a word is empty, longer than 24 bytes, or listed twice.
    """
    if len(set(words)) != len(words) or b"" in words:
        raise ValueError("vocabulary words must be distinct and not empty")
    lanes, length = pack(words)
    hashes = hash_lanes(lanes, length)
    n_slots = max(16, 1 << int(2 * len(words) - 1).bit_length() if words else 16)
    n_buckets = n_slots // 4
    bucket = (hashes >> np.uint64(64 - (n_buckets - 1).bit_length())).astype(np.int64)
    first = (hashes & np.uint64(n_slots - 1)).astype(np.int64).tolist()
    step = ((hashes >> np.uint64(20)) & np.uint64(n_slots - 1) | np.uint64(1)).astype(np.int64).tolist()
    members: list[list[int]] = [[] for _ in range(n_buckets)]
    for k, b in enumerate(bucket.tolist()):
        members[b].append(k)
    displacement = np.zeros(n_buckets, np.int32)
    slots = np.zeros(n_slots, np.uint64)
    taken = bytearray(n_slots)
    for b in sorted(range(n_buckets), key=lambda b: -len(members[b])):
        if not members[b]:
            break
        for d in range(1 << 16):
            spots = [(first[k] + d * step[k]) & (n_slots - 1) for k in members[b]]
            if len(set(spots)) == len(spots) and not any(taken[s] for s in spots):
                break
        else:
            raise ValueError("no perfect hash found for this vocabulary")
        displacement[b] = d
        for k, s in zip(members[b], spots):
            taken[s] = 1
            slots[s] = (hashes[k] >> np.uint64(32) << np.uint64(32)) | np.uint64(k + 1)
    return Vocabulary(
        displacement=displacement,
        slots=slots,
        # Id 0 has length 0, which no word of a text has.
        words=np.concatenate([np.zeros((1, 4), np.uint64), np.column_stack([lanes, length.astype(np.uint64)])]),
        ids=np.array([0, *(range(1, len(words) + 1) if ids is None else ids)], np.int32),
    )
