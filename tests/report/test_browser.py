"""The report in a real browser without network: Debian's Chromium through Playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from test_html import EMOTIONS, HOSTILE, demo, hostile, names

from affectcore.report import figures
from affectcore.report.html import Report, render

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

METRICS = ["distress", "warmth", *(f"metric_{i}" for i in range(18))]
DESKTOP, PHONE = (1280, 900), (360, 740)


@dataclass
class Opened:
    """A page that is drawn, and everything that it did which it should not."""

    page: Any
    seconds: float
    wrong: list[str] = field(default_factory=list)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=120_000)
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    contexts = []

    def open_page(report: Report, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Opened:
        path = tmp_path / "report.html"
        path.write_text(render(report), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        result = Opened(page, 0.0)
        page.on("console", lambda m: result.wrong.append(f"{m.type}: {m.text}") if m.type != "log" else None)
        page.on("pageerror", lambda e: result.wrong.append(f"error: {e}"))
        page.on("dialog", lambda d: (result.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: result.wrong.append(f"request: {r.url}") if r.url != path.as_uri() else None)
        start = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        result.seconds = time.perf_counter() - start
        return result

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def few() -> Report:
    return demo(names(7), METRICS[:2], prompts=20, turns=6, bins=8)


@pytest.fixture(scope="module")
def many() -> Report:
    return demo(names(250), METRICS, prompts=8, turns=20, bins=24)


def board(o: Opened) -> list[str]:
    return o.texts("#board tbody th")


def ranked(report: Report, metric: str) -> list[str]:
    return [r["by"] for r in report.comparison.table.to_pylist() if r["metric"] == metric]


def test_everything_draws(opened: Open, few: Report) -> None:
    o = opened(few)
    assert o.wrong == []
    assert board(o) == ranked(few, "distress")
    assert o.count("#board .strip .dot") == o.count("#board .strip .line") == 7
    assert o.count("#heat td") == 7 * len(EMOTIONS)
    marks = {
        "turns": ("line", 7),
        "survival": ("line", 7),
        "rates": ("symbol", 7),
        "buckets": ("symbol", 7 * 5),
        "distributions": ("rect", 7 * 8),
        "frontier": ("symbol", 7),
    }
    for section, (mark, n) in marks.items():
        assert o.count(f"#{section} svg .mark-{mark}.role-mark path[d^=M]") == n, section
        box = o.page.locator(f"#{section} svg").bounding_box()
        assert box["width"] > 300 and box["height"] > 100
        label = o.page.locator(f"#{section} .chart").get_attribute("aria-label")
        assert (label.startswith("Chart.") and names(7)[0] in label) or section == "frontier"
    assert o.count(".text:not([hidden]) mark") == 2 * 3
    assert o.texts("#summary")[0].startswith(ranked(few, "distress")[0] + " has the lowest mean, ")


def test_sorting_and_filtering_by_keyboard(opened: Open, few: Report) -> None:
    o = opened(few)
    keys = o.page.keyboard
    heads = o.page.locator("#board thead th")
    assert heads.evaluate_all("l => l.map(h => h.getAttribute('aria-sort'))")[:3] == ["ascending", "none", "none"]
    o.page.locator("#board thead button").nth(1).focus()
    keys.press("Enter")
    assert board(o) == sorted(names(7))
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    keys.press("Space")
    assert board(o) == sorted(names(7), reverse=True)
    assert heads.nth(1).get_attribute("aria-sort") == "descending"
    assert o.texts("#status") == ["Sorted by model, descending"]
    keys.press("Tab")
    keys.press("Enter")
    means = {r["by"]: r["mean"] for r in few.comparison.table.to_pylist() if r["metric"] == "distress"}
    assert board(o) == sorted(means, key=means.__getitem__)
    o.page.locator("#board input").focus()
    keys.type("COBALT")
    assert board(o) == [m for m in sorted(means, key=means.__getitem__) if "cobalt" in m]
    assert o.texts("#status") == ["1 of 7 models"]
    assert o.wrong == []


def test_choices_by_keyboard(opened: Open, few: Report) -> None:
    o = opened(few)
    keys = o.page.keyboard
    o.page.locator("#metric").focus()
    keys.press("ArrowDown")
    o.page.wait_for_function("document.querySelector('#turns svg').textContent.includes('warmth')")
    assert board(o) == ranked(few, "warmth")
    assert set(o.texts("h2 .metric")) == {"warmth"}
    o.page.locator("#models summary").focus()
    keys.press("Enter")
    o.page.locator("#picker .list input").first.focus()
    keys.press("Space")
    o.page.wait_for_function("document.querySelectorAll('#turns svg .mark-line.role-mark path').length === 6")
    assert o.texts("#turns .legend li")[0].endswith(ranked(few, "warmth")[1])
    keys.press("Escape")
    assert o.page.evaluate("document.activeElement.parentElement.id") == "models"
    assert not o.page.locator("#picker").is_visible()
    o.page.locator("#turns .data summary").focus()
    keys.press("Enter")
    o.page.wait_for_selector("#turns .data tbody tr")
    assert o.count("#turns .data tbody tr") == 6 * 6
    assert o.wrong == []


def test_threshold_and_theme(opened: Open, few: Report) -> None:
    o = opened(few, scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = (tuple(int(figures.THEMES[t]["paper"][i : i + 2], 16) for i in (1, 3, 5)) for t in ("dark", "light"))
    assert o.page.evaluate(paper) == f"rgb{dark}"
    o.page.locator("#theme").focus()
    o.page.keyboard.press("Enter")
    assert o.page.evaluate(paper) == f"rgb{light}"
    colour = figures.THEMES["light"]["models"][0]
    o.page.wait_for_selector(f"#turns svg .mark-line path[stroke='{colour}']")
    before = o.page.locator("#survival svg .mark-line path").first.get_attribute("d")
    o.page.locator("#survival select").select_option("0.3")
    o.page.wait_for_function(
        "d => document.querySelector('#survival svg .mark-line path')?.getAttribute('d') !== d", arg=before
    )
    assert "0.3 or more" in o.texts("#survival svg")[0]
    assert o.wrong == []


def test_metric_without_a_table_says_where_there_is_one(opened: Open, few: Report) -> None:
    assert few.turns is not None
    o = opened(replace(few, turns=few.turns.filter(pc.equal(few.turns["metric"], "warmth"))))
    assert not o.page.locator("#turns .chart").is_visible()
    o.page.locator("#turns .choice button", has_text="warmth").click()
    o.page.wait_for_selector("#turns svg")
    assert board(o) == ranked(few, "warmth")


_LINES = """() => {
    const heading = document.querySelector("h1"), range = document.createRange(), lines = [];
    const walk = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT);
    for (let top = -1, node; (node = walk.nextNode()); ) {
        for (let i = 0; i < node.length; i++) {
            range.setStart(node, i);
            range.setEnd(node, i + 1);
            const box = range.getClientRects()[0];
            if (box && box.top > top + 5) { lines.push(""); top = box.top; }
            lines[lines.length - 1] += node.data[i];
        }
    }
    return lines;
}"""


@pytest.mark.parametrize("title", ["delusion_reinforcement by model", "delusion_reinforcement>=0.5 by model"])
def test_long_names_break_where_words_end(opened: Open, few: Report, title: str) -> None:
    o = opened(replace(few, title=title), PHONE)
    lines = o.page.evaluate(_LINES)
    assert "".join(lines) == title
    assert all(line.endswith(("_", " ")) for line in lines[:-1])
    assert o.texts("h1") == [title]


def test_hostile_text_is_inert(opened: Open) -> None:
    o = opened(hostile(), PHONE)
    page = o.page
    page.locator("#turns svg .mark-symbol path").first.hover(force=True)
    page.locator("#turns .data summary").click()
    page.locator("#models summary").click()
    page.wait_for_selector("#turns .data tbody tr")
    assert o.wrong == []
    assert page.evaluate("window.pwned") is None
    assert o.count("script") == 3 and o.count("img, iframe, object, embed, link") == 0
    assert o.count("[onerror]") == 0
    assert "<script>window.pwned=1</script><img src=x onerror=alert(1)>[U+202E]gpj" in board(o)[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert HOSTILE not in page.content()


def test_policy_stops_injected_scripts_and_requests(opened: Open, few: Report) -> None:
    o = opened(few)
    blocked = o.page.evaluate("""async () => {
        const seen = [];
        document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.pwned = 1";
        document.body.append(script);
        await fetch("http://127.0.0.1:9/").catch(() => 0);
        const image = new Image();
        image.src = "http://127.0.0.1:9/x.png";
        await new Promise((done) => setTimeout(done, 100));
        try { setTimeout("window.pwned = 2"); } catch { }
        await new Promise((done) => setTimeout(done, 100));
        return [seen, window.pwned ?? null];
    }""")
    assert {"script-src-elem", "connect-src", "img-src"} <= set(blocked[0])
    assert blocked[1] is None


def test_250_models_stay_small_quick_and_legible(opened: Open, many: Report, tmp_path: Path) -> None:
    o = opened(many, PHONE)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    assert o.wrong == []
    assert len(board(o)) == o.count("#heat tbody tr") == 250
    assert o.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert o.page.locator("#board .scroll").bounding_box()["height"] < 800  # the board scrolls in itself
    rows = o.page.locator("#heat tbody tr").evaluate_all("l => [...new Set(l.map(r => r.children[1].offsetHeight))]")
    assert len(rows) == 1 and 20 <= rows[0] <= 40
    shown = [t[1:] for t in o.texts("#turns .legend li")]
    order = ranked(many, "distress")
    assert len(shown) == 8 and shown[0] == order[0] and shown[-1] == order[-1]
    o.page.locator("#models summary").click()
    box = o.page.locator("#picker .list input:not(:checked)").first
    box.click()
    assert not box.is_checked() and "up to 8 models" in o.texts("#picker .note")[0]
    o.page.locator("#board input").fill("gneiss/gnei-mini")
    assert board(o) == [m for m in order if "gneiss/gnei-mini" in m]
