"""Large parts in slices, without a card: nothing waits for one, and the bits are those of the whole on the CPU."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gradvote.engines.common.part import Part, part_of
from gradvote.engines.common.placement import served
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.distributed import slices
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.seat import seat_of
from gradvote.layout import Layout
from tests.contract.parts import ALGORITHMS, same
from tests.devices.distant import CARD, CPU, a_card, distant, fast_draws, held
from tests.devices.test_distant import SHAPES, WORKERS, gradients, swapped


@pytest.fixture(autouse=True)
def draws_are_fast() -> Iterator[None]:
    with fast_draws():
        yield


@pytest.mark.parametrize("name", ["signum", "dist-ef-sgdm", "dropsignsgd"])
@pytest.mark.parametrize("server", [CPU, CARD])
def test_a_round_in_slices(name: str, server: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large part has on a card: a few slices, each with all its groups at once, and the bits of the whole."""
    algorithm = replace(ALGORITHMS[name], block_size=20)
    own = protocol_for([torch.zeros(shape) for shape in SHAPES], algorithm, 5)
    part = part_of(own, own.layout, served(own.layout, "sharded", WORKERS))
    flats = [gradients(own, step) for step in (0, 1, 2)]
    expected = _steps(part, flats, CPU, CPU)
    monkeypatch.setattr(slices, "WHOLE", 30)
    with a_card():
        found = _steps(part, [distant(flat) for flat in flats], CARD, server)
    for own_turns, others in zip(found, expected, strict=True):
        assert all(same(held(a), b) for a, b in zip(own_turns, others, strict=True))


def _steps(part: Part, flats: list[Tensor], home: torch.device, server: torch.device) -> list[list[Tensor]]:
    """The directions of all ranks in some steps, whose states go from one to the next."""
    seats, found = [seat_of(part, rank, home, server, ({}, {})) for rank in range(WORKERS)], []
    assert (len(seats[0].worker.slices.protocols) > 2) == (home == CARD)
    for step, rows in enumerate(flats):
        nows = [
            RankRound(step, rank, WORKERS, [0.1] * len(SHAPES), home=home, server=server) for rank in range(WORKERS)
        ]
        turns = [PartRound(seat, now) for seat, now in zip(seats, nows, strict=True)]
        up = [turn.vote(_in_turn(own)) for turn, own in zip(turns, rows, strict=True)]
        down = [turn.decide(received) for turn, received in zip(turns, swapped(up, server), strict=True)]
        directions = [torch.zeros(part.layout.size, device=home) for _ in turns]
        for turn, received, direction in zip(turns, swapped(down, server), directions, strict=True):
            turn.hear(received)
            rooms = _in_turn(direction)
            turn.read(lambda layout, decode, rooms=rooms: decode(rooms(layout)))
        found.append(directions)
    return found


def _in_turn(whole: Tensor) -> Callable[[Layout], Tensor]:
    """The parts of a vector for slices that are asked for one after another."""
    used = 0

    def next_of(layout: Layout) -> Tensor:
        nonlocal used
        used += layout.size
        return whole[used - layout.size : used]

    return next_of
