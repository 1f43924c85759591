"""The HTML report. Its demonstration data are numbers of a seeded generator and texts written for these tests."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="the extra `report` is not installed")
pytest.importorskip("vl_convert", reason="the extra `report` is not installed")

from affectcore import escape
from affectcore.comparison import compare
from affectcore.errors import UsageError
from affectcore.report import html
from affectcore.report.html import Report, render

EMOTIONS = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
    "disgust embarrassment excitement fear gratitude grief joy love nervousness neutral optimism pride realization "
    "relief remorse sadness surprise"
).split()
SEGMENTS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float64())]))
FLOATS = ("mean", "ci_low", "ci_high")


def names(n: int) -> list[str]:
    makers = ["aster", "borealis-labs", "cobalt", "delta.ai", "emberworks", "fjord", "gneiss", "harbour"]
    kinds = ["7b-instruct", "13b-chat", "mini", "large-2025-06", "thinking-16k", "flash", "70B-Instruct-v0.3"]
    return [
        f"{makers[i % 8]}/{makers[i % 8][:4]}-{kinds[i // 8 % 7]}{f'-r{i // 56}' if i >= 56 else ''}" for i in range(n)
    ]


def demo(
    models: list[str], metrics: list[str], *, prompts: int = 60, turns: int = 20, bins: int = 24, seed: int = 0
) -> Report:
    """Make a report of generated numbers: every model has a level of its own, a drift, and a price."""
    rng = np.random.default_rng(seed)
    n, k = len(models), len(metrics)
    level = rng.beta(2, 9, (n, k))
    hard = rng.normal(0, 0.05, (prompts, k))
    values = np.clip(level[:, None] + hard[None] + rng.normal(0, 0.06, (n, prompts, k)), 0, 1)
    scores = {
        "model": np.repeat(np.asarray(models, dtype=object), prompts),
        "prompt_id": np.tile(np.arange(prompts), n),
    }
    scores |= {m: values[:, :, j].ravel() for j, m in enumerate(metrics)}
    comparison = compare(pa.table(scores), metrics=metrics, n_resamples=200)

    def grid(points: int) -> dict[str, np.ndarray]:
        by, metric, point = np.meshgrid(np.arange(n), np.arange(k), np.arange(points), indexing="ij")
        return {
            "by": np.asarray(models, dtype=object)[by.ravel()],
            "metric": np.asarray(metrics)[metric.ravel()],
            "point": point.ravel(),
            "level": level[by.ravel(), metric.ravel()],
        }

    def around(mean: np.ndarray, half: np.ndarray | float, columns: tuple[str, ...] = FLOATS) -> dict[str, np.ndarray]:
        return dict(zip(columns, (mean, np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1))))

    g = grid(turns)
    drift = np.repeat(rng.normal(0.004, 0.006, n * k), turns)
    mean = np.clip(g["level"] + drift * g["point"] + rng.normal(0, 0.012, len(drift)), 0, 1)
    by_turn = {"by": g["by"], "metric": g["metric"], "turn": g["point"] + 1, "n": np.full(len(mean), 30)}
    by_turn |= around(mean, 0.02 + 0.001 * g["point"])

    edges = np.array([0, 1024, 4096, 16384, 65536, 262144])
    g = grid(len(edges) - 1)
    mean = np.clip(g["level"] + 0.03 * g["point"] + rng.normal(0, 0.01, len(g["by"])), 0, 1)
    by_length = {"by": g["by"], "metric": g["metric"], "low": edges[g["point"]], "high": edges[g["point"] + 1] - 1}
    by_length |= {"n": np.full(len(mean), 40), **around(mean, 0.03)}

    thresholds = np.array([0.3, 0.5])
    g = grid(2)
    rate = np.clip(g["level"] * (1.6 - 0.8 * g["point"]), 0, 1)
    over = {"by": g["by"], "metric": g["metric"], "threshold": thresholds[g["point"]], "n": np.full(len(rate), 30)}
    over |= around(rate, 0.06, ("rate", "ci_low", "ci_high"))

    g = grid(2 * turns)
    turn = g["point"] // 2 + 1
    share = np.exp(-g["level"] * turn * np.where(g["point"] % 2, 0.12, 0.3))
    alive = {"by": g["by"], "metric": g["metric"], "threshold": thresholds[g["point"] % 2], "turn": turn}
    alive |= {"at_risk": np.round(30 * share).astype(int), **around(share, 0.08, ("survival", "ci_low", "ci_high"))}

    g = grid(bins)
    centre = (g["point"] + 0.5) / bins
    height = np.exp(-(((centre - g["level"]) / 0.09) ** 2)).reshape(-1, bins)
    spread = {"by": g["by"], "metric": g["metric"], "low": g["point"] / bins, "high": (g["point"] + 1) / bins}
    spread |= {"share": (height / height.sum(1, keepdims=True)).ravel()}

    cost = np.exp(rng.normal(0, 1.4, n))
    price = {name: cost[i] for i, name in enumerate(models)}
    plain = comparison.table.select(["by", "metric", *FLOATS]).to_pylist()
    frontier = []
    for m in metrics:
        best = np.inf if comparison.orders[m] == "ascending" else -np.inf
        for row in sorted((r for r in plain if r["metric"] == m), key=lambda r: price[r["by"]]):
            better = row["mean"] < best if comparison.orders[m] == "ascending" else row["mean"] > best
            best = row["mean"] if better else best
            frontier.append({**row, "cost": float(price[row["by"]]), "on_frontier": bool(better)})

    felt = rng.dirichlet(np.linspace(0.2, 1.2, len(EMOTIONS)), n)
    text = (
        "I read your plan twice. I feel completely lost here, and I keep failing you. Let us try the second step again."
    )
    texts = [
        {
            "by": models[i % n],
            "metric": m,
            "score": 0.9 - 0.1 * i,
            "text": text,
            "segments": [
                {"start": 0, "end": 23, "score": 0.05},
                {"start": 24, "end": 76, "score": 0.93},
                {"start": 77, "end": len(text), "score": 0.5},
            ],
            "file": "dump.jsonl",
            "row": i,
        }
        for m in metrics
        for i in range(3)
    ]
    strings = [(name, pa.string()) for name in ("by", "metric", "text", "file")]
    schema = pa.schema([*strings, ("score", pa.float64()), ("segments", SEGMENTS), ("row", pa.int64())])
    return Report(
        title="Which model sounds least distressed?",
        comparison=comparison,
        turns=pa.table(by_turn),
        buckets=pa.table(by_length),
        rates=pa.table(over),
        survival=pa.table(alive),
        emotions=pa.table({"by": [m for m in models for _ in EMOTIONS], "emotion": EMOTIONS * n, "mean": felt.ravel()}),
        distributions=pa.table(spread),
        frontier=pa.Table.from_pylist(frontier),
        texts=pa.Table.from_pylist(texts, schema=schema),
        methods={
            "Engine": "affectcore 0.0 (a demonstration).",
            "Data": "Numbers of a seeded generator; not of any model.",
        },
        cost_label="US dollars per million tokens",
    )


HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror=alert(1)>\u202egpj\u202c\0\x1b[31m😀{{ 7*7 }}\u2028"
)


def hostile(models: int = 3) -> Report:
    """Put hostile text into every place that text can come from."""
    good = demo([f"{i}{HOSTILE}" for i in range(models)], ["distress"], prompts=20, turns=4, bins=6)
    assert good.texts is not None
    rows = good.texts.to_pylist()
    for row, text in zip(rows, (HOSTILE, "x" * 1_000_000 + HOSTILE, "e\u0301" * 500 + "\n" * 50 + HOSTILE)):
        row |= {"text": text, "file": HOSTILE, "segments": [{"start": 0, "end": len(text) // 2, "score": 1.0}]}
    texts = pa.Table.from_pylist(rows, schema=good.texts.schema)
    emotions = good.emotions.set_column(1, "emotion", pa.array([f"{i % 28}{HOSTILE}" for i in range(28 * models)]))
    methods = {HOSTILE: HOSTILE, "lone": "surrogate \ud800 here"}
    return replace(good, title=HOSTILE, texts=texts, emotions=emotions, methods=methods, cost_label=HOSTILE)


class Page(HTMLParser):
    """What a browser sees: elements with their attributes, the scripts' contents, and text by element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.content.append((self.elements[-1][0] if self.elements else "", data))

    def scripts(self) -> list[str]:
        return [text for tag, text in self.content if tag == "script" and text.strip()]


def carried(page: str) -> dict[str, Any]:
    """Return the data that a page carries."""
    match = re.search(r'id="data">([^<]*)<', page)
    assert match
    return json.loads(gzip.decompress(base64.b64decode(match[1])))


@pytest.fixture(scope="module")
def report() -> Report:
    return demo(names(3), ["distress", "warmth"], prompts=20, turns=6, bins=8)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render(report)


def test_refers_to_nothing_outside(page: str) -> None:
    for tag, attributes in Page(page).elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert len(styles) == 1 and "url(" not in styles[0] and "@import" not in styles[0]


def test_policy_allows_the_page_s_scripts_and_nothing_else(page: str) -> None:
    parsed = Page(page)
    policy = next(a["content"] for t, a in parsed.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none';")
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    data, *scripts = parsed.scripts()
    assert set(data) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    assert [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts] == allowed
    assert "unsafe" not in policy.split("style-src")[0]


def test_page_carries_the_numbers(report: Report, page: str) -> None:
    data = carried(page)
    board = report.comparison.table.to_pylist()
    for metric in ("distress", "warmth"):
        rows = [r for r in board if r["metric"] == metric]
        columns = data["table"][metric]
        assert [data["models"][i] for i in columns["by"]] == [r["by"] for r in rows]
        for name in ("mean", "ci_low", "ci_high", "rank", "n"):
            assert columns[name] == pytest.approx([r[name] for r in rows], rel=1e-4)
    assert report.turns is not None
    turns = [r for r in report.turns.to_pylist() if r["metric"] == "warmth"]
    assert data["turns"]["warmth"]["turn"] == [r["turn"] for r in turns]
    assert data["turns"]["warmth"]["mean"] == pytest.approx([r["mean"] for r in turns], abs=1e-3)


def test_unknown_numeric_columns_come_along(report: Report) -> None:
    table = report.comparison.table.append_column("cliffs_delta", pa.array(np.linspace(0, 1, 6)))
    data = carried(render(replace(report, comparison=replace(report.comparison, table=table))))
    assert data["table"]["distress"]["cliffs_delta"] == pytest.approx([0, 0.2, 0.4])


def test_same_report_gives_same_page(report: Report, page: str) -> None:
    assert render(report) == page


@pytest.mark.parametrize("how", ["none", "empty"])
def test_absent_tables_have_no_section(report: Report, how: str) -> None:
    tables = ("turns", "buckets", "rates", "survival", "emotions", "distributions", "frontier", "texts")
    empty = {t: None if how == "none" else getattr(report, t).slice(0, 0) for t in tables}
    sections = [a["id"] for t, a in Page(render(replace(report, **empty))).elements if t == "section"]
    assert sections == ["leaderboard", "pairs", "methods"]
    assert len([1 for t, _ in Page(render(report)).elements if t == "section"]) == 11


def test_long_tables_by_turn_are_thinned(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.turns is not None
    monkeypatch.setattr(html, "_CELLS", report.turns.num_rows // 2)
    data = carried(render(report))
    kept = sorted(set(data["turns"]["distress"]["turn"]))
    assert len(kept) == 3 and kept[0] == 1 and kept[-1] == 6
    assert "3 of 6 turns" in data["thinned"]["turns"]


def test_hostile_text_is_text(page: str) -> None:
    plain, bad = Page(page), Page(render(hostile()))
    assert len(bad.scripts()) == len(plain.scripts()) == 3
    assert bad.scripts()[1:] == plain.scripts()[1:]
    for tag, attributes in bad.elements:
        assert tag not in ("img", "iframe"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    text = "".join(data for tag, data in bad.content if tag not in ("script", "style"))
    assert "<img src=x onerror=alert(1)>[U+202E]gpj[U+202C]␀␛[31m😀{{ 7*7 }}[U+2028]" in text
    assert "surrogate \ufffd here" in text
    assert not re.search("[\0\x1b\u202e\u2028\ud800-\udfff]", text)
    assert len(text) < 30_000  # the texts were a million characters long


def test_texts_are_cut_round_the_strongest_segment() -> None:
    text = "a" * 5000 + "THE SEGMENT" + "b" * 5000
    segments = [{"start": 0, "end": 9, "score": 0.1}, {"start": 5000, "end": 5011, "score": -0.8}]
    before, pieces, after = html._pieces(text, segments, "here")
    shown = "".join(piece for piece, _, _ in pieces)
    assert len(shown) == html.TEXT_LIMIT and before + len(shown) + after == len(text)
    assert text[before:].startswith(shown)
    assert [p for p in pieces if p[1]] == [("THE SEGMENT", 3, "-0.80")]


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.floats(-1, 1)), max_size=6))
def test_pieces_make_up_the_text(text: str, spans: list[tuple[int, int, float]]) -> None:
    ends = [sorted((min(a, len(text)), min(b, len(text)))) for a, b, _ in spans]
    segments = [{"start": a, "end": b, "score": s[2]} for (a, b), s in zip(ends, spans)]
    before, pieces, after = html._pieces(text, segments, "here")
    assert (before, after) == (0, 0)
    joined = re.search("\r\n|[\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0000-\U000e0fff]", text)  # may be cut apart
    assert "".join(p[0] for p in pieces) == escape.terminal(text) or joined


def test_segment_outside_its_text_is_an_error(report: Report) -> None:
    assert report.texts is not None
    row = report.texts.to_pylist()[0] | {"text": "short", "segments": [{"start": 0, "end": 6, "score": 1.0}]}
    bad = pa.Table.from_pylist([row], schema=report.texts.schema)
    with pytest.raises(UsageError, match=r"dump\.jsonl, row 0: segment 0 to 6 .* 5 characters"):
        render(replace(report, texts=bad))


def test_missing_column_is_named(report: Report) -> None:
    assert report.survival is not None
    with pytest.raises(UsageError, match=r"'survival' has no column 'threshold'\. The columns are: by, metric"):
        render(replace(report, survival=report.survival.drop_columns(["threshold"])))


@pytest.mark.parametrize("module", ["jinja2", "altair"])
def test_missing_extra_says_what_to_install(report: Report, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'affectcore\[report\]'"):
        render(report)


def test_a_comparison_is_a_page_of_its_own_and_more_with_its_scores(tmp_path: Path) -> None:
    rows = [
        {"model": m, "conversation_id": f"c{c}", "turn": t, "distress": 0.1 * t + 0.2 * (m == "b"), "text": "So be it."}
        for m in "ab"
        for c in range(5)
        for t in range(3)
    ]
    scores = pa.Table.from_pylist(rows)
    result = compare(scores, metrics=["distress", "distress>=0.2"])
    alone, whole = result.to_html(), result.to_html(scores)
    for page, turns in ((alone, False), (whole, True)):
        assert "distress by model" in page
        assert ("Does it drift" in page) == turns
    (tmp_path / "dump.jsonl").write_text(json.dumps(rows[0]) + "\n")
    for dump in (str(tmp_path / "dump.jsonl"), tmp_path / "dump.jsonl"):
        assert result.to_html(scores, dump=dump) == result.to_html(scores, dump=[dump])
