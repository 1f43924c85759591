from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import affectcore
from affectcore.comparison import Comparison, columns, compare
from affectcore.errors import InputError, UsageError
from affectcore.stats import cluster_bootstrap
from affectcore.stats.bootstrap import expanded_interval

COLUMNS = [
    *("by", "metric", "n", "n_clusters", "mean", "ci_low", "ci_high", "rank", "rank_low", "rank_high"),
    *("diff_to_best", "diff_low", "diff_high", "n_null", "d_to_best", "delta_to_best", "p_to_best", "p_holm_to_best"),
]


def scores(models: int = 3, prompts: int = 40, turns: int = 1, seed: int = 0, **extra: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=prompts)
    rows = [
        {
            "model": f"m{m}",
            "prompt_id": f"p{p:03}",
            "vader_compound": np.float32(np.tanh(0.4 * m + 0.5 * hard[p] + 0.1 * rng.normal())),
            "self_blame": np.float32(max(0.0, rng.normal(0.1 * m, 0.2))),
            "n_words": int(rng.integers(10, 500)),
        }
        for m in range(models)
        for p in range(prompts)
        for _ in range(turns)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(2, "vader_compound", table["vader_compound"].cast(pa.float32()))
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values))
    return table


def rows_of(result: Comparison, metric: str = "vader_compound") -> dict[Any, dict[str, Any]]:
    return {row["by"]: row for row in result.table.to_pylist() if row["metric"] == metric}


def test_numbers_are_the_means_and_the_paired_bootstrap() -> None:
    table = scores(turns=2)
    result = compare(table, seed=4)
    assert result.table.column_names == COLUMNS
    assert (result.by, result.pair_by, result.paired) == ("model", "prompt_id", True)
    assert (result.n_models, result.n_clusters, result.n_rows) == (3, 40, 240)

    values = table["vader_compound"].to_numpy().astype(float).reshape(3, 40, 2)
    model, cluster = (a.ravel() for a in np.indices((3, 40)))
    cells = (values.sum(axis=2).ravel(), np.full(120, 2), cluster, model)
    replicates = cluster_bootstrap(*cells, seed=4).replicates[:, :, 0]
    low, high = expanded_interval(replicates, 40)
    gap_low, gap_high = expanded_interval(replicates[:, 0] - replicates[:, 2], 40)
    rows = rows_of(result)
    assert list(rows) == ["m2", "m1", "m0"]
    for m in range(3):
        row = rows[f"m{m}"]
        assert row["n"] == 80 and row["n_clusters"] == 40 and row["n_null"] == 0
        assert row["mean"] == pytest.approx(values[m].mean())
        assert (row["ci_low"], row["ci_high"]) == (pytest.approx(low[m]), pytest.approx(high[m]))
        assert row["rank"] == 3 - m and row["rank_low"] <= row["rank"] <= row["rank_high"]
    worst = rows["m0"]
    assert worst["diff_to_best"] == pytest.approx(values[0].mean() - values[2].mean())
    assert (worst["diff_low"], worst["diff_high"]) == (pytest.approx(gap_low), pytest.approx(gap_high))
    assert rows["m2"]["diff_to_best"] == 0 and rows["m2"]["diff_low"] is None

    pairs = result.pairs.to_pylist()
    assert [(p["a"], p["b"]) for p in pairs] == [("m2", "m1"), ("m2", "m0"), ("m1", "m0")]
    assert pairs[1]["diff"] == pytest.approx(-worst["diff_to_best"])
    assert pairs[1]["diff_low"] == pytest.approx(-worst["diff_high"])


def test_pairing_narrows_differences_but_not_means() -> None:
    table = scores(prompts=100)
    paired, apart = rows_of(compare(table))["m0"], rows_of(compare(table, pair_by="rows"))["m0"]
    assert paired["diff_high"] - paired["diff_low"] < 0.5 * (apart["diff_high"] - apart["diff_low"])
    assert paired["ci_high"] - paired["ci_low"] == pytest.approx(apart["ci_high"] - apart["ci_low"], rel=0.15)


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=37)
    elif path.suffix == ".arrow":
        feather.write_feather(table, path, compression="uncompressed", chunksize=29)
    elif path.suffix == ".csv":
        pv.write_csv(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=11)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows", ".csv", ".jsonl"])
def test_same_result_from_every_format(tmp_path: Path, suffix: str) -> None:
    table = scores()
    metrics = ["vader_compound", "n_words"]
    expected = compare(table, metrics=metrics)
    found = compare(write(table, tmp_path / f"scores{suffix}"), metrics=metrics)
    assert found.table.drop_columns(["mean"]).num_rows == 6
    for a, b in zip(found.table.to_pylist(), expected.table.to_pylist()):
        assert a == {k: pytest.approx(v, rel=1e-6, abs=1e-7) if isinstance(v, float) else v for k, v in b.items()}


def test_json_metric_that_starts_with_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    rows = [{"model": "a", "self_blame": 0, "prompt_id": k} for k in range(40_000)]
    rows += [{"model": "b", "self_blame": 0.5, "prompt_id": k} for k in range(40_000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert path.stat().st_size > 1 << 20  # more than the block whose types are guessed
    found = rows_of(compare(path, metrics="self_blame", n_resamples=40), "self_blame")
    assert (found["a"]["mean"], found["b"]["mean"]) == (0.0, 0.5)


def test_folders_patterns_and_several_files(tmp_path: Path) -> None:
    table = scores(models=4)
    (tmp_path / "deep").mkdir()
    for m in range(4):
        part = table.slice(m * 40, 40)
        pq.write_table(part, tmp_path / ("deep" if m else ".") / f"m{m}.parquet")
    (tmp_path / "_list.jsonl").write_text("{}\n")
    (tmp_path / "deep" / ".hidden.parquet").write_text("not a table")
    (tmp_path / "m0.parquet.errors.jsonl").write_text("{}\n")
    (tmp_path / "notes.txt").write_text("not scores")
    expected = compare(table).table
    assert compare(tmp_path).table.equals(expected)
    assert compare(str(tmp_path / "**" / "*.parquet")).table.equals(expected)
    named = [tmp_path / "m0.parquet", *(tmp_path / "deep" / f"m{m}.parquet" for m in (1, 2, 3))]
    assert compare([*named, named[0]]).table.equals(expected)  # a file named twice counts once
    assert compare(list(reversed(named))).table.equals(expected)
    assert columns(tmp_path) == table.column_names


def test_arrow_sources() -> None:
    table = scores()
    expected = compare(table).table
    assert compare(table.combine_chunks().to_batches()[0]).table.equals(expected)
    assert compare(pa.RecordBatchReader.from_batches(table.schema, table.to_batches())).table.equals(expected)
    encoded = table.set_column(0, "model", table["model"].dictionary_encode())
    assert compare(encoded).table.equals(expected)


def test_public_name() -> None:
    assert affectcore.compare(scores()).table.equals(compare(scores()).table)


def test_seed_and_order_of_rows() -> None:
    table = scores()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    result = compare(table, seed=1)
    for a, b in zip(compare(shuffled, seed=1).table.to_pylist(), result.table.to_pylist()):
        assert a == {k: pytest.approx(v) if isinstance(v, float) else v for k, v in b.items()}
    assert compare(table, seed=1).table.equals(result.table)
    assert not compare(table, seed=2).table.equals(result.table)


def test_batches_do_not_change_the_sums(tmp_path: Path) -> None:
    # More rows than a batch and than a merge of partial sums, with every cluster spread over the whole file.
    rng = np.random.default_rng(0)
    n = 1_300_000
    model, prompt = rng.integers(0, 2, n), np.arange(n) % 5
    value = rng.integers(0, 10, n).astype(np.float32)
    names = pa.DictionaryArray.from_arrays(model.astype(np.int8), ["a", "b"])
    pq.write_table(pa.table({"model": names, "prompt_id": prompt, "vader_compound": value}), tmp_path / "s.parquet")
    result = compare(tmp_path / "s.parquet", n_resamples=50)
    assert result.n_clusters == 5 and result.n_rows == n
    for code, name in enumerate("ab"):
        assert rows_of(result)[name]["mean"] == pytest.approx(value[model == code].astype(float).mean(), rel=1e-12)


def test_nulls_nan_and_infinities_are_left_out_and_counted() -> None:
    table = pa.table(
        {
            "model": ["a"] * 6 + [None] * 2,
            "prompt_id": ["1", "2", "3", "4", "5", "6", "1", "2"],
            "vader_compound": [0.5, None, float("nan"), float("inf"), 0.7, 0.9, 0.1, 0.2],
        }
    )
    result = compare(table)
    rows = rows_of(result)
    assert rows["a"]["n"] == 3 and rows["a"]["n_null"] == 3 and rows["a"]["mean"] == pytest.approx(0.7)
    assert rows["a"]["n_clusters"] == 3
    assert rows[None]["mean"] == pytest.approx(0.15)
    assert any("3 values are null" in note for note in result.notes)
    assert "(null)" in str(result) and "null" in str(result).splitlines()[1]


def test_a_model_without_any_value_comes_last() -> None:
    table = pa.table({"model": ["a", "a", "b"], "prompt_id": [1, 2, 1], "vader_compound": [0.1, 0.2, None]})
    rows = rows_of(compare(table, order="ascending"))
    assert list(rows) == ["a", "b"]
    assert rows["b"] == {
        **dict.fromkeys(COLUMNS),
        "by": "b",
        "metric": "vader_compound",
        "n": 0,
        "n_clusters": 0,
        "n_null": 1,
    }


def test_one_cluster_gives_no_interval() -> None:
    table = pa.table({"model": ["a", "b"] * 3, "prompt_id": ["same"] * 6, "vader_compound": [0.1, 0.2] * 3})
    result = compare(table)
    for row in result.table.to_pylist():
        assert row["ci_low"] is row["ci_high"] is row["rank_low"] is row["diff_low"] is None
        assert row["mean"] is not None and row["rank"] is not None
    assert result.pairs.to_pylist()[0]["diff_low"] is None
    assert any("one cluster only" in note for note in result.notes)
    assert "one cluster only" in " ".join(str(result).split())


def test_equal_values_are_pointed_out() -> None:
    rows = [{"model": m, "prompt_id": p, "self_blame": 0.1 + float(m == "b") * p} for m in "abcdef" for p in range(30)]
    result = compare(pa.Table.from_pylist(rows), metrics="self_blame")
    assert "0.100000" not in str(result)  # rounding noise is no width, so it asks for no decimals
    assert result.notes == (
        "self_blame: no width for a, c, d and 2 more, whose clusters all have one mean; that is not certainty.",
    )


def test_models_that_were_not_asked_the_same_are_pointed_out() -> None:
    def asked(**prompts: range) -> tuple[str, ...]:
        rows = [{"model": m, "prompt_id": p, "vader_compound": (p % 7) / 7} for m in prompts for p in prompts[m]]
        return compare(pa.Table.from_pylist(rows)).notes

    assert asked(a=range(30), b=range(30)) == ()
    (partly,) = asked(a=range(30), b=range(5, 30))
    assert "between 25 and 30 of the 30 clusters (by prompt_id)" in partly
    (apart,) = asked(a=range(30), b=range(30), c=range(30, 60))
    assert apart.startswith("c shares no prompt_id with another model: those differences are not paired")


def test_few_clusters_are_pointed_out() -> None:
    assert any("Only 8 clusters" in note for note in compare(scores(prompts=8)).notes)
    assert compare(scores(prompts=40)).notes == ()


def test_order_follows_the_registry() -> None:
    result = compare(scores(), metrics=["vader_compound", "self_blame"])
    assert result.orders == {"vader_compound": "descending", "self_blame": "ascending"}
    means = [row["mean"] for row in rows_of(result, "self_blame").values()]
    assert means == sorted(means)
    turned = compare(scores(), order="ascending")
    assert [row["by"] for row in turned.table.to_pylist()] == ["m0", "m1", "m2"]


def test_groups_and_columns_of_ones_own() -> None:
    mine = np.arange(120) % 2 == 0
    table = scores(mine=mine)
    assert compare(table, metrics="vader").metrics == ("vader_compound",)
    result = compare(table, metrics=["mine", "n_words,mine"])
    assert result.metrics == ("mine", "n_words")
    assert rows_of(result, "mine")["m0"]["mean"] == 0.5


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"prompt_id": [0, 1, 2, 3], "uid": [0, 1, 0, 1]}, "prompt_id"),
        ({"uid": [0, 1, 0, 1], "conversation_id": [0, 1, 2, 3]}, "uid"),
        ({"uid": ["a", "b", "c", "d"], "question_id": [7, 8, 7, 8]}, "question_id"),
        ({"uid": ["a", "b", "c", "d"], "conversation_id": [0, 0, 1, 1]}, "conversation_id"),
        ({"id": [None, None, None, None]}, "rows"),
        ({}, "rows"),
    ],
)
def test_choice_of_the_pairing_column(ids: dict[str, list[Any]], expected: str) -> None:
    table = pa.table({"model": ["a", "a", "b", "b"], "vader_compound": [0.1, 0.2, 0.3, 0.4], **ids})
    result = compare(table)
    assert result.pair_by == expected
    assert result.paired is (expected in ("uid", "question_id"))
    shown = " ".join(str(result).split())
    assert ("every row is one" if expected == "rows" else f"by {expected}") in shown


def test_rows_without_an_id_stand_alone() -> None:
    table = pa.table({"model": ["a"] * 4, "prompt_id": ["1", "1", None, None], "vader_compound": [0.1, 0.2, 0.3, 0.4]})
    assert compare(table).n_clusters == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "modl"}, r"the table has no column 'modl'.*did you mean 'model'.*The columns are: model, prompt_id"),
        ({"metrics": "vader_compond"}, "no column 'vader_compond'.*did you mean 'vader_compound'"),
        ({"metrics": "lexcal"}, "no column 'lexcal'"),
        ({"metrics": "prompt_id"}, "'prompt_id' holds string, not numbers"),
        ({"metrics": []}, "no metric to compare"),
        ({"pair_by": "question"}, "no column 'question'"),
        ({"by": "chat"}, "column 'chat' holds list"),
        ({"pair_by": "chat"}, "column 'chat' holds list"),
        ({"order": "up"}, "unknown order 'up'"),
        ({"confidence": 1.0}, "between 0 and 1"),
        ({"n_resamples": 39}, "use at least 40"),
        ({"n_resamples": 100, "confidence": 0.99}, "use at least 200"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_wrong_usage(options: dict[str, Any], message: str) -> None:
    table = scores(chat=[["x"]] * 120)
    with pytest.raises(UsageError, match=message):
        compare(table, **options)


def test_too_many_models_and_no_rows() -> None:
    many = pa.table({"model": [str(k) for k in range(1001)], "vader_compound": [0.0] * 1001})
    with pytest.raises(UsageError, match="1,001 different values"):
        compare(many)
    with pytest.raises(UsageError, match="no rows"):
        compare(scores().slice(0, 0))
    with pytest.raises(UsageError, match="cannot compare int"):
        compare(7)
    with pytest.raises(UsageError, match="no score files were given"):
        compare([])
    with pytest.raises(UsageError, match="the name of a score file is empty"):
        compare("")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        compare(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match="no score files in it"):
        compare(tmp_path)
    (tmp_path / "x.txt").write_text("a")
    with pytest.raises(UsageError, match="unknown kind of file"):
        compare(tmp_path / "x.txt")
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(InputError, match=r"empty\.csv: the file is empty"):
        compare(empty)
    whole = write(scores(prompts=2000), tmp_path / "whole.parquet").read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.parquet: .*complete score file"):
        compare(cut)
    stream = write(scores(prompts=2000), tmp_path / "cut.arrows")
    stream.write_bytes(stream.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cut\.arrows"):
        compare(stream)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'null\n{"model":"a","x":1}\n', "a.jsonl: its first line is no JSON object"),  # crashes pyarrow 26
        ("a.jsonl", b"[1]\n", "a.jsonl: its first line is no JSON object"),
        ("a.csv", b"mod\xe8l,x\na,1\n", "a.csv: the name of a column is not UTF-8"),
    ],
)
def test_files_that_are_no_scores(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        compare(tmp_path / name, metrics="x")


def test_names_of_json_lines_that_are_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"model":"a\xff","x":1}\n{"model":"b","x":2}\n')
    assert set(compare(tmp_path / "a.jsonl", metrics="x").table["by"].to_pylist()) == {"a\ufffd", "b"}


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table(
        [pa.array(["a", "b"]), pa.array([1.0, 2.0]), pa.array([3.0, 4.0]), [1, 2]], ["model", "x", "x", "y"]
    )
    for scores_ in (table, write(table, tmp_path / "a.parquet")):
        with pytest.raises(UsageError, match=r"(the table|a\.parquet) has several columns 'x'"):
            compare(scores_, metrics="x")
    assert compare(table, metrics="y").n_rows == 2


def test_a_file_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write(scores(), tmp_path / "a.parquet")
    write(scores().drop_columns(["model"]), tmp_path / "b.parquet")
    with pytest.raises(UsageError, match=r"b\.parquet has no column 'model'.*The columns are: prompt_id"):
        compare(tmp_path)


def test_files_of_different_settings_are_pointed_out(tmp_path: Path) -> None:
    for name, mode in (("a", b"exact"), ("b", b"corrected")):
        pq.write_table(scores().replace_schema_metadata({b"affectcore.vader": mode}), tmp_path / f"{name}.parquet")
    assert any("different settings: affectcore.vader" in note for note in compare(tmp_path).notes)


def test_json_csv_and_markdown_carry_all_of_it() -> None:
    result = compare(scores(), metrics=["vader_compound", "self_blame"], seed=3)
    content = json.loads(result.to_json())
    assert content["leaderboard"] == result.table.to_pylist() and content["pairs"] == result.pairs.to_pylist()
    assert (content["pair_by"], content["seed"], content["n_resamples"]) == ("prompt_id", 3, 2000)
    assert content["metrics"] == {"vader_compound": 1, "self_blame": 1}
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [float(row["mean"]) for row in rows] == result.table["mean"].to_pylist()
    assert rows[0]["diff_low"] == ""
    lines = result.to_markdown().splitlines()
    assert sum(line.startswith("|") for line in lines) == 2 * (2 + 3)
    assert {line.count("|") for line in lines if line.startswith("|")} == {12}
    assert "2,000 bootstrap replicates, seed 3" in lines[-1]


def test_files_with_different_ids_and_settings(tmp_path: Path) -> None:
    table = scores()
    one = table.replace_schema_metadata({"affectcore": json.dumps({"vader": "exact", "model": "none"})})
    other = table.drop_columns(["prompt_id"]).replace_schema_metadata(
        {"affectcore": json.dumps({"vader": "corrected", "model": "none"})}
    )
    pq.write_table(one, tmp_path / "one.parquet")
    pq.write_table(other, tmp_path / "other.parquet")
    result = compare(tmp_path)
    assert result.pair_by != "prompt_id"
    assert "vader (exact and corrected)" in str(result) or "vader (corrected and exact)" in str(result)


def test_only_what_models_answer_counts() -> None:
    rows = [
        {"model": m, "prompt_id": p, "role": r, "part": part, "x": x}
        for m in ("a", "b")
        for p in ("p", "q")
        for r, part, x in (("assistant", "answer", 1.0), ("assistant", "reasoning", -9.0), ("user", "answer", 5.0))
    ]
    found = compare(pa.Table.from_pylist(rows), metrics="x")
    assert found.table["mean"].to_pylist() == [1.0, 1.0]
    assert found.table["n"].to_pylist() == [2, 2]
    assert "4 rows whose role is not assistant were left out." in found.notes
    assert "4 rows whose part is not answer were left out." in found.notes
    # Columns that serve for something else, or hold nothing else, choose nothing.
    assert compare(pa.Table.from_pylist(rows), by="role", metrics="x").n_models == 2
    users = compare(pa.Table.from_pylist([r for r in rows if r["role"] == "user"]), metrics="x")
    assert users.table["mean"].to_pylist() == [5.0, 5.0]
    assert not any("left out" in note for note in users.notes)
