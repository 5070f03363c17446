"""Memories that both ends keep (EF21): right where workers stay, refused where they come and go."""

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.distributed import resize
from gradvote.elastic import attach
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.faults.drop import Drop
from tests.engines.test_resize import checkpoints, trained
from tests.plugins.ef21_plugin.algorithms.ef21 import ef21

M, STEPS = 4, 60


def estimates(simulation: Simulation) -> torch.Tensor:
    """What the workers' estimates say on average, flat."""
    found = [simulation.protocol.algorithm.up.mirrored(state) for state in simulation.workers]
    return torch.cat([own.mean(0).flatten() for own in found if own is not None])


@pytest.mark.parametrize("faults", [(), (Faulty(Drop(), "uplink", num=1, redraw=True),)], ids=["plain", "lost ballots"])
def test_the_server_has_the_mean_of_the_estimates(faults: tuple[Faulty, ...]) -> None:
    """Ballots that are lost included; on constant gradients it is the mean of these, as the paper has it."""
    params = [torch.zeros(7, 5), torch.zeros(3)]
    simulation = Simulation(protocol_for(params, ef21(M), 0), M, faults)
    x = torch.randn(M, 38, generator=torch.Generator().manual_seed(0))
    for step in range(STEPS):
        direction = simulation.step(x.clone(), step, 0.1)
        torch.testing.assert_close(direction, estimates(simulation), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(direction, x.mean(0), rtol=0.05, atol=0.05)


def test_another_number_of_workers_is_refused() -> None:
    states = checkpoints(trained(ef21()))
    assert len(resize(states, len(states), "central", ef21())) == len(states)
    for number in (len(states) - 1, len(states) + 1):
        with pytest.raises(ValueError, match=rf"so its {len(states)} workers cannot become {number}: .* new run\."):
            resize(states, number, algorithm=ef21())


def test_engines_whose_workers_come_and_go_refuse_it() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"here they come and go\. Use gradvote.distributed .* ef_signsgd\."):
        attach(model, torch.optim.SGD(model.parameters(), 0.1), ef21(), min_workers=1)
    assert not algorithms.ef_signsgd().mirrors
