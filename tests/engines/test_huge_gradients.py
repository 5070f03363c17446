"""One finite but huge gradient costs its worker one block of one step, in every engine, and the run nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from tests.engines import huge_workers
from tests.engines.huge_workers import LR, RECIPES, SPOILT, STEPS, D, distance, gradient
from tests.forked import spawn

HUGE, SOON = 1e38, 12


def simulated(algorithm: Algorithm, num_workers: int, huge: float, steps: int = STEPS) -> tuple[Tensor, list[int]]:
    """As `huge_workers.exchanged`."""
    x, seen = torch.zeros(D), []
    sim = Simulation(protocol_for([x], algorithm, 0), num_workers)
    for step in range(steps):
        g = torch.stack([gradient(x, worker, step, huge) for worker in range(num_workers)])
        x.add_(sim.step(g, step, LR), alpha=-LR)
        seen.append(int(sim.counts.abstentions[SPOILT[1]]))
    return x, seen


@pytest.mark.parametrize("huge", [HUGE, -3e38, 1e30, 2.0**64])
@pytest.mark.parametrize("name", RECIPES)
def test_it_abstains_once_and_goes_on(name: str, huge: float) -> None:
    clean, spoilt = (simulated(RECIPES[name], 5, value) for value in (0.0, huge))
    assert spoilt[1] == [int(step >= SPOILT[0]) for step in range(STEPS)] and not any(clean[1])
    assert distance(spoilt[0], 5) < 1.1 * distance(clean[0], 5) < distance(torch.zeros(D), 5)


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(huge_workers.everything, 2, HUGE, SOON)


@pytest.mark.parametrize("name", RECIPES)
def test_real_workers_do_the_same(name: str, ranks: list[Any]) -> None:
    x, seen = simulated(RECIPES[name], 2, HUGE, SOON)
    for found in ranks:
        assert torch.equal(found[name][0], x) and found[name][1] == seen
