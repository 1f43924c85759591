"""The Python API: what goes in, what comes out, and that nothing but the text matters."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import documents, texts

import affectcore as ac
from affectcore import arrow
from affectcore.metrics import emonet
from affectcore.metrics.registry import METRICS, select
from affectcore.metrics.taxonomy import TAXONOMIES
from affectcore.models import base

ROWS = ["I love this! 😀", "", None, "I am sorry, it is all my fault.", "YES. Perhaps?", "日本語\u3000good"]
STATIC = base.load("static")
CHOSEN = select("default", STATIC.heads, (), STATIC.counts, STATIC.derived)


@pytest.fixture(scope="module")
def wanted() -> pa.Table:
    return ac.Scorer().score(ROWS)


def test_columns_and_types(wanted: pa.Table) -> None:
    assert wanted.column_names == [metric.name for metric in CHOSEN]
    assert [str(field.type) for field in wanted.schema] == [
        {"float32": "float", "int32": "int32"}[metric.dtype] for metric in CHOSEN
    ]


def test_values(wanted: pa.Table) -> None:
    rows = wanted.to_pylist()
    assert rows[0]["n_words"] == 4  # the emoji is a word, though its description has two
    assert rows[0]["n_bytes"] == len(ROWS[0].encode())  # type: ignore[union-attr]
    assert rows[0]["exclaims"] == pytest.approx(25)
    assert rows[3]["self_blame"] > 0
    assert rows[3]["apologies"] > 0
    assert rows[3]["first_person"] == pytest.approx(200 / 8)
    assert rows[4]["caps"] == pytest.approx(50)
    assert rows[4]["questions"] == pytest.approx(50)
    assert rows[4]["hedges"] == pytest.approx(50)
    assert rows[5]["n_words"] == 2
    for metric in CHOSEN:
        low, high = metric.range
        for value in wanted[metric.name].to_pylist():
            assert value is None or ((low is None or value >= low) and (high is None or value <= high))


def test_null_gives_null_and_empty_gives_neutral(wanted: pa.Table) -> None:
    rows = wanted.to_pylist()
    assert set(rows[2].values()) == {None}
    assert {name: value for name, value in rows[1].items() if value} == {
        "emotion_neutral": 1,
        **({"politeness": 0.5} if "politeness" in rows[1] else {}),
    }


def test_marks_of_emoji_descriptions_do_not_count() -> None:
    row = ac.Scorer().score(["🆙 🔛"]).to_pylist()[0]  # "UP! button", "ON! arrow"
    assert row["exclaims"] == 0
    assert row["n_words"] == 2


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_arrow_types_and_slices(kind: pa.DataType, wanted: pa.Table) -> None:
    padded = pa.array(["skipped 😡", *ROWS, "skipped, too"]).cast(kind)
    assert ac.Scorer().score(padded.slice(1, len(ROWS))).equals(wanted)
    assert pa.Table.from_batches([ac.Scorer().score_array(padded.slice(1, len(ROWS)))]).equals(wanted)
    chunked = pa.chunked_array([padded.slice(1, 2), padded.slice(3, 0), padded.slice(3, 4)])
    assert ac.Scorer().score(chunked).combine_chunks().equals(wanted.combine_chunks())


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.cast(pa.string_view()),
        lambda a: a.dictionary_encode(),
        lambda a: pa.chunked_array([a]),
        lambda a: (text for text in a.to_pylist()),
        lambda a: [t if t is None else t.encode() for t in a.to_pylist()],
    ],
    ids=["view", "dictionary", "chunked", "generator", "bytes"],
)
def test_other_sources(convert: Callable[[pa.Array], Any], wanted: pa.Table) -> None:
    assert ac.Scorer().score(convert(pa.array(ROWS))).equals(wanted)


class Stream:
    """Something with the Arrow PyCapsule interface and no other."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.data.__arrow_c_stream__(requested_schema)


def test_capsules(wanted: pa.Table) -> None:
    table = pa.table({"model": ["m"] * len(ROWS), "response": ROWS})
    scores = ac.Scorer().score(Stream(table))
    assert scores.column_names == ["model", *wanted.column_names]
    assert scores.drop_columns(["model"]).equals(wanted)
    assert ac.Scorer().score(Stream(pa.chunked_array([ROWS]))).equals(wanted)


def test_tables_keep_the_other_columns(wanted: pa.Table) -> None:
    table = pa.table({"id": range(len(ROWS)), "mine": ROWS, "tags": [["a"]] * len(ROWS)})
    scores = ac.Scorer().score(table, text="mine")
    assert scores.column_names == ["id", "tags", *wanted.column_names]
    batches = list(ac.Scorer().stream(table.to_batches(max_chunksize=2)[0], text="mine"))
    assert pa.Table.from_batches(batches).equals(scores.slice(0, 2))
    streamed = ac.Scorer().stream(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(2)), text="mine")
    assert pa.Table.from_batches(streamed).combine_chunks().equals(scores.combine_chunks())


def test_short_words_count_with_punctuation_around_them() -> None:
    rows = ["It is I.", "(I think)", "*I* think", "\u201cI think\u201d", "Trust me!", '"My," I, said']
    assert all(value > 0 for value in ac.Scorer(metrics="first_person").score(rows)["first_person"].to_pylist())


def test_lone_surrogates_count_as_invalid_bytes() -> None:
    row = ac.Scorer().score(["good \ud800 day"]).to_pylist()[0]
    assert row["n_invalid_bytes"] == 3
    assert row["vader_compound"] == pytest.approx(0.4404, abs=1e-6)


def test_invalid_bytes_score_as_replacement_characters() -> None:
    raw = [b"good \xff\xfe day", b"\xe2\x82", b"\xf0\x9f\x98", b"ok \xc0\xaf love"]
    scores = ac.Scorer().score(raw)
    assert scores["n_invalid_bytes"].to_pylist() == [2, 2, 3, 2]
    replaced = ac.Scorer().score([text.decode("utf-8", "replace") for text in raw])
    same = [name for name in scores.column_names if name not in ("n_invalid_bytes", "n_bytes")]
    assert scores.select(same).equals(replaced.select(same))


def test_a_string_column_nobody_validated() -> None:
    broken = pa.array([b"good \xff", b"bad"]).view(pa.string())
    assert ac.Scorer().score(broken)["n_invalid_bytes"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "statc"}, "did you mean 'static'"),
        ({"model": "none", "metrics": "valence"}, "needs a model"),
        ({"taxonomy": "ekmann"}, "there are ekman, plutchik, sentiment"),
        ({"metrics": "vader_compond"}, "did you mean 'vader_compound'"),
        ({"unit": "turns"}, "did you mean 'turn'"),
        ({"parts": "thoughts"}, "answer, reasoning, both, whole"),
        ({"roles": "user"}, "unit is turn or conversation"),
        ({"unit": "conversation", "parts": "both"}, "a conversation is one row"),
        ({"unit": "conversation", "roles": "all"}, "a conversation is one row"),
        ({"exclude": "codes"}, "did you mean 'code'"),
        ({"exclude": ["none", "code"]}, "goes alone"),
        ({"metrics": "mirroring"}, "needs unit conversation"),
        ({"unit": "conversation", "model": "none", "metrics": "mirroring"}, "needs a model with valence"),
        ({"backend": "numbaa"}, "did you mean 'numba'"),
        ({"vader": "fixed"}, "exact, corrected"),
        ({"model": "none", "logits": True}, "need a model"),
        ({"threads": 0}, "1 or more"),
    ],
)
def test_settings_are_checked_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ac.UsageError, match=message):
        ac.Scorer(**settings)


class OldFrame:
    """A data frame of pandas before 2.2."""

    def __dataframe__(self) -> None: ...

    def __iter__(self) -> Iterator[str]:
        return iter(["text", "id"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["fine", 3], "text 1 is int"),
        (pa.array([1, 2]), "type int64"),
        (pa.table({"a": ["x"]}), "the columns are: a"),
        (pa.table({"text": ["x"], "vader_pos": [1.0]}), "vader_pos"),
        (object(), "cannot read texts"),
        ({"x", "y"}, "cannot read texts"),
        (OldFrame(), "without the Arrow interface"),
        (pa.table([["x"], [1], [2]], names=["text", "id", "id"]), "two columns of one name"),
    ],
)
def test_sources_are_checked(source: Any, message: str) -> None:
    with pytest.raises(ac.UsageError, match=message):
        ac.Scorer().score(source)


def test_no_rows() -> None:
    assert ac.Scorer().score([]).num_rows == 0
    assert ac.Scorer().score([]).schema.equals(ac.Scorer().schema)
    assert ac.Scorer().score(pa.table({"text": pa.array([], pa.string())})).num_rows == 0
    assert list(ac.Scorer().stream(pa.table({"text": pa.array([], pa.string())}))) == []


def test_provenance_travels_with_the_scores(wanted: pa.Table) -> None:
    settings = json.loads(wanted.schema.metadata[b"affectcore"])
    assert settings == ac.Scorer().provenance()
    assert settings["engine_version"] == ac.__version__
    assert settings["vader"] == "exact"
    assert settings["metrics"]["vader_compound"] == METRICS["vader_compound"].version


def test_metrics_are_chosen() -> None:
    assert ac.Scorer(metrics=["questions", "vader_neg"]).score(["Why? Bad."]).column_names == ["questions", "vader_neg"]
    every = ac.Scorer(metrics=["default", "emonet"], taxonomy=["ekman", "plutchik", "sentiment"]).score(ROWS)
    coarse = [f"{name}_{label}" for name, entry in TAXONOMIES.items() for label in entry.labels]
    assert set(every.column_names) == {*(metric.name for metric in CHOSEN), *coarse, *emonet.NAMES}
    for name in every.column_names:
        assert ac.Scorer(metrics=name).score(ROWS)[name].equals(every[name])


def test_module_function(wanted: pa.Table) -> None:
    assert ac.score(ROWS).equals(wanted)
    assert ac.score(pa.table({"x": ROWS}), text="x", metrics="caps").column_names == ["caps"]


def test_one_scorer_in_many_threads(wanted: pa.Table) -> None:
    scorer = ac.Scorer()
    results: list[pa.Table] = []
    threads = [threading.Thread(target=lambda: results.append(scorer.score(ROWS * 50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result.equals(results[0]) for result in results)
    assert results[0].slice(0, len(ROWS)).equals(wanted)


@given(rows=st.lists(st.one_of(st.none(), documents()), max_size=30), data=st.data())
@settings(max_examples=60)
def test_scores_do_not_depend_on_batching(rows: list[bytes | None], data: st.DataObject) -> None:
    """Blocks, chunks, slices, threads and neighbours change nothing."""
    array = pa.array(rows, pa.large_binary())
    whole = ac.Scorer(threads=1).score_array(array)
    block = data.draw(st.sampled_from([1, 7, 64, 1000]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    bounds = list(zip([0, *cuts], [*cuts, len(rows)]))
    parts = pa.chunked_array([array.slice(a, b - a) for a, b in bounds], array.type)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(arrow.BLOCK_BYTES, "numba", block)
        found = ac.Scorer(threads=data.draw(st.integers(1, 4))).score(parts)
    assert found.combine_chunks().equals(pa.Table.from_batches([whole]).combine_chunks())


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "in.parquet": lambda t, p: pq.write_table(t, p, row_group_size=7),
    "plain.parquet": lambda t, p: pq.write_table(t, p, use_dictionary=False, compression="none", data_page_size=64),
    "in.arrow": lambda t, p: feather.write_feather(t, p, compression="lz4", chunksize=5),
    "in.jsonl": lambda t, p: p.write_text("".join(json.dumps(r) + "\n" for r in t.to_pylist()), encoding="utf-8"),
    "in.csv": lambda t, p: pv.write_csv(t, p),
}


@given(rows=st.lists(texts(), min_size=1, max_size=25), batch_bytes=st.sampled_from([1, 100, 1 << 20]))
@settings(max_examples=15)
def test_scores_do_not_depend_on_the_file_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], batch_bytes: int
) -> None:
    # A CSV cell cannot tell "\r\n" from "\n", nor an empty text from a missing one.
    rows = [row.replace("\r", " ").replace("\0", "") or "x" for row in rows]
    wanted = ac.Scorer().score(rows)
    folder = tmp_path_factory.mktemp("formats")
    table = pa.table({"text": rows, "k": range(len(rows))})
    for name, write in WRITERS.items():
        write(table, folder / name)
        ac.score_dataset(
            [folder / name], folder / f"{name}.out.parquet", scorer=ac.Scorer(), batch_bytes=batch_bytes, threads=2
        )
        found = pq.read_table(folder / f"{name}.out.parquet")
        assert found["k"].to_pylist() == list(range(len(rows))), name
        assert found.select(wanted.column_names).equals(wanted), name


def test_same_input_same_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [r or "" for r in ROWS] * 1000}), tmp_path / "in.parquet")
    for threads in (1, 3):
        ac.score_dataset(
            [tmp_path / "in.parquet"], tmp_path / f"{threads}.parquet", scorer=ac.Scorer(), threads=threads
        )
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_one_document_of_100_mb(tmp_path: Path, suffix: str) -> None:
    text = "I love this great answer, but it is not good enough! 😀 " * 1_800_000
    size = len(text.encode())
    assert size > 100_000_000
    path = tmp_path / f"long.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"text": [text, "short", None]}), path)
    else:
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in (text, "short", None)), encoding="utf-8")
    ac.score_dataset([path], tmp_path / "out.parquet", scorer=ac.Scorer())
    scores = pq.read_table(tmp_path / "out.parquet")
    assert scores["n_bytes"].to_pylist() == [size, 5, None]
    assert scores["n_words"][0].as_py() == 1_800_000 * 12
    assert scores["vader_compound"][0].as_py() == 1.0
    assert np.isfinite(scores["hedges"][0].as_py())
