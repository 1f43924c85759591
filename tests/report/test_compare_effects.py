"""Conditions, bounds, facets, baselines, effect sizes and p-values of comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from scipy import stats

from affectcore.comparison import Comparison, compare
from affectcore.errors import UsageError


def scores(prompts: int = 40, shift: float = 0.1, seed: int = 0) -> pa.Table:
    """Return scores of models a, b, c on the same prompts, b and c one and two shifts above a."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.4, 0.2, prompts)
    value = np.concatenate([base + k * shift + rng.normal(0, 0.05, prompts) for k in range(3)])
    return pa.table(
        {
            "model": np.repeat(["a", "b", "c"], prompts),
            "prompt_id": np.tile(np.arange(prompts), 3),
            "dataset": np.tile(np.where(np.arange(prompts) % 4 == 0, "chat", "code"), 3),
            "distress": value,
        }
    )


def by_model(result: Comparison) -> dict[str, dict[str, float]]:
    return {row["by"]: row for row in result.table.to_pylist()}


def test_effects_are_those_of_the_paired_differences() -> None:
    table = scores()
    rows = by_model(compare(table, metrics="distress", baseline="c"))
    value = table["distress"].to_numpy().reshape(3, -1)
    for name, k in (("b", 1), ("c", 2)):
        d = value[k] - value[0]
        assert rows[name]["d_to_best"] == pytest.approx(d.mean() / d.std(ddof=1))
        assert rows[name]["delta_to_best"] == pytest.approx(np.sign(d).mean())
        assert rows[name]["p_to_best"] < 0.001
        assert rows[name]["p_to_best"] <= rows[name]["p_holm_to_best"]
    assert rows["a"]["d_to_best"] is None and rows["c"]["p_to_baseline"] is None
    assert rows["a"]["diff_to_baseline"] == pytest.approx((value[0] - value[2]).mean())
    assert rows["a"]["diff_low_to_baseline"] < rows["a"]["diff_to_baseline"] < rows["a"]["diff_high_to_baseline"]
    assert rows["a"]["d_to_baseline"] == pytest.approx(-rows["c"]["d_to_best"])


def test_p_values_agree_with_the_t_test() -> None:
    table = scores(prompts=60, shift=0.012, seed=3)
    rows = by_model(compare(table, metrics="distress"))
    value = table["distress"].to_numpy().reshape(3, -1)
    for name, k in (("b", 1), ("c", 2)):
        assert rows[name]["p_to_best"] == pytest.approx(stats.ttest_rel(value[k], value[0]).pvalue, abs=0.02)


def test_models_without_common_prompts_are_independent_samples() -> None:
    table = scores()
    apart = table.set_column(1, "prompt_id", pa.array(np.arange(len(table))))
    rows = by_model(compare(apart, metrics="distress", pair_by="prompt_id"))
    value = table["distress"].to_numpy().reshape(3, -1)
    test = stats.mannwhitneyu(value[2], value[0])
    assert rows["c"]["p_to_best"] == pytest.approx(test.pvalue)
    assert rows["c"]["delta_to_best"] == pytest.approx(2 * test.statistic / 40**2 - 1)


def test_many_clusters_take_the_normal_distribution() -> None:
    table = scores(prompts=12_000, shift=0.0005, seed=5)
    row = by_model(compare(table, metrics="distress", n_resamples=100))
    value = table["distress"].to_numpy().reshape(3, -1)
    last = max(range(3), key=lambda k: value[k].mean())
    first = min(range(3), key=lambda k: value[k].mean())
    expected = stats.ttest_rel(value[last], value[first]).pvalue
    assert row["abc"[last]]["p_to_best"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("ending", ["table", ".parquet", ".csv"])
def test_conditions_and_bounds(tmp_path: Path, ending: str) -> None:
    table: object = scores()
    if ending != "table":
        path = tmp_path / f"scores{ending}"
        (pq.write_table if ending == ".parquet" else pv.write_csv)(table, path)
        table = str(path)
    result = compare(table, metrics=["distress", "distress>=0.5"], where=["dataset=code", "prompt_id<20"])
    value = scores()["distress"].to_numpy().reshape(3, -1)
    kept = (np.arange(40) % 4 != 0) & (np.arange(40) < 20)
    rows = {(r["by"], r["metric"]): r for r in result.table.to_pylist()}
    for k, name in enumerate("abc"):
        assert rows[name, "distress"]["mean"] == pytest.approx(value[k][kept].mean())
        assert rows[name, "distress>=0.5"]["mean"] == pytest.approx((value[k][kept] >= 0.5).mean())
        assert rows[name, "distress>=0.5"]["n"] == kept.sum()
    assert result.orders == {"distress": "ascending", "distress>=0.5": "ascending"}
    assert "rows where dataset=code and prompt_id<20" in result.method


def test_facets_are_the_comparisons_of_their_rows() -> None:
    result = compare(scores(), metrics="distress", facet="dataset", baseline="b")
    assert set(result.facets) == {"chat", "code"}
    alone = compare(scores(), metrics="distress", where="dataset=chat", baseline="b")
    assert result.facets["chat"].table.equals(alone.table)


def test_null_facets_and_conditions() -> None:
    table = scores().append_column("lang", pa.array([None, "en"] * 60))
    result = compare(table, metrics="distress", facet="lang")
    assert list(result.facets) == ["en", None]
    assert sum(f.n_rows for f in result.facets.values()) == 120
    assert compare(table, metrics="distress", where="lang!=de").n_rows == 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "dataset"}, "no condition"),
        ({"where": "nothing=1"}, "no column 'nothing'"),
        ({"where": "prompt_id>=many"}, "'many' is no number"),
        ({"where": "dataset>=3"}, "holds text"),
        ({"where": "dataset=none"}, "no rows where dataset=none"),
        ({"where": "prompt_id>=nan"}, "'nan' is no number"),
        ({"where": "chat=x"}, "column 'chat' holds list"),
        ({"facet": "chat"}, "column 'chat' holds list"),
        ({"metrics": "distress>=nan"}, "'nan' is no number"),
        ({"metrics": ","}, "no metric to compare: none is named"),
        ({"baseline": "A"}, "there is no model 'A'"),
        ({"baseline": "od", "by": "dataset"}, "there is no model 'od' in column 'dataset': did you mean 'code'"),
        ({"metrics": "distress>=high"}, "'high' is no number"),
        ({"facet": "nothing"}, "no column 'nothing'"),
    ],
)
def test_mistakes_are_named(options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        table = scores().append_column("chat", pa.array([["x"]] * 120))
        compare(table, **{"metrics": "distress", **options})  # type: ignore[arg-type]


def test_long_integers_are_ids_and_numbers() -> None:
    big = 2**62
    table = scores().append_column("big", pa.array([big + k % 3 for k in range(120)]))
    rows = by_model(compare(table, metrics="big"))
    assert rows["a"]["mean"] == float(big)
    assert compare(table, metrics="distress", where=f"big={big + 1}").n_rows == 40
    assert compare(table, metrics="distress", where=f"big>{big}").n_rows == 80
    assert compare(table, metrics="distress", where="big<1e30").n_rows == 120


def test_names_that_are_no_utf_8() -> None:
    table = scores().set_column(0, "model", pa.array([b"a\xff", b"b"] * 60))
    assert set(by_model(compare(table, metrics="distress"))) == {"a\ufffd", "b"}


def test_unpaired_p_values_without_scipy_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise UsageError(f"no {module}")

    table, said = scores(), "Without SciPy there are no p-values of differences that are not paired"
    with_scipy = compare(table, metrics="distress", pair_by="rows", baseline="a")
    monkeypatch.setattr("affectcore.stats.paired.scipy", missing)
    without = compare(table, metrics="distress", pair_by="rows", baseline="a")
    assert without.table["p_to_baseline"].null_count == 3 > with_scipy.table["p_to_baseline"].null_count
    assert [any(said in note for note in result.notes) for result in (with_scipy, without)] == [False, True]
    assert "that of Mann and Whitney's test" in str(without)
    paired = compare(table, metrics="distress", baseline="a")
    assert not any("SciPy" in note for note in paired.notes)
    assert "that of a sign-flip permutation test" in str(paired)


def test_repeated_and_missing_prompts_are_said() -> None:
    table = scores()
    again = pa.concat_tables([table, table.slice(0, 5)])
    assert "between 1 and 2 rows per model and prompt_id" in " ".join(compare(again, metrics="distress").notes)
    fewer = table.slice(7)
    assert "between 33 and 40 of the 40 clusters" in " ".join(compare(fewer, metrics="distress").notes)
    assert compare(table, metrics="distress").notes == ()
