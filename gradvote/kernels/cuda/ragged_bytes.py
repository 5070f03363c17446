"""Stretches of bytes copied from many places to many: `ragged_reference.ragged_copy` on a CUDA device."""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels.cuda.launch import launch, portions
from gradvote.ragged import Numbers
from gradvote.staging import to_device

TILE = 2048
"""Items of a stretch that one program copies."""
_ITEMS = {8: torch.int64, 4: torch.int32, 1: torch.uint8}


def ragged_copy(source: Tensor, begins: Numbers, target: Tensor, places: Numbers, sizes: Numbers) -> None:
    """`ragged_reference.ragged_copy`, by the largest items that all stretches are made of."""
    longest = int(sizes.max(initial=0))
    if not longest:
        return
    bits = int(np.bitwise_or.reduce(np.concatenate([begins, places, sizes])))
    bits |= source.data_ptr() | target.data_ptr()
    size = next(size for size in _ITEMS if bits % size == 0)
    stretches = to_device(torch.from_numpy(np.stack([begins, places, sizes], 1) // size), target.device)
    come, go = (_items(t, size) for t in (source, target))
    tiles = portions(longest // size, TILE)
    launch(_copy, len(sizes) * tiles, target, stretches, come, go, tiles, TILE=TILE)


def _items(x: Tensor, size: int) -> Tensor:
    """A contiguous tensor's memory as items of so many bytes, without what is left at its end."""
    raw = x.view(-1).view(torch.uint8)
    return raw[: len(raw) // size * size].view(_ITEMS[size])


@triton.jit(do_not_specialize=("tiles",))
def _copy(stretches, source, target, tiles, TILE: tl.constexpr):
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    own = stretches + 3 * row.to(tl.int64)
    begin, place, size = tl.load(own), tl.load(own + 1), tl.load(own + 2)
    j = tile * TILE + tl.arange(0, TILE)
    tl.store(target + place + j, tl.load(source + begin + j, mask=j < size), mask=j < size)
