"""Parameters that an optimizer trains and nobody votes on: told once, before they part the ranks for long."""

import warnings

import pytest
from torch import nn
from torch.optim import SGD

from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.trained import Trained


def trained(model: nn.Module, *optimizers: SGD) -> Trained:
    return Trained(parameters_of(model.named_parameters(), "a test"), optimizers, "begin anew")


def test_what_only_the_optimizer_has_is_told_once() -> None:
    """A head, or a loss with weights of its own: each rank would go its own way there."""
    body, loss = nn.Linear(3, 2), nn.Linear(2, 5, bias=False)
    own = trained(body, SGD([*body.parameters(), *loss.parameters()], 0.1))
    with pytest.warns(UserWarning, match=r"nobody votes \(1, the first of shape \(5, 2\)\).*ignore this") as said:
        own.check()
        own.check()
    assert len(said) == 1


def test_two_votes_may_share_an_optimizer() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(2, 5)
    shared = SGD([*first.parameters(), *second.parameters()], 0.1)
    votes = [trained(first, shared), trained(second, shared)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for vote in votes:
            vote.check()


def test_what_is_frozen_is_no_matter() -> None:
    body, head = nn.Linear(3, 2), nn.Linear(2, 5).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(body, SGD([*body.parameters(), *head.parameters()], 0.1)).check()


def test_a_tensor_in_the_place_of_one_that_is_gone_is_another() -> None:
    gone = nn.Linear(3, 2)
    trained(gone, SGD(gone.parameters(), 0.1))
    del gone
    body = nn.Linear(3, 2)
    heads = [nn.Linear(3, 2) for _ in range(50)]
    with pytest.warns(UserWarning, match=r"nobody votes \(100,"):
        trained(body, SGD([p for layer in (body, *heads) for p in layer.parameters()], 0.1)).check()
