from __future__ import annotations

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from affectcore import escape
from affectcore.comparison import Comparison, compare
from affectcore.report import plain, shorten, strip

NAMES = [
    "gpt-4.1-mini-2025-04-14",
    "claude-sonnet-4-20250514-thinking-16k",
    "meta-llama/Llama-3.3-70B-Instruct",
    "o3",
    "模型/非常长的名字版本二零二五",
]


def result(names: list[str] = NAMES, scale: float = 1.0, **options: str) -> Comparison:
    rows = [
        {"model": m, "prompt_id": p, "vader_compound": scale * (0.1 * k - 0.2 + ((p * 7919 + k) % 13 - 6) / 50)}
        for k, m in enumerate(names)
        for p in range(30)
    ]
    return compare(pa.Table.from_pylist(rows), n_resamples=200, **options)


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e4])
def test_fits_80_columns(scale: float) -> None:
    text = plain(result(scale=scale))
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= 80
    table = lines[1:7]
    assert [line.split()[0] for line in table] == ["#", "1", "2", "3", "4", "5"]
    assert sum("●" in line for line in table) == 5
    assert "gpt-4" in text and "04-14" in text and "…" in text
    assert "30 clusters (by prompt_id, paired across models); 200 bootstrap replicates, seed 0" in " ".join(
        text.split()
    )
    assert "95% expanded percentile intervals" in " ".join(text.split())


def test_names_are_whole_where_there_is_room() -> None:
    text = plain(result(), width=140)
    for name in NAMES:
        assert name in text
    assert "…" not in text


@pytest.mark.parametrize("width", [50, 60, 100])
def test_fits_other_widths(width: int) -> None:
    lines = plain(result(), width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert lines[-1]


def test_numbers_are_aligned_and_rounded_by_their_intervals() -> None:
    lines = plain(result([name for name in NAMES if name.isascii()])).splitlines()
    end = lines[1].index("mean") + len("mean")
    means = [line[:end].split()[-1] for line in lines[2:6]]
    assert all(line[end] == " " and line[end - 1].isdigit() for line in lines[2:6])
    assert {len(m.split(".")[1]) for m in means} == {3}


def test_no_colour_and_no_control_sequences() -> None:
    target = io.StringIO()
    Console(file=target, force_terminal=True, width=80, no_color=True).print(result().to_rich())
    assert "\x1b[3" not in target.getvalue()
    assert "\x1b" not in str(result())


def test_ascii_console() -> None:
    target = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    names = [n for n in NAMES if n.isascii()]
    Console(file=target, width=80, color_system=None).print(result(names).to_rich())
    target.flush()
    text = target.buffer.getvalue().decode("ascii")
    assert "-o-" in text and "..." in text


def test_titles_say_the_direction() -> None:
    assert plain(result()).splitlines()[0].startswith("vader_compound (score): highest first")
    assert "lowest first" in plain(result(order="ascending")).splitlines()[0]


def test_markup_in_names_is_text() -> None:
    text = plain(result(["[bold]a[/bold]", "b|c"]))
    assert "[bold]a[/bold]" in text
    assert "b\\|c" in result(["[bold]a[/bold]", "b|c"]).to_markdown()


def test_a_facet_may_lack_the_baseline() -> None:
    rows = [{"model": m, "x": float(i + p), "prompt_id": p, "set": s} for s, models in (("one", "ab"), ("two", "bc"))
            for i, m in enumerate(models) for p in range(5)]  # fmt: skip
    text = compare(pa.Table.from_pylist(rows), metrics="x", baseline="a", facet="set").to_markdown()
    assert [line.count("difference to baseline") for line in text.splitlines() if "Cohen" in line] == [1, 1, 0]


@given(st.text(min_size=0, max_size=60), st.integers(3, 40))
def test_shorten(name: str, width: int) -> None:
    short = shorten(name, width)
    name = escape.line(name)
    assert len(short) <= width
    assert short == name or (len(short) == width and name.startswith(short.split("…")[0]))


@given(
    st.tuples(*[st.floats(-1, 1)] * 3).map(sorted),
    st.integers(5, 40),
)
def test_strip_is_in_order_and_exactly_wide(ends: list[float], width: int) -> None:
    low, mean, high = ends
    line = strip(mean, low, high, (-1.0, 1.0), width)
    assert len(line) == width and line.count("●") == 1
    drawn = [i for i, c in enumerate(line) if c in "─●"]
    assert drawn == list(range(drawn[0], drawn[-1] + 1))
    assert drawn[0] == round((low + 1) / 2 * (width - 1)) and drawn[-1] == round((high + 1) / 2 * (width - 1))


def test_strip_without_interval_or_mean() -> None:
    assert strip(0.5, None, None, (0.0, 1.0), 5) == "  ●  "
    assert strip(None, None, None, (-1.0, 1.0), 5) == "  ┊  "
    assert strip(2.0, 2.0, 2.0, (2.0, 2.0), 3) == "●  "
