"""Where M inputs of rows are, as many in one tensor (M, ..., n): the rows of the first, and the step to the next."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.kernels.cuda.rows import VECTOR, rows_of, values_of


class Columns(NamedTuple):
    """Row r of input i begins i·step behind that of the first, at the place of `rows.Rows`, in units of `unit`."""

    x: Tensor
    lead: torch.Size
    n: int
    step: int
    inner: int
    outer_stride: int
    inner_stride: int
    unit: int

    @property
    def place(self) -> tuple[int, int, int, int]:
        """What a kernel takes: step, inner, outer_stride, inner_stride."""
        return self.step, self.inner, self.outer_stride, self.inner_stride


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
    aligned = x.stride(0) % VECTOR == 0
    unit, scale = (rows.unit, 1) if aligned else (1, rows.unit)
    return Columns(
        x, rows.lead, rows.n, x.stride(0) // unit, rows.inner,
        rows.outer_stride * scale, rows.inner_stride * scale, unit,
    )  # fmt: skip


def flags_of(flags: Tensor, shape: torch.Size) -> Flags:
    """Flags that broadcast to `shape` = (M, ...), copied where strides do not reach them."""
    flags = flags.expand(shape)
    first = values_of(flags[0], shape[1:])
    if first.x.data_ptr() != flags.data_ptr():
        flags = flags.contiguous()
        first = values_of(flags[0], shape[1:])
    return Flags(flags.view(torch.uint8), flags.stride(0), first.outer_stride, first.inner_stride)
