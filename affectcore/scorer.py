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
from affectcore.arrow import blocks, ragged
from affectcore.errors import UsageError
from affectcore.kernels import dispatch
from affectcore.metrics import lexical, registry
from affectcore.settings import usable_cores

UNITS = ("document", "segment")
VADER_MODES = ("exact", "corrected")

_KINDS = ("text", "code", "table", "url")
_SEGMENT_FIELDS = (
    pa.field("segment", pa.int32()),
    pa.field("segment_start", pa.int32()),
    pa.field("segment_kind", pa.string()),
)


class Scorer:
    """Scores texts. Cheap to construct; tables and kernels load when the first text comes.

    Parameters
    ----------
    model
        `static` (the default): the embedded model with heads for emotions and valence, arousal, dominance. `none`:
        lexical metrics only. `mini`: the embedded encoder, slower and better. Or a model directory, for example one
        that `affectcore train` made, or a checkpoint in Hugging Face's layout: its directory, or its name on the hub if
        its files are in the hub's cache.
    metrics
        `default` (all that the model allows, but for those that must be asked for), names of metrics or groups,
        comma-separated or as a sequence; see `affectcore metrics`.
    unit
        `document`: one row per text. `segment`: one row per sentence-like span, with `segment` (its number within the
        text), `segment_start` (its first byte) and `segment_kind` (`text`, `code`, `table` or `url`) before the scores;
        a null or empty text has no rows, and only spans of kind `text` have a model's scores.
    backend
        `auto` (the CPU kernels), `numba`, `triton` (a GPU) or `reference` (plain Python: slow, for checking).
    logits
        Also write the logits of the model's heads: `logit_<label>` of emotions, `logit_<column>` of other heads.
    vader
        `exact`: equal to vaderSentiment 3.3.2. `corrected`: its rules mended where they misfire
        (`affectcore.kernels.tone` lists how).
    threads
        Threads that `score` uses; default: the cores this process may use.
    taxonomy
        Also write emotions in coarser taxonomies: `ekman`, `plutchik`, `sentiment`, or several.
    precision
        What an encoder computes in: `fp32` (the numbers of transformers), `bf16`, `int8`, or `auto`: int8 for `mini`,
        whose weights are that, where the CPU has instructions for it; else fp32.
    long
        What an encoder makes of documents: `segment` scores every document passage by passage, as the static model
        does; `window` in windows as long as the model allows; `truncate` keeps the beginning of longer ones and says so
        in the column `truncated`; `error` refuses them. It does not matter where `unit` is `segment`.

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
        model: str = "static",
        metrics: str | Sequence[str] = "default",
        unit: str = "document",
        backend: str = "auto",
        logits: bool = False,
        *,
        vader: str = "exact",
        threads: int | None = None,
        taxonomy: str | Sequence[str] = (),
        precision: str = "auto",
        long: str = "segment",
    ) -> None:
        self.unit = _choose("unit", unit, UNITS)
        self.vader = _choose("vader mode", vader, VADER_MODES)
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self.threads = threads or usable_cores()
        self.model = str(model)
        self._model = _load_model(self.model, precision, long)
        heads = self._model.heads if self._model else ()
        counts = self._model.counts if self._model else ()
        if logits and not heads:
            raise UsageError("logits need a model with heads, and model none has none: leave logits out or model in")
        self.metrics = registry.select(metrics, heads, taxonomy, counts)
        try:
            self.backend = dispatch.check(backend)
        except dispatch.BackendError as error:
            raise UsageError(str(error)) from None
        self._names = {m.name for m in self.metrics}
        self._logits = tuple(name for head in heads for name in head.logit_columns) if logits else ()
        # Columns whose NaN means that there is no value.
        self._nullable = {*self._logits, *(m.name for m in self.metrics if m.needs_model)}
        self.batch_bytes = self._model.batch_bytes if self._model and self.backend != "triton" else 8 << 20
        self._needs_model = bool(self._logits) or any(m.needs_model for m in self.metrics)
        self.schema = pa.schema(
            [
                *([] if self.unit == "document" else _SEGMENT_FIELDS),
                *(pa.field(m.name, pa.float32() if m.dtype == "float32" else pa.int32()) for m in self.metrics),
                *(pa.field(name, pa.float32()) for name in self._logits),
            ],
            metadata={"affectcore": json.dumps(self.provenance(), sort_keys=True)},
        )

    def provenance(self) -> dict[str, Any]:
        """Return what the scores depend on: versions, model, metrics, backend and settings, ready for JSON."""
        return {
            "engine": "affectcore",
            "engine_version": __version__,
            "model": self._model.name if self._model else "none",
            **({"model_hash": self._model.content_hash} if self._model else {}),
            "unit": self.unit,
            "vader": self.vader,
            "backend": self.backend,
            "logits": bool(self._logits),
            **(self._model.settings(self.backend) if self._model else {}),
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
            Score columns of `schema`, one row per unit.

        Raises
        ------
        UsageError
            If the array is of another type, or a text has 2 GiB or more.
        """
        return self.score_units(texts)[0]

    def score_units(self, texts: pa.Array, pool: ThreadPoolExecutor | None = None) -> tuple[pa.RecordBatch, Any]:
        """Score one Arrow array, and say which text each row belongs to.

        Parameters
        ----------
        texts
            As in `score_array`.
        pool
            Threads to use; default: the calling one.

        Returns
        -------
        batch
            Score columns of `schema`, one row per unit.
        parents
            int64, one number of a text per row; None where each text is one row.
        """
        if self.unit == "segment" and texts.null_count:
            texts = texts.fill_null("")  # under a null there can be bytes, and they are no text
        values, offsets = ragged(texts)
        run = pool.map if pool else map
        parts = list(run(lambda cut: self._score_block(values, offsets[cut[0] : cut[1] + 1]), blocks(offsets)))
        whole: dict[str, Any] = {}
        if self._needs_model and self._model.deals and len(texts):
            whole = self._score_model(values, offsets, pool)
        columns = {
            name: whole[name]
            if name in whole
            else np.concatenate([part[name] for part in parts])
            if parts
            else np.empty(0, self.schema.field(name).type.to_pandas_dtype())
            for name in self.schema.names
            if name != "segment_kind"
        }
        mask = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
        if self.unit == "document":
            arrays = [_column(columns[name], mask, name in self._nullable) for name in self.schema.names]
            return pa.RecordBatch.from_arrays(arrays, schema=self.schema), None
        parents = np.concatenate(
            [np.repeat(np.arange(begin, end), part["n"]) for (begin, end), part in zip(blocks(offsets), parts)]
            or [np.empty(0, np.int64)]
        )
        kinds = np.concatenate([part["segment_kind"] for part in parts] or [np.empty(0, np.uint8)])
        columns["segment_kind"] = pa.DictionaryArray.from_arrays(kinds.astype(np.int8), list(_KINDS)).cast(pa.string())
        arrays = [_column(columns[name], None, name in self._nullable) for name in self.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema), parents

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
                batches = [self.score_units(chunk, pool)[0] for chunk in source.chunks]
            return pa.Table.from_batches(batches, self.schema)
        kept, rows = self._kept_schema(source.schema, text)
        schema = pa.schema([*kept, *self.schema], metadata=self.schema.metadata)
        with ThreadPoolExecutor(self.threads) as pool:
            batches = [self._join(b, schema, *self.score_units(rows(b), pool)) for b in source]
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
            yield self._join(batch, schema, *self.score_units(rows(batch)))

    def _kept_schema(self, schema: pa.Schema, text: str | None) -> tuple[list[pa.Field], Any]:
        from affectcore.io.formats.texts import extract, pick_text

        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            raise UsageError(f"the table has two columns of one name ({', '.join(twice)}); rename one of each")
        column = pick_text(schema, text, "table")
        taken = set(self.schema.names) & set(schema.names)
        if taken:
            raise UsageError(f"the table has score columns already ({', '.join(sorted(taken))}); drop or rename them")
        kept = [field for field in schema if field.name != column.column]

        def rows(batch: pa.RecordBatch) -> pa.Array:
            return extract(batch.column(column.column), column.fields)

        return kept, rows

    def _join(self, batch: pa.RecordBatch, schema: pa.Schema, scores: pa.RecordBatch, parents: Any) -> pa.RecordBatch:
        kept = [batch.column(name) for name in schema.names[: len(schema) - len(self.schema)]]
        if parents is not None:
            kept = [column.take(pa.array(parents)) for column in kept]
        return pa.RecordBatch.from_arrays([*kept, *scores.columns], schema=schema)

    def _score_block(self, values: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Score documents of one block: the schema's columns by name, and for segments `n`, those of each document."""
        values, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
        out: dict[str, np.ndarray] = {}
        bounds = offsets
        if self.unit == "segment":
            from affectcore.kernels import segments

            found = dispatch.fetch(
                segments.segments(*dispatch.place((values, offsets), self.backend), backend=self.backend)
            )
            bounds = found.offsets
            number = np.arange(len(found.kind)) - np.repeat(found.first[:-1], np.diff(found.first))
            start = bounds[:-1] - np.repeat(offsets[:-1], np.diff(found.first))
            out = {
                "n": np.diff(found.first),
                "segment": number.astype(np.int32),
                "segment_start": start.astype(np.int32),
                "segment_kind": found.kind,
            }
        if self._needs_model and not self._model.deals:
            out |= self._score_model(values, offsets)
        if not self._names.isdisjoint(lexical.NAMES):
            corrected = self.vader == "corrected"
            out |= lexical.score(values, bounds, self._names, backend=self.backend, corrected=corrected)
        if not self._names.isdisjoint(registry.GROUPS["emonet"]):
            from affectcore.metrics import emonet

            out |= emonet.score(values, bounds, self._names, backend=self.backend)
        return out

    def _score_model(
        self, values: np.ndarray, offsets: np.ndarray, pool: ThreadPoolExecutor | None = None
    ) -> dict[str, np.ndarray]:
        from affectcore.metrics import emotion

        return emotion.score(
            values,
            offsets,
            self._names,
            self._model,
            unit=self.unit,
            backend=self.backend,
            logits=bool(self._logits),
            pool=pool,
        )

    @property
    def work(self) -> Any:
        """What an encoder has done so far, an `affectcore.models.encoder.Report`; None for other models."""
        return getattr(self._model, "report", None)

    def unscored(self, texts: pa.Array, scores: pa.RecordBatch, parents: Any = None) -> list[int]:
        """Number the texts that the model's scores are missing of because its logits are not finite.

        Parameters
        ----------
        texts, scores, parents
            What `score_units` was given, and what it returned.
        """
        bad = np.zeros(scores.num_rows, bool)
        for name in self._nullable.difference(self._logits):
            if scores.column(name).null_count:
                bad |= scores.column(name).is_null().to_numpy(zero_copy_only=False)
        if parents is not None:
            spoken = np.array(scores.column("segment_kind").to_pylist(), object) == "text"
            return np.unique(parents[bad & spoken]).tolist()  # type: ignore[no-any-return]
        return np.flatnonzero(bad & texts.is_valid().to_numpy(zero_copy_only=False)).tolist()


def _column(values: Any, mask: np.ndarray | None, nullable: bool) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if nullable and values.dtype == np.float32:
        missing = np.isnan(values)
        mask = missing if mask is None else mask | missing
    return pa.array(values, mask=mask)


def _load_model(name: str, precision: str, long: str) -> Any:
    model = None
    if name != "none":
        from affectcore.models import base

        model = base.load(name)
        if hasattr(model, "configured"):
            return model.configured(precision, long)
    if (precision, long) != ("auto", "segment"):
        raise UsageError(f"precision and long are settings of encoders, and model {name} is none: leave them out")
    return model


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
