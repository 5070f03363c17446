"""The definition of what keeps a state in 16 bits: float32 to bfloat16 and back."""

import torch
from torch import Tensor

from gradvote.kernels.reference import random_words
from gradvote.rng import Draw

EXPONENT = 0x7F80
"""The bits of a bfloat16 that are all set where it is not finite."""


def widen(x: Tensor) -> Tensor:
    """bfloat16 as float32, exactly."""
    return x.float()


def narrow(x: Tensor, draw: Draw) -> Tensor:
    """x (..., B, n) as bfloat16, rounded at random to one of its two neighbours so that the mean is x.

    Coordinate j takes 16 random bits, the low (j even) or high (j odd) half of 32-bit word j // 2 of its row's stream:
    they are added to the lower half of the float32, which is then cut off. What is a bfloat16 already stays as it is,
    and so does the largest finite number; what is not finite stays so.
    """
    n = x.shape[-1]
    words = random_words(draw, -(-n // 2))
    halves = torch.stack((words & 0xFFFF, words >> 16), -1).flatten(-2)[..., :n]
    bits = x.detach().float().contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    raised, cut = (bits + halves) >> 16, bits >> 16
    chosen = torch.where((raised & EXPONENT) == EXPONENT, cut, raised) & 0xFFFF
    return (chosen - ((chosen & 0x8000) << 1)).to(torch.int16).view(torch.bfloat16)
