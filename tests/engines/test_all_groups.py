"""All groups at once give the bits of group by group: messages, directions, states and counts of every rank."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote import algorithms
from gradvote.codecs import rounded
from gradvote.core import Algorithm
from gradvote.engines.common.all_groups import Contexts, Payloads, States
from gradvote.engines.common.part import Part, part_of
from gradvote.engines.common.placement import Placement, served
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.seat import seat_of
from gradvote.engines.distributed.states import leaves
from gradvote.engines.distributed.transport import Mail
from gradvote.layout import layout_of
from gradvote.rounding import with_state_dtype
from gradvote.schedules import PerWorker
from gradvote.staging import CPU

ALGORITHMS = {
    "signsgd": algorithms.signsgd(),
    "signsgd, no units": algorithms.signsgd(still=False),
    "signsgd, positive": algorithms.signsgd(zero="positive"),
    "signum": algorithms.signum(),
    "lion": algorithms.lion(),
    "noisy": algorithms.noisy(algorithms.signum(), 0.1, position="vote"),
    "noise of nothing": algorithms.noisy(algorithms.signsgd(), 0.0),
    "dist-EF": algorithms.dist_ef_sgdm(),
    "DropSign": algorithms.dropsignsgd(PerWorker((0.3, 0.9, 0.1)), granularity=64, track_lr=True),
    "DropSign, single": algorithms.dropsignsgd(),
    "flexcompress": algorithms.flexcompress(),
    "DropSign, bfloat16": with_state_dtype(algorithms.dropsignsgd(PerWorker((0.3, 0.9, 0.1))), torch.bfloat16),
    "lion, bfloat16": with_state_dtype(algorithms.lion(), torch.bfloat16, "nearest"),
}


def bits(value: Any) -> Any:
    """A value with its tensors as bytes, so that NaN equals itself and −0 does not equal 0."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return [bits(own) for own in value] if isinstance(value, list | tuple) else value


def delivered(mails: Sequence[Mail]) -> list[list[Tensor]]:
    """What each rank receives of each, after a look at the lengths that it expects."""
    sent = [[torch.cat(m) if m else torch.zeros(0, dtype=torch.uint8) for m in mail.messages] for mail in mails]
    for rank, mail in enumerate(mails):
        assert [len(own[rank]) for own in sent] == list(mail.expected)
    return [[own[rank] for own in sent] for rank in range(len(mails))]


def history(
    build: Callable[[], Part], gradients: Sequence[Tensor], lrs: Sequence[float | list[float]], at_once: bool
) -> Any:
    """All that is sent, decided and kept in some steps."""
    part = build()
    num, found = len(part.shards), []
    seats = [seat_of(part, rank, CPU, CPU, ({}, {})) for rank in range(num)]
    for step, (own, lr) in enumerate(zip(gradients, lrs, strict=True)):
        ranks = [PartRound(seat, RankRound(step, rank, num, lr)) for rank, seat in enumerate(seats)]
        up = delivered([rank.vote(lambda _, x=x: x.clone()) for rank, x in zip(ranks, own, strict=True)])
        down = delivered([rank.decide(x) for rank, x in zip(ranks, up, strict=True)])
        for rank, x in zip(ranks, down, strict=True):
            rank.hear(x)
        assert isinstance(ranks[0].decision, Payloads) == at_once
        directions = list[Tensor]()
        for rank in ranks:
            rank.read(lambda own, decode, into=directions: into.append(decode(torch.empty(own.size))))
        halves = [half for seat in seats for half in (seat.worker, seat.server)]
        assert isinstance(halves[0].states[0], States) == at_once
        kept = [[list(leaves(state)) for states in half.states for state in states] for half in halves]
        counts = [(rank.decided, rank.abstained, rank.abstentions, rank.ties()) for rank in ranks]
        found.append(bits([up, down, directions, kept, counts]))
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6), placement=st.sampled_from(["sharded", "replicated", "central"]))
def test_the_bits_of_group_by_group(name: str, seed: int, placement: Placement) -> None:
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    numels = [1, 65, *(choose.choice([1, 7, 63, 64, 65, 300]) for _ in range(4)), choose.choice([2, 16385])]
    units, algorithm = [choose.choice([64, 64, 3, 65]) for _ in numels], ALGORITHMS[name]
    layout = layout_of(numels, choose.choice([algorithm.block_size, 100]), units)

    def build() -> Part:
        return part_of(Protocol(algorithm, layout, 5), layout, served(layout, placement, 3))

    gradients, lrs = [], list[float | list[float]]()
    for _ in range(2):
        x = torch.randn(3, layout.size, generator=generator)
        x[torch.rand(x.shape, generator=generator) < choose.choice([0.0, 0.5])] = 0
        x[:, : choose.choice([0, layout.size // 2])] = 0
        for _ in range(choose.choice([0, 3])):
            x[choose.randrange(3), choose.randrange(layout.size)] = choose.choice([float("nan"), 1e30])
        x[:, choose.randrange(layout.size)] *= choose.choice([1.0, float("inf")])
        gradients.append(x)
        lrs.append(choose.choice([1.0, 0.0, [choose.choice([0.0, 0.1, 1.0]) for _ in numels]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounded, "SLICE", 128)
        found = history(build, gradients, lrs, at_once=True)
        patch.setattr(Protocol, "at_once", False)
        assert history(build, gradients, lrs, at_once=False) == found


class Subclass(type(algorithms.signsgd().up)):  # type: ignore[misc]  # a codec of somebody else
    """May do anything, so that nothing is assumed of it."""


@pytest.mark.parametrize("part", ["up", "down", "whole vectors"])
def test_parts_of_others_go_group_by_group(part: str) -> None:
    own = Subclass()
    plain = algorithms.signsgd(still=False)
    algorithm = {
        "up": Algorithm(own, plain.aggregate, plain.down),
        "down": Algorithm(plain.up, plain.aggregate, own),
        "whole vectors": algorithms.create("krum") if "krum" in algorithms.names() else algorithms.mediansgd(),
    }[part]
    protocol = Protocol(algorithm, layout_of([1, 65, 300], 100), 3)
    ctxs = protocol.contexts(0, 0, 1.0, at_once=True)
    assert not protocol.at_once and not isinstance(ctxs, Contexts)


def test_states_are_views_and_come_back_from_a_list() -> None:
    """States that were loaded group by group are joined; what a group's state shows is the memory of all."""
    protocol = Protocol(algorithms.dist_ef_sgdm(), layout_of([1, 65, 300], None), 3)
    ctxs, x = protocol.contexts(0, 0, 1.0, at_once=True), torch.randn(366)
    _, states = protocol.encode(x, protocol.init_worker(x), ctxs)
    assert isinstance(states, States)
    again = States.joined(protocol.layout, list(states))
    assert again is not None and bits(list(leaves(again.whole))) == bits(list(leaves(states.whole)))
    own = states[0]["codec"]["memory"]
    assert own.shape == (1, 300) and own.data_ptr() == states.whole["codec"]["memory"].data_ptr()
    half = [{**s, "0": {"momentum": s["0"]["momentum"].half()}} for s in states]
    assert States.joined(protocol.layout, half) is None
