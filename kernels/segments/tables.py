"""Results and constants of the `segments` ops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

TEXT, CODE, TABLE, URL, QUOTE = 0, 1, 2, 3, 4

LONGEST = 1024  # bytes of a text segment, at most

ABBREVIATIONS = (
    "mr mrs ms dr prof st jr sr vs al cf fig figs eq eqs approx ca dept est inc ltd co corp gen col capt lt sgt rev "
    "hon vol pp ed eds trans"
).split()
"""A full stop behind one of these words ends no sentence."""

MOST_LETTERS = 6  # of an abbreviation
MOST_DIGITS = 4  # of a list number


class Segments(NamedTuple):
    """Spans of n documents, end to end."""

    offsets: Any  # int64 (n_segments + 1,): byte bounds; no byte between the first and the last is left out
    first: Any  # int64 (n + 1,): document d owns segments first[d]:first[d + 1]
    kind: Any  # uint8 (n_segments,): TEXT, CODE, TABLE, URL or QUOTE


def packed_abbreviations() -> np.ndarray:
    """Return the abbreviations as uint64, little-endian, zero-padded, sorted."""
    return np.sort(np.array([int.from_bytes(word.encode(), "little") for word in ABBREVIATIONS], np.uint64))
