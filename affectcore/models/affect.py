"""What `affect.json` of a model directory says, and the arrays of its heads: checked before anything uses them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from affectcore.errors import InputError
from affectcore.models import schema
from affectcore.models.schema import AGAIN, Each, Free, Map, Maybe, Number, Record, Text, Whole, refuse

__all__ = [
    "FORMAT",
    "KINDS",
    "LEVELS",
    "NETWORKS",
    "PARTS",
    "array",
    "check_columns",
    "check_distress",
    "parts",
    "read",
]

FORMAT = 1
NETWORKS = ("static", "bert")
"""Types of network that this version can run."""
KINDS = ("multi_label", "single_label", "regression")
LEVELS = ("passage", "document", "strongest")
PARTS = ("weight", "bias", "scale", "shift", "thresholds")
"""The arrays of a head."""

_NAME = Text(least=1)
_INFO = Map(Free())
_HEAD = Record(
    {
        "name": _NAME,
        "kind": Text(KINDS),
        "level": Text(LEVELS),
        "labels": Each(_NAME, least=1, distinct=True),
        "columns": Each(_NAME, least=1, distinct=True),
        "low": Maybe(Number()),
        "high": Maybe(Number()),
        "info": _INFO,
    }
)
_DISTRESS = Record({"version": Whole(1), "bias": Number(), "weights": Map(Number(), least=1)}, {"info": _INFO})
_NETWORK = {
    "static": Record({"type": Text(NETWORKS), "n_unigrams": Whole(1)}),
    "bert": Record({"type": Text(NETWORKS)}),
}
_BASE = Record({"name": _NAME, "content_hash": Text()})
_FILE = Record(
    {"format": Whole(1), "heads": Each(_HEAD, least=1)},
    {"network": Free(), "base": _BASE, "licence": Text(), "distress": _DISTRESS},
)


def read(path: Path) -> dict[str, Any]:
    """Return what `affect.json` says.

    Raises
    ------
    InputError
        If it is missing, or says what it may not; the message names the key.
    """
    also = "this is no model directory, or one that is not whole; a checkpoint would have a config.json"
    record = schema.read(path, missing=also, finite=True)
    if type(record.get("format")) is not int or record["format"] != FORMAT:
        found = schema.shown(record.get("format"))
        raise InputError(
            path, f"format {found}, not {FORMAT}", "another version of affectcore made it, or copy it again"
        )
    schema.check(path, record, _FILE)
    if ("network" in record) == ("base" in record):
        known = "has both network and base" if "network" in record else "has neither network nor base"
        raise InputError(path, f"it {known}: a model has one of them", AGAIN)
    if "network" in record:
        network = record["network"]
        schema.check(path, network, Record({"type": Text(NETWORKS)}, more=True), "network")
        schema.check(path, network, _NETWORK[network["type"]], "network")
    names: dict[str, int] = {}
    for place, head in enumerate(record["heads"]):
        _check_head(path, head, place)
        if names.setdefault(head["name"], place) != place:
            refuse(path, f"is {head['name']!r}, as that of heads[{names[head['name']]}] is", "heads", place, "name")
    columns = [(place, column) for place, head in enumerate(record["heads"]) for column in head["columns"]]
    check_columns(path, [(f"heads[{place}]", column) for place, column in columns])
    return record


def _check_head(path: Path, head: Mapping[str, Any], place: int) -> None:
    """Check what the values of a head are to one another."""
    n, k = len(head["columns"]), len(head["labels"])
    if n != k:
        refuse(path, f"has {n} names, and there are {k} labels: a column for each label", "heads", place, "columns")
    low, high = head["low"], head["high"]
    if low is not None and high is not None and low > high:
        refuse(path, f"is {low!r}, above high, which is {high!r}", "heads", place, "low")
    hidden = head["name"].startswith("_")
    for number, column in enumerate(head["columns"]):
        if column.startswith("_") != hidden:
            whose = "a hidden head's columns begin" if hidden else "only a hidden head's columns begin"
            refuse(path, f"is {column!r}: {whose} with an underscore", "heads", place, "columns", number)


def check_columns(path: Path, columns: Sequence[tuple[str, str]]) -> None:
    """Refuse that two heads write one column.

    Parameters
    ----------
    path
        The file that says so.
    columns
        Each column, after what its head is called.
    """
    first: dict[str, str] = {}
    for head, column in columns:
        if column in first:
            raise InputError(
                path,
                f"{first[column]} and {head} both have the column {column!r}",
                "rename one of them, or train again",
            )
        first[column] = head


def check_distress(path: Path, weights: Iterable[str], features: Collection[str]) -> None:
    """Refuse that distress is computed of what is not among the features, columns of heads and word lists."""
    for name in weights:
        if name not in features:
            hint = schema.meant(name, list(features))
            refuse(path, f"is of no column of its heads, and no word list{hint}", "distress", "weights", name)


def parts(path: Path, arrays: Mapping[str, np.ndarray], head: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a head, float32.

    Parameters
    ----------
    path
        The file of the arrays.
    arrays
        What it holds.
    head
        The head, as `affect.json` describes it.

    Raises
    ------
    InputError
        If one is missing, is not of the head's shape, or calibrates to what is not finite.
    """
    name, k = head["name"], len(head["labels"])
    out = {}
    for part in PARTS:
        shape = (None, k) if part == "weight" else (k,)
        out[part] = array(path, arrays, f"heads.{name}.{part}", shape)
    for part in ("scale", "shift"):
        if not np.isfinite(out[part]).all():
            raise InputError(path, f"array heads.{name}.{part} has values that are not finite", AGAIN)
    if np.isinf(out["thresholds"]).any():
        raise InputError(path, f"array heads.{name}.thresholds has values that are infinite", AGAIN)
    return out


def array(
    path: Path, arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...], kind: str = "f"
) -> np.ndarray:
    """Return an array after a look at its type and shape; None in `shape` is any length. Floats become float32."""
    if name not in arrays:
        raise InputError(path, f"array {name} is missing", AGAIN)
    found = arrays[name]
    if found.dtype.kind != kind or (kind == "i" and found.dtype != np.int8):
        raise InputError(path, f"array {name} is of type {found.dtype}: {_KINDS[kind]}", AGAIN)
    if len(found.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InputError(path, f"array {name} has the shape {found.shape}: it must be ({wanted})", AGAIN)
    with np.errstate(over="ignore"):  # what is not finite is reported, not refused
        return found.astype(np.float32) if kind == "f" else found


_KINDS = {"f": "it must be floats", "i": "it must be int8"}
