"""Packed bits counted."""

from typing import Any

import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.threads import split

GRAIN = 1 << 12
"""Words that are worth a thread."""

Words = NDArray[np.int64]


def count_bits(words: Tensor) -> Tensor:
    """`reference.count_bits`."""
    rows = words.reshape(words.shape[:-1].numel(), words.shape[-1]).contiguous().numpy()
    counts = torch.empty(words.shape[:-1], dtype=torch.int64)
    grain = -(-GRAIN // max(words.shape[-1], 1))
    split(lambda start, stop: _count(rows, counts.view(-1).numpy(), start, stop), len(rows), grain)
    return counts


@emitted
def _num_bits(typing: Any, word: Any) -> Any:
    """The number of set bits of a word."""
    return types.int64(word), lambda context, builder, signature, args: builder.ctpop(args[0])


@kernel
def _count(rows: Words, counts: Words, start: int, stop: int) -> None:
    for index in range(start, stop):
        row, total = rows[index], 0
        for word in row:
            total += _num_bits(word)
        counts[index] = total
