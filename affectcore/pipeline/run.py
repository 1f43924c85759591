"""Files to files: read, score and write overlapped, in order, in bounded memory, and resumable."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from affectcore.errors import AffectcoreError, InputError, TextError, UsageError
from affectcore.io.formats.conversations import spoken, unvoiced
from affectcore.io.readers import Problem, Reader, Source, discover, open_reader, text_bytes
from affectcore.io.writers import check_types, is_file_output
from affectcore.kernels import compilation
from affectcore.pipeline.file_target import FileTarget
from affectcore.pipeline.folder_target import FolderTarget
from affectcore.pipeline.targets import Batch, PartEnd, Target
from affectcore.settings import usable_cores

__all__ = ["PART_BYTES", "Report", "SupportsScoring", "score_dataset"]

PART_BYTES = 1 << 30
"""Text in one output part, at most: what a crash costs at most, for each input."""
BATCHES_IN_PART = 128
"""Batches in one output part, at most: with an encoder, which is slow, some minutes' worth."""

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
    notes
        What else a user should know of the output, as sentences without a full stop: files in it that are not of this
        run, inputs that are gone, what could not be verified.
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
    notes: list[str] = field(default_factory=list)
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
    verify: bool = False,
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
        Replace an output file; in a folder, what an earlier run wrote there and files named like the parts of this one.
    resume
        Go on with an earlier run of the same settings: finished parts of unchanged inputs are not done again. Where
        there is an output but no record of such a run, it is left alone.
    verify
        Tell what is unchanged by checksums, and not by sizes and times alone: of finished parts, and of inputs where
        the run that read them was to verify, too, since that reads each input once more. To be used with `resume`, and
        on the run before it.
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
        The output exists, cannot be written, is not what an earlier run wrote, or was begun with other settings, or
        another run is writing to it.
    KeyboardInterrupt
        With a message that says what is kept.
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
    kind = FileTarget if is_file_output(out) else FolderTarget
    if overwrite:
        _check_settings(sources, scorer.schema, opened, out)
    target = kind(out, scorer.schema, sources, config, overwrite=overwrite, resume=resume, verify=verify)
    run = _Run(scorer, target, threads or usable_cores(), part_bytes, progress)
    try:
        target.begin()
        if isinstance(target, FileTarget) and not target.complete and len(sources) > 1:
            _compare_schemas(target, opened)
        for source in sources:
            run.file(source, opened)
        run.drain()
        run.finish()
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(target.kept()) from stop
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
        notes=target.notes(),
        seconds=time.monotonic() - started,
        compile_seconds=compilation.state().seconds - compiled,
    )


# -- the run -------------------------------------------------------------------------------------------------------


class _Run:
    """Reads in the calling thread, scores in a pool, writes in order."""

    def __init__(
        self,
        scorer: SupportsScoring,
        target: Target,
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
        self._queue: deque[Batch | PartEnd] = deque()
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
                    self._push(PartEnd(source, reader.schema, False, False, reader.take_problems(end)))
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
                self._push(Batch(source, reader.schema, kept, *sizes, starts, future))
                held += n_bytes
                end, boundary = reader.row, reader.at_boundary
        except InputError as exc:
            self._fail(source, reader.schema, reader.take_problems(), exc)
            return
        if others and not voiced:
            lacking = unvoiced(source.path, self._roles, others)
            self._fail(source, reader.schema, reader.take_problems(), lacking, void=True)
        else:
            self._push(PartEnd(source, reader.schema, True, False, reader.take_problems()))

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
        self._push(PartEnd(source, schema, True, True, [*problems, problem], void))

    def _push(self, step: Batch | PartEnd) -> None:
        self._queue.append(step)
        self._in_flight += isinstance(step, Batch)
        while self._queue and (self._in_flight >= self._most or isinstance(self._queue[0], PartEnd)):
            self._step()

    def drain(self) -> None:
        while self._queue:
            self._step()

    def _step(self) -> None:
        step = self._queue.popleft()
        if isinstance(step, PartEnd):
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


def _compare_schemas(target: FileTarget, opened: Callable[[Source], Reader]) -> None:
    """Compare the columns of all inputs of one output file before the work begins: hours later would be too late."""
    for source in target.sources:
        try:
            with opened(source) as reader:
                schema = reader.schema
        except (InputError, UsageError):
            continue  # told when its turn comes
        _check_names(source, schema, target.scores, target.out)
        target.check(source, schema)


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
