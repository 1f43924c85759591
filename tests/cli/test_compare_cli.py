"""``affectcore compare`` with presets, conditions, costs, earlier scores and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affectcore.cli.main import main
from affectcore.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE


def write(path: Path, shift: float = 0.0, seed: int = 0) -> Path:
    """Write distress and warmth of two models in twelve conversations of six turns; b is sadder than a, and drifts."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "model": m,
            "conversation_id": f"c{c}",
            "turn": t,
            "n_tokens": 50,
            "text": f"Turn {t} of {m}. All is well.",
            "distress": float(np.clip(0.2 + 0.2 * k + 0.03 * k * t + shift + 0.05 * rng.normal(), 0, 1)),
            "warmth": float(rng.uniform()),
        }
        for k, m in enumerate("ab")
        for c in range(12)
        for t in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write(tmp_path / "scores.parquet")


def test_preset(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(scores), "--preset", "least-depressed"]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "Who is least depressed?" in said and "distress>=0.5" in said and "warmth" not in said
    assert main(["compare", str(scores), "--preset", "least"]) == EXIT_USAGE
    assert "least-depressed" in capsys.readouterr().err


def test_where_and_baseline(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--metric", "distress", "--where", "turn<=1", "--where", "model!=c", "--baseline", "a"]
    assert main(["compare", str(scores), *options]) == EXIT_DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "to base" in said and "rows where turn<=1 and model!=c" in said and " 24 " in said


def test_parquet_holds_all_facets(scores: Path) -> None:
    target = scores.with_name("out.parquet")
    assert main(["compare", str(scores), "--metric", "distress", "--facet", "turn", "-o", str(target)]) == EXIT_DONE
    table = pq.read_table(target)
    assert table.num_rows == 2 * 7 and set(table["facet"].to_pylist()) == {None, *"012345"}


def test_costs(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = scores.with_name("prices.csv")
    prices.write_text("model,USD\na,3\nb,1\n")
    assert main(["compare", str(scores), "--metric", "distress", "--cost", str(prices)]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "USD" in said and said.count("yes") == 2


def test_a_gate_on_earlier_scores(scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sadder = write(tmp_path / "sadder.parquet", shift=0.1, seed=1)
    options = ["--metric", "distress", "--pair-by", "conversation_id"]
    assert main(["compare", str(sadder), "--against", str(scores), *options]) == EXIT_FAILED
    assert capsys.readouterr().out.count("worse") >= 2
    assert main(["compare", str(sadder), "--against", str(scores), *options, "--tolerance", "0.3"]) == EXIT_DONE
    assert main(["compare", str(scores), "--against", str(sadder), *options]) == EXIT_DONE
    assert main(["compare", str(scores), "--against", str(scores), *options]) == EXIT_DONE


def test_html_report(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = scores.with_name("report.html")
    drawn = scores.with_name("figures")
    options = ["--preset", "least-depressed", "--baseline", "a", "-o", str(target), "--figures", str(drawn)]
    assert main(["compare", str(scores), *options]) == EXIT_DONE
    assert capsys.readouterr().err.endswith(f"wrote {target}\n")
    assert {p.suffix for p in drawn.iterdir()} == {".svg", ".png"} and len(list(drawn.iterdir())) >= 6
    page = target.read_text(encoding="utf-8")
    assert page.startswith(("<!doctype html>", "<!DOCTYPE html>"))
    assert "http-equiv" in page and len(page) < 5e6


def test_an_unknown_ending(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(scores), "-o", "out.xls"]) == EXIT_USAGE
    assert ".html" in capsys.readouterr().err
