"""Where compiled kernels are cached when the usual places cannot be written; most of it as another user."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import affectcore

NOBODY = 65534
PLACE = """
import json
from pathlib import Path
import affectcore.kernels.cache as cache, affectcore.kernels.dispatch as dispatch
found = cache.place(Path(dispatch.__file__).absolute().parent / "resample")
print(json.dumps([found.kind, str(found.folder), found.refused, found.complaint]))
"""
# The kernels that compile fastest.
RESAMPLE = """
import json
import numpy as np
from affectcore.kernels import compilation
from affectcore.kernels.resample import resample
values = resample(np.arange(6.0).reshape(3, 2), 4)
print(json.dumps([values.tolist(), compilation.state().compiled]))
"""


class Box:
    """A copy of the package that belongs to root, a temporary folder that is open to all, and no home."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site = folder, site
        self.tmp, self.home = folder / "tmp", folder / "home"

    def run(
        self, code: str, *, user: int = NOBODY, mounts: str = "", check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python as a user, after shell commands that mount things in a namespace of its own."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG", "AFFECTCORE"))}
        env = {**clean, "PYTHONPATH": str(self.site), "HOME": str(self.home), "TMPDIR": str(self.tmp), **env}
        command = [sys.executable, "-B", "-c", code]
        if user:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        if mounts:
            command = ["unshare", "-m", "sh", "-ec", f'{mounts}\nexec "$@"', "sh", *command]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=600)
        assert not check or done.returncode == 0, done.stderr
        return done

    def place(self, **settings: Any) -> tuple[str, str, list[str], str]:
        kind, folder, refused, complaint = json.loads(self.run(PLACE, **settings).stdout)
        return kind, folder, refused, complaint


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to run as another user")
    folder = Path(tempfile.mkdtemp(prefix="affectcore-test-"))  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    try:
        ignored = shutil.ignore_patterns("__pycache__", "mini", "training")
        shutil.copytree(Path(affectcore.__file__).parent, folder / "site" / "affectcore", ignore=ignored)
        if Box(folder, folder / "site").run("import numba, pyarrow", check=False).returncode:
            pytest.skip("another user cannot run this Python")
        yield folder / "site"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def box(site: Path) -> Iterator[Box]:
    folder = Path(tempfile.mkdtemp(dir=site.parent))
    folder.chmod(0o755)
    box = Box(folder, site)
    box.tmp.mkdir()
    box.tmp.chmod(0o1777)
    yield box
    for caches in list(site.rglob("__pycache__")):
        shutil.rmtree(caches)


@pytest.fixture
def mounting(box: Box) -> Box:
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    return box


def result(done: subprocess.CompletedProcess[str]) -> tuple[Any, list[str]]:
    values, compiled = json.loads(done.stdout)
    return values, compiled


def expected() -> Any:
    import numpy as np

    from affectcore.kernels.resample import resample

    return resample(np.arange(6.0).reshape(3, 2), 4).tolist()


def test_another_user_computes_the_same_and_the_next_process_finds_it(box: Box) -> None:
    first = box.run(RESAMPLE)
    values, compiled = result(first)
    assert values == expected()
    assert sorted(compiled) == ["resample.count", "resample.product"]
    (line,) = first.stderr.splitlines()
    private = box.tmp / f"affectcore-{NOBODY}"
    assert line.startswith(f"compiled kernels are kept in {private} for a while: set NUMBA_CACHE_DIR to a folder")
    status = private.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o700)
    assert result(box.run(RESAMPLE)) == (values, [])


@pytest.mark.slow
def test_the_command_line_scores_and_the_doctor_names_the_cure(box: Box) -> None:
    dump = box.folder / "dump.jsonl"
    dump.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("I love this!", "I hate this.")))
    out = box.tmp / "scores.jsonl"
    code = "import sys; from affectcore.cli.main import main; sys.exit(main(sys.argv[1:] or {}))"
    asked = ["score", str(dump), "-o", str(out), "--model", "none", "--metrics", "questions"]
    done = box.run(code.format(asked))
    assert [json.loads(line)["questions"] for line in out.read_text().splitlines()] == [0.0, 0.0]
    assert done.stderr.count("compiled kernels are kept in") == 1
    assert "fault" not in done.stderr
    told = box.run(code.format(["doctor"])).stdout
    (line,) = [line for line in told.splitlines() if "JIT cache" in line]
    assert line.startswith("note")
    assert "set NUMBA_CACHE_DIR to a folder that can be written, or give the process a HOME" in line
    assert "BROKEN" not in told


def test_usual_places_come_first_and_are_not_worth_a_word(box: Box) -> None:
    home = box.home
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    kind, folder, _, complaint = box.place()
    assert (kind, complaint) == ("user", "")
    assert folder.startswith(str(home / ".cache" / "numba"))
    kind, folder, _, complaint = box.place(HOME=str(home), NUMBA_CACHE_DIR=str(home / "kernels"))
    assert (kind, complaint) == ("named", "")
    assert folder.startswith(str(home / "kernels"))
    kind, folder, _, complaint = box.place(user=0)
    assert (kind, complaint) == ("source", "")
    assert Path(folder) == box.site / "affectcore" / "kernels" / "resample" / "__pycache__"


@pytest.mark.parametrize(
    ("made", "reason"),
    [("missing", "Permission denied"), ("file", "Not a directory"), ("read-only", "Permission denied")],
)
def test_a_named_folder_that_cannot_be_written_is_named(box: Box, made: str, reason: str) -> None:
    named = box.folder / "kernels"
    if made == "file":
        named.touch()
    elif made == "read-only":
        named.mkdir(0o755)
    kind, _, _, complaint = box.place(NUMBA_CACHE_DIR=str(named))
    assert kind == "temporary"
    assert f"NUMBA_CACHE_DIR={named}: {reason}" in complaint
    box.home.mkdir()
    os.chown(box.home, NOBODY, NOBODY)
    kind, folder, _, complaint = box.place(NUMBA_CACHE_DIR=str(named))
    assert kind == "user"
    shown = Path(folder).parent
    assert complaint.startswith(f"compiled kernels are kept in {shown} (NUMBA_CACHE_DIR={named}: {reason}; ")


def test_a_cache_that_can_only_be_read_is_read(box: Box) -> None:
    named = box.folder / "kernels"
    for env in ({}, {"NUMBA_CACHE_DIR": str(named)}):
        values, compiled = result(box.run(RESAMPLE, user=0, **env))
        assert len(compiled) == 2
        done = box.run(RESAMPLE, **env)
        assert result(done) == (values, [])
        assert done.stderr == ""
        shutil.rmtree(box.site / "affectcore" / "kernels" / "resample" / "__pycache__", ignore_errors=True)


def test_read_only_file_system(mounting: Box) -> None:
    folder = mounting.site.parent
    mounts = f"mount --bind {folder} {folder}\nmount -o remount,ro,bind {folder}\nmount -t tmpfs tmpfs {mounting.tmp}"
    kind, _, _, complaint = mounting.place(mounts=mounts, user=0, NUMBA_CACHE_DIR=str(folder / "x"))
    assert kind == "temporary"
    assert "Read-only file system" in complaint


def test_without_any_place_every_process_compiles(mounting: Box) -> None:
    mounts = "\n".join(
        f"mount --bind {path} {path} && mount -o remount,ro,bind {path}"
        for path in ("/tmp", "/var/tmp", "/usr/tmp")
        if Path(path).is_dir()
    )
    for _ in range(2):
        done = mounting.run(RESAMPLE, mounts=mounts, TMPDIR="/tmp")
        values, compiled = result(done)
        assert values == expected()
        assert len(compiled) == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("compiled kernels cannot be kept, every process compiles anew")
        assert "NUMBA_CACHE_DIR" in line


def test_full_disk(mounting: Box) -> None:
    small = mounting.folder / "small"
    small.mkdir()
    done = mounting.run(
        RESAMPLE, user=0, mounts=f"mount -t tmpfs -o size=16k tmpfs {small}", NUMBA_CACHE_DIR=str(small)
    )
    assert result(done)[0] == expected()
    (line,) = done.stderr.splitlines()
    assert "cannot be kept" in line
    assert "No space left on device" in line


@pytest.mark.parametrize("planted", ["folder", "link", "open"])
def test_a_planted_folder_is_not_used(box: Box, planted: str) -> None:
    taken = box.tmp / f"affectcore-{NOBODY}"
    elsewhere = box.tmp / "elsewhere"
    elsewhere.mkdir()
    if planted == "folder":
        taken.mkdir()
        taken.chmod(0o777)
    elif planted == "link":
        os.chown(elsewhere, NOBODY, NOBODY)
        taken.symlink_to(elsewhere)
    else:  # the user's own, but open to others for a while
        taken.mkdir()
        os.chown(taken, NOBODY, NOBODY)
        taken.chmod(0o770)
    kind, folder, _, _ = box.place()
    assert kind == "temporary"
    private = Path(folder).parent
    assert private.parent == box.tmp
    assert private != taken
    assert not private.exists()  # it went with its process
    assert list(taken.iterdir()) == []


def test_a_temporary_folder_that_others_can_change_is_not_used(box: Box) -> None:
    box.tmp.chmod(0o777)  # not sticky: anyone can rename what is there
    kind, _, refused, complaint = box.place()
    assert kind == "none"
    assert refused[-1] == f"{box.tmp}: other users could replace what is there"
    assert "NUMBA_CACHE_DIR" in complaint


def test_damaged_files_are_compiled_anew(box: Box) -> None:
    named = box.folder / "kernels"
    for damage in (b"", b"garbage"):
        values, compiled = result(box.run(RESAMPLE, user=0, NUMBA_CACHE_DIR=str(named)))
        assert (values, len(compiled)) == (expected(), 2)
        for suffix in ("nbi", "nbc"):
            for path in named.rglob(f"*.{suffix}"):
                path.write_bytes(damage)


def test_kernels_are_out_of_date_when_a_source_they_use_changes(box: Box) -> None:
    code = "from pathlib import Path; from affectcore.kernels import cache; print(cache._stamp(Path({!r})))"
    kernels = box.site / "affectcore" / "kernels"

    def stamp() -> str:
        return box.run(code.format(str(kernels / "tone" / "cpu.py")), user=0).stdout

    before = stamp()
    os.utime(kernels / "tone" / "cpu.py", (1, 1))
    assert stamp() == before  # an installer's time says nothing
    seen = {before}
    for used in ("tone/cpu.py", "tone/tables.py", "words/tables.py", "memory.py"):
        source = (kernels / used).read_bytes()
        (kernels / used).write_bytes(source + b"# changed\n")
        seen.add(stamp())
        (kernels / used).write_bytes(source)
    assert len(seen) == 5
    assert stamp() == before
