"""The record of finished parts, by which a run that was cut off goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from affectcore.errors import InputError, OutputError
from affectcore.io.writers import writing

__all__ = ["Manifest", "Part", "config_hash", "fingerprint"]

_VERSION = 1
_TOLD = 5  # differences of settings that are named


def fingerprint(path: Path) -> str:
    """Return what tells a file from a changed one, ``"<size>-<mtime_ns>"``; of a pipe, that it is one."""
    try:
        status = path.stat()
    except OSError as exc:
        raise InputError(path, f"cannot open it: {exc.strerror}", "check the path and its permissions") from exc
    return f"{status.st_size}-{status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else "pipe"


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of a run's settings, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """One finished output file.

    Parameters
    ----------
    input
        Path of the input.
    stem
        Name of the input within the run; outputs begin with it.
    fingerprint
        `fingerprint` of the input when it was read.
    part
        Number of the part, from 0.
    first_row
        Row of the input at which the part begins.
    rows
        Rows of the input in it; rows dropped as malformed do not count.
    units
        Rows of the output.
    bytes
        Bytes of text scored.
    output
        Name of the output file.
    output_size
        Its size in bytes.
    last
        Whether the input ends here.
    failed
        Whether reading stopped here because of an error; such a part is done again on resume.
    config
        `config_hash` of the run.
    problems
        What could not be scored, as dictionaries.
    """

    input: str
    stem: str
    fingerprint: str
    part: int
    first_row: int
    rows: int
    units: int
    bytes: int
    output: str
    output_size: int
    last: bool
    failed: bool
    config: str
    problems: list[dict[str, Any]] = field(default_factory=list)


class Manifest:
    """A file of one JSON line for the settings of a run and one for each finished part.

    A line cut short by a crash is dropped when the file is opened again.

    Parameters
    ----------
    path
        The file; it need not exist.
    output
        What messages call the output that it is of; by default its folder.
    """

    def __init__(self, path: Path, output: Path | None = None) -> None:
        self.path = path
        self.output = output or path.parent
        self.config: dict[str, Any] | None = None
        self.parts: list[Part] = []
        self._handle: Any = None
        self._intact = 0
        if path.exists():
            with writing(path):
                self._load(path.read_bytes())

    def _load(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                kind = entry.pop("kind")
                if kind == "run":
                    self.config = entry["config"]
                else:
                    self.parts.append(Part(**entry))
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                raise OutputError(
                    f"{self.path} is not a manifest of this version of affectcore; pass --overwrite to score afresh"
                ) from exc
            self._intact += len(line)

    def open(self, config: Mapping[str, Any]) -> None:
        """Begin to append; a new file gets `config` as its first line.

        Raises
        ------
        OutputError
            The file cannot be written, or another run is writing to it.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = self.path.open("ab")
        self._lock()
        with writing(self.path):
            if self._handle.tell() != self._intact:
                self._handle.truncate(self._intact)
        if self.config is None:
            self.config = dict(config)
            self._append({"kind": "run", "version": _VERSION, "config": self.config})

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self.close()
            raise OutputError(
                f"another run is writing to {self.output}; wait for it, or write to another place"
            ) from exc
        except OSError:  # a file system without locks
            return

    def add(self, part: Part) -> None:
        """Append a finished part and wait until it is on the disk."""
        self.parts.append(part)
        self._append({"kind": "part", **asdict(part)})

    def _append(self, entry: Mapping[str, Any]) -> None:
        with writing(self.path):
            self._handle.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise OutputError where the manifest is of other settings; the message says which differ."""
        if self.config is None or self.config == dict(config):
            return
        then, now = _flat(self.config), _flat(config)
        missing = "(not set)"
        differences = [
            f"{name} was {then.get(name, missing)} and is {now.get(name, missing)} now"
            for name in sorted({*then, *now})
            if then.get(name, missing) != now.get(name, missing)
        ]
        differences.sort(key=lambda told: told.startswith("scorer.metrics."))  # another model has dozens of them
        more = f"; and {len(differences) - _TOLD:,} more" if len(differences) > _TOLD else ""
        raise OutputError(
            f"{self.output} holds scores of other settings: {'; '.join(differences[:_TOLD])}{more}."
            " Use the same settings, pass --overwrite to score afresh, or write to another place"
        )

    def finished(self, stem: str, mark: str, folder: Path) -> list[Part]:
        """Return the parts of an input that need not be done again: unchanged input, whole output, in order from 0."""
        latest = {p.part: p for p in self.parts if p.stem == stem}
        done: list[Part] = []
        row = 0
        while (part := latest.get(len(done))) is not None:
            size = -1
            with contextlib.suppress(OSError):
                size = (folder / part.output).stat().st_size
            if part.fingerprint != mark or part.failed or part.first_row != row or size != part.output_size:
                break
            done.append(part)
            row += part.rows
            if part.last:
                break
        return done

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
