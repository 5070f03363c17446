"""Stated quantile functions of 32-bit words: elementwise float32 operations in fixed order, the same on every device."""

import torch
from torch import Tensor


def uniform(words: Tensor) -> Tensor:
    """Uniform on (−√3, √3)."""
    centred = ((words >> 8) - (1 << 23)).to(torch.float32) + 0.5
    return centred * (2 * 3**0.5 / (1 << 24))


QUANTILES = {"uniform": uniform}


def quantile(distribution: str, words: Tensor) -> Tensor:
    """The quantile of variance-1 `distribution` at words in [0, 2^32)."""
    return QUANTILES[distribution](words)
