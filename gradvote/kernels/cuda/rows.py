"""Where the rows of tensors (..., B, n) are: two strides, so that slices of a flat vector need no copy."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

VECTOR = 8
"""Items that a thread may load at once, where every row begins and ends at a multiple of as many."""


class Rows(NamedTuple):
    """Rows of n adjacent items: row r begins at (r // inner)·outer_stride + (r % inner)·inner_stride.

    Both strides are in units of `unit` items, and n is a multiple of it.
    """

    x: Tensor
    lead: torch.Size
    n: int
    inner: int
    outer_stride: int
    inner_stride: int
    unit: int

    @property
    def number(self) -> int:
        """How many rows there are."""
        return math.prod(self.lead)

    @property
    def place(self) -> tuple[int, int, int]:
        """What a kernel's `row_of` takes: inner, outer_stride, inner_stride."""
        return self.inner, self.outer_stride, self.inner_stride


class Values(NamedTuple):
    """A number per row (...,): that of row r is at (r // inner)·outer_stride + (r % inner)·inner_stride."""

    x: Tensor
    outer_stride: int
    inner_stride: int


def rows_of(x: Tensor, lead: torch.Size | None = None) -> Rows:
    """The rows of x (..., n), broadcast to leading axes `lead`; copied where two strides do not reach them."""
    n = x.shape[-1]
    if lead is not None and x.shape[:-1] != lead:
        x = x.expand(*lead, n)
    if n > 1 and x.stride(-1) != 1:
        x = x.contiguous()
    strides = _two(x.shape[:-1], x.stride()[:-1])
    if strides is None:
        x = x.contiguous()
        strides = _two(x.shape[:-1], x.stride()[:-1])
        assert strides is not None
    unit = VECTOR if strides[0] % VECTOR == strides[1] % VECTOR == n % VECTOR == 0 else 1
    inner = x.shape[-2] if x.dim() > 1 else 1
    return Rows(x, x.shape[:-1], n, inner, strides[0] // unit, strides[1] // unit, unit)


def values_of(x: Tensor, lead: torch.Size) -> Values:
    """A tensor that broadcasts to (...,) = `lead`, without a copy where two strides reach it."""
    x = x.expand(lead)
    strides = _two(lead, x.stride())
    if strides is None:
        x = x.contiguous()
        strides = _two(lead, x.stride())
        assert strides is not None
    return Values(x, *strides)


def _two(lead: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int] | None:
    """The stride of all leading axes but the last, and of the last; None where the former have more than one."""
    if not lead:
        return 0, 0
    step, size = 0, 1
    for axis in range(len(lead) - 2, -1, -1):
        if lead[axis] == 1:
            continue
        if size == 1:
            step = strides[axis]
        elif strides[axis] != step * size:
            return None
        size *= lead[axis]
    return step, strides[-1] if lead[-1] > 1 else 0
