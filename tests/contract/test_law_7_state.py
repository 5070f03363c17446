"""Law 7: state is a value. A failed step keeps the old one, a checkpoint is the state, and resuming is bit-exact."""

import io
from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from gradvote.core import Algorithm, Codec, Payload, State, Transform
from tests.contract.parts import (
    ALGORITHMS,
    CODECS,
    TRANSFORMS,
    context,
    flat,
    same,
    same_payload,
    senders,
    updates,
)

M, B, N = 3, 2, 70


def after_some_steps(part: Codec | Transform) -> State:
    state = part.init(torch.zeros(M, B, N))
    for step in range(2):
        ctx = context(senders(M), B, step)
        x = updates(M, B, N, seed=step)
        state = (part.encode if isinstance(part, Codec) else part)(x, state, ctx)[1]
    return state


@pytest.mark.parametrize("part", flat(TRANSFORMS) + flat(CODECS))
def test_a_state_has_a_number_for_each_block_or_for_each_coordinate(part: Codec | Transform) -> None:
    """So checkpoints can keep it block by block, and give blocks to other ranks."""
    for name, leaf in _leaves(part.init(torch.zeros(M, B, N))):
        assert leaf.shape in ((M, B), (M, B, N)), name


def _leaves(state: State) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        yield from _leaves(value) if isinstance(value, dict) else [(name, value)]


@pytest.mark.parametrize("part", flat(TRANSFORMS) + flat(CODECS))
def test_a_copied_state_gives_the_same_again(part: Codec | Transform) -> None:
    """A part may reuse the storage of the state it was given, never that of its input."""
    step = part.encode if isinstance(part, Codec) else part
    state, ctx, x = after_some_steps(part), context(senders(M), B, 2), updates(M, B, N, seed=2)
    kept, input_before = deepcopy(state), x.clone()
    out, new = step(x, state, ctx)
    first, new = deepcopy(out), deepcopy(new)
    assert same(x, input_before)
    again, other = step(x, kept, ctx)
    assert same(new, other)
    if isinstance(first, Payload):
        assert same_payload(first, again)
    else:
        assert same(first, again)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_new_state_does_not_change_when_the_input_does(name: str) -> None:
    """Engines use their buffers again: state must not hold views of them."""
    algorithm, ctx, x = ALGORITHMS[name], context(senders(M), B), updates(M, B, N)
    _, state = algorithm.encode(x, algorithm.up.init(x), ctx)
    before = deepcopy(state)
    x.fill_(torch.nan)
    assert same(state, before)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_server_does_not_change_what_it_was_given(name: str) -> None:
    algorithm, ctx, x = ALGORITHMS[name], context(senders(M), B), updates(M, B, N)
    ballots, worker = algorithm.encode(x, algorithm.up.init(x), ctx)
    sent, worker_before = deepcopy(ballots), deepcopy(worker)
    decision, server = algorithm.combine(ballots, algorithm.down.init(x[0]), ctx, N)
    before, server_before = deepcopy(decision), deepcopy(server)
    algorithm.decode(decision, worker, ctx, N)
    assert same_payload(ballots, sent)
    assert same_payload(decision, before)
    assert same(server, server_before)
    algorithm.undelivered(deepcopy(worker), ballots, ctx, N)
    assert same_payload(ballots, sent)
    assert same(worker, worker_before)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_resuming_from_a_checkpoint_is_bit_exact(name: str) -> None:
    algorithm = ALGORITHMS[name]
    worker, server = algorithm.up.init(torch.zeros(M, B, N)), algorithm.down.init(torch.zeros(B, N))
    for step in range(3):
        _, worker, server = one_round(algorithm, worker, server, step)
    stored = io.BytesIO()
    torch.save({"worker": worker, "server": server}, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=True)
    for step in range(3, 6):
        a, worker, server = one_round(algorithm, worker, server, step)
        b, loaded["worker"], loaded["server"] = one_round(algorithm, loaded["worker"], loaded["server"], step)
        assert same(a, b)
    assert same({"worker": worker, "server": server}, loaded)


def one_round(algorithm: Algorithm, worker: State, server: State, step: int) -> tuple[Tensor, State, State]:
    ctx, x = context(senders(M), B, step, lr=0.1 / (1 + step)), updates(M, B, N, seed=step)
    ballots, worker = algorithm.encode(x, worker, ctx)
    decision, server = algorithm.combine(ballots, server, ctx, N)
    direction, worker = algorithm.decode(decision, worker, ctx, N)
    return direction, worker, server


@pytest.mark.parametrize("name", ALGORITHMS)
def test_states_hold_tensors_only(name: str) -> None:
    """One entry per block and worker, float32 at least, on the input's device."""

    def check(state: State, shape: tuple[int, ...]) -> None:
        for value in state.values():
            if isinstance(value, dict):
                check(value, shape)
            else:
                assert value.shape[: len(shape)] == shape
                assert value.dtype == torch.float32

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        check(ALGORITHMS[name].up.init(torch.zeros(M, B, N, dtype=dtype)), (M, B))
        check(ALGORITHMS[name].down.init(torch.zeros(B, N, dtype=dtype)), (B,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_other_dtypes(name: str, dtype: torch.dtype) -> None:
    """Half-precision gradients work like the same values in float32; the dtypes of states do not change."""
    algorithm, ctx = ALGORITHMS[name], context(senders(M), B)
    x = updates(M, B, N, dtype=dtype)
    wide = x.to(torch.promote_types(dtype, torch.float32))
    first = algorithm.up.init(x)
    ballots, state = algorithm.encode(x, algorithm.up.init(x), ctx)
    expected, _ = algorithm.encode(wide, algorithm.up.init(wide), ctx)
    assert same_payload(ballots, expected)
    assert [t.dtype for t in leaves(state)] == [t.dtype for t in leaves(first)]


def leaves(state: State) -> list[Tensor]:
    return [t for v in state.values() for t in (leaves(v) if isinstance(v, dict) else [v])]
