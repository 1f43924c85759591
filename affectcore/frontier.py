"""What a model's tone costs: prices or sizes joined to a comparison, and the models that none beats on both."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv

from affectcore import escape
from affectcore.errors import InputError, UsageError

if TYPE_CHECKING:
    from affectcore.comparison import Comparison

__all__ = ["Frontier", "frontier", "read_costs"]


class Frontier(NamedTuple):
    """Means against costs."""

    table: pa.Table  # by, metric, mean, ci_low, ci_high, cost, on_frontier
    label: str  # what the costs are: the name of their column
    notes: tuple[str, ...]


def read_costs(path: str | Path) -> tuple[str, dict[str, float]]:
    """Read a CSV file with a header: names of models, then a price or size of each.

    Returns
    -------
    label, costs
        The name of the second column, and its value by model.

    Raises
    ------
    InputError
        If the file cannot be read, has fewer than two columns, names a model twice, or has a cost that is no number
        of 0 or more; the message names the row.
    """
    path = Path(path)
    try:
        # Names and costs as text: a cost that is no number shall be named with its row.
        with path.open("rb") as file:
            header = pv.open_csv(file, convert_options=pv.ConvertOptions(strings_can_be_null=True)).schema.names
        kinds = dict.fromkeys(header, pa.string())
        table = pv.read_csv(path, convert_options=pv.ConvertOptions(column_types=kinds, strings_can_be_null=True))
    except UnicodeDecodeError:
        raise InputError(path, "the header line is not UTF-8", "convert the file to UTF-8") from None
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        raise InputError(path, reason, "give a CSV file with a header line") from None
    if table.num_columns < 2:
        raise InputError(path, "it has one column", "the first column names models, the second has their cost")
    if _cost(header[1]) is not None:
        raise InputError(path, f"row 1: {header[1]!r} is a cost, where the header should name it", "add a header line")
    costs: dict[str, float] = {}
    for row, (name, value) in enumerate(zip(table[0].to_pylist(), table[1].to_pylist()), start=2):
        cost = _cost(value)
        name = name and escape.from_csv(name)  # as in the CSV reports of `compare`
        if cost is None:
            raise InputError(path, f"row {row}: {value!r} is no cost", "costs are numbers of 0 or more")
        if name is None or name in costs:
            raise InputError(path, f"row {row}: model {name!r} comes twice or has no name", "one row per model")
        costs[name] = cost
    return header[1], costs


def _cost(value: str | None) -> float | None:
    try:
        cost = float(value or "")
    except ValueError:
        return None
    return cost if 0 <= cost < float("inf") else None


def frontier(result: Comparison, path: str | Path) -> Frontier:
    """Join costs to a comparison and find the frontier of each metric.

    A model is on the frontier if no other is at least as good and at least as cheap, and better in one of both.

    Parameters
    ----------
    result
        The comparison; which mean is better is what is ranked first there.
    path
        CSV file as `read_costs` takes it.

    Raises
    ------
    InputError
        As `read_costs` does.
    UsageError
        If no model of the comparison has a cost, or none has a mean.
    """
    label, costs = read_costs(path)
    rows = [row for row in result.table.to_pylist() if row["mean"] is not None]
    models = list(dict.fromkeys(row["by"] for row in rows))
    if not models:
        raise UsageError(f"no model has a value of {', '.join(result.metrics)}, so costs have nothing to stand against")
    missing = [str(m) for m in models if m not in costs]
    if len(missing) == len(models):
        close = difflib.get_close_matches(next(iter(costs), ""), [m for m in models if m], n=1)
        hint = f" (is {next(iter(costs))!r} {close[0]!r}?)" if close else ""
        raise UsageError(f"{path} has no cost of any of the models {', '.join(missing[:5])}{hint}")
    notes = []
    if missing:
        notes.append(f"No {label} is given for {', '.join(missing)}: left out of the frontier.")
    unused = [name for name in costs if name not in models]
    if unused:
        notes.append(f"{path} also has {', '.join(unused[:5])}{', …' if len(unused) > 5 else ''}, without scores.")
    kept = []
    for metric in result.metrics:
        part = [{**row, "cost": costs[row["by"]]} for row in rows if row["metric"] == metric and row["by"] in costs]
        sign = -1 if result.orders[metric] == "descending" else 1
        cost = np.array([row["cost"] for row in part])
        bad = np.array([sign * row["mean"] for row in part])
        for k, row in enumerate(part):
            no_worse = (cost <= cost[k]) & (bad <= bad[k])
            row["on_frontier"] = not (no_worse & ((cost < cost[k]) | (bad < bad[k]))).any()
        kept += sorted(part, key=lambda row: row["cost"])
    schema = pa.schema(
        [("by", pa.string()), ("metric", pa.string()), *((n, pa.float64()) for n in ("mean", "ci_low", "ci_high")),
         ("cost", pa.float64()), ("on_frontier", pa.bool_())]
    )  # fmt: skip
    return Frontier(pa.Table.from_pylist(kept, schema=schema), label, tuple(notes))
