"""Runs in processes of their own: all of them end, a failure is raised here, and Ctrl-C leaves usable folders."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from gradvote.lab.cli.side_by_side import Crew
from gradvote.lab.train import Config, RunFolder
from tests.lab.train.small import FACTORY

QUIET = Console(quiet=True)


def test_runs_end_in_their_order_whatever_is_watched_first(tmp_path: Path) -> None:
    configs = {tmp_path / name: Config(algorithm=name, steps=2, model=FACTORY) for name in ("sgd", "signsgd")}
    (tmp_path / "file").touch()
    with Crew(1) as crew:
        crew.submit(configs, "a command")
        crew.submit({tmp_path / "file" / "run": Config(steps=1, model=FACTORY)}, "another")
        ended = crew.watch(reversed(configs), QUIET)
        with pytest.raises(OSError, match="file"):
            crew.watch([tmp_path / "file" / "run"], QUIET)
    assert [(e.label, e.status) for e in ended] == [("signsgd", "finished"), ("sgd", "finished")]
    assert all(RunFolder(folder).described("command") == "a command" for folder in configs)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo without an end, in its first steps."""
    command = [sys.executable, "-m", "gradvote", "demo", "--steps", "1000000", "--out", str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    records = tmp_path / "heterogeneous" / "sgd" / "records.jsonl"
    assert within(120, lambda: records.exists() or process.poll() is not None)
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def within(seconds: float, found: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not found() and time.monotonic() < until:
        time.sleep(0.1)
    return found()


def test_ctrl_c_ends_the_demo_after_a_step(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(demo.pid, signal.SIGINT)
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130 and "Stopped." in out
    assert (tmp_path / "heterogeneous" / "sgd" / "checkpoint.pt").exists()
    assert not (tmp_path / "faulty").exists()


def test_runs_do_not_outlive_the_command(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    demo.kill()
    demo.wait()
    place = RunFolder(tmp_path / "heterogeneous" / "sgd")
    assert within(120, lambda: place.described("status") == "interrupted")
