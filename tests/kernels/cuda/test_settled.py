"""The bound that settles most noisy signs holds: for all t and all 2^32 words on a card, for many of them here.

With V(t) the probability that |ξ| > t, 1 / R is near V, and V of what the formula gives for a word is near what the
word says. What is left of SLACK is more than what products and sums of float32 are off by.
"""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gradvote.kernels.cuda import settled
from gradvote.kernels.quantiles import QUANTILES, _TorchLanes
from tests.on_card import DEVICE

PIECE = 1 << 24
EDGES = (0, 1 << 22, 1 << 31, (1 << 32) - (1 << 22))
"""Where the words begin, tails end, and signs change."""
ROUNDED = 5e-6
"""What v·R − 1, t and the sum are off by: roundings of 2^-24 each, sixteenfold where they are of the root."""
BEYOND = {
    "gaussian": lambda t: torch.erfc(t / math.sqrt(2)),
    "laplace": lambda t: torch.exp(-math.sqrt(2) * t),
    "logistic": lambda t: 2 / (1 + torch.exp(math.pi / math.sqrt(3) * t)),
}
"""The probability of a greater size."""


class TorchBound:
    def lesser(self, a: Tensor, b: float) -> Tensor:
        return a.clamp(max=b)

    def fused(self, a: Tensor, b: Tensor | float, c: float) -> Tensor:
        return a * b + c


def pieces() -> Iterator[Tensor]:
    """Words: all of them on a card; here every 65,537th, and those around the edges."""
    if DEVICE != "cpu":
        yield from (torch.arange(start, start + PIECE, device=DEVICE) for start in range(0, 1 << 32, PIECE))
        return
    near = torch.cat([torch.arange(edge - 9000, edge + 9000) for edge in EDGES]) % (1 << 32)
    yield torch.cat((near, torch.arange(0, 1 << 32, 65537)))


@pytest.mark.parametrize("kind", range(len(settled.SURE)))
def test_no_sign_that_is_sure_is_wrong(kind: int) -> None:
    name = settled.SURE[kind]
    t = torch.cat(
        (
            torch.linspace(0, 2 * settled.LIMITS[kind], 1 << 19, device=DEVICE),
            torch.tensor([1e30, torch.inf], device=DEVICE),
        )
    )
    rarity = settled.inverse(kind, TorchBound(), t)
    assert bool((rarity > 0.9999).all())
    off = (1 / rarity.double() - BEYOND[name](t.double())).abs().max().item()
    for piece in pieces():
        size = QUANTILES[name](_TorchLanes(), piece.to(torch.int32)).double()
        least = 2 * torch.minimum(piece.double() + 0.5, 2.0**32 - 0.5 - piece.double()) / 2.0**32
        assert bool(torch.where(piece < 1 << 31, size <= 0, size >= 0).all())
        said = (BEYOND[name](size.abs()) - least).abs().max().item()
        assert off + said + ROUNDED < settled.SLACK.value
