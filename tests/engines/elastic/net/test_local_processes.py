"""A process of this machine that has ended is known to have, whatever listens at its port now."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradvote.engines.elastic.net import local_processes
from gradvote.engines.elastic.net.local_processes import has_ended, own_name

HERE = "127.0.0.1"
TELL = "from gradvote.engines.elastic.net.local_processes import own_name; print(own_name(), flush=True); input()"

pytestmark = pytest.mark.skipif(not own_name(), reason="this system does not say when processes started")


@pytest.fixture
def another() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process and its name."""
    with subprocess.Popen(
        [sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as own:
        assert own.stdout is not None
        yield own.stdout.readline().strip(), own
        own.kill()


def test_a_process_is_at_work_until_it_has_ended(another: tuple[str, subprocess.Popen[str]]) -> None:
    """Also while nobody has asked how it ended: a zombie has no sockets any more."""
    name, process = another
    assert not has_ended(name, HERE) and not has_ended(own_name(), HERE)
    process.kill()
    end = time.monotonic() + 10
    while not has_ended(name, HERE):
        assert time.monotonic() < end
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()
    assert has_ended(name, HERE)


def test_a_number_that_was_given_anew_is_another_process() -> None:
    whereabouts, pid, started = own_name().split("/")
    assert int(pid) == os.getpid()
    assert has_ended(f"{whereabouts}/{pid}/{int(started) - 1}", HERE)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no.such.host.invalid", "\0"])
def test_what_listened_elsewhere_is_not_known_here(host: str) -> None:
    whereabouts, pid, started = own_name().split("/")
    gone = f"{whereabouts}/{pid}/{int(started) - 1}"
    assert has_ended(gone, HERE) and not has_ended(gone, host)


@pytest.mark.parametrize(
    "name",
    ["", "//", "x", "a/b/c", "{w}/-1/5", "{w}/1e3/5", "{w}/²/5", "{w}/0/", "other/{p}/1", "{w}/" + "9" * 30 + "/1"],
)
def test_names_that_say_nothing_prove_nothing(name: str) -> None:
    """Some of them are what a worker gone bad may write; the last has a number that no process can have."""
    whereabouts, pid, _ = own_name().split("/")
    assert not has_ended(name.format(w=whereabouts, p=pid), HERE)


def test_without_a_word_of_the_system_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whereabouts, pid, started = own_name().split("/")
    monkeypatch.setattr(local_processes, "PROC", tmp_path)
    assert own_name() == "" and not has_ended(f"{whereabouts}/{pid}/{int(started) - 1}", HERE)
    assert not has_ended(f"/{pid}/{int(started) - 1}", HERE)
