"""A folder is written to by one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradvote.lab import locks
from gradvote.lab.locks import FolderLock

HOLD = (
    "import sys, time; from pathlib import Path; from gradvote.lab.locks import FolderLock; "
    "l = FolderLock(Path(sys.argv[1]));"
)


@pytest.fixture
def elsewhere(tmp_path: Path):
    """A process that holds the folder, until it is killed."""
    command = [
        sys.executable,
        "-c",
        f"{HOLD} l.hold(); print('held', flush=True); time.sleep(60)",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_named_and_a_dead_one_is_taken_over_from(elsewhere, tmp_path):
    lock = FolderLock(tmp_path / "run")
    for attempt in (lock.check, lock.hold):
        with pytest.raises(ValueError, match=rf"run is being written to by process {elsewhere.pid} on .* since"):
            attempt()
    elsewhere.kill()
    elsewhere.wait()
    assert lock.path.is_file()  # left behind
    lock.check()
    lock.hold()
    assert f"process {os.getpid()} " in lock.path.read_text()
    lock.release()
    assert list(lock.folder.iterdir()) == []


def test_two_in_one_process(tmp_path):
    one, other = FolderLock(tmp_path), FolderLock(tmp_path)
    one.hold()
    one.hold()
    with pytest.raises(ValueError, match="is being written to"):
        other.hold()
    one.release()
    other.hold()
    del other  # whoever forgets it gives it back
    one.hold()
    one.release()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_folder_that_was_made_for_nothing(tmp_path):
    lock = FolderLock(tmp_path / "a" / "b")
    lock.hold()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    lock.hold()
    (tmp_path / "a" / "b" / "file").touch()
    lock.release()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_a_fork_does_not_give_back_what_its_parent_holds(tmp_path):
    lock = FolderLock(tmp_path)
    lock.hold()
    if (child := os.fork()) == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ValueError, match="is being written to"):
        FolderLock(tmp_path).hold()
    lock.release()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(locks.errno.ENOLCK, "No locks available")

    lock = FolderLock(tmp_path)
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="keeps no locks"):
        lock.hold()
