"""Units of zeros: `units_reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels import reference, units_reference
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, lead_of, rows_of, values_of, words_of
from gradvote.kernels.cuda.signs import FLOATS, checked_pack_signs
from gradvote.kernels.cuda.tiles import before, drawn, load, packed, row_start, whole
from gradvote.rng import Draw

TILE = 2048
"""Coordinates, or units, of a row that one program takes."""
_SCALARS = ("n", "halves", "inner", "outer_stride", "inner_stride", "length", "phase_outer", "phase_inner")


def still_pack_signs(x: Tensor, zeros: Draw | bool, units: Units) -> tuple[Tensor, Tensor, Tensor]:
    """`units_reference.still_pack_signs`."""
    if x.dtype not in FLOATS:
        return units_reference.still_pack_signs(x, zeros, units)
    words, valid = checked_pack_signs(x, zeros)
    return words, valid, whole_units(_zeros(x), x.shape[-1], units)


def whole_units(words: Tensor, n: int, units: Units) -> Tensor:
    """`units_reference.whole_units`."""
    lead, number = _lead(words, units), units.count(n)
    out = torch.empty((*lead, reference.num_words(number)), dtype=torch.int64, device=words.device)
    _start(_whole, words_of(words, lead), out, n, number, units)
    return out


def outside_units(flags: Tensor, n: int, units: Units) -> Tensor:
    """`units_reference.outside_units`."""
    lead = _lead(flags, units)
    out = torch.empty((*lead, reference.num_words(n)), dtype=torch.int64, device=flags.device)
    _start(_outside, words_of(flags, lead), out, n, n, units)
    return out


def _zeros(x: Tensor) -> Tensor:
    """Words (..., W) that mark the exact zeros."""
    rows, width = rows_of(x), reference.num_words(x.shape[-1])
    out = torch.empty((*rows.lead, width), dtype=torch.int64, device=x.device)
    programs = rows.number * portions(rows.n, TILE)
    place = (rows.x, out.view(torch.int32), rows.n, 2 * width, *rows.place)
    launch(_mark_zeros, programs, out, *place, UNIT=rows.unit, TILE=TILE)
    return out


def _lead(words: Tensor, units: Units) -> torch.Size:
    return lead_of(words.shape[:-1], units.phase)


def _start(kernel: object, source: Rows, out: Tensor, n: int, number: int, units: Units) -> None:
    """Start a kernel of this file, for `number` coordinates or units of each row."""
    phase = (out, 0, 0)
    if units.phase is not None:
        phase = values_of(units.phase.to(out.device, non_blocking=True), source.lead)
    launch(
        kernel, source.number * portions(number, TILE), out,
        source.x, out.view(torch.int32), n, number, 2 * out.shape[-1], *source.place, units.length, *phase,
        CUT=units.phase is not None, UNIT=source.unit, TILE=TILE,
    )  # fmt: skip


@triton.jit(do_not_specialize=("n", "halves", "inner", "outer_stride", "inner_stride"))
def _mark_zeros(x, out, n, halves, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    x = row_start(x, row, inner, outer_stride, inner_stride, UNIT)
    mark_zeros_tile(x, out + row.to(tl.int64) * halves, n, halves, tile, TILE)


@triton.jit
def mark_zeros_tile(x, out, n, halves, tile, TILE: tl.constexpr):
    """Marks the zeros of a tile of the row at x (n,) in its words at `out` (halves,)."""
    j = tile * TILE + tl.arange(0, TILE)
    zero = (load(x, j, n) == 0) & (j < n)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + place, packed(zero, TILE), mask=place < halves)


@triton.jit(do_not_specialize=(*_SCALARS, "number"))
def _whole(
    words, out, n, number, halves, inner, outer_stride, inner_stride, length, phase, phase_outer, phase_inner,
    CUT: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(number, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    own = 0
    if CUT:
        own = drawn(phase, row, inner, phase_outer, phase_inner).to(tl.int32)
    words = row_start(words, row, inner, outer_stride, inner_stride, UNIT)
    whole_tile(words, out + row.to(tl.int64) * halves, n, number, halves, tile, length, own, TILE)


@triton.jit
def whole_tile(words, out, n, number, halves, tile, length, phase, TILE: tl.constexpr):
    """Marks which of a tile of the `number` units of n coordinates have all their bits in the row at `words`."""
    unit = tile * TILE + tl.arange(0, TILE)
    begin = tl.where(unit < number, unit, 0) * length - phase
    end = tl.minimum(begin + length, n)
    begin = tl.maximum(begin, 0)
    whole, index = (begin < end) & (unit < number), begin // 32
    left = whole
    while tl.max(left.to(tl.int32)) == 1:
        own = tl.load(words + index, mask=left, other=0)
        asked = before(end, 32 * index) & ~before(begin, 32 * index)
        whole &= ~left | ((own & asked) == asked)
        index += 1
        left = whole & (32 * index < end)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + place, packed(whole, TILE), mask=place < halves)


@triton.jit(do_not_specialize=(*_SCALARS, "number"))
def _outside(
    flags, out, n, number, halves, inner, outer_stride, inner_stride, length, phase, phase_outer, phase_inner,
    CUT: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    own = 0
    if CUT:
        own = drawn(phase, row, inner, phase_outer, phase_inner).to(tl.int32)
    flags = row_start(flags, row, inner, outer_stride, inner_stride, UNIT)
    outside_tile(flags, out + row.to(tl.int64) * halves, n, halves, tile, length, own, TILE)


@triton.jit
def outside_tile(flags, out, n, halves, tile, length, phase, TILE: tl.constexpr):
    """Marks which of a tile of n coordinates are in no unit that the row at `flags` marks, in the words at `out`."""
    j = tile * TILE + tl.arange(0, TILE)
    unit = (j + phase) // length
    marked = tl.load(flags + unit // 32, mask=j < n, other=0)
    outside = ((marked >> (unit % 32)) & 1 == 0) & (j < n)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + place, packed(outside, TILE), mask=place < halves)
