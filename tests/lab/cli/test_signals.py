"""Ctrl-C and SIGTERM, to real processes: all end soon, nobody is left behind, and what can be resumed can be."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradvote.lab.train import RunFolder, checkpoint
from tests.lab.train.small import FACTORY

ROOT = str(Path(__file__).parents[3])
GRADVOTE = [sys.executable, "-m", "gradvote"]
ENDLESS = ["--model", FACTORY, "--steps", "1000000", "--eval-every", "1", "--out", "."]
DDP = [*GRADVOTE, "train", "--engine", "ddp", "--workers", "2", "--name", "x", *ENDLESS]
EXCHANGE = ["bench", "exchange", "--params", "100k", "--ranks", "2", "--names", "signsgd", "--repeats", "1000000"]
SOON = 20.0
"""Seconds; two on a machine that has nothing else to do."""
BOTH = [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, to see who is left")


def alive(folder: Path) -> list[int]:
    """The processes that work in a folder, whoever started them, but for those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder:
                found.append(int(path.parent.name))
    return found


def within(seconds: float, found: Callable[[], object]) -> bool:
    until = time.monotonic() + seconds
    while not found() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(found())


@contextlib.contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, none of whose processes outlives the test."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]  # of pipes
    try:
        yield process
    finally:
        for pid in alive(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def stopped(process: subprocess.Popen[str], how: signal.Signals, folder: Path) -> str:
    """What it has printed when it has ended after the signal: all of the session get Ctrl-C, as from a terminal."""
    asked = time.monotonic()
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    out, _ = process.communicate(timeout=60)
    print(f"{how.name}: {time.monotonic() - asked:.2f} s")
    assert time.monotonic() - asked < SOON and process.returncode == 130, out
    assert within(SOON, lambda: not alive(folder)), "a process was left behind"
    return " ".join(out.split())


@pytest.mark.parametrize("how", BOTH)
def test_ranks_of_ddp(how: signal.Signals, tmp_path: Path) -> None:
    with started(DDP, tmp_path) as process:
        assert within(150, lambda: (tmp_path / "x/records.jsonl").exists() or process.poll() is not None)
        assert "Continue with: gradvote train --resume x" in stopped(process, how, tmp_path)
    step = checkpoint.load(tmp_path / "x/checkpoint.pt")["step"]
    assert step > 0 and RunFolder(tmp_path / "x").described("status") == "interrupted"
    assert all((tmp_path / f"x/checkpoint-{step}.rank{rank}.pt").is_file() for rank in (0, 1))


@pytest.mark.parametrize("engine", ["simulation", pytest.param("ddp", marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", BOTH)
def test_compare(how: signal.Signals, engine: str, tmp_path: Path) -> None:
    command = [*GRADVOTE, "compare", "sgd", "signsgd", "--engine", engine, "--workers", "2", "--name", "x", *ENDLESS]
    with started(command, tmp_path) as process:
        assert within(150, lambda: (tmp_path / "x/sgd/records.jsonl").exists() or process.poll() is not None)
        assert "Continue with: gradvote train --resume x/sgd" in stopped(process, how, tmp_path)
    assert checkpoint.load(tmp_path / "x/sgd/checkpoint.pt")["step"] > 0 and not (tmp_path / "x/signsgd").exists()


@pytest.mark.parametrize("how", BOTH)
def test_bench_exchange(how: signal.Signals, tmp_path: Path) -> None:
    with started([*GRADVOTE, *EXCHANGE], tmp_path) as process:
        assert within(150, lambda: len(alive(tmp_path)) >= 3 or process.poll() is not None)
        time.sleep(2.0)
        assert stopped(process, how, tmp_path).endswith("Stopped.")


@pytest.mark.slow
def test_two_torchruns_do_not_share_a_folder(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with started([*torchrun, *DDP[2:]], tmp_path) as process:
        assert within(150, lambda: (tmp_path / "x/records.jsonl").exists() or process.poll() is not None)
        with started([*torchrun, "gradvote", "train", "--resume", "../x", "--model", FACTORY], elsewhere) as second:
            out, _ = second.communicate(timeout=100)
        assert second.returncode != 0 and " ".join(out.split()).count("x is being written to by") == 2, out
        assert process.poll() is None, "the first goes on"
