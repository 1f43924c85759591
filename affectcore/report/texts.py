"""The most telling texts: those with the highest scores of each model, with the segments that drive the score.

Score files have no texts. They are taken from a column `text` where one was kept (``affectcore score --keep text``),
else from the dump that was scored: its rows are read again as they were scored, without a model, and found by their
ids, their turn, and their length in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore import totals
from affectcore.errors import AffectcoreError, UsageError
from affectcore.io.readers import discover, open_reader
from affectcore.io.scorefiles import Scores, as_text, open_scores
from affectcore.scorer import Scorer
from affectcore.stability import IDS, Where

__all__ = ["telling"]

LONGEST = 4000
"""Characters of a text that are kept, at most."""

_SCHEMA = pa.schema(
    [
        ("by", pa.string()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("text", pa.string()),
        (
            "segments",
            pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())])),
        ),
        ("file", pa.string()),
        ("row", pa.int64()),
    ]
)
_TEXT = "text"
_WITH_TURN = ("turn", "role", "part", "n_bytes")  # tell rows of one id apart


@dataclass(frozen=True)
class _Found:
    """A text as it was scored, and where it stands."""

    text: bytes
    file: str
    row: int | None


def telling(
    scores: Any,
    by: str,
    metrics: str | Iterable[str],
    dump: str | Path | Sequence[str | Path] | None = None,
    most: int = 5,
    *,
    text: str | None = None,
    conversation: str | None = None,
    where: Where = (),
) -> pa.Table:
    """Return the texts with the highest scores of each model and metric.

    Parameters
    ----------
    scores
        As for `affectcore.comparison.compare`; scores of documents or turns.
    by
        Column that names the models.
    metrics
        Numeric columns, groups of the registry, or columns with bounds, which count as the column.
    dump
        Files, folders or patterns that were scored; needed where the scores have no column `text`.
    most
        Texts per model and metric.
    text, conversation
        The dump's columns of the text and of the conversation, if ``affectcore score`` had to be told.
    where
        Conditions that rows of the scores must meet.

    Returns
    -------
    pyarrow.Table
        Metric by metric, highest score first: `by`, `metric`, `score`, `text` (string; of a long text 4,000 characters
        round the strongest segment, with … where it is cut), `segments` (list of `start`, `end`, in characters of
        `text`, and `score`, that of the segment as if it were all of the text, by the model that made the scores; empty
        where that model is not at hand, has changed, or gives segments no such score), `file` and `row` (from 0) of the
        dump, or of the scores where the text stands there.

    Raises
    ------
    UsageError
        If a column is missing; if there is no text and no dump; if the scores are of conversations or segments; if no
        id ties the rows of the scores to those of the dump, a row is not found there, or several texts fit it.
    InputError
        If a file is missing or cannot be read.
    """
    if most < 1:
        raise UsageError(f"most must be at least 1, not {most}")
    files = open_scores(scores)
    source = files.where([where] if isinstance(where, str) else list(where))
    source.require([by], "the column that names the models; choose another with by (--by)")
    names = totals.metric_names(metrics, source)
    columns = [bound.column for bound in totals.bounds(names, source)]
    made = files.settings
    unit = made.get("unit") or ("turn" if "turn" in source.types else "document")
    if unit not in ("document", "turn") or "n_turns" in source.types or "segment" in source.types:
        raise UsageError(
            f"{source.label} has scores of {unit}s, which are not looked up in a dump: score with --unit document or "
            "turn to see texts"
        )
    everywhere = source.types.keys() - source.lacking.keys()
    if _TEXT in everywhere:
        if not (pa.types.is_string(source.types[_TEXT]) or pa.types.is_large_string(source.types[_TEXT])):
            raise UsageError(f"column {_TEXT!r} of the scores holds {source.types[_TEXT]}, not text: leave it out")
        top = _top(source, by, names, columns, [_TEXT], most)
        found = [_Found((row[_TEXT] or "").encode(), source.label, row["row"]) for row in top]
    elif dump is None:
        raise UsageError(
            f"{source.label} has no column {_TEXT!r}: give the dump that was scored (--dump), or score again with "
            "--keep text"
        )
    else:
        reading = _Dump(dump, made, unit, text, conversation)
        key = [c for c in (by, *IDS, *_WITH_TURN) if c in everywhere and c in reading.columns]
        if not set(key) & set(IDS):
            raise UsageError(
                "no id ties the scores to the rows of the dump: score again and keep one of "
                f"{', '.join(dict.fromkeys(IDS))} (--keep), or the text itself"
            )
        key = list(dict.fromkeys(key))
        top = _top(source, by, names, columns, key, most)
        wanted = [tuple(row[c] for c in key) for row in top]
        there = reading.find(key, wanted)
        found = [there[ids] for ids in wanted]
    return _written(top, found, made)


def _top(
    source: Scores, by: str, names: list[str], columns: list[str], labels: list[str], most: int
) -> list[dict[str, Any]]:
    """Return the rows of the highest scores, as dictionaries: by, metric, column, score, row and the labels."""
    only = list(totals.answers(source, (by,)))
    numbers = list(dict.fromkeys(columns))
    held: dict[str, pa.Table] = {}
    seen = 0
    for batch in source.batches(list(dict.fromkeys([by, *labels, *only])), [n for n in numbers if n not in labels]):
        row = pa.array(np.arange(seen, seen + batch.num_rows))
        seen += batch.num_rows
        keep = pa.array(np.ones(batch.num_rows, bool))
        for column in only:
            keep = pc.and_(keep, totals.is_answer(batch, column))
        for column in numbers:
            score = batch[column].cast(pa.float64(), safe=False)
            rows = pc.and_(keep, pc.fill_null(pc.is_finite(score), False))
            part = pa.table(
                {"by": as_text(batch[by]), "score": score, "row": row, **{f"_{c}": as_text(batch[c]) for c in labels}}
            ).filter(rows)
            whole = pa.concat_tables([held[column], part]) if column in held else part
            if not whole.num_rows:
                continue
            code = totals.codes(whole["by"])[1]
            order = np.lexsort((-whole["score"].to_numpy(), code))
            sorted_code = code[order]
            rank = np.arange(len(order)) - np.searchsorted(sorted_code, sorted_code)
            held[column] = whole.take(pa.array(order[rank < most]))
    rows_found = []
    for name, column in zip(names, columns):
        own = (
            held[column].sort_by([("score", "descending"), ("row", "ascending")]).to_pylist() if column in held else []
        )
        for found in own:
            ids = {k[1:]: v for k, v in found.items() if k.startswith("_")}
            rows_found.append(
                {
                    **ids,
                    "by": found["by"],
                    "metric": name,
                    "column": column,
                    "score": found["score"],
                    "row": found["row"],
                }
            )
    return rows_found


# The dump


class _Texts(Scorer):
    """A scorer that hands on what it measures: the text of each row of scores."""

    measured: pa.Array

    def _measure(self, values: np.ndarray, offsets: np.ndarray, pool: Any = None, owner: Any = None) -> Any:
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
        self.measured = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
        return super()._measure(values, offsets, pool, owner)


class _Dump:
    """The rows of a dump, read as they were scored."""

    def __init__(
        self, dump: Any, made: Mapping[str, Any], unit: str, text: str | None, conversation: str | None
    ) -> None:
        parts = made.get("parts", "both")
        self._scorer = _Texts(
            "none", "n_bytes", unit, parts=parts, roles="all" if unit == "turn" else "assistant", threads=1
        )
        self._open: dict[str, Any] = {
            "text": text,
            "conversation": conversation,
            "view": self._scorer.view,
            "batch_bytes": self._scorer.batch_bytes,
        }
        self._sources = discover(dump)
        self.columns = set(self._scorer.schema.names)
        kept: list[set[str]] = []
        for source in self._sources:
            with open_reader(source, **self._open) as reader:
                kept.append(set(reader.schema.names))
        self.columns |= set.intersection(*kept)

    def find(self, key: list[str], wanted: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], _Found]:
        """Return the text of each wanted row, whose values of the columns `key` are given as text."""
        missing = dict.fromkeys(wanted)
        marks = pa.array([_mark(ids) for ids in missing], pa.large_string())
        found: dict[tuple[Any, ...], _Found] = {}
        for name, row, table, texts in self._rows(key):
            if not table.num_rows:
                continue
            joined = pc.binary_join_element_wise(
                *(as_text(c) for c in table.columns), pa.scalar("\x1f", pa.large_string()), null_handling="replace",
                null_replacement="\0",
            )  # fmt: skip
            for i in np.flatnonzero(pc.is_in(joined, marks).to_numpy(zero_copy_only=False)):
                ids = tuple(as_text(c.slice(i, 1))[0].as_py() for c in table.columns)
                said = texts[int(i)].as_py()
                said = said.encode() if isinstance(said, str) else said
                if ids not in found:
                    found[ids] = _Found(said or b"", name, None if row is None else int(row[i]))
                elif found[ids].text != (said or b""):
                    raise UsageError(
                        f"several texts of the dump fit one row of the scores ({_said(key, ids)}): score again "
                        "and keep a column that tells them apart (--keep)"
                    )
        lost = [ids for ids in missing if ids not in found]
        if lost:
            raise UsageError(
                f"{len(lost):,} of {len(missing):,} rows are not in the dump, the first {_said(key, lost[0])}: is it "
                "the dump that was scored?"
            )
        return found

    def _rows(self, key: list[str]) -> Iterator[tuple[str, Any, pa.RecordBatch, pa.Array]]:
        """Yield file, the rows' numbers in it (None where they are not known), the key's columns and the texts."""
        for source in self._sources:
            with open_reader(source, **self._open) as reader:
                before = 0
                for kept, said in reader:
                    scores, parents = self._scorer.score_units(said)
                    texts = self._scorer.measured
                    n = reader.row - before
                    of = np.arange(len(said)) if parents is None else np.asarray(parents)
                    rows: Any = None
                    if n == kept.num_rows:  # else rows were dropped, and nobody knows which
                        rows = before + of
                    elif reader.starts is not None and len(reader.starts) > kept.num_rows:
                        rows = np.asarray(reader.starts)[of]
                    before = reader.row
                    taken = [
                        scores.column(c) if c in scores.schema.names else kept.column(c).take(pa.array(of)) for c in key
                    ]
                    yield str(source.path), rows, pa.RecordBatch.from_arrays(taken, names=key), texts


def _mark(ids: tuple[Any, ...]) -> str:
    return "\x1f".join("\0" if v is None else v for v in ids)


def _said(key: list[str], ids: tuple[Any, ...]) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(key, ids))


# Segments


def _scorer(made: Mapping[str, Any], columns: Iterable[str]) -> tuple[Scorer | None, list[str]]:
    """Return a scorer of segments with the settings of the scores, and the columns that it gives."""
    settings = {name: made[name] for name in ("vader", "exclude") if name in made}
    can: list[str] = []
    scorer: Scorer | None = None
    for model in dict.fromkeys((made.get("model", "none"), "none")):
        for column in columns:
            if column in can:
                continue
            try:
                one = Scorer(model, [*can, column], "segment", parts="whole", **settings)
            except (AffectcoreError, OSError):  # the model is not here, or has no such score of segments
                continue
            if one._model and one._model.content_hash != made.get("model_hash"):
                break
            scorer, can = one, [*can, column]
        if scorer is not None:
            break
        settings.pop("exclude", None)
    return scorer, can


def _segments(texts: list[bytes], made: Mapping[str, Any], columns: Iterable[str]) -> list[dict[str, list[Any]]]:
    """Return for each text the first byte, the length in bytes and the scores of its segments."""
    scorer, can = _scorer(made, columns)
    if scorer is None or not texts:
        return [{} for _ in texts]
    wide = Scorer(scorer.model, [*can, "n_bytes"], "segment", parts="whole", exclude=scorer.exclude, vader=scorer.vader)
    batch, parents = wide.score_units(pa.array(texts, pa.large_binary()))
    bounds = np.searchsorted(parents, np.arange(len(texts) + 1))
    table = batch.select(list(dict.fromkeys(["segment_start", "n_bytes", *can])))
    return [table.slice(a, b - a).to_pydict() for a, b in zip(bounds, bounds[1:])]


def _written(top: list[dict[str, Any]], found: list[_Found], made: Mapping[str, Any]) -> pa.Table:
    texts = list(dict.fromkeys(f.text for f in found))
    place = {text: i for i, text in enumerate(texts)}
    parts = _segments(texts, made, dict.fromkeys(row["column"] for row in top))
    rows = []
    for row, f in zip(top, found):
        said, segments = _shown(f.text, parts[place[f.text]], row["column"])
        rows.append(
            {
                "by": row["by"],
                "metric": row["metric"],
                "score": row["score"],
                "text": said,
                "segments": segments,
                "file": f.file,
                "row": f.row,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _shown(text: bytes, part: Mapping[str, list[Any]], column: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a text of at most `LONGEST` characters, and its segments without the white space at their ends."""
    starts, lengths, scores = (part.get(name, []) for name in ("segment_start", "n_bytes", column))
    said, segments = "", []
    at = 0
    for start, length, score in zip(starts, lengths, scores):
        said += text[at:start].decode("utf-8", "replace")
        own = text[start : start + length].decode("utf-8", "replace")
        at = start + length
        bare = own.strip()
        if score is not None and bare:
            begin = len(said) + own.index(bare)
            segments.append({"start": begin, "end": begin + len(bare), "score": float(score)})
        said += own
    said += text[at:].decode("utf-8", "replace")
    if len(said) <= LONGEST:
        return said, segments
    strongest: Any = max(segments, key=lambda s: s["score"], default={"start": 0, "end": 0})
    low = 0
    if strongest["end"] > LONGEST:
        low = max(0, min(strongest["start"] - LONGEST // 4, len(said) - LONGEST))
    high = low + LONGEST
    before, after = "…" if low else "", "…" if high < len(said) else ""
    moved = [
        {**s, "start": max(s["start"], low) - low + len(before), "end": min(s["end"], high) - low + len(before)}
        for s in segments
        if s["start"] < high and s["end"] > low
    ]
    return before + said[low:high] + after, moved
