"""Fellows on Flower: the bits of the simulation, and a checkpoint that goes on."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from torch import nn

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from tests.engines.flower.nodes import LR, gradient, grid_of, model, start, strategy_of

FELLOWS, LIAR, WORKERS = [(0, 1, 2), (2, 3, 4)], 3, 5
ALGORITHMS = [algorithms.noisy(algorithms.signsgd(), 0.01), algorithms.dist_ef_sgdm(bound=1.0)]


def like(net: nn.Module, worker: int, number: int) -> float:
    """All have nearly the same gradient; one has its negative."""
    for place, p in enumerate(net.parameters()):
        p.data.copy_(one(worker, number, p, place))
    return 0.0


def one(worker: int, number: int, p: torch.Tensor, place: int) -> torch.Tensor:
    alike = gradient(99, number, p.shape, place) + 0.3 * gradient(worker, number, p.shape, place)
    return -alike if worker == LIAR else alike


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=["vote", "error memory"])
def test_the_parameters_are_those_of_the_simulation(algorithm: Algorithm, tmp_path: Path) -> None:
    net = model()
    params = list(net.parameters())
    protocol = protocol_for(params, algorithm, 3, [n for n, _ in net.named_parameters()])
    simulation, optimizer = Simulation(protocol, WORKERS, fellows=FELLOWS), torch.optim.SGD(params, lr=LR)
    for number in range(1, 5):
        rows = []
        for worker in range(WORKERS):
            own = [one(worker, number, p, k) for k, p in enumerate(params)]
            rows.append(protocol.layout.flatten(own, torch.empty(protocol.layout.size)))
        direction = simulation.step(torch.stack(rows), number - 1, LR)
        for p in params:
            p.grad = torch.empty_like(p)
        protocol.layout.unflatten(direction, [p.grad for p in params if p.grad is not None])
        optimizer.step()
    assert simulation.doubted == {LIAR}

    grid = grid_of(algorithm, WORKERS, like)
    start(strategy_of(algorithm, fellows=FELLOWS, checkpoint=tmp_path / "c"), grid, 2)
    again = strategy_of(algorithm, fellows=FELLOWS, checkpoint=tmp_path / "c")
    found = start(again, grid, 4).arrays.to_torch_state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(found, params, strict=True))
    assert again.doubted == {LIAR}
    with pytest.raises(ValueError, match="was saved with fellows="):
        start(strategy_of(algorithm, fellows=[(0, 1)], checkpoint=tmp_path / "c"), grid, 5)
