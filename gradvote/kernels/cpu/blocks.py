"""Blocks in memory, as the elementwise kernels see them: rows of n coordinates, read in groups of 64 or more.

A kernel always works on whole groups, and never reads or writes beyond a tensor: of a row's last group, where it is
shorter, it has a padded copy (`loops.group_at`, `loops.group_to`).
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
Place = tuple[int, int, int]
"""The address of rows, their distance in bytes and their length in items."""
FORMATS = {torch.float32: (None,), torch.float64: (None,) * 2, torch.bfloat16: (None,) * 3, torch.float16: (None,) * 4}
"""Values whose types tell the compiler the format of the coordinates."""


class Rows:
    """Rows `body` (R, n) of adjacent items, and how many groups of `group` items they have."""

    __slots__ = ("body", "groups", "n", "place", "total")

    def __init__(self, body: Tensor, group: int) -> None:
        num_rows, self.n = body.shape
        self.body, self.groups = body, -(-self.n // group)
        self.total = num_rows * self.groups
        stride = (body.stride(0) if num_rows > 1 else self.n) * body.itemsize
        self.place: Place = body.data_ptr(), stride, self.n


def rows_of(x: Tensor, group: int, shape: torch.Size | None = None) -> Rows:
    """The rows of x (..., n), broadcast to the leading `shape`; a view where neighbours are adjacent, else a copy."""
    n, x = x.shape[-1], x.detach() if x.requires_grad else x
    if shape is not None and shape != x.shape[:-1]:
        x = x.expand((*shape, n))
    body = x if x.stride(-1) == 1 else x.contiguous()
    if body.dim() != 2:
        body = body.reshape(math.prod(x.shape[:-1]), n)
    return Rows(body, group)


def result_rows(out: Tensor, group: int) -> Rows:
    """The rows of a contiguous tensor, to be written."""
    return Rows(out if out.dim() == 2 else out.view(math.prod(out.shape[:-1]), out.shape[-1]), group)


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
    numbers: Words = per_row(values if values.dtype is torch.int64 else values.to(torch.int64), shape)
    return numbers


def per_row(values: Tensor, shape: Sequence[int]) -> Any:
    """One value for each row of the leading `shape`, as an array (R,) of its own type."""
    values = values.detach() if values.requires_grad else values
    if values.shape == shape:
        return values.numpy().ravel()
    if values.numel() == 1:
        rows = math.prod(shape)
        return values.numpy().reshape(1) if rows == 1 else values.numpy().repeat(rows)
    return values.expand(shape).numpy().flatten()
