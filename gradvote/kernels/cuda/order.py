"""Mean, median and trimmed mean over M rows of float32 or float64: `reference` on a CUDA device.

Up to 64 rows are sorted in registers by one network, rows that do not count and those beyond the last as +∞, and the
ranks that a block wants are added in ascending order. Medians of more rows are found bit by bit (see `cpu.ranks`).
"""

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.networks import sort
from gradvote.kernels.cuda.columns import columns_of, flags_of, strides_of, unit_of
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows
from gradvote.kernels.cuda.tiles import appended, divided, row_start
from gradvote.kernels.cuda.traced import Symbol, function

TILES = {2: 1024, 4: 1024, 8: 1024, 12: 512, 16: 512, 32: 256, 64: 128}
"""Coordinates that one program takes, by the number of rows that its network sorts."""
FOLD_TILE, CHUNK = 512, 8
"""Coordinates of a program that folds rows, and rows that are loaded before they are added."""
RANK_TILE, RANK_ROWS = 32, 128
"""Coordinates of a program that finds medians bit by bit, and rows that are compared together."""
_FLOATS = (torch.float32, torch.float64)
_NAMES = ("number", "n", "inner", "step", "outer_stride", "inner_stride", "flag_step", "flag_outer", "flag_inner")


def median(x: Tensor, valid: Tensor) -> Tensor:
    """`reference.median`."""
    return trimmed_mean(x, valid, None)


def trimmed_mean(x: Tensor, valid: Tensor, trim: int | None) -> Tensor:
    """`reference.trimmed_mean`; more than 64 rows are sorted by the definition, unless medians are wanted."""
    number = len(x)
    middle = (number - 1) // 2
    low = middle if trim is None else min(trim, middle)
    if x.dtype not in _FLOATS or (number > max(TILES) and low < middle) or low < 0:
        return reference.trimmed_mean(x, valid, trim)
    rows, unit, out, given = _prepare(x, valid)
    if number > max(TILES):
        programs = rows.number * portions(rows.n, RANK_TILE)
        constants = {"TILE": RANK_TILE, "ROWS": RANK_ROWS, "BITS": 8 * x.element_size()}
        launch(_middle, programs, x, *given, UNIT=unit, **constants)
        return out
    sorted_ = min(size for size in TILES if size >= number)
    programs = rows.number * portions(rows.n, TILES[sorted_])
    constants = {"UNIT": unit, "TILE": TILES[sorted_], "ROWS": sorted_, "SORT": _SORTS[sorted_]}
    launch(_select, programs, x, *given, low, **constants)
    return out


def mean(x: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """`reference.mean`."""
    if x.dtype not in _FLOATS:
        return reference.mean(x, valid, weights)
    rows, unit, out, given = _prepare(x, valid)
    each = x if weights is None else weights.to(x.dtype).contiguous()
    launch(
        _fold, rows.number * portions(rows.n, FOLD_TILE), x,
        *given, each, UNIT=unit, TILE=FOLD_TILE, CHUNK=CHUNK, WEIGHTED=weights is not None,
    )  # fmt: skip
    return out


def _prepare(x: Tensor, valid: Tensor) -> tuple[Rows, int, Tensor, tuple[Any, ...]]:
    """The first input's rows, the unit of all, a new tensor for the result, and the arguments all kernels here take."""
    columns, flags = columns_of(x), flags_of(valid, x.shape[:-1])
    rows, unit = columns.first, unit_of(columns)
    out = torch.empty(x.shape[1:], dtype=x.dtype, device=x.device)
    place = (rows.inner, columns.step // unit, *strides_of(rows, unit))
    return rows, unit, out, (rows.x, flags.x, out, len(x), rows.n, *place, *flags[1:])


def _exchange(a: Symbol, b: Symbol) -> tuple[Symbol, Symbol]:
    """The smaller and the larger; there is no NaN left, and the sign of a zero does not matter."""
    write = a.trace.write
    return write(f"tl.minimum({a.name}, {b.name})"), write(f"tl.maximum({a.name}, {b.name})")


def _sorted(rows: int, values: Symbol) -> list[Symbol]:
    return sort([values.trace.write(f"values[{i}]") for i in range(rows)], _exchange)


_SORTS = {rows: function(f"sort_{rows}", ("values",), partial(_sorted, rows)) for rows in TILES}


@triton.jit
def _counts(flags, i, flag_step, number):
    """Whether row i counts."""
    return tl.load(flags + i.to(tl.int64) * flag_step, mask=i < number, other=0) != 0


@triton.jit(do_not_specialize=(*_NAMES, "low"))
def _select(
    x, flags, out, number, n, inner, step, outer_stride, inner_stride, flag_step, flag_outer, flag_inner, low,
    UNIT: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, SORT: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT) + j
    flags = row_start(flags, row, inner, flag_outer, flag_inner, 1)
    values, count = (), number * 0
    for k in tl.static_range(ROWS):
        i = number * 0 + k
        counts = _counts(flags, i, flag_step, number)
        count += counts.to(tl.int32)
        value = tl.load(x + i.to(tl.int64) * step * UNIT, mask=(j < n) & (i < number), other=0)
        values = appended(values, tl.where((value < float("inf")) & counts, value, float("inf")))
    values = SORT(values)
    low = tl.minimum(low, tl.maximum(count - 1, 0) // 2)
    kind: tl.constexpr = out.dtype.element_ty
    total = tl.zeros((TILE,), kind)
    for k in tl.static_range(ROWS):
        total = tl.where((k >= low) & (k < count - low), total + values[k], total)
    result = divided(total, tl.zeros((TILE,), kind) + tl.maximum(count - 2 * low, 1).to(kind))
    tl.store(out + row.to(tl.int64) * n + j, tl.where(count > 0, result, float("nan")), mask=j < n)


@triton.jit(do_not_specialize=_NAMES)
def _fold(
    x, flags, out, number, n, inner, step, outer_stride, inner_stride, flag_step, flag_outer, flag_inner, weights,
    UNIT: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr, WEIGHTED: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT) + j
    flags = row_start(flags, row, inner, flag_outer, flag_inner, 1)
    kind: tl.constexpr = out.dtype.element_ty
    total, weight, first = tl.zeros((TILE,), kind), (number * 0).to(kind), number * 0
    while first < number:
        for k in tl.static_range(CHUNK):
            i = first + k
            counts = _counts(flags, i, flag_step, number)
            term = tl.load(x + i.to(tl.int64) * step * UNIT, mask=(j < n) & (i < number), other=0)
            own = counts.to(kind)
            if WEIGHTED:
                own = own * tl.load(weights + i, mask=i < number, other=0)
                term = term * own
            total = tl.where(counts, total + term, total)
            weight += own
        first += CHUNK
    divisor = tl.where(weight > 0, weight, float("nan")) + tl.zeros((TILE,), kind)
    tl.store(out + row.to(tl.int64) * n + j, divided(total, divisor), mask=j < n)


@triton.jit
def _ordered(x, first, step, flags, flag_step, number, inside, ROWS: tl.constexpr, BITS: tl.constexpr, UNIT):
    """Rows from `first` on (ROWS, TILE) as integers of the same order; the greatest for what does not count or is NaN.

    −0 becomes 0. Rows beyond the last are above all others, which they never displace at a rank that is wanted.
    """
    kind: tl.constexpr = tl.int32 if BITS == 32 else tl.int64
    i = (first + tl.arange(0, ROWS))[:, None]
    here = inside[None, :] & (i < number)
    value = tl.load(x[None, :] + i.to(tl.int64) * step * UNIT, mask=here, other=0) + 0.0
    counts = here & _counts(flags, i, flag_step, number)
    return _flipped(tl.where((value < float("inf")) & counts, value, float("inf")).to(kind, bitcast=True), BITS)


@triton.jit
def _flipped(bits, BITS: tl.constexpr):
    """From the bits of floats to integers of the same order, and back: all but the sign of negative ones inverted."""
    return tl.where(bits < 0, bits ^ ((1 << BITS - 1) - 1), bits)


@triton.jit(do_not_specialize=_NAMES)
def _middle(
    x, flags, out, number, n, inner, step, outer_stride, inner_stride, flag_step, flag_outer, flag_inner,
    UNIT: tl.constexpr, TILE: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    inside = j < n
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT) + j
    flags = row_start(flags, row, inner, flag_outer, flag_inner, 1)
    kind: tl.constexpr = tl.int32 if BITS == 32 else tl.int64
    float_kind: tl.constexpr = out.dtype.element_ty
    count, first = number * 0, number * 0
    while first < number:
        count += tl.sum(_counts(flags, first + tl.arange(0, ROWS), flag_step, number).to(tl.int32), axis=0)
        first += ROWS
    low, high = tl.maximum(count - 1, 0) // 2, count // 2
    found, bit = tl.full((TILE,), -(1 << BITS - 1), kind), number * 0 + BITS - 1
    while bit >= 0:
        trial = found + (tl.full((TILE,), 1, kind) << bit.to(kind))
        below, first = tl.zeros((TILE,), tl.int32), number * 0
        while first < number:
            own = _ordered(x, first, step, flags, flag_step, number, inside, ROWS, BITS, UNIT)
            below += tl.sum((own < trial[None, :]).to(tl.int32), axis=0)
            first += ROWS
        found = tl.where(below <= low, trial, found)
        bit -= 1
    least, up_to, first = tl.full((TILE,), (1 << BITS - 1) - 1, kind), tl.zeros((TILE,), tl.int32), number * 0
    while first < number:
        own = _ordered(x, first, step, flags, flag_step, number, inside, ROWS, BITS, UNIT)
        up_to += tl.sum((own <= found[None, :]).to(tl.int32), axis=0)
        least = tl.minimum(least, tl.min(tl.where(own > found[None, :], own, (1 << BITS - 1) - 1), axis=0))
        first += ROWS
    least = tl.where(up_to > high, found, least)
    smaller, larger = (
        _flipped(found, BITS).to(float_kind, bitcast=True),
        _flipped(least, BITS).to(float_kind, bitcast=True),
    )
    total = tl.where(high > low, smaller + larger, smaller)
    result = divided(total, tl.zeros((TILE,), float_kind) + (high - low + 1).to(float_kind))
    tl.store(out + row.to(tl.int64) * n + j, tl.where(count > 0, result, float("nan")), mask=inside)
