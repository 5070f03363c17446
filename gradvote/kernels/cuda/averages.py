"""Moving averages and the choice between old and new blocks, on a CUDA device.

Whether a block is finite is known when all of it has been seen. So a block is written as if it were, and one that turns
out not to be is repaired: programs of blocks that are well end at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda.columns import strides_of, unit_of
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, rows_of
from gradvote.kernels.cuda.tiles import is_finite, load, row_start

TILE = 2048
"""Coordinates of a row that one program takes."""
REPAIR = 16384
"""Coordinates of a row that one program repairs."""
NARROW = (torch.float32, torch.bfloat16, torch.float16)
"""Formats that float32 takes in."""


def moving_average(old: Tensor, beta: float, x: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """`reference.moving_average`."""
    if x.dtype not in NARROW or old.dtype != torch.float32 or x.shape != old.shape:
        return reference.moving_average(old, beta, x, gain)
    new, kept = (torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in range(2))
    before, rows, whole = rows_of(old.detach()), rows_of(x.detach()), _whole(x)
    unit = unit_of(before, rows)
    launch(
        _average, rows.number * portions(rows.n, TILE), x,
        before.x, rows.x, new, kept, whole, float(beta), float(gain), rows.n, rows.inner,
        *strides_of(before, unit), *strides_of(rows, unit), UNIT=unit, TILE=TILE,
    )  # fmt: skip
    repair(before, kept, whole)
    return new, kept


def finite_or(new: Tensor, old: Tensor) -> Tensor:
    """`reference.finite_or`."""
    floats = new.dtype.is_floating_point and new.dtype == old.dtype
    if not floats or new.shape != old.shape:
        return reference.finite_or(new, old)
    kept, rows, whole = torch.empty(new.shape, dtype=new.dtype, device=new.device), rows_of(new), _whole(new)
    unit, programs = unit_of(rows), rows.number * portions(rows.n, TILE)
    place = (rows.inner, *strides_of(rows, unit))
    launch(_copy, programs, new, rows.x, kept, whole, rows.n, *place, UNIT=unit, TILE=TILE)
    repair(rows_of(old), kept, whole)
    return kept


def repair(old: Rows, new: Tensor, whole: Tensor) -> None:
    """Gives the blocks of `new` (..., n, contiguous) that are not `whole` (...,) what they were in `old`."""
    unit, programs = unit_of(old), old.number * portions(old.n, REPAIR)
    place = (old.inner, *strides_of(old, unit))
    launch(_repair, programs, new, old.x, new, whole, old.n, *place, UNIT=unit, TILE=REPAIR)


def _whole(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)


@triton.jit
def bounded(x):
    """`reference.bounded`."""
    return tl.where(tl.abs(x) < 18446744073709551616.0, x, x * float("inf"))


@triton.jit(
    do_not_specialize=("n", "inner", "outer_stride", "inner_stride", "x_outer_stride", "x_inner_stride"),
)
def _average(
    old, x, new, kept, whole, beta, gain, n, inner, outer_stride, inner_stride, x_outer_stride, x_inner_stride,
    UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    old = row_start(old, row, inner, outer_stride, inner_stride, UNIT)
    x, place = row_start(x, row, inner, x_outer_stride, x_inner_stride, UNIT), row.to(tl.int64) * n
    average_tile(old, x, new + place, kept + place, whole + row, beta, gain, n, tile, TILE)


@triton.jit
def average_tile(old, x, new, kept, whole, beta, gain, n, tile, TILE: tl.constexpr):
    """A tile of the average of the rows at `old` and x (n,), to `new` and `kept`; if not finite, `whole` is false."""
    j = tile * TILE + tl.arange(0, TILE)
    before, added = load(old, j, n), load(x, j, n)
    result = before * beta + bounded(added) * gain
    tl.store(new + j, result, mask=j < n)
    tl.store(kept + j, result, mask=j < n)
    if tl.min((is_finite(result) | (j >= n)).to(tl.int32)) == 0:
        tl.store(whole, False)


@triton.jit(do_not_specialize=("n", "inner", "outer_stride", "inner_stride"))
def _copy(x, out, whole, n, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT)
    copy_tile(x, out + row.to(tl.int64) * n, whole + row, n, tile, TILE)


@triton.jit
def copy_tile(x, out, whole, n, tile, TILE: tl.constexpr):
    """A tile of the row at x (n,) to `out`; `whole` is false if it is not finite."""
    j = tile * TILE + tl.arange(0, TILE)
    values = tl.load(x + j, mask=j < n, other=0)
    tl.store(out + j, values, mask=j < n)
    wide = values if values.dtype.primitive_bitwidth >= 32 else values.to(tl.float32)
    if tl.min(is_finite(wide).to(tl.int32)) == 0:
        tl.store(whole, False)


@triton.jit(do_not_specialize=("n", "inner", "outer_stride", "inner_stride"))
def _repair(old, new, whole, n, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    old = row_start(old, row, inner, outer_stride, inner_stride, UNIT)
    repair_tile(old, new + row.to(tl.int64) * n, whole + row, n, tile, TILE)


@triton.jit
def repair_tile(old, new, whole, n, tile, TILE: tl.constexpr):
    """A tile of the row at `old` (n,) to `new`, if that is not `whole`."""
    if tl.load(whole) == 0:
        j = tile * TILE + tl.arange(0, TILE)
        tl.store(new + j, tl.load(old + j, mask=j < n), mask=j < n)
