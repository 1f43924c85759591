from __future__ import annotations

import itertools
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from test_html import HOSTILE, demo, names

from affectcore.errors import OutputError, UsageError
from affectcore.report import figures
from affectcore.report.html import Report

KINDS = {
    "forest": lambda r: figures.forest(r.comparison.table, "distress"),
    "turns": lambda r: figures.trajectories(r.turns, "distress"),
    "buckets": lambda r: figures.buckets(r.buckets, "distress"),
    "rates": lambda r: figures.rates(r.rates, "distress", 0.5),
    "survival": lambda r: figures.survival(r.survival, "distress", 0.5),
    "distributions": lambda r: figures.distributions(r.distributions, "distress"),
    "frontier": lambda r: figures.frontier(r.frontier, "distress", cost_label=r.cost_label),
    "emotions": lambda r: figures.heatmap(r.emotions),
}


@pytest.fixture(scope="module")
def report() -> Report:
    return demo(names(3), ["distress"], prompts=20, turns=5, bins=8)


def texts(svg: Path) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_figure_names_its_models(kind: str, report: Report, tmp_path: Path) -> None:
    shown = texts(figures.save(KINDS[kind](report), tmp_path / f"{kind}.svg"))
    for name in names(3) if kind != "frontier" else []:
        assert name in shown
    assert ("Emotions that a reader finds" if kind == "emotions" else "distress") in " ".join(shown)
    if kind in ("turns", "buckets", "survival", "rates", "forest", "frontier"):
        assert "95% interval" in " ".join(shown)


def test_points_stand_where_the_numbers_are(report: Report, tmp_path: Path) -> None:
    svg = figures.save(figures.forest(report.comparison.table, "distress"), tmp_path / "forest.svg").read_text()
    places = re.findall(
        r'aria-roledescription="point"[^>]*transform="translate\(([\d.]+),([\d.]+)\)"', svg
    ) or re.findall(r'transform="translate\(([\d.]+),([\d.]+)\)"[^>]*aria-roledescription="point"', svg)
    x, y = np.array(places, dtype=float).T
    means = report.comparison.table["mean"].to_numpy()
    assert len(x) == 3 and (np.diff(y) > 0).all()  # the first is on top
    slope, offset = np.polyfit(means, x, 1)
    assert slope > 0 and np.abs(slope * means + offset - x).max() < 0.5


def test_png_has_the_resolution_asked_for(report: Report, tmp_path: Path) -> None:
    chart = figures.forest(report.comparison.table, "distress")
    sizes = []
    for scale in (1.0, 2.0):
        raw = figures.save(chart, tmp_path / "f.png", scale=scale).read_bytes()
        assert raw[:8] == b"\x89PNG\r\n\x1a\n"
        sizes.append(struct.unpack(">II", raw[16:24]))
    assert sizes[0][0] > 640 and np.allclose(np.array(sizes[1]) / sizes[0], 2, atol=0.01)


def test_write_figures_writes_what_the_report_has(report: Report, tmp_path: Path) -> None:
    few = replace(report, buckets=None, distributions=None, emotions=report.emotions.slice(0, 0), texts=None)
    files = figures.write_figures(few, tmp_path / "new", formats=("svg",))
    stems = ["forest-distress", "turns-distress", "frontier-distress", "rates-distress-0.3", "rates-distress-0.5"]
    stems += ["survival-distress-0.3", "survival-distress-0.5"]
    assert [f.name for f in files] == [f"{s}.svg" for s in stems]
    assert all(f.stat().st_size > 1000 for f in files)


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    metric = "../" + HOSTILE
    plain = demo(["a" + HOSTILE, "b"], ["distress"], prompts=4, turns=1, bins=1).comparison
    table = plain.table.set_column(1, "metric", pa.array([metric] * 2))
    comparison = replace(plain, table=table, metrics=(metric,), orders={metric: "ascending"})
    files = figures.write_figures(Report("t", comparison), tmp_path, formats=("svg",))
    assert [f.parent for f in files] == [tmp_path]
    tags = {e.tag.split("}")[1] for e in ElementTree.parse(files[0]).iter()}
    assert not tags & {"script", "img", "image", "foreignObject"}
    assert any("onerror" in t and "[U+202E]" in t for t in texts(files[0]))


def test_files_of_metrics_with_similar_names_stay_apart(tmp_path: Path) -> None:
    plain = demo(["a", "b"], ["distress"], prompts=4, turns=1, bins=1).comparison
    names = ("distress>=0.5", "distress<=0.5")
    table = pa.concat_tables([plain.table.set_column(1, "metric", pa.array([m] * 2)) for m in names])
    comparison = replace(plain, table=table, metrics=names, orders=dict.fromkeys(names, "ascending"))
    files = figures.write_figures(Report("t", comparison), tmp_path, formats=("svg",))
    assert [m.replace("<", "&lt;").replace(">", "&gt;") in f.read_text() for m, f in zip(names, files)] == [True, True]
    assert len(set(files)) == 2


def test_many_models_keep_their_rows_apart(tmp_path: Path) -> None:
    table = pa.table(
        {"by": names(250), "metric": ["m"] * 250, **{c: np.arange(250.0) for c in ("mean", "ci_low", "ci_high")}}
    )
    spec = figures.forest(table, "m").to_dict()
    assert spec["height"] / 250 >= spec["config"]["axis"]["labelFontSize"]


def test_pick_has_best_worst_and_ranks_between() -> None:
    comparison = demo(names(40), ["distress"], prompts=4, turns=1, bins=1).comparison
    ranked = [r["by"] for r in comparison.table.to_pylist()]
    chosen = figures.pick(comparison, "distress")
    assert chosen[0] == ranked[0] and chosen[-1] == ranked[-1] and len(set(chosen)) == figures.MOST
    assert sorted(chosen, key=ranked.index) == chosen
    assert figures.pick(comparison, "distress", 50) == ranked


def test_numbers_of_a_frontier_go_by_cost() -> None:
    rows = [
        {"by": b, "cost": c, "on_frontier": f} for b, c, f in (("x", 9.0, True), ("y", 1.0, True), ("z", 5.0, False))
    ]
    assert [
        (r["by"], r["number"]) for r in figures.numbered([*rows, {"by": "w", "cost": None, "on_frontier": False}])
    ] == [
        ("y", "1"),
        ("z", ""),
        ("x", "2"),
    ]
    assert figures.wide([1, 21]) and not figures.wide([1, 20]) and not figures.wide([0, 100]) and not figures.wide([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: figures.forest(r.comparison.table, "mood"), "no rows of 'mood'. Its metrics are: distress"),
        (lambda r: figures.forest(r.turns.drop_columns(["mean"]), "distress"), "no column 'mean'"),
        (lambda r: figures.survival(r.survival, "distress"), "a threshold is needed: choose one of 0.3, 0.5"),
        (lambda r: figures.rates(r.rates, "distress", 0.4), "threshold 0.4 is not in the table"),
        (lambda r: figures.trajectories(r.turns, "distress", ["nobody"]), "no model 'nobody'"),
        (lambda r: figures.save(figures.heatmap(r.emotions), "x.gif"), "ends in .svg or .png"),
        (lambda r: figures.write_figures(r, "x", ("pdf",)), "unknown format of figures 'pdf'"),
    ],
)
def test_errors_name_what_there_is(call: Any, message: str, report: Report) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        call(report)


def test_too_many_models_for_lines() -> None:
    rows = {
        "by": names(9),
        "metric": ["m"] * 9,
        "turn": [1] * 9,
        **{c: [0.5] * 9 for c in ("mean", "ci_low", "ci_high")},
    }
    with pytest.raises(UsageError, match="9 models are too many for one chart: choose up to 8"):
        figures.trajectories(pa.table(rows), "m")


def test_a_file_where_the_folder_should_be(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        figures.write_figures(report, tmp_path / "taken")
    with pytest.raises(OutputError, match="write to another folder"):
        figures.save(figures.heatmap(report.emotions), tmp_path / "absent" / "f.svg")


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_missing_extra_says_what_to_install(module: str, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = figures.heatmap(report.emotions)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'affectcore\[report\]'"):
        figures.heatmap(report.emotions) if module == "altair" else figures.save(chart, "f.svg")


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (one, other))
    return high / low


@pytest.mark.parametrize("theme", figures.THEMES)
def test_contrast_meets_aa(theme: str) -> None:
    colours = figures.THEMES[theme]
    paper = colours["paper"]
    for name in ("text", "quiet", "accent"):
        assert contrast(colours[name], paper) >= 4.5, name
    for colour in (*colours["models"], colours["grey"]):
        assert contrast(colour, paper) >= 3, colour


# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("theme", figures.THEMES)
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_model_colours_stay_apart(theme: str, blindness: str) -> None:
    """Distance in CIELAB of at least 15, where 2.3 is just noticeable."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    labs = []
    for colour in figures.THEMES[theme]["models"]:
        xyz = to_xyz @ np.clip(np.asarray(BLINDNESS[blindness]) @ linear(colour), 0, 1) / [0.9505, 1, 1.089]
        f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
        labs.append(np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]))
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(labs, 2)) >= 15
