"""Where the rows of tensors (..., B, n) are: two strides, so that slices of a flat vector need no copy."""

import ctypes
import math
from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.rng import Draw

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


class Number(NamedTuple):
    """A float32 per row: that of `Values`, or `plain` for all where none were given (the kernel's GIVEN)."""

    x: Tensor
    outer_stride: int
    inner_stride: int
    plain: float


def rows_of(x: Tensor, lead: torch.Size | None = None) -> Rows:
    """The rows of x (..., n), broadcast to leading axes `lead`; copied where two strides do not reach them."""
    n = x.shape[-1]
    if x.dim() == 2 and x.stride(1) == 1 and (lead is None or lead == x.shape[:1]):  # most calls, which are in a hurry
        step = x.stride(0) if x.shape[0] > 1 else 0
        unit = VECTOR if step % VECTOR == n % VECTOR == 0 else 1
        return Rows(x, x.shape[:1], n, x.shape[0], 0, step // unit, unit)
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
    if not x.dim():
        return Values(x, 0, 0)
    if x.shape == lead[-1:]:
        return Values(x, 0, x.stride(0) if x.shape[0] > 1 else 0)
    x = x.expand(lead)
    strides = _two(lead, x.stride())
    if strides is None:
        x = x.contiguous()
        strides = _two(lead, x.stride())
        assert strides is not None
    return Values(x, *strides)


def words_of(words: Tensor, lead: torch.Size | None = None) -> Rows:
    """The rows of words (..., W) as pairs of int32, the lower half first."""
    if words.shape[-1] == 1 and words.stride(-1) != 1:
        words = words.as_strided(words.shape, (*words.stride()[:-1], 1))  # or it has no view as int32
    elif words.stride(-1) != 1:
        words = words.contiguous()
    return rows_of(words.view(torch.int32), lead)


def number_of(value: float | Tensor, lead: torch.Size, like: Tensor) -> Number:
    """A number, or a tensor that broadcasts to (...,) = `lead`, on the device of `like`."""
    if not isinstance(value, Tensor):
        return Number(like, 0, 0, ctypes.c_float(value).value)
    return Number(*values_of(value.detach().to(like.device, non_blocking=True), lead), 0.0)


def lead_of(shape: torch.Size, *others: object) -> torch.Size:
    """The leading shape, broadcast with those of other shapes, draws and tensors (...,); numbers have none."""
    shapes = [s for other in others for s in _shapes(other) if s and s != shape]
    if not shapes:
        return shape
    # not `torch.broadcast_shapes`, which imports sympy
    joined: Tensor = torch.broadcast_tensors(*(_NOTHING.expand(s) for s in (shape, *shapes)))[0]
    return joined.shape


_NOTHING = torch.empty(())


def _shapes(value: object) -> list[torch.Size]:
    if isinstance(value, Draw):
        return [value.block.shape, value.sender.shape]
    if isinstance(value, Tensor):
        return [value.shape]
    return [value] if isinstance(value, torch.Size) else []


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
