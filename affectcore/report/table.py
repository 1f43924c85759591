"""The leaderboard of a comparison as a terminal table, plain text, Markdown and CSV."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from affectcore import escape

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

    from affectcore.comparison import Comparison
    from affectcore.frontier import Frontier
    from affectcore.stability import Gate

__all__ = ["Leaderboard", "costs", "csv_text", "markdown", "moves", "plain", "shorten", "strip"]

_STRIP = 20  # characters of the interval strip; it shrinks to _STRIP_LEAST before names are shortened
_STRIP_LEAST = 12
_NAME_LEAST = 8
_NO_NAME = "(null)"
_MEANING = {"better": "higher is better", "worse": "lower is better", "neither": "a description, not a judgement"}


def shorten(name: str, width: int, ellipsis: str = "…") -> str:
    """Cut the middle out of a name that is wider than `width` characters.

    Both ends stay, because names of models differ at both (maker in front, size or date behind).

    Parameters
    ----------
    name
        The name.
    width
        Number of characters the result may have, at least 3.
    ellipsis
        What stands for the part that was cut out.

    Returns
    -------
    str
    """
    name = escape.line(name)
    if len(name) <= width:
        return name
    left = (width - len(ellipsis) + 1) // 2
    right = width - len(ellipsis) - left
    return name[:left] + ellipsis + (name[-right:] if right else "")


def strip(
    mean: float | None,
    low: float | None,
    high: float | None,
    span: tuple[float, float],
    width: int = _STRIP,
    *,
    ascii_only: bool = False,
) -> str:
    """Draw a mean and its interval on a line of `width` characters.

    Parameters
    ----------
    mean, low, high
        The mean and the ends of its interval; None where unknown.
    span
        Values at the left and right end of the line.
    width
        Number of characters.
    ascii_only
        True for a terminal that cannot show box-drawing characters.

    Returns
    -------
    str
        Exactly `width` characters: a point for the mean, a line for the interval, a bar at zero if zero is in the span.
    """
    dot, line, zero = ("o", "-", "|") if ascii_only else ("●", "─", "┊")
    start, end = span
    scale = (width - 1) / (end - start) if end > start else 0.0

    def place(value: float) -> int:
        return min(width - 1, max(0, round((value - start) * scale)))

    cells = [" "] * width
    if start < 0 < end:
        cells[place(0.0)] = zero
    if low is not None and high is not None:
        for i in range(place(low), place(high) + 1):
            cells[i] = line
    if mean is not None:
        cells[place(mean)] = dot
    return "".join(cells)


class Leaderboard:
    """A comparison as a rich renderable that adapts to the width of the console.

    Numbers get the decimals that their intervals can carry. Nothing depends on colour.

    Parameters
    ----------
    comparison
        What to show.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table per metric and facet, and the footer."""
        from rich.text import Text

        ascii_only = options.ascii_only
        for number, (title, comparison, rows) in enumerate(_tables(self.comparison)):
            if number:
                yield Text("")
            yield escape.rich(title, "bold")
            for line in _lines(comparison, rows, options.max_width, ascii_only):
                yield Text(line, no_wrap=True, overflow="crop")
        yield Text("")
        yield from map(escape.rich, _footer(self.comparison))


def plain(comparison: Comparison, width: int = 80) -> str:
    """Render the leaderboard as text without colour or control sequences, without a final line feed."""
    from rich.console import Console

    target = io.StringIO()
    console = Console(file=target, width=width, color_system=None, force_terminal=False, highlight=False, markup=False)
    console.print(Leaderboard(comparison))
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines())


def markdown(comparison: Comparison) -> str:
    """Render the leaderboard as Markdown: a table per metric and facet, the method below, a final line feed."""
    lines: list[str] = []
    confidence = f"{comparison.confidence * 100:g}%"
    for title, part, rows in _tables(comparison):
        digits = _decimals(rows)
        base = part.baseline is not None  # a facet may lack the model
        lines += [f"**{escape.markdown(title, cell=True)}**", ""]
        head = [
            "rank",
            part.by,
            "mean",
            f"{confidence} interval",
            *(["difference to baseline"] if base else []),
            "difference to first",
            "Cohen's d",
            "Cliff's delta",
            "p (Holm)",
            "rank interval",
            "n",
            "null",
        ]
        lines.append(f"| {' | '.join(escape.markdown(h, cell=True) for h in head)} |")
        lines.append(f"|---:|:---|---:|:---|:---|{':---|' if base else ''}---:|---:|---:|:---|---:|---:|")
        for row in rows:
            to = "baseline" if base else "best"
            cells = [
                _whole(row["rank"]),
                escape.markdown(_name(row), cell=True),
                _number(row["mean"], digits),
                _range(row["ci_low"], row["ci_high"], digits),
                *([_change(row, "diff_to_baseline", "_to_baseline", digits)] if base else []),
                _change(row, "diff_to_best", "", digits),
                _number(row[f"d_to_{to}"], 2, sign=True),
                _number(row[f"delta_to_{to}"], 2, sign=True),
                _p(row[f"p_holm_to_{to}"]),
                _rank_range(row, "–"),
                f"{row['n']:,}",
                f"{row['n_null']:,}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [line for note in _footer(comparison) for line in (escape.markdown(note), "")]
    return "\n".join(lines[:-1]) + "\n"


def csv_text(table: pa.Table) -> str:
    """Render a table as CSV with a header line; nulls are empty, numbers keep all their digits.

    Strings are on one line, and those that a spreadsheet would run are marked (`affectcore.escape.csv`).
    """
    import csv

    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(map(escape.csv, table.column_names))
    writer.writerows(tuple(map(escape.csv, row.values())) for row in table.to_pylist())
    return target.getvalue()


def costs(found: Frontier) -> RenderableType:
    """Return a frontier as a rich renderable: per metric, models from cheap to dear, the frontier marked."""
    table = _grid(
        ("metric", "left"), ("model", "left"), ("mean", "right"), (found.label, "right"), ("frontier", "left")
    )
    for row in found.table.to_pylist():
        mark = "yes" if row["on_frontier"] else ""
        table.add_row(*map(escape.rich, (row["metric"], _name(row), f"{row['mean']:.4g}", f"{row['cost']:g}", mark)))
    return _with_notes(table, found.notes)


def moves(gate: Gate) -> RenderableType:
    """Return what moved since earlier scores as a rich renderable, what got worse marked."""
    table = _grid(("metric", "left"), ("model", "left"), ("old", "right"), ("new", "right"), ("change", "right"),
                  ("95% interval", "left"), ("p", "right"), ("", "left"))  # fmt: skip
    for row in gate.table.to_pylist():
        digits = _decimals([{"ci_low": row["diff_low"], "ci_high": row["diff_high"], "mean": row["diff"]}])
        cells = (
            row["metric"],
            _name(row),
            _number(row["old"], digits),
            _number(row["new"], digits),
            _number(row["diff"], digits, sign=True),
            _range(row["diff_low"], row["diff_high"], digits),
            _p(row["p_holm"]),
            "worse" if row["worse"] else "",
        )
        table.add_row(*map(escape.rich, cells))
    return _with_notes(table, gate.notes)


def _grid(*heads: tuple[str, Literal["left", "right"]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head, justify in heads:
        table.add_column(escape.rich(head), justify=justify, overflow="fold")
    return table


def _with_notes(table: Table, notes: Sequence[str]) -> RenderableType:
    from rich.console import Group

    return Group(table, *map(escape.rich, notes))


def _tables(comparison: Comparison) -> list[tuple[str, Comparison, list[dict[str, Any]]]]:
    """Return title, comparison and rows of each metric, of all rows and then by facet."""
    parts: list[tuple[str, Comparison]] = [("", comparison)]
    for value, part in comparison.facets.items():
        parts.append((f"{comparison.facet} = {_NO_NAME if value is None else value}; ", part))
    found = []
    for prefix, part in parts:
        rows = part.table.to_pylist()
        for metric in part.metrics:
            found.append((prefix + _title(part, metric), part, [row for row in rows if row["metric"] == metric]))
    return found


def _change(row: dict[str, Any], name: str, suffix: str, digits: int) -> str:
    """Write a difference and its interval; nothing of a model and itself."""
    low, high = row[f"diff_low{suffix}"], row[f"diff_high{suffix}"]
    if low is None and row[name] in (None, 0):
        return ""
    return f"{_number(row[name], digits, sign=True)} {_range(low, high, digits)}".strip()


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _title(comparison: Comparison, metric: str) -> str:
    from affectcore.metrics.registry import METRICS

    first = "highest first" if comparison.orders[metric] == "descending" else "lowest first"
    if metric not in METRICS:
        return f"{metric}: {first}"
    entry = METRICS[metric]
    return f"{metric} ({entry.unit}): {first}; {_MEANING[entry.higher_is]}"


def _footer(comparison: Comparison) -> list[str]:
    notes = [f"{comparison.method}."]
    if comparison.baseline is not None:
        test = "a sign-flip permutation test" if comparison.paired else "Mann and Whitney's test"
        notes.append(
            f"to base: difference to {shorten(comparison.baseline, 60)}; p: that of {test}, "
            "corrected for the number of models (Holm)."
        )
    return [*notes, *comparison.notes, *(f"{value}: {note}" for value, part in comparison.facets.items()
            for note in part.notes)]  # fmt: skip


def _decimals(rows: Sequence[dict[str, Any]]) -> int:
    """Choose decimals so that the narrowest interval still shows two digits of its half width."""
    from affectcore.comparison import has_width

    halves = [(row["ci_high"] - row["ci_low"]) / 2 for row in rows if has_width(row)]
    if halves:
        return min(6, max(0, 1 - math.floor(math.log10(min(halves)))))
    largest = max((abs(row["mean"]) for row in rows if row["mean"] is not None), default=0.0)
    return 3 if largest < 100 else 1


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return ""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text  # no minus zero


def _range(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f"[{_number(low, digits)}, {_number(high, digits)}]"


def _rank_range(row: dict[str, Any], dash: str) -> str:
    low, high = row["rank_low"], row["rank_high"]
    if low is None:
        return ""
    return str(low) if low == high else f"{low}{dash}{high}"


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _name(row: dict[str, Any]) -> str:
    return _NO_NAME if row["by"] is None else escape.line(row["by"])


def _lines(comparison: Comparison, rows: list[dict[str, Any]], width: int, ascii_only: bool) -> list[str]:
    from rich.cells import cell_len, set_cell_size

    digits = _decimals(rows)
    dash = "-" if ascii_only else "–"
    ends = [v for row in rows for v in (row["ci_low"], row["ci_high"], row["mean"]) if v is not None]
    span = (min(ends), max(ends)) if ends else (0.0, 0.0)
    columns: list[tuple[str, Literal["left", "right"], list[str]]] = [
        ("#", "right", [_whole(row["rank"]) for row in rows]),
        (escape.line(comparison.by), "left", [_name(row) for row in rows]),
        ("mean", "right", [_number(row["mean"], digits) for row in rows]),
        (f"{comparison.confidence * 100:g}% interval", "right", []),
        ("", "left", []),
        ("rank", "right", [_rank_range(row, dash) for row in rows]),
        ("n", "right", [f"{row['n']:,}" for row in rows]),
    ]
    if comparison.baseline is not None:
        change = [
            "" if row["by"] == comparison.baseline else _number(row["diff_to_baseline"], digits, sign=True)
            for row in rows
        ]
        columns += [("to base", "right", change), ("p", "right", [_p(row["p_holm_to_baseline"]) for row in rows])]
    columns[3][2].extend(_range(row["ci_low"], row["ci_high"], digits) for row in rows)
    if any(row["n_null"] for row in rows):
        columns.append(("null", "right", [f"{row['n_null']:,}" for row in rows]))
    widths = [max(map(cell_len, [head, *cells]), default=0) for head, _, cells in columns]
    room = width - (len(columns) - 1) * 2 - sum(w for i, w in enumerate(widths) if i not in (1, 4))
    drawn = min(_STRIP, max(_STRIP_LEAST, room - widths[1]))
    if room - drawn < _NAME_LEAST:
        drawn = 0  # a very narrow console: the numbers matter more than the drawing
    named = max(_NAME_LEAST, min(widths[1], room - drawn))
    if drawn:
        left, right = _number(span[0], digits), _number(span[1], digits)
        if len(left) + len(right) < drawn:
            columns[4] = (left + " " * (drawn - len(left) - len(right)) + right, "left", [])
        for row in rows:
            columns[4][2].append(strip(row["mean"], row["ci_low"], row["ci_high"], span, drawn, ascii_only=ascii_only))

    dots = "..." if ascii_only else "…"
    fixed = [named if i == 1 else drawn if i == 4 else w for i, w in enumerate(widths)]
    kept = [i for i in range(len(columns)) if i != 4 or drawn]

    def line(texts: Sequence[str]) -> str:
        cells = []
        for i, text in zip(kept, texts):
            cell = shorten(text, fixed[i], dots) if i == 1 else text
            if cell_len(cell) > fixed[i]:  # wide characters take two columns
                cell = set_cell_size(cell, fixed[i])
            gap = " " * (fixed[i] - cell_len(cell))
            cells.append(gap + cell if columns[i][1] == "right" else cell + gap)
        return "  ".join(cells).rstrip()

    # The widths are settled here, so the lines are put together here too: a rich table would weigh them once more.
    heads = line([columns[i][0] for i in kept])
    return [heads, *(line([columns[i][2][number] for i in kept]) for number in range(len(rows)))]
