"""Op family `segments`: where sentences, code, tables, addresses and quotes begin and end, in UTF-8 bytes.

segments
    Spans that tile the documents: consecutive, no byte left out. One pass from left to right, line by line (a line ends
    behind its line feed):

    - A line that begins, behind spaces and tabs, with a fence of three or more ` or ~ opens a CODE segment; behind a
      fence of ` no other ` may stand in the line (that is code within a line). The segment runs through the next line
      that is nothing but a fence of the same character, at least as long, and white space; or to the end of the
      document. As in CommonMark, but for the indentation, which may be deeper: in lists it is.
    - Consecutive lines whose first byte that is no space or tab is | are a TABLE segment.
    - Consecutive lines whose first byte that is no space or tab is > are a QUOTE segment, whatever stands in it:
      fences, tables and addresses too. Lines of Python sessions (>>>) and such as ">90 %" are taken for quotes, as in
      Markdown. A line without > ends the quote, where CommonMark may go on (lazily). A document of a single line holds
      no quote: either nobody answers it, or the answer has lost its line break.
    - In other lines, http://, https:// and www. open a URL segment where no letter, digit or byte outside ASCII stands
      before them; it ends before white space or one of < > " ` ) ], and .,;:!?' at its end do not belong to it.
    - A sentence ends behind a run of . ! ? … 。 ！ ？ and the closing marks " ' ) ] * _ } ” ’ behind it, if white space
      or the end of the line follows, or the run holds one of 。 ！ ？. That white space belongs to it.
    - A single full stop ends no sentence if a small ASCII letter follows the space; behind one letter (initials, e.g.,
      i.e.) or one of `ABBREVIATIONS` with no letter or digit before it; behind a number of up to four digits that opens
      its line (a list's). Not at the end of a line, which ends a sentence in any case.
    - A piece without any ASCII letter, digit or byte outside ASCII joins the segment before it, of whatever kind; the
      document's first piece joins the segment behind it.
    - A TEXT segment over 1,024 bytes is cut behind the last white space within them, or else at a character's boundary.

    Bytes outside ASCII are boundaries only as the marks above, so a UTF-8 sequence is never split; invalid bytes are
    bytes like others. An empty document has no segment. The rules are those of English prose, Markdown and the common
    marks of CJK; Moses and Punkt know more abbreviations (Kiss & Strunk 2006) and cost more than one look per mark.
    Reads n_bytes; writes 9 bytes a segment.

passages
    Consecutive TEXT segments of a document, joined from left to right while they are not longer than `longest` bytes
    together; others stay as they are. Models score passages: about as much text as one labelled example holds.

Tolerance: bit-exact on every backend.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import CODE, LONGEST, QUOTE, TABLE, TEXT, URL, Segments

__all__ = ["CODE", "LONGEST", "QUOTE", "TABLE", "TEXT", "URL", "Segments", "passages", "segments"]


def segments(values: Any, offsets: Any, *, backend: str = "auto") -> Segments:
    """Find the segments of documents (see the module).

    Parameters
    ----------
    values
        uint8 (n_bytes,): text of all documents, valid UTF-8 or not.
    offsets
        int64 (n + 1,): document bounds; they need not start at 0.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    Segments
        `offsets` int64 (n_segments + 1,), `first` int64 (n + 1,), `kind` uint8 (n_segments,).
    """
    return implementation("segments", backend, values, offsets).segments(values, offsets)  # type: ignore[no-any-return]


def passages(offsets: Any, first: Any, kind: Any, longest: int, *, backend: str = "auto") -> Segments:
    """Join the sentences of segments to passages (see the module).

    Parameters
    ----------
    offsets, first, kind
        What `segments` returned.
    longest
        Bytes of a joined passage, at most; a single segment may be longer.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    Segments
        As `segments` returns them.
    """
    return implementation("segments", backend, offsets, first, kind).passages(offsets, first, kind, longest)  # type: ignore[no-any-return]
