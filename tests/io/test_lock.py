from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import affectcore
from affectcore.errors import OutputError
from affectcore.io import lock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes")


def python(code: str, *args: str) -> subprocess.Popen[str]:
    root = str(Path(affectcore.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


CROWD = """
import os, sys, time
from pathlib import Path
from affectcore.errors import OutputError
from affectcore.io import lock
if "without" in sys.argv:
    import errno, fcntl
    def flock(*given): raise OSError(errno.ENOLCK, "no locks")
    fcntl.flock = flock

path, counter = Path(sys.argv[1]), Path(sys.argv[2])

def work():
    done = 0
    while done < 40:
        try:
            held = lock.take(path, path.parent)
        except OutputError as error:
            assert "another run is writing" in str(error), error
            time.sleep(0.0005)
            continue
        # Without the lock, two that read the same number lose one.
        number = int(counter.read_text())
        time.sleep(0.0002)
        counter.write_text(str(number + 1))
        held.release()
        done += 1

children = []
for _ in range(12):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


@pytest.mark.parametrize("kind", ["with locks", "without"])
def test_one_of_many_processes_has_it(tmp_path: Path, kind: str) -> None:
    # Its file and its folder come and go all the time: each holder makes and removes both.
    counter = tmp_path / "counter"
    counter.write_text("0")
    process = python(CROWD, str(tmp_path / "new" / "folder" / ".lock"), str(counter), kind)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert counter.read_text() == str(12 * 40)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["counter"]


HOLD = """
import sys, time
from pathlib import Path
from affectcore.io import lock
held = lock.take(Path(sys.argv[1]), Path("out"))
print("held", flush=True)
time.sleep(600)
"""


def test_who_has_it_and_that_a_killed_run_does_not(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with python(HOLD, str(path)) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        told = rf"another run is writing to out \(process {process.pid} on {platform.node()}, since 2.*\); wait for it"
        with pytest.raises(OutputError, match=told):
            lock.take(path, Path("out"))
        assert json.loads(path.read_text())["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
    assert path.exists()  # a killed run cannot tidy up
    held = lock.take(path, Path("out"))
    assert json.loads(path.read_text())["pid"] == os.getpid()
    with pytest.raises(OutputError, match=f"process {os.getpid()} "):  # not even to the same process twice
        lock.take(path, Path("out"))
    held.release()
    assert not path.exists()


def test_what_lies_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / ".lock", tmp_path / "other"
    other.write_text("mine")
    path.symlink_to(other)
    with pytest.raises(OutputError, match="a link in its place"):
        lock.take(path, tmp_path)
    assert other.read_text() == "mine"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OutputError, match="cannot write"):
        lock.take(path, tmp_path)


def test_a_folder_that_cannot_be_written_to() -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, ".lock")
        os.chmod(folder, 0o555)  # noqa: PTH101
        try:
            if root:
                os.seteuid(65534)  # permissions do not bind root
            with pytest.raises(OutputError, match="no permission"):
                lock.take(path, Path("out"))
            held = lock.take(path, Path("out"), reading=True)
            assert not held.held
            assert held.note == "out cannot be written to, so no lock guards it"
            held.release()
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o755)  # noqa: PTH101


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two users")
def test_another_users_file_of_a_killed_run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)  # noqa: PTH101
        path = Path(folder, ".lock")
        path.write_text("{}")
        path.chmod(0o644)
        try:
            os.seteuid(65534)
            held = lock.take(path, Path("out"))
            with pytest.raises(OutputError, match="another run"):
                lock.take(path, Path("out"))
            held.release()
        finally:
            os.seteuid(0)
        assert not path.exists()


def no_locks(*given: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "no locks here")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stood in for: no file system here is without them.
    monkeypatch.setattr("fcntl.flock", no_locks)
    path, by_name = tmp_path / ".lock", tmp_path / ".lock-held"
    held = lock.take(path, Path("out"))
    assert "without locks" in held.note and held.held
    with pytest.raises(OutputError, match=rf"process {os.getpid()} .*if it is dead, remove {by_name}"):
        lock.take(path, Path("out"))
    owner = json.loads(by_name.read_text())
    held.release()
    assert list(tmp_path.iterdir()) == []
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for stale in ({"pid": ended.pid}, {"began": "1"}):  # its process is gone, or its number has gone to another one
        by_name.write_text(json.dumps({**owner, **stale}))
        if "began" in stale and not owner["began"]:
            continue
        lock.take(path, Path("out")).release()
        assert list(tmp_path.iterdir()) == []
    for unknown in (json.dumps({**owner, "host": "elsewhere", "pid": ended.pid}), ""):
        by_name.write_text(unknown)
        with pytest.raises(OutputError, match="another run is writing to out"):
            lock.take(path, Path("out"))
        assert by_name.read_text() == unknown
