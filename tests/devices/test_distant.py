"""A step without a card: nothing waits for one, and the bits are those of the CPU."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import staging
from gradvote.aggregators import MajorityVote, Mean
from gradvote.core import Aggregator, Context, Transform
from gradvote.distributed import Exchange
from gradvote.engines.common.flat_buffer import FlatBuffer
from gradvote.engines.common.part import Part, part_of
from gradvote.engines.common.placement import PLACEMENTS, served
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.seat import seat_of
from gradvote.engines.distributed.transport import Mail
from gradvote.engines.simulation import Simulation
from gradvote.layout import layout_of
from gradvote.staging import Leaving, to_host
from gradvote.wire import Kind
from tests.contract.parts import AGGREGATORS, ALGORITHMS, CODECS, PLAIN, TRANSFORMS, flat, same, updates
from tests.devices.distant import CARD, CPU, Distant, Waits, a_card, distant, fast_draws, held, warm
from tests.golden.cases import PlainSGD

SHAPES: tuple[tuple[int, ...], ...] = ((3, 33), (66,))
WORKERS, STEPS = 3, 2
NOISY = ("noisy-signsgd", "noisy-signsgd-relative", "noisy-dist-ef-sgdm-vote", "signsgd-abstain", "dropsignsgd-abstain")
SOME = {*PLAIN, *NOISY}
PLACES = [
    *((name, "sharded", CPU) for name in ("signsgd", "dist-ef-sgdm", "dropsignsgd", "mediansgd")),
    *(("signsgd", placement, CARD) for placement in PLACEMENTS),
    ("signsgd", "central", CPU),
    ("signsgd", "replicated", CPU),
    ("dropsignsgd", "sharded", CARD),
]
"""An algorithm, where the server is, and where votes are counted: on the host with gloo, on the card with NCCL."""


def protocol(name: str) -> Protocol:
    return protocol_for([torch.zeros(shape) for shape in SHAPES], ALGORITHMS[name], 5)


def gradients(own: Protocol, step: int) -> Tensor:
    flat = updates(WORKERS, own.layout.size, seed=step).clone()
    if step == 1:
        flat[0, :65] = torch.nan
    return flat


@pytest.fixture(autouse=True)
def draws_are_fast() -> Iterator[None]:
    with fast_draws():
        yield


@pytest.mark.parametrize(
    "question",
    [bool, int, float, Tensor.tolist, Tensor.item, Tensor.numpy, Tensor.cpu, Tensor.nonzero,
     lambda x: x.to("cpu"), lambda x: x.to(CPU), lambda x: torch.zeros(1).copy_(x), lambda x: x[x > 0],
     lambda x: torch.equal(x, x), lambda x: x + torch.ones(1), lambda x: torch.ones(1).to(x.device)],
)  # fmt: skip
def test_the_stand_in_does_not_answer(question: Callable[[Tensor], Any]) -> None:
    with a_card(), pytest.raises(Waits):
        question(Distant(torch.ones(1)))


def test_the_stand_in_works() -> None:
    with a_card():
        x = torch.zeros(3, device=CARD) + torch.tensor([1.0, 2.0, 3.0], device=CARD) * 2
        x[1:].mul_(2)
        (found,) = to_host([x])
    assert isinstance(x, Distant) and found.tolist() == [2.0, 8.0, 12.0]


@pytest.mark.parametrize("sample", [*flat(TRANSFORMS), *flat(CODECS), *flat(AGGREGATORS)])
def test_the_samples_of_the_contract(sample: Any) -> None:
    x, context = updates(WORKERS, 2, 70), _context(CPU)
    expected = _played(sample, x, context)
    with a_card():
        far = distant(x), _context(CARD)
        _played(sample, *far)
        with warm():
            found = _played(sample, distant(x), far[1])
    assert len(found) == len(expected) and all(same(held(a), b) for a, b in zip(found, expected, strict=True))


def _context(device: torch.device) -> Context:
    block = torch.arange(2, dtype=torch.int64, device=device)
    return Context(7, 4, block, torch.arange(WORKERS)[:, None], 0.1)


def _played(sample: Any, x: Tensor, ctx: Context) -> list[Any]:
    """What a part makes of workers' updates."""
    ctx = replace(ctx)
    if isinstance(sample, Aggregator):
        x = x if sample.separable else x.flatten(-2)[:, None]
        block = ctx.block if sample.separable else ctx.block[:1]
        return [sample(x, x.isfinite().all(-1), replace(ctx, block=block))]
    if isinstance(sample, Transform):
        return [*sample(x, sample.init(x), ctx)]
    payload, state = sample.encode(x, sample.init(x), ctx)
    checked = sample.check(payload, x.shape[-1])
    out = sample.decode(payload, ctx, x.shape[-1])
    reduced = [sample.reduce(payload, rule, ctx, x.shape[-1]) for rule in (Mean(), MajorityVote(still=True))]
    unsent = sample.undelivered(state, payload, ctx, x.shape[-1])
    return [payload.valid, dict(payload.planes), state, checked.valid, out, unsent, *reduced]


@pytest.mark.parametrize("name", sorted(SOME & ALGORITHMS.keys()))
def test_a_step_of_the_simulation(name: str) -> None:
    own, rates = protocol(name), [0.1] * len(SHAPES)
    near = Simulation(own, WORKERS)
    with a_card():
        far = Simulation(own, WORKERS, device=CARD)
    for step in range(STEPS):
        flat = gradients(own, step)
        expected = near.step(flat, step, rates)
        with a_card(), warm() if step else nullcontext():
            found = far.step(distant(flat), step, rates)
        assert same(held(found), expected) and far.decided == near.decided
    for side in ("workers", "server"):
        assert all(same(held(a), b) for a, b in zip(getattr(far, side), getattr(near, side), strict=True))
    assert held(far.counts.abstentions).tolist() == near.counts.abstentions.tolist()


@pytest.mark.parametrize(("name", "placement", "server"), PLACES)
def test_a_round_of_the_exchange(name: str, placement: Any, server: torch.device) -> None:
    own = protocol(name)
    part = part_of(own, own.layout, served(own.layout, placement, WORKERS))
    flat = gradients(own, 1)
    expected = _round(part, flat, CPU, CPU)
    with a_card():
        _round(part, distant(flat), CARD, server)
        with warm():
            found = _round(part, distant(flat), CARD, server)
    for turn, other, out, direction in zip(*found[:1], *expected[:1], *found[1:], *expected[1:], strict=True):
        assert same(held(out), direction)
        assert (turn.decided, turn.abstained) == (other.decided, other.abstained)
        assert torch.equal(turn.abstentions, other.abstentions)
        assert all(same(held(a), b) for a, b in zip(turn.worker[0], other.worker[0], strict=True))
    assert found[0][0].abstained and not found[0][1].abstained


def _round(part: Part, flat: Tensor, home: torch.device, server: torch.device) -> tuple[list[PartRound], list[Tensor]]:
    """A round of all ranks, who hand their messages to each other on the server's device."""
    turns = []
    for rank in range(WORKERS):
        now = RankRound(3, rank, WORKERS, [0.1] * len(SHAPES), home=home, server=server)
        turns.append(PartRound(seat_of(part, rank, home, server, ({}, {})), now))
    up = [turn.vote(lambda _, own=own: own) for turn, own in zip(turns, flat, strict=True)]
    down = [turn.decide(received) for turn, received in zip(turns, swapped(up, server), strict=True)]
    for turn, received in zip(turns, swapped(down, server), strict=True):
        turn.hear(received)
    directions = [torch.zeros(part.layout.size, device=home) for _ in turns]
    for turn, direction in zip(turns, directions, strict=True):
        turn.read(lambda _, decode, out=direction: decode(out))
    return turns, directions


def swapped(mails: list[Mail], device: torch.device) -> list[list[Tensor]]:
    """What each rank gets: views of one buffer, as a transport gives them."""
    found = []
    for rank in range(WORKERS):
        sent = [torch.cat(m.messages[rank]) if m.messages[rank] else torch.zeros(0, dtype=torch.uint8) for m in mails]
        padded = [torch.nn.functional.pad(x, (0, -len(x) % 8)) for x in Leaving(sent, device).arrived()]
        whole = torch.cat(padded).split([len(x) for x in padded])
        found.append([own[: len(x)] for own, x in zip(whole, sent, strict=True)])
    return found


def test_masks_of_all_groups_are_waited_for_once() -> None:
    own = protocol("dropsignsgd")
    assert len(own.layout.groups) > 1
    with a_card(), mock.patch.object(staging, "Leaving", wraps=Leaving) as asked:
        ctxs = own.contexts(0, 1, 0.1, device=CARD)
        flat = distant(gradients(own, 0)[0])
        payloads, _ = own.encode(flat, own.init_worker(flat), ctxs)
        planes = own.planes(Kind.BALLOT, ctxs)
        assert asked.call_count == 1
        down = own.planes(Kind.DECISION, ctxs)
    assert asked.call_count == 2 and len(payloads) == len(planes) == len(down)


class Tensors(nn.Module):
    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        for i, tensor in enumerate(tensors):
            self.register_parameter(f"p{i}", nn.Parameter(tensor))


def _members(placed: Callable[[Tensor], Tensor], name: str) -> list[Tensor]:
    """The parameters after steps of two members of an elastic run."""
    flats = [[updates(p.numel(), seed=k).reshape(p) for k, p in enumerate(map(torch.Size, SHAPES))] for _ in range(2)]
    models = [Tensors([placed(torch.ones(shape)) for shape in SHAPES]) for _ in range(2)]
    members = [Replica(m, PlainSGD(m), ALGORITHMS[name], i, 3, None) for i, m in enumerate(models)]
    for step in range(STEPS):
        for model, gradient in zip(models, flats, strict=True):
            for p, own in zip(model.parameters(), gradient, strict=True):
                p.grad = placed(own + step)
        with warm() if step else nullcontext():
            ballots = [member.vote(Slot(step)) for member in members]
            for member, ballot in zip(members, ballots, strict=True):
                member.keep(ballot, step % 2 == 0)
                member.apply(Slot(step), {i: own.body for i, own in enumerate(ballots)})
    return [p.detach() for p in models[0].parameters()]


@pytest.mark.parametrize("name", PLAIN)
def test_steps_of_an_elastic_run(name: str) -> None:
    expected = _members(lambda x: x, name)
    with a_card():
        found = _members(distant, name)
    assert all(same(a.held, b) for a, b in zip(found, expected, strict=True))  # type: ignore[attr-defined]


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _exchanged(placed: Callable[[Tensor], Tensor], name: str) -> list[Tensor]:
    model = Tensors([placed(torch.ones(shape)) for shape in SHAPES])
    optimizer = PlainSGD(model)  # type: ignore[arg-type]  # it has parameters, too
    exchange = Exchange(model.named_parameters(), ALGORITHMS[name], optimizer=optimizer, chunks=1)
    for step in range(STEPS):
        for k, p in enumerate(model.parameters()):
            p.grad = placed(updates(p.numel(), seed=k).reshape(p.shape) + step)
        with warm() if step else nullcontext():
            exchange.step()
        optimizer.step()
    exchange.load_state_dict(exchange.state_dict())
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("name", ["signsgd", "dist-ef-sgdm", "dropsignsgd"])
def test_an_exchange_of_ones_own(alone: None, name: str) -> None:
    expected = _exchanged(lambda x: x, name)
    with a_card():
        found = _exchanged(distant, name)
    assert all(same(a.held, b) for a, b in zip(found, expected, strict=True))  # type: ignore[attr-defined]


def test_parameters_of_several_devices_are_refused(alone: None) -> None:
    params = [("here", torch.zeros(3, requires_grad=True)), ("there", torch.zeros(3, requires_grad=True, device=CARD))]
    with pytest.raises(ValueError, match=r"'here' is on cpu, but 'there' on meta; .* must be on one device"):
        Exchange(params, ALGORITHMS["signsgd"])
    with pytest.raises(ValueError, match="'p1' on meta; the parameters of one vote must be on one device"):
        model = Tensors([p.detach() for _, p in params])
        Replica(model, PlainSGD(model), ALGORITHMS["signsgd"], 0, 0, None)  # type: ignore[arg-type]


def test_gradients_of_another_device_than_at_the_start_are_refused() -> None:
    own = protocol("signsgd")
    with pytest.raises(ValueError, match="A gradient is on meta, but the parameters were on cpu when the votes began"):
        FlatBuffer(torch.float32).gather(layout_of([3], None), {0: torch.ones(3, device=CARD)})
    with pytest.raises(ValueError, match="A gradient is on meta"):
        Simulation(own, 1).step(torch.ones(1, own.layout.size, device=CARD), 0, 0.1)
