"""`gradvote train --engine elastic`, in processes of its own: resumed, it ends as if it had not been interrupted."""

from pathlib import Path

import pytest
import torch

from gradvote.train import RunFolder, checkpoint
from tests.cli.conftest import Run
from tests.train.small import FACTORY

ROOT = str(Path(__file__).parents[2])
COMMAND = ["train", "--algorithm", "dist-ef-sgdm", "--workers", "2", "--seed", "3"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' processes find the tests' model."""
    monkeypatch.setenv("PYTHONPATH", ROOT)


def models(folder: str, name: str) -> list[dict[str, torch.Tensor]]:
    state = checkpoint.load(Path("runs") / folder / name)
    return [dict(model) for model in state["models"]]


@pytest.mark.slow
def test_resume_equals_the_simulation(gradvote: Run) -> None:
    assert gradvote(*COMMAND, "--name", "whole", "--steps", "8").status == 0
    assert gradvote(*COMMAND, "--engine", "elastic", "--deadline", "15", "--name", "part", "--steps", "4").status == 0
    resumed = gradvote("train", "--resume", "runs/part", "--steps", "8", "--deadline", "15")
    assert resumed.status == 0, resumed.text
    assert RunFolder(Path("runs/part")).described("status") == "finished"
    [expected] = models("whole", "checkpoint.pt")
    for name in ("worker-0.pt", "worker-1.pt", "checkpoint.pt"):
        [found] = models("part", name)
        assert all(torch.equal(value, expected[key]) for key, value in found.items()), name


def test_what_needs_the_engine_is_refused_without_it(gradvote: Run) -> None:
    for extra in (["--min-workers", "1"], ["--kill", "0@1"], ["--stop", "0@1:2s"], ["--keys", "secrets"]):
        refused = gradvote("train", "--model", FACTORY, *extra)
        assert refused.status == 2 and "need --engine elastic" in refused.text
    refused = gradvote(*COMMAND, "--engine", "elastic", "--kill", "7@1")
    assert refused.status == 2 and "There is no worker 7" in refused.text
    refused = gradvote(*COMMAND, "--engine", "elastic", "--keys", "nowhere")
    assert refused.status == 2 and "There is no private key worker-0.private" in refused.text
