"""States in 16 bits: float32 to bfloat16, rounded at random while it is written, and back."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import rounding_reference
from gradvote.kernels.cpu.blocks import position, result_rows, rows_of, shape_with
from gradvote.kernels.cpu.jit import kernel, program
from gradvote.kernels.cpu.lanes import INT16, INT32, INT64, Builder, Scalar, load, store
from gradvote.kernels.cpu.loops import each_group, group_at, group_to, value_at
from gradvote.kernels.cpu.philox import TILE, TILES, tiles
from gradvote.kernels.cpu.ragged_rows import position_of, row_at
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.ragged import Ragged
from gradvote.rng import Draw

HALVES = 2 * TILE
"""Coordinates to a tile of random words."""
GROUP = TILES * HALVES
GRAIN = 1 << 15
"""Coordinates that are worth a thread."""


def widen(x: Tensor) -> Tensor:
    """`rounding_reference.widen`."""
    return spare.empty(x.shape).copy_(x)


def narrow(x: Tensor, draw: Draw) -> Tensor:
    """`rounding_reference.narrow`."""
    shape = shape_with(x.shape[:-1], draw)
    if x.dtype != torch.float32 or shape != x.shape[:-1]:
        return rounding_reference.narrow(x, draw)
    out = spare.empty(x.shape, torch.bfloat16)
    source, result = rows_of(x, GROUP), result_rows(out, GROUP)
    job = (source.place, result.place, result.groups, position(draw, shape))
    split(lambda start, stop: _narrow(*job, start, stop), result.total, GRAIN // GROUP)
    return out


def ragged_narrow(x: Tensor, draw: Draw, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_narrow`."""
    out, starts = spare.empty(x.shape, torch.bfloat16), rows.starts(GROUP)
    table = rows.offsets, rows.lengths, starts
    job = (x.data_ptr(), out.data_ptr(), table, position_of(draw, rows.num_rows))
    split(lambda start, stop: _narrow_rows(*job, start, stop), int(starts[-1]), GRAIN // GROUP)
    return out


@program
def _narrow(builder: Builder, x: Any, result: Any, groups: Scalar, draw: Any, start: Scalar, stop: Scalar) -> None:
    key, blocks, senders = draw
    with each_group(builder, start, stop, groups) as (row, group):
        where = key, value_at(builder, blocks, row), value_at(builder, senders, row)
        address = group_at(builder, x, row, group, GROUP, 4)
        with group_to(builder, result, row, group, GROUP, 2) as out:
            for tile, words in enumerate(tiles(builder, *where, builder.mul(group, INT64(TILES)), TILES)):
                bits = load(builder, builder.add(address, INT64(tile * HALVES * 4)), INT32, HALVES)
                raised = (bits + words.cast(INT16).to(INT32, "zext")).shift_zeros(16)
                beyond = (raised & rounding_reference.EXPONENT).equal(rounding_reference.EXPONENT)
                chosen = beyond.where(bits.shift_zeros(16), raised).to(INT16, "trunc")
                store(chosen, builder.add(out, INT64(tile * HALVES * 2)))


@kernel
def _narrow_rows(x: int, out: int, table: Any, draw: Any, start: int, stop: int) -> None:
    offsets, lengths, starts = table
    key, blocks, senders = draw
    row = row_at(starts, start)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        source = (x + 4 * offsets[row], np.int64(0), lengths[row])
        target = (out + 2 * offsets[row], np.int64(0), lengths[row])
        drawn = (key, blocks[row : row + 1], senders[row : row + 1])
        _narrow(source, target, starts[row + 1] - starts[row], drawn, first, last)
        row += 1
