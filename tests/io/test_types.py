"""Kept columns of every Arrow type, to every format of output: right, or refused in one line before the work begins."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from affectcore import Scorer
from affectcore.errors import OutputError, UsageError
from affectcore.io.formats.base import plain, plain_type
from affectcore.io.rare_types import durations
from affectcore.io.writers import json_texts
from affectcore.pipeline.run import score_dataset

DAY = datetime.date(2020, 1, 2)
TEXTS = pa.array(["good", "bad", None])


def column(values: list[Any], dtype: pa.DataType) -> pa.Array:
    return pa.array([values[0], None, values[1]], dtype)


def numbered(values: list[Any], dtype: pa.DataType) -> pa.Array:
    """Return a dictionary array of two values with a null between them."""
    return pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.int8()), pa.array(values, dtype))


def runs(values: pa.Array, ends: pa.DataType | None = None) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], ends or pa.int32()), values)


def listed(values: pa.Array) -> pa.Array:
    """Return a list of the first value, an empty list, and one of the second."""
    return pa.ListArray.from_arrays(pa.array([0, 1, 1, 2], pa.int32()), values)


def mapped(keys: list[str], values: pa.Array) -> pa.Array:
    """Return a map of the first pair, an empty map, and one of the second."""
    return pa.MapArray.from_arrays(pa.array([0, 1, 1, 2], pa.int32()), pa.array(keys), values)


def unions() -> tuple[pa.Array, pa.Array]:
    """Return a sparse and a dense union of 1, "b" and null."""
    sparse = pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, None]), pa.array(["a", "b", "c"])]
    dense = pa.array([5, 1, 5], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, None]), pa.array(["b"])]
    return pa.UnionArray.from_sparse(*sparse), pa.UnionArray.from_dense(*dense, type_codes=[5, 1])


def extension(dtype: Any, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(dtype, column(values, dtype.storage_type))


INTERVAL = pa.month_day_nano_interval()
INTERVALS = [(1, 2, 3_500_000_000), (0, -4, 0)]
WRITTEN = ["P1M2DT3.5S", "P0M-4DT0S"]
LISTS = [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_view(pa.int64()), pa.large_list_view(pa.int64())]
NUMBERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TICKS = {"s": "1", "ms": "0.001", "us": "0.000001", "ns": "0.000000001"}

# Columns, and what JSON has of them.
COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    **{str(t): (column([1, 3], t), [1, None, 3]) for t in NUMBERS},
    **{str(t): (column([1.5, float("nan")], t), [1.5, None, None]) for t in (pa.float32(), pa.float64())},
    "float16": (column([np.float16(1.5), np.float16(2.5)], pa.float16()), [1.5, None, 2.5]),
    "bool": (column([True, False], pa.bool_()), [True, None, False]),
    "null": (pa.nulls(3), [None] * 3),
    **{
        f"decimal {i}": (column([Decimal("1.5"), Decimal("-2.25")], t), [1.5, None, -2.25])
        for i, t in enumerate((pa.decimal128(30, 2), pa.decimal256(60, 2)))
    },
    "decimal of hundreds": (column([Decimal(1500), Decimal(200)], pa.decimal128(10, -2)), [1500, None, 200]),
    "date32": (column([DAY, DAY], pa.date32()), ["2020-01-02", None, "2020-01-02"]),
    "date64": (column([DAY, DAY], pa.date64()), ["2020-01-02", None, "2020-01-02"]),
    "time32": (column([1, 3], pa.time32("ms")), ["00:00:00.001", None, "00:00:00.003"]),
    "time64": (column([1, 3], pa.time64("ns")), ["00:00:00.000000001", None, "00:00:00.000000003"]),
    "timestamp": (
        column([1, 3], pa.timestamp("ns")),
        ["1970-01-01 00:00:00.000000001", None, "1970-01-01 00:00:00.000000003"],
    ),
    "timestamp of a zone": (
        column([1, 3], pa.timestamp("ms", "UTC")),
        ["1970-01-01 00:00:00.001Z", None, "1970-01-01 00:00:00.003Z"],
    ),
    "timestamp of no known zone": (
        column([1, 3], pa.timestamp("ms", "Nowhere/Town")),
        ["1970-01-01 00:00:00.001Z", None, "1970-01-01 00:00:00.003Z"],
    ),
    **{
        f"duration in {unit}": (column([1, 10**12], pa.duration(unit)), [f"PT{one}S", None, f"PT{10 ** (12 - 3 * i)}S"])
        for i, (unit, one) in enumerate(TICKS.items())
    },
    "duration that Python has not": (column([2**62, -1], pa.duration("s")), [f"PT{2**62}S", None, "PT-1S"]),
    "interval": (column(INTERVALS, INTERVAL), [WRITTEN[0], None, WRITTEN[1]]),
    **{
        str(t): (column(['a"\n', "é" * 9], t), ['a"\n', None, "é" * 9])
        for t in (pa.string(), pa.large_string(), pa.string_view())
    },
    **{
        str(t): (column([b"a", b"\xff" * 13], t), ["a", None, "\ufffd" * 13])
        for t in (pa.binary(), pa.large_binary(), pa.binary_view())
    },
    "fixed binary": (column([b"ab", b"cd"], pa.binary(2)), ["ab", None, "cd"]),
    "fixed binary of nothing": (column([b"", b""], pa.binary(0)), ["", None, ""]),
    **{str(t): (column([[1], []], t), [[1], None, []]) for t in LISTS},
    "fixed list": (column([[1, 2], [3, None]], pa.list_(pa.int64(), 2)), [[1, 2], None, [3, None]]),
    "list of NaN": (column([[float("nan"), 0.5], []], pa.list_(pa.float64())), [[None, 0.5], None, []]),
    "list of durations": (column([[1], []], pa.list_(pa.duration("ns"))), [["PT0.000000001S"], None, []]),
    "list of intervals": (column([INTERVALS, []], pa.list_(INTERVAL)), [WRITTEN, None, []]),
    "list of bytes": (column([[b"\xff"], []], pa.list_(pa.binary())), [["\ufffd"], None, []]),
    "list of views": (column([["a"], []], pa.list_(pa.string_view())), [["a"], None, []]),
    "list of a dictionary": (listed(numbered(["a", "b"], pa.string())), [["a"], [], [None]]),
    "list of runs": (listed(runs(pa.array(["a", "b"]))), [["a"], [], ["a"]]),
    "struct": (pa.array([{"x": 1, 'y"': ["a"]}, None, {}]), [{"x": 1, 'y"': ["a"]}, None, {"x": None, 'y"': None}]),
    "struct of nothing": (pa.array([{}, None, {}], pa.struct([])), [{}, None, {}]),
    "map": (
        pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int64())),
        [[["a", 1], ["b", None]], None, []],
    ),
    "map of runs": (mapped(["a", "b", "c"], runs(pa.array([1, 2]))), [[["a", 1]], [], [["b", 1]]]),
    "dictionary": (numbered(["a", "b"], pa.string()), ["a", None, "b"]),
    "dictionary of durations": (numbered([1, 2], pa.duration("s")), ["PT1S", None, "PT2S"]),
    "dictionary of intervals": (numbered(INTERVALS, INTERVAL), [WRITTEN[0], None, WRITTEN[1]]),
    "dictionary of decimals": (numbered([Decimal(1), Decimal(2)], pa.decimal256(60, 2)), [1, None, 2]),
    "dictionary of views": (numbered(["a", "b"], pa.string_view()), ["a", None, "b"]),
    "dictionary of lists": (numbered([[1], [2]], pa.list_(pa.int64())), [[1], None, [2]]),
    "dictionary of structs": (numbered([{"x": 1}, {"x": 2}], pa.struct({"x": pa.int8()})), [{"x": 1}, None, {"x": 2}]),
    "dictionary of nulls": (numbered([None, None], pa.null()), [None] * 3),
    "runs": (runs(pa.array(["a", None]), pa.int16()), ["a", "a", None]),
    "runs of views": (runs(pa.array(["a", "b"], pa.string_view())), ["a", "a", "b"]),
    "runs of a dictionary": (runs(pa.array(["a", "b"]).dictionary_encode(), pa.int64()), ["a", "a", "b"]),
    "runs of intervals": (runs(pa.array(INTERVALS, INTERVAL)), [WRITTEN[0], WRITTEN[0], WRITTEN[1]]),
    "runs of lists": (runs(pa.array([[1], [2]])), [[1], [1], [2]]),
    "sparse union": (unions()[0], [1, "b", None]),
    "dense union": (unions()[1], [1, "b", None]),
    "UUID": (extension(pa.uuid(), [bytes(16), bytes(15) + b"1"]), [str(UUID(int=0)), None, str(UUID(int=0x31))]),
    "JSON": (extension(pa.json_(), ["{}", "[1]"]), ["{}", None, "[1]"]),
    "opaque": (extension(pa.opaque(pa.int32(), "x", "y"), [1, 2]), [1, None, 2]),
    "tensor": (extension(pa.fixed_shape_tensor(pa.int32(), [2]), [[1, 2], [3, 4]]), [[1, 2], None, [3, 4]]),
}
NOT_IN_PARQUET = {
    *("interval", "fixed binary of nothing", "list of intervals", "struct of nothing"),
    *("dictionary of intervals", "runs of intervals", "sparse union", "dense union"),
}
NOT_KEPT = {"map of runs"}
SCORER = Scorer("none", "vader_compound", threads=1)


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)


def read(path: Path) -> pa.Table:
    return pa.ipc.open_file(path).read_all() if path.suffix == ".arrow" else pq.read_table(path)


def in_parquet(array: pa.Array) -> bool:
    try:
        pq.write_table(pa.table({"c": array}), pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return False
    return True


def refused(name: str, output: str) -> bool:
    return name in NOT_KEPT or (output == ".parquet" and name in NOT_IN_PARQUET)


@pytest.mark.parametrize("output", [".parquet", ".arrow", ".jsonl"])
@pytest.mark.parametrize("source", [".parquet", ".arrow"])
def test_kept_columns_come_out_right(tmp_path: Path, source: str, output: str) -> None:
    there = {
        name: array
        for name, (array, _) in COLUMNS.items()
        if not refused(name, output) and (source == ".arrow" or in_parquet(array))
    }
    if output == ".parquet":  # old PyArrow writes no fixed-size lists with a null among them
        there = {name: array for name, array in there.items() if in_parquet(plain(array))}
    assert len(there) > 45
    given, out = tmp_path / f"in{source}", tmp_path / f"out{output}"
    write(given, pa.table({"text": TEXTS, **there}))
    score_dataset(given, out, scorer=SCORER, keep=list(there), threads=1)
    if output == ".jsonl":
        lines = [json.loads(line, parse_constant=pytest.fail) for line in out.read_text("utf-8").splitlines()]
        found = {name: [line[name] for line in lines] for name in there}
        if source == ".parquet":  # what Parquet makes of other types is not ours to judge
            there = {name: array for name, array in there.items() if not pa.types.is_dictionary(array.type)}
        assert {name: found[name] for name in there} == {name: COLUMNS[name][1] for name in there}
        return
    table = read(out)
    expected = read(given)
    for name in there:
        array = plain(expected[name].combine_chunks())
        if output == ".parquet":
            write(tmp_path / "alone.parquet", pa.table({"c": array}))
            array = read(tmp_path / "alone.parquet")["c"].combine_chunks()
        got = table[name].combine_chunks()
        assert got.type == array.type, name
        assert json_texts(got).equals(json_texts(array)), name


@pytest.mark.parametrize("output", [".parquet", ".arrow", ".jsonl", ""])
def test_what_cannot_be_kept_is_refused_before_the_work_begins(tmp_path: Path, output: str) -> None:
    given, out = tmp_path / "in.arrow", tmp_path / f"out{output}"
    cases = [name for name in COLUMNS if refused(name, output or ".parquet")]
    assert set(cases) == NOT_KEPT | (set() if output in (".arrow", ".jsonl") else NOT_IN_PARQUET)
    for name in cases:
        array = COLUMNS[name][0]
        write(given, pa.table({"id": [1, 2, 3], "text": TEXTS, "c": array}))
        told = (
            r"PyArrow cannot take rows; leave it"
            if name in NOT_KEPT
            else "Parquet files cannot hold; .*leave the column"
        )
        with pytest.raises(UsageError, match=rf"in.arrow: column 'c' is .*, .*which {told} out with --keep id$"):
            score_dataset(given, out, scorer=SCORER, keep=["id", "c"], threads=1)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.arrow"], name
        if name not in NOT_KEPT and not pa.types.is_nested(plain_type(array.type)):
            with pytest.raises(
                UsageError, match=r"which Parquet files cannot hold; write a file that ends in .arrow or"
            ):
                score_dataset(given, out, scorer=SCORER, threads=1)


def test_without_keep_columns_that_are_not_nested_are_kept(tmp_path: Path) -> None:
    there = {name: array for name, (array, _) in COLUMNS.items()}
    write(tmp_path / "in.arrow", pa.table({"text": TEXTS, **there}))
    score_dataset(tmp_path / "in.arrow", tmp_path / "out.arrow", scorer=SCORER, threads=1)
    kept = [name for name, array in there.items() if not pa.types.is_nested(plain_type(array.type))]
    assert read(tmp_path / "out.arrow").column_names == [*kept, "vader_compound"]
    assert {"runs", "runs of views", "dictionary", "UUID", "interval"} < set(kept)
    assert not {"struct", "runs of lists", "dictionary of structs", "dense union"} & set(kept)


@pytest.mark.parametrize("unit", ["document", "segment", "turn"])
def test_tables_in_memory_keep_every_type(unit: str) -> None:
    scorer = Scorer("none", "vader_compound", unit=unit, threads=1)
    there = {name: array for name, (array, _) in COLUMNS.items() if name not in NOT_KEPT}
    texts = pa.array(["good", "bad", "so so"])
    table = scorer.score(pa.table({"text": texts, **there}))
    for name, array in there.items():
        assert json_texts(plain(table[name].combine_chunks())).equals(json_texts(plain(array))), name
    (name,) = NOT_KEPT
    if unit != "document":
        with pytest.raises(UsageError, match=r"column 'c' is map<.*, of which PyArrow cannot take rows: drop it"):
            scorer.score(pa.table({"text": texts, "c": COLUMNS[name][0]}))


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in NOT_KEPT])
def test_slices(name: str) -> None:
    array, values = COLUMNS[name]
    for begin in range(4):
        for length in range(4 - begin):
            part = array.slice(begin, length)
            made = plain(part)
            made.validate(full=True)
            assert made.type == plain_type(array.type)
            for column in (part, made):
                assert [json.loads(text) for text in json_texts(column).to_pylist()] == values[begin : begin + length]


def test_durations_and_pandas_agree() -> None:
    pandas = pytest.importorskip("pandas")
    for value in (0, 1, -1, 10**9, -(10**9) - 1, 86_400 * 10**9 + 5):
        (text,) = durations(pa.array([value], pa.duration("ns"))).to_pylist()
        assert pandas.Timedelta(text.replace("PT-", "-PT")).value == value


def test_json_needs_no_pandas() -> None:
    code = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import pyarrow as pa
from affectcore.io.writers import json_texts
for kind in (pa.timestamp("ns"), pa.duration("ns"), pa.time64("ns")):
    print(*json_texts(pa.array([[1]], pa.list_(kind))).to_pylist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ['["1970-01-01 00:00:00.000000001"]', '["PT0.000000001S"]']


def test_a_value_that_the_format_has_not(tmp_path: Path) -> None:
    """Parquet has no seconds: they become milliseconds, which reach less far."""
    write(tmp_path / "in.arrow", pa.table({"text": ["a"], "c": pa.array([2**62], pa.timestamp("s"))}))
    with pytest.raises(OutputError, match=r"out.parquet: .*(overflow|out of bounds).*; leave the column out"):
        score_dataset(tmp_path / "in.arrow", tmp_path / "out.parquet", scorer=SCORER)
    score_dataset(tmp_path / "in.arrow", tmp_path / "out.arrow", scorer=SCORER)
    assert pc.equal(read(tmp_path / "out.arrow")["c"].cast(pa.int64()), 2**62).to_pylist() == [True]
