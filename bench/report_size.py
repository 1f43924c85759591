"""Size and time of the HTML report: `python bench/report_size.py`.

Generated numbers for 3, 50 and 250 models of 20 metrics, with 20 turns, 24 bins, 5 buckets and 2 thresholds each: the
demonstration of `tests/report`. Where Chromium and Playwright are there, also the time until the page is drawn.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from affectcore.report.html import Report, render

sys.path.append(str(Path(__file__).parents[1] / "tests/report"))
from test_html import demo, names

METRICS = ["distress", "warmth", *(f"metric_{i}" for i in range(18))]
MODELS = (3, 50, 250)


def main() -> None:
    """Print the table."""
    table = Table("models", "metrics", "MB", "render s", "render CPU s", "drawn s", box=box.SIMPLE_HEAD)
    for n in MODELS:
        report = demo(names(n), METRICS, prompts=40)
        page, wall, cpu = _timed(report)
        drawn = _drawn(page)
        table.add_row(
            str(n),
            str(len(METRICS)),
            f"{len(page.encode()) / 1e6:.2f}",
            f"{wall:.2f}",
            f"{cpu:.2f}",
            "no browser" if drawn is None else f"{drawn:.2f}",
        )
    Console().print(table)


def _timed(report: Report) -> tuple[str, float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    page = render(report)
    return page, time.perf_counter() - start, time.process_time() - cpu


def _drawn(page: str) -> float | None:
    """Return the seconds from opening the page to its last chart; None without a browser."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=120_000)
        tab = browser.new_context(offline=True).new_page()
        tab.set_default_timeout(300_000)
        start = time.perf_counter()
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready=yes]")
        seconds = time.perf_counter() - start
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
