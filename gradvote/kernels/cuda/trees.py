"""Sums in the fixed order of `reference.tree_sum`, on a CUDA device.

A fold adds the upper half to the lower half. What a kernel has beyond the power of two that the definition pads to is
−0, which changes no number that it is added to; up to there it is +0, as in the definition, which makes +0 of −0.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda.columns import strides_of, unit_of
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import rows_of
from gradvote.kernels.cuda.signs import FLOATS
from gradvote.kernels.cuda.tiles import appended, divided, row_start
from gradvote.kernels.reference import TILE

TILES = 2
"""Tiles that one program sums."""
FOLD = 1024
"""Sums of tiles that one program folds to one."""
FAR = 8
"""Sums that become one where there are more."""


def tree_sum(x: Tensor) -> Tensor:
    """`reference.tree_sum`."""
    if x.dtype not in (torch.float32, torch.float64):
        return reference.tree_sum(x)
    return _sum(x, None, magnitude=False)[0]


def mean_abs(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """`reference.mean_abs`."""
    if x.dtype not in FLOATS:
        return reference.mean_abs(x, keep)
    return _sum(x, keep, magnitude=True)[0]


def _sum(x: Tensor, keep: Tensor | None, magnitude: bool) -> tuple[Tensor, Tensor]:
    """The sum over the last axis; with `magnitude` the mean of |x|, over the marked coordinates if there is a mask."""
    lead = x.shape[:-1] if keep is None else torch.broadcast_shapes(x.shape[:-1], keep.shape[:-1])
    rows = rows_of(x, lead)
    tiles = portions(rows.n, TILE)
    kind = torch.promote_types(x.dtype, torch.float32)
    sums = torch.empty((rows.number, max(tiles, 1)), dtype=kind, device=x.device)
    counts = torch.zeros(lead, dtype=torch.int32, device=x.device)
    masks = rows if keep is None else rows_of(keep.to(torch.int64), lead)
    launch(
        _sum_tiles, portions(rows.number * tiles, TILES), x,
        rows.x, masks.x, sums, counts, rows.number * tiles, rows.n, rows.inner,
        *strides_of(rows, unit_of(rows)), *strides_of(masks, 1), UNIT=unit_of(rows),
        SIZE=TILE, TILES=TILES, ABSOLUTE=magnitude, MASKED=keep is not None,
    )  # fmt: skip
    return folded(sums, counts, tiles, rows.n if keep is None else 0, magnitude), counts


def folded(sums: Tensor, counts: Tensor, tiles: int, n: int, mean: bool) -> Tensor:
    """The fold (...,) of the sums of tiles (rows, tiles); over max(n or their own count (...,), 1) for a `mean`."""
    size = triton.next_power_of_2(max(tiles, 1))
    rows, width = sums.shape
    while size > FOLD:
        less = torch.empty((rows, size // FAR), dtype=sums.dtype, device=sums.device)
        launch(_fold_far, rows * portions(size // FAR, FOLD), sums, sums, less, tiles, width, size // FAR, TILE=FOLD)
        sums, size = less, size // FAR
        tiles = width = size
    out = torch.empty(counts.shape, dtype=sums.dtype, device=sums.device)
    launch(_fold_near, rows, sums, sums, out, counts, tiles, width, size, n, SIZE=FOLD, MEAN=mean)
    return out


@triton.jit
def _minus_zero(values):
    """−0 of the type of some values; the constant −0.0 would become +0."""
    return tl.full((1,), -1, values.dtype) * 0


@triton.jit
def halved(x, ROWS: tl.constexpr, SIZE: tl.constexpr, SIZES: tl.constexpr):
    """Rows (ROWS, SIZE) folded once: the upper half added to the lower.

    A sum of two has one order, whoever makes it, and `tl.sum` leaves every number in its thread. But Triton's
    interpreter makes +0 of −0 there, so it is only for SIZES: numbers of which none, but what is padded, is below +0.
    """
    halves = tl.reshape(x, (ROWS, 2, SIZE // 2))
    if SIZES:
        result = tl.sum(halves, axis=1)
    else:
        lower, upper = tl.split(tl.permute(halves, (0, 2, 1)))
        result = lower + upper
    return result


@triton.jit
def fold(x, ROWS: tl.constexpr, SIZE: tl.constexpr, LEVELS: tl.constexpr, SIZES: tl.constexpr):
    """Rows (ROWS, SIZE) folded LEVELS times, to (ROWS,)."""
    for level in tl.static_range(LEVELS):
        x = halved(x, ROWS, SIZE >> level, SIZES)
    return tl.reshape(x, (ROWS,))


@triton.jit(
    do_not_specialize=(
        "units", "n", "inner", "outer_stride", "inner_stride", "mark_outer", "mark_inner",
    )
)  # fmt: skip
def _sum_tiles(
    x, marks, sums, counts, units, n, inner, outer_stride, inner_stride, mark_outer, mark_inner,
    UNIT: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, ABSOLUTE: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, SIZE)
    unit = tl.program_id(0) * TILES + tl.arange(0, TILES)
    row, within = unit // tiles, unit < units
    sum_tiles(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT)[:, None],
        row_start(marks, row, inner, mark_outer, mark_inner, 1)[:, None], sums + unit, counts + row,
        n, unit % tiles, within, SIZE, TILES, ABSOLUTE, MASKED,
    )  # fmt: skip


@triton.jit
def sum_tiles(
    x, marks, sums, counts, n, tile, within,
    SIZE: tl.constexpr, TILES: tl.constexpr, ABSOLUTE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The sums of tiles (TILES,), each of the row at x (TILES, 1) of n items, a number or (TILES, 1), to `sums`.

    Eight parts of each tile are loaded apart, so that the first three folds are of one thread's own numbers.
    """
    first, padded = tile * SIZE, n * 0 + 1
    for level in tl.static_range(10):
        padded = tl.where(n > (1 << level), 2 << level, padded)
    parts = ()
    kept = tl.zeros((TILES, SIZE // 8), tl.int32)
    for k in tl.static_range(8):
        lane = k * (SIZE // 8) + tl.arange(0, SIZE // 8)[None, :]
        j = first[:, None] + lane
        here = within[:, None] & (j < n)
        values = tl.load(x + j, mask=here, other=0)
        if values.dtype.primitive_bitwidth < 32:
            values = values.to(tl.float32)
        if ABSOLUTE:
            values = tl.abs(values)
        if MASKED:
            word = tl.load(marks + j // 64, mask=here, other=0)
            marked = here & (((word >> (j % 64).to(tl.int64)) & 1) != 0)
            values = tl.where(marked, values, 0.0)
            kept += marked.to(tl.int32)
        parts = appended(parts, tl.where(here | (lane < padded), values, _minus_zero(values)))
    total = fold(near(parts), TILES, SIZE // 8, 7, ABSOLUTE)
    tl.store(sums, total, mask=within)
    if MASKED:
        tl.atomic_add(counts, tl.sum(kept, axis=1), mask=within)


@triton.jit
def near(x):
    """Eight parts of a row, folded to one."""
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))


@triton.jit(do_not_specialize=("tiles", "width", "size"))
def _fold_far(sums, less, tiles, width, size, TILE: tl.constexpr):
    """Row (tiles,) padded to (8·size,), folded to (size,)."""
    programs = tl.cdiv(size, TILE)
    row, j = tl.program_id(0) // programs, (tl.program_id(0) % programs) * TILE + tl.arange(0, TILE)
    start = sums + row.to(tl.int64) * width
    parts = ()
    for k in tl.static_range(8):
        i = j + k * size
        parts = appended(parts, tl.load(start + i, mask=(j < size) & (i < tiles), other=0))
    tl.store(less + row.to(tl.int64) * size + j, near(parts), mask=j < size)


@triton.jit(do_not_specialize=("tiles", "width", "size", "n"))
def _fold_near(sums, out, counts, tiles, width, size, n, SIZE: tl.constexpr, MEAN: tl.constexpr):
    """Row (tiles,) padded to (size,), folded to one number; for a mean that over n, or the row's count."""
    row, i = tl.program_id(0), tl.arange(0, SIZE)
    values = tl.load(sums + row.to(tl.int64) * width + i, mask=i < tiles, other=0)
    values = tl.where((i < tiles) | (i < size), values, _minus_zero(values))
    total = fold(tl.reshape(values, (1, SIZE)), 1, SIZE, 10, MEAN)
    if MEAN:
        count = tl.maximum(n + tl.load(counts + row), 1) + tl.zeros((1,), tl.int32)
        total = divided(total, count.to(out.dtype.element_ty))
    tl.store(out + row + tl.arange(0, 1), total)
