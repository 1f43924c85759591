"""The report as one HTML file that needs no network.

The page is a Jinja2 template with autoescape; its numbers are gzip-compressed JSON in base64, so that they cannot end
the element they stand in, and 250 models of 20 metrics stay below 5 MB. Charts are the specifications of
`affectcore.report.figures`, drawn by the Vega libraries that vl-convert brings, with Vega's interpreter instead of
``eval``. A content security policy allows the two scripts of the page by their hash and nothing else: no request, no
other script.

Jinja2, Altair and vl-convert come with the extra ``affectcore[report]`` and are imported when a report is made.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affectcore import escape
from affectcore.errors import UsageError
from affectcore.report import figures

if TYPE_CHECKING:
    import pyarrow as pa

    from affectcore.comparison import Comparison

__all__ = ["Report", "render"]

TEXT_LIMIT = 1200
"""Characters of a text that the page shows."""
TEXTS = 12
"""Texts per metric that the page shows."""
_PAIRS = 2000  # rows of the table of pairs; 250 models have 31,125 pairs per metric, which nobody reads
_CELLS = 100_000  # rows of a table by turn; more are thinned to evenly spaced turns
_DIGITS = 4  # significant digits of a chart's numbers, relative to the spread of the metric


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Tables may be None or empty; their section is then left out. Rows of metrics that the comparison does not have are
    not shown.

    Parameters
    ----------
    title
        Heading of the page.
    comparison
        The leaderboard. Numeric columns of its table that are not documented there are shown as they are.
    turns
        A metric by turn: `by`, `metric` (string), `turn`, `n` (int64), `mean`, `ci_low`, `ci_high` (float64).
    buckets
        A metric by bucket of context length: `by`, `metric`, `low`, `high` (int64), `n`, `mean`, `ci_low`, `ci_high`.
    rates
        Shares over a threshold: `by`, `metric`, `threshold`, `n`, `rate`, `ci_low`, `ci_high`.
    survival
        Share of conversations without a turn over the threshold: `by`, `metric`, `threshold`, `turn`, `at_risk`
        (int64), `survival`, `ci_low`, `ci_high`.
    emotions
        Mean probabilities: `by`, `emotion`, `mean`.
    distributions
        Histograms: `by`, `metric`, `low`, `high`, `share`.
    frontier
        Cost and performance: `by`, `metric`, `mean`, `ci_low`, `ci_high`, `cost` (float64), `on_frontier` (bool).
    texts
        The most telling texts, most telling first: `by`, `metric`, `score`, `text` (string), `segments` (list of
        `start`, `end`, `score`; offsets in characters), `file` (string), `row` (int64).
    methods
        Name to sentences: engine version, model, content hash, settings, data, citations.
    cost_label
        What the cost is, with its unit.
    """

    title: str
    comparison: Comparison
    turns: pa.Table | None = None
    buckets: pa.Table | None = None
    rates: pa.Table | None = None
    survival: pa.Table | None = None
    emotions: pa.Table | None = None
    distributions: pa.Table | None = None
    frontier: pa.Table | None = None
    texts: pa.Table | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    cost_label: str = "cost"


_SECTIONS = {
    "turns": ("By turn", "Does it drift as the conversation goes on?"),
    "survival": ("First turn over the threshold", "How long do conversations last without one?"),
    "rates": ("Share over the threshold", "How often does it come up at all?"),
    "buckets": ("By context length", "Does it change as the context fills up?"),
    "distributions": ("Distributions", "What lies behind the means: all of a model's values, in bins."),
    "frontier": ("Cost and performance", "Which models does no cheaper one beat?"),
}
"""Heading and question of the sections that have one chart, in the page's order."""


def render(report: Report) -> str:
    """Return the report as an HTML page without any reference to other files.

    Parameters
    ----------
    report
        What to show.

    Returns
    -------
    str
        The page; write it as UTF-8. The same report gives the same page.

    Raises
    ------
    UsageError
        If the extra `report` is not installed, a table lacks a column, or a segment does not lie in its text.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UsageError("an HTML report needs Jinja2: pip install 'affectcore[report]'") from error
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_markup,  # every expression of the template, so that none can be forgotten
    )
    scripts = [_vega(), (folder / "report.js").read_text(encoding="utf-8")]
    data = _data(report)
    return environment.get_template("template.html.j2").render(
        title=escape.line(report.title),
        by=data["by"],
        method=report.comparison.method,
        notes=report.comparison.notes,
        facts=_facts(report.comparison),
        metrics=data["metrics"],
        sections={kind: text for kind, text in _SECTIONS.items() if kind in data},
        emotions="emotions" in data,
        pairs="pairs" in data,
        n_pairs=report.comparison.pairs.num_rows,
        texts=_texts(report.texts, report.comparison.metrics),
        methods=report.methods,
        definitions=_definitions(report.comparison.metrics),
        themes=figures.THEMES,
        css=(folder / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        hashes=[base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts],
        data=base64.b64encode(gzip.compress(_json(data), mtime=0)).decode(),
    )


def _markup(value: Any) -> Any:
    """Return what an expression of the template gives as markup; what is marked as such stays."""
    from markupsafe import Markup

    return value if hasattr(value, "__html__") else Markup(escape.html(str(value)))


@lru_cache(maxsize=1)
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that may stand in a page."""
    bundle: str = figures.vl_convert().javascript_bundle()
    if "</script" in bundle.lower() or "<!--" in bundle or "\r" in bundle or "\0" in bundle:
        raise UsageError("this vl-convert's libraries cannot stand in a page: install vl-convert-python 1.9")
    return bundle


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _data(report: Report) -> dict[str, Any]:
    """Return what the page's script works on; tables by metric as columns, models as places in the list of names."""
    c = report.comparison
    models: dict[str, int] = {}
    data: dict[str, Any] = {
        "by": escape.line(c.by),
        "confidence": c.confidence,
        "most": figures.MOST,
        "specs": figures.page_specs(c.confidence),
        "cost": escape.line(report.cost_label),
        "themes": figures.THEMES,
        "configs": {theme: figures.config(theme) for theme in figures.THEMES},
        "metrics": [
            {
                "key": metric,
                "name": escape.line(metric),
                "axis": figures.axis_title(metric),
                "first": "lowest" if c.orders[metric] == "ascending" else "highest",
                "pick": figures.pick(c, metric),
            }
            for metric in c.metrics
        ],
        "thinned": {},
        "table": _columns(c.table, models, digits=6),
    }
    for kind in ("turns", "buckets", "rates", "survival", "distributions", "frontier"):
        table: pa.Table | None = getattr(report, kind)
        if table is None or not table.num_rows:
            continue
        _require(table, kind, figures.COLUMNS[kind])
        if kind in ("turns", "survival"):
            table, kept, all_turns = _thin(table)
            if kept < all_turns:
                data["thinned"][kind] = f"To keep the page small, {kept} of {all_turns} turns are shown, evenly spaced."
        data[kind] = _columns(table, models, digits=_DIGITS)
    for columns in data.get("buckets", {}).values():
        columns["bucket"] = [figures.bucket(low, high) for low, high in zip(columns["low"], columns["high"])]
    if report.emotions is not None and report.emotions.num_rows:
        _require(report.emotions, "emotions", ("by", "emotion", "mean"))
        data["emotions"] = _columns(report.emotions, models, digits=_DIGITS, key=None)[""]
    if 0 < c.pairs.num_rows <= _PAIRS:
        data["pairs"] = _columns(c.pairs, models, digits=6)
    data["models"] = list(models)
    return data


def _require(table: pa.Table, kind: str, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in table.column_names:
            there = ", ".join(table.column_names)
            raise UsageError(f"the report's table {kind!r} has no column {column!r}. The columns are: {there}")


def _columns(
    table: pa.Table, models: dict[str, int], *, digits: int, key: str | None = "metric"
) -> dict[str, dict[str, list[Any]]]:
    """Return the columns of a table for each metric; names of models become places in `models`, which grows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: dict[str, dict[str, list[Any]]] = {}
    groups = [""] if key is None else pc.unique(table[key]).to_pylist()
    for group in groups:
        rows = table if key is None else table.filter(pc.equal(table[key], group)).drop_columns([key])
        columns: dict[str, list[Any]] = {}
        # All values of a metric are rounded alike, relative to the spread of its means.
        floats = [f.name for f in rows.schema if pa.types.is_floating(f.type) and f.name not in ("cost", "threshold")]
        values = {name: rows[name].to_numpy().astype(np.float64) for name in floats}
        spread = max((float(np.nanmax(np.abs(v))) for v in values.values() if np.isfinite(v).any()), default=0.0)
        decimals = digits - 1 - math.floor(math.log10(spread)) if spread > 0 else digits
        for name in rows.column_names:
            if name in ("by", "a", "b"):
                code = rows[name].cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
                names = [figures.name(n) for n in code.dictionary.to_pylist()]
                places = [models.setdefault(n, len(models)) for n in names]
                columns[name] = np.asarray(places, dtype=np.int64)[code.indices.to_numpy()].tolist() if places else []
            elif name in values:
                columns[name] = [x if math.isfinite(x) else None for x in values[name].round(decimals).tolist()]
            elif pa.types.is_floating(rows.schema.field(name).type):
                columns[name] = [figures.finite(x) for x in rows[name].to_pylist()]
            elif pa.types.is_integer(rows.schema.field(name).type) or pa.types.is_boolean(rows.schema.field(name).type):
                columns[name] = rows[name].to_pylist()
            elif name == "emotion":
                columns[name] = [escape.line(x) for x in rows[name].to_pylist()]
        parts[group] = columns
    return parts


def _thin(table: pa.Table) -> tuple[pa.Table, int, int]:
    """Keep evenly spaced turns, the first and last among them, if a table is long; also return how many of how many."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    turns = np.unique(table["turn"].to_numpy())
    kept = max(2, len(turns) * _CELLS // table.num_rows)
    if kept >= len(turns):
        return table, len(turns), len(turns)
    chosen = turns[np.unique(np.linspace(0, len(turns) - 1, kept).round().astype(np.int64))]
    return (
        table.filter(pc.is_in(table["turn"], pa.array(chosen, table.schema.field("turn").type))),
        len(chosen),
        len(turns),
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    c = comparison
    number = [(c.n_models, "model"), (len(c.metrics), "metric"), (c.n_rows, "score row"), (c.n_clusters, "cluster")]
    return [(f"{n:,}", word if n == 1 else f"{word}s") for n, word in number]


def _definitions(metrics: Sequence[str]) -> list[dict[str, str]]:
    """Return what the registry says on those of the metrics that it has."""
    from affectcore.metrics.registry import METRICS

    return [
        {
            "name": f"{m} (version {METRICS[m].version})",
            "Definition": METRICS[m].definition,
            "Source": METRICS[m].source,
            "Validated on": METRICS[m].validated_on,
            "Limits": METRICS[m].limits,
        }
        for m in metrics
        if m in METRICS
    ]


def _texts(table: pa.Table | None, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the texts of the metrics to show, cut and with their segments as pieces."""
    if table is None or not table.num_rows:
        return []
    _require(table, "texts", ("by", "metric", "score", "text", "segments", "file", "row"))
    shown: dict[str, int] = {}
    texts = []
    for number, metric in enumerate(table["metric"].to_pylist()):
        shown[metric] = shown.get(metric, 0) + 1
        if shown[metric] > TEXTS or metric not in metrics:
            continue
        row = table.slice(number, 1).to_pylist()[0]
        where = f"{row['file'] or 'text'}, row {row['row']}"
        before, pieces, after = _pieces(row["text"] or "", row["segments"] or [], where)
        texts.append(
            {
                "metric": metrics.index(metric),
                "by": figures.name(row["by"]),
                "score": "no score" if row["score"] is None else f"{row['score']:.3f}",
                "where": escape.line(where),
                "before": before,
                "pieces": pieces,
                "after": after,
            }
        )
    return texts


def _pieces(
    text: str, segments: Sequence[Mapping[str, Any]], where: str
) -> tuple[int, list[tuple[str, int, str]], int]:
    """Cut a text to `TEXT_LIMIT` characters round its strongest segment and split it at its segments.

    Returns
    -------
    before, after
        Number of characters left out.
    pieces
        Text, level (0 plain, 1 to 3 by the segment's score relative to the strongest), score.
    """
    known = sorted((s for s in segments if s["score"] is not None), key=lambda s: (s["start"], s["end"]))
    for s in known:
        if not 0 <= s["start"] <= s["end"] <= len(text):
            raise UsageError(
                f"{where}: segment {s['start']} to {s['end']} does not lie in its text of {len(text):,} characters: "
                "give offsets in characters, not bytes"
            )
    strongest = max(known, key=lambda s: abs(s["score"]), default=None)
    top = abs(strongest["score"]) if strongest else 0.0
    start = 0
    if strongest and len(text) > TEXT_LIMIT and strongest["end"] > TEXT_LIMIT:
        start = min(max(0, strongest["start"] - TEXT_LIMIT // 4), len(text) - TEXT_LIMIT)
    stop = min(len(text), start + TEXT_LIMIT)
    pieces: list[tuple[str, int, str]] = []
    at = start
    for s in known:
        low, high = max(at, s["start"]), min(stop, s["end"])
        # From half of the strongest on: a highlight on everything shows nothing.
        level = sum(abs(s["score"]) >= share * top for share in (0.5, 0.7, 0.9)) if top else 0
        if low < high and level:
            pieces += [
                (escape.terminal(text[at:low]), 0, ""),
                (escape.terminal(text[low:high]), level, f"{s['score']:.2f}"),
            ]
            at = high
    pieces.append((escape.terminal(text[at:stop]), 0, ""))
    return start, [p for p in pieces if p[0]], len(text) - stop
