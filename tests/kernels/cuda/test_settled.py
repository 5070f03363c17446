"""The bound that settles most Gaussian signs holds: for all 2^32 words on a card, for many of them here."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gradvote.kernels.cuda import settled
from gradvote.kernels.quantiles import QUANTILES, _TorchLanes
from tests.on_card import DEVICE

PIECE = 1 << 24
EDGES = (0, 1 << 22, 1 << 31, (1 << 32) - (1 << 22))
"""Where the words begin, tails end, and signs change."""


def pieces() -> Iterator[Tensor]:
    """Words: all of them on a card; here every 65,537th, and those around the edges."""
    if DEVICE != "cpu":
        yield from (torch.arange(start, start + PIECE, device=DEVICE) for start in range(0, 1 << 32, PIECE))
        return
    near = torch.cat([torch.arange(edge - 9000, edge + 9000) for edge in EDGES]) % (1 << 32)
    yield torch.cat((near, torch.arange(0, 1 << 32, 65537)))


def test_near_enough_or_beyond_the_edge_and_between_three_and_seven() -> None:
    seen, top, edge = 0, settled.TOP.value, settled.EDGE.value
    for piece in pieces():
        words = piece.to(torch.int32)
        z, q = settled.position(_TorchLanes(), words)
        numerator, denominator = settled.fraction(q)
        assert bool((numerator > 0).all() & (denominator > 0).all() & (denominator < 3).all())
        guess, exact = (
            (z * top * numerator).double() / denominator,
            QUANTILES["gaussian"](_TorchLanes(), words).double(),
        )
        allowed = 0.97 * settled.RELATIVE.value * exact.abs() + settled.ABSOLUTE.value
        assert bool((((guess - exact).abs() <= allowed) | (q < edge)).all())
        beyond = ((guess > 0) == (exact > 0)) & (exact.abs() > 3.01) & (exact.abs() < 6.99) & (guess.abs() > 3.01)
        assert bool((beyond | (q >= edge)).all())
        seen += int((q < edge).sum())
    assert seen > 100
