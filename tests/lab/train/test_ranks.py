"""`gradvote train --engine ddp` is the simulation, bit for bit, also where its options change what is voted on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.lab.train import Run, checkpoint, prepare
from gradvote.lab.train.ranks import RankFolder, RankRun
from tests.forked import spawn
from tests.lab.train import small

WORKERS = 2
CASES = {
    "a layer that the loss never reaches, with decay": {
        "model": "tests.lab.train.small:partly_used", "optimizer": "adamw", "weight_decay": 0.5,
    },
    "bounded gradients": {"algorithm": "dist-ef-sgdm", "max_norm": 0.1},
    "local steps": {"algorithm": "dist-ef-sgdm", "local_steps": 3, "optimizer": "nesterov", "batch_size": 5},
    "local steps, rounds late": {
        "algorithm": "dist-ef-sgdm", "local_steps": 3, "delay": 2, "optimizer": "nesterov", "batch_size": 5,
        "schedule": "cosine",
    },
}  # fmt: skip


Found = tuple[Tensor, list[dict[str, Any]]]
"""What all agreed on at the end, as the checkpoint has it, and the records."""


def on_ranks(folder: str) -> dict[str, Found]:
    found = {}
    for name, options in CASES.items():
        run = ranked(name, options, folder)
        run.open()
        run.train()
        found[name] = kept(run)
    return found | {"resumed": resumed(folder)}


def ranked(name: str, options: dict[str, Any], folder: str) -> RankRun:
    config = small.config(**{"workers": WORKERS, "engine": "ddp", "seed": 1, **options})
    return RankRun(prepare(config, small.samples()), RankFolder(Path(folder) / name.replace(" ", "-")))


def resumed(folder: str) -> Found:
    """Late rounds, stopped while one is under way."""
    options = CASES["local steps, rounds late"]
    first = ranked("resumed", options, folder)
    first.open()
    small.finished(first, 7)
    again = ranked("resumed", options, folder)
    again.resume(checkpoint.load(again.place.checkpoint))
    again.train()
    return kept(again)


def kept(run: Run) -> Found:
    state = checkpoint.load(run.place.checkpoint)
    return torch.cat([value.double().flatten() for value in state["models"][0].values()]), small.records(run)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    return spawn(on_ranks, WORKERS, str(tmp_path_factory.mktemp("runs")))


@pytest.mark.parametrize("name", CASES)
def test_processes_equal_the_simulation(name: str, ranks: list[dict[str, Found]], tmp_path: Path) -> None:
    """Also what is evaluated on the way, while workers may be ahead of what they agreed on."""
    run = small.trained(tmp_path / "run", **{"workers": WORKERS, "seed": 1, **CASES[name]})
    expected, records = kept(run)
    for parameters, own in (each[name] for each in ranks):
        assert torch.equal(parameters, expected)
        assert [looked_at(record) for record in own] == [looked_at(record) for record in records]
    if "unused" in dict(run.models[0].named_modules()):
        fresh = prepare(run.config, small.samples()).model
        assert torch.equal(run.models[0].unused.weight, fresh.unused.weight), "nobody voted on it"  # type: ignore[union-attr, arg-type]


def test_a_run_with_a_round_under_way_is_resumed_to_the_same_bits(ranks: list[dict[str, Found]]) -> None:
    for own in ranks:
        (found, again), (expected, records) = own["resumed"], own["local steps, rounds late"]
        assert torch.equal(found, expected) and str(again) == str(records)


def looked_at(record: dict[str, Any]) -> list[Any]:
    return [record[key] for key in ("step", "loss", "train_accuracy", "test_accuracy")]
