"""`gradvote train --engine ddp` is the simulation, bit for bit, also where its options change what is voted on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gradvote.lab.train import prepare
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
}  # fmt: skip


def on_ranks(folder: str) -> dict[str, Tensor]:
    found = {}
    for name, options in CASES.items():
        config = small.config(**{"workers": WORKERS, "engine": "ddp", "seed": 1, **options})
        run = RankRun(prepare(config, small.samples()), RankFolder(Path(folder) / name.replace(" ", "-")))
        run.open()
        run.train()
        found[name] = small.parameters(run)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    return spawn(on_ranks, WORKERS, str(tmp_path_factory.mktemp("runs")))


@pytest.mark.parametrize("name", CASES)
def test_processes_equal_the_simulation(name: str, ranks: list[dict[str, Tensor]], tmp_path: Path) -> None:
    run = small.trained(tmp_path / "run", **{"workers": WORKERS, "seed": 1, **CASES[name]})
    assert all(torch.equal(own[name], small.parameters(run)) for own in ranks)
    if "unused" in dict(run.models[0].named_modules()):
        fresh = prepare(run.config, small.samples()).model
        assert torch.equal(run.models[0].unused.weight, fresh.unused.weight), "nobody voted on it"  # type: ignore[union-attr, arg-type]
