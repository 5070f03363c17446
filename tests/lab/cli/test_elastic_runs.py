"""`gradvote train --engine elastic`, in processes of its own: resumed, it ends as if it had not been interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gradvote.lab.train import RunFolder, checkpoint
from tests.lab.cli.conftest import Run
from tests.lab.train.small import FACTORY

ROOT = str(Path(__file__).parents[3])
COMMAND = ["train", "--algorithm", "dist-ef-sgdm", "--workers", "2", "--seed", "3"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' processes find the tests' model."""
    monkeypatch.setenv("PYTHONPATH", ROOT)


def models(folder: str, name: str) -> list[dict[str, torch.Tensor]]:
    state = checkpoint.load(Path("runs") / folder / name)
    return [dict(model) for model in state["models"]]


@pytest.mark.slow
@pytest.mark.parametrize("local", [[], ["--local-steps", "3", "--optimizer", "nesterov", "--batch-size", "4"]])
def test_resume_equals_the_simulation(gradvote: Run, local: list[str]) -> None:
    command = [*COMMAND, *local]
    assert gradvote(*command, "--name", "whole", "--steps", "8").status == 0
    assert gradvote(*command, "--engine", "elastic", "--deadline", "15", "--name", "part", "--steps", "4").status == 0
    resumed = gradvote("train", "--resume", "runs/part", "--steps", "8", "--deadline", "15")
    assert resumed.status == 0, resumed.text
    assert RunFolder(Path("runs/part")).described("status") == "finished"
    [expected] = models("whole", "checkpoint.pt")
    for name in ("worker-0.pt", "worker-1.pt", "checkpoint.pt"):
        [found] = models("part", name)
        assert all(torch.equal(value, expected[key]) for key, value in found.items()), name


@pytest.mark.slow
@pytest.mark.parametrize("delay", ["0", "2"])
def test_ranks_with_local_steps_resume_to_the_bits_of_the_simulation(gradvote: Run, delay: str) -> None:
    command = [*COMMAND, "--local-steps", "3", "--delay", delay, "--optimizer", "nesterov", "--batch-size", "4"]
    assert gradvote(*command, "--name", "whole", "--steps", "8").status == 0
    assert gradvote(*command, "--engine", "ddp", "--name", "part", "--steps", "4").status == 0
    resumed = gradvote("train", "--resume", "runs/part", "--steps", "8")
    assert resumed.status == 0, resumed.text
    ([expected], [found]) = (models(name, "checkpoint.pt") for name in ("whole", "part"))
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_what_needs_the_engine_is_refused_without_it(gradvote: Run) -> None:
    for extra in (["--min-workers", "1"], ["--kill", "0@1"], ["--stop", "0@1:2s"], ["--keys", "secrets"]):
        refused = gradvote("train", "--model", FACTORY, *extra)
        assert refused.status == 2 and "need --engine elastic" in refused.text
    refused = gradvote(*COMMAND, "--engine", "elastic", "--kill", "7@1")
    assert refused.status == 2 and "There is no worker 7" in refused.text
    refused = gradvote(*COMMAND, "--engine", "elastic", "--keys", "nowhere")
    assert refused.status == 2 and "There is no private key worker-0.private" in refused.text


@contextlib.contextmanager
def without_an_end(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`gradvote train` with two elastic workers, both past their first steps, which compile and take long."""
    command = [sys.executable, "-m", "gradvote", *COMMAND, "--engine", "elastic", "--model", FACTORY]
    options = ["--steps", "1000000", "--eval-every", "5", "--out", str(folder), "--name", "x"]
    process = subprocess.Popen([*command, *options], start_new_session=True, stdout=subprocess.PIPE, text=True)
    records = folder / "x" / "records.jsonl"
    try:
        assert within(150, lambda: lines(records) > 1 or process.poll() is not None)
        yield process
    finally:
        for pid in [*workers(folder), *([] if process.poll() is not None else [process.pid])]:
            os.kill(pid, signal.SIGKILL)


def lines(path: Path) -> int:
    """How many lines the file has by now."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def workers(folder: Path) -> list[int]:
    """The processes of a run's workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder / "x" / "job.json").encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def within(seconds: float, found: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not found() and time.monotonic() < until:
        time.sleep(0.02)
    return found()


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc, to find the workers")


@needs_proc
def test_workers_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    with without_an_end(tmp_path) as process:
        assert len(workers(tmp_path)) == 2
        process.kill()
        assert within(15, lambda: not workers(tmp_path))
    steps = [checkpoint.load(tmp_path / "x" / f"worker-{k}.pt")["step"] for k in (0, 1)]
    assert abs(steps[0] - steps[1]) <= 1 and steps[0] > 0
    assert RunFolder(tmp_path / "x").described("status") == "interrupted"


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_asked_to_stop_all_end_soon_and_say_how_to_go_on(tmp_path: Path, how: signal.Signals) -> None:
    with without_an_end(tmp_path) as process:
        asked = time.monotonic()
        os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
        assert within(15, lambda: not workers(tmp_path)), "two workers waited for each other"
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 130 and "Continue with: gradvote train --resume" in " ".join(out.split())
        assert time.monotonic() - asked < 25  # before, 30 s in half of the tries, in the worst case
    steps = [checkpoint.load(tmp_path / "x" / f"worker-{k}.pt")["step"] for k in (0, 1)]
    assert abs(steps[0] - steps[1]) <= 1 and steps[0] > 0
