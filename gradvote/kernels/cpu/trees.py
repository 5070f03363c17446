"""Sums in the fixed order of `reference.tree_sum`: a tile of 1024 coordinates is one straight line of additions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.bits import count_bits
from gradvote.kernels.cpu.blocks import FORMATS, common_shape, rows_of
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.jit import kernel, program
from gradvote.kernels.cpu.lanes import BIT, INT16, INT64, Builder, Scalar, Vector, load, store_word
from gradvote.kernels.cpu.loops import ZERO, at, each_group, group_at
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.reference import TILE

LANES = 16
LEVELS = (TILE // LANES).bit_length() - 1
GRAIN = 1 << 6
"""Tiles that are worth a thread."""
SIGNED, ABSOLUTE, KEPT = ((None,) * kind for kind in range(1, 4))
"""What is summed, x, |x| or |x| where a bit is set, as values whose types tell the compiler."""

Sums = NDArray[np.floating]


def tree_sum(x: Tensor) -> Tensor:
    """`reference.tree_sum`."""
    if x.dtype not in (torch.float32, torch.float64) or x.shape[-1] <= TILE:
        return reference.tree_sum(x)
    return _tree_sum(x, None, SIGNED)


def mean_abs(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """`reference.mean_abs`."""
    if x.dtype not in FORMATS:
        return reference.mean_abs(x, keep)
    if keep is None:
        return _tree_sum(x, None, ABSOLUTE) / max(x.shape[-1], 1)
    return _tree_sum(x, keep, KEPT) / count_bits(keep).clamp(min=1)


def _tree_sum(x: Tensor, keep: Tensor | None, kind: tuple[None, ...]) -> Tensor:
    shape = x.shape[:-1] if keep is None else common_shape(x.shape[:-1], keep.shape[:-1])
    rows = rows_of(x, TILE, shape)
    kept = rows if keep is None else rows_of(keep, TILE // 64, shape)
    tiles = torch.empty(
        rows.body.shape[0], rows.groups, dtype=torch.promote_types(x.dtype, torch.float32), device="cpu"
    )
    sums = torch.zeros(shape, dtype=tiles.dtype, device="cpu")
    job = (FORMATS[x.dtype], kind, rows.place, kept.place, tiles.data_ptr(), rows.groups)
    split(lambda start, stop: _sum_tiles(*job, start, stop), rows.total, GRAIN)
    _fold_rows(tiles.numpy(), sums.view(-1).numpy())
    return sums


def _folded(leaf: Callable[[int], Vector], level: int, index: int) -> Vector:
    """Node `index` of a level: two of the level below, half a level apart; depth first, so that few registers do."""
    if level == 0:
        return leaf(index)
    return _folded(leaf, level - 1, index) + _folded(leaf, level - 1, index + (1 << (LEVELS - level)))


def tile_sum(leaf: Callable[[int], Vector]) -> Scalar:
    """The sum of a tile of 1024, given a function for its 64 vectors of 16 lanes."""
    return folded_sum(_folded(leaf, LEVELS, 0))


def folded_sum(total: Vector) -> Scalar:
    """The sum of a vector's lanes, half by half."""
    while total.count > 1:
        half = total.count // 2
        total = total.pick(total, range(half)) + total.pick(total, range(half, 2 * half))
    return total.builder.extract_element(total.value, INT64(0))


@program
def _sum_tiles(
    builder: Builder,
    format_: Any,
    kind: Any,
    place: Any,
    kept: Any,
    sums: Scalar,
    tiles: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    """Writes the sum of each tile of each row."""
    with each_group(builder, start, stop, tiles) as (row, tile):
        items = group_at(builder, place, row, tile, TILE, item_bytes(format_))
        bits = group_at(builder, kept, row, tile, TILE // 64, 8) if len(kind) == len(KEPT) else ZERO

        def leaf(index: int) -> Vector:
            offset = INT64(index * LANES * item_bytes(format_))
            x = read(builder, format_, builder.add(items, offset), LANES)
            if len(kind) == len(SIGNED):
                return x
            magnitude = x.magnitude().cast(x.value.type.element)
            if len(kind) == len(ABSOLUTE):
                return magnitude
            return load(builder, builder.add(bits, INT64(2 * index)), INT16, 1).cast(BIT).where(magnitude, 0.0)

        size = 8 if len(format_) == 2 else 4
        store_word(builder, tile_sum(leaf), at(builder, sums, (builder.add(builder.mul(row, tiles), tile), size)))


@kernel
def _fold_rows(tiles: Sums, sums: Sums) -> None:
    """Folds the sums of tiles, padded with zeros to a power of two, in place."""
    count = tiles.shape[1]
    size = 1
    while size < count:
        size *= 2
    for row in range(len(sums)):
        half = size // 2
        if count:
            sums[row] = tiles[row, 0]
        while half:
            for index in range(half):
                left = tiles[row, index] if index < count else tiles.dtype.type(0)
                right = tiles[row, index + half] if index + half < count else tiles.dtype.type(0)
                if index < count:
                    tiles[row, index] = left + right
            half //= 2
        if count:
            sums[row] = tiles[row, 0]
