"""A round cut into slices is the round of the whole, to the bit."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from gradvote.engines.common.flat_buffer import Decode
from gradvote.engines.common.part import part_of
from gradvote.engines.common.placement import Placement, served
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.distributed import slices
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.seat import Seat, seat_of
from gradvote.engines.distributed.states import StateRows
from gradvote.engines.distributed.transport import Mail
from gradvote.layout import Layout
from gradvote.staging import CPU
from tests.contract.parts import ALGORITHMS, same

SHAPES = ((5, 70), (130,), (3,), (4, 50), (130,), (1, 7))
RANKS, STEPS, SMALL = 3, 3, 150
SEPARABLE = sorted(name for name, own in ALGORITHMS.items() if own.aggregate.separable)


@pytest.mark.parametrize("name", SEPARABLE)
def test_slices_give_the_bits_of_the_whole(name: str) -> None:
    whole, cut = (played(name, size, "sharded") for size in (1 << 30, SMALL))
    assert len(whole) == len(cut)
    assert all(same(a, b) for a, b in zip(whole, cut, strict=True))


def test_a_server_for_all_is_cut_too() -> None:
    whole, cut = (played("dropsignsgd", size, "replicated") for size in (1 << 30, SMALL))
    assert all(same(a, b) for a, b in zip(whole, cut, strict=True))


def played(name: str, size: int, placement: Placement) -> list[Any]:
    """The directions of all steps, and the states by block, of ranks that hand each other their messages."""
    own = protocol_for([torch.zeros(shape) for shape in SHAPES], ALGORITHMS[name], 0)
    part = part_of(own, own.layout, served(own.layout, placement, RANKS))
    with mock.patch.multiple(slices, SLICE=size, WHOLE=0):
        seats = [seat_of(part, rank, CPU, CPU, ({}, {})) for rank in range(RANKS)]
        check_cut(seats[0], size)
    found: list[Any] = []
    for step in range(STEPS):
        flat = torch.randn(RANKS, own.layout.size, generator=torch.Generator().manual_seed(step))
        flat[1, 3] = torch.inf if step == 1 else 0.0
        found += stepped(seats, flat, step)
    for seat in seats:
        for half in (seat.worker, seat.server):
            rows: StateRows = {}
            half.rows(rows)
            found += [rows[key][block] for key in sorted(rows) for block in sorted(rows[key])]
    return found


def check_cut(seat: Seat, size: int) -> None:
    assert (len(seat.worker.slices.protocols) > 1) == (size == SMALL and seat.worker.remembers)
    assert len(seat.server.slices.protocols) == 1 or (size == SMALL and seat.server.remembers)


def stepped(seats: list[Seat], flat: Tensor, step: int) -> list[Any]:
    turns = [PartRound(seat, RankRound(step, rank, RANKS, 0.1)) for rank, seat in enumerate(seats)]
    up = [turn.vote(Tape(x).give) for turn, x in zip(turns, flat, strict=True)]
    down = [turn.decide(received) for turn, received in zip(turns, swapped(up), strict=True)]
    out = torch.full_like(flat, torch.nan)
    for turn, received, place in zip(turns, swapped(down), out, strict=True):
        turn.hear(received)
        turn.read(Tape(place).fill)
    assert all(torch.equal(own, out[0]) for own in out)
    counts = torch.tensor([[len(turn.decided), turn.ties(), turn.abstained] for turn in turns])
    return [out[0], counts, *(turn.abstentions for turn in turns)]


class Tape:
    """A flat vector that is given, or filled, slice by slice."""

    def __init__(self, flat: Tensor) -> None:
        self._left = flat

    def give(self, layout: Layout) -> Tensor:
        own, self._left = self._left[: layout.size], self._left[layout.size :]
        return own

    def fill(self, layout: Layout, decode: Decode) -> None:
        decode(self.give(layout))


def swapped(mails: list[Mail]) -> list[list[Tensor]]:
    """What each rank gets."""
    return [
        [torch.cat(m.messages[rank]) if m.messages[rank] else torch.zeros(0, dtype=torch.uint8) for m in mails]
        for rank in range(RANKS)
    ]
