"""What optimizers of all kinds have in their groups and states, and what of it an engine can use."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gradvote import algorithms
from gradvote.engines.common.optimizers import Optimizers, RatesApart, load_exactly
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.shared_state import digest_of_state, from_bytes, to_bytes
from gradvote.engines.common.slot import Slot


class Precise(Optimizer):
    """Keeps a float32 average, whatever the parameter's type."""

    def __init__(self, params: Any, lr: float | None = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            average: Tensor = self.state[p].setdefault("average", torch.zeros(p.shape))
            average.add_(p.grad.float() / 3)


def given(model: nn.Module, optimizer: Optimizer) -> Optimizers:
    names, params = zip(*model.named_parameters(), strict=True)
    return Optimizers(params, names, [optimizer])


def test_an_optimizer_without_a_rate_is_refused_before_anything_is_built() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"no learning rate \(lr=None\).*relative_step=False"):
        given(model, Precise(model.parameters(), lr=None))


def test_a_parameter_that_was_taken_out_is_named() -> None:
    model = nn.Linear(3, 2)
    optimizer = SGD(model.parameters(), 0.1)
    own = given(model, optimizer)
    optimizer.param_groups[0]["params"] = [model.weight]
    with pytest.raises(ValueError, match="The parameter 'bias' was taken out of its optimizer"):
        own.rates()


def test_states_are_loaded_with_the_types_they_have() -> None:
    """Torch gives them the parameter's: a member that learned would step otherwise than the others."""
    one, other = nn.Linear(3, 2).bfloat16(), nn.Linear(3, 2).bfloat16()
    stepped, fresh = Precise(one.parameters()), Precise(other.parameters())
    for p in one.parameters():
        p.grad = torch.ones_like(p)
    stepped.step()
    load_exactly(fresh, from_bytes(to_bytes(stepped.state_dict())))
    averages = [[state["average"] for state in optimizer.state.values()] for optimizer in (stepped, fresh)]
    for a, b in zip(*averages, strict=True):
        assert b.dtype == torch.float32 and torch.equal(a, b)


def test_a_rate_of_numpys_reaches_a_peer_as_a_number() -> None:
    """It reads tensors and plain values only, and could never join otherwise."""
    optimizer = SGD(nn.Linear(3, 2).parameters(), 0.1)
    optimizer.param_groups[0]["lr"] = np.interp(30, [0, 100], [0.1, 0.01])
    state = optimizer.state_dict()
    found = from_bytes(to_bytes({"optimizer": state, "several": [state, (np.int64(3),)]}))
    rate = found["optimizer"]["param_groups"][0]["lr"]
    assert type(rate) is float and rate == optimizer.param_groups[0]["lr"] and found["several"][1] == (3,)
    assert digest_of_state({"lr": np.float64(0.1)}) == digest_of_state({"lr": 0.1})


def test_a_scheduler_that_begins_anew_is_told_once_and_one_a_step_behind_is_not() -> None:
    apart = RatesApart()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart.look([0.1, torch.tensor(0.2), 0.0], [0.1, 0.19, 0.0])
    with pytest.warns(UserWarning, match="rate is 0.2, but the lower median of those that voted, 0.01, is taken"):
        apart.look([0.1, torch.tensor(0.2)], [0.1, 0.01])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart.look([0.1, 0.2], [0.0, 0.01])


def test_a_replica_says_so_when_it_takes_another_ones_rate() -> None:
    ballots = {}
    for number, lr in enumerate((0.1, 0.01)):
        model = torch.nn.Linear(3, 2)
        replica = Replica(model, torch.optim.SGD(model.parameters(), lr), algorithms.signsgd(), number, 0, None)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        ballots[number] = replica.vote(Slot()).body
        if number == 0:
            first = replica
    with pytest.warns(UserWarning, match="rate is 0.1, but the lower median"):
        first.apply(Slot(), ballots)
