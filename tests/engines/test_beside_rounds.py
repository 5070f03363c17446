"""What a model and its optimizers have beside what is voted on: teachers, buffers, frozen layers, copies of weights."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from tests.engines import fragment_workers
from tests.engines.attached_alone import in_fragments, on
from tests.engines.test_outside_changes import steps
from tests.forked import spawn


class Taught(nn.Module):
    """A student and its average, whose parameters are frozen; and a buffer that is another tensor after each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(3, 2)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + x.mean(0)
        out: Tensor = self.student(x)
        return out

    @torch.no_grad()
    def teach(self) -> None:
        for own, average in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
            average.data = 0.5 * average.data + 0.5 * own.data


def test_a_teacher_is_not_thrown_back_by_a_round_and_told_once() -> None:
    model = Taught()
    inner = SGD(model.student.parameters(), 0.1)
    local = on(model, inner)
    with pytest.warns(UserWarning, match=r"the frozen parameter 'teacher.weight'.*each worker keeps its") as said:
        for _ in range(3):
            for _ in range(2):
                steps(model, inner, local, 1)
                before = model.teacher.weight.clone()
                model.teach()
                assert not torch.equal(before, model.teacher.weight)
            expected = model.teacher.weight.clone()
            with local.agreed():
                assert torch.equal(model.teacher.weight, expected)
            local.finish()
            assert torch.equal(model.teacher.weight, expected)
    assert len(said) == 1


def test_a_teacher_that_is_set_from_what_all_agreed_on_is_no_news() -> None:
    model = Taught()
    inner = SGD(model.student.parameters(), 0.1)
    local = on(model, inner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            steps(model, inner, local, local.left)
            model.teach()
            expected = model.teacher.weight.clone()
        steps(model, inner, local, local.left)
    assert torch.equal(model.teacher.weight, expected)


def test_layers_that_are_frozen_and_stay_are_no_matter() -> None:
    model = Taught()
    inner = SGD(model.student.parameters(), 0.1)
    local = on(model, inner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(model, inner, local, 4)


def test_a_frozen_number_that_is_none_is_no_change() -> None:
    """A layer that is not used may hold anything."""
    model = Taught()
    model.teacher.weight.data[0, 0] = torch.nan
    inner = SGD(model.student.parameters(), 0.1)
    local = on(model, inner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(model, inner, local, 4)


def test_an_optimizer_that_was_not_given_is_named_where_it_steps_first() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    first, second = (SGD(layer.parameters(), 0.1) for layer in model)
    local = on(model, second)
    model(torch.ones(4, 3)).sum().backward()
    first.step()
    with pytest.raises(ValueError, match=r"'0.weight'.*another optimizer has stepped on it, give attach\(...\) all"):
        steps(model, second, local, 1)


def test_buffers_that_are_put_in_place_of_others_reach_the_start() -> None:
    model = Taught()
    inner = SGD(model.student.parameters(), 0.1)
    local = on(model, inner)
    steps(model, inner, local, 2)
    assert torch.equal(local.state_dict()["start"]["mean"], model.mean) and bool(model.mean.any())
    known = model.mean.clone()
    steps(model, inner, local, 1)
    local.finish()
    assert torch.equal(model.mean, known), "taken back with the step"


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(fragment_workers.frozen, 2)


def test_fragments_begin_alike_in_frozen_layers_too(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0], ranks[1])


def test_what_is_unfrozen_beside_fragments_is_refused() -> None:
    """Also where a new optimizer trains it, of which the local steps know nothing."""
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    inner = SGD(model[1].parameters(), 0.1)
    local = in_fragments(model, inner)
    model.requires_grad_(True)
    with pytest.raises(ValueError, match=r"'0.weight' was frozen when the votes began"):
        steps(model, SGD(model.parameters(), 0.1), local, 1)  # type: ignore[arg-type]  # a stand-in


class Masters(Optimizer):
    """SGD on copies in float32, which it writes back."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        for p in self.param_groups[0]["params"]:
            self.state[p] = {"master": p.detach().float().clone(), "kept": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # as torch calls it
        for p in self.param_groups[0]["params"]:
            p.copy_(self.state[p]["master"].add_(p.grad.float(), alpha=-self.param_groups[0]["lr"]))


def test_copies_of_the_weights_that_an_optimizer_keeps_go_with_a_round() -> None:
    """The next step would write them back: each worker would train alone."""
    ends = []
    for make in (Masters, SGD):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        inner = make(model.parameters(), 0.1)
        steps(model, inner, on(model, inner), 5)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_states_that_are_zero_as_the_weights_are_stay() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.bias)
    inner = Masters(model.parameters(), 0.1)
    steps(model, inner, on(model, inner), 4)
    assert bool(model.bias.any()) and not inner.state[model.bias]["kept"].any()


class Packed(Tensor):
    """As states in 8 bits are: of the parameter's shape and type, without the operations of a tensor."""

    @staticmethod
    def __new__(cls, like: Tensor) -> "Packed":
        return Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # as torch calls it
        if func is torch.ops.aten.detach.default:
            return cls(torch.empty(2, 3))
        raise NotImplementedError(str(func))


def test_states_that_cannot_be_compared_are_left_alone() -> None:
    model = nn.Linear(3, 2, bias=False)
    inner = SGD(model.parameters(), 0.1)
    inner.state[model.weight]["packed"] = packed = Packed(model.weight)
    steps(model, inner, on(model, inner), 4)
    assert inner.state[model.weight]["packed"] is packed
