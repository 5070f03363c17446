"""The words of a stream in Triton: Philox4x32-10 with the counters of `gradvote.rng`."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels.cuda.launch import halves
from gradvote.kernels.cuda.rows import values_of
from gradvote.rng import Draw


class Place(NamedTuple):
    """A draw as arguments of a kernel: the key, and where block and sender of a row are (`rows.Values`)."""

    low: int
    high: int
    block: Tensor
    block_outer: int
    block_inner: int
    sender: Tensor
    sender_outer: int
    sender_inner: int


NAMES = ("low", "high", "block_outer", "block_inner", "sender_outer", "sender_inner")
"""Arguments that no kernel is compiled for by value."""


def place_of(draw: Draw, lead: torch.Size) -> Place:
    """Where the draws of rows with leading axes `lead` stand."""
    low, high = halves(draw.key)
    block, block_outer, block_inner = values_of(draw.block, lead)
    sender, sender_outer, sender_inner = values_of(draw.sender, lead)
    return Place(low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner)


@triton.jit
def four(q, block, sender, low, high):
    """The four 32-bit words of counter (q, block, sender, 0)."""
    zero = q * 0
    return tl.random.philox_impl(
        q.to(tl.uint32, bitcast=True),
        (zero + block).to(tl.uint32),
        (zero + sender).to(tl.uint32),
        zero.to(tl.uint32),
        low.to(tl.uint32, bitcast=True),
        high.to(tl.uint32, bitcast=True),
    )


@triton.jit
def word(i, block, sender, low, high):
    """32-bit word i of a stream, as int32; each lane makes four to keep one, which pays where few are wanted."""
    q = 16 * (i // 64) + (i % 32) // 2
    w0, w1, w2, w3 = four(q, block, sender, low, high)
    even, upper = i % 2 == 0, i % 64 >= 32
    return tl.where(upper, tl.where(even, w2, w3), tl.where(even, w0, w1)).to(tl.int32, bitcast=True)


@triton.jit
def pairs(first, block, sender, low, high, TILES: tl.constexpr):
    """The words of tiles of 64 from tile `first` on, as int32: those of the lower and of the upper half of each.

    Both are (16·TILES, 2): word p of row q is item 2·(q % 16) + p of its half of tile first + q // 16.
    """
    w0, w1, w2, w3 = four(first * 16 + tl.arange(0, 16 * TILES), block, sender, low, high)
    return tl.join(w0, w1).to(tl.int32, bitcast=True), tl.join(w2, w3).to(tl.int32, bitcast=True)


@triton.jit
def places(first, TILES: tl.constexpr):
    """Which words of the stream `pairs` gives for the lower halves; those of the upper halves come 32 later."""
    q = tl.arange(0, 16 * TILES)
    return first * 64 + (64 * (q // 16) + 2 * (q % 16))[:, None] + tl.arange(0, 2)[None, :]
