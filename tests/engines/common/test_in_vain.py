"""A run in which nobody ever votes is told, however it comes about."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gradvote import algorithms
from gradvote.engines.common.in_vain import STEPS
from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.training import Training


class Loop:
    """A model with a vote of one worker, which gives nothing; `votes`: whether it is asked at all."""

    def __init__(self, votes: bool) -> None:
        self.model, self.votes = nn.Linear(3, 2), votes
        self.optimizer = SGD(self.model.parameters(), 0.1)
        parameters = parameters_of(self.model.named_parameters(), "a test")
        modules = [*self.model.modules()]
        self.training = Training(parameters, algorithms.signsgd(), [self.optimizer], None, None, "again", modules)

    def steps(self, number: int, decided: bool = False) -> None:
        for _ in range(number):
            self.optimizer.zero_grad()
            targets = {i: torch.ones_like(p) for i, p in enumerate(self.training.params)}
            if self.votes:
                self.training.give(targets, frozenset(targets) if decided else frozenset())
            self.optimizer.step()


@pytest.mark.parametrize("votes", [True, False], ids=["own loop", "behind a hook that is never called"])
def test_a_model_that_does_not_move_is_told_once(votes: bool) -> None:
    """As after load_state_dict(assign=True): the vote, and the optimizer, have parameters that nobody trains."""
    loop = Loop(votes)
    loop.model.load_state_dict({name: value.clone() for name, value in loop.model.state_dict().items()}, assign=True)
    with pytest.warns(UserWarning, match=r"nobody has voted on any parameter.*load_state_dict\(assign=True\)") as said:
        loop.steps(3 * STEPS)
    assert len(said) == 1


def test_some_steps_without_a_decision_are_no_matter() -> None:
    loop = Loop(votes=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            loop.steps(STEPS - 1)
            loop.steps(1, decided=True)


def test_a_model_that_was_frozen_is_no_matter() -> None:
    loop = Loop(votes=False)
    loop.model.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.steps(2 * STEPS)
