"""Inputs that can be read once: FIFOs and standard input, through every way in that files have."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affectcore import Scorer
from affectcore.comparison import compare
from affectcore.errors import InputError, UsageError
from affectcore.io.readers import Reader, discover, open_reader
from affectcore.pipeline.run import score_dataset

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")

ROWS = [{"id": i, "model": f"m{i % 3}", "text": f"I am {'happy' if i % 2 else 'sad'}, {i} times."} for i in range(200)]


def encoded(name: str, rows: list[dict[str, object]]) -> bytes:
    """Return rows in the format of a file name."""
    if ".arrow" in name:
        table = pa.Table.from_pylist(rows)
        sink = pa.BufferOutputStream()
        made = pa.ipc.new_stream if name.endswith(".arrows") else pa.ipc.new_file
        with made(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        return sink.getvalue().to_pybytes()
    if ".jsonl" in name:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        separator = "\t" if ".tsv" in name else ","
        lines = [list(rows[0]), *([f'"{v}"' for v in row.values()] for row in rows)]
        data = "".join(separator.join(line) + "\n" for line in lines).encode()
    if name.endswith(".gz"):
        return gzip.compress(data)
    return pa.compress(data, "zstd", asbytes=True) if name.endswith(".zst") else data  # type: ignore[no-any-return]


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[..., Path]:
    """Makes a FIFO of some name into which a thread writes some bytes, so many at a time, to whoever opens it once."""

    def made(name: str, data: bytes, step: int = 1 << 20) -> Path:
        path = tmp_path / "pipes" / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)

        def write() -> None:
            with path.open("wb", buffering=0) as file:
                for begin in range(0, len(data), step):
                    try:
                        file.write(data[begin : begin + step])
                    except BrokenPipeError:
                        return
                    if step < 1000:
                        time.sleep(0.0005)

        threading.Thread(target=write, daemon=True).start()
        return path

    return made


@pytest.mark.parametrize("step", [1 << 20, 997])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.csv.gz", "a.tsv", "a.arrows"])
def test_a_pipe_reads_as_a_file(tmp_path: Path, fifo: Callable[..., Path], name: str, step: int) -> None:
    data = encoded(name, ROWS)
    (tmp_path / name).write_bytes(data)
    found = []
    for path in (tmp_path / name, fifo(name, data, step)):
        with open_reader(discover(path)[0], batch_bytes=300) as reader:
            found.append([(kept.to_pydict(), texts.to_pylist()) for kept, texts in reader])
    assert found[0] == found[1]
    assert len(found[0]) > 1


def test_blocks_do_not_depend_on_the_writer(
    tmp_path: Path, fifo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "block_bytes", 500)
    rows = [{"text": "a", "n": i if i < 9 else i / 2} for i in range(12)]
    path = fifo("a.jsonl", encoded("a.jsonl", rows), 20)
    with open_reader(discover(path)[0]) as reader:
        assert reader.schema.field("n").type == pa.float64()


def test_compression_is_told_by_the_bytes(fifo: Callable[..., Path]) -> None:
    path = fifo("63", gzip.compress(encoded("a.jsonl", ROWS)))
    with open_reader(discover(path, "jsonl")[0]) as reader:
        assert sum(len(texts) for _, texts in reader) == len(ROWS)


def test_turns_come_through_a_pipe(tmp_path: Path, fifo: Callable[..., Path]) -> None:
    rows = [{"conversation_id": i // 2, "role": ("user", "assistant")[i % 2], "text": f"so {i}"} for i in range(40)]
    data = encoded("a.jsonl", rows)
    (tmp_path / "a.jsonl").write_bytes(data)
    scorer = Scorer("none", "vader_compound", unit="conversation")
    tables = []
    for i, path in enumerate((tmp_path / "a.jsonl", fifo("b.jsonl", data))):
        score_dataset(path, tmp_path / f"{i}.parquet", scorer=scorer, keep=["conversation_id"])
        tables.append(pq.read_table(tmp_path / f"{i}.parquet"))
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 20


@pytest.mark.parametrize("output", ["out.parquet", "out"])
def test_scores_of_pipes_and_files(tmp_path: Path, fifo: Callable[..., Path], output: str) -> None:
    scorer = Scorer("none", "vader_compound")
    data = encoded("a.jsonl", ROWS)
    (tmp_path / "a.jsonl").write_bytes(data)
    out = tmp_path / output
    for i in range(2):  # with overwrite, the inputs are looked at before the older output is given up
        inputs = [fifo(f"a{i}.jsonl", data), fifo(f"b{i}.csv", encoded("b.csv", ROWS)), tmp_path / "a.jsonl"]
        report = score_dataset(inputs, out, scorer=scorer, overwrite=i == 1)
        assert (report.n_rows, report.n_files, report.errors) == (600, 3, [])
        assert len(report.outputs) == (1 if output == "out.parquet" else 3)
        assert sum(pq.read_metadata(path).num_rows for path in report.outputs) == 600
    with pytest.raises(UsageError, match=r"a0.jsonl is a pipe, which --resume cannot read again"):
        score_dataset(tmp_path / "pipes" / "a0.jsonl", out, scorer=scorer, resume=True)


def test_damage_in_a_pipe_is_recorded(tmp_path: Path, fifo: Callable[..., Path]) -> None:
    path = fifo("a.arrows", encoded("a.arrows", ROWS)[:-1500])
    report = score_dataset(path, tmp_path / "out.parquet", scorer=Scorer("none", "vader_compound"))
    (problem,) = report.errors
    assert 0 < report.n_rows == problem.row < 200


def test_what_cannot_come_through_a_pipe(tmp_path: Path, fifo: Callable[..., Path]) -> None:
    for name in ("nameless", "a.parquet"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot tell the format of what comes through a pipe .name it with --format"):
        discover(tmp_path / "nameless")
    for path, format in ((tmp_path / "a.parquet", "auto"), (tmp_path / "nameless", "parquet")):
        with pytest.raises(InputError, match=r"a Parquet file cannot be read from a pipe.*write it to a file"):
            discover(path, format)
    path = fifo("a.arrow", encoded("a.arrow", ROWS))
    with pytest.raises(InputError, match=r"an Arrow IPC file cannot be read from a pipe.*write an IPC stream"):
        open_reader(discover(path)[0])
    with pytest.raises(InputError, match="score files are read several times"):
        compare(tmp_path / "nameless", by="model")
    (tmp_path / "a.jsonl").write_bytes(encoded("a.jsonl", ROWS))
    assert [source.name for source in discover(tmp_path)] == ["a.jsonl"]  # in folders, only files are looked for


def test_a_pipe_is_read_once(fifo: Callable[..., Path]) -> None:
    (source,) = discover(fifo("a.jsonl", encoded("a.jsonl", ROWS)))
    for _ in range(2):
        with open_reader(source) as reader:
            assert reader.schema.names == ["id", "model"]
    with open_reader(source) as reader:
        assert sum(len(texts) for _, texts in reader) == len(ROWS)
    with pytest.raises(InputError, match="a pipe can be read once, and has been"):
        open_reader(source)


def test_an_earlier_reader_takes_nothing_from_a_later_one(
    fifo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "block_bytes", 200)
    (source,) = discover(fifo("a.jsonl", encoded("a.jsonl", ROWS)))
    earlier, later = open_reader(source), open_reader(source)
    found = iter(later)
    rows = len(next(found)[1])
    earlier.close()
    assert rows + sum(len(texts) for _, texts in found) == len(ROWS)
    later.close()
    with pytest.raises(InputError, match="has been"):
        open_reader(source)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(name: str) -> None:
    code = f"""
from affectcore.io.readers import discover, open_reader
(source,) = discover({name!r}, "jsonl")
with open_reader(source) as reader:
    print(source.name, sum(len(texts) for _, texts in reader))
"""
    for data in (encoded("a.jsonl", ROWS), gzip.compress(encoded("a.jsonl", ROWS))):
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
        assert done.stdout.decode().strip() == "stdin 200"
