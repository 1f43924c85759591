"""Tests of emotional understanding: EQ-Bench v2 (`eqbench`) and multiple-choice tests (`quiz`).

Here is what both share: reading answers and keys, and showing a ranking.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectcore import escape
from affectcore.errors import InputError, UsageError, suggest

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from affectcore.io.formats.base import Problem, Source

__all__ = [
    "QUESTION_COLUMNS",
    "Ranking",
    "counted",
    "listed",
    "name_of",
    "read_dump",
    "read_json",
    "read_records",
    "unread",
]

QUESTION_COLUMNS = ("question_id", "qid", "item_id", "prompt_id", "id")
"""Columns that are likely to name the question of an answer, most likely first."""

_LISTED = 5
_GAP = 2
_NAME = 24  # columns that a model's name may take before other columns go into a table below


@dataclass(frozen=True)
class Ranking:
    """A ranking of models; the results of `eqbench.score` and `quiz.score` are such.

    Parameters
    ----------
    table
        One row per model, best first.
    notes
        What a reader of the numbers must know, as sentences.
    settings
        How the numbers were made, as plain, JSON-able values.
    n_left_out
        Rows of the input that could not be read or scored; not answers that cannot be parsed, which is a result.
    """

    table: pa.Table
    notes: tuple[str, ...]
    settings: dict[str, Any]
    n_left_out: int

    @property
    def method(self) -> str:
        """How the numbers were made, as one sentence without a full stop."""
        raise NotImplementedError

    def columns(self) -> list[tuple[str, bool, list[str]]]:
        """Return what is shown of the table: heads, whether they are numbers, and cells."""
        raise NotImplementedError

    def details(self) -> dict[str, list[dict[str, Any]]]:
        """Return what goes into the JSON file beside the table."""
        return {}

    def _footer(self) -> list[str]:
        return [f"{self.method}.", *self.notes]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the ranking, in as many tables as the width asks for, and the footer."""
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        heads = self.columns()
        widths = [max(cell_len(text) for text in (head, *cells)) for head, _, cells in heads]
        blocks: list[list[int]] = [[]]
        used = fixed = widths[0] + _GAP + min(widths[1], _NAME)
        for i in range(2, len(heads)):
            if used + _GAP + widths[i] > options.max_width and blocks[-1]:
                blocks.append([])
                used = fixed
            blocks[-1].append(i)
            used += _GAP + widths[i]
        for block in blocks:
            table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
            for i in (0, 1, *block):
                head, number, _ = heads[i]
                table.add_column(
                    escape.rich(head),
                    justify="right" if number else "left",
                    no_wrap=number,
                    overflow="fold",
                    min_width=None if i == 1 else widths[i],
                )
            for row in range(self.table.num_rows):
                table.add_row(*(escape.rich(heads[i][2][row]) for i in (0, 1, *block)))
            yield table
            yield Text("")
        for line in self._footer():
            yield escape.rich(line)

    def to_rich(self) -> RenderableType:
        """Return the ranking as a rich renderable that fits the console it is printed on."""
        return self

    def to_markdown(self) -> str:
        """Return the ranking as a Markdown table with the method and the notes below."""
        heads = self.columns()
        rows = zip(*(column for _, _, column in heads))
        lines = [
            [escape.markdown(head, cell=True) for head, _, _ in heads],
            ["---:" if number else ":---" for _, number, _ in heads],
            *([escape.markdown(cell, cell=True) for cell in row] for row in rows),
        ]
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return text + "".join(f"\n{escape.markdown(line)}\n" for line in self._footer())

    def to_csv(self) -> str:
        """Return the table as CSV with a header line; numbers are not rounded."""
        from affectcore.report.table import csv_text

        return csv_text(self.table)

    def to_json(self) -> str:
        """Return settings, notes, table and details as a JSON object that ends with a line feed."""
        content = {
            **self.settings,
            "method": self.method,
            "notes": list(self.notes),
            "ranking": self.table.to_pylist(),
            **self.details(),
        }
        return escape.json(content, indent=1) + "\n"

    def __str__(self) -> str:
        """Return the ranking as plain text, 100 columns wide."""
        from rich.console import Console

        target = io.StringIO()
        Console(file=target, width=100, color_system=None, markup=False, highlight=False).print(self)
        return "\n".join(line.rstrip() for line in target.getvalue().splitlines())


def unread(problems: Sequence[Problem]) -> list[str]:
    """Return what `read_dump` could not read, as sentences."""
    notes = [f"{p.file}, row {p.row}: {p.reason}; {p.remedy}." for p in problems[:_LISTED]]
    more = len(problems) - len(notes)
    return [*notes, f"{counted(more, 'more row')} could not be read."] if more else notes


def read_dump(
    source: Source, text: str | None, columns: Mapping[str, tuple[str | None, Sequence[str]]], needed: Iterable[str]
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Read the answers of one file: Parquet, Arrow IPC, JSON Lines, CSV or TSV.

    Parameters
    ----------
    source
        The file, as `affectcore.io.readers.discover` found it.
    text
        Column of the answers, or None for ``answer``, else the first of `affectcore.io.readers.TEXT_COLUMNS`.
    columns
        For each role, the column that was named, or None for the first there is of the others given.
    needed
        Roles that a file must have a column for.

    Returns
    -------
    rows
        ``{"row": number, "answer": str or None, role: value or None, ...}``; a role without a column is left out.
    problems
        Rows that could not be read.

    Raises
    ------
    UsageError
        There is no such column; names those there are.
    InputError
        The file cannot be read.
    """
    from affectcore.io.formats.base import python_values
    from affectcore.io.readers import open_reader

    rows: list[dict[str, Any]] = []
    if text is None:
        with open_reader(source) as reader:  # a column text may hold the question
            text = "answer" if "answer" in reader.schema.names else reader.text_column
    with open_reader(source, text=text) as reader:
        names = reader.schema.names
        chosen: dict[str, str] = {}
        for role, (name, likely) in columns.items():
            if name is not None and name not in names:
                raise UsageError(
                    f"{source.path}: no column {name!r}{suggest(name, names)}; beside {reader.text_column!r}, the "
                    f"column of the answers, there are: {', '.join(names) or '(none)'}"
                )
            found = name or next((n for n in likely if n in names), None)
            if found is None and role in needed:
                raise UsageError(
                    f"{source.path}: no column for the {role}; name it with --{role}. Beside {reader.text_column!r}, "
                    f"the column of the answers, there are: {', '.join(names) or '(none)'}"
                )
            if found is not None:
                chosen[role] = found
        for kept, texts in reader:
            values = {role: python_values(kept.column(name)) for role, name in chosen.items()}
            for i, answer in enumerate(python_values(texts)):
                answer = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
                rows.append({"row": len(rows), "answer": answer, **{role: v[i] for role, v in values.items()}})
        return rows, reader.take_problems()


def read_json(path: Path) -> Any:
    """Read a file of one JSON value.

    Raises
    ------
    InputError
        It is missing or no JSON; a JSON Lines file names the line at which it stops being one value.
    """
    with _readable(path), path.open(encoding="utf-8-sig") as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            remedy = "correct it; one object a line is JSON Lines, and its name must end in .jsonl"
            raise InputError(path, f"not JSON: {error.msg}", remedy, error.lineno - 1) from error


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbered rows of a small file: JSON (a list, or an object of objects), JSONL, CSV, TSV or Parquet.

    An object of objects gives its keys as ``id``; an object of plain values as ``id`` and ``answer``.

    Raises
    ------
    InputError
        The file is missing or damaged, or a row is not an object; names the row.
    """
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ","))
        return
    if kind in (".parquet", ".pq"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        from affectcore.io.formats.damage import check_batch

        with _readable(path):
            try:
                table = pq.read_table(path, page_checksum_verification=True)
                for batch in table.to_batches():
                    check_batch(batch)
                rows = table.to_pylist()
            except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
                if isinstance(error, UnicodeDecodeError) or getattr(error, "strerror", None):
                    raise
                raise InputError(path, "not a readable Parquet file", "write it again") from error
    elif kind in (".jsonl", ".ndjson"):
        rows = []
        with _readable(path), path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file):
                try:
                    rows += [json.loads(line)] if line.strip() else []
                except json.JSONDecodeError as error:
                    raise InputError(path, f"not JSON: {error.msg}", "correct the line", number) from error
    elif kind == ".json":
        content = read_json(path)
        if isinstance(content, dict):
            content = [
                {"id": key, **value} if isinstance(value, dict) else {"id": key, "answer": value}
                for key, value in content.items()
            ]
        rows = content if isinstance(content, list) else [content]
    else:
        raise InputError(path, "unknown kind of file", "give a .json, .jsonl, .csv, .tsv or .parquet file")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(path, f"{type(row).__name__} where an object is expected", "one object a question", number)
        yield number, row


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of opening and decoding a file into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(path, f"cannot open it: {error.strerror}", "check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "not UTF-8 text", "convert it to UTF-8") from error
    except RecursionError as error:
        raise InputError(path, "not JSON: its objects and lists are too deep", "correct it") from error
    except csv.Error as error:
        raise InputError(path, f"not a readable CSV file: {error}", "correct the row, or give JSON") from error


def name_of(value: Any) -> str | None:
    """Return an id or a name as text: 7, 7.0 and "7" are the same; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def counted(n: int, what: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def listed(names: Iterable[str]) -> str:
    """Return the first few names and the number of the others, each name once."""
    unique = list(Counter(names))
    text = ", ".join(name for name in unique[:_LISTED])
    return text if len(unique) <= _LISTED else f"{text} and {len(unique) - _LISTED:,} more"
