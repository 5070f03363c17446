"""A step without a card: nothing waits for one, and the bits are those of the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.engines.protocol import Protocol, protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.staging import to_host
from tests.contract.parts import ALGORITHMS, same, updates
from tests.devices.distant import CARD, CPU, Distant, Waits, a_card, distant, fast_draws, held, warm

SHAPES: tuple[tuple[int, ...], ...] = ((1,), (3, 33), (130,))
WORKERS, STEPS = 3, 2


def protocol(name: str) -> Protocol:
    return protocol_for([torch.zeros(shape) for shape in SHAPES], ALGORITHMS[name], 5)


def gradients(own: Protocol, step: int) -> Tensor:
    flat = updates(WORKERS, own.layout.size, seed=step).clone()
    if step == 1:
        flat[0, :65] = torch.nan
    return flat


@pytest.fixture(autouse=True)
def draws_are_fast() -> Iterator[None]:
    with fast_draws():
        yield


@pytest.mark.parametrize(
    "question",
    [bool, int, float, Tensor.tolist, Tensor.item, Tensor.numpy, Tensor.cpu, Tensor.nonzero,
     lambda x: x.to("cpu"), lambda x: x.to(CPU), lambda x: torch.zeros(1).copy_(x), lambda x: x[x > 0],
     lambda x: torch.equal(x, x), lambda x: x + torch.ones(1), lambda x: torch.ones(1).to(x.device)],
)  # fmt: skip
def test_the_stand_in_does_not_answer(question: Callable[[Tensor], Any]) -> None:
    with a_card(), pytest.raises(Waits):
        question(Distant(torch.ones(1)))


def test_the_stand_in_works() -> None:
    with a_card():
        x = torch.zeros(3, device=CARD) + torch.tensor([1.0, 2.0, 3.0], device=CARD) * 2
        x[1:].mul_(2)
        (found,) = to_host([x])
    assert isinstance(x, Distant) and found.tolist() == [2.0, 8.0, 12.0]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_of_the_simulation(name: str) -> None:
    own = protocol(name)
    near, far = Simulation(own, WORKERS), None
    for step in range(STEPS):
        flat = gradients(own, step)
        expected = near.step(flat, step, [0.1] * len(SHAPES))
        with a_card():
            far = far or Simulation(own, WORKERS, device=CARD)
            with warm() if step else a_card():
                found = far.step(distant(flat), step, [0.1] * len(SHAPES))
        assert same(held(found), expected) and far.decided == near.decided
        for side in ("workers", "server"):
            assert all(same(held(a), b) for a, b in zip(getattr(far, side), getattr(near, side), strict=True))
    assert far is not None and held(far.counts.abstentions).tolist() == near.counts.abstentions.tolist()
