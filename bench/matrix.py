"""The main job with the lowest and the newest declared version of every dependency, on every Python that is declared.

    python bench/matrix.py            # make matrix: every Python there is, and pyarrow's versions in between
    python bench/matrix.py --quick    # one old and one new environment

An environment holds nothing but the core install: the wheel, and its dependencies in the versions of its row. Its job
is `doctor`, `demo`, help, `score` of chats and kept columns from JSONL, Parquet and IPC in every unit to Parquet, IPC
and JSONL, with models static and none, and `compare` to JSON, Markdown and CSV. Every score must be that of the first
environment: whole numbers and texts the same, others within TOLERANCE, since compilers of different releases may round
the last digits of a sigmoid or a sum otherwise. Environments and compiled kernels stay in build/matrix for the next
time (some 6 GB for four Pythons). Needs only the standard library; Pythons are found on the PATH and with pyenv, uv and
py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "matrix"
TOLERANCE = 2e-6
"""Largest difference of a score, absolute or relative to it, whichever is larger."""

_PIP = ("-m", "pip", "--disable-pip-version-check")
_ROWS = 200
_RUNS = tuple(
    (unit, source, target, model)
    for unit, kind in (("document", "rows"), ("segment", "rows"), ("turn", "chats"), ("conversation", "chats"))
    for source, target, model in (
        (f"{kind}.jsonl", "parquet", "static"),
        (f"{kind}.parquet", "arrow", "static"),
        (f"{kind}.arrow", "jsonl", "static"),
        (f"{kind}.parquet", "parquet", "none"),
    )
)
"""Unit, input, format of the output, and model of each run of `score`."""


class Wheel(NamedTuple):
    """What is installed, and what it declares."""

    path: Path
    pythons: list[str]  # 3.10, ...
    lowest: dict[str, str]  # versions by name


class Row(NamedTuple):
    """An environment to be."""

    python: str
    what: str
    pins: dict[str, str]  # the others are the newest


def main() -> int:
    """Run the matrix; the exit code is 1 if an environment failed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="one old and one new environment")
    quick = arguments.parse_args().quick
    wheel = build()
    pythons = {version: path for version in wheel.pythons if (path := find(version))}
    notes = [f"Python {version}: not on this machine" for version in wheel.pythons if version not in pythons]
    if not pythons:
        print(f"no Python of {', '.join(wheel.pythons)} was found")
        return 1
    first: Path | None = None
    failed = 0
    print(f"{'python':<7} {'versions':<72} {'result':<44} {'seconds':>7}", flush=True)
    for row in rows(wheel, pythons, quick):
        started = time.monotonic()
        try:
            python, versions = environment(row, pythons[row.python], wheel, notes)
            out = python.parents[1] / "out"
            run_job(python, out)
            result = "ok" if first is None else compare(first, out)
            first = first or out
        except FailedError as error:
            versions, result = row.what, f"FAILED: {error}"
        failed += result.startswith("FAILED")
        print(f"{row.python:<7} {versions:<72} {result:<44} {time.monotonic() - started:7.0f}", flush=True)
    print(f"skipped: {'; '.join(notes) or 'nothing'}")
    return 1 if failed else 0


class FailedError(Exception):
    """An environment cannot be made, or its job fails or gives other scores."""


# -- environments ----------------------------------------------------------------------------------------------------


def build() -> Wheel:
    """Build the wheel, once for all, and read what it declares."""
    folder = PLACE / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    # Isolated, so that the build needs nothing of the Python that runs this; from a copy, so that nothing is left here.
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "__pycache__", ".*_cache", "results")
    shutil.rmtree(PLACE / "source", ignore_errors=True)
    shutil.copytree(ROOT, PLACE / "source", symlinks=True, ignore=ignored)
    call(sys.executable, *_PIP, "wheel", "--quiet", "--no-deps", "-w", str(folder), str(PLACE / "source"))
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    pythons = [
        found[1]
        for line in metadata.get_all("Classifier", [])
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    lowest = {}
    for line in metadata.get_all("Requires-Dist", []):
        if "extra ==" not in line and (found := re.match(r"([\w-]+).*?>=([\w.]+)", line)):
            lowest[found[1]] = found[2]
    return Wheel(path, pythons, lowest)


def find(version: str) -> Path | None:
    """Return the interpreter of a Python version, if there is one that can make environments."""
    candidates: list[list[str]] = [[f"python{version}"]]
    root = _output("pyenv", "root")
    if root:
        candidates += [[str(path)] for path in sorted(Path(root, "versions").glob(f"{version}.*/bin/python"))]
    found = _output("uv", "python", "find", version)
    candidates += [[found]] if found else []
    candidates += [["py", f"-{version}"], ["python3"], ["python"]]
    ask = "import ensurepip, sys, venv; print(sys.executable, '%d.%d' % sys.version_info[:2])"
    for command in candidates:
        path, _, has = (_output(*command, "-c", ask) or "").rpartition(" ")
        if has == version:
            return Path(path)
    return None


def rows(wheel: Wheel, pythons: dict[str, Path], quick: bool) -> Iterator[Row]:
    """Yield the environments; the others are compared with the first."""
    lowest, newest = wheel.lowest, list(pythons)[-1]
    yield Row(newest, "newest", {})
    if quick:
        yield Row(next(iter(pythons)), "lowest", dict(lowest))
        return
    for number, (version, python) in enumerate(pythons.items()):
        yield Row(version, "lowest", dict(lowest))
        if number == 0:  # on one Python every release of pyarrow in between
            for major in range(int(lowest["pyarrow"].partition(".")[0]) + 1, int(_newest_major(python, "pyarrow"))):
                yield Row(version, f"pyarrow {major}", {"pyarrow": f"{major}.*"})
        if version != newest:
            yield Row(version, "newest", {})


def environment(row: Row, python: Path, wheel: Wheel, notes: list[str]) -> tuple[Path, str]:
    """Make an environment, or take the one of an earlier time; return its Python and its versions."""
    folder = PLACE / f"{row.python}-{re.sub('[^0-9a-z.]+', '-', row.what)}"
    inside = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    digest = hashlib.sha256(wheel.path.read_bytes()).hexdigest()
    wanted = f"{json.dumps(row.pins)}\n{digest}\n"
    done = folder / "installed.txt"
    pins = dict(row.pins)
    if not done.exists() or done.read_text().splitlines()[0] != wanted.splitlines()[0]:
        shutil.rmtree(folder, ignore_errors=True)
        call(str(python), "-m", "venv", str(folder))
    elif done.read_text() == wanted:
        return inside, _versions(inside, wheel)
    if row.what == "lowest":
        for name, version in wheel.lowest.items():
            pins[name] = _lowest_wheel(inside, name, version)
            if _key(pins[name]) != _key(version):
                notes.append(f"{name} from {version} to below {pins[name]} on Python {row.python}: no wheels")
    only = ["install", "--quiet", "--only-binary", ":all:", "--force-reinstall", "--no-deps"]
    requirements = [f"{name}=={version}" for name, version in pins.items()]
    call(str(inside), *_PIP, "install", "--quiet", "--only-binary", ":all:", str(wheel.path), *requirements)
    call(str(inside), *_PIP, *only, str(wheel.path))  # the version is the same, the code may be another
    done.write_text(wanted)
    return inside, _versions(inside, wheel)


def _lowest_wheel(python: Path, name: str, version: str) -> str:
    """Return the lowest version of a package, from one on, that has a wheel for a Python."""
    listed = _output(str(python), *_PIP, "index", "versions", name) or ""
    known = re.search(r"Available versions: (.*)", listed)
    versions = sorted((v.strip() for v in known[1].split(",")), key=_key) if known else []
    for candidate in (v for v in versions if _key(v) >= _key(version)):
        dry = ["install", "--quiet", "--dry-run", "--no-deps", "--only-binary", ":all:", f"{name}=={candidate}"]
        if subprocess.run([str(python), *_PIP, *dry], capture_output=True).returncode == 0:
            return candidate
    raise FailedError(f"no wheel of {name} >= {version}")


def _newest_major(python: Path, name: str) -> str:
    listed = _output(str(python), *_PIP, "index", "versions", name) or ""
    found = re.match(r"\S+ \((\d+)", listed)
    if not found:
        raise FailedError(f"the versions of {name} cannot be listed")
    return found[1]


def _key(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in re.findall(r"\d+", version)]
    return tuple(parts + [0] * (4 - len(parts)))


def _versions(python: Path, wheel: Wheel) -> str:
    code = "import sys; from importlib.metadata import version; print(*[version(n) for n in sys.argv[1:]])"
    found = call(str(python), "-c", code, *wheel.lowest).split()
    return " ".join(f"{name} {version}" for name, version in zip(wheel.lowest, found))


# -- the job ---------------------------------------------------------------------------------------------------------


def run_job(python: Path, out: Path) -> None:
    """Run the job in an environment, into a fresh folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    dumps = PLACE / "dumps"
    if not (dumps / "chats.parquet").exists():
        dumps.mkdir(parents=True, exist_ok=True)
        call(str(python), "-I", "-c", _WRITE_DUMPS, str(dumps), str(_ROWS))
    env = {**os.environ, "NUMBA_CACHE_DIR": str(python.parents[1] / "kernels")}
    env = {k: v for k, v in env.items() if k not in ("PYTHONPATH", "PYTHONHOME") and not k.startswith("AFFECTCORE_")}

    def affectcore(*arguments: str) -> str:
        return call(str(python), "-I", "-m", "affectcore", *arguments, env=env, cwd=out)

    affectcore("--help")
    affectcore("score", "--help")
    if "BROKEN" in affectcore("doctor"):
        raise FailedError("doctor finds something broken")
    if "demo/gloomy-3" not in affectcore("demo"):
        raise FailedError("demo prints no leaderboard")
    first, *others = (
        ["score", str(dumps / source), "-o", name, "--unit", unit, "--model", model, "--quiet"]
        for unit, source, target, model in _RUNS
        for name in [f"{unit}-{model}-{source.partition('.')[2]}.{target}"]
    )
    affectcore(*first)
    call(str(python), "-I", "-c", _ALL, json.dumps(others), env=env, cwd=out)
    for kind in ("json", "md", "csv"):
        affectcore("compare", "document-static-jsonl.parquet", "--by", "model", "-o", f"report.{kind}")
        if not (out / f"report.{kind}").stat().st_size:
            raise FailedError(f"compare wrote an empty .{kind}")
    code = "import sys, pandas"
    if subprocess.run([str(python), "-I", "-c", code], capture_output=True).returncode == 0:
        raise FailedError("pandas is installed: the environment holds more than the core")


# One process for the other runs: most of the time of each would go into starting.
_ALL = """
import json, sys
from affectcore.cli.main import main
for arguments in json.loads(sys.argv[1]):
    if main(arguments):
        sys.exit(f"affectcore {' '.join(arguments)}: failed")
"""

_WRITE_DUMPS = """
import json, sys
import pyarrow as pa, pyarrow.parquet as pq
from affectcore.cli.demo import dump
folder, n = sys.argv[1], int(sys.argv[2])
demo = [json.loads(line) for line in dump().splitlines()]
more = ["It isn't bad \\U0001f60a!!", "```\\ncode\\n``` see https://a.org", "\\u4e2d\\u6587 caf\\u00e9",
        "<think>Hm. Sad.</think>Fine.", None, "", "| a | b |\\n|---|---|\\n> quoted\\n\\nI'm SO sorry, but no."]
rows, chats = [], []
for i in range(n):
    row = demo[i % len(demo)]
    text = more[i // 5 % len(more)] if i % 5 == 0 else row["response"]
    kept = {"model": row["model"], "prompt_id": row["prompt_id"], "number": i, "share": i / 7, "good": i % 3 == 0}
    rows.append({**kept, "text": text})
    turns = [("user", row["prompt"]), ("assistant", row["response"]), ("user", "Really?"), ("assistant", text)]
    chats.append({**kept, "messages": [{"role": role, "content": content} for role, content in turns]})
for name, dump in (("rows", rows), ("chats", chats)):
    with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\\n" for row in dump)
    table = pa.Table.from_pylist(dump)
    with pa.OSFile(f"{folder}/{name}.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, f"{folder}/{name}.parquet")
"""


# -- the comparison --------------------------------------------------------------------------------------------------


def compare(first: Path, other: Path) -> str:
    """Compare all outputs with those of the first environment, whose PyArrow reads both; return the result's line."""
    found: dict[str, Any] = json.loads(call(str(_python_of(first)), "-I", "-c", _COMPARE, str(first), str(other)))
    if found["different"]:
        raise FailedError(f"{len(found['different'])} columns differ: {', '.join(found['different'][:3])}")
    if found["largest"] > TOLERANCE:
        raise FailedError(f"scores differ by up to {found['largest']:.1e}: {found['where']}")
    what = "equal" if found["largest"] == 0 else f"within {found['largest']:.0e}"
    return f"ok, {found['values']:,} values {what}"


def _python_of(out: Path) -> Path:
    return out.parent / ("Scripts" if os.name == "nt" else "bin") / "python"


_COMPARE = """
import json, math, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.json
first, other = map(Path, sys.argv[1:])
def flat(name, value):
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(f"{name}.{key}", inner)
    else:
        yield name, [value]
def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all().to_pydict()
    if path.suffix == ".json":
        return dict(flat("", json.loads(path.read_text(encoding="utf-8"))))
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    return {name: [row[name] for row in rows] for name in rows[0]}
result = {"values": 0, "largest": 0.0, "where": "", "different": []}
def values(a, b, where):
    result["values"] += 1
    if isinstance(a, float) and isinstance(b, float) and math.isfinite(a) and math.isfinite(b):
        gap = abs(a - b) / max(1.0, abs(a))
        if gap > result["largest"]:
            result["largest"], result["where"] = gap, where
        return True
    return a == b or (a != a and b != b)
paths = sorted(path for path in first.iterdir() if path.suffix in (".parquet", ".arrow", ".jsonl", ".json"))
paths = [path for path in paths if not path.name.startswith(".")]
for path in paths:
    a, b = read(path), read(other / path.name)
    if list(a) != list(b):
        result["different"].append(f"{path.name}: columns")
        continue
    for name in a:
        where = f"{path.name} {name}"
        if len(a[name]) != len(b[name]) or not all(values(x, y, where) for x, y in zip(a[name], b[name])):
            result["different"].append(where)
print(json.dumps(result))
"""


# -- processes -------------------------------------------------------------------------------------------------------


def call(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command and return its output; raise `FailedError` with the last line of its errors."""
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, cwd=cwd)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
        shown = " ".join(part.partition("\n")[0] if "\n" in part else Path(part).name for part in command[:8])
        raise FailedError(f"{shown}: exit code {done.returncode}: {lines[-1] if lines else ''}")
    return done.stdout


def _output(*command: str) -> str | None:
    try:
        return call(*command).strip()
    except (FailedError, OSError):
        return None


if __name__ == "__main__":
    sys.exit(main())
