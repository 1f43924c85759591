"""Damage manifests and see what --resume, --overwrite and compare make of it.

    python bench/fuzz_manifests.py --mutations 300

A mutation changes bytes, values, types or fields, or drops, doubles or swaps lines; some are signed again, so that
their checksums are right, and some are of the first version, which had none; or something else lies in the manifest's
place (a link, a folder, a pipe). Then a run or a comparison follows, in a process of its own. It must end in scores or
in an error that affectcore raises on purpose: no signal, no hang, no other exception. Nothing outside the output may
change, nor may other people's files in it. What compare reads afterwards must be rows of the inputs as they are, none
twice; all of them where a run ended well. Prints counts, and what was wrong; exit code 1 then. Only for systems with
fork.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import AffectcoreError
from affectcore.io.scorefiles import open_scores
from affectcore.pipeline.run import score_dataset

SECONDS = 30  # for one run of some hundred short rows
VALUES: list[Any] = [
    None, True, False, -1, 1 << 63, 10**400, 1.5, float("nan"), "", "a\0b", ".", "..", "../../sentinel", "/etc/passwd",
    "a/b", "x" * 300, "\udcff", "\ud800", "\x1b[31m", [], ["a"], {}, {"a": {}}, [[[[]]]],
]  # fmt: skip


class Lengths:
    """A scorer that is small, and real: how many bytes a text has."""

    schema = pa.schema([("n_len", pa.int32())], metadata={"affectcore": '{"scorer": "lengths"}'})

    def score_units(self, texts: Any) -> tuple[Any, Any]:
        length = pc.binary_length(texts.cast(pa.large_binary())).cast(pa.int32())
        return pa.RecordBatch.from_arrays([length], schema=self.schema), None

    def provenance(self) -> dict[str, str]:
        return {"scorer": "lengths"}


def table(n: int, first: int) -> pa.Table:
    ids = list(range(first, first + n))
    return pa.table({"id": ids, "text": [f"{'e' * (i % 5)} text {i}" for i in ids]})


def score(home: Path, out: Path, **options: Any) -> None:
    score_dataset(home / "dumps", out, scorer=Lengths(), batch_bytes=100, part_bytes=200, threads=1, **options)


def in_child(action: Callable[[], Any]) -> tuple[int, Any]:
    """Run something in a process of its own; return its exit code, negative for a signal, and what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(SECONDS)
        code, result = 0, None
        try:
            result = action()
        except AffectcoreError as error:
            code, result = 1, f"{type(error).__name__}: {error}"
        except BaseException:
            code, result = 2, traceback.format_exc()
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps(result))
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(text or "null")


def rows(out: Path) -> list[list[int]]:
    read = open_scores(out).batches(["id"], ["n_len"])
    return sorted([row["id"], int(row["n_len"])] for batch in read for row in batch.to_pylist())


# -- what is there ---------------------------------------------------------------------------------------------------


def prepare(home: Path) -> list[list[int]]:
    """Write dumps, scores of them as a folder and as a file, and other people's files; return the right rows."""
    dumps = home / "dumps"
    dumps.mkdir(parents=True)
    data = {"a": table(120, 0), "b": table(60, 1000), "c": table(30, 2000)}
    for name, part in data.items():
        (dumps / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part.to_pylist()))
    (home / "sentinel").write_text("outside")
    (home / "sentinel.parquet").write_text("outside")
    for name in ("folder", "file"):
        (home / name).mkdir()
    for out in (home / "folder" / "out", home / "file" / "out.parquet"):
        assert in_child(lambda out=out: score(home, out))[0] == 0
    (home / "folder" / "out" / "mine-00000.parquet").write_bytes(b"mine")
    (home / "folder" / "out" / "notes.txt").write_bytes(b"mine")
    wanted = pa.concat_tables(data.values()).to_pylist()
    return sorted([row["id"], len(row["text"])] for row in wanted)


def place_of(home: Path, kind: str) -> tuple[Path, Path]:
    """Return the output and its manifest."""
    if kind == "folder":
        return home / "folder" / "out", home / "folder" / "out" / "_manifest.jsonl"
    return home / "file" / "out.parquet", home / "file" / ".out.parquet.manifest.jsonl"


def foreign(home: Path, out: Path) -> dict[str, bytes]:
    """Return everything that no run may change, by path."""
    found = {}
    for path in sorted(home.rglob("*")):
        inside = out in (path, *path.parents) or (out.parent == path.parent and path.name.startswith((".", out.name)))
        if path.is_symlink() or not path.is_file() or (inside and path.name not in ("mine-00000.parquet", "notes.txt")):
            continue
        found[str(path.relative_to(home))] = path.read_bytes()
    return found


# -- mutations -------------------------------------------------------------------------------------------------------


def sign(entry: dict[str, Any]) -> dict[str, Any]:
    entry = {name: value for name, value in entry.items() if name != "check"}
    return {**entry, "check": hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:8]}


def first_version(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [{k: v for k, v in line.items() if k != "check"} for line in lines if line["kind"] in ("run", "part")]
    kept[0]["version"] = 1
    for line in kept[1:]:
        line.pop("sha256", None)
        line.pop("input_sha256", None)
    return kept


def mutate(manifest: Path, draw: random.Random, home: Path) -> str:
    """Damage a manifest and say how."""
    data = manifest.read_bytes()
    kind = draw.choice(["bytes", "cut", "value", "value", "signed", "signed", "field", "lines", "lines", "place"])
    if kind == "bytes":
        changed = bytearray(data)
        for _ in range(draw.choice([1, 1, 3, 20])):
            at = draw.randrange(len(changed))
            changed[at : at + draw.choice([0, 1, 1, 4])] = draw.randbytes(draw.choice([0, 1, 1, 4]))
        manifest.write_bytes(bytes(changed))
        return kind
    if kind == "cut":
        manifest.write_bytes(data[: draw.randrange(len(data))])
        return kind
    if kind == "place":
        what = draw.choice(["link", "folder", "pipe", "empty", "deep", "nothing"])
        manifest.unlink()
        if what == "link":
            manifest.symlink_to(draw.choice([home / "sentinel", home / "nowhere", manifest]))
        elif what == "folder":
            manifest.mkdir()
        elif what == "pipe":
            os.mkfifo(manifest)
        elif what != "nothing":
            manifest.write_bytes(b"" if what == "empty" else b"[" * 200_000 + b"\n")
        return f"{kind}: {what}"
    lines = [json.loads(line) for line in data.splitlines()]
    old = draw.random() < 0.4
    lines = first_version(lines) if old else lines
    if kind == "lines":
        at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        what = draw.choice(["drop", "double", "swap", "shuffle"])
        if what == "drop":
            del lines[at]
        elif what == "double":
            lines.insert(other, lines[at])
        elif what == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        else:
            draw.shuffle(lines)
    else:
        line = draw.choice(lines)
        what = draw.choice([name for name in line if name != "check"] if kind == "signed" else list(line))
        if kind == "field":
            line[draw.choice(["input", "note", "kind", ""])] = line.pop(what)
        else:
            value = line[what]
            like = [v for v in (0, 1, 7, 5000) if type(value) is int and kind == "value"]
            like += [o[what] for o in lines if o.get(what, value) != value] if kind == "value" else []
            line[what] = draw.choice([*VALUES, *like, *like])
        if kind == "signed" and not old:
            lines = [sign(entry) for entry in lines]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    manifest.write_text(text)
    return f"{kind}{' (first version)' if old else ''}: {what}"


# -- one case --------------------------------------------------------------------------------------------------------


def fault(template: Path, wanted: list[list[int]], seed: int) -> tuple[str, str]:
    """Run one case; return what it was and how it ended, and what is wrong with that."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="affectcore-fuzz-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        # Outputs know their inputs by path and time: the copy takes the place of the original.
        shutil.copytree(template, home, dirs_exist_ok=True, symlinks=True)
        return _case(home, wanted, draw)


def _case(home: Path, wanted: list[list[int]], draw: random.Random) -> tuple[str, str]:
    out, manifest = place_of(home, draw.choice(["folder", "folder", "file"]))
    text = manifest.read_bytes().replace(b"@HOME@", str(home).encode())
    lines = [json.loads(line) for line in text.splitlines()]
    manifest.write_text("".join(json.dumps(sign(line) if "check" in line else line) + "\n" for line in lines))
    how = mutate(manifest, draw, home)
    action = draw.choice(["resume", "overwrite", "compare"])
    before = foreign(home, out)
    if action == "compare":
        code, result = in_child(lambda: rows(out))
    else:
        code, result = in_child(lambda: score(home, out, **{action: True}))
    ended = {0: "well", 1: "error"}.get(code, str(code))
    case = f"{action} of {out.name}, {how}: {ended}"
    if code not in (0, 1):
        return case, f"exit code {code}: {result}"
    if foreign(home, out) != before:
        return case, "other people's files have changed"
    if action != "compare":
        again, result = in_child(lambda: rows(out))
        if again not in (0, 1):
            return case, f"then compare ends with {again}: {result}"
        if code == 0 and (again, result) != (0, wanted):
            return case, f"then compare reads {result if again else len(result)}, which are not the rows"
        code = again
    if code == 0 and (len({row[0] for row in result}) != len(result) or any(row not in wanted for row in result)):
        return case, "compare reads rows that are wrong, or twice"
    left = [p.name for p in out.parent.rglob(".*") if stat.S_ISREG(p.lstat().st_mode) and p != manifest]
    return case, f"{left} stay" if left else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    counts: Counter[str] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="affectcore-fuzz-") as folder:
        template = Path(folder, "home")
        wanted = prepare(template)
        for kind in ("folder", "file"):
            manifest = place_of(template, kind)[1]
            manifest.write_bytes(manifest.read_bytes().replace(str(template).encode(), b"@HOME@"))
        for seed in range(options.seed, options.seed + options.mutations):
            case, wrong = fault(template, wanted, seed)
            counts[case.partition(" ")[0] + " ended " + case.rpartition(": ")[2]] += 1
            if wrong:
                bad += 1
                print(f"seed {seed}, {case}: {wrong}", flush=True)
    told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    print(f"{options.mutations} mutations: {told}; {bad} wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
