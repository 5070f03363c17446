"""Blocks in memory, as the elementwise kernels see them: rows of n coordinates, read in groups of 64 or more.

What is left of a row after its whole groups is kept in a padded copy of its own, so that a kernel always reads and
writes whole groups, and never beyond a tensor.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.kernels.cpu.philox import signed
from gradvote.rng import Draw

Words = NDArray[np.int64]
Scales = NDArray[np.float32]
Position = tuple[int, Words, Words]
"""Key of a draw, and the block and sender of each row."""
Place = tuple[int, int, int, int]
"""Address and bytes per row of the body, address of the rest, whole groups per row."""
FORMATS = {torch.float32: (None,), torch.float64: (None,) * 2, torch.bfloat16: (None,) * 3, torch.float16: (None,) * 4}
"""Values whose types tell the compiler the format of the coordinates."""


class Rows:
    """Addresses and bytes of rows: whole groups in `body` (R, n), what is left of each row in `rest` (R, group)."""

    __slots__ = ("body", "group", "n", "place", "rest")

    def __init__(self, body: Tensor, rest: Tensor, n: int, group: int) -> None:
        self.body, self.rest, self.n, self.group = body, rest, n, group
        stride = body.stride(0) if body.shape[0] > 1 else n
        self.place: Place = body.data_ptr(), stride * body.itemsize, rest.data_ptr(), n // group

    @property
    def groups(self) -> int:
        """Groups per row, the rest included."""
        return -(-self.n // self.group)

    @property
    def total(self) -> int:
        """Groups of all rows."""
        return self.body.shape[0] * self.groups

    def finish(self) -> None:
        """After a kernel wrote to the rows: brings the rest home."""
        left = self.n % self.group
        if left:
            self.body[:, self.n - left :] = self.rest[:, :left]


def rows_of(x: Tensor, group: int, shape: torch.Size | None = None) -> Rows:
    """The rows of x (..., n), broadcast to the leading `shape`; a view where neighbours are adjacent, else a copy."""
    n, x = x.shape[-1], x.detach() if x.requires_grad else x
    if shape is not None and shape != x.shape[:-1]:
        x = x.expand((*shape, n))
    body = x if x.stride(-1) == 1 else x.contiguous()
    if body.dim() != 2:
        body = body.reshape(math.prod(x.shape[:-1]), n)
    left = n % group
    if not left:
        return Rows(body, body, n, group)
    return Rows(body, torch.nn.functional.pad(body[:, n - left :], (0, group - left)), n, group)


def common_shape(shape: torch.Size, other: torch.Size) -> torch.Size:
    """`torch.broadcast_shapes` of two; that takes 50 µs, more than some kernels."""
    if shape == other:
        return shape
    long, short = (shape, other) if len(shape) >= len(other) else (other, shape)
    padded = (1,) * (len(long) - len(short)) + tuple(short)
    if any(a != b and 1 not in (a, b) for a, b in zip(long, padded, strict=True)):
        return torch.Size(torch.broadcast_shapes(shape, other))
    return torch.Size([b if a == 1 else a for a, b in zip(long, padded, strict=True)])


def shape_with(shape: torch.Size, *draws: Draw | bool) -> torch.Size:
    """The leading shape broadcast with those of draws."""
    others = [t.shape for draw in draws if isinstance(draw, Draw) for t in (draw.block, draw.sender)]
    for other in others:
        if other:
            shape = common_shape(shape, other)
    return shape


def result_rows(out: Tensor, group: int) -> Rows:
    """The rows of a fresh contiguous tensor, to be written and finished."""
    n = out.shape[-1]
    body = out if out.dim() == 2 else out.view(math.prod(out.shape[:-1]), n)
    return Rows(body, torch.empty(body.shape[0], group, dtype=body.dtype) if n % group else body, n, group)


def position(draw: Draw, shape: Sequence[int]) -> Position:
    """Key, blocks (R,) and senders (R,) of a draw for the rows of the leading `shape`."""
    return signed(draw.key), *(per_row(numbers.to(torch.int64), shape) for numbers in (draw.block, draw.sender))


def per_row(values: Tensor, shape: Sequence[int]) -> Any:
    """One value for each row of the leading `shape`, as an array (R,) of its own type."""
    values = values.detach() if values.requires_grad else values
    if values.shape == shape:
        return values.numpy().ravel()
    if values.numel() == 1:
        return np.repeat(values.numpy().ravel(), math.prod(shape))
    return values.expand(shape).numpy().flatten()
