"""Plain Python on `str`: what the `wordpiece` op means; `__init__` documents it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from .tables import (
    BARRIER,
    CLASS_SHIFT,
    CONTINUATION,
    DROP,
    ISOLATED,
    KIND_BITS,
    MAX_CHARS,
    ORDINARY,
    SEQUENCE,
    SIMPLE,
    SPACE,
    UNKNOWN,
    VALUE_SHIFT,
    TokenStream,
    WordPiece,
)

_KIND = (1 << KIND_BITS) - 1
_CLASS = (1 << VALUE_SHIFT - CLASS_SHIFT) - 1


def _keys(table: WordPiece) -> tuple[dict[str, int], dict[str, int]]:
    """Return the ids of what starts a word and of what continues one."""
    sides: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for first, *lanes in table.rows.tolist():
        length = first & CONTINUATION - 1
        if length:
            key = b"".join(lane.to_bytes(8, "little") for lane in lanes)[:length].decode()
            sides[first & CONTINUATION != 0][key] = first >> 32
    return sides


def _entries(char: str, table: WordPiece) -> list[tuple[int, int, str]]:
    """Return what a character becomes: (kind, combining class, character)."""
    c = ord(char)
    entry = int(table.data[table.page[c >> 8] + (c & 255)])
    kind, mark, value = entry & _KIND, entry >> CLASS_SHIFT & _CLASS, entry >> VALUE_SHIFT
    if kind == SEQUENCE:
        n = int(table.sequences[value])
        parts = table.sequences[value + 1 : value + 1 + n].tolist()
        return [(p & _KIND, p >> CLASS_SHIFT & _CLASS, chr(p >> VALUE_SHIFT)) for p in parts]
    return [(ORDINARY, 0, chr(value))] if kind == SIMPLE else [(kind, mark, char)]


def _split(text: str, table: WordPiece) -> Iterator[str]:
    """Normalize a text and yield its words."""
    entries = [e for char in text for e in _entries(char, table) if e[0] != DROP]
    # Canonical order: between two characters that are no combining marks, marks are sorted by their class.
    at = 0
    while at < len(entries):
        end = at
        while end < len(entries) and entries[end][1] > 0:
            end += 1
        entries[at:end] = sorted(entries[at:end], key=lambda e: e[1])
        at = end + 1
    word = ""
    for kind, _, char in entries:
        if kind == BARRIER:
            continue
        if kind == ORDINARY:
            word += char
            continue
        if word:
            yield word
        word = ""
        if kind == ISOLATED:
            yield char
        else:
            assert kind == SPACE
    if word:
        yield word


def _pieces(word: str, starts: dict[str, int], goes_on: dict[str, int], table: WordPiece) -> list[int]:
    """Return the ids of a word."""
    unknown = [int(table.settings[UNKNOWN])]
    if len(word) > table.settings[MAX_CHARS]:
        return unknown
    out: list[int] = []
    while word:
        keys = goes_on if out else starts
        n = next((n for n in range(len(word), 0, -1) if word[:n] in keys), 0)
        if n == 0:
            return unknown
        out.append(keys[word[:n]])
        word = word[n:]
    return out


def wordpiece(
    values: np.ndarray, offsets: np.ndarray, table: WordPiece, max_tokens: int | None = None, special: bool = True
) -> TokenStream:
    """See `affectcore.kernels.wordpiece.wordpiece`."""
    starts, goes_on = _keys(table)
    raw, bounds = table.added.tobytes(), table.added_offsets.tolist()
    added = {raw[a:b].decode(): number for a, b, number in zip(bounds, bounds[1:], table.added_ids.tolist())}
    cut = re.compile(f"({'|'.join(map(re.escape, added))})") if added else None
    prefix, suffix = (table.prefix.tolist(), table.suffix.tolist()) if special else ([], [])
    limit = None if max_tokens is None else max_tokens - len(prefix) - len(suffix)

    text, known = values.tobytes(), {}
    ids: list[int] = []
    out_offsets = [0]
    for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist()):
        document = text[a:b].decode("utf-8", "replace")
        tokens: list[int] = []
        for part in cut.split(document) if cut else [document]:
            if part in added:
                tokens.append(added[part])
                continue
            for word in _split(part, table):
                if word not in known:
                    known[word] = _pieces(word, starts, goes_on, table)
                tokens += known[word]
        ids += prefix + tokens[:limit] + suffix
        out_offsets.append(len(ids))
    return TokenStream(np.array(ids, np.int32), np.array(out_offsets, np.int64))
