"""Units of zeros: `units_reference` on the CPU, word by word."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels.cpu.blocks import Words, common_shape, per_row
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.reference import num_words

GRAIN = 1 << 10
"""Words that are worth a thread."""

Lines = NDArray[np.int64]


def whole_units(words: Tensor, n: int, units: Units) -> Tensor:
    """`units_reference.whole_units`."""
    return _each_row(_whole, words, n, units, num_words(units.count(n)))


def outside_units(flags: Tensor, n: int, units: Units) -> Tensor:
    """`units_reference.outside_units`."""
    return _each_row(_outside, flags, n, units, num_words(n))


def _each_row(run: Callable[..., None], words: Tensor, n: int, units: Units, width: int) -> Tensor:
    """What `run` makes of each row of words: rows of `width` words."""
    shape = words.shape[:-1]
    if units.phase is not None and units.phase.dim():
        shape = common_shape(shape, units.phase.shape)
    source = words.expand(*shape, -1).reshape(shape.numel(), words.shape[-1]).contiguous().numpy()
    phases = per_row(torch.zeros((), dtype=torch.int64, device="cpu") if units.phase is None else units.phase, shape)
    out = spare.empty((*shape, width), torch.int64)
    job = (source, n, units.length, phases, out.view(shape.numel(), width).numpy())
    split(lambda start, stop: run(*job, start, stop), shape.numel(), GRAIN // max(num_words(n), 1))
    return out


@kernel
def _whole(words: Lines, n: int, length: int, phases: Words, flags: Lines, start: int, stop: int) -> None:
    for row in range(start, stop):
        own, found, some = words[row], flags[row], 0
        found[:] = 0
        for word in own:
            some |= word
        if some == 0:
            continue
        aligned = n >> 6 if length == 64 and phases[row] == 0 else 0
        for unit in range(aligned):
            found[unit >> 6] |= np.int64(own[unit] == -1) << (unit & 63)
        for unit in range(aligned, (phases[row] + n - 1) // length + 1):
            begin = max(unit * length - phases[row], 0)
            if _all_set(own, begin, min((unit + 1) * length - phases[row], n) - 1):
                found[unit >> 6] |= np.int64(1) << (unit & 63)


@kernel
def _outside(flags: Lines, n: int, length: int, phases: Words, words: Lines, start: int, stop: int) -> None:
    for row in range(start, stop):
        own = words[row]
        own[:] = -1
        if n & 63:
            own[-1] = (np.int64(1) << (n & 63)) - 1
        aligned = n >> 6 if length == 64 and phases[row] == 0 else 0
        for unit in range(aligned):
            own[unit] = (flags[row, unit >> 6] >> (unit & 63) & 1) - 1
        for unit in range(aligned, (phases[row] + n - 1) // length + 1 if n else 0):
            if flags[row, unit >> 6] >> (unit & 63) & 1:
                begin = max(unit * length - phases[row], 0)
                _clear(own, begin, min((unit + 1) * length - phases[row], n) - 1)


@kernel
def _all_set(words: Words, first: int, last: int) -> Any:
    """Whether bits `first` to `last` are set."""
    low, high = np.int64(-1) << (first & 63), _up_to(last & 63)
    begin, end = first >> 6, last >> 6
    if begin == end:
        return words[begin] & (low & high) == low & high
    whole = words[begin] & low == low and words[end] & high == high
    for index in range(begin + 1, end):
        whole = whole and words[index] == -1
    return whole


@kernel
def _clear(words: Words, first: int, last: int) -> None:
    """Clears bits `first` to `last`."""
    low, high = np.int64(-1) << (first & 63), _up_to(last & 63)
    begin, end = first >> 6, last >> 6
    if begin == end:
        words[begin] &= ~(low & high)
        return
    words[begin] &= ~low
    words[end] &= ~high
    for index in range(begin + 1, end):
        words[index] = 0


@kernel
def _up_to(bit: int) -> Any:
    """Bits 0 to `bit`."""
    return (np.int64(2) << bit) - 1 if bit < 63 else np.int64(-1)
