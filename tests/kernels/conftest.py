"""Hard conditions for compiled kernels."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.kernels.cpu import bits, draws, kept, noisy, signs, trees, units


@pytest.fixture
def hard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds rubbish, and even the smallest input is split over two threads."""
    empty = torch.empty

    def rubbish(*size: Any, **how: Any) -> Tensor:
        fresh = empty(*size, **how)
        return fresh.fill_(torch.nan if fresh.is_floating_point() else fresh.dtype != torch.bool and 0x5A)

    monkeypatch.setattr(torch, "empty", rubbish)
    for room in (bits, draws, kept, noisy, signs, trees, units):
        monkeypatch.setattr(room, "GRAIN", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
