"""Liars that see all gradients: what they tell, that they are played in the simulation, and refused elsewhere."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gradvote import algorithms, faults
from gradvote.core import Context
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty, on_gradients
from gradvote.faults.alie import Alie
from gradvote.faults.anti_sign import AntiSign
from gradvote.faults.invert import Invert
from gradvote.faults.nan import Nan

M, B, N = 7, 2, 65
COLLUSIONS = [name for name in faults.names() if faults.fault_class(name).sees_all]


def told(*faulty: Faulty, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Gradients, and what is told of them."""
    x = torch.randn(M, B, N, generator=torch.Generator().manual_seed(seed))
    return x, on_gradients(faulty, x, Context(0, 3, torch.arange(B), torch.arange(M)[:, None]), M)


def test_which_ones_see_all() -> None:
    assert COLLUSIONS == ["alie", "anti-sign"]


def test_a_little_is_enough() -> None:
    """Baruch et al. 2019: five honest of seven; two liars need two more, so z is the 3/5 quantile."""
    x, found = told(Faulty(Alie(), workers=(2, 6)))
    honest = x[[0, 1, 3, 4, 5]].double().numpy()
    expected = honest.mean(0) - 0.2533471031357997 * honest.std(0)
    assert torch.equal(found[[0, 1, 3, 4, 5]], x[[0, 1, 3, 4, 5]])
    for liar in (2, 6):
        np.testing.assert_allclose(found[liar].numpy(), expected, rtol=0, atol=1e-6)
    _, further = told(Faulty(Alie(z=1.5), workers=(2, 6)))
    np.testing.assert_allclose(further[2].numpy(), honest.mean(0) - 1.5 * honest.std(0), rtol=0, atol=1e-6)


def test_against_the_sign_of_the_honest_mean() -> None:
    x, found = told(Faulty(AntiSign(), workers=(0, 3, 5)))
    honest = x[[1, 2, 4, 6]]
    assert torch.equal(found[3], found[0])
    assert torch.equal(found[0], -honest.double().mean(0).sign().float() * honest.abs().amax(0))


def test_other_liars_are_not_honest_whatever_the_order() -> None:
    alone = told(Faulty(AntiSign(), workers=(0,)), Faulty(Nan(), workers=(1,)))[1]
    assert torch.equal(alone[0], told(Faulty(Nan(), workers=(1,)), Faulty(AntiSign(), workers=(0,)))[1][0])
    x = told()[0]
    assert torch.equal(alone[0], -x[2:].double().mean(0).sign().float() * x[2:].abs().amax(0))


@pytest.mark.parametrize("name", COLLUSIONS)
def test_honest_abstentions_are_left_out_and_nobody_to_see_is_nothing_to_say(name: str) -> None:
    fault = faults.create(name)
    x = torch.randn(M, B, N, generator=torch.Generator().manual_seed(4))
    x[1, 0, 3] = torch.nan
    ctx = Context(0, 3, torch.arange(B), torch.arange(M)[:, None])
    found = on_gradients([Faulty(fault, workers=(0,))], x, ctx, M)
    without = on_gradients([Faulty(fault, workers=(0, 1))], x, ctx, M)
    assert bool(found[0].isfinite().all())
    if name == "anti-sign":
        assert torch.equal(found[0, 0], without[0, 0])
    assert bool(on_gradients([Faulty(fault, num=M)], x, ctx, M).isnan().all())


@pytest.mark.parametrize("name", COLLUSIONS)
@pytest.mark.parametrize("engine", ["vectorized", "in groups"])
def test_the_simulation_plays_them(name: str, engine: str) -> None:
    """They move the mean away from the honest one, in the direction that they want."""
    shapes = [(N,)] if engine == "vectorized" else [(40, 5), (7,), (1,)]
    protocol = protocol_for([torch.zeros(shape) for shape in shapes], algorithms.sgd(), 0)
    x = torch.randn(M, protocol.layout.size, generator=torch.Generator().manual_seed(6)) + 0.5
    lied = Simulation(protocol, M, [Faulty(faults.create(name), workers=(0, 1))]).step(x, 0, 1.0)
    rest = Simulation(protocol, M - 2).step(x[2:], 0, 1.0)
    assert bool(((lied - rest) * (rest.sign() if name == "anti-sign" else 1.0) <= 1e-6).all())
    assert not torch.equal(lied, rest)


@pytest.mark.parametrize("name", COLLUSIONS)
@pytest.mark.parametrize("place", ["uplink", "downlink", "both"])
def test_they_are_no_links(name: str, place: str) -> None:
    with pytest.raises(ValueError, match=r"it cannot be at the place .* Use the place 'worker'"):
        Faulty(faults.create(name), place)


@pytest.mark.parametrize("name", COLLUSIONS)
def test_real_workers_refuse_what_they_cannot_play(name: str) -> None:
    """`Exchange` and DDP ask so on two ranks, in `test_habits`, and `gradvote train` before it starts workers."""
    faulty = Faulty(faults.create(name), num=1)
    faulty.check(3)
    with pytest.raises(ValueError, match=r"needs the gradients of all workers.*Play it in the simulation"):
        faulty.check_real(3)
    Faulty(Invert(), num=1).check_real(3)


def test_odd_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="a finite z, or none for the paper's; got inf"):
        Alie(float("inf"))
