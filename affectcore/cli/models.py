"""``affectcore models``: which models there are, and what is known of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore import escape
from affectcore.cli.console import echo, out

_OF_HEADS = ("name", "kind", "labels", "columns")


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model, a directory, or a checkpoint in the hub's cache, to describe in full.",
            show_default="list all",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="AFFECTCORE_JSON", help="Print the records as JSON.", show_default="off"),
    ] = False,
) -> None:
    """List the models that come with the package, or describe one: heads, data, licences, measured quality."""
    entries = [describe(n) for n in _embedded()] if name is None else [describe(name)]
    if as_json:
        echo(escape.json(entries if name is None else entries[0], indent=1))
        return
    console = out()
    console.print(_table(entries))
    if name is not None and entries[0]["network"]:
        console.print()
        for line in _network(entries[0]):
            console.print(line, soft_wrap=True)
    if name is not None and entries[0]["card"]:
        console.print()
        echo(entries[0]["card"].rstrip())


def describe(name_or_path: str | Path) -> dict[str, Any]:
    """Return what is known of a model, as plain values.

    Parameters
    ----------
    name_or_path
        Name of an embedded model, a directory, or the name of a checkpoint in the hub's cache.

    Returns
    -------
    dict
        `name`, `content_hash`, `bytes` (of the files), `licence`, `base` (of a directory without a network of its own,
        else None), `heads` (name, kind, labels, columns, info), `network` (of encoders, else None: type, layers, width,
        parameters, max_tokens of a sequence with special ones, non_finite: names of arrays with NaN or infinity) and
        `card` (Markdown).

    Raises
    ------
    UsageError
        There is no such model.
    InputError
        A file of it is missing or damaged, or it cannot be run.
    """
    from affectcore.models import base

    directory = base.locate(name_or_path)
    path = directory / "README.md"
    card = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    files = {
        "content_hash": base.content_hash(directory),
        "bytes": sum(file.stat().st_size for file in directory.iterdir() if file.is_file()),
        "card": card,
    }
    model: Any = base.load(name_or_path)
    if base.is_checkpoint(directory):
        stated = re.search(r"\A---\n(?:.*\n)*?license: *(\S+)", card)
        heads = [{key: getattr(head, key) for key in (*_OF_HEADS, "info")} for head in model.heads]
        own = {"name": model.name, "licence": stated[1] if stated else "not stated", "base": None, "heads": heads}
        return {**own, **files, "distress": None, "network": _describe_network(model, directory)}
    record = base.read_record(directory)
    heads = [{key: head[key] for key in (*_OF_HEADS, "info")} for head in record["heads"]]
    return {
        "name": directory.name,
        **files,
        "licence": record.get("licence") or _licences(heads),
        "base": record.get("base"),
        "heads": heads,
        "distress": record.get("distress"),
        "network": _describe_network(model, directory) if record.get("network", {}).get("type") == "bert" else None,
    }


def _describe_network(model: Any, directory: Path) -> dict[str, Any]:
    from affectcore.models.checkpoint import read_arrays

    parts, arrays = model.parts, read_arrays(directory)[0]
    return {
        "type": parts.model_type,
        "layers": len(parts.network.layers),
        "width": parts.network.width,
        "parameters": sum(array.size for name, array in arrays.items() if not name.endswith(".scale")),
        "max_tokens": parts.max_tokens,
        "non_finite": list(parts.non_finite),
    }


def _network(entry: dict[str, Any]) -> list[str]:
    network = entry["network"]
    kinds = {"multi_label": "a sigmoid per label", "single_label": "softmax over labels", "regression": "no activation"}
    lines = [
        f"network: {network['type']}, {network['layers']} layers of {network['width']}, "
        f"{network['parameters'] / 1e6:,.1f} million parameters; takes {network['max_tokens']:,} tokens at once",
        *(f"{head['name']}: {kinds[head['kind']]}: {', '.join(head['labels'])}" for head in entry["heads"]),
    ]
    if network["non_finite"]:
        lines.append(f"NaN or infinity in {', '.join(network['non_finite'])}: texts that meet it get null scores")
    return lines


def _embedded() -> list[str]:
    from affectcore.models import base

    return base.embedded()


def _licences(heads: list[dict[str, Any]]) -> str:
    found = dict.fromkeys(str(head["info"].get("licence") or "") for head in heads)
    return ", ".join(licence for licence in found if licence) or "not stated"


def _table(entries: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("model", "size", "hash"):
        table.add_column(head, no_wrap=True)
    table.add_column("heads")
    table.add_column("licence")
    for entry in entries:
        own = [head for head in entry["heads"] if not head["name"].startswith("_")]  # the others have no columns
        counts = [(head["name"], len(head["labels"])) for head in own]
        heads = ", ".join(name if k == 1 else f"{name} ({k})" for name, k in counts)
        heads += ", distress" if entry["distress"] else ""
        if entry["base"]:
            heads += f"; on {Path(entry['base']['name']).name}"
        size = entry["bytes"]
        shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
        table.add_row(*map(escape.rich, (entry["name"], shown, entry["content_hash"], heads, str(entry["licence"]))))
    return table
