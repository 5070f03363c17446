"""Nothing is lost: sent + memory == input, delivered or not, and no step is taken at a zero rate.

p − sent and then + sent rounds twice, so the sums agree to a few units in the last place of the larger one.
"""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from gradvote.codecs import ErrorFeedback
from gradvote.core import Algorithm, State
from tests.contract.parts import ALGORITHMS, CODECS, context, same, senders, updates

M, B, N = 3, 2, 70
FEEDBACK = CODECS[ErrorFeedback]
REMEMBERING = [name for name in ALGORITHMS if "ErrorFeedback" in repr(ALGORITHMS[name].up)]


def close(a: Tensor, b: Tensor, size: Tensor) -> bool:
    return bool(((a - b).abs() <= 4e-7 * (size.abs() + b.abs())).all())


@pytest.mark.parametrize("codec", FEEDBACK, ids=repr)
def test_sent_plus_memory_is_the_input(codec: ErrorFeedback) -> None:
    """p = x + (η_{t−1}/η_t)e = sent + e'."""
    state, last = codec.init(torch.zeros(M, B, N)), None
    for step, lr in enumerate((0.1, 0.1, 0.04, 0.3)):
        ctx, x = context(senders(M), B, step, lr), updates(M, B, N, seed=step)
        ratio = (last or lr) / lr if codec.track_lr else 1.0
        p, size = x + state["memory"] * ratio, x.abs() + state["memory"].abs() * ratio
        payload, state = codec.encode(x, state, ctx)
        sent = codec.decode(payload, ctx, N)
        assert close(sent + state["memory"], p, sent.abs() + size)
        last = lr


@pytest.mark.parametrize("name", REMEMBERING)
def test_an_undelivered_ballot_stays_unsent(name: str) -> None:
    """The memory is then the whole input of the codec; momenta and rates are those of the step."""
    algorithm = ALGORITHMS[name]
    state = _after_two_steps(algorithm)
    ctx, x = context(senders(M), B, 2, 0.05), updates(M, B, N, seed=2)
    ballots, state = algorithm.encode(x, state, ctx)
    sent = algorithm.up.decode(ballots, ctx, N)
    kept = algorithm.undelivered(deepcopy(state), ballots, ctx, N)
    assert close(_memory(kept), _memory(state) + sent, sent)
    assert not same(_memory(kept), _memory(state))
    without = _without_memory(kept)
    assert same(without, _without_memory(state))


@pytest.mark.parametrize("name", REMEMBERING)
def test_an_undelivered_abstention_changes_nothing(name: str) -> None:
    algorithm = ALGORITHMS[name]
    state = _after_two_steps(algorithm)
    ctx, x = context(senders(M), B, 2), updates(M, B, N, seed=2)
    x[1] = torch.nan
    ballots, state = algorithm.encode(x, state, ctx)
    kept = algorithm.undelivered(deepcopy(state), ballots, ctx, N)
    assert same(_memory(kept)[1], _memory(state)[1])


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in REMEMBERING])
def test_without_a_memory_nothing_is_kept(name: str) -> None:
    algorithm, x, ctx = ALGORITHMS[name], updates(M, B, N), context(senders(M), B)
    ballots, state = algorithm.encode(x, algorithm.up.init(x), ctx)
    assert same(algorithm.undelivered(deepcopy(state), ballots, ctx, N), state)


@pytest.mark.parametrize("codec", [c for c in FEEDBACK if c.track_lr], ids=repr)
def test_a_zero_rate_leaves_the_memory_alone(codec: ErrorFeedback) -> None:
    """At η = 0 nothing reaches the model, so nothing was sent and nothing new is owed."""
    state = codec.encode(updates(M, B, N), codec.init(torch.zeros(M, B, N)), context(senders(M), B, 0, 0.1))[1]
    before, ctx = deepcopy(state), context(senders(M), B, 1, 0.0)
    payload, state = codec.encode(updates(M, B, N, seed=1), state, ctx)
    assert same(state["memory"], before["memory"])
    assert same(state["lr"], before["lr"])
    assert same(codec.undelivered(deepcopy(state), payload, ctx, N)["memory"], before["memory"])


@pytest.mark.parametrize("codec", [c for c in FEEDBACK if c.track_lr], ids=repr)
def test_each_block_keeps_its_own_ratio(codec: ErrorFeedback) -> None:
    rates = [torch.tensor([0.1, 0.0]), torch.tensor([0.05, 0.2]), torch.tensor([0.05, 0.1])]
    together = codec.init(torch.zeros(M, 2, N))
    alone = [codec.init(torch.zeros(M, 1, N)) for _ in range(2)]
    for step, lr in enumerate(rates):
        x, ctx = updates(M, 2, N, seed=step), context(senders(M), torch.tensor([4, 5]), step, lr)
        together = codec.encode(x, together, ctx)[1]
        for b in range(2):
            one = context(senders(M), torch.tensor([4 + b]), step, float(lr[b]))
            alone[b] = codec.encode(x[:, b : b + 1], alone[b], one)[1]
            assert same(together["memory"][:, b : b + 1], alone[b]["memory"])


def _after_two_steps(algorithm: Algorithm) -> State:
    state = algorithm.up.init(torch.zeros(M, B, N))
    for step in range(2):
        _, state = algorithm.encode(updates(M, B, N, seed=step), state, context(senders(M), B, step))
    return state


def _memory(state: State) -> Tensor:
    while "memory" not in state:
        state = state["codec"]
    return state["memory"]  # type: ignore[no-any-return]


def _without_memory(state: State) -> State:
    return {k: _without_memory(v) if isinstance(v, dict) else v for k, v in state.items() if k != "memory"}
