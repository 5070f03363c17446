"""Rows of unequal length: kernels for equal rows, called row by row from machine code.

A row of n coordinates is a rectangle of one row, so its result is that of the kernel by construction. Work is shared
out in units that no two rows have in common (`Ragged.starts`); a call costs some nanoseconds a row.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels.cpu.blocks import Words, per_row
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.philox import signed
from gradvote.kernels.cpu.signs import NEGATIVE, POSITIVE, RANDOM, Zeros
from gradvote.kernels.cpu.spare import spare
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from gradvote.scattered import Scattered, Vector


@kernel
def row_at(starts: Words, unit: int) -> int:
    """The row that a unit of work belongs to."""
    low, high = 0, len(starts) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if starts[middle] <= unit:
            low = middle
        else:
            high = middle
    return low


def place_of(x: Vector, rows: Ragged) -> tuple[int, Words]:
    """The address of coordinates (d,), and where each row begins, in items from there on."""
    return (x.base.data_ptr(), x.starts) if isinstance(x, Scattered) else (x.data_ptr(), rows.offsets)


def words_of(rows: Ragged, *leading: int) -> Tensor:
    """Room for the words of all rows (..., W)."""
    return spare.empty((*leading, int(rows.words[-1])), torch.int64)


def position_of(draw: Draw, num_rows: int) -> tuple[int, Words, Words]:
    """Key of a draw, and the block and sender of each row (B,)."""
    return signed(draw.key), per_row(draw.block, (num_rows,)), per_row(draw.sender, (num_rows,))


def zeros_of_rows(zeros: Draw | bool, num_rows: int) -> Zeros:
    """The rule for zeros, and for random ones key, blocks and senders of their draw."""
    if isinstance(zeros, Draw):
        return (RANDOM, *position_of(zeros, num_rows))
    nobody = np.zeros(num_rows, np.int64)
    return (POSITIVE if zeros else NEGATIVE, 0, nobody, nobody)


def keep_rows(new: Tensor, old: Tensor, which: Any, rows: Ragged) -> None:
    """Give some rows of a flat vector what stood there before."""
    for row in np.flatnonzero(which):
        begin, end = int(rows.offsets[row]), int(rows.offsets[row + 1])
        new[begin:end] = old[begin:end]
