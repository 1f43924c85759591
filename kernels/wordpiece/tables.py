"""Look-up tables of the `wordpiece` op: what each code point becomes, and the vocabulary as a hash table.

Everything here is plain arrays, built once per process and passed to the kernels as arguments.
"""

from __future__ import annotations

import base64
import string
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .unicode_data import DATA

# What a code point becomes, in the low bits of an entry.
ORDINARY = 0  # itself, part of a word
SPACE = 1  # the end of a word
DROP = 2  # nothing, as if it were not there
ISOLATED = 3  # itself, a word of its own
BARRIER = 4  # nothing, but combining marks do not move across it
SIMPLE = 5  # another character, part of a word, which the entry holds
SEQUENCE = 6  # several entries, at a place in `sequences` that the entry holds
KIND_BITS = 3
CLASS_SHIFT = 3  # eight bits: the canonical combining class of an ORDINARY character
VALUE_SHIFT = 11  # a code point, or a place in `sequences`

# Places in `WordPiece.settings`.
UNKNOWN, MAX_CHARS, LOWERCASE = range(3)

LANE = 8
HASH_SEED = 0x9E3779B97F4A7C15  # of words and of pieces that start one
CONTINUATION_SEED = 0xC2B2AE3D27D4EB4F  # of pieces that go on
HASH_MULTIPLIER = 0xD6E8FEB86659FD93
CONTINUATION = 1 << 16  # in a row's first element, above the length
BEGINNING_SHIFT = 40

_LARGEST = 1 << 30  # bytes of the table of a vocabulary
_END = 0x110000
_REPLACEMENT = 0xFFFD
_HANGUL, _HANGUL_END = 0xAC00, 0xD7A4
_HANGUL_L, _HANGUL_V, _HANGUL_T = 0x1100, 0x1161, 0x11A7


class TokenStream(NamedTuple):
    """The tokens of n documents, end to end."""

    ids: Any  # int32 (n_tokens,)
    offsets: Any  # int64 (n + 1,): document i owns ids[offsets[i]:offsets[i + 1]]


class WordPiece(NamedTuple):
    """A BERT-type tokenizer.

    The entry of code point c, `data[page[c >> 8] + (c & 255)]`, says what normalization and splitting make of it. The
    vocabulary is an open-addressing hash table: the key with hash h stands in the first slots from h on.
    """

    page: Any  # int32 (4352,)
    data: Any  # int32 (n_pages * 256,); page 0 comes first, so data[c] serves ASCII directly
    sequences: Any  # int32: for each sequence its length, then its entries, which hold the code points they stand for
    slots: Any  # uint64 (n_slots,), a power of two: (upper hash half << 32) | row, 0 if free
    rows: Any  # uint64 (n_keys + 1, 4, 8, ...): (id << 32) | CONTINUATION or 0 | length, then zero-padded lanes
    beginnings: Any  # uint8, a power of two: bit h >> 40 is set if a key begins with bytes of hash h (Bloom 1970)
    ascii_ids: Any  # int32 (128,): the id of each ASCII character as a word of its own
    added: Any  # uint8: the added tokens' bytes, end to end, the longest token first
    added_offsets: Any  # int32 (n_added + 1,)
    added_ids: Any  # int32 (n_added,)
    prefix: Any  # int32: special tokens before a document
    suffix: Any  # int32: special tokens behind it
    settings: Any  # int32 (3,): see UNKNOWN, MAX_CHARS, LOWERCASE


class _Unicode(NamedTuple):
    """Properties of all code points, as bool or int32 arrays of 0x110000, and the mappings that are not 1 to 1."""

    control: np.ndarray  # what clean_text drops
    white: np.ndarray
    punctuation: np.ndarray
    ideograph: np.ndarray  # what handle_chinese_chars sets apart
    nonspacing: np.ndarray  # what strip_accents drops
    combining: np.ndarray  # canonical combining class
    nfd: dict[int, tuple[int, ...]]  # canonical decomposition, without Hangul syllables
    lower: dict[int, tuple[int, ...]]


@lru_cache(maxsize=1)
def _unicode() -> _Unicode:
    def unpack(name: str) -> np.ndarray:
        raw = np.frombuffer(zlib.decompress(base64.b85decode(DATA[name])), np.uint8)
        return np.cumsum(np.ascontiguousarray(raw.reshape(4, -1).T).view("<i4").ravel(), dtype=np.int32)

    def members(name: str) -> np.ndarray:
        out = np.zeros(_END, bool)
        for first, end in unpack(name).reshape(-1, 2).tolist():
            out[first:end] = True
        return out

    def mapping(name: str) -> dict[int, tuple[int, ...]]:
        flat = unpack(name).tolist()
        out, at = {}, 0
        while at < len(flat):
            out[flat[at]] = tuple(flat[at + 2 : at + 2 + flat[at + 1]])
            at += 2 + flat[at + 1]
        return out

    combining = np.zeros(_END, np.int32)
    points, classes = unpack("combining").reshape(-1, 2).T
    combining[points] = classes
    return _Unicode(
        control=members("control"),
        white=members("white"),
        punctuation=members("punctuation"),
        ideograph=members("ideograph"),
        nonspacing=members("nonspacing"),
        combining=combining,
        nfd=mapping("nfd"),
        lower=mapping("lower"),
    )


def _character_tables(clean: bool, cjk: bool, strip: bool, lower: bool) -> tuple[np.ndarray, ...]:
    """Return `page`, `data` and `sequences` for the options of a BertNormalizer."""
    u = _unicode()
    sequences: list[int] = []

    def compose(c: int) -> int:
        """Return the entry of a code point that changes: clean, set apart, decompose, strip, lower, split."""
        if clean and (u.control[c] or u.white[c]):
            return DROP if u.control[c] else SPACE
        out = []
        for d in u.nfd.get(c, (c,)) if strip else (c,):
            mark = int(u.combining[d]) if strip else 0
            if strip and u.nonspacing[d]:
                out.append(DROP if mark else BARRIER)
                continue
            for e in u.lower.get(d, (d,)) if lower else (d,):
                kind = SPACE if u.white[e] else ISOLATED if u.punctuation[e] else ORDINARY
                out.append(kind | (mark << CLASS_SHIFT) | (e << VALUE_SHIFT))
        if cjk and u.ideograph[c]:
            out = [SPACE, *out, SPACE]
        if len(out) == 1:
            kind, value = out[0] & (1 << KIND_BITS) - 1, out[0] >> VALUE_SHIFT
            if kind in (SPACE, DROP, BARRIER):
                return kind
            if out[0] & (1 << VALUE_SHIFT) - 1 == ORDINARY:
                return SIMPLE | (value << VALUE_SHIFT)
        sequences.extend([len(out), *out])
        return SEQUENCE | ((len(sequences) - len(out) - 1) << VALUE_SHIFT)

    data = np.zeros(_END, np.int32)
    if strip:
        data = u.combining << CLASS_SHIFT
        data[u.nonspacing] = np.where(u.combining[u.nonspacing] > 0, DROP, BARRIER)
    data[u.punctuation] = ISOLATED
    if cjk:
        data[u.ideograph] = ISOLATED
    data[u.white] = SPACE
    if clean:
        data[u.control] = DROP
    changing = {*(u.nfd if strip else ()), *(u.lower if lower else ())}
    for c in sorted(changing):
        data[c] = compose(c)
    if strip:
        syllable = np.arange(_HANGUL_END - _HANGUL)
        jamo = [_HANGUL_L + syllable // 588, _HANGUL_V + syllable % 588 // 28, _HANGUL_T + syllable % 28]
        block = np.column_stack([2 + (syllable % 28 > 0), *(j << VALUE_SHIFT for j in jamo)])
        data[_HANGUL:_HANGUL_END] = SEQUENCE | ((len(sequences) + 4 * syllable) << VALUE_SHIFT)
        sequences += block.ravel().tolist()

    pages: dict[bytes, int] = {}
    page = [pages.setdefault(block.tobytes(), len(pages)) for block in data.reshape(-1, 256)]
    return (
        np.array(page, np.int32) * 256,
        np.frombuffer(b"".join(pages), np.int32),
        np.array(sequences or [0], np.int32),
    )


def _mix(h: np.ndarray, x: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = (h ^ x) * np.uint64(HASH_MULTIPLIER)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _vocabulary(keys: Sequence[bytes], continuation: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return `slots`, `rows` and `beginnings` of a vocabulary of distinct keys."""
    length = np.fromiter(map(len, keys), np.int32, len(keys))
    longest = int(length.max())
    width = 4
    while (width - 1) * LANE < longest:
        width *= 2
    size = (width - 1) * LANE
    if len(keys) * size > _LARGEST:
        raise ValueError(f"a token of {longest:,} bytes among {len(keys):,} makes a table of over a GiB")
    rows = np.zeros((len(keys) + 1, width), np.uint64)
    lanes = rows[1:, 1:]
    lanes[:] = np.frombuffer(b"".join(k.ljust(size, b"\0") for k in keys), "<u8").reshape(-1, width - 1)
    rows[1:, 0] = ids.astype(np.uint64) << np.uint64(32) | np.where(continuation, CONTINUATION, 0).astype(np.uint64)
    rows[1:, 0] |= length.astype(np.uint64)

    # Hash what each key begins with, byte by byte; the last hash is the key's own.
    hashes = np.empty(len(keys), np.uint64)
    bits = np.zeros(max(64, 1 << (32 * len(keys) - 1).bit_length()), bool)
    left, h = np.arange(len(keys)), np.where(continuation, np.uint64(CONTINUATION_SEED), np.uint64(HASH_SEED))
    for n in range(1, longest + 1):
        lane, k = lanes[left, (n - 1) // LANE], (n - 1) % LANE + 1
        mixed = _mix(h, lane & np.uint64((1 << 8 * k) - 1))
        bits[(mixed >> np.uint64(BEGINNING_SHIFT)).astype(np.int64) & (len(bits) - 1)] = True
        hashes[left] = mixed
        going = length[left] > n
        left, h = left[going], (mixed if k == LANE else h)[going]

    n_slots = max(16, 1 << (2 * len(keys) - 1).bit_length())
    slots = np.zeros(n_slots, np.uint64)
    values = hashes >> np.uint64(32) << np.uint64(32) | np.arange(1, len(keys) + 1, dtype=np.uint64)
    home = (hashes & np.uint64(n_slots - 1)).astype(np.int64)
    # All keys try their next slot at once; where several want a free one, the first gets it. A key moves on only past
    # taken slots, so a search that walks from its home to a free slot finds it.
    waiting, step = np.arange(len(keys)), 0
    while len(waiting):
        spot = (home[waiting] + step) & (n_slots - 1)
        free = np.flatnonzero(slots[spot] == 0)
        _, winner = np.unique(spot[free], return_index=True)
        placed = free[winner]
        slots[spot[placed]] = values[waiting[placed]]
        waiting = np.delete(waiting, placed)
        step += 1
    return slots, rows, np.packbits(bits, bitorder="little")


def build_wordpiece(tokenizer: Mapping[str, Any]) -> WordPiece:
    """Build the tables of a BERT-type tokenizer.

    Parameters
    ----------
    tokenizer
        The parsed `tokenizer.json`: a WordPiece model with BertNormalizer, BertPreTokenizer, and TemplateProcessing,
        BertProcessing or nothing behind them. Its `truncation` and `padding` are not used.

    Raises
    ------
    ValueError
        If the tokenizer has a part that the kernels do not run; the message names it.
    """
    model, normalizer = tokenizer["model"], _part(tokenizer, "normalizer", "BertNormalizer")
    _part(tokenizer, "pre_tokenizer", "BertPreTokenizer")
    kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else "of no type")
    if kind != "WordPiece":
        raise ValueError(f"tokenizer model {kind} is not supported: it must be WordPiece")
    vocab: Mapping[str, int] = model["vocab"]
    unknown = model.get("unk_token", "[UNK]")
    if unknown not in vocab:
        raise ValueError(f"the vocabulary lacks the tokenizer's unk_token {unknown!r}")
    max_chars = int(model.get("max_input_chars_per_word", 100))
    if not 1 <= max_chars < CONTINUATION:
        raise ValueError(f"max_input_chars_per_word must be from 1 to {CONTINUATION - 1:,}, not {max_chars}")

    lower = bool(normalizer.get("lowercase", True))
    strip = normalizer.get("strip_accents")
    options = {
        "clean": bool(normalizer.get("clean_text", True)),
        "cjk": bool(normalizer.get("handle_chinese_chars", True)),
        "strip": lower if strip is None else bool(strip),
        "lower": lower,
    }
    page, data, sequences = _character_tables(**options)

    mark = model.get("continuing_subword_prefix", "##")
    goes_on = [key for key in vocab if key.startswith(mark) and len(key) > len(mark)]
    # Punctuation is a word of its own: no word starts with a prefix that does.
    starts = vocab.keys() - set(goes_on) if mark and mark[0] in string.punctuation else vocab.keys()
    heads = [key for key in vocab if key in starts and key]
    keys = [key.encode() for key in heads] + [key[len(mark) :].encode() for key in goes_on]
    ids = np.array([vocab[key] for key in heads] + [vocab[key] for key in goes_on], np.int64)
    if not keys:
        raise ValueError("the vocabulary has no token that is not empty")
    if max(map(len, keys)) >= CONTINUATION or ids.min() < 0 or ids.max() >= 1 << 31:
        raise ValueError("the vocabulary has a token of more than 65,535 bytes or an id that is no int32")
    slots, rows, beginnings = _vocabulary(keys, np.arange(len(keys)) >= len(heads), ids)

    added = _added_tokens(tokenizer.get("added_tokens") or (), vocab)
    contents = sorted((key.encode() for key in added), key=lambda key: -len(key))
    prefix, suffix = _special_tokens(tokenizer.get("post_processor"))
    if not all(0 <= number < 1 << 31 for number in (*added.values(), *prefix, *suffix)):
        raise ValueError("an added token, or one that is put around a text, has an id that is no int32")
    return WordPiece(
        page=page,
        data=data,
        sequences=sequences,
        slots=slots,
        rows=rows,
        beginnings=beginnings,
        ascii_ids=np.array([vocab.get(chr(c), vocab[unknown]) for c in range(128)], np.int32),
        added=np.frombuffer(b"".join(contents) or b"\0", np.uint8),
        added_offsets=np.cumsum([0] + [len(c) for c in contents], dtype=np.int32),
        added_ids=np.array([added[c.decode()] for c in contents], np.int32),
        prefix=np.array(prefix, np.int32),
        suffix=np.array(suffix, np.int32),
        settings=np.array([vocab[unknown], max_chars, lower], np.int32),
    )


def _part(tokenizer: Mapping[str, Any], name: str, kind: str) -> Mapping[str, Any]:
    part: Mapping[str, Any] | None = tokenizer.get(name)
    found = part.get("type") if part else None
    if part is None or found != kind:
        raise ValueError(f"{name} {found} is not supported: it must be {kind}")
    return part


def _added_tokens(tokens: Sequence[Mapping[str, Any]], vocab: Mapping[str, int]) -> dict[str, int]:
    """Return the id of each token that is found in the text before anything else, numbered as `tokenizers` does."""
    out: dict[str, int] = {}
    n_new = 0
    for token in tokens:
        content = token["content"]
        if not content:
            continue
        for option in ("single_word", "normalized"):
            if token.get(option, False):
                raise ValueError(f"added token {content!r} with {option} is not supported")
        if (token.get("lstrip") or token.get("rstrip")) and content != content.strip():
            raise ValueError(f"added token {content!r} with white space at its edges and stripping is not supported")
        if chr(_REPLACEMENT) in content:
            raise ValueError(f"added token {content!r} holds U+FFFD, which stands for invalid bytes")
        if content not in out:
            out[content] = vocab.get(content, len(vocab) + n_new)
            n_new += content not in vocab
    return out


def _special_tokens(processor: Mapping[str, Any] | None) -> tuple[list[int], list[int]]:
    """Return the ids that go before and behind a document."""
    if processor is None:
        return [], []
    kind = processor.get("type")
    if kind == "BertProcessing":
        return [int(processor["cls"][1])], [int(processor["sep"][1])]
    if kind != "TemplateProcessing":
        raise ValueError(f"post_processor {kind} is not supported: it must be TemplateProcessing or BertProcessing")
    sides: tuple[list[int], list[int]] = ([], [])
    n_sequences = 0
    for piece in processor["single"]:
        if "Sequence" in piece:
            n_sequences += 1
            if piece["Sequence"]["id"] != "A":
                raise ValueError("post_processor's template for one text uses sequence B")
        else:
            token = processor["special_tokens"][piece["SpecialToken"]["id"]]
            sides[min(n_sequences, 1)].extend(map(int, token["ids"]))
    if n_sequences != 1:
        raise ValueError(f"post_processor's template has the text {n_sequences} times: it must have it once")
    return sides
