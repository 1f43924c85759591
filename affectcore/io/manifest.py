"""The record of finished parts, by which a run that was cut off goes on.

A manifest is a file of JSON lines. The first one has the settings of the run (``run``); the others say which inputs
have which names (``input``), what an earlier run left that is to be removed or replaced (``old``), which parts are
finished (``part``), and, beside an output file, that it is in its place (``placed``). The latest line on a thing
counts. Each line ends with a checksum of itself, so one that was changed is told from one that was written.

Names of outputs are on record before the files are there: what lies in the folder and is on no line is not ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from affectcore.errors import InputError, OutputError
from affectcore.io.files import write_whole, writing
from affectcore.io.manifest_lines import (
    INPUT,
    OLD,
    PART,
    RUN,
    VERSIONS,
    WrongLineError,
    check_fields,
    check_of,
    is_name,
    line_of,
    part_name,
    shown,
    split_part_name,
)

__all__ = [
    "MANIFEST",
    "DamagedManifest",
    "Manifest",
    "Part",
    "checksum",
    "config_hash",
    "few_names",
    "fingerprint",
]

MANIFEST = "_manifest.jsonl"
"""Name of the manifest in an output folder."""

_BEGINNING = b'{"kind": "run"'  # of a manifest whose first line a crash has cut short
_TOLD = 5  # differences of settings that are named


def fingerprint(path: Path) -> str:
    """Return what tells a file from a changed one, ``"<size>-<mtime_ns>"``; of a pipe, that it is one."""
    try:
        status = path.stat()
    except OSError as exc:
        raise InputError(path, f"cannot open it: {exc.strerror}", "check the path and its permissions") from exc
    return f"{status.st_size}-{status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else "pipe"


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal.

    Raises
    ------
    InputError
        It cannot be read.
    """
    found = hashlib.sha256()
    block = memoryview(bytearray(1 << 20))
    try:
        with path.open("rb", buffering=0) as file:
            while n := file.readinto(block):
                found.update(block[:n])
    except OSError as exc:
        raise InputError(path, f"cannot read it: {exc.strerror}", "check the path and its permissions") from exc
    return found.hexdigest()


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
        Name of the input within the run; outputs begin with it. Empty for one output file of all inputs.
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
    sha256
        `checksum` of the output file; empty where it is not on record.
    input_sha256
        `checksum` of the input, where the run was asked to verify; else empty.
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
    sha256: str = ""
    input_sha256: str = ""

    def unchanged(self, folder: Path, *, verify: bool = False) -> bool:
        """Tell whether the output file is in `folder` as it was written: by its size, or also by its checksum."""
        path = folder / self.output
        try:
            status = path.stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.output_size:
            return False
        return not (verify and self.sha256) or checksum(path) == self.sha256


class DamagedManifest(OutputError):  # noqa: N818
    """A manifest that cannot be true.

    Attributes
    ----------
    reason
        What is wrong with it, without a full stop.
    """

    def __init__(self, path: Path, line: int | None, reason: str, remedy: str = "") -> None:
        why = f"{reason}, so this is not a manifest as affectcore writes it"
        self.reason = why if line is None else f"line {line}: {why}"
        where = path if line is None else f"{path}, line {line}"
        remedy = remedy or "pass --overwrite to score afresh, or write to another place"
        super().__init__(f"{where}: {why}; {remedy}")


class Manifest:
    """The manifest of an output folder, or of one output file.

    A line cut short by a crash is dropped when the file is written to again.

    Parameters
    ----------
    path
        The file; it need not exist.
    output
        The output file that it is of; by default it is of its folder.
    lenient
        Pass over lines that are damaged, instead of raising: for what is to be replaced.

    Attributes
    ----------
    config
        Settings of the run; None where there is no run on record.
    parts
        All parts on record, in the order of their lines.
    states
        For each stem its input and state, `HERE`, `FAILED` or `GONE`, as the latest line on it says.
    old
        Names of outputs of an earlier run, with size and checksum where they are known.
    placed
        Whether the output file is known to be in its place.

    Raises
    ------
    OutputError
        The file cannot be read, or is not a manifest; the message names the line and what is wrong with it.
    """

    def __init__(self, path: Path, output: Path | None = None, *, lenient: bool = False) -> None:
        self.path = path
        self.output = output or path.parent
        self.config: dict[str, Any] | None = None
        self.parts: list[Part] = []
        self.states: dict[str, tuple[str, str]] = {}
        self.old: dict[str, tuple[int, str]] = {}
        self.placed = False
        self._of_file = output is not None
        self._version = VERSIONS[-1]
        self._hash = ""
        self._by_stem: dict[str, list[Part]] = {}
        self._handle: Any = None
        self._intact = 0
        if os.path.lexists(path):
            self._load(_read(path), lenient)

    # -- reading

    def _load(self, data: bytes, lenient: bool) -> None:
        *lines, cut = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                self._take(line, lenient)
            except WrongLineError as exc:
                if not lenient:
                    raise DamagedManifest(self.path, number, str(exc)) from None
        if not (lenient or lines or cut.startswith(_BEGINNING) or _BEGINNING.startswith(cut)):
            raise DamagedManifest(self.path, 1, "it is cut short")
        self._intact = len(data) - len(cut)

    def _take(self, line: bytes, lenient: bool) -> None:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise WrongLineError("it is no JSON") from None
        if not isinstance(entry, dict):
            raise WrongLineError("it is no JSON object")
        check = entry.pop("check", None)
        if check is None and self._version > 1 and self.config is not None:
            raise WrongLineError("it has no checksum (check)")
        if check is not None and check != check_of(entry):
            raise WrongLineError("it does not match its checksum (check)")
        kind = entry.pop("kind", None)
        if self.config is None and kind != "run" and not lenient:
            raise WrongLineError("the settings of the run (kind: run) do not come first")
        if kind == "run":
            self._take_run(entry, check is not None)
        elif kind == "part":
            self._take_part(entry, lenient)
        elif kind == "input":
            check_fields(entry, INPUT)
            self.states[entry["stem"]] = entry["input"], entry["state"]
        elif kind == "old":
            check_fields(entry, OLD)
            if split_part_name(entry["output"]) is None and not self._of_file:
                raise WrongLineError(f"output is {shown(entry['output'])}, which is no part's name")
            self.old[entry["output"]] = entry["output_size"], entry["sha256"]
        elif kind == "placed":
            check_fields(entry, {})
            self.placed = True
        else:
            raise WrongLineError(f"its kind is {shown(kind)}, which is none of run, input, old, part and placed")

    def _take_run(self, entry: dict[str, Any], checked: bool) -> None:
        check_fields(entry, RUN)
        if entry["version"] > 1 and not checked:
            raise WrongLineError("it has no checksum (check)")
        if self.config is not None and self.config != entry["config"]:
            raise WrongLineError("config differs from that of the first line")
        self._version = entry["version"]
        try:
            self.config, self._hash = entry["config"], config_hash(entry["config"])
        except RecursionError:
            raise WrongLineError("config is nested too deep") from None

    def _take_part(self, entry: dict[str, Any], lenient: bool) -> None:
        check_fields(entry, PART)
        wanted = part_name(entry["stem"], entry["part"])
        if self._of_file:
            if entry["stem"] or entry["part"]:
                raise WrongLineError("stem and part are those of a folder")
        elif entry["output"] != wanted or not is_name(entry["stem"]):
            raise WrongLineError(f"output is {shown(entry['output'])}, but that part is called {shown(wanted)}")
        if entry["config"] != self._hash and not lenient:
            raise WrongLineError("config is the hash of other settings")
        self._remember(Part(**entry))

    def _remember(self, part: Part) -> None:
        self.parts.append(part)
        self._by_stem.setdefault(part.stem, []).append(part)

    # -- writing

    def begin(self, config: Mapping[str, Any], old: Mapping[str, tuple[int, str]], parts: Iterable[Part] = ()) -> None:
        """Write a new manifest in the place of any other, whole or not at all.

        Parameters
        ----------
        config
            Settings of the run.
        old
            Names of outputs of an earlier run, which may still be there, with sizes and checksums (0 and empty where
            they are not known).
        parts
            Parts to record at once, before their files are in their place.
        """
        self.close()
        self.config, self._hash, self._version = dict(config), config_hash(config), VERSIONS[-1]
        self.parts, self._by_stem, self.states, self.placed = [], {}, {}, False
        self.old = dict(old)
        lines = [line_of({"kind": "run", "version": self._version, "config": self.config})]
        for name, (size, sha256) in self.old.items():
            lines.append(line_of({"kind": "old", "output": name, "output_size": size, "sha256": sha256}))
        for part in parts:
            self._remember(part)
            lines.append(line_of({"kind": "part", **asdict(part)}))
        content = b"".join(lines)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, content)
        self._intact = len(content)

    def set_states(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Record inputs and states of stems, where they are not on record already, and wait until they are on disk."""
        new = {stem: state for stem, state in states.items() if self.states.get(stem) != state}
        self.states.update(new)
        lines = [line_of({"kind": "input", "stem": stem, "input": i, "state": s}) for stem, (i, s) in new.items()]
        if lines:
            self._append(b"".join(lines))

    def add(self, part: Part) -> None:
        """Append a finished part and wait until it is on the disk."""
        self._append(line_of({"kind": "part", **asdict(part)}))
        self._remember(part)

    def place(self) -> None:
        """Record that the output file is in its place."""
        self._append(line_of({"kind": "placed"}))
        self.placed = True

    def _append(self, data: bytes) -> None:
        with writing(self.path):
            if self._handle is None:
                flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
                self._handle = os.fdopen(os.open(self.path, flags), "ab")
                if os.fstat(self._handle.fileno()).st_size != self._intact:
                    self._handle.truncate(self._intact)
            self._handle.write(data)
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._intact += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    # -- asking

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

    def of(self, stem: str) -> list[Part]:
        """Return the parts on record of one input, in the order of their lines."""
        return self._by_stem.get(stem, [])

    def stems(self) -> dict[str, str]:
        """Return the stems on record and the inputs that they are of, by their latest lines."""
        return {**{p.stem: p.input for p in self.parts}, **{stem: i for stem, (i, _) in self.states.items()}}

    def sequence(self, stem: str, mark: str | None = None) -> tuple[list[Part], bool]:
        """Return the latest parts of one state of an input in order, and whether they reach its end.

        The state is that of the fingerprint `mark`, by default that of the first part.
        """
        latest = {p.part: p for p in self.of(stem)}
        found: list[Part] = []
        row = 0
        while (part := latest.get(len(found))) is not None:
            mark = part.fingerprint if mark is None else mark
            if part.first_row != row or part.fingerprint != mark:
                break
            row += part.rows
            after = latest.get(len(found) + 1)
            if after is not None and after.fingerprint == mark and (part.last or after.first_row != row):
                break  # one of the two lines is not true
            found.append(part)
            if part.last:
                return found, True
        return found, False

    def finished(self, stem: str, mark: str, folder: Path, *, verify: bool = False, sha256: str = "") -> list[Part]:
        """Return the parts of an input that need not be done again: unchanged input, whole output, in order from 0.

        Parameters
        ----------
        stem, mark
            Of the input: its stem and `fingerprint`.
        folder
            Where the outputs are.
        verify, sha256
            Compare checksums of outputs too, and `sha256`, the input's, where one is on record.
        """
        done: list[Part] = []
        for part in self.sequence(stem, mark)[0]:
            if part.failed or (sha256 and part.input_sha256 and part.input_sha256 != sha256):
                break
            if not part.unchanged(folder, verify=verify):
                break
            done.append(part)
        return done


def few_names(names: list[str]) -> str:
    """Return the first names of some files, sorted, and the number of the others."""
    shown = [Path(name).name or name for name in sorted(names)]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3:,} more" if len(shown) > 3 else "")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _read(path: Path) -> bytes:
    elsewhere = "remove it, or write to another place"
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise DamagedManifest(path, None, "it is no regular file", elsewhere)
        with os.fdopen(handle, "rb") as file:
            return file.read()
    except OSError as exc:
        reason = "it is a link" if path.is_symlink() else f"it cannot be read ({exc.strerror})"
        raise DamagedManifest(path, None, reason, elsewhere) from exc
