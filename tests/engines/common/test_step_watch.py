import warnings
from typing import Any

import pytest
import torch
from torch import nn

from gradvote.engines.common.directions import Directions
from gradvote.engines.common.in_vain import Dropped, Idle
from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.step_watch import StepWatch
from gradvote.engines.common.trained import Newcomers


class Loop:
    """A model with a vote of one worker, and its optimizer."""

    def __init__(self, knows_scaler: bool = False, **options: Any) -> None:
        self.params = [nn.Parameter(torch.zeros(40, 5)), nn.Parameter(torch.zeros(7))]
        self.optimizer = torch.optim.SGD(self.params, 0.1, **options)
        self.directions = Directions(self.params, ["a", "b"], "")
        self.dropped = Dropped(self.params, has_state=True)
        given = Optimizers(self.params, ["a", "b"], [self.optimizer])
        looks = Newcomers([], ""), self.dropped, Idle()
        self.watch = StepWatch(self.params, self.directions, knows_scaler, *looks, optimizers=given)

    def vote(self, scale: float = 1.0) -> None:
        self.optimizer.zero_grad()
        targets = {i: torch.ones_like(p) * scale for i, p in enumerate(self.params)}
        self.dropped.gave(targets.keys(), self.directions.kept)
        self.directions.give(targets, targets.keys())
        self.watch.gave(targets, scale)

    def clip(self, max_norm: float) -> None:
        torch.nn.utils.clip_grad_norm_(self.params, max_norm)


def said(loop: Loop, **closure: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loop.optimizer.step(**closure)
    return [str(w.message) for w in seen]


def test_clipping_a_direction_is_said_once() -> None:
    loop = Loop()
    loop.vote()
    loop.clip(1.0)
    (text,) = said(loop)
    assert "clip_grad_norm_" in text and "max_norm=" in text and "0.0695 times" in text
    loop.vote()
    loop.clip(1.0)
    assert said(loop) == []


@pytest.mark.parametrize("votes", [0, 1])
def test_gradients_that_are_written_by_hand_are_seen(votes: int) -> None:
    """As torch.func.grad or a model inside its wrapper leads to: no hook of autograd runs, and nobody votes."""
    loop = Loop()
    for _ in range(votes):
        loop.vote()
        assert said(loop) == []
    for p in loop.params:
        p.grad = torch.ones_like(p)
    (text,) = said(loop)
    assert "own gradient of 'a', on which nobody voted" in text and "by hand" in text


def test_directions_may_be_replaced_by_hand() -> None:
    loop = Loop()
    for _ in range(3):
        loop.vote()
        for p in loop.params:
            assert p.grad is not None
            p.grad = p.grad * 0.9
        assert said(loop) == []


def test_another_optimizer_with_another_rate_is_told_once() -> None:
    """A script that makes a new one for its second phase; with the same rate nothing is rescaled otherwise."""
    loop = Loop()
    for rate, told in ((0.1, 0), (0.01, 1), (0.01, 0)):
        loop.optimizer = torch.optim.SGD(loop.params, rate)
        loop.vote()
        texts = said(loop)
        assert len(texts) == told and all("rate 0.01, but the vote was given another" in text for text in texts)


def test_clipping_is_seen_whenever_it_begins() -> None:
    loop = Loop()
    for _ in range(50):
        loop.vote()
        assert said(loop) == []
    loop.vote()
    loop.clip(1.0)
    assert len(said(loop)) == 1


@pytest.mark.parametrize("bound", [1e6, 1.0])
def test_gradients_are_looked_at_when_a_closure_has_run(bound: float) -> None:
    """Before it, there is what earlier passes under no_sync have left."""
    loop = Loop()
    loop.params[0].sum().backward()

    def closure() -> None:
        loop.vote()
        loop.clip(bound)

    texts = said(loop, closure=closure)
    assert len(texts) == (bound == 1.0) and all("max_norm=" in text for text in texts)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "momentum": 0.9}, {"foreach": False}])
def test_ordinary_steps_are_nobodys_business(options: dict[str, Any]) -> None:
    loop = Loop(**options)
    for _ in range(3):
        loop.vote()
        loop.clip(1e6)
        assert said(loop) == []
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1).step()


def scaled(loop: Loop, scale: float) -> list[str]:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.zeros(1))
    loop.vote(scale)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        scaler.step(loop.optimizer)
    return [str(w.message) for w in seen]


def test_a_scaler_that_nobody_named_is_said() -> None:
    (text,) = scaled(Loop(), 1.0)
    assert "GradScaler that the vote does not know divides its directions by 1024" in text and "scaler=" in text


def test_a_known_scaler_is_right() -> None:
    assert scaled(Loop(knows_scaler=True), 1024.0) == []


def test_a_fused_optimizer_shows_the_scaler_itself() -> None:
    (text,) = scaled(Loop(fused=True), 1.0)
    assert "GradScaler that the vote does not know" in text


def test_masked_rows_and_fused_steps_of_a_known_scaler_are_nobodys_business() -> None:
    loop = Loop()
    loop.vote()
    loop.params[0].grad[:20] = 0  # type: ignore[index]
    assert said(loop) == []
    assert scaled(Loop(knows_scaler=True, fused=True), 1024.0) == []


@pytest.mark.parametrize("by", [2048, 3, 1 / 1024])
def test_a_factor_without_a_scaler_may_be_a_clipping_or_a_loss_that_was_scaled_by_hand(by: float) -> None:
    loop = Loop()
    loop.vote()
    for p in loop.params:
        p.grad /= by  # type: ignore[operator]
    (text,) = said(loop)
    assert "Where it is a clipping, such as torch.nn.utils.clip_grad_norm_" in text
    assert "Where the loss is scaled by hand" in text and "divide before the vote" in text


def test_a_gradient_without_a_vote_is_said() -> None:
    loop = Loop()
    loop.vote()
    loop.optimizer.zero_grad()
    (loop.params[1] * 2).sum().backward()
    (text,) = said(loop)
    assert "gradient of 'b', on which nobody voted, so the ranks part" in text and "no_sync" in text


def votes_say(loop: Loop) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loop.vote()
    return [str(w.message) for w in seen]


def test_directions_that_nobody_applied_are_said_once() -> None:
    """A GAN's generator step: the discriminator votes, too, and `zero_grad` drops it."""
    loop = Loop()
    for _ in range(3):
        assert votes_say(loop) == []
        loop.optimizer.step()
    assert votes_say(loop) == []
    (text,) = votes_say(loop)
    assert "no_sync()" in text and "ddp.module(...)" in text and "momenta and memories have taken it in" in text
    assert votes_say(loop) == []


@pytest.mark.parametrize("through_data", [False, True])
def test_directions_that_were_applied_by_hand_are_used(through_data: bool) -> None:
    loop = Loop()
    assert votes_say(loop) == []
    with torch.no_grad():
        for p in loop.params:
            (p.data if through_data else p).sub_(0.1)
    assert votes_say(loop) == []


def test_a_vote_on_nothing_has_nothing_to_drop() -> None:
    loop = Loop()
    loop.dropped.gave((), kept=False)
    assert votes_say(loop) == []


@pytest.mark.parametrize("back", [False, True])
def test_a_model_that_was_converted_is_refused_before_it_steps(back: bool) -> None:
    """Behind DDP: plain DDP says nothing either, and its ranks part."""
    loop = Loop()
    loop.vote()
    loop.optimizer.step()
    loop.optimizer.zero_grad()
    for p in loop.params:
        p.data = p.data.double()
        p.data = p.data.float() if back else p.data
        p.sum().backward()
    before = loop.params[0].detach().clone()
    with pytest.raises(ValueError, match=r"'a' was converted or moved .*nobody has voted on it.* first; then wrap it"):
        loop.optimizer.step()
    assert torch.equal(loop.params[0], before)
