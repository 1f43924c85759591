"""Damaged files and arrays: each ends in rows that are right or in an error that says where; none ends the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import affectcore as ac
from affectcore.arrow import check_table
from affectcore.cli.main import main
from affectcore.errors import InputError
from affectcore.exams import quiz
from affectcore.frontier import read_costs
from affectcore.io.formats.base import plain, plain_type
from affectcore.io.formats.damage import check, check_batch
from affectcore.io.readers import Source, open_reader
from affectcore.io.scorefiles import as_text
from affectcore.io.writers import json_texts
from affectcore.scorer import Scorer

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("AFFECTCORE_DATA", ROOT / ".." / "shared" / "data"))
CASES = DATA.parent / "cases" / "damaged_arrow"
CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCORER = Scorer("none", metrics="vader_compound,n_words", threads=1)
WAYS = [(unit, parts) for unit in ("document", "segment", "turn", "conversation") for parts in ("answer", "both")]


def buffer(values: list[int], dtype: type = np.int32) -> pa.Buffer:
    return pa.py_buffer(np.array(values, dtype).tobytes())


def strings(offsets: list[int], data: bytes = b"abcdef", dtype: pa.DataType | None = None) -> pa.Array:
    """An array of text with any offsets; `from_buffers` looks at the first and the last alone."""
    return pa.Array.from_buffers(dtype or pa.string(), len(offsets) - 1, [None, buffer(offsets), pa.py_buffer(data)])


BACKWARDS = [0, 5, 2, 6]
FAR = [0, 2, 50_000_000, 6]
NEGATIVE = [0, -114, 2, 6]


def chats(offsets: list[int], content: pa.Array | None = None) -> pa.Array:
    content = content if content is not None else pa.array(["hi", "good", "bad", "ugly", "I love it", "no"])
    role = pa.array(["user", "assistant"] * (len(content) // 2) + ["user"] * (len(content) % 2))
    messages = pa.StructArray.from_arrays([role, content], ["role", "content"])
    return pa.Array.from_buffers(CHAT, len(offsets) - 1, [None, buffer(offsets)], children=[messages])


def views() -> pa.Array:
    made = pa.array(["a text of more than twelve bytes", "short"], pa.string_view())
    raw = np.frombuffer(made.buffers()[1], np.int32).copy()
    raw[2] = 9  # the number of a buffer
    return pa.Array.from_buffers(pa.string_view(), 2, [None, pa.py_buffer(raw.tobytes()), made.buffers()[2]])


DAMAGED: dict[str, Callable[[], pa.Array]] = {
    "string backwards": lambda: strings(BACKWARDS),
    "string far": lambda: strings(FAR),
    "string negative": lambda: strings(NEGATIVE),
    "binary": lambda: strings(BACKWARDS, dtype=pa.binary()),
    "dictionary index": lambda: pa.DictionaryArray.from_arrays(buffered([0, 7, 1]), pa.array(["a", "b"]), safe=False),
    "dictionary's texts": lambda: pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), strings(FAR), safe=False),
    "list backwards": lambda: chats([0, 4, 2, 6]),
    "list far": lambda: chats([0, 2, 50_000_000, 6]),
    "message's text": lambda: chats([0, 1, 2, 3], strings(BACKWARDS)),
    "view": views,
    "null count": lambda: pa.Array.from_buffers(pa.int64(), 3, [buffer([0b101]), buffer([1, 2, 3], np.int64)], 2),
    "union code": lambda: pa.UnionArray.from_buffers(
        pa.dense_union([pa.field("a", pa.int8())]), 1, [None, buffer([5], np.int8), buffer([0])], children=[INT8]
    ),
    "list view": lambda: pa.Array.from_buffers(
        pa.list_view(pa.int8()), 1, [None, buffer([0]), buffer([9])], children=[INT8]
    ),
}
INT8 = pa.array([1, 2], pa.int8())


def buffered(indices: list[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(indices), [None, buffer(indices)])


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_damaged_is_found(kind: str) -> None:
    column = DAMAGED[kind]()
    with pytest.raises(pa.ArrowInvalid):
        check(column)
    with pytest.raises(pa.ArrowInvalid, match="column 'x'"):
        check_batch(pa.RecordBatch.from_arrays([column], ["x"]))


def test_what_is_sound_passes_and_texts_may_be_anything() -> None:
    bad_text = pa.array([b"\xff", None, b"\xe9t\xe9"]).view(pa.string())
    check(bad_text)
    check(bad_text.dictionary_encode())
    check(pa.array([b"\xff" * 20]).cast(pa.binary_view()).view(pa.string_view()))
    check(chats([0, 1, 2, 3], bad_text))
    check(chats([0, 1, 2, 3], bad_text).slice(1, 1))
    for empty in (pa.array([], pa.string()), pa.array([], CHAT), pa.nulls(3), chats([0, 2, 4, 6]).slice(3)):
        check(empty)
    check(pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())))
    check(pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int16()), pa.array(["a", "b"])))
    check(pa.array([{"a": ["x", None]}, None]).slice(1))


def test_a_slice_is_looked_at_alone() -> None:
    column = chats([0, 2, 3, 4], strings([0, 1, 2, 9, 4]))
    with pytest.raises(pa.ArrowInvalid):
        check(column)
    check(column.slice(0, 1))  # else a stream of slices would cost its square


# -- in memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["string backwards", "string far", "list backwards", "message's text", "view"])
@pytest.mark.parametrize("unit", ["document", "segment", "turn"])
def test_scorer_refuses_damaged_texts(kind: str, unit: str) -> None:
    texts = DAMAGED[kind]()
    scorer = Scorer("none", metrics="vader_compound", unit=unit)
    calls: list[Callable[[], object]] = [
        lambda: scorer.score(texts),
        lambda: scorer.score_array(texts),
        lambda: scorer.score_units(texts),
        lambda: scorer.score_rows(texts),
        lambda: scorer.score(pa.table({"messages": texts})),
        lambda: list(scorer.stream(pa.table({"messages": texts}))),
    ]
    for call in calls:
        with pytest.raises(InputError, match="damaged Arrow data"):
            call()


def test_tables_with_damaged_columns_are_refused() -> None:
    kept = pa.DictionaryArray.from_arrays(buffered([0, 7, 1]), pa.array(["a", "b"]), safe=False)
    table = pa.table({"text": ["a", "b", "c"], "model": kept})
    with pytest.raises(InputError, match="column 'model'"):
        Scorer("none", unit="segment").score(table)
    scores = pa.table({"model": strings(FAR), "vader_compound": [0.1, 0.2, 0.3]})
    with pytest.raises(InputError, match=r"the table, row 0: column 'model'.*offset"):
        ac.compare(scores)
    with pytest.raises(InputError, match="column 'answer'"):
        quiz.score(pa.table({"model": ["a"] * 3, "question_id": ["1"] * 3, "answer": strings(FAR)}), {})
    assert check_table(table.select(["text"])) is not None


# -- files ---------------------------------------------------------------------------------------------------------


def dump(path: Path, n: int = 60, each: int = 20, **columns: pa.Array) -> Path:
    """An IPC file whose batches have texts with offsets that can be found in its bytes."""
    texts = [f"text {i}, and I love it" for i in range(1000, 1000 + n)]
    table = pa.table({"id": range(n), "text": texts, **columns})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=each)
    return path


def strike(path: Path, batch: int, column: str = "text", slot: int = 7, value: int = 134_217_732) -> Path:
    """Change one offset of a batch of an IPC file."""
    data = bytearray(path.read_bytes())
    whole = pa.py_buffer(bytes(data))
    array = pa.ipc.open_file(whole).get_batch(batch).column(column)
    while pa.types.is_nested(array.type):
        array = array.values if pa.types.is_list(array.type) else array.field("content")
    at = array.buffers()[1].address - whole.address + 4 * slot
    data[at : at + 4] = (value % (1 << 32)).to_bytes(4, "little")
    path.write_bytes(data)
    return path


def test_one_damaged_file_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    strike(dump(folder / "a.arrow"), batch=1)
    dump(folder / "b.arrow")
    out = tmp_path / "out"
    command = ["--model", "none", "--metrics", "vader_compound", "-q"]
    for more in ([], ["--resume"], ["--resume"]):
        assert main(["score", str(folder), "-o", str(out), *command, *more]) == 3
        problem = json.loads((out / "_errors.jsonl").read_text())
        assert problem["file"].endswith("a.arrow")
        assert problem["row"] == 20
        assert "column 'text'" in problem["reason"]
        assert "write it again" in problem["remedy"]
        rows = {part.name[0]: pq.read_table(part)["id"].to_pylist() for part in out.glob("*.parquet")}
        assert rows == {"a": list(range(20)), "b": list(range(60))}
    path = strike(dump(tmp_path / "c.arrow"), batch=0)
    assert main(["score", str(path), "-o", str(tmp_path / "o.parquet"), *command]) == 1
    assert "row 0: cannot read the Arrow data: column 'text'" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0, 1 << 30, -114])
def test_wrong_offsets_of_messages_give_no_rows(tmp_path: Path, value: int) -> None:
    said = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"good {i}"}] for i in range(60)]
    table = pa.table({"id": range(60), "messages": pa.array(said, CHAT)})
    for level in ("messages", "texts"):
        path = tmp_path / f"{level}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
        if level == "texts":
            strike(path, 1, "messages", value=value)
        else:
            data = bytearray(path.read_bytes())
            whole = pa.py_buffer(bytes(data))
            lists = pa.ipc.open_file(whole).get_batch(1).column("messages")
            at = lists.buffers()[1].address - whole.address + 4 * 7
            data[at : at + 4] = (value % (1 << 32)).to_bytes(4, "little")
            path.write_bytes(data)
        for view in ("text", "messages", "turns", "conversations"):
            rows = 0
            with (
                open_reader(Source(path, "ipc", path.name), view=view) as reader,
                pytest.raises(InputError, match="column 'messages'") as caught,
            ):
                for _, texts in reader:
                    rows += len(texts)
            assert rows == caught.value.row == 20


def test_damage_in_a_column_that_nobody_reads_does_no_harm(tmp_path: Path) -> None:
    path = strike(dump(tmp_path / "a.arrow", tags=pa.array([["x"]] * 60)), 1, "tags")
    with open_reader(Source(path, "ipc", "a.arrow")) as reader:
        assert sum(len(texts) for _, texts in reader) == 60
    with open_reader(Source(path, "ipc", "a.arrow"), keep=["tags"]) as reader, pytest.raises(InputError, match="tags"):
        list(reader)


def test_a_damaged_footer_costs_no_row(tmp_path: Path) -> None:
    path = dump(tmp_path / "a.arrow")
    data = bytearray(path.read_bytes())
    data[-14:-10] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    rows = 0
    with open_reader(Source(path, "ipc", "a.arrow")) as reader, pytest.raises(InputError, match="footer") as caught:
        for _, texts in reader:
            rows += len(texts)
    assert rows == caught.value.row == 60


def test_a_stream_that_seems_to_end_early(tmp_path: Path) -> None:
    """A length of zero is the end of a stream, and one bit can make it that."""
    table = pa.table({"model": ["a", "b"] * 30, "distress": [0.0, 1.0] * 30, "text": ["good"] * 60})
    path = tmp_path / "a.arrows"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    data = path.read_bytes()
    at = [i for i in range(len(data)) if data.startswith(b"\xff\xff\xff\xff", i)][3]  # the schema's, and three batches'
    path.write_bytes(data[: at + 4] + bytes(4) + data[at + 8 :])
    rows = 0
    with (
        open_reader(Source(path, "ipc", "a.arrows")) as reader,
        pytest.raises(InputError, match="more bytes") as caught,
    ):
        for _, texts in reader:
            rows += len(texts)
    assert rows == caught.value.row == 40
    with pytest.raises(InputError, match="row 40: the stream ends, but"):
        ac.compare(path, metrics="distress")
    path.write_bytes(data + bytes(64))
    with open_reader(Source(path, "ipc", "a.arrows")) as reader:
        assert sum(len(texts) for _, texts in reader) == 60


@pytest.mark.parametrize("size", [-16_777_216, 1 << 30, -1])
def test_views_under_nulls_may_be_anything(size: int) -> None:
    texts = ["good " * 5 if i % 2 else "bad" for i in range(30)]
    made = pa.array([None if i == 21 else text for i, text in enumerate(texts)], pa.string_view())
    raw = np.frombuffer(made.buffers()[1], np.int32).copy().reshape(-1, 4)
    raw[21] = [size, 1, 77, -5]
    buffers = [made.buffers()[0], pa.py_buffer(raw.tobytes()), *made.buffers()[2:]]
    views = pa.Array.from_buffers(made.type, 30, buffers)
    check(views)
    for column in (views, views.slice(20, 5)):
        assert plain(column).to_pylist() == column.to_pylist()
    assert SCORER.score(views).equals(SCORER.score(made))
    assert as_text(views).to_pylist() == made.to_pylist()


def test_parquet_groups_before_the_damage_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {i} {i * 7919 % 1000}" for i in range(60)]
    pq.write_table(pa.table({"id": range(60), "text": texts}), path, row_group_size=20, use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(1).data_page_offset
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    ids: list[int] = []
    with open_reader(Source(path, "parquet", "a.parquet")) as reader, pytest.raises(InputError) as caught:
        for kept, _ in reader:
            ids += kept["id"].to_pylist()
    assert ids == list(range(40))
    assert caught.value.row == 40


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("name", ["id", "text", "tags"])
def test_a_wrong_number_in_a_parquet_page_shifts_no_rows(tmp_path: Path, name: str, version: str) -> None:
    """No checksum covers a page's header; pyarrow notices a wrong number of values at the end of the group, if ever."""
    path = tmp_path / "a.parquet"
    texts = [f"text {i} {i * 7919 % 1000}" for i in range(2000)]
    table = pa.table({"id": range(2000), "text": texts, "tags": [[t, "x"] for t in texts]})
    pq.write_table(
        table, path, row_group_size=1000, use_dictionary=False, write_page_checksum=True, data_page_version=version,
        data_page_size=4000, compression="none", write_statistics=False,
    )  # fmt: skip
    keep = ["id", "tags"]
    with open_reader(Source(path, "parquet", "a.parquet"), keep=keep, batch_bytes=2000) as reader:
        assert sum(len(texts) for _, texts in reader) == 2000
    leaf = table.column_names.index(name)
    at = pq.read_metadata(path).row_group(1).column(leaf).data_page_offset
    data = bytearray(path.read_bytes())
    mark = b"\x1c\x15" if version == "1.0" else b"\x4c\x15"  # the data page's own header and its first field
    begin = data.index(mark, at) + 2
    data[begin] ^= 0x04
    path.write_bytes(data)
    ids: list[int] = []
    with (
        open_reader(Source(path, "parquet", "a.parquet"), keep=keep, batch_bytes=2000) as reader,
        pytest.raises(InputError, match="values in its pages") as caught,
    ):
        for kept, got in reader:
            assert got.to_pylist() == [texts[i] for i in kept["id"].to_pylist()]
            ids += kept["id"].to_pylist()
    assert ids == list(range(1000))
    assert caught.value.row == 1000


def test_a_length_that_no_memory_holds_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.feather"
    table = pa.table({"text": [f"text {i} " + "good " * 50 for i in range(60)]})
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=30)
    data = path.read_bytes()
    size = sum(len(text) for text in table["text"].to_pylist()[30:]).to_bytes(8, "little")
    assert data.count(size) >= 1
    at = data.rindex(size)  # before the compressed bytes of the second batch
    path.write_bytes(data[:at] + (1 << 60).to_bytes(8, "little") + data[at + 8 :])
    rows = 0
    with open_reader(Source(path, "ipc", "a.feather")) as reader, pytest.raises(InputError) as caught:
        for _, texts in reader:
            rows += len(texts)
    assert rows == caught.value.row == 30


# -- scores, costs, answers ----------------------------------------------------------------------------------------


def scores(n: int = 60) -> pa.Table:
    return pa.table({"model": [f"model {i % 3}" for i in range(n)], "distress": [i / n for i in range(n)]})


def test_compare_refuses_damaged_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, scores().schema) as writer:
        writer.write_table(scores(), max_chunksize=20)
    assert main(["compare", str(strike(path, 2, "model")), "--metric", "distress"]) == 1
    said = capsys.readouterr().err
    assert "s.arrow, row 40: column 'model'" in said
    assert "Score the dump again" in said


def test_our_parquet_scores_have_checksums_that_compare_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump(tmp_path / "a.arrow", model=pa.array(["a", "b"] * 30))
    out = tmp_path / "out.parquet"
    assert main(["score", str(tmp_path / "a.arrow"), "-o", str(out), "--model", "none", "-q"]) == 0
    column = pq.read_metadata(out).row_group(0).column(pq.read_schema(out).get_field_index("vader_compound"))
    data = bytearray(out.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    out.write_bytes(data)
    assert main(["compare", str(out)]) == 1
    assert "out.parquet, row 0" in capsys.readouterr().err


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Bytes in a column of strings, as some writers leave them: replaced, and no error of Python's."""
    names = pa.array([b"caf\xe9", b"b"] * 3).view(pa.string())
    table = pa.table({"model": names, "distress": [0.0, 1.0] * 3})
    for given in (table, table.set_column(0, "model", names.dictionary_encode())):
        assert ac.compare(given, metrics="distress").table["by"].to_pylist() == ["caf\ufffd", "b"]
    cost = tmp_path / "cost.csv"
    cost.write_bytes(b"mod\xe8l,price\na,1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_costs(cost)
    answers = tmp_path / "answers.parquet"
    pq.write_table(pa.table({"model": names, "question_id": ["1"] * 6, "answer": names}), answers)
    read, problems = quiz.read_answers([answers])
    assert not problems
    assert set(read["model"].to_pylist()) == {"caf\ufffd", "b"}


def test_kept_values_that_an_output_cannot_hold_as_they_are(tmp_path: Path) -> None:
    bad = pa.array([b"caf\xe9"]).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), bad)
    assert json_texts(lists).to_pylist() == ['["caf\ufffd"]']
    assert json_texts(bad).to_pylist() == ['"caf\ufffd"']
    huge = pa.array([2**62], pa.duration("s"))  # no number of Python's is a duration so long
    assert json.loads(json_texts(huge)[0].as_py()) == f"PT{2**62}S"
    # Parquet has no negative scale, and none above the precision.
    few = pa.array([Decimal("12300"), None], pa.decimal128(7, 0)).cast(pa.decimal128(5, -2))
    assert plain(few).to_pylist() == [Decimal("12300"), None]
    pq.write_table(pa.table({"x": plain(few)}), tmp_path / "x.parquet")
    assert plain_type(pa.decimal128(3, 5)) == pa.decimal128(5, 5)
    assert plain_type(pa.decimal128(3, 2)) == pa.decimal128(3, 2)


def test_reasoning_that_is_not_utf8_beside_answers_that_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    said = [{"role": "assistant", "content": "<think>hm</think>good", "reasoning_content": "x \xff y"}]
    line = json.dumps({"messages": said}, ensure_ascii=False).encode("latin-1")
    path.write_bytes(line + b"\n")
    out = tmp_path / "out.parquet"
    for unit in ("turn", "document"):
        command = ["score", str(path), "-o", str(out), "--unit", unit, "--parts", "both", "--model", "none"]
        assert main([*command, "--overwrite", "-q"]) == 0
        assert pq.read_table(out)["part"].to_pylist() == ["reasoning", "answer"]


# -- many ----------------------------------------------------------------------------------------------------------

_ALL = """
import sys
from affectcore.cli.main import main
path, out, *ways = sys.argv[1:]
for way in ways:
    unit, parts = way.split(",")
    if parts == "both" and unit == "conversation":
        continue
    code = main(["score", path, "-o", out, "--unit", unit, "--parts", parts, "--model", "none", "--overwrite", "-q"])
    print(way, code, flush=True)
"""


@pytest.mark.parametrize("name", sorted(p.name for p in CASES.glob("*") if "cmp" not in p.name) or ["none"])
def test_damaged_dumps_that_people_had(tmp_path: Path, name: str) -> None:
    if name == "none":
        pytest.skip(f"needs the folder cases/damaged_arrow beside AFFECTCORE_DATA (here: {CASES})")
    ways = [",".join(way) for way in WAYS]
    command = [sys.executable, "-c", _ALL, str(CASES / name), str(tmp_path / "o.parquet"), *ways]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "fault in affectcore" not in done.stderr
    codes = dict(line.split() for line in done.stdout.splitlines())
    assert len(codes) == len(WAYS) - 1
    if name.startswith("segv_turn"):  # its texts are whole, but its messages are not
        assert codes["document,answer"] == codes["segment,answer"] == "0"
        assert codes["turn,answer"] == codes["conversation,answer"] == "3"
    else:
        assert set(codes.values()) <= {"1", "2"}


@pytest.mark.parametrize("name", ["cmp_1_m.s.arrow", "cmp_2_m.s.arrow", "cmp_3_m.s.arrow"])
def test_damaged_scores_that_people_had(name: str) -> None:
    if not (CASES / name).exists():
        pytest.skip(f"needs the folder cases/damaged_arrow beside AFFECTCORE_DATA (here: {CASES})")
    command = [sys.executable, "-m", "affectcore", "compare", str(CASES / name), "--metric", "distress"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 1
    assert f"{name}, row " in done.stderr
    with pytest.raises(InputError, match=r"cmp_4_m.cost.csv"):
        read_costs(CASES / "cmp_4_m.cost.csv")


def test_mutated_files_of_every_format() -> None:
    command = [sys.executable, str(ROOT / "bench" / "fuzz_files.py"), "--n", "40", "--seed", "14", "--limit", "60"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
