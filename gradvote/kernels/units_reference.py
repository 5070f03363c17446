"""The definition of the kernels on units of zeros: which units of a block are all zero, and where nothing is said.

Shapes as in `reference`; U = ⌈`units.count(n)`/64⌉ words of flags. Unit u of a block is bit u % 64 of word u // 64;
bits beyond the units that a block touches are zero.
"""

import torch
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels.reference import checked_pack_signs, pack_bits, unpack_bits
from gradvote.rng import Draw


def still_pack_signs(x: Tensor, zeros: Draw | bool, units: Units) -> tuple[Tensor, Tensor, Tensor]:
    """`checked_pack_signs` of x, and words (..., U) that mark the units whose coordinates are all exact zeros."""
    words, valid = checked_pack_signs(x, zeros)
    return words, valid, whole_units(pack_bits(x == 0), x.shape[-1], units)


def whole_units(words: Tensor, n: int, units: Units) -> Tensor:
    """Words (..., U) that mark the units of which all bits are set in words (..., W)."""
    set_, number = torch.broadcast_tensors(unpack_bits(words, n), _numbers(n, units, words.device))
    empty = torch.zeros(*set_.shape[:-1], units.count(n), dtype=torch.int64, device=words.device)
    size = empty.scatter_add(-1, number, torch.ones_like(number))
    return pack_bits((size > 0) & (empty.scatter_add(-1, number, set_.to(torch.int64)) == size))


def outside_units(flags: Tensor, n: int, units: Units) -> Tensor:
    """Words (..., W) with the bits of all coordinates, but for those in the units marked in words (..., U)."""
    number = _numbers(n, units, flags.device)
    marked = unpack_bits(flags, units.count(n))
    # not `torch.broadcast_shapes`, which imports sympy
    shape = torch.broadcast_tensors(marked[..., :1], number[..., :1])[0].shape[:-1]
    return pack_bits(~marked.expand(*shape, -1).gather(-1, number.expand(*shape, -1)))


def _numbers(n: int, units: Units, device: torch.device) -> Tensor:
    """The number of each coordinate's unit within its block: (n,), or (B, n) where blocks differ."""
    place = torch.arange(n, device=device)
    if units.phase is not None:
        place = place + units.phase.to(device, non_blocking=True)[..., None]
    return place // units.length
