"""Costs joined to a comparison, and its frontier; presets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from affectcore.comparison import compare
from affectcore.errors import InputError, UsageError
from affectcore.frontier import frontier, read_costs
from affectcore.metrics.registry import METRICS
from affectcore.presets import PRESETS, preset


def result() -> object:
    means = {"cheap": 0.5, "middle": 0.2, "dear": 0.1, "poor": 0.6, "free": 0.9}
    rows = [
        {"model": m, "prompt_id": k, "distress": v + 0.01 * k, "warmth": 1 - v}
        for m, v in means.items()
        for k in (0, 1)
    ]
    return compare(pa.Table.from_pylist(rows), metrics=["distress", "warmth"])


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_frontier_has_what_nobody_beats(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", "model,USD per 1M tokens\ncheap,1\nmiddle,5\ndear,20\npoor,5\nother,3\n")
    found = frontier(result(), path)  # type: ignore[arg-type]
    assert found.label == "USD per 1M tokens"
    for metric in ("distress", "warmth"):
        on = {r["by"]: r["on_frontier"] for r in found.table.to_pylist() if r["metric"] == metric}
        assert on == {"cheap": True, "middle": True, "dear": True, "poor": False}
    assert any("free" in note for note in found.notes) and any("other" in note for note in found.notes)


def test_equal_models_are_both_on_the_frontier(tmp_path: Path) -> None:
    table = pa.table({"model": ["a", "a", "b", "b"], "prompt_id": [1, 2, 1, 2], "distress": [0.1, 0.3] * 2})
    found = frontier(compare(table, metrics="distress"), write(tmp_path / "p.csv", "model,price\na,2\nb,2\n"))
    assert found.table["on_frontier"].to_pylist() == [True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,price\na,free\n", "row 2: 'free' is no cost"),
        ("model,price\na,1\na,2\n", "row 3: model 'a' comes twice"),
        ("model,price\na,-1\n", "row 2: '-1' is no cost"),
        ("model,price\na,\n", "row 2: None is no cost"),
        ("model\na\n", "one column"),
        ("", "mpty"),
        ("a,1\nb,2\n", "row 1: '1' is a cost, where the header should name it"),
    ],
)
def test_bad_prices_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_costs(write(tmp_path / "prices.csv", text))


def test_no_common_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no cost of any"):
        frontier(result(), write(tmp_path / "prices.csv", "model,price\nCheap,1\n"))  # type: ignore[arg-type]


def test_no_file_and_no_means(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.csv: No such file or directory \(give a CSV file"):
        read_costs(tmp_path / "nothing.csv")
    table = pa.table({"model": ["a", "b"], "distress": pa.array([None, None], pa.float64())})
    with pytest.raises(UsageError, match="no model has a value of distress"):
        frontier(compare(table, metrics="distress"), write(tmp_path / "prices.csv", "model,price\na,1\n"))


def test_presets_name_metrics_of_the_registry() -> None:
    for entry in PRESETS.values():
        assert all(m.split(">")[0] in METRICS for m in entry.metrics)
        assert all(m in METRICS for m in entry.thresholds)
    assert preset("warmth").present(["model", "warmth"]) == ("warmth",)
    assert preset("least-depressed").present(["distress"]) == ("distress", "distress>=0.5")
    with pytest.raises(UsageError, match="none of this preset's metrics"):
        preset("safety").present(["vader_compound"])
    with pytest.raises(UsageError, match="unknown preset"):
        preset("saftey")
