"""Law 8: non-finite input never spreads. The sender's block abstains; a block without a voter decodes to zero."""

import math
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote.core import Aggregator, Algorithm, Codec, Payload, State
from gradvote.wire import body_bytes, unpack
from tests.contract.parts import AGGREGATORS, ALGORITHMS, CODECS, context, flat, row, rows, same, senders, updates
from tests.rounds import stack

M, B, N = 3, 4, 70
BAD = [math.nan, math.inf, -math.inf]


class Parties:
    """M workers and a server after one healthy round, and a second round with `x`."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.worker, self.server = algorithm.up.init(torch.zeros(M, B, N)), algorithm.down.init(torch.zeros(B, N))
        self.round(updates(M, B, N), 0)

    def round(self, x: Tensor, step: int) -> tuple[Payload, Payload, Tensor]:
        ctx = context(senders(M), B, step)
        ballots, self.worker = self.algorithm.encode(x, self.worker, ctx)
        decision, self.server = self.algorithm.combine(ballots, self.server, ctx, N)
        direction, self.worker = self.algorithm.decode(decision, self.worker, ctx, N)
        return ballots, decision, direction


def memories(state: State, at: object) -> State:
    """Memories and momenta of one worker's block."""
    return row({k: v for k, v in _leaves(state) if k.rsplit("/", 1)[-1] != "own" and "agreed" not in k}, at)  # type: ignore[return-value]


def _leaves(state: State, prefix: str = "") -> list[tuple[str, Tensor]]:
    found = []
    for key, value in state.items():
        found += _leaves(value, f"{prefix}{key}/") if isinstance(value, dict) else [(prefix + key, value)]
    return found


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_one_workers_block_abstains(name: str, bad: float) -> None:
    """It is as if the worker had not been there for that block, and nobody else notices."""
    spoiled, algorithm = Parties(ALGORITHMS[name]), ALGORITHMS[name]
    before = deepcopy(spoiled.worker)
    server = deepcopy(spoiled.server)
    x = updates(M, B, N, seed=1)
    x[1, 2, 33] = bad
    ballots, decision, direction = spoiled.round(x, 1)
    assert ballots.valid.tolist() == [[not (i == 1 and b == 2) for b in range(B)] for i in range(M)]
    assert bool(decision.valid.all()) and bool(direction.isfinite().all())
    assert same(memories(spoiled.worker, (1, 2)), memories(before, (1, 2)))
    others = [0, 2]
    fewer = Payload(ballots.valid[others], {k: p[others] for k, p in ballots.planes.items()})
    ctx = context(senders(M)[others], B, 1)
    expected, _ = algorithm.combine(fewer, server, ctx, N)
    assert same(algorithm.down.decode(expected, ctx.as_server(), N)[2], direction[2])
    assert all(bool(t.isfinite().all()) for k, t in _leaves(spoiled.server))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_block_without_voters_is_no_step(name: str) -> None:
    healthy, spoiled = Parties(ALGORITHMS[name]), Parties(ALGORITHMS[name])
    x = updates(M, B, N, seed=1)
    expected = healthy.round(x.clone(), 1)[2]
    server_before, worker_before = deepcopy(spoiled.server), deepcopy(spoiled.worker)
    x[:, 2, 5] = torch.nan
    _, decision, direction = spoiled.round(x, 1)
    assert decision.valid.tolist() == [True, True, False, True]
    assert bool((direction[2] == 0).all())
    for b in (0, 1, 3):
        assert same(direction[b], expected[b])
    assert same(row(spoiled.server, 2), row(server_before, 2))
    assert all(same(memories(spoiled.worker, (i, 2)), memories(worker_before, (i, 2))) for i in range(M))
    healed = spoiled.round(updates(M, B, N, seed=2), 2)
    assert bool(healed[1].valid.all()) and bool(healed[2].isfinite().all())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_huge_values_do_not_spread_either(name: str) -> None:
    """Sums that overflow are non-finite, too: whatever happens, states and directions stay finite."""
    parties = Parties(ALGORITHMS[name])
    for step in range(1, 5):
        x = updates(M, B, N, seed=step)
        x[:, 1] = 3e38
        x[0, 2] = -3e38
        _, decision, direction = parties.round(x, step)
        assert bool(direction.isfinite().all())
        assert bool((direction[~decision.valid] == 0).all())
        assert all(bool(t.isfinite().all()) for k, t in _leaves(parties.server))
        assert all(bool(t.isfinite().all()) for k, t in _leaves(parties.worker) if "own" not in k)


@pytest.mark.parametrize("huge", [2.0**64, -1e38])
@pytest.mark.parametrize("name", [n for n, a in ALGORITHMS.items() if memories(a.up.init(torch.zeros(1, B, N)), 0)])
def test_momenta_and_memories_take_a_huge_number_for_an_infinity(name: str, huge: float) -> None:
    """At 2⁶⁴, whose square is no float32 number: the block abstains once, with all that follows from it."""
    spoiled, infinite = Parties(ALGORITHMS[name]), Parties(ALGORITHMS[name])
    for step in range(1, 4):
        seen = []
        for parties, value in ((spoiled, huge), (infinite, math.copysign(math.inf, huge))):
            x = updates(M, B, N, seed=step)
            if step == 1:
                x[1, 2, 33] = value
            seen.append((*parties.round(x, step), memories(parties.worker, ...), parties.server))
        (ballots, _, direction, *states), (expected, _, other, *others) = seen
        assert ballots.valid.tolist() == [[step > 1 or (i, b) != (1, 2) for b in range(B)] for i in range(M)]
        assert same(ballots.valid, expected.valid) and same(direction, other)
        assert all(same(a, b) for a, b in zip(states, others, strict=True))


@pytest.mark.parametrize("aggregator", flat(AGGREGATORS))
def test_what_an_abstaining_block_holds_does_not_matter(aggregator: Aggregator) -> None:
    x, valid = updates(5, B, N), torch.ones(5, B, dtype=torch.bool)
    valid[1, 0] = valid[2, 3] = False
    ctx, clean = context(senders(5), B), torch.where(valid[..., None], x, 0.0)
    expected = aggregator(clean, valid, ctx)
    for bad in BAD:
        assert same(aggregator(torch.where(valid[..., None], x, bad), valid, ctx), expected)


def spoilable(codec: Codec) -> list[tuple[str, float]]:
    """Planes of floats, and what no honest sender puts there."""
    found = []
    for plane in codec.planes(N, context(blocks=B)):
        if plane.dtype.is_floating_point:
            found += [(plane.name, bad) for bad in (BAD if plane.name == "values" else [*BAD, -1.0])]
    return found


@pytest.mark.parametrize("codec", flat(CODECS))
def test_impossible_content_clears_the_flag(codec: Codec) -> None:
    x, ctx = updates(B, N), context(blocks=B)
    payload, _ = codec.encode(x, codec.init(x), ctx)
    assert same(codec.check(payload, N).valid, payload.valid)
    for name, bad in spoilable(codec):
        plane = payload[name].clone()
        plane[2, -1] = bad
        checked = codec.check(Payload(payload.valid, {**payload.planes, name: plane}), N)
        assert checked.valid.tolist() == [True, True, False, True], (name, bad)
        assert bool((codec.decode(checked, ctx, N)[2] == 0).all())


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=8)
@given(data=st.data())
def test_any_bytes_are_a_ballot_without_harm(name: str, data: st.DataObject) -> None:
    """Worker 2 sends random bytes of the right number: the decision stays finite, and so do the states."""
    parties, ctxs = Parties(ALGORITHMS[name]), [context(i, B, 1) for i in range(M)]
    algorithm, x = parties.algorithm, updates(M, B, N, seed=1)
    honest, _ = algorithm.encode(x, parties.worker, context(senders(M), B, 1))
    planes = algorithm.up.planes(N, ctxs[2])
    body = data.draw(st.binary(min_size=(size := body_bytes([planes], [B])), max_size=size))
    (lie,) = unpack(torch.frombuffer(bytearray(body), dtype=torch.uint8).to(x.device), [planes], [B])
    lie = algorithm.up.check(lie, N)
    ballots = stack([rows(honest, 0), rows(honest, 1), lie])
    decision, server = algorithm.combine(ballots, parties.server, context(senders(M), B, 1), N)
    direction, worker = algorithm.decode(decision, parties.worker, context(senders(M), B, 1), N)
    assert bool(direction.isfinite().all())
    assert all(bool(t.isfinite().all()) for _, t in _leaves(server))
    assert all(bool(t.isfinite().all()) for k, t in _leaves(worker))
