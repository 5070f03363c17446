"""Local steps under torchft's manager: a quorum for each round, and none for the steps between."""

import pytest
import torch
from torch import nn

pytest.importorskip("torchft", reason="needs the extra gradvote[torchft]")

from gradvote import algorithms, local_steps
from tests.engines.torchft.test_vote import Bench, bench

__all__ = ["bench"]


def test_a_round_is_a_step_of_the_manager_and_one_that_failed_is_tried_again(bench: Bench) -> None:
    manager, model = bench.manager(), nn.Linear(4, 3)
    inner = torch.optim.SGD(model.parameters(), lr=0.03)  # with 0.1 two steps lead back to the start
    outer = torch.optim.SGD(model.parameters(), lr=1.0)
    options = {"every": 2, "outer": outer, "engine": "torchft", "manager": manager, "worker": 0}
    local = local_steps.attach(model, inner, algorithms.sgd(), **options)

    def one() -> bool:
        inner.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        inner.step()
        return local.step()

    assert [one() for _ in range(4)] == [False, True, False, True] and manager.current_step() == 2
    plain = [p.detach().clone() for p in model.parameters()]
    vote = local.vote._vote  # type: ignore[attr-defined]  # the engine's own object
    refuse, vote.step = vote.step, lambda: False
    assert [one() for _ in range(2)] == [False, False] and local.left == 1
    assert not torch.equal(model.weight, plain[0]), "the model stays where its own steps led"
    vote.step = refuse
    before = model.weight.detach().clone()
    assert one() and local.round == 3 and not torch.equal(model.weight, before)
