"""Scores as a folder of Parquet parts, one or more for each input."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import pyarrow as pa

from affectcore.errors import OutputError
from affectcore.io.files import remove_leftovers, writing
from affectcore.io.manifest import MANIFEST, Manifest, Part, checksum, few_names, fingerprint
from affectcore.io.manifest_lines import FAILED, GONE, HERE, part_name, split_part_name
from affectcore.io.readers import Problem, Source
from affectcore.io.writers import EXTENSIONS, Writer, appeared
from affectcore.pipeline.stems import stems_of
from affectcore.pipeline.targets import LOCK, Batch, PartEnd, Target

__all__ = ["FolderTarget"]

_ERRORS = "_errors.jsonl"


class FolderTarget(Target):
    """A folder of Parquet parts with a manifest."""

    def begin(self) -> None:
        self._part: dict[str, int] = {}
        self._row: dict[str, int] = {}
        self._marks: dict[str, tuple[str, str]] = {}
        with writing(self.out):
            if self.out.exists() and not self.out.is_dir():
                raise OutputError(f"{self.out} is a file; for one output file end its name in .parquet")
        self._take_lock(self.out / LOCK)
        with writing(self.out):
            names = [entry.name for entry in self.out.iterdir()]
        present = {name for name in names if not name.startswith(".")}
        if present and not (self.overwrite or self.resume):
            raise OutputError(
                f"{self.out} exists and is not empty; pass --overwrite to replace what an earlier run wrote there,"
                " or --resume to finish it"
            )
        manifest = Manifest(self.out / MANIFEST, lenient=self.overwrite)
        if self.overwrite:
            remove = self._replace(manifest, names)
        else:
            if manifest.config is None and present - {MANIFEST}:
                raise OutputError(
                    f"{self.out} holds files, but no record of a run that could be resumed ({MANIFEST}); write to"
                    " another place, or pass --overwrite to score afresh beside files that no run wrote"
                )
            manifest.check(self.config)
            remove = self._go_on(manifest, names)
        self._manifest = manifest
        with writing(self.out):
            for name in remove:
                (self.out / name).unlink(missing_ok=True)
        if self._may_write:
            remove_leftovers(self.out, rf".+-\d{{5,9}}\.parquet|{re.escape(MANIFEST)}|{re.escape(_ERRORS)}")

    def _replace(self, manifest: Manifest, names: list[str]) -> list[str]:
        """Begin a new manifest, and return what is to be removed of the run that the older one is of."""
        listed = {part.output for part in manifest.parts} | manifest.old.keys()
        old = []
        for name, (stem, _) in _parts(names).items():
            if name in listed or (stem in manifest.states and self._is_ours(name, any_settings=True)):
                old.append(name)
        self._stems = stems_of(self.sources, {}, (), ())
        self._tell_of_others({*names} - {*old})
        manifest.begin(self.config, dict.fromkeys(old, (0, "")))
        manifest.set_states({stem: (str(path.resolve()), HERE) for path, stem in self._stems.items()})
        return [*old, _ERRORS]

    def _go_on(self, manifest: Manifest, names: list[str]) -> list[str]:
        """Go on with a manifest, or begin it, and return what is to be removed: what a killed run left."""
        listed = {part.output for part in manifest.parts}
        earlier = manifest.stems()
        parts = _parts(names)
        unknown = {stem for name, (stem, _) in parts.items() if stem not in earlier and name not in manifest.old}
        self._stems = stems_of(self.sources, earlier, manifest.parts, unknown)
        used = {*self._stems.values()}
        remove, others = [], {name for name in names if name not in parts}
        for name, (stem, _) in parts.items():
            if name in listed:
                continue
            if name in manifest.old or (stem in earlier and self._is_ours(name)):
                remove.append(name)
                continue
            if stem in used:
                raise OutputError(
                    f"{self.out / name} was not written by the run that is to be resumed, and is where a part of it"
                    " goes; move it away"
                )
            others.add(name)
        self._tell_of_others(others)
        states = {stem: (str(path.resolve()), HERE) for path, stem in self._stems.items()}
        # A fault stays on record until its input is read again.
        states = {s: v for s, v in states.items() if manifest.states.get(s) != (v[0], FAILED)}
        absent = []
        mine = {os.path.realpath(source.path) for source in self.sources}
        for stem, source in earlier.items():
            if stem not in used:
                here = Path(source).exists() and os.path.realpath(source) not in mine  # those have other stems
                if not here or manifest.states.get(stem, ("", HERE))[1] == GONE:
                    states[stem] = source, HERE if here else GONE
                if manifest.of(stem):
                    absent.append((source, here))
        self._tell_of_absent(absent)
        if manifest.config is None:
            manifest.begin(self.config, {})
        manifest.set_states(states)
        return remove

    def _is_ours(self, name: str, any_settings: bool = False) -> bool:
        """Tell whether a file is a part that affectcore wrote, with these settings or with any."""
        import pyarrow.parquet as pq

        path = self.out / name
        if path.is_symlink() or not path.is_file():
            return False
        try:
            schema = pq.read_schema(path)
            found, columns = schema.metadata or {}, {*schema.names}
        except (pa.ArrowException, OSError, ValueError):  # parts are whole, or not there
            return False
        if any_settings:
            return b"affectcore" in found
        wanted = self.scores.metadata or {}
        return columns >= {*self.scores.names} and all(found.get(key) == value for key, value in wanted.items())

    def _tell_of_others(self, names: set[str]) -> None:
        files = [n for n in names if not n.startswith((".", "_")) and Path(n).suffix.lower() in EXTENSIONS]
        if files:
            self._notes.append(
                f"{self.out} has files that no run on record wrote: {few_names(files)}; they stay, and affectcore"
                " compare leaves them out"
            )

    def _tell_of_absent(self, absent: list[tuple[str, bool]]) -> None:
        gone = [source for source, here in absent if not here]
        others = [source for source, here in absent if here]
        if gone:
            self._notes.append(
                f"{self.out} has scores of inputs that are no longer there: {few_names(gone)}; affectcore compare"
                " leaves them out"
            )
        if others:
            self._notes.append(
                f"{self.out} also has scores of inputs that are not among these: {few_names(others)}; affectcore"
                " compare reads them too"
            )

    def start_of(self, source: Source) -> int | None:
        assert self._manifest is not None
        manifest, stem = self._manifest, self._stems[source.path]
        mark = fingerprint(source.path)
        sha256 = checksum(source.path) if self.verify else ""
        done = manifest.finished(stem, mark, self.out, verify=self.verify, sha256=sha256) if self.resume else []
        if sha256 and not all(part.input_sha256 for part in done):
            self._unverified.append(str(source.path))
        for part in done:
            self.outputs.append(self.out / part.output)
            self.problems += [Problem(**p) for p in part.problems]
            self.anything = True
        # What the rest of this input gave before is void.
        void = {part.output for part in manifest.of(stem)} - {part.output for part in done}
        with writing(self.out):
            for name in void:
                if os.path.lexists(self.out / name):
                    (self.out / name).unlink()
        if done and done[-1].last:
            return None
        self._part[stem] = len(done)
        self._row[stem] = sum(p.rows for p in done)
        manifest.set_states({stem: (str(source.path.resolve()), HERE)})
        self._marks[stem] = mark, sha256
        return self._row[stem]

    def check(self, source: Source, kept: pa.Schema) -> None:
        """Each part has columns of its own."""

    def _begin_part(self, source: Source, schema: pa.Schema) -> Writer:
        stem = self._stems[source.path]
        path = self.out / part_name(stem, self._part[stem])
        if not self.overwrite and os.path.lexists(path):
            raise appeared(path)
        self._bytes = self._rows = 0
        return self._open_writer(path, schema, self.overwrite)

    def write(self, batch: Batch, scores: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._begin_part(batch.source, batch.schema)
        self._bytes += batch.n_bytes
        self._rows += batch.rows
        self._append(self._writer, batch, scores)

    def end_part(self, end: PartEnd) -> None:
        assert self._manifest is not None
        self.problems += end.problems
        stem, name = self._stems[end.source.path], str(end.source.path.resolve())
        if end.void and self._writer is not None:
            self._writer.discard()
            self._writer = None
        if self._writer is None:
            if end.failed or end.schema is None:
                self._manifest.set_states({stem: (name, FAILED)})
                return
            self._writer = self._begin_part(end.source, end.schema)
        writer, self._writer = self._writer, None
        writer.commit()
        self.anything = True
        self.outputs.append(writer.path)
        mark, sha256 = self._marks[stem]
        self._manifest.add(
            Part(
                input=name,
                stem=stem,
                fingerprint=mark,
                part=self._part[stem],
                first_row=self._row[stem],
                rows=self._rows,
                units=writer.rows,
                bytes=self._bytes,
                output=writer.path.name,
                output_size=writer.size,
                last=end.last,
                failed=end.failed,
                config=self.hash,
                problems=[p.to_dict() for p in end.problems],
                sha256=writer.sha256,
                input_sha256=sha256,
            )
        )
        self._part[stem] += 1
        self._row[stem] += self._rows

    def finish(self) -> None:
        self._write_problems(self.out / _ERRORS)

    def kept(self) -> str:
        n = len({part.output for part in self._manifest.parts}) if self._manifest is not None else 0
        if not n:
            return "no part was finished yet: the same command begins again"
        parts = "the finished part" if n == 1 else f"the {n:,} finished parts"
        return f"the same command with --resume{' in place of --overwrite' * self.overwrite} goes on from {parts}"

    def close(self) -> None:
        manifest = self._manifest
        if manifest is not None and not manifest.parts and self._may_write:
            # Nothing came of it: leave no trace that would ask for --overwrite next time.
            with contextlib.suppress(OSError):
                left = _parts([entry.name for entry in self.out.iterdir()]).items()
                if not any(name in manifest.old or stem in manifest.states for name, (stem, _) in left):
                    manifest.path.unlink()
        super().close()


def _parts(names: list[str]) -> dict[str, tuple[str, int]]:
    """Return those of some names that are names of parts, and their stems and numbers."""
    return {name: found for name in names if (found := split_part_name(name)) is not None}
