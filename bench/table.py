"""One table of all results: `python bench/table.py bench/results/bench.json bench/results/memory.json [--markdown]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from measure import SECTIONS
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLUMNS = ("", "documents", "MB", "median", "20% to 80%", "MB/s", "× peer", "peak MB", "note")
_WIDTH = 200  # where the output is no terminal
_ORDER = (*SECTIONS, "Memory", "Start-up")

Row = dict[str, Any]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="One table of the benchmarks' results.")
    parser.add_argument("results", type=Path, nargs="+", metavar="FILE", help="JSON of pytest-benchmark or memory.py")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    args = parser.parse_args()
    loaded = [json.loads(path.read_text(encoding="utf-8")) for path in args.results]
    rows = [cells for result in loaded for cells in _rows(result)]
    rows.sort(key=lambda row: _ORDER.index(row[0]))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    busy = _neighbours(loaded)
    headers = list(dict.fromkeys(_header(result) for result in loaded))
    if args.markdown:
        console.print("\n".join(_markdown(rows, busy, headers)), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", caption="\n".join(headers))
    for k, column in enumerate(COLUMNS):
        words = column in ("", "note")
        table.add_column(column, justify="left" if words else "right", no_wrap=column != "note", ratio=None if k else 0)
    for section, group in groupby(rows, key=lambda row: row[0]):
        table.add_row(Text(section, style="bold"), *[""] * (len(COLUMNS) - 2), Text(_others(section, busy)))
        for _, *cells in group:
            table.add_row(*map(Text, cells))
        table.add_section()
    console.print(table)


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield each row of a result: its section, then one cell for each column."""
    if "benchmarks" not in result:
        for row in result["rows"]:
            yield row["section"], *_cells(row, [])
        return
    for benchmark in result["benchmarks"]:
        together = benchmark["extra_info"]["rows"]
        for row in together:
            yield benchmark["group"], *_cells(row, together)


def _neighbours(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return for each section how many cores other processes kept busy, at its worst benchmark."""
    busy: dict[str, float] = {}
    for result in results:
        measured = list(result.get("neighbours", {}).items())
        measured += [(b["group"], b["extra_info"].get("neighbours")) for b in result.get("benchmarks", [])]
        for section, cores in measured:
            if cores is not None:
                busy[section] = max(busy.get(section, 0.0), cores)
    return busy


def _others(section: str, busy: dict[str, float]) -> str:
    return f"other processes: {busy[section]:.2f} cores" if section in busy else ""


def _cells(row: Row, together: list[Row]) -> tuple[str, ...]:
    seconds = np.array(row["seconds"])
    low, median, high = np.quantile(seconds, [0.2, 0.5, 0.8])
    n_bytes, n_docs = row.get("n_bytes", 0), row.get("n_docs", 0)
    notes = list(_encoder(row, together))
    notes += [row["note"]] if row.get("note") else []
    notes += [_comparison(row, name, together) for name in row.get("versus", ())]
    peer = row.get("peer")
    return (
        row["name"],
        f"{n_docs:,}" if n_docs else "",
        _digits(n_bytes / 1e6) if n_bytes else "",
        _duration(median),
        f"{_duration(low)} to {_duration(high)}" if len(seconds) > 1 else "",
        _digits(n_bytes / 1e6 / median) if n_bytes else "",
        _digits(_ratio(row, peer, together)) if peer else "",
        f"{row['peak_bytes'] / 1e6:,.0f}" if "peak_bytes" in row else "",
        "; ".join(notes),
    )


def _ratio(row: Row, name: str, together: list[Row]) -> float:
    """Return the ratio of two throughputs: the median over the rounds, in which both ran."""
    other = next(r for r in together if r["name"] == name)
    a, b = np.array(row["seconds"]), np.array(other["seconds"])
    if len(a) != len(b):
        a, b = np.median(a), np.median(b)
    return float(np.median((row["n_bytes"] / a) / (other["n_bytes"] / b)))


def _encoder(row: Row, together: list[Row]) -> Iterator[str]:
    """Yield what is said of encoders: texts and tokens a second, and the share of another contender's operations."""
    median = np.median(row["seconds"])
    if row.get("n_tokens"):
        yield f"{_digits(row['n_docs'] / median)} texts/s"
        yield f"{_digits(row['n_tokens'] / median)} tokens/s"
    if row.get("rate"):
        other = next(r for r in together if r["name"] == row["rate"])
        share = np.median((row["flops"] / np.array(row["seconds"])) / (other["flops"] / np.array(other["seconds"])))
        yield f"{share:.0%} of the rate of: {row['rate']}"
    elif row.get("flops"):
        yield f"{_digits(row['flops'] / median / 1e9)} GFLOP/s"


def _comparison(row: Row, name: str, together: list[Row]) -> str:
    other = next(r for r in together if r["name"] == name)
    ratio = _ratio(row, name, together)
    best = row["n_bytes"] / min(row["seconds"]) / (other["n_bytes"] / min(other["seconds"]))
    if ratio < 1 and best < 1:
        return f"{_digits(1 / ratio)} × the time of: {name} ({_digits(1 / best)} × in the fastest rounds)"
    return f"{_digits(ratio)} × as fast as: {name} ({_digits(best)} × in the fastest rounds)"


def _header(result: dict[str, Any]) -> str:
    info, commit = result["machine_info"], result["commit_info"]
    cpu = info["cpu"].get("brand_raw", info["machine"])
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    changed = " and changes" if commit.get("dirty") else ""
    return (
        f"{cpu}, {info['usable_cores']} cores, {info['system']}; Python {info['python_version']}, {versions};"
        f" commit {str(commit.get('id', 'unknown'))[:12]}{changed}; texts: {info['corpus']}"
    )


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{_digits(seconds * scale)} {unit}"
    return f"{_digits(seconds * 1e6)} µs"


def _digits(value: float) -> str:
    """Write a number with about three digits that count."""
    if 0 < value < 0.1:
        return f"{value:.2g}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _markdown(rows: list[tuple[str, ...]], busy: dict[str, float], headers: list[str]) -> Iterator[str]:
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "| " + " | ".join("---" if column in ("", "note") else "---:" for column in COLUMNS) + " |"
    for section, group in groupby(rows, key=lambda row: row[0]):
        yield f"| **{section}** |" + " |" * (len(COLUMNS) - 2) + f" {_others(section, busy)} |"
        for _, *cells in group:
            yield "| " + " | ".join(cells) + " |"
    for header in headers:
        yield ""
        yield header


if __name__ == "__main__":
    main()
