"""What is trained and nobody votes on: told, or refused, before it parts the ranks for long."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.trained import Newcomers, Trained


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


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))


def backward(model: nn.Module) -> None:
    model(torch.ones(1, 3)).sum().backward()


def sgd(params: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1)  # type: ignore[arg-type]  # whatever a test has


def test_a_layer_that_is_put_in_later_is_named_with_any_optimizer() -> None:
    model = small()
    newcomers = Newcomers(model.modules(), "build it anew")
    backward(model)
    first = sgd(model.parameters())
    newcomers.check(first)
    model.append(nn.Linear(2, 2))
    backward(model)
    newcomers.check(first)
    with pytest.raises(ValueError, match=r"'2\.weight' came into the model after .* fixed at the start: build it anew"):
        newcomers.check(sgd(model.parameters()))
    first.add_param_group({"params": model[2].parameters()})
    with pytest.raises(ValueError, match=r"'2\.weight' came into the model"):
        newcomers.check(first)


def test_a_new_layer_is_named_as_soon_as_it_has_a_gradient() -> None:
    model = small()
    newcomers = Newcomers(model.modules(), "")
    model.append(nn.Linear(2, 2))
    optimizer = sgd(model.parameters())
    newcomers.check(optimizer)
    backward(model)
    with pytest.raises(ValueError, match=r"'2\.weight'"):
        newcomers.check(optimizer)


def test_a_replaced_tensor_is_a_newcomer_even_with_the_old_ones_number() -> None:
    model = small()
    newcomers = Newcomers(model.modules(), "")
    for _ in range(20):
        model[0].weight = nn.Parameter(model[0].weight.detach().clone())
        backward(model)
        with pytest.raises(ValueError, match=r"'0\.weight'"):
            newcomers.check(sgd(model.parameters()))


def test_what_was_there_from_the_start_or_belongs_to_another_model_is_the_users_own() -> None:
    model, other = small(), small()
    model[1].requires_grad_(False)
    newcomers = Newcomers(model.modules(), "")
    model[1].requires_grad_(True)
    backward(model)
    backward(other)
    newcomers.check(sgd([*model.parameters(), *other.parameters()]))


def test_the_model_is_not_kept_alive() -> None:
    model = small()
    newcomers = Newcomers(model.modules(), "")
    del model
    other = small()
    backward(other)
    newcomers.check(sgd(other.parameters()))
