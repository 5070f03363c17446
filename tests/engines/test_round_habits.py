"""Habits of scripts around local steps: teachers, buffers, odd layers, a second try, Ctrl-C, torch's own functions."""

import copy
import warnings
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adam, Optimizer, SparseAdam
from torch.optim.lr_scheduler import StepLR

from gradvote import algorithms, local_steps
from gradvote.core import Algorithm
from gradvote.engines import overlap
from gradvote.engines.overlap import Delay
from gradvote.local_steps.by_engine import Delayed
from tests.engines import fragment_workers
from tests.engines.test_outside_changes import Alone, steps
from tests.forked import spawn


def half(params: list[nn.Parameter]) -> Optimizer:
    return SGD(params, 0.5)


def on(model: nn.Module, inner: Any, algorithm: Algorithm | None = None, **options: Any) -> local_steps.LocalSteps:
    given = {"every": 2, "outer": half, "engine": Alone, **options}
    return local_steps.attach(model, inner, algorithm or algorithms.diloco(), **given)


def in_fragments(model: nn.Module, inner: Any, algorithm: Algorithm | None = None) -> local_steps.Fragments:
    with mock.patch.dict(local_steps.ENGINES, {"distributed": Alone}):
        return local_steps.attach_fragments(
            model, inner, algorithm or algorithms.diloco(), every=4, fragments=2, outer=half
        )


# --- what is written behind autograd's back -------------------------------------------------------------------------


def test_a_checkpoint_that_is_written_through_data_is_refused_before_a_step() -> None:
    """As averages of weights and older scripts do it: the version of a tensor does not tell."""
    model = nn.Linear(3, 2)
    inner = SGD(model.parameters(), 0.1)
    local = on(model, inner)
    for p in model.parameters():
        p.data.copy_(p.data + 1)
    with pytest.raises(ValueError, match="'weight' was changed after attach"):
        steps(model, inner, local, 1)


def test_weights_that_are_bounded_through_data_after_a_round_are_told() -> None:
    model = nn.Linear(3, 2)
    inner = SGD(model.parameters(), 0.1)
    local = on(model, inner)
    steps(model, inner, local, 2)
    model.weight.data.clamp_(-0.01, 0.01)
    with pytest.warns(UserWarning, match="'weight' between two rounds"):
        steps(model, inner, local, 2)


def test_torchs_functions_for_states_take_no_step() -> None:
    """get_optimizer_state_dict steps once at rate 0: neither the first step of a run, nor one without its model."""
    model = nn.Linear(3, 2)
    inner = Adam(model.parameters(), 0.1)
    local = on(model, inner)
    get_optimizer_state_dict(model, inner)
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    with pytest.raises(ValueError, match="'weight' was changed after attach"):
        steps(model, inner, local, 1)
    states = copy.deepcopy((model.state_dict(), local.state_dict()))
    model = nn.Linear(3, 2)
    inner = Adam(model.parameters(), 0.1)
    local = on(model, inner)
    local.load_state_dict(states[1])
    get_optimizer_state_dict(model, inner)
    model.load_state_dict(states[0])
    steps(model, inner, local, 2)


# --- what nobody votes on -------------------------------------------------------------------------------------------


class Taught(nn.Module):
    """A student and its average, whose parameters are frozen; and a buffer that is another tensor after each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(3, 2)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + x.mean(0)
        return self.student(x)

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


# --- layers ---------------------------------------------------------------------------------------------------------


def test_constants_of_a_layer_are_refused_in_fragments_too() -> None:
    layer = parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="householder")
    model = nn.Sequential(layer, nn.Linear(4, 2))
    with pytest.raises(ValueError, match="'0' is kept orthogonal by Householder"):
        in_fragments(model, SGD(model.parameters(), 0.1), algorithms.signsgd())


def test_sparse_gradients_are_the_inner_optimizers_matter() -> None:
    """A way is dense. Where the gradient itself is voted on, it is refused."""
    model = nn.Embedding(5, 3, sparse=True)
    inner = SparseAdam(model.parameters(), 0.1)
    local = on(model, inner)
    before = model.weight.detach().clone()
    for _ in range(2):
        inner.zero_grad()
        model(torch.tensor([1, 3])).sum().backward()
        inner.step()
        voted = local.step()
    assert voted and [*(model.weight != before).any(1)] == [False, True, False, True, False]
    with pytest.raises(ValueError, match="'weight' is sparse"):
        on(model, None, every=1)


# --- the loop -------------------------------------------------------------------------------------------------------


def test_the_number_of_steps_to_a_round_stays() -> None:
    model = nn.Linear(3, 2)
    local = on(model, SGD(model.parameters(), 0.1))
    with pytest.raises(AttributeError, match=r"has 2 steps.*cannot become 8 later.*attach anew with every="):
        local.every = 8
    assert local.every == 2 and local.left == 2


def test_fragments_go_on_in_turn_after_a_finish() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    inner = SGD(model.parameters(), 0.1)
    local = in_fragments(model, inner)
    for taken in range(5):
        steps(model, inner, local, taken)  # type: ignore[arg-type]  # a stand-in
        local.finish()
        assert [part.left for part in local.parts] == [4, 2]


def test_steps_that_are_not_finite_are_told_without_states_too() -> None:
    """This worker would abstain for ever, in silence."""
    model = nn.Linear(3, 2)
    inner = SGD(model.parameters(), 0.1)
    local = on(model, inner)
    with pytest.warns(UserWarning, match="came to numbers that are not finite") as said:
        for _ in range(4):
            inner.zero_grad()
            (model(torch.ones(4, 3)).sum() * torch.nan).backward()
            inner.step()
            local.step()
    assert len(said) == 1


def test_an_outer_optimizer_serves_a_second_try() -> None:
    model = nn.Linear(3, 2)
    inner, outer = SGD(model.parameters(), 0.1), SGD(model.parameters(), 0.5)

    def refuses(*_: Any, **options: Any) -> Any:
        raise ValueError("no such placement")

    with pytest.raises(ValueError, match="no such placement"):
        on(model, inner, outer=outer, engine=refuses)
    assert [*map(id, outer.param_groups[0]["params"])] == [*map(id, model.parameters())]
    steps(model, inner, on(model, inner, outer=outer), 2)


class Late:
    """A round that moves one number by one."""

    def __init__(self) -> None:
        self.p = nn.Parameter(torch.zeros(1))
        self.outer = SGD([self.p], 1.0)
        self.params, self.stats, self.all_stats, self.account = [self.p], None, None, None
        self.state_dict = self.load_state_dict = None

    def step(self) -> None:
        self.p.grad = torch.ones(1)


def late(delay: int = 1) -> tuple[Late, Delay]:
    made = Late()
    rounds = Delayed(lambda *_, **__: made, nn.Module(), made.outer, algorithms.sgd())  # type: ignore[arg-type, return-value]  # a stand-in
    return made, Delay(delay, 0.5, rounds, made.outer, torch.device("cpu"))


def test_a_round_that_is_waited_for_outlives_ctrl_c() -> None:
    """The other ranks take it: a checkpoint that is saved on the way out has it, too."""
    made, delay = late()
    delay.send()
    with mock.patch.object(overlap._Flight, "wait", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        delay.settle()
    assert delay.under_way and float(made.p.detach()) == 0.0
    delay.settle()
    assert float(made.p.detach()) == -1.0


def test_a_schedule_of_the_outer_rate_sees_the_steps_of_delayed_rounds() -> None:
    made, delay = late()
    schedule = StepLR(made.outer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        delay.send()
        delay.settle()
        schedule.step()
