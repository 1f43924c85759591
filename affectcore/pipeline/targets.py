"""Where scores go: what a folder of parts (`folder_target`) and one file (`file_target`) have in common.

The order of steps decides what a killed run leaves. A folder's part is written under a temporary name, moved to its
place, and then gets its line in the manifest; its name is on record from the beginning (`Manifest.states`), so a part
without a line is known as one that a killed run left, and is made again. An output file's line comes before the file is
moved to its place, and is followed by another one that says so. What an earlier run left is on record (`Manifest.old`)
before it is removed or replaced. So whatever is there and on no record is somebody else's and stays.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from affectcore import escape
from affectcore.io.files import write_whole, writing
from affectcore.io.lock import Lock, take
from affectcore.io.manifest import Manifest, config_hash, few_names
from affectcore.io.readers import Problem, Source
from affectcore.io.writers import Writer, open_writer

__all__ = ["LOCK", "Batch", "PartEnd", "Target"]

LOCK = ".affectcore.lock"
"""Name of the lock in an output folder, and end of its name beside an output file."""


@dataclass
class Batch:
    """Rows of a source and their scores, under way."""

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
class PartEnd:
    """The end of a part of a source."""

    source: Source
    schema: pa.Schema | None  # None: the file could not be opened
    last: bool
    failed: bool
    problems: list[Problem]
    void: bool = False  # whether the part has nothing that was asked for


class Target(ABC):
    """An output: begins and ends parts, remembers what is finished.

    Attributes
    ----------
    problems, outputs
        As of `affectcore.pipeline.run.Report`.
    anything
        Whether some input was read without failing at once.
    """

    def __init__(
        self,
        out: Path,
        scores: pa.Schema,
        sources: list[Source],
        config: dict[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        verify: bool = False,
    ) -> None:
        self.out = out
        self.scores = scores
        self.sources = sources
        self.config = config
        self.hash = config_hash(config)
        self.overwrite = overwrite
        self.resume = resume
        self.verify = verify
        self.problems: list[Problem] = []
        self.outputs: list[Path] = []
        self.anything = False
        self._notes: list[str] = []
        self._unverified: list[str] = []  # inputs without a checksum on record
        self._writer: Writer | None = None
        self._manifest: Manifest | None = None
        self._lock: Lock | None = None

    def full_schema(self, kept: pa.Schema) -> pa.Schema:
        return pa.schema([*kept, *self.scores], metadata=self.scores.metadata)

    @abstractmethod
    def begin(self) -> None:
        """Take the lock, look at what is there, and make way; raise OutputError where that must not be."""

    @abstractmethod
    def start_of(self, source: Source) -> int | None:
        """Return the row of `source` to begin at; None where it is finished."""

    @abstractmethod
    def check(self, source: Source, kept: pa.Schema) -> None:
        """Raise UsageError where the columns of `source` do not fit."""

    @abstractmethod
    def write(self, batch: Batch, scores: pa.RecordBatch) -> None: ...

    @abstractmethod
    def end_part(self, end: PartEnd) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def kept(self) -> str:
        """Say what a run that is interrupted now leaves, and how to go on."""

    def notes(self) -> list[str]:
        """Return what a user should know of the output, as sentences without a full stop."""
        notes = [self._lock.note] if self._lock is not None and self._lock.note else []
        if self._unverified:
            notes.append(
                f"no checksum is on record of {len(self._unverified):,} of the inputs, which an earlier run read"
                f" without --verify: size and time of {few_names(self._unverified)} are as they were"
            )
        return [*notes, *self._notes]

    def _take_lock(self, path: Path) -> None:
        self._lock = take(path, self.out, reading=self.resume)

    @property
    def _may_write(self) -> bool:
        return self._lock is not None and self._lock.held

    def _append(self, writer: Writer, batch: Batch, scores: pa.RecordBatch) -> None:
        columns = [*batch.kept.columns, *scores.columns]
        writer.write(pa.RecordBatch.from_arrays(columns, schema=writer.schema))

    def _open_writer(self, path: Path, kept: pa.Schema, overwrite: bool) -> Writer:
        return open_writer(path, self.full_schema(kept), overwrite=overwrite).begin()

    def _write_problems(self, path: Path) -> None:
        lines = [f"{escape.json(p.to_dict())}\n" for p in self.problems]
        content = "".join(lines).encode("utf-8", "replace")
        with writing(path):
            if not content:
                if os.path.lexists(path):
                    path.unlink()
            elif not (path.is_file() and path.read_bytes() == content):
                write_whole(path, content)

    def close(self) -> None:
        """Discard an unfinished part, and let go of the manifest and the lock."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
        if self._manifest is not None:
            self._manifest.close()
        if self._lock is not None:
            self._lock.release()
