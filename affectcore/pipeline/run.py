"""Files to files: read, score and write overlapped, in order, in bounded memory, and resumable."""

from __future__ import annotations

import contextlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from affectcore import escape
from affectcore.errors import AffectcoreError, InputError, OutputError, TextError, UsageError
from affectcore.io.formats.conversations import spoken, unvoiced
from affectcore.io.manifest import Manifest, Part, config_hash, fingerprint
from affectcore.io.readers import Problem, Reader, Source, discover, open_reader, text_bytes
from affectcore.io.writers import Writer, check_types, is_file_output, open_writer, remove_leftovers, writing
from affectcore.kernels import compilation
from affectcore.settings import usable_cores

__all__ = ["PART_BYTES", "Report", "SupportsScoring", "score_dataset"]

PART_BYTES = 1 << 30
"""Text in one output part, at most: what a crash costs at most, for each input."""
BATCHES_IN_PART = 128
"""Batches in one output part, at most: with an encoder, which is slow, some minutes' worth."""

_ERRORS = "_errors.jsonl"
_MANIFEST = "_manifest.jsonl"
_PART_NAME = r".+-\d{5}\.parquet"
_OF_TURNS = ("turn", "conversation")


class SupportsScoring(Protocol):
    """What `score_dataset` needs of a scorer; `affectcore.scorer.Scorer` is one."""

    @property
    def schema(self) -> Any:
        """Schema of the score columns; its metadata is written to every output."""

    def score_units(self, texts: Any, /) -> tuple[Any, Any]:
        """Score an array of texts: a RecordBatch of `schema`, one row per unit, and the number of each row's text.

        None instead of the numbers says that each text is one row. Called from several threads. A scorer may have
        `view`, what it wants of chats (see `affectcore.io.readers.open_reader`), and `score_rows`, as
        `affectcore.scorer.Scorer` does, to say more of what it did.
        """

    def provenance(self) -> dict[str, str]:
        """Return the settings that the scores depend on."""


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes
    ----------
    n_rows, n_units, n_bytes
        Input rows scored, output rows written and bytes of text scored, by this run.
    n_null
        Rows without a text, whose scores are null.
    n_reasoning
        Texts that had reasoning, apart from the answer or before it.
    n_files
        Inputs read by this run.
    text_columns
        Names of the columns that held the texts.
    errors
        What could not be scored: failed files and dropped rows, those of resumed parts included.
    skipped
        Inputs that an earlier run had finished.
    outputs
        Every output file, those of an earlier run included.
    seconds
        Wall time.
    compile_seconds
        Part of it in which kernels were being compiled, on the first run on a machine.
    """

    n_rows: int = 0
    n_units: int = 0
    n_bytes: int = 0
    n_null: int = 0
    n_reasoning: int = 0
    n_files: int = 0
    text_columns: tuple[str, ...] = ()
    errors: list[Problem] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    compile_seconds: float = 0.0


def score_dataset(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    scorer: SupportsScoring,
    text: str | None = None,
    keep: Sequence[str] | None = None,
    format: str = "auto",
    conversation: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    threads: int | None = None,
    batch_bytes: int | None = None,
    part_bytes: int | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Report:
    """Score files of texts and write the scores beside the columns kept.

    Parameters
    ----------
    inputs
        Files, folders and patterns; see `affectcore.io.readers.discover`.
    output
        One file for all inputs, in their order, where the name ends in ``.parquet``, ``.arrow``, ``.feather``,
        ``.ipc`` or ``.jsonl``; else a folder with one or more Parquet parts per input.
    scorer
        Scores the texts.
    text, keep, format
        The text column, the columns to keep and the input format; see `affectcore.io.readers`.
    conversation
        Column with the id of a row's conversation, where rows are turns; see `affectcore.io.readers`.
    overwrite
        Replace what an earlier run wrote to `output`.
    resume
        Go on with an earlier run of the same settings: finished parts of unchanged inputs are not done again.
    threads
        Texts are scored by this many threads; None for one per usable core.
    batch_bytes, part_bytes
        Bytes of text in a batch, at most, and in an output part, about; None: what suits the scorer.
    progress
        Called as ``progress(rows_done, bytes_done, files_done)`` after each batch and each file.

    Returns
    -------
    Report
        With `Report.errors` where some rows or files could not be scored; they are also listed in ``_errors.jsonl`` in
        the output folder, or ``<output>.errors.jsonl`` beside an output file.

    Raises
    ------
    UsageError
        The settings do not fit the inputs: a missing column, a kept column named like a score, files with different
        columns for one output file.
    InputError
        An input does not exist, or every input failed (the first one's error).
    OutputError
        The output exists, cannot be written, or was begun with other settings.
    """
    started, compiled = time.monotonic(), compilation.state().seconds
    if threads is not None and threads < 1:
        raise UsageError(f"threads must be at least 1, not {threads}")
    if overwrite and resume:
        raise UsageError("--overwrite and --resume exclude each other: start afresh, or go on")
    if batch_bytes is None:
        batch_bytes = getattr(scorer, "batch_bytes", 8 << 20)
    if part_bytes is None:
        part_bytes = min(PART_BYTES, BATCHES_IN_PART * getattr(scorer, "batch_bytes", PART_BYTES))
    keep = [keep] if isinstance(keep, str) else keep
    out = Path(output)
    sources = _without_outputs(discover(inputs, format), out)
    for source in sources if resume else ():
        if source.pipe is not None:
            raise UsageError(
                f"{source.path} is a pipe, which --resume cannot read again: write it to a file and name that, or leave"
                " --resume out"
            )
    config = {
        "scorer": dict(scorer.provenance()),
        "text": text,
        "keep": None if keep is None else list(keep),
        "format": format,
        "part_bytes": part_bytes,
        "conversation": conversation,
    }
    opened = partial(
        open_reader,
        text=text,
        keep=keep,
        batch_bytes=batch_bytes,
        view=getattr(scorer, "view", "text"),
        conversation=conversation,
    )
    kind = _FileTarget if is_file_output(out) else _FolderTarget
    if overwrite:
        _check_settings(sources, scorer.schema, opened, out)
    target = kind(out, scorer.schema, sources, config, overwrite=overwrite, resume=resume)
    run = _Run(scorer, target, threads or usable_cores(), part_bytes, progress)
    try:
        target.begin()
        if isinstance(target, _FileTarget) and not target.complete and len(sources) > 1:
            target.compare_schemas(opened)
        for source in sources:
            run.file(source, opened)
        run.drain()
        run.finish()
    finally:
        run.close()
    return Report(
        n_rows=run.n_rows,
        n_units=run.n_units,
        n_bytes=run.n_bytes,
        n_null=run.n_null,
        n_reasoning=run.n_reasoning,
        text_columns=tuple(run.text_columns),
        n_files=run.n_files,
        errors=target.problems,
        skipped=run.skipped,
        outputs=target.outputs,
        seconds=time.monotonic() - started,
        compile_seconds=compilation.state().seconds - compiled,
    )


# -- the run -------------------------------------------------------------------------------------------------------


@dataclass
class _Batch:
    source: Source
    schema: pa.Schema
    kept: pa.RecordBatch
    rows: int  # of the source
    left_out: int  # of them
    texts: int  # or conversations, which can have several rows
    n_bytes: int
    n_null: int
    starts: Any  # the row in the source that each text begins at, where that is known
    scores: Future[tuple[pa.RecordBatch, Any, list[int], int]]


@dataclass
class _PartEnd:
    source: Source
    schema: pa.Schema | None  # None: the file could not be opened
    last: bool
    failed: bool
    problems: list[Problem]
    void: bool = False  # whether the part has nothing that was asked for


class _Run:
    """Reads in the calling thread, scores in a pool, writes in order."""

    def __init__(
        self,
        scorer: SupportsScoring,
        target: _Target,
        threads: int,
        part_bytes: int,
        progress: Callable[[int, int, int], None] | None,
    ) -> None:
        self._scorer = scorer
        self._target = target
        self._part_bytes = part_bytes
        self._progress = progress
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="affectcore-score")
        self._most = threads + 2
        self._queue: deque[_Batch | _PartEnd] = deque()
        self._in_flight = 0
        self._unscored: list[Problem] = []
        self._first_error: AffectcoreError | None = None
        self.n_rows = self.n_units = self.n_bytes = self.n_null = self.n_files = self._files_done = 0
        self.n_reasoning = 0
        self._roles = getattr(scorer, "roles", "all") if getattr(scorer, "unit", "") in _OF_TURNS else "all"
        self._void = False  # whether some input had no turn of a role that was asked for
        self._voiced = False  # whether some turn's role was asked for, or an earlier run has output
        self.text_columns: dict[str, None] = {}
        self.skipped: list[Path] = []

    def file(self, source: Source, opened: Callable[[Source], Reader]) -> None:
        try:
            start = self._target.start_of(source)
        except InputError as exc:
            self.n_files += 1
            self._fail(source, None, [], exc)
            return
        if start is None:
            self.skipped.append(source.path)
            self._voiced = True
            self._files_done += 1
            self._report()
            return
        self.n_files += 1
        try:
            reader = opened(source)
        except (InputError, UsageError) as exc:
            self._fail(source, None, [], exc)
            return
        with reader:
            try:
                _check_names(source, reader.schema, self._target.scores, self._target.out)
            except UsageError as exc:
                self._fail(source, None, [], exc)
                return
            self._target.check(source, reader.schema)
            self.text_columns[reader.text_column] = None
            self._read(source, reader, start)

    def _read(self, source: Source, reader: Reader, start: int) -> None:
        held = 0
        end = start
        boundary = True
        self._voiced = self._voiced or start > 0
        voiced = self._roles == "all" or start > 0
        others: Counter[str | None] = Counter()  # turns of roles that are not asked for, up to the first that is
        try:
            for kept, texts in reader.read(start):
                # Parts begin where reading can begin again cheaply, unless that is too far away.
                if held >= self._part_bytes and (boundary or held >= 2 * self._part_bytes):
                    self._push(_PartEnd(source, reader.schema, False, False, reader.take_problems(end)))
                    held = 0
                n_bytes = text_bytes(texts)
                future = self._pool.submit(self._score, texts)
                rows = reader.row - end
                # Rows that were dropped leave the numbers of the others in their batch unknown.
                starts = range(end, reader.row) if rows == len(texts) else reader.starts
                if not voiced:
                    voiced = texts.role is None or bool(texts.has_role(self._roles).any())
                    self._voiced = self._voiced or voiced
                    others.update({} if voiced else spoken(texts.role))
                turns = len(texts.content) if reader.starts is not None else rows
                sizes = rows, rows - turns, len(texts), n_bytes, texts.null_count
                self._push(_Batch(source, reader.schema, kept, *sizes, starts, future))
                held += n_bytes
                end, boundary = reader.row, reader.at_boundary
        except InputError as exc:
            self._fail(source, reader.schema, reader.take_problems(), exc)
            return
        if others and not voiced:
            lacking = unvoiced(source.path, self._roles, others)
            self._fail(source, reader.schema, reader.take_problems(), lacking, void=True)
        else:
            self._push(_PartEnd(source, reader.schema, True, False, reader.take_problems()))

    def _score(self, texts: Any) -> tuple[pa.RecordBatch, Any, list[int], int]:
        rows = getattr(self._scorer, "score_rows", None)
        if rows is not None:
            found: tuple[pa.RecordBatch, Any, list[int], int] = rows(texts)
            return found
        scores, parents = self._scorer.score_units(texts)
        unscored = getattr(self._scorer, "unscored", None)
        return scores, parents, unscored(texts, scores, parents) if unscored else [], 0

    def _fail(
        self,
        source: Source,
        schema: pa.Schema | None,
        problems: list[Problem],
        exc: AffectcoreError,
        void: bool = False,
    ) -> None:
        self._first_error = self._first_error or exc
        if isinstance(exc, InputError):
            problem = Problem(str(source.path), exc.row, exc.reason, exc.remedy)
        else:
            problem = Problem(
                str(source.path), None, str(exc).removeprefix(f"{source.path}: "), "see --text and --keep"
            )
        self._void = self._void or void
        self._push(_PartEnd(source, schema, True, True, [*problems, problem], void))

    def _push(self, step: _Batch | _PartEnd) -> None:
        self._queue.append(step)
        self._in_flight += isinstance(step, _Batch)
        while self._queue and (self._in_flight >= self._most or isinstance(self._queue[0], _PartEnd)):
            self._step()

    def drain(self) -> None:
        while self._queue:
            self._step()

    def _step(self) -> None:
        step = self._queue.popleft()
        if isinstance(step, _PartEnd):
            step.problems.extend(self._unscored)
            self._unscored.clear()
            self._target.end_part(step)
            self._files_done += step.last
        else:
            self._in_flight -= 1
            try:
                scores, parents, unscored, n_reasoning = step.scores.result()
            except TextError as exc:
                where = "" if step.starts is None else f", row {step.starts[exc.number]}"
                raise TextError(exc.number, exc.reason, exc.remedy, f"{step.source.path}{where}") from None
            for number in unscored:
                row = None if step.starts is None else int(step.starts[number])
                self._unscored.append(
                    Problem(
                        str(step.source.path),
                        row,
                        "the model's logits are not finite, so its scores are null",
                        "affectcore models says which of the model's weights are NaN or infinite",
                    )
                )
            if parents is not None:
                step.kept = step.kept.take(pa.array(parents))
            elif scores.num_rows != step.texts:
                raise AffectcoreError(f"the scorer returned {scores.num_rows} rows for {step.texts} texts")
            self._target.write(step, scores)
            self.n_rows += step.rows - step.left_out
            self.n_units += scores.num_rows
            self.n_bytes += step.n_bytes
            self.n_null += step.n_null
            self.n_reasoning += n_reasoning
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.n_rows, self.n_bytes, self._files_done)

    def finish(self) -> None:
        """Complete the output, or raise the first error where nothing was scored."""
        nothing = not self._target.anything or (self._void and not self._voiced)
        if self._first_error is not None and nothing:
            raise self._first_error
        self._target.finish()

    def close(self) -> None:
        self._queue.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._target.close()


def _check_settings(sources: list[Source], scores: pa.Schema, opened: Callable[[Source], Reader], out: Path) -> None:
    """Raise where no input can be read with these settings, before the older output is given up."""
    first_error: AffectcoreError | None = None
    for source in sources:
        try:
            with opened(source) as reader:
                schema = reader.schema
        except (InputError, UsageError) as exc:
            first_error = first_error or exc
        else:
            _check_names(source, schema, scores, out)
            return
    if first_error is not None:
        raise first_error


def _check_names(source: Source, kept: pa.Schema, scores: pa.Schema, out: Path) -> None:
    check_types(out, kept, source.path)
    taken = set(scores.names)
    clash = [name for name in kept.names if name in taken]
    if clash:
        free = [name for name in kept.names if name not in clash]
        listed = ", ".join(repr(name) for name in clash)
        raise UsageError(
            f"{source.path}: column {listed} has the name of a score; rename it, or leave it out with"
            f" --keep {','.join(free) or '(other columns)'}"
        )


def _without_outputs(sources: list[Source], out: Path) -> list[Source]:
    """Leave out what an earlier run wrote into an input folder."""
    real = out.resolve()
    others = [s for s in sources if real not in (p := s.path.resolve(), *p.parents)]
    if not others:
        raise UsageError(f"the input is the output, {out}; write to another place")
    return others


# -- where it goes -------------------------------------------------------------------------------------------------


class _Target(ABC):
    """An output: begins and ends parts, remembers what is finished."""

    def __init__(
        self,
        out: Path,
        scores: pa.Schema,
        sources: list[Source],
        config: dict[str, Any],
        *,
        overwrite: bool,
        resume: bool,
    ) -> None:
        self.out = out
        self.scores = scores
        self.sources = sources
        self.config = config
        self.hash = config_hash(config)
        self.overwrite = overwrite
        self.resume = resume
        self.problems: list[Problem] = []
        self.outputs: list[Path] = []
        self.anything = False  # whether some input was read without failing at once
        self._writer: Writer | None = None
        self._manifest: Manifest | None = None

    def full_schema(self, kept: pa.Schema) -> pa.Schema:
        return pa.schema([*kept, *self.scores], metadata=self.scores.metadata)

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def start_of(self, source: Source) -> int | None:
        """Return the row of `source` to begin at; None where it is finished."""

    @abstractmethod
    def check(self, source: Source, kept: pa.Schema) -> None:
        """Raise UsageError where the columns of `source` do not fit."""

    @abstractmethod
    def write(self, batch: _Batch, scores: pa.RecordBatch) -> None: ...

    @abstractmethod
    def end_part(self, end: _PartEnd) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    def _append(self, writer: Writer, batch: _Batch, scores: pa.RecordBatch) -> None:
        columns = [*batch.kept.columns, *scores.columns]
        writer.write(pa.RecordBatch.from_arrays(columns, schema=writer.schema))

    def _open_writer(self, path: Path, kept: pa.Schema, overwrite: bool) -> Writer:
        return open_writer(path, self.full_schema(kept), overwrite=overwrite).begin()

    def _write_problems(self, path: Path) -> None:
        with writing(path):
            if not self.problems:
                path.unlink(missing_ok=True)
                return
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes("".join(f"{escape.json(p.to_dict())}\n" for p in self.problems).encode())
            temporary.replace(path)

    def close(self) -> None:
        """Discard an unfinished part and let go of the manifest."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
        if self._manifest is not None:
            self._manifest.close()


class _FolderTarget(_Target):
    """A folder of Parquet parts with a manifest."""

    def begin(self) -> None:
        self._part: dict[str, int] = {}
        self._row: dict[str, int] = {}
        self._marks: dict[str, str] = {}
        with writing(self.out):
            if self.out.exists() and not self.out.is_dir():
                raise OutputError(f"{self.out} is a file; for one output file end its name in .parquet")
            self._created = not self.out.exists()
            present = self.out.is_dir() and any(not e.name.startswith(".") for e in self.out.iterdir())
        if present and not (self.overwrite or self.resume):
            raise OutputError(
                f"{self.out} exists and is not empty; pass --overwrite to replace what an earlier run wrote there,"
                " or --resume to finish it"
            )
        path = self.out / _MANIFEST
        if self.overwrite:
            self._clear(path)
        manifest = Manifest(path)
        manifest.check(self.config)
        self._stems = _stems(self.sources, manifest.parts)
        manifest.open(self.config)
        self._manifest = manifest
        # Only now, with the lock held, are they surely nobody's.
        remove_leftovers(self.out, _PART_NAME)

    def _clear(self, path: Path) -> None:
        """Remove an earlier run: its parts, its manifest first, so that no crash leaves a manifest without parts."""
        if not path.exists():
            return
        try:
            old = [p.output for p in Manifest(path).parts]
        except OutputError:
            old = []
        with writing(self.out):
            path.unlink()
            for name in {*old, _ERRORS}:
                (self.out / Path(name).name).unlink(missing_ok=True)

    def start_of(self, source: Source) -> int | None:
        assert self._manifest is not None
        stem = self._stems[source.path]
        mark = fingerprint(source.path)
        done = self._manifest.finished(stem, mark, self.out) if self.resume else []
        for part in done:
            self.outputs.append(self.out / part.output)
            self.problems += [Problem(**p) for p in part.problems]
            self.anything = True
        if done and done[-1].last:
            return None
        self._part[stem] = len(done)
        self._row[stem] = sum(p.rows for p in done)
        # What the rest of this input gave before is void.
        keep = {p.output for p in done}
        with writing(self.out):
            for part in self._manifest.parts:
                if part.stem == stem and part.output not in keep:
                    (self.out / Path(part.output).name).unlink(missing_ok=True)
        self._marks[stem] = mark
        return self._row[stem]

    def check(self, source: Source, kept: pa.Schema) -> None:
        """Each part has columns of its own."""

    def _name(self, stem: str) -> Path:
        return self.out / f"{stem}-{self._part[stem]:05d}.parquet"

    def write(self, batch: _Batch, scores: pa.RecordBatch) -> None:
        if self._writer is None:
            path = self._name(self._stems[batch.source.path])
            self._writer = self._open_writer(path, batch.schema, self.overwrite or self.resume)
            self._bytes = self._rows = 0
        self._bytes += batch.n_bytes
        self._rows += batch.rows
        self._append(self._writer, batch, scores)

    def end_part(self, end: _PartEnd) -> None:
        assert self._manifest is not None
        self.problems += end.problems
        stem = self._stems[end.source.path]
        if end.void and self._writer is not None:
            self._writer.discard()
            self._writer = None
        if self._writer is None:
            if end.failed or end.schema is None:
                return
            self._writer = self._open_writer(self._name(stem), end.schema, self.overwrite or self.resume)
            self._bytes = self._rows = 0
        writer, self._writer = self._writer, None
        writer.commit()
        self.anything = True
        self.outputs.append(writer.path)
        self._manifest.add(
            Part(
                input=str(end.source.path.resolve()),
                stem=stem,
                fingerprint=self._marks[stem],
                part=self._part[stem],
                first_row=self._row[stem],
                rows=self._rows,
                units=writer.rows,
                bytes=self._bytes,
                output=writer.path.name,
                output_size=writer.path.stat().st_size,
                last=end.last,
                failed=end.failed,
                config=self.hash,
                problems=[p.to_dict() for p in end.problems],
            )
        )
        self._part[stem] += 1
        self._row[stem] += self._rows

    def finish(self) -> None:
        self._write_problems(self.out / _ERRORS)

    def close(self) -> None:
        manifest = self._manifest
        if manifest is not None and not manifest.parts:
            # Nothing came of it: leave no trace that would ask for --overwrite next time.
            with contextlib.suppress(OSError):
                manifest.path.unlink()
                if self._created:
                    self.out.rmdir()
        super().close()


class _FileTarget(_Target):
    """One output file; a hidden manifest beside it says what it was made from."""

    complete = False

    def begin(self) -> None:
        self._schema: pa.Schema | None = None
        self._first: Source | None = None
        self._failed = False
        self._rows = self._bytes = 0
        self._manifest_path = self.out.with_name(f".{self.out.name}.manifest.jsonl")
        with writing(self.out):
            present = self.out.exists()
            if self.out.is_dir():
                raise OutputError(f"{self.out} is a folder; give the name of a file in it")
        if self.resume and present:
            manifest = Manifest(self._manifest_path, self.out)
            manifest.check(self.config)
            done = manifest.finished("", self._inputs(), self.out.parent)
            if done:
                self.complete = self.anything = True
                self.problems += [Problem(**p) for p in done[0].problems]
                self.outputs.append(self.out)
        elif present and not self.overwrite:
            raise OutputError(
                f"{self.out} exists; pass --overwrite to replace it, or --resume to go on with an earlier run"
            )
        if self.resume or self.overwrite:
            remove_leftovers(self.out.parent, re.escape(self.out.name))

    def _inputs(self) -> str:
        marks = [f"{source.path.resolve()}:{fingerprint(source.path)}" for source in self.sources]
        return config_hash({"inputs": marks})

    def compare_schemas(self, opened: Callable[[Source], Reader]) -> None:
        """Compare the columns of all inputs before the work begins: hours later would be too late."""
        for source in self.sources:
            try:
                with opened(source) as reader:
                    schema = reader.schema
            except (InputError, UsageError):
                continue  # told when its turn comes
            _check_names(source, schema, self.scores, self.out)
            self.check(source, schema)

    def check(self, source: Source, kept: pa.Schema) -> None:
        if self._schema is None:
            self._schema, self._first = kept, source
        elif not self._schema.equals(kept):
            assert self._first is not None
            difference = _difference(self._schema, kept)
            raise UsageError(
                f"{self._first.path} and {source.path} have different columns to keep ({difference});"
                " name those they share with --keep, or give a folder as output"
            )

    def start_of(self, source: Source) -> int | None:
        return None if self.complete else 0

    def write(self, batch: _Batch, scores: pa.RecordBatch) -> None:
        if self._writer is None:
            self._mark = self._inputs()
            self._writer = self._open_writer(self.out, batch.schema, self.overwrite or self.resume)
        self._bytes += batch.n_bytes
        self._rows += batch.rows
        self._append(self._writer, batch, scores)
        self.anything = True

    def end_part(self, end: _PartEnd) -> None:
        self.problems += end.problems
        self._failed = self._failed or end.failed
        if not end.failed:
            self.anything = True

    def finish(self) -> None:
        if self.complete:
            self._write_problems(self._errors_path())
            return
        if self._writer is None:
            self._mark = self._inputs()
            self._writer = self._open_writer(self.out, self._schema or pa.schema([]), self.overwrite or self.resume)
        writer, self._writer = self._writer, None
        with writing(self._manifest_path):
            self._manifest_path.unlink(missing_ok=True)
        writer.commit()
        self.outputs.append(self.out)
        manifest = Manifest(self._manifest_path, self.out)
        self._manifest = manifest
        manifest.open(self.config)
        manifest.add(
            Part(
                input=str(self.sources[0].path.resolve()),
                stem="",
                fingerprint=self._mark,
                part=0,
                first_row=0,
                rows=self._rows,
                units=writer.rows,
                bytes=self._bytes,
                output=self.out.name,
                output_size=self.out.stat().st_size,
                last=True,
                failed=self._failed,
                config=self.hash,
                problems=[p.to_dict() for p in self.problems],
            )
        )
        self._write_problems(self._errors_path())

    def _errors_path(self) -> Path:
        return self.out.with_name(self.out.name + ".errors.jsonl")


def _stems(sources: list[Source], earlier: Sequence[Part] = ()) -> dict[Path, str]:
    """Return a file name stem for each source, short where that tells them apart.

    Inputs of an earlier run keep theirs, also where they are not among these: else their parts would be replaced.
    """
    stems: dict[Path, str] = {}
    before = {os.path.realpath(part.input): part.stem for part in earlier}
    there = {path for path in before if Path(path).exists()}
    moved = {part.fingerprint: part.stem for part in earlier if os.path.realpath(part.input) not in there}
    for source in sources:
        kept = before.get(os.path.realpath(source.path))
        with contextlib.suppress(InputError):
            kept = kept or moved.pop(fingerprint(source.path), None)
        if kept is not None:
            stems[source.path] = kept
    taken = {*stems.values(), *(before[path] for path in there)}
    for source in sources:
        if source.path in stems:
            continue
        parent = source.path.resolve().parent.as_posix().strip("/")
        for candidate in (_bare(source.name), source.name, f"{parent}/{source.name}"):
            stem = candidate.replace("/", "__")
            if stem not in taken:
                break
        while stem in taken:
            stem += "_"
        taken.add(stem)
        stems[source.path] = stem
    return stems


def _bare(name: str) -> str:
    path = Path(name)
    for _ in range(2):
        if path.suffix.lower() in (".gz", ".zst", ".zstd"):
            path = path.with_suffix("")
    return path.with_suffix("").as_posix() if path.suffix and path.stem else path.as_posix()


def _difference(a: pa.Schema, b: pa.Schema) -> str:
    one, other = dict(zip(a.names, a.types)), dict(zip(b.names, b.types))
    told = []
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            told.append(f"{name}: {one.get(name, 'missing')} and {other.get(name, 'missing')}")
    return "; ".join(told) or "their order"
