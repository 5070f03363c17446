"""What the kernels of the memory step do with coordinates (..., words, 32): called by them only."""

import triton
import triton.language as tl

from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.averages import bounded
from gradvote.kernels.feedback_reference import Inertia

DRAWN = 2
"""How a zero's sign is found, where its draw says (0 and 1: −, +)."""
_PLAIN, _HEAVY_BALL, _NESTEROV = 0, 1, 2


def kind_of(inertia: Inertia | None) -> int:
    """The number of a momentum's kind."""
    return _PLAIN if inertia is None else _NESTEROV if inertia.nesterov else _HEAVY_BALL


@triton.jit
def advanced(x, before, momentum, ratio, mu, KIND: tl.constexpr):
    """p, and the new momentum if there is any."""
    p = bounded(x)
    m = p
    if KIND > 0:
        m = momentum * mu + p
        p = bounded(p + m * mu) if KIND == 2 else bounded(m)
    return p + before * ratio, m


@triton.jit
def signs(p, inside, place, low, high, block, sender, ZEROS: tl.constexpr):
    """The words of the signs of p; block and sender are addresses."""
    word = packed_lanes(inside & ((p >= 0) if ZEROS == 1 else (p > 0)))
    if ZEROS == 2:
        zero = packed_lanes(inside & (p == 0))
        if tl.max((zero != 0).to(tl.int32)) > 0:
            zero &= philox.word(place, tl.load(block), tl.load(sender), low, high)
        word |= zero
    return word


@triton.jit
def coordinates(words):
    """The coordinates (T, W, 32) of words (T, W)."""
    return words[:, :, None] * 32 + tl.arange(0, 32)[None, None, :]


@triton.jit
def packed_lanes(marked):
    """Flags (T, W, 32) as words (T, W)."""
    return tl.sum(marked.to(tl.int32) << tl.arange(0, 32)[None, None, :], axis=2)


@triton.jit
def flags(words):
    """Words (T, W) as flags (T, W, 32)."""
    return ((words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1) != 0


@triton.jit
def sent(p, positive, kept, scale, MASKED: tl.constexpr):
    """p without what is sent."""
    given = tl.where(positive, scale, -scale)
    if MASKED:
        given = tl.where(kept, given, 0.0)
    return p - given
