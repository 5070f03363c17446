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
    j = tile * TILE + tl.arange(0, TILE)
    zero = (load(row_start(x, row, inner, outer_stride, inner_stride, UNIT), j, n) == 0) & (j < n)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + row.to(tl.int64) * halves + place, packed(zero, TILE), mask=place < halves)


@triton.jit(do_not_specialize=(*_SCALARS, "number"))
def _whole(
    words, out, n, number, halves, inner, outer_stride, inner_stride, length, phase, phase_outer, phase_inner,
    CUT: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(number, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    unit = tile * TILE + tl.arange(0, TILE)
    begin = tl.where(unit < number, unit, 0) * length
    if CUT:
        begin -= drawn(phase, row, inner, phase_outer, phase_inner).to(tl.int32)
    end = tl.minimum(begin + length, n)
    begin = tl.maximum(begin, 0)
    start = row_start(words, row, inner, outer_stride, inner_stride, UNIT)
    whole, index = (begin < end) & (unit < number), begin // 32
    left = whole
    while tl.max(left.to(tl.int32)) == 1:
        own = tl.load(start + index, mask=left, other=0)
        asked = before(end, 32 * index) & ~before(begin, 32 * index)
        whole &= ~left | ((own & asked) == asked)
        index += 1
        left = whole & (32 * index < end)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + row.to(tl.int64) * halves + place, packed(whole, TILE), mask=place < halves)


@triton.jit(do_not_specialize=(*_SCALARS, "number"))
def _outside(
    flags, out, n, number, halves, inner, outer_stride, inner_stride, length, phase, phase_outer, phase_inner,
    CUT: tl.constexpr, UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    j = tile * TILE + tl.arange(0, TILE)
    unit = j
    if CUT:
        unit += drawn(phase, row, inner, phase_outer, phase_inner).to(tl.int32)
    unit = unit // length
    marked = tl.load(row_start(flags, row, inner, outer_stride, inner_stride, UNIT) + unit // 32, mask=j < n, other=0)
    outside = ((marked >> (unit % 32)) & 1 == 0) & (j < n)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + row.to(tl.int64) * halves + place, packed(outside, TILE), mask=place < halves)
