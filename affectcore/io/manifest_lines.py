"""The lines of a manifest: what each kind holds, what is true of each field, and the checksum at the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from affectcore.io.files import NAME_MAX
from affectcore.io.formats.base import Problem

__all__ = [
    "FAILED",
    "GONE",
    "HERE",
    "INPUT",
    "OLD",
    "PART",
    "RUN",
    "VERSIONS",
    "WrongLineError",
    "check_fields",
    "check_of",
    "is_name",
    "line_of",
    "part_name",
    "shown",
    "split_part_name",
]

HERE, FAILED, GONE = "here", "failed", "gone"
"""States of an input: it is, or was, to be scored; it could not be read to its end; it is no longer there."""

VERSIONS = (1, 2)
"""Versions that are read; lines of the first had no checksums, and there were no kinds but run and part."""

_PART_NAME = re.compile(r"(.+)-(\d{5,9})\.parquet", re.DOTALL)


def part_name(stem: str, part: int) -> str:
    """Return the file name of an input's part."""
    return f"{stem}-{part:05d}.parquet"


def split_part_name(name: str) -> tuple[str, int] | None:
    """Return the stem and the number in the name of a part, or None where it is no such name."""
    found = _PART_NAME.fullmatch(name)
    if found is None or part_name(found[1], int(found[2])) != name:
        return None
    return found[1], int(found[2])


class WrongLineError(Exception):
    """A line that cannot be true."""


def check_of(entry: Mapping[str, Any]) -> str:
    """Return the checksum of a line's other fields."""
    try:
        return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:8]
    except RecursionError:
        raise WrongLineError("it is nested too deep") from None


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return an entry and its checksum as a line."""
    entry = {**entry, "check": check_of(entry)}
    try:
        return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a name that is not UTF-8
        return json.dumps(entry).encode() + b"\n"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_path(value: Any) -> bool:
    if not _is_text(value) or not value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def is_name(value: Any) -> bool:
    """Tell whether a value names something in a folder, and nothing elsewhere."""
    return (
        _is_path(value)
        and value not in (".", "..")
        and not any(separator and separator in value for separator in (os.sep, os.altsep))
        and Path(value).name == value
        and len(os.fsencode(value)) <= NAME_MAX
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("(?:[0-9a-f]{64})?", value) is not None


def _are_problems(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(p, dict)
        and p.keys() == _PROBLEM
        and all(isinstance(p[name], str) for name in _PROBLEM - {"row"})
        and (p["row"] is None or _is_count(p["row"]))
        for p in value
    )


_PROBLEM = {f.name for f in fields(Problem)}
_TEXT, _PATH = (_is_text, "text"), (_is_path, "a path")
_NAME = (is_name, "the name of a file in this folder")
_STEM = (lambda value: value == "" or is_name(value), "a name without separators")
_COUNT = (_is_count, "a whole number from 0 on")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_HASH = (_is_hash, "a SHA-256 or empty")
_DICT = (lambda value: isinstance(value, dict), "an object")

RUN: dict[str, Any] = {
    "version": (lambda value: type(value) is int and value in VERSIONS, "1 or 2, what this affectcore reads"),
    "config": _DICT,
}
INPUT: dict[str, Any] = {
    "stem": _NAME,
    "input": _PATH,
    "state": (lambda v: v in (HERE, FAILED, GONE), "here, failed or gone"),
}
OLD: dict[str, Any] = {"output": _NAME, "output_size": _COUNT, "sha256": _HASH}
PART: dict[str, Any] = {
    "input": _PATH,
    "stem": _STEM,
    "fingerprint": _TEXT,
    "part": (lambda value: _is_count(value) and value < 10**9, "a whole number from 0 on"),
    "first_row": _COUNT,
    "rows": _COUNT,
    "units": _COUNT,
    "bytes": _COUNT,
    "output": _NAME,
    "output_size": _COUNT,
    "last": _FLAG,
    "failed": _FLAG,
    "config": _TEXT,
    "problems": (_are_problems, "a list of problems"),
    "sha256": _HASH,
    "input_sha256": _HASH,
}
_OPTIONAL = ("problems", "sha256", "input_sha256")


def check_fields(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise WrongLineError where a field is missing, unknown, or not what `schema` wants."""
    for name, (right, what) in schema.items():
        if name not in entry:
            if name in _OPTIONAL:
                continue
            raise WrongLineError(f"{name} is missing")
        if not right(entry[name]):
            raise WrongLineError(f"{name} is {shown(entry[name])}, not {what}")
    unknown = sorted({*entry} - {*schema})
    if unknown:
        raise WrongLineError(f"{shown(unknown[0])} is no field of it")


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
