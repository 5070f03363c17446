"""Habits of scripts around local steps: changes by hand, odd layers, a second try, Ctrl-C, torch's own functions."""

import copy
import warnings
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adam, SparseAdam
from torch.optim.lr_scheduler import StepLR

from gradvote import algorithms
from gradvote.engines import overlap
from gradvote.engines.overlap import Delay
from gradvote.local_steps.by_engine import Delayed
from tests.engines.attached_alone import attached, in_fragments, on
from tests.engines.test_outside_changes import steps

# --- what is written behind autograd's back -------------------------------------------------------------------------


def test_a_checkpoint_that_is_written_through_data_is_refused_before_a_step() -> None:
    """As averages of weights and older scripts do it: the version of a tensor does not tell."""
    model, inner, local = attached()
    for p in model.parameters():
        p.data.copy_(p.data + 1)
    with pytest.raises(ValueError, match="'weight' was changed after attach"):
        steps(model, inner, local, 1)


def test_weights_that_are_bounded_through_data_after_a_round_are_told() -> None:
    model, inner, local = attached()
    steps(model, inner, local, 2)
    model.weight.data.clamp_(-0.01, 0.01)
    with pytest.warns(UserWarning, match="'weight' between two rounds"):
        steps(model, inner, local, 2)


def test_torchs_functions_for_states_take_no_step() -> None:
    """get_optimizer_state_dict steps once at rate 0: neither the first step of a run, nor one without its model."""
    model, inner, local = attached(Adam)
    get_optimizer_state_dict(model, inner)
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    with pytest.raises(ValueError, match="'weight' was changed after attach"):
        steps(model, inner, local, 1)
    states = copy.deepcopy((model.state_dict(), local.state_dict()))
    model, inner, local = attached(Adam)
    local.load_state_dict(states[1])
    get_optimizer_state_dict(model, inner)
    model.load_state_dict(states[0])
    steps(model, inner, local, 2)


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
    model, inner, local = attached()
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
