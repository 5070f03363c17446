"""Where M inputs of rows are, as many in one tensor (M, ..., n): the rows of the first, and the step to the next."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.kernels.cuda.rows import VECTOR, Rows, rows_of, values_of


class Columns(NamedTuple):
    """Row r of input i begins i·step items behind row r of the first input."""

    first: Rows
    step: int


class Flags(NamedTuple):
    """A byte per input and row (M, ...): that of input i is i·step behind that of the first (`rows.Values`)."""

    x: Tensor
    step: int
    outer_stride: int
    inner_stride: int


def columns_of(x: Tensor) -> Columns:
    """The rows of x (M, ..., n), copied where strides do not reach them."""
    rows = rows_of(x[0])
    if rows.x.data_ptr() != x.data_ptr():
        x = x.contiguous()
        rows = rows_of(x[0])
    return Columns(rows, x.stride(0))


def unit_of(*inputs: Rows | Columns) -> int:
    """Items that every row of all inputs begins at a multiple of, and n is one of: then a thread loads as many at once.

    Kernels that take it round n to its multiples, which changes nothing and tells the compiler.
    """
    steps = (each.step for each in inputs if isinstance(each, Columns))
    rows = [each.first if isinstance(each, Columns) else each for each in inputs]
    aligned = all(each.unit == VECTOR and each.n % VECTOR == 0 for each in rows)
    return VECTOR if aligned and all(step % VECTOR == 0 for step in steps) else 1


def strides_of(rows: Rows, unit: int) -> tuple[int, int]:
    """The outer and inner stride of rows in a unit that divides their own."""
    return rows.outer_stride * rows.unit // unit, rows.inner_stride * rows.unit // unit


def flags_of(flags: Tensor, shape: torch.Size) -> Flags:
    """Flags that broadcast to `shape` = (M, ...), copied where strides do not reach them."""
    flags = flags.expand(shape)
    first = values_of(flags[0], shape[1:])
    if first.x.data_ptr() != flags.data_ptr():
        flags = flags.contiguous()
        first = values_of(flags[0], shape[1:])
    return Flags(flags.view(torch.uint8), flags.stride(0), first.outer_stride, first.inner_stride)
