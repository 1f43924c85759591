from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.errors import InputError, UsageError
from affectcore.io.formats import delimited, jsonl
from affectcore.io.formats.base import MAX_PROBLEMS, MAX_ROWS, cut, offsets_of
from affectcore.io.formats.delimited import RowEnds
from affectcore.io.formats.texts import extract, is_chat, known_roles
from affectcore.io.readers import Reader, Source, discover, open_reader, text_bytes

DATA = Path(os.environ.get("AFFECTCORE_DATA", Path(__file__).parents[2] / "../shared/data"))

TEXTS = [
    "plain",
    "",
    None,
    'quotes "in" it, and a comma',
    "two\nlines",
    "tab\there",
    "héllo 😀",
    "\\ back / slash",
    "x" * 300,
]


def table(texts: list[str | None] = TEXTS) -> pa.Table:
    n = len(texts)
    return pa.table(
        {
            "id": pa.array(range(n), pa.int64()),
            "model": pa.array([f"m{i % 2}" for i in range(n)]),
            "text": pa.array(texts, pa.string()),
            "weight": pa.array([i / 4 for i in range(n)], pa.float64()),
        }
    )


def write(path: Path, data: pa.Table) -> Path:
    """Write a table in the format of the extension."""
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(data, path, row_group_size=4)
    elif name.endswith((".arrow", ".feather")):
        feather.write_feather(
            data, path, compression="lz4" if name.endswith(".feather") else "uncompressed", chunksize=3
        )
    elif name.endswith(".arrows"):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, data.schema) as writer:
            writer.write_table(data, max_chunksize=3)
    elif ".jsonl" in name:
        lines = "".join(json.dumps(row) + "\n" for row in data.to_pylist())
        path.write_bytes(compressed(lines.encode(), name))
    else:
        separator = "\t" if ".tsv" in name else ","
        rows = [data.column_names, *(list(row.values()) for row in data.to_pylist())]
        lines = "".join(separator.join(field(v) for v in row) + "\n" for row in rows)
        path.write_bytes(compressed(lines.encode(), name))
    return path


def field(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\n\t') else text


def compressed(data: bytes, name: str) -> bytes:
    if name.endswith(".gz"):
        half = len(data) // 2  # two members, as in files appended to
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    if name.endswith(".zst"):
        half = len(data) // 2
        return b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:half], data[half:]))
    return data


def source(path: Path, format: str = "auto") -> Source:
    (found,) = discover(path, format)
    return found


def read(path: Path, **options: object) -> tuple[pa.Table, list[bytes | None]]:
    with open_reader(source(path), **options) as reader:  # type: ignore[arg-type]
        batches, texts = [], []
        for kept, part in reader:
            assert len(kept.columns) == 0 or kept.num_rows == len(part)
            batches.append(kept)
            texts += part.cast(pa.large_binary()).to_pylist()
        return pa.Table.from_batches(batches, reader.schema), texts


def encoded(texts: list[str | None]) -> list[bytes | None]:
    return [None if t is None else t.encode() for t in texts]


FORMATS = [
    "a.parquet",
    "a.arrow",
    "a.feather",
    "a.arrows",
    "a.jsonl",
    "a.jsonl.gz",
    "a.jsonl.zst",
    "a.csv",
    "a.csv.gz",
    "a.csv.zst",
    "a.tsv",
]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes are read at a time."""
    return lambda size: monkeypatch.setattr(Reader, "block_bytes", size)


@pytest.mark.parametrize(("batch_bytes", "block_bytes"), [(1, 8 << 20), (64, 100), (8 << 20, 50)])
@pytest.mark.parametrize("name", FORMATS)
def test_formats_agree(
    tmp_path: Path, name: str, batch_bytes: int, block_bytes: int, blocks: Callable[[int], None]
) -> None:
    blocks(block_bytes)
    kept, texts = read(write(tmp_path / name, table()), batch_bytes=batch_bytes)
    expected = encoded(TEXTS)
    if ".csv" in name or ".tsv" in name:
        expected = [b"" if t is None else t for t in expected]  # these formats know no null
    assert texts == expected
    assert kept.column_names == ["id", "model", "weight"]
    if block_bytes == 50 and (".csv" in name or ".tsv" in name):
        assert len(kept) == len(TEXTS)  # see test_the_first_block_fixes_the_types_of_csv
        return
    assert kept.to_pydict() == table().drop_columns("text").to_pydict()
    assert kept.schema.types == [pa.int64(), pa.string(), pa.float64()]


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.none() | st.text(max_size=40), min_size=1, max_size=30),
    batch_bytes=st.integers(1, 200),
    block_bytes=st.integers(1, 300),
    name=st.sampled_from(["a.parquet", "a.arrow", "a.arrows", "a.jsonl"]),
)
def test_any_text_any_batch(texts: list[str | None], batch_bytes: int, block_bytes: int, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "block_bytes", block_bytes)
        kept, found = read(write(Path(folder, name), table(texts)), batch_bytes=batch_bytes)
    assert found == encoded(texts)
    assert kept["id"].to_pylist() == list(range(len(texts)))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.text(alphabet='a",\n\r ', max_size=12), min_size=1, max_size=20), block_bytes=st.integers(1, 60)
)
def test_csv_rows_with_any_quoting(rows: list[str], block_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "block_bytes", block_bytes)
        path = Path(folder, "a.csv")
        lines = ["text,n"] + ['"' + text.replace('"', '""') + f'",{i}' for i, text in enumerate(rows)]
        path.write_bytes("\n".join(lines).encode())
        kept, found = read(path, keep=["n"])
    assert found == encoded(list(rows))
    assert [int(v) for v in kept["n"].to_pylist()] == list(range(len(rows)))


def test_csv_quotes_inside_an_unquoted_field_open_nothing(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(20)
    path = tmp_path / "a.csv"
    path.write_text("text,n\n" + '5" pipe,1\n' * 50 + '"two\nlines",2\n' + "it's,3\n")
    _, texts = read(path)
    assert texts == [b'5" pipe'] * 50 + [b"two\nlines", b"it's"]


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"a,b", 0),
        (b"a,b\nc", 4),
        (b'a,"b\nc', 0),
        (b'x\na,"b\nc', 2),
        (b'a,"b\n"\nc', 7),
        (b'"a""\n', 0),
        (b'"a"""\n', 6),
        (b'"",""\nx', 6),
        (b'a"b\nc\n', 6),
        (b'\xef\xbb\xbf"a\nb"\nc', 9),
    ],
)
def test_row_end(data: bytes, end: int) -> None:
    assert RowEnds(b",").feed(data) == end


def rows_end(data: bytes) -> list[int]:
    """Return where rows end, byte by byte."""
    ends = []
    at, inside, begin = 0, False, True
    if data.startswith(b"\xef\xbb\xbf"):
        at = 3
    while at < len(data):
        byte = data[at : at + 1]
        if inside:
            if data[at : at + 2] == b'""':
                at += 1
            elif byte == b'"':
                inside, begin = False, False
        elif byte == b'"' and begin:
            inside = True
        else:
            begin = byte in (b",", b"\n", b"\r")
            if byte == b"\n":
                ends.append(at + 1)
        at += 1
    return ends


@settings(max_examples=500, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(['"', '""', '"""', ",", "\n", "\r", "a", "\ufeff"]), max_size=14),
    cuts=st.lists(st.integers(1, 6), min_size=30, max_size=30),
    stretch=st.sampled_from([1, 2, 3, 100]),
)
def test_row_ends_in_chunks(pieces: list[str], cuts: list[int], stretch: int) -> None:
    data = "".join(pieces).encode()
    ends = rows_end(data)
    rows = RowEnds(b",")
    at = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_STRETCH", stretch)
        for size in cuts:
            found = rows.feed(data[at : at + size])
            assert found == max((end - at for end in ends if at < end <= at + size), default=0)
            at += size


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
def test_time_grows_as_columns_do(tmp_path: Path, name: str) -> None:
    """Of eight times as many columns: 8 in linear, 64 in quadratic time."""
    least = []
    for n in (250, 2000):
        path = tmp_path / str(n) / name
        path.parent.mkdir()
        write(path, pa.table({"text": ["a"] * 4, **{f"column {i}": range(4) for i in range(n)}}))
        seconds = []
        for _ in range(3):
            started = time.process_time()
            assert len(read(path)[0].column_names) == n
            seconds.append(time.process_time() - started)
        least.append(min(seconds))
    assert least[1] < 20 * max(least[0], 0.002)


def test_jsonl_with_fields_of_each_rows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_MOST_VALUES", 1 << 20)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "a{i}", "n": {i}, "key{i}": 1}}\n' for i in range(3000)))
    with pytest.raises(
        UsageError, match=r"a.jsonl: 3,002 different fields in the first 3,000 rows; name those to keep"
    ):
        open_reader(source(path))
    kept, texts = read(path, keep=["n", "key7"])
    assert (kept["n"].to_pylist(), texts[:2], len(texts)) == (list(range(3000)), [b"a0", b"a1"], 3000)
    assert kept["key7"].drop_null().to_pylist() == [1]
    path.write_text("".join(f'{{"text": "a", "n": {i}, "more": {{"key{i}": 1}}}}\n' for i in range(3000)))
    kept, _ = read(path)
    assert kept.column_names == ["n"]
    kept, _ = read(path, keep=["more"])
    assert kept["more"].to_pylist()[7] == '{"key7": 1}'


def test_jsonl_line_of_many_brackets_and_escapes(tmp_path: Path) -> None:
    """A line that is cut off within a text, after more brackets than there may be."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n{"text": ' + b"[" * 1500 + b'"' + b'\\"' * 200_000)
    started = time.process_time()
    with open_reader(source(path)) as reader:
        assert [texts.to_pylist() for _, texts in reader] == [["good"]]
        assert len(reader.take_problems()) == 1
    assert time.process_time() - started < 10


MEMORY = """
import resource, sys
from affectcore.io.readers import discover, open_reader

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

small, large = sys.argv[1:]
for path in (small, large):
    before = peak()
    with open_reader(discover(path)[0]) as reader:
        n = sum(int(texts.nbytes) for _, texts in reader)
print(n, peak() - before)
"""


def test_a_large_row_of_quotation_marks_takes_little_memory(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    size = 40 << 20
    (tmp_path / "small.csv").write_text('text\n"a\nb"\n')
    with (tmp_path / "large.csv").open("wb") as file:
        file.write(b'text\n"' + b'""' * (size // 2) + b'"\n')
    arguments = [sys.executable, "-c", MEMORY, str(tmp_path / "small.csv"), str(tmp_path / "large.csv")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    n, grown = map(int, done.stdout.split())
    assert n >= size // 2
    assert grown < 4 * size


def test_batches_hold_so_many_bytes(tmp_path: Path) -> None:
    texts = ["x" * (i % 90) for i in range(500)] + ["y" * 5000] + ["z"] * 10
    for name in ("a.parquet", "a.arrow", "a.jsonl", "a.csv"):
        path = write(tmp_path / name, table(texts))
        with open_reader(source(path), batch_bytes=1000) as reader:
            sizes = [(text_bytes(part), len(part)) for _, part in reader]
        assert all(size <= 1000 or rows == 1 for size, rows in sizes)
        assert sum(rows for _, rows in sizes) == len(texts)
        assert max(sizes)[0] == 5000


def test_batches_hold_so_many_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(["x"] * (MAX_ROWS + 10)))
    with open_reader(source(path)) as reader:
        assert max(len(part) for _, part in reader) <= MAX_ROWS


@given(lengths=st.lists(st.integers(0, 30), max_size=40), drop=st.integers(0, 10), limit=st.integers(1, 60))
def test_cut_covers_every_row_once(lengths: list[int], drop: int, limit: int) -> None:
    texts = pa.array(["x" * n for n in lengths], pa.string()).slice(drop)
    pieces = list(cut(texts, limit))
    assert [row for begin, end in pieces for row in range(begin, end)] == list(range(len(texts)))
    offsets = offsets_of(texts)
    for begin, end in pieces:
        assert offsets[end] - offsets[begin] <= limit or end == begin + 1


def test_one_large_row_group_is_read_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(0)
    texts = [rng.integers(97, 123, 1000, np.uint8).tobytes().decode() for _ in range(20_000)]
    pq.write_table(table(texts), path, use_dictionary=False)
    before = pa.total_allocated_bytes()
    with open_reader(source(path), batch_bytes=100_000) as reader:
        most = max(pa.total_allocated_bytes() - before for _ in reader)
    assert pq.read_metadata(path).num_row_groups == 1
    assert most < 6_000_000  # of 20 MB: a buffer of 1 MiB is read ahead, and pages are 1 MiB


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("start", [0, 1, 4, 8, 9, 50])
def test_reading_can_begin_at_any_row(tmp_path: Path, name: str, start: int) -> None:
    path = write(tmp_path / name, table([f"t{i}" for i in range(9)]))
    with open_reader(source(path), batch_bytes=5) as reader:
        rows, end = [], start
        for kept, part in reader.read(start):
            rows += kept["id"].to_pylist()
            end += len(part)
            assert reader.row == end
    assert rows == list(range(start, 9))


# -- the text column ---------------------------------------------------------------------------------------------


def test_first_known_name_that_holds_text(tmp_path: Path) -> None:
    data = pa.table({"prompt": ["p"], "text": [1], "response": ["r"], "output": ["o"]})
    with open_reader(source(write(tmp_path / "a.parquet", data))) as reader:
        assert reader.text_column == "response"  # "text" is a number here
        assert reader.schema.names == ["prompt", "text", "output"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
def test_missing_text_column_lists_the_columns(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, pa.table({"prompt": ["p"], "reply": ["r"]}))
    with pytest.raises(UsageError, match=r"prompt, reply.*--text"):
        open_reader(source(path))
    with pytest.raises(
        UsageError, match=r"no column 'replies' \(did you mean 'reply'\?\); the columns are: prompt, reply"
    ):
        open_reader(source(path), text="replies")
    assert read(path, text="reply")[1] == [b"r"]


def test_text_column_of_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pa.table({"text": [1]}))
    with pytest.raises(UsageError, match="'text' is int64"):
        open_reader(source(path), text="text")


@pytest.mark.parametrize(
    "dtype",
    [
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.large_binary(),
        pa.string_view(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_every_string_type(tmp_path: Path, dtype: pa.DataType, name: str) -> None:
    raw = pa.array(["a", None, "", "a"], pa.large_string() if "large" in str(dtype) else pa.string())
    binary = pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_binary_view(dtype)
    column = (raw.cast(pa.large_binary()) if binary else raw).cast(dtype)
    path = write(tmp_path / name, pa.table({"text": column, "kept": column, "id": [1, 2, 3, 4]}))
    kept, texts = read(path)
    assert texts == [b"a", None, b"", b"a"]
    assert kept["kept"].cast(pa.large_binary()).to_pylist() == [b"a", None, b"", b"a"]
    assert not pa.types.is_dictionary(kept.schema.field("kept").type)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_all_null_text(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, pa.table({"text": pa.nulls(3), "id": [1, 2, 3]}))
    kept, texts = read(path)
    assert texts == [None] * 3
    assert kept["id"].to_pylist() == [1, 2, 3]


def test_text_with_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    data = pa.table({"text": pa.array([b"ok", b"\xff\xfe", None], pa.binary())})
    assert read(write(tmp_path / "a.parquet", data))[1] == [b"ok", b"\xff\xfe", None]
    (tmp_path / "a.jsonl").write_bytes(b'{"text":"ok","k":"\xff"}\n{"text":"\xff\xfe"}\n')
    kept, texts = read(tmp_path / "a.jsonl")
    assert texts == [b"ok", b"\xff\xfe"]
    assert kept["k"].to_pylist() == ["\ufffd", None]
    (tmp_path / "a.csv").write_bytes(b"text,k\nok,\xff\n\xff\xfe,b\n")
    kept, texts = read(tmp_path / "a.csv")
    assert texts == [b"ok", b"\xff\xfe"]
    assert kept["k"].to_pylist() == ["\ufffd", "b"]


CHATS = [
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    [
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "last"},
    ],
    [{"role": "user", "content": "q"}],
    [],
    None,
    [{"role": "assistant", "content": None}],
    [{"role": "assistant", "content": "then a question"}, {"role": "user", "content": "q"}],
]
LAST = [b"a", b"last", None, None, None, None, b"then a question"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_known_roles(kind: pa.DataType) -> None:
    given = pa.array(["x", "GPT", None, "narrator", " Human ", "user", "GPT"]).cast(kind).slice(1)
    wanted = pa.array(["assistant", None, "narrator", "user", "user", "assistant"]).cast(kind)
    assert known_roles(given).equals(wanted)
    assert known_roles(wanted) is wanted
    broken = pa.array([b"\xff", b"AI"]).view(pa.string())
    assert known_roles(broken).view(pa.binary()).to_pylist() == [b"\xff", b"assistant"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
@pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
def test_last_assistant_message(tmp_path: Path, name: str, batch_bytes: int) -> None:
    path = write(tmp_path / name, pa.table({"id": list(range(7)), "messages": CHATS}))
    kept, texts = read(path, batch_bytes=batch_bytes)
    assert texts == LAST
    assert kept.column_names == ["id"]


@pytest.mark.parametrize(
    "list_type", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view], ids=lambda f: f.__name__
)
def test_chats_of_any_list_type_and_slice(list_type: object) -> None:
    chats = pa.array(CHATS * 2, list_type(pa.array(CHATS).type.value_type))  # type: ignore[operator]
    assert is_chat(chats.type)
    assert extract(chats.slice(3, 8)).cast(pa.binary()).to_pylist() == (LAST * 2)[3:11]


def test_chat_content_as_parts_or_struct() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "image", "text": None}, {"type": "text", "text": "two"}]
    chats = pa.array(
        [
            [{"role": "assistant", "content": parts}],
            [{"role": "assistant", "content": None}],
            [{"role": "assistant", "content": []}],
        ]
    )
    assert extract(chats).to_pylist() == ["one\ntwo", None, ""]
    assert extract(chats.slice(1)).to_pylist() == [None, ""]
    answers = pa.array(
        [[{"role": "assistant", "content": {"answer": "a"}}], [{"role": "user", "content": {"answer": "b"}}]]
    )
    assert extract(answers).to_pylist() == ["a", None]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl"])
def test_dotted_path(tmp_path: Path, name: str) -> None:
    replies = [{"text": "a", "meta": {"n": 1}}, None, {"text": None, "meta": None}]
    chats = [{"messages": CHATS[0]}, {"messages": None}, None]
    path = write(tmp_path / name, pa.table({"id": [1, 2, 3], "response": replies, "body": chats}))
    kept, texts = read(path, text="response.text")
    assert texts == [b"a", None, None]
    assert kept.column_names == ["id"]
    assert read(path, text="body.messages")[1] == [b"a", None, None]
    with pytest.raises(UsageError, match=r"no field 'texts' \(did you mean 'text'\?\)"):
        open_reader(source(path), text="response.texts")
    with pytest.raises(UsageError, match="reach into it with a dotted path such as response"):
        open_reader(source(path), text="response")


def test_column_name_with_a_dot(tmp_path: Path) -> None:
    data = pa.table({"a.b": ["x"], "a": [{"b": "y"}]})
    assert read(write(tmp_path / "a.arrow", data), text="a.b")[1] == [b"x"]


# -- kept columns ------------------------------------------------------------------------------------------------


def test_keep_names_exactly_these(tmp_path: Path) -> None:
    data = table().append_column("tags", pa.array([["a"]] * len(TEXTS)))
    for name in ("a.parquet", "a.arrow", "a.jsonl"):
        path = write(tmp_path / name, data)
        assert read(path)[0].column_names == ["id", "model", "weight"]  # no nested ones by themselves
        kept, texts = read(path, keep=["tags", "text"])
        assert kept.column_names == ["tags", "text"]
        assert kept["text"].to_pylist() == TEXTS
        assert kept["tags"].to_pylist() == [["a"]] * len(TEXTS)
        assert texts == encoded(TEXTS)
        kept, texts = read(path, keep=[])
        assert kept.column_names == []
        assert len(texts) == len(TEXTS)
        with pytest.raises(
            UsageError, match=r"no column 'modle' \(did you mean 'model'\?\) to keep; the columns are: id,"
        ):
            open_reader(source(path), keep=["modle"])


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,a,a\nx,1,2\n")
    with pytest.raises(UsageError, match="'a' is there twice"):
        open_reader(source(tmp_path / "a.csv"))
    assert read(tmp_path / "a.csv", keep=[])[1] == [b"x"]


def test_a_usual_column_that_holds_no_text_is_named_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1], "answer": [["a"]], "n": [2]}), tmp_path / "a.parquet")
    said = r"no text column found \('text' is int64, 'answer' is list\); the columns are: text, answer, n\. Name"
    with pytest.raises(UsageError, match=said):
        open_reader(source(tmp_path / "a.parquet"))


def test_dates_and_odd_numbers_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"2024-01-01","day":"2024-01-01T00:00:00","n":null,"id":"007"}\n')
    kept, texts = read(tmp_path / "a.jsonl")
    assert texts == [b"2024-01-01"]
    assert kept.to_pylist() == [{"day": "2024-01-01T00:00:00", "n": None, "id": "007"}]
    (tmp_path / "a.csv").write_text("text,day,zip,big,flag,n,x\n1,2024-01-01,007,18446744073709551615,true,3,1.5\n")
    kept, texts = read(tmp_path / "a.csv")
    assert texts == [b"1"]
    assert kept.to_pylist() == [
        {"day": "2024-01-01", "zip": "007", "big": "18446744073709551615", "flag": "true", "n": 3, "x": 1.5}
    ]


# -- JSON Lines --------------------------------------------------------------------------------------------------


def test_malformed_lines_are_named_and_left_out(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text":"a"}\n\nnull\n{"text":"b"\n[1]\n{"text":"c"} {"text":"d"}\r\n  {"text":"e"}\nnot json\n'
        b'{"text":"f"}'
    )
    for size in (1, 20, 1 << 20):
        blocks(size)
        with open_reader(source(path)) as reader:
            texts = [t for _, part in reader for t in part.to_pylist()]
            problems = reader.take_problems()
        assert texts == ["a", "e", "f"]
        assert [p.row for p in problems] == [2, 3, 4, 5, 7]
        assert "line 4: not JSON" in problems[1].reason
        assert "line 3: a JSON null" in problems[0].reason
        assert all(p.file == str(path) and p.remedy for p in problems)


def test_many_malformed_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"a"}\n' + "oops\n" * (MAX_PROBLEMS + 5))
    with open_reader(source(path)) as reader:
        assert [t for _, part in reader for t in part.to_pylist()] == ["a"]
        problems = reader.take_problems()
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1].reason.startswith("5 more")


def test_first_lines_malformed(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(8)
    path = tmp_path / "a.jsonl"
    path.write_text("oops\n" * 10 + '{"text":"a"}\n')
    with open_reader(source(path)) as reader:
        assert [t for _, part in reader for t in part.to_pylist()] == ["a"]
        assert len(reader.take_problems()) == 10


def test_no_line_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n {"text": "a"},\n {"text": "b"}]\n')
    with pytest.raises(InputError, match="no line is a JSON object; the first: line 1: not JSON"):
        open_reader(source(path))
    path.write_text('[{"text": "a"}]')
    with pytest.raises(InputError, match=r"no line is a JSON object; the first: line 1: a JSON list.*jq"):
        open_reader(source(path))


def test_content_that_differs_from_row_to_row(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    rows = [
        {"id": 1, "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": {"answer": "a"}}]},
        {"id": 2, "messages": [{"role": "assistant", "content": "b"}]},
        {"id": 3, "messages": [{"role": "assistant", "content": [{"type": "text", "text": "c"}, {"type": "x"}, "d"]}]},
        {"id": 4, "messages": [{"role": "assistant", "content": 5}]},
        {"id": 5, "messages": None},
        {"id": 6, "messages": [{"role": "assistant", "content": {"text": "e \ud800"}}]},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for size in (1, 1 << 20):
        blocks(size)
        with open_reader(source(path)) as reader:
            ids, texts = [], []
            for kept, part in reader:
                ids += kept["id"].to_pylist()
                texts += part.to_pylist()
            (problem,) = reader.take_problems()
        assert ids == [1, 2, 3, 5, 6]
        assert texts == ["a", "b", "c\nd", None, "e \ufffd"]
        assert problem.row == 3
        assert "line 4" in problem.reason


def test_other_fields_may_vary(tmp_path: Path) -> None:
    rows = [{"text": "a", "meta": {"x": 1}, "k": 1}, {"text": "b", "meta": "none", "k": 2}, {"text": "c", "k": 3.5}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, texts = read(path)
    assert texts == [b"a", b"b", b"c"]
    assert kept.to_pydict() == {"meta": ['{"x": 1}', "none", None], "k": [1.0, 2.0, 3.5]}


def test_the_first_block_fixes_the_columns(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(1)
    path = tmp_path / "a.jsonl"
    rows = [{"text": "a", "n": 1, "s": None}, {"text": "b", "n": 2, "new": 1}, {"text": "c", "s": 5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, texts = read(path)
    assert texts == [b"a", b"b", b"c"]
    assert kept.to_pydict() == {"n": [1, 2, None], "s": [None, None, "5"]}


def test_a_value_that_does_not_fit_is_named(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(1)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"a","n":1,"k":"x"}\n{"text":"b","n":2}\n{"text":"c","n":"three"}\n')
    with open_reader(source(path)) as reader:
        done = []
        with pytest.raises(InputError, match=r"row 2: line 3: column 'n' holds a string.*int64 .*--keep k") as caught:
            done += [t for _, part in reader for t in part.to_pylist()]
    assert caught.value.row == 2
    assert read(path, keep=["k"])[1] == [b"a", b"b", b"c"]


def test_csv_value_that_does_not_fit_is_named(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(16)
    path = tmp_path / "a.csv"
    path.write_text("text,n,k\n" + "a,1,x\n" * 5 + "b,three,x\n")
    with pytest.raises(InputError, match=r"row 5: column 'n': .*three.*--keep k") as caught:
        read(path)
    assert caught.value.row == 5
    assert len(read(path, keep=["k"])[1]) == 6


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_csv_rows_of_other_lengths_are_left_out(tmp_path: Path, size: int, blocks: Callable[[int], None]) -> None:
    blocks(size)
    path = tmp_path / "a.csv"
    path.write_text('text,n\na,1\nb,2,3\n\n"c\nd",4\ne\nf,5\n')
    with open_reader(source(path)) as reader:
        assert [t for _, part in reader for t in part.to_pylist()] == ["a", "c\nd", "f"]
        problems = reader.take_problems()
    assert [p.row for p in problems] == [1, 3]
    assert "3 fields where the header has 2" in problems[0].reason


@pytest.mark.parametrize("size", [1, 12, 1 << 20])
def test_csv_quotation_mark_that_is_never_closed(tmp_path: Path, size: int, blocks: Callable[[int], None]) -> None:
    blocks(size)
    path = tmp_path / "a.csv"
    for text, row, left in (('text,n\na,1\nb\n"c,2\nd,3\n', 2, ["a"]), ('text,n\n"c', 0, [])):
        path.write_text(text)
        with open_reader(source(path)) as reader:
            assert [t for _, part in reader for t in part.to_pylist()] == left
            problem = reader.take_problems()[-1]
        assert (problem.row, problem.remedy) == (row, "the row is left out; correct or remove it")
        assert "never closed" in problem.reason
    path.write_text('"text,n\na,1\n')
    with pytest.raises(InputError, match="the header line has a quotation mark that is never closed"):
        open_reader(source(path))
    path.write_text('text,n\n"c",1')
    assert read(path)[1] == [b"c"]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_csv_rows_of_other_lengths_that_are_no_utf_8(
    tmp_path: Path, size: int, blocks: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    blocks(size)
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftext,n,k\nok,1,\xff\n\xe9,2\nna\xefve,3,\xc3\xa9\n")
    with open_reader(source(path)) as reader:
        parts = list(reader)
        assert [p.row for p in reader.take_problems()] == [1]
    assert [t for _, part in parts for t in part.cast(pa.binary()).to_pylist()] == [b"ok", b"na\xefve"]
    assert [k for kept, _ in parts for k in kept["k"].to_pylist()] == ["\ufffd", "é"]
    assert "Traceback" not in capfd.readouterr().err
    path.write_bytes(b"t\xe9xt,text\na,b\n")
    with pytest.raises(InputError, match=r"the header line is not UTF-8 \(convert it: iconv"):
        open_reader(source(path))


def test_json_lines_that_are_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    deep = [b'{"text":"b","k":' + b"[" * n + b"]" * n + b"}" for n in (100_000, 1_000)]  # pyarrow crashes at the first
    brackets = b'{"text":"' + b"[" * 5_000 + b'\\"{"}'
    for rows, left in ((deep[:1], [b"a"]), ([], [b"a"]), ([brackets], [b"a", b"[" * 5_000 + b'"{'])):
        path.write_bytes(b"\n".join([b'{"text":"a"}', *rows]) + b"\n")
        with open_reader(source(path)) as reader:
            assert [t for _, part in reader for t in part.cast(pa.binary()).to_pylist()] == left
            problems = reader.take_problems()
        assert [(p.row, "within each other" in p.reason) for p in problems] == [(1, True)] * (len(rows) + 1 - len(left))
    path.write_bytes(deep[0] + b"\n")
    with pytest.raises(InputError, match=r"no line is a JSON object; the first: .*within each other"):
        open_reader(source(path))


def test_json_integers_that_int64_cannot_hold_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    big = [2**64 - 1, 2**64 - 2, -5, 10**25 + 1]
    for more in ("", '{"text": "x", "k": 7, "n": {}, "o": "s"}\n{"text": "y", "k": 7, "n": [], "o": 1}\n'):
        path.write_text("".join(f'{{"text": "a", "k": {k}}}\n' for k in big) + more)
        kept, texts = read(path, keep=["k"])
        assert kept["k"].to_pylist()[: len(big)] == [str(k) for k in big]
        assert len(texts) == len(kept)
    path.write_text('{"text": "a", "k": 1e20}\n{"text": "a", "k": 2e20}\n')
    assert read(path)[0]["k"].to_pylist() == [1e20, 2e20]


@pytest.mark.parametrize("line", [b'{"text":"a","k\xff":1}', b'{"text":"a","k\\ud800":1}'])
def test_json_names_that_are_no_utf_8(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"the name of a column is not UTF-8 \(rename it\)"):
        open_reader(source(path))


def test_utf_16_of_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\n', encoding="utf-16")
    with pytest.raises(InputError, match=r"UTF-16 text \(convert it: iconv"):
        open_reader(source(tmp_path / "a.jsonl"))


def test_one_line_of_many_blocks(tmp_path: Path, blocks: Callable[[int], None]) -> None:
    blocks(10_000)
    long = "y" * 3_000_000
    for name in ("a.jsonl", "a.csv", "a.jsonl.gz"):
        _, texts = read(write(tmp_path / name, table(["a", long, "b"])), batch_bytes=10_000)
        assert texts == [b"a", long.encode(), b"b"]


@pytest.mark.parametrize("size", [20_000, 8 << 20])
def test_arena_hard_needs_no_options(size: int, blocks: Callable[[int], None]) -> None:
    blocks(size)
    folder = DATA / "arena-hard-auto/data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set AFFECTCORE_DATA")
    sources = discover(str(folder / "*/model_answer/*.jsonl"))
    assert sources[0].name == "arena-hard-v0.1/model_answer/gpt-3.5-turbo-0125.jsonl"
    rows = 0
    for found in sources:
        lines = [json.loads(line) for line in found.path.read_bytes().splitlines()]
        kept, texts = read(found.path)
        assert texts == [line["messages"][-1]["content"]["answer"].encode() for line in lines]
        assert kept.column_names == ["uid", "ans_id", "model", "tstamp"]
        assert kept["uid"].to_pylist() == [line["uid"] for line in lines]
        rows += len(texts)
    assert rows == 2250


# -- damaged files -----------------------------------------------------------------------------------------------


def count_until_failure(path: Path, **options: object) -> tuple[int, InputError]:
    rows = 0
    with pytest.raises(InputError) as caught, open_reader(source(path), **options) as reader:  # type: ignore[arg-type]
        for _, part in reader:
            rows += len(part)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    return rows, caught.value


LONG = [f"{i} " + "".join(chr(97 + (i * k * k) % 26) for k in range(200)) for i in range(500)]


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.arrow", "a.feather", "a.arrows"]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_files(tmp_path: Path, name: str, share: float, blocks: Callable[[int], None]) -> None:
    blocks(1000)
    path = write(tmp_path / name, table(LONG))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    rows, error = count_until_failure(path, batch_bytes=1000)
    assert rows < 500
    assert "truncated or damaged" in error.remedy
    if share == 0.95 and name != "a.parquet":
        assert error.row == rows > 0


def test_parquet_damaged_inside_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(LONG), path, row_group_size=100, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(2).data_page_offset
    data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)
    rows, error = count_until_failure(path, batch_bytes=1000)
    assert rows == error.row == 200


@pytest.mark.parametrize("name", FORMATS)
def test_empty_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(compressed(b"", name) if name.endswith((".gz", ".zst")) else b"")
    _, error = count_until_failure(path)
    assert "empty file" in error.reason


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_files_that_are_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\x01 hello, this is something else altogether\n" * 10)
    count_until_failure(path)


def test_parquet_without_rows_is_fine(tmp_path: Path) -> None:
    kept, texts = read(write(tmp_path / "a.parquet", table([])))
    assert texts == []
    assert kept.num_rows == 0
    assert kept.column_names == ["id", "model", "weight"]
    assert read(write(tmp_path / "a.arrow", table([])))[1] == []
    assert read(write(tmp_path / "a.csv", table([])))[1] == []


def test_backwards_offsets_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", pa.table({"text": ["aaaa", "bbbb", "cccc"]}))
    data = path.read_bytes()
    offsets = np.array([0, 4, 8, 12], np.int32).tobytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, np.array([0, 8, 4, 12], np.int32).tobytes()))
    _, error = count_until_failure(path)
    assert "offset" in error.reason


# -- discovery ---------------------------------------------------------------------------------------------------


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.csv", "sub/c.jsonl.gz", "sub/deep/d.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, table())
    for name in (
        "_errors.jsonl",
        ".hidden.jsonl",
        "notes.txt",
        "x.parquet.errors.jsonl",
        "results.json",
        "_old/e.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"text":"no"}\n')
    return tmp_path


def test_folders_are_searched_through(dumps: Path) -> None:
    found = discover(dumps)
    assert [s.name for s in found] == ["a.csv", "b.jsonl", "sub/c.jsonl.gz", "sub/deep/d.parquet"]
    assert [s.format for s in found] == ["csv", "jsonl", "jsonl", "parquet"]
    assert found[2].compression == "gzip"


def test_patterns(dumps: Path) -> None:
    assert [s.name for s in discover(f"{dumps}/*.jsonl")] == ["b.jsonl"]
    assert [s.name for s in discover(f"{dumps}/**/*.jsonl*")] == ["b.jsonl", "sub/c.jsonl.gz"]
    assert [s.name for s in discover(f"{dumps}/s*")] == ["sub/c.jsonl.gz", "sub/deep/d.parquet"]
    with pytest.raises(InputError, match="no file here"):
        discover(f"{dumps}/*.nothing")


def test_a_file_named_twice_is_read_once(dumps: Path) -> None:
    found = discover([dumps / "b.jsonl", str(dumps), dumps / "sub" / ".." / "a.csv"])
    assert [s.name for s in found] == ["b.jsonl", "a.csv", "sub/c.jsonl.gz", "sub/deep/d.parquet"]


def test_format_by_content_and_by_name(tmp_path: Path) -> None:
    parquet = write(tmp_path / "a.parquet", table()).rename(tmp_path / "dump")
    assert source(parquet).format == "parquet"
    lines = write(tmp_path / "a.jsonl", table()).rename(tmp_path / "log.txt")
    assert source(lines).format == "jsonl"
    assert source(lines, "csv").format == "csv"
    squeezed = write(tmp_path / "b.jsonl.gz", table()).rename(tmp_path / "b.jsonl")
    assert read(squeezed)[1] == encoded(TEXTS)
    (tmp_path / "prose.txt").write_text("hello")
    with pytest.raises(InputError, match=r"cannot tell the format.*--format"):
        discover(tmp_path / "prose.txt")
    assert [s.name for s in discover(tmp_path, "jsonl")] == ["b.jsonl", "dump", "log.txt", "prose.txt"]
    with pytest.raises(UsageError, match=r"unknown format 'parqet' \(did you mean 'parquet'\?\)"):
        discover(tmp_path, "parqet")
    (tmp_path / "c.parquet.gz").write_bytes(gzip.compress(parquet.read_bytes()))
    with pytest.raises(InputError, match="unpack it"):
        discover(tmp_path / "c.parquet.gz")


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        discover(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="no file here"):
        discover(tmp_path)
    with pytest.raises(UsageError, match="no input"):
        discover([])
    with pytest.raises(UsageError, match="the name of an input is empty"):
        discover([""])
    found = source(write(tmp_path / "a.jsonl", table()))
    found.path.unlink()
    with pytest.raises(InputError, match="cannot open it"):
        open_reader(found)


@pytest.fixture
def no_privileges() -> Iterator[Path]:
    """A folder whose permissions count, for root too."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_unreadable_input(no_privileges: Path) -> None:
    if os.getuid() == 0:
        os.seteuid(0)
    path = write(no_privileges / "a.jsonl", table())
    path.chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    with pytest.raises(InputError, match="permission"):
        discover(path)
