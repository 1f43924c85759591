from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import affectcore
from affectcore.errors import InputError, OutputError, UsageError
from affectcore.io.readers import Reader, discover
from affectcore.pipeline.run import Report, score_dataset


class Lengths:
    """A scorer that is small, and real: how many bytes a text has, and how many of them are the letter e."""

    schema = pa.schema(
        [("n_len", pa.int32()), ("e_share", pa.float32())], metadata={"affectcore": '{"scorer": "lengths"}'}
    )

    def __init__(self, **settings: str) -> None:
        self.settings = {"scorer": "lengths", **settings}

    def score_units(self, texts: pa.Array) -> tuple[pa.RecordBatch, Any]:
        texts = texts.cast(pa.large_binary())
        length = pc.binary_length(texts).cast(pa.int32())
        letters = pc.count_substring(texts, "e").cast(pa.float32())
        share = pc.divide(letters, pc.max_element_wise(length.cast(pa.float32()), 1.0, skip_nulls=False))
        return pa.RecordBatch.from_arrays([length, share.cast(pa.float32())], schema=self.schema), None

    def provenance(self) -> dict[str, str]:
        return self.settings


def texts_of(n: int, first: int = 0) -> list[str | None]:
    return [None if i % 7 == 3 else "e" * (i % 5) + f" text {i}" for i in range(first, first + n)]


def table(n: int = 20, first: int = 0) -> pa.Table:
    return pa.table({"id": list(range(first, first + n)), "text": pa.array(texts_of(n, first), pa.string())})


def lines(data: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in data.to_pylist()).encode()


def expected(data: pa.Table) -> list[dict[str, Any]]:
    scores = pa.Table.from_batches([Lengths().score_units(data["text"].combine_chunks())[0]])
    return pa.table({"id": data["id"], "n_len": scores["n_len"], "e_share": scores["e_share"]}).to_pylist()


def score(inputs: Any, output: Path, **options: Any) -> Report:
    return score_dataset(inputs, output, **{"scorer": Lengths(), **options})


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of what a run writes for its users."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "_manifest.jsonl"}


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    folder = tmp_path / "dumps"
    (folder / "sub").mkdir(parents=True)
    pq.write_table(table(20), folder / "a.parquet", row_group_size=6)
    (folder / "sub" / "b.jsonl").write_bytes(lines(table(15, 100)))
    return folder


# -- outputs -----------------------------------------------------------------------------------------------------


def test_folder_to_folder(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    report = score(dumps, out)
    assert sorted(contents(out)) == ["a-00000.parquet", "sub__b-00000.parquet"]
    assert rows(out) == expected(table(20)) + expected(table(15, 100))
    assert report.outputs == [out / "a-00000.parquet", out / "sub__b-00000.parquet"]
    assert (report.n_rows, report.n_units, report.n_files) == (35, 35, 2)
    assert report.n_bytes == sum(len(t or "") for t in texts_of(20) + texts_of(15, 100))
    assert (report.errors, report.skipped) == ([], [])
    assert report.seconds > 0
    assert pq.read_schema(out / "a-00000.parquet").metadata == Lengths.schema.metadata


@pytest.mark.parametrize("name", ["scores.parquet", "scores.arrow", "scores.jsonl"])
def test_folder_to_file(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    report = score(dumps, out)
    if name.endswith(".jsonl"):
        found = [json.loads(line) for line in out.read_text().splitlines()]
        for row in found:
            row["e_share"] = pa.scalar(row["e_share"], pa.float32()).as_py()
    elif name.endswith(".arrow"):
        with pa.OSFile(str(out)) as file:
            found = pa.ipc.open_file(file).read_all().to_pylist()
    else:
        found = pq.read_table(out).to_pylist()
    assert found == expected(table(20)) + expected(table(15, 100))
    assert report.outputs == [out]
    assert not Path(f"{out}.errors.jsonl").exists()


def test_inputs_of_one_name_stay_apart(tmp_path: Path) -> None:
    for i, name in enumerate(["x/a.jsonl", "y/a.jsonl", "x/a.csv"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines(table(2, i)) if name.endswith("jsonl") else b"id,text\n9,t\n")
    report = score([tmp_path / "x/a.jsonl", tmp_path / "y/a.jsonl", tmp_path / "x/a.csv"], tmp_path / "out")
    assert len({p.name for p in report.outputs}) == 3
    assert [pq.read_table(p)["id"].to_pylist() for p in report.outputs] == [[0, 1], [1, 2], [9]]


def test_parts(tmp_path: Path) -> None:
    pq.write_table(table(60), tmp_path / "a.parquet", row_group_size=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("affectcore.io.formats.parquet._RUN", 1)  # row groups as small as these are read several at once
        report = score(tmp_path / "a.parquet", tmp_path / "out", part_bytes=150, batch_bytes=40)
    sizes = [pq.read_metadata(p).num_rows for p in report.outputs]
    assert sum(sizes) == 60
    assert len(sizes) > 2
    assert all(size % 10 == 0 for size in sizes)  # parts end where row groups do
    assert rows(tmp_path / "out") == expected(table(60))
    whole = score(tmp_path / "a.parquet", tmp_path / "whole")
    assert len(whole.outputs) == 1


def test_no_rows(tmp_path: Path) -> None:
    pq.write_table(table(0), tmp_path / "a.parquet")
    report = score(tmp_path / "a.parquet", tmp_path / "out")
    assert report.n_rows == 0
    found = pq.read_table(tmp_path / "out" / "a-00000.parquet")
    assert found.column_names == ["id", "n_len", "e_share"]
    assert len(found) == 0
    score(tmp_path / "a.parquet", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["id", "n_len", "e_share"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.none() | st.text(alphabet='e 😀\n"', max_size=30), min_size=1, max_size=40),
    batch_bytes=st.integers(1, 300),
    block_bytes=st.integers(1, 500),
    threads=st.integers(1, 4),
    group=st.integers(1, 40),
    part_bytes=st.integers(1, 500),
    name=st.sampled_from(["a.parquet", "a.arrow", "a.jsonl"]),
)
def test_scores_do_not_depend_on_how_they_are_made(
    texts: list[str | None],
    batch_bytes: int,
    block_bytes: int,
    threads: int,
    group: int,
    part_bytes: int,
    name: str,
) -> None:
    data = pa.table({"id": list(range(len(texts))), "text": pa.array(texts, pa.string())})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "block_bytes", block_bytes)
        path = Path(folder, name)
        if name == "a.parquet":
            pq.write_table(data, path, row_group_size=group)
        elif name == "a.arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, data.schema) as writer:
                writer.write_table(data, max_chunksize=group)
        else:
            path.write_bytes(lines(data))
        report = score(path, Path(folder, "out"), batch_bytes=batch_bytes, threads=threads, part_bytes=part_bytes)
        assert [row for p in report.outputs for row in pq.read_table(p).to_pylist()] == expected(data)


def test_same_input_same_bytes(dumps: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        score(dumps, tmp_path / name, threads=1 if name == "one" else 3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_progress(dumps: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    report = score(dumps, tmp_path / "out", batch_bytes=30, progress=lambda *numbers: seen.append(numbers))
    assert seen == sorted(seen)
    assert seen[-1] == (35, report.n_bytes, 2)
    assert len(seen) > 5


# -- settings that do not fit ------------------------------------------------------------------------------------


def test_kept_column_named_like_a_score(tmp_path: Path) -> None:
    pq.write_table(table(3).append_column("n_len", pa.array([1, 2, 3])), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column 'n_len' has the name of a score; rename it, .*--keep id"):
        score(tmp_path / "a.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert score(tmp_path / "a.parquet", tmp_path / "out", keep=["id"]).n_rows == 3
    assert score(tmp_path / "a.parquet", tmp_path / "one", keep="id").n_rows == 3
    pq.write_table(table(2, 7), tmp_path / "b.parquet")
    among = score([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "two")
    assert [Path(problem.file).name for problem in among.errors] == ["a.parquet"]
    assert [row["id"] for row in rows(tmp_path / "two")] == [7, 8]
    with pytest.raises(UsageError, match="'n_len' has the name of a score"):
        score([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "two.parquet")


def test_missing_columns_leave_no_trace(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"no column 'reply'.*id, text"):
        score(dumps, out, text="reply")
    with pytest.raises(UsageError, match=r"no column 'model' to keep.*id, text"):
        score(dumps, out, keep=["model"])
    assert not out.exists()
    score(dumps, out)
    with pytest.raises(UsageError, match="no column 'reply'"):
        score(dumps, out, text="reply", overwrite=True)
    assert len(rows(out)) == 35  # the older scores are still there


def test_one_file_for_inputs_with_different_columns(dumps: Path, tmp_path: Path) -> None:
    (dumps / "c.jsonl").write_text('{"id":"x","text":"t"}\n')
    with pytest.raises(
        UsageError, match=r"a.parquet and .*c.jsonl have different columns.*id: int64 and string.*--keep"
    ):
        score(dumps, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert score(dumps, tmp_path / "out.parquet", keep=[]).n_rows == 36
    assert score(dumps, tmp_path / "out").n_rows == 36


def test_options_that_exclude_each_other(dumps: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        score(dumps, tmp_path / "out", overwrite=True, resume=True)
    with pytest.raises(UsageError, match="threads"):
        score(dumps, tmp_path / "out", threads=0)
    with pytest.raises(UsageError, match=r"cannot write \.csv"):
        score(dumps, tmp_path / "out.csv")


def test_output_inside_the_input(dumps: Path) -> None:
    score(dumps, dumps / "scores")
    assert score(dumps, dumps / "scores", overwrite=True).n_files == 2
    assert score(dumps, dumps / "scores", resume=True).n_files == 0
    score(dumps / "a.parquet", dumps / "all.parquet")
    assert score([dumps / "a.parquet", f"{dumps}/al*"], dumps / "all.parquet", overwrite=True).n_rows == 20
    with pytest.raises(UsageError, match="the input is the output"):
        score(dumps / "a.parquet", dumps / "a.parquet", overwrite=True)
    with pytest.raises(UsageError, match="the input is the output"):
        score(dumps, dumps)
    assert pq.read_table(dumps / "a.parquet").equals(table(20))


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_output_that_exists(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    score(dumps / "a.parquet", out)
    with pytest.raises(OutputError, match=r"exists.*--overwrite.*--resume"):
        score(dumps, out)
    score(dumps / "sub", out, overwrite=True)
    found = rows(out) if name == "out" else pq.read_table(out).to_pylist()
    assert found == expected(table(15, 100))  # nothing of the older run is left


def test_a_folder_with_other_files(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        score(dumps, out)
    score(dumps, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "plain").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        score(dumps, tmp_path / "plain")
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        score(dumps, tmp_path / "d.parquet")


@pytest.mark.parametrize("name", ["file/out", "file/out.parquet"])
def test_an_output_that_cannot_be_made(dumps: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        score(dumps, tmp_path / name)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_read_only_folder(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table(), Path(folder, "a.parquet"))
        os.chmod(folder, 0o555)  # noqa: PTH101
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)  # permissions do not bind root
            with pytest.raises(OutputError, match="no permission"):
                score(Path(folder, "a.parquet"), Path(folder, name))
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o755)  # noqa: PTH101


# -- inputs that fail --------------------------------------------------------------------------------------------


def listed(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("single", [False, True])
def test_a_failed_file_is_recorded_and_the_others_go_on(dumps: Path, tmp_path: Path, single: bool) -> None:
    (dumps / "0.jsonl.gz").write_bytes(_half_gzip(table(4000)))
    (dumps / "b.parquet").write_bytes(b"PAR1 no more")
    (dumps / "c.jsonl").write_text('{"id":1,"text":"e"}\nnot json\n{"id":2,"text":"ee"}\n')
    (dumps / "d.csv").write_text("id,reply\n1,x\n")
    out = tmp_path / ("out.parquet" if single else "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "block_bytes", 1000)
        report = score(dumps, out)
    errors = listed(tmp_path / "out.parquet.errors.jsonl" if single else out / "_errors.jsonl")
    assert errors == [e.to_dict() for e in report.errors]
    assert [Path(e["file"]).name for e in errors] == ["0.jsonl.gz", "b.parquet", "c.jsonl", "d.csv"]
    assert [e["row"] for e in errors][1:] == [None, 1, None]
    assert all(e["reason"] and e["remedy"] for e in errors)
    found = pq.read_table(out).to_pylist() if single else rows(out)
    saved = errors[0]["row"]
    assert 0 < saved < 4000
    assert found[:saved] == expected(table(4000))[:saved]  # what was read before the cut is kept
    assert len(found) == saved + 35 + 2 == report.n_rows


def _half_gzip(data: pa.Table) -> bytes:
    import gzip

    packed = gzip.compress(lines(data))
    return packed[: len(packed) // 2]


def test_a_later_run_without_errors_removes_the_list(dumps: Path, tmp_path: Path) -> None:
    bad = dumps / "c.jsonl"
    bad.write_text('{"id":1,"text":"e"}\nnot json\n')
    for out, errors in (
        (tmp_path / "o", tmp_path / "o/_errors.jsonl"),
        (tmp_path / "o.arrow", tmp_path / "o.arrow.errors.jsonl"),
    ):
        bad.write_text('{"id":1,"text":"e"}\nnot json\n')
        score(dumps, out)
        assert len(listed(errors)) == 1
        assert len(score(dumps, out, resume=True).errors) == 1  # it is still not scored
        assert len(listed(errors)) == 1
        bad.write_text('{"id":1,"text":"e"}\n{"id":2,"text":"e"}\n')
        assert score(dumps, out, overwrite=True).errors == []
        assert not errors.exists()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_every_input_fails(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "b.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.parquet: not a readable Parquet file.*copy it again"):
        score([tmp_path / "a.parquet", tmp_path / "b.jsonl"], tmp_path / name)
    assert not (tmp_path / name).exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_scorer_that_raises(dumps: Path, tmp_path: Path) -> None:
    class Broken(Lengths):
        def score_units(self, texts: pa.Array) -> tuple[pa.RecordBatch, Any]:
            if " text 105" in texts.to_pylist():
                raise RuntimeError("broken")
            return super().score_units(texts)

    with pytest.raises(RuntimeError, match="broken"):
        score(dumps, tmp_path / "out", scorer=Broken())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["_manifest.jsonl", "a-00000.parquet"]
    report = score(dumps, tmp_path / "out", resume=True)
    assert [p.name for p in report.skipped] == ["a.parquet"]
    assert rows(tmp_path / "out") == expected(table(20)) + expected(table(15, 100))


# -- resume ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_resume_of_a_complete_run_does_nothing(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    first = score(dumps, out)
    files = [*out.glob("*")] if name == "out" else [out, tmp_path / ".out.parquet.manifest.jsonl"]
    before = {p: p.stat().st_mtime_ns for p in files}
    report = score(dumps, out, resume=True)
    assert [p.name for p in report.skipped] == ["a.parquet", "b.jsonl"]
    assert (report.n_rows, report.n_files) == (0, 0)
    assert report.outputs == first.outputs
    assert {p: p.stat().st_mtime_ns for p in files} == before
    assert [*out.glob("*")] == ([] if name == "out.parquet" else files)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_resume_without_an_earlier_run(dumps: Path, tmp_path: Path, name: str) -> None:
    assert score(dumps, tmp_path / name, resume=True).n_rows == 35


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_changed_inputs_are_done_again(dumps: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    score(dumps, out, part_bytes=40, batch_bytes=20)
    (dumps / "sub" / "b.jsonl").write_bytes(lines(table(4, 500)))
    pq.write_table(table(2, 900), dumps / "c.parquet")
    report = score(dumps, out, resume=True, part_bytes=40, batch_bytes=20)
    found = rows(out) if name == "out" else pq.read_table(out).to_pylist()
    key = [row["id"] for row in found]
    assert sorted(key) == [*range(20), *range(500, 504), 900, 901]  # no part of the older b.jsonl is left
    assert [p.name for p in report.skipped] == (["a.parquet"] if name == "out" else [])


def test_another_input_of_one_name_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k, name in enumerate(["x", "y"]):
        (tmp_path / name).mkdir()
        pq.write_table(table(3, 10 * k), tmp_path / name / "a.parquet")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    score("x/a.parquet", out)
    score("y", out, resume=True)
    assert sorted(row["id"] for row in rows(out)) == [0, 1, 2, 10, 11, 12]
    pq.write_table(table(2, 20), tmp_path / "x" / "a.csv.parquet")
    (tmp_path / "x" / "a.csv").write_text("id,text\n30,t\n")
    report = score(["x", "y"], out, resume=True)  # a.csv comes before the a.parquet that has its name
    assert [p.name for p in report.skipped] == ["a.parquet", "a.parquet"]
    assert sorted(row["id"] for row in rows(out)) == [0, 1, 2, 10, 11, 12, 20, 21, 30]
    (tmp_path / "x").rename(tmp_path / "z")  # moved: what it gave before is its own
    assert len(score(["y", "z"], out, resume=True).skipped) == 4
    assert len(rows(out)) == 9


def test_an_input_that_goes_away_is_recorded(dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = dumps / "sub" / "b.jsonl"

    def then_gone(*given: Any) -> Any:
        found = discover(*given)
        gone.unlink()
        return found

    monkeypatch.setattr("affectcore.pipeline.run.discover", then_gone)
    report = score(dumps, tmp_path / "out")
    assert [(problem.file, problem.row) for problem in report.errors] == [(str(gone), None)]
    assert report.errors[0].reason.startswith("cannot open it")
    assert len(rows(tmp_path / "out")) == 20


def test_missing_outputs_are_made_again(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps, out, part_bytes=40, batch_bytes=20)
    before = contents(out)
    (out / "a-00001.parquet").unlink()
    (out / "sub__b-00000.parquet").write_bytes(b"damaged")
    score(dumps, out, part_bytes=40, batch_bytes=20, resume=True)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scorer": Lengths(model="static")}, r"scorer\.model was \(not set\) and is static now"),
        ({"keep": []}, r"keep was None and is \[\] now"),
        ({"text": "text"}, "text was None and is text now"),
    ],
)
def test_resume_with_other_settings(
    dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    score(dumps, name)
    with pytest.raises(OutputError, match=rf"^{name} holds scores of other settings: {told}.*--overwrite"):
        score(dumps, name, resume=True, **options)
    score(dumps, name, overwrite=True, **options)


def test_many_other_settings_are_counted(dumps: Path, tmp_path: Path) -> None:
    class Other(Lengths):
        def provenance(self) -> Any:
            return {"model": "static", "metrics": {f"m{k}": 1 for k in range(50)}}

    score(dumps, tmp_path / "out")
    with pytest.raises(
        OutputError, match=r"scorer\.model was \(not set\) and is static now; .*; and 47 more\. Use"
    ) as error:
        score(dumps, tmp_path / "out", scorer=Other(), resume=True)
    assert len(str(error.value)) < 600


def test_a_failed_file_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(_half_gzip(table(4000)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "block_bytes", 1000)
        first = score(path, tmp_path / "out", part_bytes=5000)
        assert len(first.outputs) > 2
        again = score(path, tmp_path / "out", part_bytes=5000, resume=True)
    assert 0 < again.n_rows < first.n_rows  # the last part only
    assert again.errors == first.errors
    assert len(rows(tmp_path / "out")) == first.n_rows


def test_manifest_line_cut_short(dumps: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(dumps, out)
    before = contents(out)
    manifest = out / "_manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    report = score(dumps, out, resume=True)
    assert [p.name for p in report.skipped] == ["a.parquet"]
    assert contents(out) == before
    lines = listed(manifest)  # whole ones again
    assert [line["kind"] for line in lines] == ["run", "input", "input", "part", "part"]
    manifest.write_bytes(b"something else\n")
    with pytest.raises(OutputError, match=r"not a manifest.*--overwrite"):
        score(dumps, out, resume=True)


def test_two_runs_into_one_folder(dumps: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "out"

    class Nosy(Lengths):
        def score_units(self, texts: pa.Array) -> tuple[pa.RecordBatch, Any]:
            with pytest.raises(OutputError, match=rf"another run is writing to {out} \(process {os.getpid()} on "):
                score(dumps, out, resume=True)
            return super().score_units(texts)

    score(dumps, out, scorer=Nosy(), threads=1)
    assert rows(out) == expected(table(20)) + expected(table(15, 100))


SLOW = """
import sys, time
import pyarrow as pa, pyarrow.compute as pc
from affectcore.pipeline.run import score_dataset

class Slow:
    schema = pa.schema([("n_len", pa.int32())])
    def score_units(self, texts):
        time.sleep(float(sys.argv[3]))
        return pa.RecordBatch.from_arrays([pc.binary_length(texts).cast(pa.int32())], schema=self.schema), None
    def provenance(self):
        return {"scorer": "slow"}

try:
    score_dataset(sys.argv[1], sys.argv[2], scorer=Slow(), batch_bytes=200, part_bytes=1000, threads=2,
                  resume="resume" in sys.argv)
except KeyboardInterrupt:
    sys.exit(130)
"""


@contextlib.contextmanager
def started(dumps: Path, out: Path, pause: float, *more: str) -> Iterator[subprocess.Popen[str]]:
    root = str(Path(affectcore.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-c", SLOW, str(dumps), str(out), str(pause), *more]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(dumps: Path, out: Path, *more: str) -> None:
    with started(dumps, out, 0, *more) as process:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def temporary(folder: Path) -> list[str]:
    return [p.name for p in folder.glob(".*.tmp")]


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    folder = tmp_path / "larger"
    folder.mkdir()
    pq.write_table(table(1000), folder / "a.parquet", row_group_size=40)
    (folder / "b.jsonl").write_bytes(lines(table(1000)).replace(b'"id": 300', b'"id" 300'))
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("parts", [0, 2, 6])
def test_killed_and_resumed_gives_the_same_bytes(larger: Path, tmp_path: Path, parts: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(larger, whole)
    assert len(list(whole.glob("*.parquet"))) > 7
    with started(larger, cut, 0.02) as process:
        wait_for(lambda: len(list(cut.glob("*.parquet"))) >= parts and temporary(cut))
        process.kill()
    assert temporary(cut)  # a killed run cannot tidy up
    finished = {p: p.stat().st_mtime_ns for p in cut.glob("*.parquet")}
    assert len(finished) < len(list(whole.glob("*.parquet")))
    finish(larger, cut, "resume")
    assert contents(cut) == contents(whole)
    assert temporary(cut) == []
    redone = [p for p, at in finished.items() if p.stat().st_mtime_ns != at]
    assert len(redone) <= 1  # at most the one that was in place but not yet in the manifest


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_ctrl_c(larger: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    folder = out if name == "out" else tmp_path
    with started(larger, out, 0.02) as process:
        wait_for(lambda: temporary(folder) and (name != "out" or len(list(out.glob("*.parquet"))) >= 2))
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - begun < 5
        assert (process.returncode, errors) == (130, "")
    assert temporary(folder) == []
    if name == "out.parquet":
        assert not out.exists()
        return
    parts = {line["output"] for line in listed(out / "_manifest.jsonl") if line["kind"] == "part"}
    assert {p.name for p in out.glob("*.parquet")} >= parts
    assert len(list(out.glob("*.parquet"))) <= len(parts) + 1
    for path in out.glob("*.parquet"):
        assert pq.read_metadata(path).num_rows > 0


# -- memory ------------------------------------------------------------------------------------------------------

MEMORY = """
import sys
import pyarrow as pa, pyarrow.compute as pc
from affectcore.pipeline.run import score_dataset

class Lengths:
    schema = pa.schema([("n_len", pa.int32())])
    def score_units(self, texts):
        return pa.RecordBatch.from_arrays([pc.binary_length(texts).cast(pa.int32())], schema=self.schema), None
    def provenance(self):
        return {"scorer": "lengths"}

score_dataset(sys.argv[1], sys.argv[2], scorer=Lengths(), threads=2)
# Not ru_maxrss: that begins with what the parent process had.
sys.stdout.write(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_large(path, "Some sentences, again and again. " * 75, 120_000)
    root = str(Path(affectcore.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.stderr == ""
    assert int(done.stdout) / 1024 < 300
    assert pq.read_metadata(tmp_path / "out" / "a-00000.parquet").num_rows == 120_000


def write_large(path: Path, text: str, n: int) -> None:
    """Write 300 MB: Parquet as one row group, Arrow as one record batch."""
    if path.suffix == ".jsonl":
        path.write_bytes((json.dumps({"text": text}) + "\n").encode() * n)
    elif path.suffix == ".csv":
        path.write_bytes(b"text\n" + f'"{text}"\n'.encode() * n)
    else:
        data = pa.table({"text": pa.array([text] * n)})
        if path.suffix == ".parquet":
            pq.write_table(data, path, use_dictionary=False, compression="none")
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, data.schema) as writer:
                writer.write_table(data)


class Words(Lengths):
    """A scorer of units: a row per word."""

    schema = pa.schema([("word", pa.string())], metadata={"affectcore": '{"scorer": "words"}'})

    def score_units(self, texts: pa.Array) -> tuple[pa.RecordBatch, Any]:
        words = pc.utf8_split_whitespace(texts.cast(pa.string()))
        parents = pc.list_parent_indices(words).to_numpy()
        return pa.RecordBatch.from_arrays([pc.list_flatten(words)], schema=self.schema), parents


@pytest.mark.parametrize("name", ["out.parquet", "folder"])
def test_units_repeat_what_is_kept(tmp_path: Path, name: str) -> None:
    table = pa.table({"text": ["a b", None, "", "c", "d e f"] * 200, "id": range(1000)})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=100)
    out = tmp_path / name
    report = score_dataset(tmp_path / "in.parquet", out, scorer=Words(), part_bytes=500, batch_bytes=200)
    found = pa.concat_tables([pq.read_table(path) for path in report.outputs])
    wanted = [
        (i, w) for i, t in enumerate(table["text"].to_pylist()) for w in (t.split() or [""] if t is not None else ())
    ]
    assert list(zip(found["id"].to_pylist(), found["word"].to_pylist())) == wanted
    assert (report.n_rows, report.n_units) == (1000, 1400)
    if name == "folder":
        # Going on counts rows of the input, not units.
        last = sorted(report.outputs)[-1]
        lines = (out / "_manifest.jsonl").read_text().splitlines()
        (out / "_manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
        last.unlink()
        again = score_dataset(
            tmp_path / "in.parquet", out, scorer=Words(), part_bytes=500, batch_bytes=200, resume=True
        )
        assert pa.concat_tables([pq.read_table(path) for path in sorted(again.outputs)]).equals(found)
