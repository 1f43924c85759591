from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from affectcore.errors import InputError, OutputError
from affectcore.io.finished import finished_parts
from affectcore.io.manifest import Manifest, Part, config_hash
from affectcore.io.manifest_lines import FAILED, GONE, HERE, line_of, split_part_name

CONFIG: dict[str, Any] = {"text": None, "keep": ["id"]}


def part(stem: str = "a", number: int = 0, **more: Any) -> Part:
    given = {
        "input": f"/dumps/{stem}.jsonl", "stem": stem, "fingerprint": "1-1", "part": number, "first_row": 10 * number,
        "rows": 10, "units": 10, "bytes": 99, "output": f"{stem}-{number:05d}.parquet", "output_size": 4, "last": False,
        "failed": False, "config": config_hash(CONFIG), "sha256": "0" * 64,
    }  # fmt: skip
    return Part(**{**given, **more})


def made(folder: Path, *parts: Part, states: dict[str, tuple[str, str]] | None = None) -> Path:
    manifest = Manifest(folder / "_manifest.jsonl")
    manifest.begin(CONFIG, {})
    manifest.set_states(states or {})
    for each in parts:
        (folder / each.output).write_bytes(b"1234")
        manifest.add(each)
    manifest.close()
    return manifest.path


def test_lines_come_back(tmp_path: Path) -> None:
    states = {"a": ("/dumps/a.jsonl", HERE), "\udcff": ("/\udcff", GONE)}  # names need not be UTF-8
    path = made(tmp_path, part(), part(number=1, last=True), states=states)
    found = Manifest(path)
    assert found.config == CONFIG
    assert found.parts == [part(), part(number=1, last=True)]
    assert found.states == states
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # cut short by a crash
    found = Manifest(path)
    assert found.parts == [part()]
    found.add(part(number=1, last=True))
    found.close()
    assert path.read_bytes() == whole


def test_a_manifest_of_the_first_version_is_read(tmp_path: Path) -> None:
    old = {k: v for k, v in vars(part(last=True)).items() if k not in ("sha256", "input_sha256")}
    lines = [{"kind": "run", "version": 1, "config": CONFIG}, {"kind": "part", **old}]
    path = tmp_path / "_manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "a-00000.parquet").write_bytes(b"1234")
    assert Manifest(path).finished("a", "1-1", tmp_path) == [part(last=True, sha256="")]
    assert finished_parts(tmp_path)[0] == [tmp_path / "a-00000.parquet"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("stem", "../../..", "a name without separators"),
        ("stem", ["a"], "a name without separators"),
        ("output", "../a-00000.parquet", "the name of a file in this folder"),
        ("output", "/etc/passwd", "the name of a file in this folder"),
        ("output", "a\0", "the name of a file in this folder"),
        ("output", "..", "the name of a file in this folder"),
        ("output", "b-00000.parquet", "that part is called 'a-00000.parquet'"),
        ("input", 7, "a path"),
        ("input", "", "a path"),
        ("part", -1, "a whole number from 0 on"),
        ("part", True, "a whole number from 0 on"),
        ("rows", 1.0, "a whole number from 0 on"),
        ("rows", 1 << 63, "a whole number from 0 on"),
        ("first_row", None, "a whole number from 0 on"),
        ("output_size", "4", "a whole number from 0 on"),
        ("last", 1, "true or false"),
        ("fingerprint", {}, "text"),
        ("config", "0" * 16, "config is the hash of other settings"),
        ("problems", [{"file": "a"}], "a list of problems"),
        ("problems", "none", "a list of problems"),
        ("sha256", "0" * 63, "a SHA-256 or empty"),
        ("kind", "other", "its kind is 'other'"),
        ("more", 1, "'more' is no field of it"),
        ("check", "00000000", "it does not match its checksum"),
    ],
)
def test_fields_are_checked(tmp_path: Path, name: str, value: Any, told: str) -> None:
    path = made(tmp_path, part())
    first, second = path.read_bytes().splitlines(keepends=True)
    entry = {**json.loads(second), name: value}
    if name != "check":  # planted, or a fault of ours: the checksum is right
        del entry["check"]
        entry = json.loads(line_of(entry))
    path.write_bytes(first + json.dumps(entry).encode() + b"\n")
    with pytest.raises(OutputError, match=rf"^{path}, line 2: .*{re.escape(told)}.*; pass --overwrite to score afresh"):
        Manifest(path)
    with pytest.raises(InputError, match=r"line 2: .*score again with --overwrite, or name the score files"):
        finished_parts(tmp_path)
    if name != "config":  # what --overwrite removes is what is surely on record
        assert Manifest(path, lenient=True).parts == []
    lacking = {k: v for k, v in json.loads(second).items() if k not in (name, "check")}
    if name not in ("more", "problems", "sha256"):
        path.write_bytes(first + (json.dumps(lacking).encode() + b"\n" if name == "check" else line_of(lacking)))
        with pytest.raises(OutputError, match="line 2: "):
            Manifest(path)


@pytest.mark.parametrize("text", ["{}", "[]", "7", "not json", "[" * 100_000, '{"kind":"run","version":3,"config":{}}'])
def test_other_files_are_no_manifests(tmp_path: Path, text: str) -> None:
    path = tmp_path / "_manifest.jsonl"
    for content in (text + "\n", text[:1] + "x"):
        path.write_text(content)
        with pytest.raises(OutputError, match=rf"^{path}, line 1: .*not a manifest as affectcore writes it"):
            Manifest(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and links")
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "_manifest.jsonl"
    os.mkfifo(path)
    with pytest.raises(OutputError, match="no regular file"):
        Manifest(path)
    path.unlink()
    path.symlink_to(tmp_path / "other")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(OutputError, match=r"it is a link.*remove it"):
        Manifest(path, lenient=True)
    assert (tmp_path / "other").read_text() == "mine"


def test_which_parts_are_finished(tmp_path: Path) -> None:
    a = [part(), part(number=1), part(number=2, last=True)]

    def done(*lines: Part) -> int:
        return len(Manifest(made(tmp_path, *lines)).finished("a", "1-1", tmp_path))

    assert done(*a) == 3
    assert done(a[0], a[2]) == 1
    assert done(*a, part(number=1, fingerprint="2-2")) == 1  # the latest line counts
    assert done(a[0], a[1], part(number=2, first_row=25)) == 1  # one of the two is not true
    assert done(part(last=True), *a[1:]) == 0
    assert done(*a[:2], part(number=2, last=True, failed=True)) == 2
    (tmp_path / "a-00001.parquet").write_bytes(b"12345")
    assert len(Manifest(tmp_path / "_manifest.jsonl").finished("a", "1-1", tmp_path)) == 1


def test_what_compare_counts(tmp_path: Path) -> None:
    def parts_of(stem: str, **last: Any) -> list[Part]:
        return [part(stem), part(stem, 1, **{"last": True, **last})]

    parts = [
        *parts_of("whole"), part("whole", 2, first_row=20, fingerprint="0-0"), *parts_of("begun", last=False),
        *parts_of("gone"), *parts_of("cut", failed=True), part("broken"), *parts_of("lost"),
    ]  # fmt: skip
    states = {"gone": ("/dumps/gone.jsonl", GONE), "broken": ("/dumps/broken.jsonl", FAILED)}
    states |= {"never": ("/dumps/never.jsonl", HERE)}
    made(tmp_path, *parts, states=states)
    (tmp_path / "lost-00001.parquet").unlink()
    files, told_of, notes = finished_parts(tmp_path)
    names = ["broken-00000", "cut-00000", "cut-00001", "whole-00000", "whole-00001"]
    assert files == [tmp_path / f"{name}.parquet" for name in names]
    assert told_of == {f"{stem}-0000{i}.parquet" for stem in ("begun", "gone", "lost") for i in (0, 1)}
    told = " ".join(notes)
    assert "unfinished inputs, begun.jsonl, never.jsonl; the same affectcore score with --resume finishes them" in told
    assert "no longer there, gone.jsonl." in told
    assert "a part missing or changed, of lost.jsonl" in told
    assert "could not be read (see _errors.jsonl): broken.jsonl, cut.jsonl." in told


def test_part_names() -> None:
    assert split_part_name("a-b-00012.parquet") == ("a-b", 12)
    assert split_part_name("a-100000.parquet") == ("a", 100000)
    for name in ("a.parquet", "a-0001.parquet", "-00001.parquet", "a-000001.parquet", "a-00001.parquet.tmp"):
        assert split_part_name(name) is None


def test_a_first_line_cut_short_is_a_manifest_that_begins(tmp_path: Path) -> None:
    path = made(tmp_path)
    whole = path.read_bytes()
    for cut in (0, 5, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert Manifest(path).config is None
