"""What a script does to its model beside the optimizer's steps, between the rounds of local steps."""

import copy
import warnings
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from gradvote import algorithms, local_steps
from gradvote.core import Algorithm


class Alone:
    """An engine of a single worker: the outer optimizer steps with its way."""

    def __init__(self, start: nn.Module, outer: Optimizer, algorithm: Algorithm, **options: Any) -> None:
        self.outer = outer

    def step(self) -> bool:
        self.outer.step()
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def started(every: int = 2) -> tuple[nn.Module, Optimizer, local_steps.LocalSteps]:
    model = nn.Linear(3, 2)
    inner = SGD(model.parameters(), 0.1)
    outer = SGD(model.parameters(), 0.5)
    return model, inner, local_steps.attach(model, inner, algorithms.diloco(), every=every, outer=outer, engine=Alone)


def steps(
    model: nn.Module, inner: Optimizer, local: local_steps.LocalSteps, number: int, inference: bool = False
) -> None:
    for _ in range(number):
        inner.zero_grad()
        model(torch.ones(4, 3)).square().mean().backward()
        with torch.inference_mode(inference):
            inner.step()
            local.step()


def moved(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)


def test_a_checkpoint_for_the_model_alone_is_refused_before_a_step() -> None:
    """It would be thrown back to what was attached, by the first vote and in silence."""
    model, inner, local = started()
    saved = {name: value + 1 for name, value in model.state_dict().items()}
    model.load_state_dict(saved)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'weight' was changed after attach.* Load the model before attaching"):
            steps(model, inner, local, 1)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert local.left == 2


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
@pytest.mark.parametrize("model_first", [True, False])
def test_resumed_whole_it_goes_on_to_the_bit(taken: int, model_first: bool) -> None:
    model, inner, local = started()
    steps(model, inner, local, taken)
    states = copy.deepcopy((model.state_dict(), inner.state_dict(), local.state_dict()))
    steps(model, inner, local, 5)
    other, again, resumed = started()
    loads = [lambda: other.load_state_dict(states[0]), lambda: resumed.load_state_dict(states[2])]
    for load in loads if model_first else reversed(loads):
        load()
    again.load_state_dict(states[1])
    steps(other, again, resumed, 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_weights_put_back_after_an_evaluation_are_no_change() -> None:
    model, inner, local = started()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            own = copy.deepcopy(model.state_dict())
            moved(model)
            model.load_state_dict(own)
            steps(model, inner, local, 2)


def test_a_change_between_two_rounds_is_told_once() -> None:
    model, inner, local = started()
    steps(model, inner, local, 2)
    with pytest.warns(UserWarning, match="'weight' between two rounds") as said:
        for _ in range(2):
            moved(model)
            steps(model, inner, local, 2)
    assert len(said) == 1


def test_weights_bounded_within_a_round_are_the_scripts_own_matter() -> None:
    model, inner, local = started(every=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            inner.zero_grad()
            model(torch.ones(4, 3)).sum().backward()
            inner.step()
            moved(model)
            local.step()


def test_a_round_without_a_step_is_told_once() -> None:
    *_, local = started()
    with pytest.warns(UserWarning, match=r"No parameter has moved in the 2 local steps.*optimizer.step\(\)") as said:
        for _ in range(6):
            local.step()
    assert len(said) == 1


def test_a_model_of_another_type_is_refused_with_what_to_do() -> None:
    model, inner, local = started(every=1)
    model.double()
    inner.zero_grad()
    model(torch.ones(4, 3).double()).sum().backward()
    for step in (inner.step, local.step):
        with pytest.raises(ValueError, match=r"'weight' is torch.float64 on cpu now and was torch.float32 .* attach"):
            step()


def test_one_optimizer_cannot_be_both() -> None:
    model = nn.Linear(3, 2)
    both = SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="are one object; give two"):
        local_steps.attach(model, both, algorithms.diloco(), every=2, outer=both, engine=Alone)
    assert [*map(id, both.param_groups[0]["params"])] == [*map(id, model.parameters())]


def test_a_state_without_its_model_is_refused_before_a_step() -> None:
    """The way from the start to a model that was not loaded would be voted on."""
    model, inner, local = started(3)
    steps(model, inner, local, 4)
    states = copy.deepcopy((model.state_dict(), local.state_dict()))
    model, inner, local = started(3)
    local.load_state_dict(states[1])
    with pytest.raises(ValueError, match="A state of the local steps was loaded, but the parameter 'weight' is not"):
        steps(model, inner, local, 1)
    model.load_state_dict(states[0])
    steps(model, inner, local, 1)


def test_a_state_with_another_outer_optimizer_is_refused_whole() -> None:
    model, inner, local = started()
    steps(model, inner, local, 3)
    state = copy.deepcopy(local.state_dict())
    for outer, text in (
        (Adam(model.parameters(), 0.1), "another outer optimizer: SGD; here it is Adam"),
        (SGD([{"params": [p]} for p in model.parameters()], 0.1), r"groups of \[2\] parameters; here it is groups of"),
    ):
        other = local_steps.attach(model, inner, algorithms.diloco(), every=2, outer=outer, engine=Alone)
        before = copy.deepcopy(other.state_dict()["start"])
        with pytest.raises(ValueError, match=text):
            other.load_state_dict(state)
        assert all(torch.equal(before[name], value) for name, value in other.state_dict()["start"].items())


def test_a_layer_that_comes_later_is_named() -> None:
    """Also where a new optimizer trains it, of which the local steps know nothing."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    inner = SGD(model.parameters(), 0.1)
    local = local_steps.attach(model, inner, algorithms.diloco(), every=2, outer=lambda p: SGD(p, 0.5), engine=Alone)
    steps(model, inner, local, 2)
    model[1] = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"'1.weight' came into the model after the votes had begun"):
        steps(model, SGD(model.parameters(), 0.1), local, 2)


def test_finish_gives_what_all_agreed_on() -> None:
    model, inner, local = started(3)
    steps(model, inner, local, 3)
    agreed = copy.deepcopy(model.state_dict())
    steps(model, inner, local, 2)
    assert not local.finish() and local.left == 3
    assert all(torch.equal(value, agreed[name]) for name, value in model.state_dict().items())


def test_a_round_within_inference_mode_is_an_ordinary_round() -> None:
    """So is what was attached within it."""
    ends = []
    for inference in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        inner = SGD(model.parameters(), 0.1)
        with torch.inference_mode(inference):
            local = local_steps.attach(
                model, inner, algorithms.diloco(), every=2, outer=lambda p: SGD(p, 0.5), engine=Alone
            )
        steps(model, inner, local, 4, inference)
        steps(model, inner, local, 3)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_fragments_load_a_state_whole_or_not_at_all() -> None:
    """The first fragment of another model fits, the second does not."""
    with mock.patch.dict(local_steps.ENGINES, {"distributed": Alone}):
        made = [_fragments(classes) for classes in (4, 5)]
    state = made[0].state_dict()
    for part in state["fragments"]:
        part["round"] = 3
    with pytest.raises(ValueError, match=r"of shape \(4, 3\); torch.float32 of shape \(5, 3\) was expected"):
        made[1].load_state_dict(state)
    assert [part.round for part in made[1].parts] == [0, 0]
    with pytest.raises(TypeError, match="takes what state_dict gave, a dictionary; got a NoneType"):
        made[1].load_state_dict(None)  # type: ignore[arg-type]


def _fragments(classes: int) -> local_steps.Fragments:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, classes))
    inner = SGD(model.parameters(), 0.1)
    return local_steps.attach_fragments(
        model, inner, algorithms.diloco(), every=4, fragments=2, outer=lambda params: SGD(params, 0.7)
    )


def test_a_rate_of_numpys_is_saved_as_a_number() -> None:
    """torch.load reads plain values only, unless it is told otherwise."""
    *_, local = started()
    local.outer.param_groups[0]["lr"] = np.interp(3, [0, 10], [0.5, 0.1])
    assert type(local.state_dict()["outer"]["param_groups"][0]["lr"]) is float
