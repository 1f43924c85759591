"""Small valid files of every format, the command lines that read them, and mutations of their bytes."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

DUMPS = ("parquet", "ipc", "stream", "feather", "jsonl", "csv", "tsv", "jsonl.gz", "csv.zst")
OTHERS = ("scores", "cost", "key")
KINDS = (*DUMPS, *OTHERS)
_WORDS = (
    "I love this, it is wonderful! terrible hate awful pain not good very sad happy :) the cat sat on a mat and "
    "we went home; why? \U0001f600 caf\u00e9 na\u00efve 日本 so sorry for the delay, great work <think> hmm </think> OK"
).split(" ")
_UNITS = ("document", "segment", "turn", "conversation")


@dataclass(frozen=True)
class Made:
    """An undamaged file and the command that reads it.

    Parameters
    ----------
    name
        Of the file; the extension tells the format.
    data
        Its bytes.
    ranges
        Bytes of its structure (offsets, metadata), which mutations favour.
    command
        Arguments of the command line: FILE stands for the file, OUT for a folder for what is written.
    arrow
        Whether a trusted reader can say what it holds: Arrow or Parquet.
    lines
        Of formats of lines, each row's line by the row's id.
    beside
        Other files of the folder, by name.
    plain
        Of a dump, its bytes before it was compressed as a whole.
    """

    name: str
    data: bytes
    ranges: tuple[tuple[int, int], ...]
    command: tuple[str, ...]
    arrow: bool = False
    lines: tuple[tuple[Any, bytes], ...] = ()
    beside: tuple[tuple[str, bytes], ...] = ()
    plain: bytes = b""

    def option(self, name: str, default: str = "") -> str:
        """Return the value of an option of the command."""
        return self.command[self.command.index(name) + 1] if name in self.command else default


def make(kind: str, seed: int) -> Made:
    """Return an undamaged file of a kind of `KINDS`."""
    rng = random.Random(f"{kind} {seed}")
    if kind == "scores":
        return _scores(rng, seed)
    if kind == "cost":
        return _cost(rng)
    if kind == "key":
        return _key(rng, seed)
    return _dump(kind, rng, seed)


# -- dumps ---------------------------------------------------------------------------------------------------------


def _text(rng: random.Random, longest: int = 25) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(0, longest)))


def _dump(kind: str, rng: random.Random, seed: int) -> Made:
    base = kind.split(".")[0]
    arrow = base in ("parquet", "ipc", "stream", "feather")
    shape = ("plain", "chat", "table")[seed % 3] if base not in ("csv", "tsv") else ("plain", "table")[seed % 2]
    n = rng.randint(12, 80)
    columns: dict[str, Any] = {"id": pa.array(range(1000, 1000 + n), pa.int64())}
    columns["model"] = pa.array([f"m{rng.randint(0, 3)}" for _ in range(n)])
    if shape == "chat":
        columns["messages"] = _chats(rng, n, arrow and base != "parquet")
    else:
        texts = [None if rng.random() < 0.05 and arrow else _text(rng) for _ in range(n)]
        wide = rng.choice([pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
        if base == "parquet" or not arrow:
            wide = pa.string()
        columns["text"] = pa.array([t.encode() if t and pa.types.is_binary(wide) else t for t in texts], wide)
        if arrow and rng.random() < 0.15:
            columns["text"] = columns["text"].cast(pa.string()).dictionary_encode()
    if shape == "table":
        sizes = [rng.randint(1, 6) for _ in range(n)]
        columns["conversation_id"] = pa.array([f"c{i}" for i, k in enumerate(sizes) for _ in range(k)][:n])
        columns["role"] = pa.array([rng.choice(["user", "assistant", "assistant"]) for _ in range(n)])
    if arrow:
        columns |= _kept(rng, n, base)
    table = pa.table(columns)
    units = [u for u in _UNITS if u != "conversation" or shape != "plain"]
    unit = units[seed // 3 % len(units)]
    parts = "answer" if unit == "conversation" or rng.random() < 0.5 else "both"
    out = "OUT/out.jsonl" if rng.random() < 0.15 else "OUT/out.parquet"
    command = ["score", "FILE", "-o", out, "--unit", unit, "--parts", parts, "--model", "none", "-q", "--threads", "1"]
    if "tags" in columns and rng.random() < 0.3:
        command += ["--keep", "id,tags,model"]
    data, lines = _written(base, table, rng)
    name = {"ipc": "f.arrow", "stream": "f.arrows"}.get(kind, f"f.{kind}")
    ranges = ((0, 20),) if kind != base else _ranges(base, data)
    return Made(name, _packed(name, data), ranges, tuple(command), arrow, lines, plain=data)


def _chats(rng: random.Random, n: int, wide: bool) -> pa.Array:
    def message(role: str) -> dict[str, Any]:
        told = {"reasoning_content": _text(rng, 5) if rng.random() < 0.3 else None} if thinking else {}
        return {"role": role, "content": _text(rng, 12), **told}

    thinking = rng.random() < 0.5
    rows = [[message(("user", "assistant")[k % 2]) for k in range(rng.randint(1, 6))] for _ in range(n)]
    if wide and rng.random() < 0.3:
        role = pa.dictionary(pa.int8(), pa.string())
        kind = pa.large_list(pa.struct([("role", role), ("content", pa.large_string())]))
        return pa.array([[{k: m[k] for k in ("role", "content")} for m in row] for row in rows], kind)
    return pa.array(rows)


def _kept(rng: random.Random, n: int, base: str) -> dict[str, Any]:
    """Return some columns to keep, of many types."""
    day = datetime.datetime(2026, 1, 1)
    words = [rng.choice([None, *_WORDS]) for _ in range(n)]
    numbers = [rng.choice([None, rng.random()]) for _ in range(n)]
    some: dict[str, Callable[[], Any]] = {
        "score": lambda: pa.array(numbers),
        "flag": lambda: pa.array([rng.choice([True, False, None]) for _ in range(n)]),
        "kind": lambda: pa.array(words).dictionary_encode(),
        "note": lambda: pa.array(words, pa.large_string()),
        "raw": lambda: pa.array([w and w.encode() for w in words]),
        "when": lambda: pa.array([day + datetime.timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "UTC")),
        "date": lambda: pa.array([day.date()] * n, pa.date32()),
        "price": lambda: pa.array([Decimal(f"{i}.25") for i in range(n)], pa.decimal128(9, 2)),
        "code": lambda: pa.array([b"abcd"] * n, pa.binary(4)),
        "tags": lambda: pa.array([[w, w] for w in words]),
    }
    if base != "parquet":
        ends = sorted({*rng.sample(range(1, n), 3), n})
        some["seen"] = lambda: pa.array(words, pa.string_view())
        some["blob"] = lambda: pa.array([w and w.encode() * 4 for w in words], pa.binary_view())
        runs = pa.array(words[: len(ends)])
        some["runs"] = lambda: pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), runs)
    return {name: some[name]() for name in rng.sample(sorted(some), 4)}


def _written(base: str, table: pa.Table, rng: random.Random) -> tuple[bytes, tuple[tuple[Any, bytes], ...]]:
    """Return a file's bytes, and its lines by id where it has lines."""
    sink = io.BytesIO()
    step = rng.randint(5, 40)
    if base == "parquet":
        pq.write_table(
            table,
            sink,
            row_group_size=step,
            compression=rng.choice(["none", "snappy", "zstd"]),
            use_dictionary=rng.random() < 0.5,
            data_page_version=rng.choice(["1.0", "2.0"]),
            write_page_checksum=rng.random() < 0.2,
        )
    elif base == "ipc":
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.unify_dictionaries(), max_chunksize=step)
    elif base == "stream":
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=step)
    elif base == "feather":
        feather.write_feather(table, sink, compression=rng.choice(["lz4", "zstd"]), chunksize=step)
    else:
        rows = table.to_pylist()
        encode = partial(json.dumps, ensure_ascii=rng.random() < 0.3)
        separator = "\t" if base == "tsv" else ","
        made = [(encode(r) if base == "jsonl" else separator.join(map(_field, r.values()))).encode() for r in rows]
        head = [] if base == "jsonl" else [separator.join(table.column_names).encode()]
        lines = tuple((row.get("id"), line) for row, line in zip(rows, made))
        return b"".join(line + b"\n" for line in [*head, *made]), lines
    return sink.getvalue(), ()


def _field(value: Any) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\n\t;') else text


def _ranges(base: str, data: bytes) -> tuple[tuple[int, int], ...]:
    """Return the parts of a file that are structure: footers, the metadata of messages and what lies behind it."""
    if base == "parquet":
        footer = struct.unpack("<I", data[-8:-4])[0]
        pages = [i for i in range(len(data) - footer) if data.startswith(b"\x15", i)]  # most headers begin so
        return ((len(data) - 8 - footer, len(data)), *((i, i + 30) for i in pages[:60]))
    if base in ("ipc", "stream", "feather"):
        found, at = [], data.find(b"\xff\xff\xff\xff")
        while at >= 0:
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            end = min(at + 8 + size, len(data))
            found += [(at, end), (end, min(end + 512, len(data)))]  # what is first in a body is often offsets
            at = data.find(b"\xff\xff\xff\xff", at + 8)
        return (*found, (max(0, len(data) - 400), len(data)))
    marks = set(b'{}":,\n[]') if base == "jsonl" else set(b'",\t\n')
    return tuple((i, i + 1) for i, byte in enumerate(data) if byte in marks)


# -- what compare, quiz and eqbench read ---------------------------------------------------------------------------


def _score_table(rng: random.Random, n: int = 60) -> pa.Table:
    models = pa.array([f"model-{i % 3}" for i in range(n)])
    return pa.table(
        {
            "model": models.dictionary_encode() if rng.random() < 0.3 else models,
            "prompt_id": pa.array([f"p{i // 3}" for i in range(n)]),
            "distress": pa.array([None if i == 7 else round(rng.random(), 3) for i in range(n)], pa.float64()),
            "n_words": pa.array([rng.randint(1, 99) for _ in range(n)], pa.int32()),
        }
    )


def _scores(rng: random.Random, seed: int) -> Made:
    base = ("ipc", "parquet", "feather", "stream", "jsonl", "csv")[seed % 6]
    table = _score_table(rng)
    if base in ("jsonl", "csv"):
        table = table.set_column(0, "model", table["model"].cast(pa.string()))
    data = _csv(table) if base == "csv" else _written(base, table, rng)[0]
    name = {"ipc": "s.arrow", "stream": "s.arrows"}.get(base, f"s.{base}")
    command = ["compare", "FILE", "--metric", "distress", "--resamples", "50", "-o", "OUT/out.json"]
    if rng.random() < 0.3:
        command += ["--where", "n_words>=5"]
    return Made(name, data, _ranges(base, data), tuple(command), base not in ("jsonl", "csv"))


def _csv(table: pa.Table) -> bytes:
    rows = [table.column_names, *(list(row.values()) for row in table.to_pylist())]
    return b"".join(",".join(map(_field, row)).encode() + b"\n" for row in rows)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _cost(rng: random.Random) -> Made:
    data = "model,price\n" + "".join(f"model-{i},{rng.random():.3f}\n" for i in range(3))
    command = ("compare", "OUT/s.parquet", "--metric", "distress", "--resamples", "50", "--cost", "FILE")
    beside = (("s.parquet", _parquet(_score_table(rng))),)
    return Made("cost.csv", data.encode(), _ranges("csv", data.encode()), command, beside=beside)


def _key(rng: random.Random, seed: int) -> Made:
    base = ("json", "jsonl", "csv", "tsv", "parquet", "questions", "result", "answers")[seed % 8]
    asked_of = [(f"m{m}", str(q)) for m in range(2) for q in range(6)]
    answers = [{"model": model, "question_id": q, "answer": rng.choice("ABCD")} for model, q in asked_of]
    given = "".join(json.dumps(row) + "\n" for row in answers).encode()
    key = [{"id": str(q), "answer": rng.choice("ABCD"), "weight": 1.5, "options": list("wxyz")} for q in range(6)]
    flat = pa.Table.from_pylist([{"id": r["id"], "answer": r["answer"], "weight": r["weight"]} for r in key])
    quiz = ("quiz", "OUT/answers.jsonl", "--key", "FILE", "--resamples", "50")
    if base in ("questions", "result"):
        entry = {f"emotion{i}{tail}": value for i in range(1, 5) for tail, value in (("", f"E{i}"), ("_score", "3"))}
        asked = json.dumps({str(q): {"prompt": "?", "reference_answer_fullscale": entry} for q in range(4)}).encode()
        said = "First pass scores:\n" + "\n".join(f"E{i}: {rng.randint(0, 9)}" for i in range(1, 5))
        answered = {"raw_inference": {str(q): said for q in range(4)}}
        result = {"model_path": "maker/a", "eqbench_version": "v2", "raw_results": {"1": answered}}
        texts = json.dumps(result).encode()
        if base == "questions":
            command = ("eqbench", "OUT/result.json", "--questions", "FILE", "--resamples", "50")
            return Made("q.json", asked, _ranges("jsonl", asked), command, beside=(("result.json", texts),))
        command = ("eqbench", "FILE", "--questions", "OUT/q.json", "--resamples", "50")
        return Made("result.json", texts, _ranges("jsonl", texts), command, beside=(("q.json", asked),))
    if base == "answers":
        sink = io.BytesIO()
        table = pa.Table.from_pylist(answers)
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
        command = ("quiz", "FILE", "--key", "OUT/key.json", "--resamples", "50")
        beside = (("key.json", json.dumps(key).encode()),)
        return Made("answers.arrow", sink.getvalue(), _ranges("ipc", sink.getvalue()), command, beside=beside)
    if base == "parquet":
        data = _parquet(flat)
    elif base in ("csv", "tsv"):
        data = _csv(flat).replace(b",", b"\t" if base == "tsv" else b",")
    else:
        data = json.dumps(key).encode() if base == "json" else "".join(json.dumps(r) + "\n" for r in key).encode()
    kind = "jsonl" if base == "json" else base
    return Made(f"key.{base}", data, _ranges(kind, data), quiz, beside=(("answers.jsonl", given),))


# -- mutations -----------------------------------------------------------------------------------------------------

_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 30, 1 << 24, -114, 50_000_000)


def mutate(made: Made, seed: str) -> bytes:
    """Return the bytes of a file with one to three mutations, most of them where its structure is."""
    rng = random.Random(seed)
    packed = made.name.endswith((".gz", ".zst")) and rng.random() < 0.4  # damaged before it was compressed
    data = bytearray(made.plain if packed else made.data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if len(data) < 4:
            break
        begin, end = rng.choice(made.ranges) if made.ranges and rng.random() < 0.65 and not packed else (0, len(data))
        at = min(rng.randrange(begin, max(end, begin + 1)), len(data) - 1)
        rng.choices((_flip, _byte, _number, _run, _zero, _splice, _cut, _insert, _swap), _WEIGHTS)[0](data, at, rng)
    return _packed(made.name, bytes(data)) if packed else bytes(data)


def _packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data, 6, mtime=0)
    return pa.compress(data, "zstd", asbytes=True) if name.endswith(".zst") else data


_WEIGHTS = (8, 4, 6, 2, 2, 2, 2, 1, 1)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x0A, 0x2C, 0x7B, rng.randrange(256)])


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    width = rng.choice([4, 4, 8])
    at -= at % width
    there = int.from_bytes(data[at : at + width], "little", signed=True)
    value = rng.choice([*_NUMBERS, there + 1, there - 1, -there, there * 2])
    if at + width <= len(data):
        data[at : at + width] = (value % (1 << (8 * width))).to_bytes(width, "little")


def _run(data: bytearray, at: int, rng: random.Random) -> None:
    end = min(at + rng.randint(2, 64), len(data))
    data[at:end] = rng.randbytes(end - at)


def _zero(data: bytearray, at: int, rng: random.Random) -> None:
    end = min(at + rng.randint(2, 128), len(data))
    data[at:end] = bytes(end - at)


def _splice(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.randint(2, 256)
    source = rng.randrange(len(data))
    piece = data[source : source + size]
    data[at : at + len(piece)] = piece


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    if rng.random() < 0.5:
        del data[at:]
    else:
        del data[at : at + rng.randint(1, 64)]


def _insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randint(1, 16))


def _swap(data: bytearray, at: int, rng: random.Random) -> None:
    other = rng.randrange(len(data))
    data[at], data[other] = data[other], data[at]
