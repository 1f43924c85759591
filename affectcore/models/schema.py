"""States what the JSON files of a model may hold, and checks it where they are read.

A shape is made of rules: `Whole`, `Number`, `Text`, `Flag`, `Each`, `Map`, `Record` and so on. `read` parses a file and
checks it; `check` checks a value that was read before. What breaks a rule becomes an `InputError` that names the file,
the key, what stands there and what may stand there:

    model/affect.json: heads[3].level is 'strongst': one of passage, document, strongest (did you mean 'strongest'?)

Keys that a `Record` does not name are errors, since they are misspelt or mean something that this version does not
know; files of Hugging Face have many keys that do not matter here, so their records say `more=True`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from affectcore.errors import InputError

__all__ = [
    "AGAIN",
    "INT32",
    "Each",
    "Either",
    "Flag",
    "Free",
    "Ids",
    "Map",
    "Maybe",
    "Number",
    "Record",
    "Text",
    "Whole",
    "check",
    "meant",
    "parse",
    "path_of",
    "read",
    "read_bytes",
    "refuse",
    "shown",
]

AGAIN = "copy the model again"
INT32 = (1 << 31) - 1
_DEEPEST = 50


class Fault(NamedTuple):
    """What is wrong with a value, and where."""

    keys: tuple[str | int, ...]  # that lead to it
    reason: str  # with its verb


class Rule(Protocol):
    """What a value may be."""

    @property
    def what(self) -> str:
        """What may stand there, in words."""

    def fault(self, value: Any) -> Fault | None:
        """Return what is wrong with a value, or None."""


def _not(value: Any, what: str) -> Fault:
    return Fault((), f"is {shown(value)}: {what}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    what: str = "true or false"

    def fault(self, value: Any) -> Fault | None:
        return None if isinstance(value, bool) else _not(value, self.what)


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`; 3.0 is none."""

    low: int = -INT32
    high: int = INT32

    @property
    def what(self) -> str:
        return f"a whole number from {self.low:,} to {self.high:,}"

    def fault(self, value: Any) -> Fault | None:
        good = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return None if good else _not(value, self.what)


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, whole or not; no NaN, nothing infinite."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def what(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number, at most 1e38"
        return f"a number from {self.low:g} to {self.high:g}"

    def fault(self, value: Any) -> Fault | None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A whole number can be beyond what floats hold.
        good = number and self.low <= value <= self.high and abs(value) <= 1e38
        return None if good else _not(value, self.what)


@dataclass(frozen=True)
class Text:
    """A text, one of `choices` where there are any; without half characters, which no file or table can hold."""

    choices: tuple[str, ...] = ()
    least: int = 0

    @property
    def what(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return f"a text{' that is not empty' if self.least else ''}"

    def fault(self, value: Any) -> Fault | None:
        if not isinstance(value, str) or len(value) < self.least:
            return _not(value, self.what)
        if self.choices:
            return None if value in self.choices else _not(value, self.what + meant(value, self.choices))
        try:
            value.encode()
        except UnicodeEncodeError:
            return _not(value, "it holds half a character")
        return None


@dataclass(frozen=True)
class Free:
    """Any value that is not nested beyond reason."""

    what: str = "any value"

    def fault(self, value: Any) -> Fault | None:
        level = [value]
        for _ in range(_DEEPEST):
            nested = [part for part in level if isinstance(part, (dict, list)) and part]
            if not nested:
                return None
            level = [v for part in nested for v in (part.values() if isinstance(part, dict) else part)]
        return Fault((), f"is nested more than {_DEEPEST} levels deep")


@dataclass(frozen=True)
class Maybe:
    """A value of a rule, or null."""

    rule: Rule

    @property
    def what(self) -> str:
        return f"{self.rule.what}, or null"

    def fault(self, value: Any) -> Fault | None:
        if value is None:
            return None
        found = self.rule.fault(value)
        return found if found is None or found.keys else _not(value, self.what)


@dataclass(frozen=True)
class Either:
    """A value of one of several rules."""

    rules: tuple[Rule, ...]

    @property
    def what(self) -> str:
        return ", or ".join(rule.what for rule in self.rules)

    def fault(self, value: Any) -> Fault | None:
        found = [rule.fault(value) for rule in self.rules]
        if None in found:
            return None
        inside = [fault for fault in found if fault and fault.keys]
        return inside[0] if len(inside) == 1 else _not(value, self.what)


@dataclass(frozen=True)
class Each:
    """A list whose every value follows a rule; `distinct`, of texts: none stands twice."""

    rule: Rule
    least: int = 0
    most: int = INT32
    distinct: bool = False

    @property
    def what(self) -> str:
        if self.least == self.most:
            return f"a list of {self.least}"
        return "a list" + (" that is not empty" if self.least else "")

    def fault(self, value: Any) -> Fault | None:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            return _not(value, self.what)
        seen: set[str] = set()
        for place, part in enumerate(value):
            if found := self.rule.fault(part):
                return Fault((place, *found.keys), found.reason)
            if self.distinct and part in seen:
                return Fault((place,), f"is {shown(part)}, as one before it is")
            if self.distinct:
                seen.add(part)
        return None


@dataclass(frozen=True)
class Map:
    """An object with any keys, whose every value follows a rule."""

    rule: Rule
    least: int = 0

    @property
    def what(self) -> str:
        return "an object" + (" that is not empty" if self.least else "")

    def fault(self, value: Any) -> Fault | None:
        if not isinstance(value, dict) or len(value) < self.least:
            return _not(value, self.what)
        for key, part in value.items():
            if Text().fault(key):
                return Fault((key,), "is a key that holds half a character")
            if found := self.rule.fault(part):
                return Fault((key, *found.keys), found.reason)
        return None


@dataclass(frozen=True)
class Ids:
    """A vocabulary: an object of token to id, from 0 on, each once."""

    what: str = "an object of token to id"

    def fault(self, value: Any) -> Fault | None:
        if not isinstance(value, dict) or not value:
            return _not(value, self.what)
        ids = value.values()
        if set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) > INT32:  # one look at all, since there are many
            return Map(Whole(0)).fault(value)
        if len(set(ids)) < len(value):
            first: dict[int, str] = {}
            token, number = next((t, i) for t, i in value.items() if first.setdefault(i, t) != t)
            return Fault(
                (token,), f"is {number}, as that of {shown(first[number])} is: every token has an id of its own"
            )
        try:
            "".join(value).encode()
        except UnicodeEncodeError:
            return Map(Whole(0)).fault(value)
        return None


@dataclass(frozen=True)
class Record:
    """An object with certain keys."""

    required: Mapping[str, Rule] = field(default_factory=dict)
    optional: Mapping[str, Rule] = field(default_factory=dict)
    more: bool = False  # whether it may have others
    what: str = "an object"

    def fault(self, value: Any) -> Fault | None:
        if not isinstance(value, dict):
            return _not(value, self.what)
        known = {**self.required, **self.optional}
        if not self.more:
            for key in value:
                if key not in known:
                    left = [name for name in known if name not in value]
                    return Fault((key,), f"is no key that is known here{meant(key, left)}")
        for key, rule in known.items():
            if key not in value:
                if key in self.required:
                    return Fault((key,), f"is missing: {rule.what}")
            elif found := rule.fault(value[key]):
                return Fault((key, *found.keys), found.reason)
        return None


def shown(value: Any) -> str:
    """Return a value as messages show it: short, on one line, as JSON has it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        n = len(value)
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {n}" if n else f"an empty {kind.split()[1]}"
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes out
        text = "a very large number"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-1]}"


def path_of(keys: Sequence[str | int]) -> str:
    """Return the keys that lead to a value as one text: `heads[3].level`."""
    out = ""
    for key in keys:
        if isinstance(key, int):
            out += f"[{key}]"
        elif re.fullmatch(r"[A-Za-z_][\w.-]*", key) and len(key) <= 60:
            out += f".{key}" if out else key
        else:
            out += f"[{shown(key)}]"
    return out


def meant(given: str, known: Sequence[str]) -> str:
    """Return a hint at the nearest of some names, for the end of a message, or nothing."""
    close = difflib.get_close_matches(str(given)[:60], known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def check(path: Path, value: Any, rule: Rule, *keys: str | int, remedy: str = AGAIN) -> None:
    """Check a value.

    Parameters
    ----------
    path
        The file it is from.
    value
        The value, as `json.loads` returns it.
    rule
        What it may be.
    keys
        What leads to it in the file; none: it is the file's whole content.
    remedy
        What the user can do.

    Raises
    ------
    InputError
        If it breaks the rule.
    """
    found = rule.fault(value)
    if found is not None:
        place = path_of((*keys, *found.keys))
        raise InputError(path, f"{place or 'the whole'} {found.reason}", remedy)


def refuse(path: Path, reason: str, *keys: str | int, remedy: str = AGAIN) -> NoReturn:
    """Raise the error for a value that does not go with the rest: `reason` begins with a verb."""
    raise InputError(path, f"{path_of(keys)} {reason}", remedy)


def read_bytes(path: Path, remedy: str = AGAIN) -> bytes:
    """Return what is in a file.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read; `remedy` is for the case that there is none.
    """
    if not path.is_file():
        raise InputError(path, "not found", remedy)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"it cannot be read: {error.strerror or error}", "check its permissions") from None


def read(
    path: Path, rule: Rule | None = None, *, missing: str = AGAIN, remedy: str = AGAIN, finite: bool = False
) -> dict[str, Any]:
    """Return the object in a JSON file.

    Parameters
    ----------
    path
        The file.
    rule
        What it may hold; None: any object.
    missing, remedy
        What the user can do if there is no such file, and if it is damaged.
    finite
        Refuse NaN and Infinity, which Python reads though JSON has none.

    Raises
    ------
    InputError
        If the file is missing or no JSON object, a key stands twice in an object, or the rule is broken.
    """
    record = parse(path, read_bytes(path, missing), remedy, finite)
    if rule is not None:
        check(path, record, rule, remedy=remedy)
    return record


def parse(path: Path, data: bytes, remedy: str = AGAIN, finite: bool = False, what: str = "") -> dict[str, Any]:
    """Return the object that some JSON holds; see `read`. Messages begin with `what` it is."""

    def constant(name: str) -> float:
        if finite:
            raise ValueError(f"it holds {name}")
        return float(name)

    try:
        text = data.decode("utf-8")
        record = json.loads(text, parse_constant=constant)
        if isinstance(record, dict) and not _all_once(text, record):
            json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(path, f"{what}no JSON: {reason}", remedy) from None
    if not isinstance(record, dict):
        raise InputError(path, f"{what}it holds no JSON object", remedy)
    return record


def _all_once(text: str, record: dict[str, Any]) -> bool:
    """Tell whether no key stands twice in an object, as far as counting tells; a vocabulary has many to look at.

    A quotation mark and a colon stand behind each key, and where a text begins with a colon; elsewhere they may, too.
    """
    left: list[Any] = [record]
    n = 0
    while left:
        part: Any = left.pop()
        values: Any = part
        if isinstance(part, dict):
            values = part.values()
            n += len(part) + sum(1 for key in part if key[:1] == ":")
        n += sum(1 for v in values if type(v) is str and v[:1] == ":")
        left += [v for v in values if isinstance(v, (dict, list))]
    return text.count('":') == n and re.search(r'"\s+:', text) is None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return out
