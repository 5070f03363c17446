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
    """Addresses and bytes of rows: whole groups in `body` (R, n), what is left of each row in a copy (R, group).

    The copies are numpy's: on a few bytes a call of torch takes several times as long as one of numpy.
    """

    __slots__ = ("_copies", "_left", "body", "group", "n", "place")

    def __init__(self, body: Tensor, group: int, filled: bool) -> None:
        self.body, self.group, self.n = body, group, body.shape[-1]
        (num_rows, n), start, left = body.shape, body.data_ptr(), body.shape[-1] % group
        rest, whole = start, n // group
        if left:
            items = _items(body)
            self._left, self._copies = items[:, n - left :], np.zeros((num_rows, group), items.dtype)
            if filled:
                self._copies[:, :left] = self._left
            rest = self._copies.ctypes.data
        self.place: Place = start, (body.stride(0) if num_rows > 1 else n) * body.itemsize, rest, whole

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
            self._left[...] = self._copies[:, :left]


def rows_of(x: Tensor, group: int, shape: torch.Size | None = None) -> Rows:
    """The rows of x (..., n), broadcast to the leading `shape`; a view where neighbours are adjacent, else a copy."""
    n, x = x.shape[-1], x.detach() if x.requires_grad else x
    if shape is not None and shape != x.shape[:-1]:
        x = x.expand((*shape, n))
    body = x if x.stride(-1) == 1 else x.contiguous()
    if body.dim() != 2:
        body = body.reshape(math.prod(x.shape[:-1]), n)
    return Rows(body, group, filled=True)


def result_rows(out: Tensor, group: int, filled: bool = False) -> Rows:
    """The rows of a contiguous tensor, to be written and finished; `filled` where what they hold is read before."""
    n = out.shape[-1]
    return Rows(out if out.dim() == 2 else out.view(math.prod(out.shape[:-1]), n), group, filled)


def _items(x: Tensor) -> NDArray[Any]:
    """The items of a tensor; those of bfloat16, which numpy does not have, as integers."""
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


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


def position(draw: Draw, shape: Sequence[int]) -> Position:
    """Key, blocks (R,) and senders (R,) of a draw for the rows of the leading `shape`."""
    return signed(draw.key), _numbers(draw.block, shape), _numbers(draw.sender, shape)


def _numbers(values: Tensor, shape: Sequence[int]) -> Words:
    numbers: Words = per_row(values if values.dtype == torch.int64 else values.to(torch.int64), shape)
    return numbers


def per_row(values: Tensor, shape: Sequence[int]) -> Any:
    """One value for each row of the leading `shape`, as an array (R,) of its own type."""
    values = values.detach() if values.requires_grad else values
    if values.shape == shape:
        return values.numpy().ravel()
    if values.numel() == 1:
        return values.numpy().repeat(math.prod(shape))
    return values.expand(shape).numpy().flatten()
