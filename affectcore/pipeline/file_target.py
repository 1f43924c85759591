"""Scores as one file of all inputs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import pyarrow as pa

from affectcore.errors import InputError, OutputError, UsageError
from affectcore.io.files import NAME_MAX, remove_leftovers, writing
from affectcore.io.manifest import Manifest, Part, checksum, config_hash, fingerprint
from affectcore.io.readers import Problem, Source
from affectcore.io.writers import Writer
from affectcore.pipeline.targets import LOCK, Batch, PartEnd, Target

__all__ = ["FileTarget"]

_LONGEST = NAME_MAX - 40  # bytes in an output file's name: those beside it have longer ones


class FileTarget(Target):
    """One output file; a hidden manifest beside it says what it was made from."""

    complete = False

    def begin(self) -> None:
        self._schema: pa.Schema | None = None
        self._first: Source | None = None
        self._failed = False
        self._rows = self._bytes = 0
        self._old: dict[str, tuple[int, str]] = {}  # the file there, where an earlier run wrote it
        self._seen: tuple[int, ...] | None = None  # that file, as it was seen
        if len(os.fsencode(self.out.name)) > _LONGEST:
            raise OutputError(f"{self.out}: the name is too long; choose one of at most {_LONGEST} bytes")
        # A link stays a link: what it points to is replaced, and that is locked and on record.
        with writing(self.out):
            self._real = Path(os.path.realpath(self.out))
        name = self._real.name
        self._take_lock(self._real.with_name(f".{name}{LOCK}"))
        self._manifest_path = self._real.with_name(f".{name}.manifest.jsonl")
        with writing(self.out):
            if self.out.is_dir():
                raise OutputError(f"{self.out} is a folder; give the name of a file in it")
            present = self._real.exists()
        if present and not (self.overwrite or self.resume):
            raise OutputError(
                f"{self.out} exists; pass --overwrite to replace it, or --resume to go on with an earlier run"
            )
        self._mark, self._sha256 = self._inputs(), self._input_sums()
        if present:
            self._look_at(Manifest(self._manifest_path, self.out, lenient=self.overwrite))
        if self._may_write:
            remove_leftovers(self._real.parent, f"{re.escape(name)}|{re.escape(self._manifest_path.name)}")
            errors = self._errors_path()
            remove_leftovers(errors.parent, re.escape(errors.name))

    def _look_at(self, manifest: Manifest) -> None:
        """Find out whether the file there is an earlier run's, and whether it is what is asked for."""
        part = manifest.of("")[-1] if manifest.of("") else None
        name, whole = self._real.name, part is not None and part.output == self._real.name
        if part is not None and whole:
            whole = part.unchanged(self._real.parent, verify=self.verify or not manifest.placed)
        if part is not None and whole:
            self._old[name] = part.output_size, part.sha256 or checksum(self._real)
        elif name in manifest.old and (self._real.stat().st_size, checksum(self._real)) == manifest.old[name]:
            self._old[name] = manifest.old[name]
        if self.overwrite:
            return
        if part is None:
            raise OutputError(
                f"{self.out} exists, and there is no record of a run that wrote it ({self._manifest_path.name}), so"
                " --resume leaves it alone; write to another place, or pass --overwrite to replace it"
            )
        if not self._old:
            raise OutputError(
                f"{self.out} is not, or no longer, what the run on record wrote ({self._manifest_path.name}), so"
                " --resume leaves it alone; write to another place, or pass --overwrite to replace it"
            )
        manifest.check(self.config)
        self._seen = _seen(self._real)
        if not whole:
            return
        done = manifest.finished("", self._mark, self._real.parent, sha256=self._sha256)
        if done:
            self.complete = self.anything = True
            self.problems += [Problem(**p) for p in done[0].problems]
            self.outputs.append(self.out)
            if self.verify and not done[0].input_sha256:
                self._unverified += [str(source.path) for source in self.sources]
            if not manifest.placed and self._may_write:
                self._manifest = manifest
                manifest.place()

    def _inputs(self) -> str:
        marks = []
        for source in self.sources:
            mark = "-"  # one that is gone fails when its turn comes
            with contextlib.suppress(InputError):
                mark = fingerprint(source.path)
            marks.append(f"{source.path.resolve()}:{mark}")
        return config_hash({"inputs": marks})

    def _input_sums(self) -> str:
        if not self.verify:
            return ""
        sums = []
        for source in self.sources:
            with contextlib.suppress(InputError):
                sums.append(checksum(source.path))
        return hashlib.sha256("".join(sums).encode()).hexdigest()

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

    def _begin_file(self, schema: pa.Schema) -> Writer:
        return self._open_writer(self._real, schema, self.overwrite or bool(self._old))

    def write(self, batch: Batch, scores: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._begin_file(batch.schema)
        self._bytes += batch.n_bytes
        self._rows += batch.rows
        self._append(self._writer, batch, scores)
        self.anything = True

    def end_part(self, end: PartEnd) -> None:
        self.problems += end.problems
        self._failed = self._failed or end.failed
        if not end.failed:
            self.anything = True

    def finish(self) -> None:
        if self.complete:
            self._write_problems(self._errors_path())
            return
        if self._writer is None:
            self._writer = self._begin_file(self._schema or pa.schema([]))
        writer = self._writer
        writer.seal()
        if self._seen is not None and _seen(self._real) != self._seen:
            raise OutputError(
                f"{self.out} was changed by somebody else meanwhile; move it away, or pass --overwrite to replace it"
            )
        part = Part(
            input=str(self.sources[0].path.resolve()),
            stem="",
            fingerprint=self._mark,
            part=0,
            first_row=0,
            rows=self._rows,
            units=writer.rows,
            bytes=self._bytes,
            output=self._real.name,
            output_size=writer.size,
            last=True,
            failed=self._failed,
            config=self.hash,
            problems=[p.to_dict() for p in self.problems],
            sha256=writer.sha256,
            input_sha256=self._sha256,
        )
        manifest = Manifest(self._manifest_path, self.out, lenient=True)
        self._manifest = manifest
        manifest.begin(self.config, self._old, [part])
        writer.place()
        self._writer = None
        self.outputs.append(self.out)
        manifest.place()
        self._write_problems(self._errors_path())

    def kept(self) -> str:
        if self.outputs:
            return f"{self.out} is complete; the same command with --resume tells what could not be scored"
        return (
            "an output file is written at the end, as a whole, so the same command begins again; a folder as output"
            " keeps the parts that are finished"
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            manifest = self._manifest
            if manifest is not None and self._may_write and not self._real.exists():
                manifest.path.unlink()  # of a file that never came to its place
        super().close()

    def _errors_path(self) -> Path:
        return self.out.with_name(self.out.name + ".errors.jsonl")


def _seen(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _difference(a: pa.Schema, b: pa.Schema) -> str:
    one, other = dict(zip(a.names, a.types)), dict(zip(b.names, b.types))
    told = []
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            told.append(f"{name}: {one.get(name, 'missing')} and {other.get(name, 'missing')}")
    return "; ".join(told) or "their order"
