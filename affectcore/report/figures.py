"""Figures of a report as Altair charts, for the page and, as SVG or PNG, for papers.

Every function takes one of the tables of `affectcore.report.html.Report` and gives one chart of one metric. Colours,
fonts and sizes come from `config` alone, so that one specification serves the light page, the dark page and paper. Up
to eight models are told apart by colour and by shape; the eight colours stay apart under the three kinds of colour
blindness (simulated after Machado et al. 2009) and have a contrast of 3:1 to the background (WCAG 2.2, 1.4.11).

Altair and vl-convert come with the extra ``affectcore[report]`` and are imported when a figure is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectcore import escape
from affectcore.errors import OutputError, UsageError
from affectcore.io.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

    from affectcore.comparison import Comparison
    from affectcore.report.html import Report

__all__ = [
    "axis_title",
    "buckets",
    "config",
    "distributions",
    "forest",
    "frontier",
    "heatmap",
    "pick",
    "rates",
    "save",
    "survival",
    "trajectories",
    "write_figures",
]

MOST = 8
"""Models that one chart of lines can tell apart."""

THEMES: dict[str, dict[str, Any]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1d2126",
        "quiet": "#5a626c",
        "grid": "#e3e6ea",
        "accent": "#0867a9",
        "grey": "#858c95",
        "models": ["#0867a9", "#f35823", "#532150", "#c17898", "#852a0b", "#8a81ef", "#1b179c", "#ad4a56"],
        "heat": ["#ffffff", "#d9e8f3", "#a3c8e2", "#5c9fcb", "#0867a9", "#083d66"],
    },
    "dark": {
        "paper": "#16181c",
        "text": "#e8eaed",
        "quiet": "#a9b0ba",
        "grid": "#31363d",
        "accent": "#5aaef0",
        "grey": "#7b838e",
        "models": ["#02829b", "#eb881f", "#d4a7ff", "#95fbe7", "#bf4923", "#a167f1", "#e8f11d", "#2abe9c"],
        "heat": ["#16181c", "#12324a", "#155a87", "#3b8cc4", "#8cc4ea", "#e4f2fc"],
    },
}
"""Colours of text, lines, models and heat maps, on light and on dark paper."""

COLUMNS = {
    "turns": ("by", "metric", "turn", "mean", "ci_low", "ci_high"),
    "buckets": ("by", "metric", "low", "high", "mean", "ci_low", "ci_high"),
    "rates": ("by", "metric", "threshold", "rate", "ci_low", "ci_high"),
    "survival": ("by", "metric", "threshold", "turn", "survival", "ci_low", "ci_high"),
    "distributions": ("by", "metric", "low", "high", "share"),
    "frontier": ("by", "metric", "mean", "ci_low", "ci_high", "cost", "on_frontier"),
}
"""Columns that the table of a kind of chart must have."""

SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]

_WIDTH, _HEIGHT, _ROW = 640, 320, 16
_NAME = 120  # characters of a model's name
_FORMAT = ".3~r"
_VEGA_LITE = "6.4"  # the version that Altair 6 writes
_Rows = list[dict[str, Any]]


def axis_title(metric: str) -> str:
    """Return the name of a metric with its unit and which direction is better, where the registry knows it."""
    from affectcore.metrics.registry import METRICS

    if metric not in METRICS:
        return escape.line(metric)
    entry = METRICS[metric]
    reading = {"better": ", higher is better", "worse": ", lower is better", "neither": ""}[entry.higher_is]
    return f"{metric} ({entry.unit}{reading})"


def pick(comparison: Comparison, metric: str, most: int = MOST) -> list[str]:
    """Return the models that a chart of lines shows: the best, the worst, and others spread evenly over the ranks.

    Parameters
    ----------
    comparison
        The leaderboard.
    metric
        One of its metrics.
    most
        Number of models to return, fewer where there are fewer.

    Returns
    -------
    list of str
        Names as charts show them, best rank first.
    """
    rows = [row for row in comparison.table.to_pylist() if row["metric"] == metric and row["mean"] is not None]
    names = [name(row["by"]) for row in rows]
    last = len(names) - 1
    return names if last < most else [names[round(i * last / (most - 1))] for i in range(most)]


def forest(table: pa.Table, metric: str, *, confidence: float = 0.95) -> Any:
    """Draw the mean of every model with its interval, best rank first.

    Parameters
    ----------
    table
        As `Comparison.table`: columns `by`, `metric`, `mean`, `ci_low`, `ci_high`.
    metric
        Which of its metrics.
    confidence
        Share that the intervals cover, as the caption states it.

    Returns
    -------
    altair.LayerChart
        Its height grows with the number of models.

    Raises
    ------
    UsageError
        If the table has no rows of the metric, or Altair is not installed. All functions of this module do so.
    """
    alt = _altair()
    rows = _rows(table, metric, ("by", "metric", "mean", "ci_low", "ci_high"))
    y = alt.Y("by:N", sort=None, title=None, axis=alt.Axis(grid=False))
    base = alt.Chart(_source(rows)).encode(y=y, tooltip=_tooltip("mean", "ci_low", "ci_high"))
    x_axis = alt.X("mean:Q", title=axis_title(metric), scale=alt.Scale(zero=False), axis=alt.Axis(grid=True))
    reference = [alt.Chart().mark_rule(style="reference").encode(x=alt.datum(r["mean"])) for r in rows[:1]]
    return _finish(
        alt.layer(
            *reference,
            base.mark_rule(style="interval").encode(x=alt.X("ci_low:Q", title=axis_title(metric)), x2="ci_high"),
            base.mark_point(style="estimate").encode(x=x_axis),
        ),
        f"{escape.line(metric)} of each model",
        ["Point: mean. Line: " + _interval(confidence) + ". Dashed: the mean of the first."],
        height=_ROW * len({r["by"] for r in rows}),
    )


def trajectories(table: pa.Table, metric: str, models: Sequence[str] | None = None, *, confidence: float = 0.95) -> Any:
    """Draw a metric's mean by turn, a line per model.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `turn`, `mean`, `ci_low`, `ci_high`.
    metric
        Which of its metrics.
    models
        At most `MOST` models; default: all, where there are no more.
    confidence
        Share that the intervals cover.

    Returns
    -------
    altair.LayerChart
    """
    rows = _rows(table, metric, COLUMNS["turns"])
    return _trajectories(*_chosen(rows, models), axis_title(metric), escape.line(metric), confidence)


def _trajectories(rows: _Rows, models: Sequence[str], title: str, metric: str, confidence: float) -> Any:
    alt = _altair()
    base = alt.Chart(_source(rows)).encode(
        x=alt.X("turn:Q", title="turn", scale=alt.Scale(nice=False, padding=8), axis=alt.Axis(tickMinStep=1)),
        color=_colour(models),
    )
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
    return _finish(
        alt.layer(
            base.mark_area(style="band").encode(y=alt.Y("ci_low:Q", title=title), y2="ci_high"),
            base.mark_line().encode(y=y),
            base.mark_point(style="series").encode(
                y=y, shape=_shape(models), tooltip=_tooltip("turn", "mean", "ci_low", "ci_high")
            ),
        ),
        f"{metric} by turn",
        ["Line: mean over the conversations that reach the turn. Band: " + _interval(confidence) + "."],
    )


def buckets(table: pa.Table, metric: str, models: Sequence[str] | None = None, *, confidence: float = 0.95) -> Any:
    """Draw a metric's mean by bucket of context length.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `low`, `high` (the bucket), `mean`, `ci_low`, `ci_high`.
    metric, models, confidence
        As of `trajectories`.

    Returns
    -------
    altair.LayerChart
    """
    rows = _rows(table, metric, COLUMNS["buckets"])
    return _buckets(*_chosen(rows, models), axis_title(metric), escape.line(metric), confidence)


def _buckets(rows: _Rows, models: Sequence[str], title: str, metric: str, confidence: float) -> Any:
    alt = _altair()
    base = alt.Chart(_source(rows)).encode(
        x=alt.X(
            "bucket:O",
            sort=None,
            title="context length",
            scale=alt.Scale(paddingInner=0.35, paddingOuter=0.15),
            axis=alt.Axis(labelAngle=0, labelOverlap=True),
        ),
        xOffset=alt.XOffset("by:N", sort=None, scale=alt.Scale(domain=models)),
        color=_colour(models),
    )
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
    return _finish(
        alt.layer(
            base.mark_line(style="trace").encode(y=y),
            base.mark_rule(style="thin").encode(y=alt.Y("ci_low:Q", title=title), y2="ci_high"),
            base.mark_point(style="series").encode(
                y=y, shape=_shape(models), tooltip=_tooltip("bucket", "mean", "ci_low", "ci_high")
            ),
        ),
        f"{metric} by context length",
        ["Point: mean of the answers in a bucket. Upright line: " + _interval(confidence) + "."],
    )


def rates(
    table: pa.Table,
    metric: str,
    threshold: float | None = None,
    models: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> Any:
    """Draw the share of units over a threshold per model.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `threshold`, `rate`, `ci_low`, `ci_high`.
    metric
        Which of its metrics.
    threshold
        Which of its thresholds; default: the only one.
    models
        Which models; default: all.
    confidence
        Share that the intervals cover.

    Returns
    -------
    altair.LayerChart
    """
    rows, threshold = _at(_rows(table, metric, COLUMNS["rates"]), threshold)
    names = list(dict.fromkeys(r["by"] for r in rows)) if models is None else list(models)
    rows = [r for name in names for r in rows if r["by"] == name]
    return _rates(rows, f"{escape.line(metric)} of {threshold:g} or more", confidence)


def _rates(rows: _Rows, event: str, confidence: float) -> Any:
    alt = _altair()
    y = alt.Y("by:N", sort=None, title=None, axis=alt.Axis(grid=False))
    base = alt.Chart(_source(rows)).encode(y=y)
    title = f"share with {event}"
    x = alt.X("rate:Q", title=title, axis=alt.Axis(format="~%", grid=True), scale=alt.Scale(zero=True))
    return _finish(
        alt.layer(
            base.mark_rule(style="interval").encode(x=alt.X("ci_low:Q", title=title), x2="ci_high"),
            base.mark_point(style="estimate").encode(x=x, tooltip=_tooltip("rate", "ci_low", "ci_high", share=True)),
        ),
        f"Share with {event}",
        ["Point: share. Line: " + _interval(confidence) + "."],
        height=alt.Step(22),
    )


def survival(
    table: pa.Table,
    metric: str,
    threshold: float | None = None,
    models: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> Any:
    """Draw the share of conversations that have not yet had a turn over the threshold.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `threshold`, `turn`, `survival`, `ci_low`, `ci_high`.
    metric, models, confidence
        As of `trajectories`.
    threshold
        As of `rates`.

    Returns
    -------
    altair.LayerChart
    """
    rows = _rows(table, metric, COLUMNS["survival"])
    rows, threshold = _at(rows, threshold)
    event = f"{escape.line(metric)} of {threshold:g} or more"
    return _survival(*_chosen(rows, models), event, confidence)


def _survival(rows: _Rows, models: Sequence[str], event: str, confidence: float) -> Any:
    alt = _altair()
    title = f"share still without {event}"
    y = alt.Y("survival:Q", title=title, axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart(_source(rows)).encode(
        x=alt.X("turn:Q", title="turn", scale=alt.Scale(nice=False, padding=8), axis=alt.Axis(tickMinStep=1)),
        color=_colour(models),
    )
    return _finish(
        alt.layer(
            base.mark_area(style="band", interpolate="step-after").encode(
                y=alt.Y("ci_low:Q", title=title), y2="ci_high"
            ),
            base.mark_line(interpolate="step-after").encode(y=y),
            base.mark_point(style="series").encode(
                y=y,
                shape=_shape(models),
                tooltip=_tooltip("turn", "survival", "ci_low", "ci_high", share=True),
            ),
        ),
        f"Conversations without {event} so far",
        ["Kaplan–Meier estimate of the first such turn. Band: " + _interval(confidence) + "."],
    )


def distributions(table: pa.Table, metric: str, models: Sequence[str] | None = None) -> Any:
    """Draw a histogram per model, all with the same axes.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `low`, `high` (the bin), `share` (of the model's values that lie in it).
    metric, models
        As of `trajectories`.

    Returns
    -------
    altair.Chart
    """
    return _distributions(
        *_chosen(_rows(table, metric, COLUMNS["distributions"]), models),
        axis_title(metric),
        escape.line(metric),
    )


def _distributions(rows: _Rows, models: Sequence[str], title: str, metric: str) -> Any:
    alt = _altair()
    header = alt.Header(labelOrient="top", labelAnchor="start", labelPadding=2, title=None, labelLimit=300)
    chart = (
        alt.Chart(_source(rows))
        .mark_bar(style="bar")
        .encode(
            x=alt.X("low:Q", bin=alt.BinParams(binned=True), title=title, axis=alt.Axis(grid=False)),
            x2="high",
            y=alt.Y("share:Q", axis=None),
            color=alt.Color("by:N", scale=alt.Scale(domain=models), legend=None),
            row=alt.Row("by:N", sort=models, header=header, spacing=6),
            tooltip=_tooltip("low", "high", "share"),
        )
    )
    return _finish(
        chart,
        f"How {metric} is distributed",
        ["Height: share of the model's values in a bin, on one scale."],
        height=44,
    )


def frontier(table: pa.Table, metric: str, *, cost_label: str = "cost", confidence: float = 0.95) -> Any:
    """Draw each model's mean against its cost, and the line of those that no cheaper model beats.

    Parameters
    ----------
    table
        Columns `by`, `metric`, `mean`, `ci_low`, `ci_high`, `cost`, `on_frontier`.
    metric
        Which of its metrics.
    cost_label
        What `cost` is, with its unit.
    confidence
        Share that the intervals cover.

    Returns
    -------
    altair.LayerChart
        Models on the frontier bear numbers, from the cheapest; the subtitle lists their names. Costs are on a
        logarithmic scale where the highest is more than twenty times the lowest.
    """
    rows = numbered(_rows(table, metric, COLUMNS["frontier"]))
    key = [f"{r['number']} {_short(r['by'])}" for r in rows if r["number"]]
    lines = [" · ".join(key[i : i + 4]) for i in range(0, len(key), 4)]
    return _frontier(
        rows,
        wide(r["cost"] for r in rows),
        axis_title(metric),
        escape.line(cost_label),
        escape.line(metric),
        confidence,
        lines,
    )


def numbered(rows: _Rows) -> _Rows:
    """Return rows of a frontier by cost, with a `number` (string) for those on it, empty for the others."""
    n = 0
    out = []
    for row in sorted((r for r in rows if r["cost"] is not None), key=lambda r: (r["cost"], not r["on_frontier"])):
        n += bool(row["on_frontier"])
        out.append({**row, "number": str(n) if row["on_frontier"] else ""})
    return out


def wide(costs: Any) -> bool:
    """Tell whether costs need a logarithmic scale: all above 0, the highest more than twenty times the lowest."""
    known = [c for c in costs if c is not None]
    return bool(known) and min(known) > 0 and max(known) > 20 * min(known)


def _frontier(
    rows: _Rows, log: bool, title: str, cost: str, metric: str, confidence: float, key: Sequence[str] = ()
) -> Any:
    alt = _altair()
    scale = alt.Scale(type="log", padding=24) if log else alt.Scale(zero=False, padding=24)
    best = [r["mean"] for r in rows if r["on_frontier"]]
    rising = bool(best) and best[-1] > best[0]  # numbers stand outside the frontier
    base = alt.Chart(_source(rows)).encode(
        x=alt.X(
            "cost:Q",
            title=cost + (", logarithmic" if log else ""),
            scale=scale,
            axis=alt.Axis(format=",.3~r"),
        )
    )
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
    tooltip = _tooltip("cost", "mean", "ci_low", "ci_high")
    first = base.transform_filter("datum.on_frontier")
    other = base.transform_filter("!datum.on_frontier")
    band = alt.Y("ci_low:Q", title=title)
    return _finish(
        alt.layer(
            other.mark_rule(style="faint").encode(y=band, y2="ci_high"),
            other.mark_point(style="other").encode(y=y, tooltip=tooltip),
            first.mark_line(style="edge", interpolate="step-after").encode(y=y),
            first.mark_rule(style="interval").encode(y=band, y2="ci_high"),
            first.mark_point(style="estimate").encode(y=y, tooltip=tooltip),
            first.mark_text(style="number", dy=-10 if rising else 10).encode(y=y, text="number:N"),
        ),
        f"{metric} against {cost}",
        [f"Line and numbers: models that no cheaper one beats. Vertical lines: {_interval(confidence)}.", *key],
    )


def heatmap(table: pa.Table) -> Any:
    """Draw the mean of each emotion per model, emotions by their overall mean.

    Parameters
    ----------
    table
        Columns `by`, `emotion`, `mean` (probability).

    Returns
    -------
    altair.Chart
        A row of fixed height per model, in the table's order.
    """
    alt = _altair()
    rows = [
        {"by": name(row["by"]), "emotion": escape.line(row["emotion"]), "mean": finite(row["mean"])}
        for row in table.to_pylist()
    ]
    if not rows:
        raise UsageError("the table of emotions has no rows")
    chart = (
        alt.Chart(_source(rows))
        .mark_rect(style="cell")
        .encode(
            x=alt.X(
                "emotion:N",
                sort=alt.EncodingSortField("mean", op="mean", order="descending"),
                title=None,
                axis=alt.Axis(orient="top", labelAngle=-60, labelOverlap=False, domain=False, ticks=False),
            ),
            y=alt.Y("by:N", sort=None, title=None, axis=alt.Axis(grid=False)),
            color=alt.Color("mean:Q", title="mean probability", scale=alt.Scale(type="sqrt", domainMin=0)),
            tooltip=[alt.Tooltip("by:N", title="model"), "emotion:N", alt.Tooltip("mean:Q", format=_FORMAT)],
        )
    )
    return _finish(
        chart,
        "Emotions that a reader finds",
        ["Colour: mean probability, on a square-root scale."],
        height=alt.Step(_ROW),
    )


def config(theme: str = "light") -> dict[str, Any]:
    """Return the Vega-Lite configuration of a theme, `light` or `dark`: fonts, colours and the styles of marks."""
    c = THEMES[theme]
    line = {"color": c["accent"], "strokeWidth": 2}
    return {
        "background": c["paper"],
        "font": "system-ui, 'Liberation Sans', Helvetica, Arial, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": c["quiet"],
            "titleColor": c["text"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "gridColor": c["grid"],
            "domainColor": c["grey"],
            "tickColor": c["grey"],
            "tickCount": 6,
            "labelOverlap": True,
        },
        "axisY": {"domain": False, "ticks": False, "labelLimit": 280},
        "axisX": {"grid": False},
        # Above the plot and upright, where one reads it first.
        "axisYQuantitative": {
            "titleAngle": 0,
            "titleAlign": "left",
            "titleBaseline": "bottom",
            "titleX": 0,
            "titleY": -10,
        },
        "legend": {
            "labelColor": c["text"],
            "titleColor": c["quiet"],
            "labelFontSize": 12,
            "titleFontWeight": "normal",
            "labelLimit": 280,
            "orient": "bottom",
            "columns": 3,
            "title": None,
        },
        "header": {"labelColor": c["text"], "labelFontSize": 12},
        "title": {
            "anchor": "start",
            "frame": "group",
            "color": c["text"],
            "fontSize": 15,
            "subtitleColor": c["quiet"],
            "subtitleFontSize": 12,
            "subtitlePadding": 6,
            "offset": 12,
        },
        "range": {"category": c["models"], "symbol": SHAPES, "heatmap": c["heat"], "ramp": c["heat"]},
        "line": {"strokeWidth": 2, "strokeJoin": "round"},
        "style": {
            "band": {"opacity": 0.13},
            "series": {"filled": True, "size": 46, "opacity": 1},
            "thin": {"strokeWidth": 1.5},
            "trace": {"strokeWidth": 1, "opacity": 0.5},
            "interval": line,
            "estimate": {"filled": True, "color": c["accent"], "size": 54, "opacity": 1},
            "reference": {"color": c["grey"], "strokeDash": [3, 3]},
            "faint": {"color": c["grey"], "strokeWidth": 1, "opacity": 0.35},
            "other": {"filled": True, "color": c["grey"], "size": 34, "opacity": 0.9},
            "edge": {**line, "strokeWidth": 1.5},
            "number": {"color": c["text"], "fontSize": 12, "fontWeight": "bold", "align": "right", "dx": -8},
            "bar": {"binSpacing": 0.5},
            "cell": {"stroke": c["paper"], "strokeWidth": 0.5},
        },
    }


def page_specs(confidence: float) -> dict[str, dict[str, Any]]:
    """Return the charts of the page without rows, one specification per kind.

    ``@axis``, ``@metric``, ``@event``, ``@cost`` and the list of one model ``@models`` stand for the page's choices.
    """
    models = ["@models"]
    charts = {
        "turns": _trajectories([], models, "@axis", "@metric", confidence),
        "buckets": _buckets([], models, "@axis", "@metric", confidence),
        "rates": _rates([], "@event", confidence),
        "survival": _survival([], models, "@event", confidence),
        "distributions": _distributions([], models, "@axis", "@metric"),
        "frontier": _frontier([], False, "@axis", "@cost", "@metric", confidence),
        "frontier_log": _frontier([], True, "@axis", "@cost", "@metric", confidence),
    }
    specs: dict[str, dict[str, Any]] = {name: chart.to_dict() for name, chart in charts.items()}
    for spec in specs.values():  # the page puts in that of its theme
        del spec["config"]
    return specs


def save(chart: Any, path: str | Path, *, scale: float = 3.0) -> Path:
    """Write a chart as SVG or PNG.

    Parameters
    ----------
    chart
        An Altair chart.
    path
        Where to; the ending, ``.svg`` or ``.png``, is the format.
    scale
        Pixels of a PNG per point of the chart, which is 1/72 inch: 3 gives 216 pixels per inch.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If the ending is another, or vl-convert is not installed.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    convert = vl_convert()
    spec, version = chart.to_dict(), _VEGA_LITE
    if path.suffix.lower() == ".svg":
        content = convert.vegalite_to_svg(spec, vl_version=version, allowed_base_urls=[]).encode()
    elif path.suffix.lower() == ".png":
        content = convert.vegalite_to_png(spec, vl_version=version, scale=scale, allowed_base_urls=[])
    else:
        raise UsageError(f"cannot write a figure to {path}: give a name that ends in .svg or .png")
    write_whole(path, content)
    return path


def write_figures(report: Report, folder: str | Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write every figure that a report has data for, one file per kind, metric, threshold and format.

    Parameters
    ----------
    report
        The report; charts of lines show the models that `pick` chooses.
    folder
        Where to; it is made if need be.
    formats
        Some of ``svg`` and ``png``.

    Returns
    -------
    list of Path
        The files, named like ``survival-distress-0.5.svg``.

    Raises
    ------
    UsageError
        If a format is another, or the extra `report` is not installed.
    OutputError
        If a file cannot be written.
    """
    unknown = [f for f in formats if f not in ("svg", "png")]
    if unknown:
        raise UsageError(f"unknown format of figures {unknown[0]!r}: choose svg or png")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}: choose another folder for the figures") from error
    written: list[Path] = []
    seen: dict[str, int] = {}
    for stem, chart in _charts(report):
        base = escape.file_name(stem)
        same = base.casefold()  # to some file systems it is
        seen[same] = seen.get(same, 0) + 1
        name = base if seen[same] == 1 else f"{base}-{seen[same]}"
        written += [save(chart, folder / f"{name}.{suffix}") for suffix in formats]
    return written


def _charts(report: Report) -> Any:
    """Yield the name and chart of every figure of a report."""
    level = report.comparison.confidence
    if report.emotions is not None and report.emotions.num_rows:
        yield "emotions", heatmap(report.emotions)
    for metric in report.comparison.metrics:
        yield f"forest-{metric}", forest(report.comparison.table, metric, confidence=level)
        chosen = pick(report.comparison, metric)

        def there(table: pa.Table | None, models: list[str] = chosen, metric: str = metric) -> list[str]:
            """Return those of the chosen models of which a table has the metric."""
            if table is None:
                return []
            names = {name(r["by"]) for r in table.select(["by", "metric"]).to_pylist() if r["metric"] == metric}
            return [m for m in models if m in names]

        if models := there(report.turns):
            yield f"turns-{metric}", trajectories(report.turns, metric, models, confidence=level)
        if models := there(report.buckets):
            yield f"buckets-{metric}", buckets(report.buckets, metric, models, confidence=level)
        if models := there(report.distributions):
            yield f"distributions-{metric}", distributions(report.distributions, metric, models)
        if there(report.frontier):
            chart = frontier(report.frontier, metric, cost_label=report.cost_label, confidence=level)
            yield f"frontier-{metric}", chart
        for kind, table, draw in (("rates", report.rates, rates), ("survival", report.survival, survival)):
            if models := there(table):
                assert table is not None
                found = {
                    r["threshold"] for r in table.select(["metric", "threshold"]).to_pylist() if r["metric"] == metric
                }
                for threshold in sorted(found):
                    chart = draw(table, metric, threshold, models, confidence=level)
                    yield f"{kind}-{metric}-{threshold:g}", chart


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise UsageError("figures need Altair: pip install 'affectcore[report]'") from error
    return altair


def vl_convert() -> Any:
    """Import vl-convert, or say how to get it."""
    try:
        import vl_convert
    except ImportError as error:
        raise UsageError("figures need vl-convert: pip install 'affectcore[report]'") from error
    return vl_convert


def name(by: str | None) -> str:
    """Return a model's name as charts and pages show it, on one line and of at most 120 characters."""
    from affectcore.report.table import shorten

    return "(null)" if by is None else shorten(escape.line(by), _NAME)


def _short(name: str) -> str:
    from affectcore.report.table import shorten

    return shorten(name, 36)


def finite(value: Any) -> Any:
    """Return the value, None in place of NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def bucket(low: int, high: int) -> str:
    """Return the name of a bucket of context lengths, such as ``1,024–4,095``."""
    return f"{low:,}–{high:,}"


def _rows(table: pa.Table, metric: str, columns: Sequence[str]) -> _Rows:
    """Return the rows of a metric as plain values, with the names and buckets that charts show."""
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        there = ", ".join(table.column_names)
        raise UsageError(f"the table of the figure has no column {missing[0]!r}. The columns are: {there}")
    rows = [
        {**{c: finite(value) for c, value in row.items()}, "by": name(row["by"])}
        for row in table.select(columns).to_pylist()
        if row["metric"] == metric
    ]
    if not rows:
        known = ", ".join(dict.fromkeys(str(m) for m in table["metric"].to_pylist()))
        raise UsageError(f"the table of the figure has no rows of {metric!r}. Its metrics are: {known or 'none'}")
    if "low" in columns and "mean" in columns:
        rows = [{**row, "bucket": bucket(row["low"], row["high"])} for row in sorted(rows, key=lambda r: r["low"])]
    return rows


def _chosen(rows: _Rows, models: Sequence[str] | None) -> tuple[_Rows, list[str]]:
    """Return the rows of the chosen models, and these."""
    there = dict.fromkeys(r["by"] for r in rows)
    names = list(there) if models is None else [escape.line(m) for m in models]
    absent = [m for m in names if m not in there]
    if absent:
        raise UsageError(f"the table of the figure has no model {absent[0]!r}. Its models are: {', '.join(there)}")
    if len(names) > MOST:
        raise UsageError(f"{len(names)} models are too many for one chart: choose up to {MOST}")
    kept = set(names)
    return [r for r in rows if r["by"] in kept], names


def _at(rows: _Rows, threshold: float | None) -> tuple[_Rows, float]:
    """Return the rows of a threshold, and this."""
    there = sorted({r["threshold"] for r in rows})
    if threshold is None and len(there) == 1:
        threshold = there[0]
    if threshold is None or threshold not in there:
        known = ", ".join(f"{t:g}" for t in there)
        asked = "is needed" if threshold is None else f"{threshold:g} is not in the table"
        raise UsageError(f"a threshold {asked}: choose one of {known}")
    return [r for r in rows if r["threshold"] == threshold], threshold


def _source(rows: _Rows) -> Any:
    """Return rows as the data of a chart; without rows, the data that the page fills in."""
    alt = _altair()
    return alt.InlineData(values=rows) if rows else alt.NamedData(name="rows")


def _colour(models: Sequence[str]) -> Any:
    return _altair().Color("by:N", scale=_altair().Scale(domain=models))


def _shape(models: Sequence[str]) -> Any:
    return _altair().Shape("by:N", scale=_altair().Scale(domain=models))


def _tooltip(*fields: str, share: bool = False) -> list[Any]:
    alt = _altair()
    titles = {"ci_low": "interval from", "ci_high": "to", "low": "from", "high": "to", "bucket": "context length"}
    formats = {"turn": "d", "cost": _FORMAT, "share": ".1%"}
    return [
        alt.Tooltip("by:N", title="model"),
        *(
            alt.Tooltip("bucket:N", title="context length")
            if f == "bucket"
            else alt.Tooltip(f"{f}:Q", title=titles.get(f, f), format=formats.get(f, ".1%" if share else _FORMAT))
            for f in fields
        ),
    ]


def _interval(confidence: float) -> str:
    return f"{confidence * 100:g}% interval"


def _finish(chart: Any, title: str, subtitle: Sequence[str], height: Any = _HEIGHT) -> Any:
    """Set size, title and styles."""
    alt = _altair()
    text = alt.TitleParams(title, subtitle=list(subtitle))
    return chart.properties(width=_WIDTH, height=height, title=text).configure(**config())
