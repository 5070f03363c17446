"""A worker whose scheduler is not where the others' are hears so, once."""

import warnings

import pytest
import torch

from gradvote import algorithms
from gradvote.engines.common.rates_apart import RatesApart
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot


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
