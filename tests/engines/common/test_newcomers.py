import pytest
import torch
from torch import nn

from gradvote.engines.common.newcomers import Newcomers


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
