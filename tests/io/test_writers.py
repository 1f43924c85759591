from __future__ import annotations

import datetime
import decimal
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import affectcore
from affectcore.errors import OutputError, UsageError
from affectcore.io.files import remove_leftovers
from affectcore.io.writers import is_file_output, json_texts, open_writer

SCHEMA = pa.schema(
    [("id", pa.int64()), ("model", pa.string()), ("score", pa.float32())], metadata={"affectcore": '{"a":1}'}
)


def batch(start: int = 0, rows: int = 3) -> pa.RecordBatch:
    ids = range(start, start + rows)
    columns = [pa.array(ids), pa.array([f"m{i % 3}" for i in ids]), pa.array([i / 7 for i in ids], pa.float32())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def load(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".jsonl":
        return pa.Table.from_pylist([json.loads(line) for line in path.read_text().splitlines()], schema=SCHEMA)
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather", "a.ipc", "a.jsonl"])
@pytest.mark.parametrize("cuts", [[0], [10], [3, 4, 1], [70_000, 1, 66_000]])
def test_batches_come_back(tmp_path: Path, name: str, cuts: list[int]) -> None:
    path = tmp_path / "new" / "folder" / name
    batches, start = [], 0
    with open_writer(path, SCHEMA) as writer:
        for rows in cuts:
            batches.append(batch(start, rows))
            writer.write(batches[-1])
            start += rows
        assert not path.exists()
    assert writer.rows == start
    assert load(path).equals(pa.Table.from_batches(batches, SCHEMA))
    assert [p.name for p in path.parent.iterdir()] == [name]  # nothing temporary is left
    if path.suffix != ".jsonl":
        assert load(path).schema.metadata == SCHEMA.metadata


def test_small_batches_are_gathered(tmp_path: Path) -> None:
    sizes = []
    for rows in (1000, 7, 50_000):
        path = tmp_path / f"{rows}.parquet"
        with open_writer(path, SCHEMA) as writer:
            for start in range(0, 70_000, rows):
                writer.write(batch(start, min(rows, 70_000 - start)))
        found = pq.read_metadata(path)
        sizes.append([found.row_group(i).num_rows for i in range(found.num_row_groups)])
        assert path.read_bytes() == (tmp_path / "1000.parquet").read_bytes()
    assert sizes == [[65536, 70_000 - 65536]] * 3


def test_score_columns_have_no_dictionary(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.parquet", SCHEMA) as writer:
        writer.write(batch(0, 100))
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    assert [group.column(i).has_dictionary_page for i in range(3)] == [True, True, False]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    path = tmp_path / name
    with pytest.raises(error), open_writer(path, SCHEMA) as writer:
        writer.write(batch(0, 70_000))
        raise error
    assert list(tmp_path.iterdir()) == []
    path.write_text("older")
    with pytest.raises(error), open_writer(path, SCHEMA, overwrite=True) as writer:
        writer.write(batch())
        raise error
    assert path.read_text() == "older"


def test_an_output_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("older")
    with pytest.raises(OutputError, match=r"a.parquet exists.*--overwrite.*--resume"):
        open_writer(path, SCHEMA)
    with open_writer(path, SCHEMA, overwrite=True) as writer:
        writer.write(batch())
        assert path.read_text() == "older"
    assert load(path).num_rows == 3
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        open_writer(tmp_path / "b.parquet", SCHEMA, overwrite=True)


def test_extensions() -> None:
    assert is_file_output("a.parquet")
    assert is_file_output(Path("x/a.JSONL"))
    assert not is_file_output("scores")
    assert not is_file_output("run-1.5")
    with pytest.raises(UsageError, match=r"cannot write \.csv files; end the name in one of \.parquet"):
        is_file_output("a.csv")
    with pytest.raises(UsageError, match=r"end the name in one of"):
        open_writer("a.other", SCHEMA)


@pytest.mark.parametrize("where", ["file/a.parquet", "file/deeper/a.parquet"])
def test_a_folder_that_is_a_file(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"), open_writer(tmp_path / where, SCHEMA):
        raise AssertionError("never reached")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_that_takes_no_files() -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write /proc/a.parquet: .*another folder"),
        open_writer("/proc/a.parquet", SCHEMA),
    ):
        raise AssertionError("never reached")


def test_a_read_only_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)  # noqa: PTH101
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # permissions do not bind root
            with pytest.raises(OutputError, match="no permission"), open_writer(Path(folder, "a.parquet"), SCHEMA):
                raise AssertionError("never reached")
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o755)  # noqa: PTH101


FULL = """
import resource, signal, sys
import pyarrow as pa
from affectcore.errors import OutputError
from affectcore.io.writers import open_writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
batch = pa.RecordBatch.from_pydict({"x": pa.array(range(60_000), pa.int64())})
try:
    with open_writer(sys.argv[1], batch.schema) as writer:
        for _ in range(4):
            writer.write(batch)
except OutputError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
@pytest.mark.parametrize("limit", [2, 100_000])
def test_a_full_disk(tmp_path: Path, name: str, limit: int) -> None:
    # A limit on file sizes fails a write half-way, just as a full disk does.
    done = run_python(FULL, str(tmp_path / name), str(limit))
    assert done.stderr == ""
    assert "the disk is full" in done.stdout
    assert str(tmp_path / name) in done.stdout
    assert list(tmp_path.iterdir()) == []


def run_python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(affectcore.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


def test_leftovers_of_a_killed_run(tmp_path: Path) -> None:
    for name in (".a.parquet.123.tmp", ".b.parquet.9.tmp", ".other.tmp", "a.parquet"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path, r"a\.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.parquet.9.tmp", ".other.tmp", "a.parquet"]
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.tmp", "a.parquet"]
    remove_leftovers(tmp_path / "nowhere")


@settings(max_examples=200, deadline=None)
@given(
    strings=st.lists(st.none() | st.text(max_size=20), max_size=6),
    floats=st.lists(st.none() | st.floats(width=32), max_size=6),
)
def test_json_values_come_back(strings: list[str | None], floats: list[float | None]) -> None:
    assert [json.loads(t) for t in json_texts(pa.array(strings, pa.string())).to_pylist()] == strings
    back = [json.loads(t) for t in json_texts(pa.array(floats, pa.float32())).to_pylist()]
    expected = [None if x is None or not math.isfinite(x) else x for x in floats]
    assert pa.array(back, pa.float64()).cast(pa.float32(), safe=False).to_pylist() == expected


def test_json_of_every_type() -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    columns = {
        "true": pa.array([True, None]),
        "-5": pa.array([-5, None], pa.int8()),
        "18446744073709551615": pa.array([2**64 - 1, None], pa.uint64()),
        "1.50": pa.array([decimal.Decimal("1.50"), None]),
        '"2024-05-06"': pa.array([when.date(), None]),
        '"2024-05-06 07:08:09.000000Z"': pa.array([when, None]),
        '"a"': pa.array(["a", None]).dictionary_encode(),
        '"b\\"\\u0001"': pa.array(['b"\x01', None], pa.large_string()),
        '"\\\\"': pa.array([b"\\", None], pa.binary()),
        '"\ufffd"': pa.array([b"\xff", None], pa.binary()),
        '{"a": [1, null]}': pa.array([{"a": [1, None]}, None]),
        "null": pa.array([float("nan"), None]),
    }
    for text, column in columns.items():
        assert json_texts(column).to_pylist() == [text, "null"]
        assert json_texts(column.slice(1)).to_pylist() == ["null"]
    assert json_texts(pa.nulls(2)).to_pylist() == ["null", "null"]
