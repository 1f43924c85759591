"""``affectcore models``: which models there are, and what is known of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from affectcore.cli.console import out
from affectcore.errors import InputError, UsageError


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A model, or a model directory, to describe in full.", show_default="list all"
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
        import json

        content: Any = entries if name is None else entries[0]
        typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    console = out()
    console.print(_table(entries))
    if name is not None and entries[0]["card"]:
        console.print()
        typer.echo(entries[0]["card"].rstrip())


def describe(name_or_path: str | Path) -> dict[str, Any]:
    """Return what is known of a model, as plain values.

    Parameters
    ----------
    name_or_path
        Name of an embedded model, or a model directory.

    Returns
    -------
    dict
        `name`, `content_hash`, `bytes` (of the files), `licence`, `base` (of a directory without a network of its own,
        else None), `heads` (name, kind, labels, columns, info) and `card` (Markdown).

    Raises
    ------
    UsageError
        There is no such model.
    InputError
        A file of it is missing or damaged.
    """
    import difflib

    from affectcore.models import base

    name, known = str(name_or_path), _embedded()
    directory = base.EMBEDDED / name if name in known else Path(name_or_path)
    if not directory.is_dir():
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown model {name!r}: {hint}there are {', '.join(known)}, and directories of models")
    record = base.read_record(directory)
    card = directory / "README.md"
    try:
        heads = [
            {key: head[key] for key in ("name", "kind", "labels", "columns")} | {"info": head.get("info", {})}
            for head in record["heads"]
        ]
        return {
            "name": directory.resolve().name,
            "content_hash": base.content_hash(directory),
            "bytes": sum(file.stat().st_size for file in directory.iterdir() if file.is_file()),
            "licence": record.get("licence") or _licences(heads),
            "base": record.get("base"),
            "heads": heads,
            "card": card.read_text(encoding="utf-8") if card.is_file() else "",
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            directory / "affect.json", f"no field {error}", "it is not whole: copy or train the model again"
        ) from None


def _embedded() -> list[str]:
    from affectcore.models import base

    return base.embedded()


def _licences(heads: list[dict[str, Any]]) -> str:
    found = dict.fromkeys(str(head["info"].get("licence") or "") for head in heads)
    return ", ".join(licence for licence in found if licence) or "not stated"


def _table(entries: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("model", "size", "hash"):
        table.add_column(head, no_wrap=True)
    table.add_column("heads")
    table.add_column("licence")
    for entry in entries:
        heads = ", ".join(f"{head['name']} ({len(head['labels'])})" for head in entry["heads"])
        if entry["base"]:
            heads += f"; on {entry['base']['name']}"
        size = entry["bytes"]
        shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
        table.add_row(Text(entry["name"]), shown, entry["content_hash"], Text(heads), Text(entry["licence"]))
    return table
