"""`Scorer`: texts in, score columns out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from io import IOBase
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore._version import __version__
from affectcore.errors import UsageError
from affectcore.kernels import dispatch
from affectcore.metrics import lexical, registry
from affectcore.settings import usable_cores

MODELS = ("none",)
UNITS = ("document",)
VADER_MODES = ("exact", "corrected")

# Text that one call of the kernels works on: its word stream stays in a core's cache.
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 2**31 - 1


class Scorer:
    """Scores texts. Cheap to construct; tables and kernels load when the first text comes.

    Parameters
    ----------
    model
        `none`: lexical metrics only. (Models with emotion heads come in a later version.)
    metrics
        `default` (all), names of metrics or groups, comma-separated or as a sequence; see `affectcore metrics`.
    unit
        `document`: one row per text.
    backend
        `auto` (the CPU kernels), `numba`, `triton` (a GPU) or `reference` (plain Python: slow, for checking).
    logits
        Also write logits of emotion heads; needs a model.
    vader
        `exact`: equal to vaderSentiment 3.3.2. `corrected`: its rules mended where they misfire
        (`affectcore.kernels.tone` lists how).
    threads
        Threads that `score` uses; default: the cores this process may use.

    Raises
    ------
    UsageError
        If an argument has no such value; the message names those there are.

    Examples
    --------
    >>> import affectcore as ac
    >>> ac.Scorer(metrics="vader_compound").score(["I love this!", "I hate this."])["vader_compound"].to_pylist()
    [0.6696000099182129, -0.5718999803066254]
    """

    def __init__(
        self,
        model: str = "none",
        metrics: str | Sequence[str] = "default",
        unit: str = "document",
        backend: str = "auto",
        logits: bool = False,
        *,
        vader: str = "exact",
        threads: int | None = None,
    ) -> None:
        self.model = _choose("model", model, MODELS)
        self.unit = _choose("unit", unit, UNITS)
        self.vader = _choose("vader mode", vader, VADER_MODES)
        if logits:
            raise UsageError("logits need a model with emotion heads; model none has none")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self.threads = threads or usable_cores()
        self.metrics = registry.select(metrics)
        try:
            self.backend = dispatch.check(backend)
        except dispatch.BackendError as error:
            raise UsageError(str(error)) from None
        self.schema = pa.schema(
            [pa.field(m.name, pa.float32() if m.dtype == "float32" else pa.int32()) for m in self.metrics],
            metadata={"affectcore": json.dumps(self.provenance(), sort_keys=True)},
        )
        self._names = [m.name for m in self.metrics]

    def provenance(self) -> dict[str, Any]:
        """Return what the scores depend on: versions, model, metrics, backend and settings, ready for JSON."""
        return {
            "engine": "affectcore",
            "engine_version": __version__,
            "model": self.model,
            "unit": self.unit,
            "vader": self.vader,
            "backend": self.backend,
            "metrics": {m.name: m.version for m in self.metrics},
        }

    def score_array(self, texts: pa.Array) -> pa.RecordBatch:
        """Score one Arrow array.

        Parameters
        ----------
        texts
            string, large_string, binary or large_binary array, sliced or not. A null text gives null scores, an empty
            one the metrics' neutral values.

        Returns
        -------
        pyarrow.RecordBatch
            Score columns of `schema`, one row per text.

        Raises
        ------
        UsageError
            If the array is of another type, or a text has 2 GiB or more.
        """
        values, offsets = _ragged(texts)
        out = self._empty(len(texts))
        for begin, end in _blocks(offsets):
            self._score_block(values, offsets, begin, end, out)
        return self._batch(out, texts)

    def score(self, texts: Any, *, text: str | None = None) -> pa.Table:
        """Score texts from any source, with `threads` threads.

        Parameters
        ----------
        texts
            A list of str, bytes and None; an array of text; or a table or stream of batches: anything with the Arrow
            PyCapsule interface (PyArrow, Polars, pandas, DuckDB).
        text
            Column that holds the text, for tables; default: the first of the usual names (`text`, `response`, ...).

        Returns
        -------
        pyarrow.Table
            One row per text: the columns of the table without the text, then the score columns.

        Raises
        ------
        UsageError
            If the source is not understood, or has no such column.
        """
        source = _source(texts)
        if isinstance(source, pa.ChunkedArray):
            if text is not None:
                raise UsageError(f"text={text!r} names a column, but an array was given")
            with ThreadPoolExecutor(self.threads) as pool:
                batches = [self._score_threaded(chunk, pool) for chunk in source.chunks]
            return pa.Table.from_batches(batches, self.schema)
        kept, rows = self._kept_schema(source.schema, text)
        schema = pa.schema([*kept, *self.schema], metadata=self.schema.metadata)
        with ThreadPoolExecutor(self.threads) as pool:
            batches = [self._join(b, rows, schema, self._score_threaded(rows(b), pool)) for b in source]
        return pa.Table.from_batches(batches, schema)

    def stream(self, reader: Any, *, text: str | None = None) -> Iterator[pa.RecordBatch]:
        """Score a stream batch by batch, in bounded memory.

        Parameters
        ----------
        reader
            A `pyarrow.RecordBatchReader`, a table, or anything else with the Arrow PyCapsule stream interface.
        text
            Column that holds the text; default as in `score`.

        Yields
        ------
        pyarrow.RecordBatch
            The columns of each batch without the text, then the score columns.
        """
        source = _source(reader)
        if isinstance(source, pa.ChunkedArray):
            for chunk in source.chunks:
                yield self.score_array(chunk)
            return
        kept, rows = self._kept_schema(source.schema, text)
        schema = pa.schema([*kept, *self.schema], metadata=self.schema.metadata)
        for batch in source:
            yield self._join(batch, rows, schema, self.score_array(rows(batch)))

    def _kept_schema(self, schema: pa.Schema, text: str | None) -> tuple[list[pa.Field], Any]:
        from affectcore.io.formats.texts import extract, pick_text

        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise UsageError(f"the table has two columns of one name ({', '.join(twice)}); rename one of each")
        column = pick_text(schema, text, "table")
        taken = set(self._names) & set(schema.names)
        if taken:
            raise UsageError(f"the table has score columns already ({', '.join(sorted(taken))}); drop or rename them")
        kept = [field for field in schema if field.name != column.column]

        def rows(batch: pa.RecordBatch) -> pa.Array:
            return extract(batch.column(column.column), column.fields)

        return kept, rows

    def _join(self, batch: pa.RecordBatch, rows: Any, schema: pa.Schema, scores: pa.RecordBatch) -> pa.RecordBatch:
        kept = [batch.column(name) for name in schema.names[: len(schema) - len(self.schema)]]
        return pa.RecordBatch.from_arrays([*kept, *scores.columns], schema=schema)

    def _score_threaded(self, texts: pa.Array, pool: ThreadPoolExecutor) -> pa.RecordBatch:
        values, offsets = _ragged(texts)
        out = self._empty(len(texts))
        list(pool.map(lambda block: self._score_block(values, offsets, block[0], block[1], out), _blocks(offsets)))
        return self._batch(out, texts)

    def _empty(self, n: int) -> dict[str, np.ndarray]:
        return {m.name: np.empty(n, np.dtype(m.dtype)) for m in self.metrics}

    def _score_block(
        self, values: np.ndarray, offsets: np.ndarray, begin: int, end: int, out: dict[str, np.ndarray]
    ) -> None:
        first, last = int(offsets[begin]), int(offsets[end])
        columns = lexical.score(
            values[first:last],
            offsets[begin : end + 1] - first,
            self._names,
            backend=self.backend,
            corrected=self.vader == "corrected",
        )
        for name, column in out.items():
            column[begin:end] = columns[name]

    def _batch(self, out: dict[str, np.ndarray], texts: pa.Array) -> pa.RecordBatch:
        mask = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
        columns = [pa.array(column, mask=mask) for column in out.values()]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def score(texts: Any, **settings: Any) -> pa.Table:
    """Score texts once: `Scorer(**settings).score(texts)`."""
    text = settings.pop("text", None)
    return Scorer(**settings).score(texts, text=text)


def _choose(what: str, value: str, known: Sequence[str]) -> str:
    if value in known:
        return value
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown {what} {value!r}: this version has {', '.join(known)}{hint}")


def _source(texts: Any) -> Any:
    """Return a ChunkedArray of text, or something with a schema that iterates over record batches."""
    if isinstance(texts, pa.Array):
        return pa.chunked_array([texts])
    if isinstance(texts, pa.ChunkedArray):
        return texts
    if isinstance(texts, (str, bytes)):
        raise UsageError("one text was given where several are expected: put it in a list")
    if isinstance(texts, pa.Table):
        return texts.to_reader()
    if isinstance(texts, pa.RecordBatch):
        return pa.Table.from_batches([texts]).to_reader()
    if isinstance(texts, pa.RecordBatchReader):
        return texts
    if hasattr(texts, "__arrow_c_stream__"):
        try:
            return pa.RecordBatchReader.from_stream(texts)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
            return pa.chunked_array(texts)
    if hasattr(texts, "__arrow_c_array__"):
        return pa.chunked_array([pa.array(texts)])
    if isinstance(texts, Iterable) and not isinstance(texts, (Mapping, Set, IOBase)):
        return pa.chunked_array([_encode(texts)])
    raise UsageError(
        f"cannot read texts from {type(texts).__name__}: give a list of str, or Arrow data "
        "(pyarrow.table(...) makes a table of a dict of columns)"
    )


def _encode(texts: Iterable[Any]) -> pa.Array:
    rows = list(texts)
    for row, item in enumerate(rows):
        if item is not None and not isinstance(item, (str, bytes)):
            raise UsageError(f"text {row} is {type(item).__name__}, not str, bytes or None")
    try:
        if not any(isinstance(item, bytes) for item in rows):
            return pa.array(rows, pa.large_string())
    except UnicodeEncodeError:
        pass  # lone surrogates, which no UTF-8 can hold: they become invalid bytes, and count as such
    encoded = [item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item for item in rows]
    return pa.array(encoded, pa.large_binary())


def _ragged(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Map a text array to `(values, offsets)`: a view of its bytes, and offsets as int64."""
    wide = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    if not (wide or pa.types.is_string(texts.type) or pa.types.is_binary(texts.type)):
        from affectcore.io.formats.texts import extract, is_text

        if not is_text(texts.type):
            raise UsageError(f"texts are of type {texts.type}; string, large_string or binary is needed")
        return _ragged(extract(texts))
    n = len(texts)
    if n == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offset_buffer, data = texts.buffers()
    kind = np.dtype(np.int64 if wide else np.int32)
    offsets = np.frombuffer(offset_buffer, kind, n + 1, texts.offset * kind.itemsize).astype(np.int64, copy=False)
    values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    longest = int(np.diff(offsets).argmax())
    if offsets[longest + 1] - offsets[longest] > _MOST_BYTES:
        raise UsageError(f"text {longest} has {offsets[longest + 1] - offsets[longest]} bytes; the limit is 2 GiB")
    return values, offsets


def _blocks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut documents into runs of about a mebibyte; a longer document is a run of its own."""
    begin, n = 0, len(offsets) - 1
    while begin < n:
        end = int(np.searchsorted(offsets, offsets[begin] + _BLOCK_BYTES, side="right")) - 1
        end = min(max(end, begin + 1), n)
        yield begin, end
        begin = end
