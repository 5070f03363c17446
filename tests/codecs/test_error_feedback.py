"""Memories at changing and vanishing rates, by hand."""

import torch

from gradvote.codecs import Dense, ErrorFeedback, Sign
from gradvote.core import Context
from tests.contract.parts import context

N = 2


def test_by_hand() -> None:
    """p = (3, −1): s = 2, sent (2, −2), memory (1, 1); then at half the rate the memory counts twice."""
    codec = ErrorFeedback(Sign("l1"))
    state = codec.init(torch.zeros(1, N))
    payload, state = codec.encode(torch.tensor([[3.0, -1.0]]), state, context(blocks=1, lr=0.5))
    assert codec.decode(payload, context(blocks=1), N).tolist() == [[2, -2]]
    assert state["memory"].tolist() == [[1, 1]]
    payload, state = codec.encode(torch.zeros(1, N), state, context(blocks=1, lr=0.25))
    assert codec.decode(payload, context(blocks=1), N).tolist() == [[2, 2]]
    assert state["memory"].tolist() == [[0, 0]]


def test_warm_up_from_zero_owes_nothing() -> None:
    """A first step at rate zero moves nothing and leaves nothing in the memory."""
    codec = ErrorFeedback(Sign("l1"))
    state = codec.init(torch.zeros(1, N))
    _, state = codec.encode(torch.tensor([[3.0, -1.0]]), state, context(blocks=1, lr=0.0))
    assert state["memory"].tolist() == [[0, 0]]
    _, state = codec.encode(torch.tensor([[3.0, -1.0]]), state, context(blocks=1, lr=0.1))
    assert state["memory"].tolist() == [[1, 1]]
    _, again = codec.encode(torch.tensor([[3.0, -1.0]]), state, context(blocks=1, lr=0.0))
    assert again["memory"].tolist() == [[1, 1]]
    assert again["lr"].tolist() == state["lr"].tolist()


def test_without_rates_a_zero_rate_is_like_any_other() -> None:
    codec = ErrorFeedback(Sign("l1"), track_lr=False)
    ctx = context(blocks=1, lr=0.0)
    payload, state = codec.encode(torch.tensor([[3.0, -1.0]]), codec.init(torch.zeros(1, N)), ctx)
    assert state["memory"].tolist() == [[1, 1]]
    assert codec.undelivered(state, payload, ctx, N)["memory"].tolist() == [[3, -1]]


def test_rounding_is_fed_back() -> None:
    """bfloat16 loses 2^-12; the memory brings it in the end."""
    codec, total = ErrorFeedback(Dense("bfloat16")), torch.zeros(1, 1)
    state = codec.init(total)
    for step in range(64):
        ctx = context(blocks=1, step=step)
        payload, state = codec.encode(torch.tensor([[1 + 2**-12]]), state, ctx)
        total += codec.decode(payload, ctx, 1)
    assert float(total + state["memory"]) == 64 * (1 + 2**-12)
    assert abs(float(state["memory"])) < 2**-7


def test_a_worker_alone_and_among_others_has_the_same_memory() -> None:
    """In float64, where one of the others abstains at every other step and the rate changes."""
    ef, x = ErrorFeedback(Sign("l1")), torch.randn(4, 2, 1, 50, dtype=torch.float64)
    together, alone = ef.init(x[0]), ef.init(x[0, 0])
    for step, lr in enumerate((0.1, 0.03, 0.0, 0.07)):
        update = x[step].clone()
        update[1] = torch.nan if step % 2 else 1.0
        ctx = Context(0, step, torch.arange(1), torch.arange(2)[:, None], lr)
        _, together = ef.encode(update, together, ctx)
        _, alone = ef.encode(update[0], alone, Context(0, step, torch.arange(1), 0, lr))
        for name in ("memory", "lr"):
            assert torch.equal(together[name][0], alone[name]) and alone[name].dtype == torch.float64
