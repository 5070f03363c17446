"""Law 9: no decision is not a zero. What nobody voted on has no gradient, and its optimizer leaves it alone."""

import pytest
import torch
from torch import nn

from gradvote.core import Algorithm
from gradvote.engines.gradients import set_gradients
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from tests.contract.parts import ALGORITHMS

M = 3


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((70, 3), (5,), (1,))]


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
@pytest.mark.parametrize("silent", [frozenset({0}), frozenset({1, 2}), frozenset({0, 1, 2})])
def test_what_nobody_voted_on_stays(algorithm: Algorithm, silent: frozenset[int]) -> None:
    params = parameters()
    before = [p.detach().clone() for p in params]
    simulation = Simulation(protocol_for(params, algorithm, 0), M, device=params[0].device)
    optimizer = torch.optim.AdamW(params, 0.1, weight_decay=0.5)
    layout = simulation.protocol.layout
    for step in range(2):
        own = [torch.full_like(p, torch.nan if i in silent else 1.0) for i, p in enumerate(params)]
        gradients = layout.flatten(own, torch.empty(layout.size)).expand(M, -1)
        direction = simulation.step(gradients, step, 0.1)
        assert simulation.decided == [frozenset(range(3)) - silent] and bool(direction.isfinite().all())
        set_gradients(params, layout, direction, simulation.decided[0])
        optimizer.step()
    for i, (p, then) in enumerate(zip(params, before, strict=True)):
        assert (p.grad is None) == (i in silent)
        assert torch.equal(p, then) if i in silent else not torch.equal(p, then)


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_one_voter_is_a_decision(algorithm: Algorithm) -> None:
    params = parameters()
    simulation = Simulation(protocol_for(params, algorithm, 0), M, device=params[0].device)
    gradients = torch.full((M, simulation.protocol.layout.size), torch.nan)
    gradients[1] = 1.0
    simulation.step(gradients, 0, 0.1)
    assert simulation.decided == [frozenset(range(3))]
