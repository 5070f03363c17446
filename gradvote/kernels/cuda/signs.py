"""Signs to packed bits, and finite checks, in one pass: `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import rows_of
from gradvote.kernels.cuda.tiles import is_finite, load, negative, packed, row_start, special, value_start, whole
from gradvote.rng import Draw

TILE = 2048
"""Coordinates of a row that one program takes."""
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_NO, _YES, _DRAWN = 0, 1, 2
_SCALARS = ("n", "words", "inner", "outer_stride", "inner_stride", *philox.NAMES)


def pack_signs(x: Tensor, zeros: Draw | bool) -> Tensor:
    """`reference.pack_signs`."""
    if x.dtype not in FLOATS:
        return reference.pack_signs(x, zeros)
    return _pack(x, zeros, None)


def checked_pack_signs(x: Tensor, zeros: Draw | bool) -> tuple[Tensor, Tensor]:
    """`reference.checked_pack_signs`."""
    if x.dtype not in FLOATS:
        return reference.checked_pack_signs(x, zeros)
    valid = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    return _pack(x, zeros, valid), valid


def finite(x: Tensor) -> Tensor:
    """`reference.finite`."""
    if x.dtype not in FLOATS:
        return reference.finite(x)
    valid, rows = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device), rows_of(x)
    programs = rows.number * portions(rows.n, TILE)
    launch(_check_rows, programs, x, rows.x, valid, rows.n, *rows.place, UNIT=rows.unit, TILE=TILE)
    return valid


def _pack(x: Tensor, zeros: Draw | bool, valid: Tensor | None) -> Tensor:
    rows = rows_of(x)
    words = reference.num_words(rows.n)
    out = torch.empty((*rows.lead, words), dtype=torch.int64, device=x.device)
    draw = philox.place_of(zeros, rows.lead) if isinstance(zeros, Draw) else (0, 0, out, 0, 0, out, 0, 0)
    launch(
        _pack_rows, rows.number * portions(rows.n, TILE), x,
        rows.x, out.view(torch.int32), out if valid is None else valid, rows.n, words, *rows.place, *draw,
        UNIT=rows.unit, TILE=TILE, ZEROS=_DRAWN if isinstance(zeros, Draw) else int(zeros), CHECK=valid is not None,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=_SCALARS)
def _pack_rows(
    x, out, valid, n, words, inner, outer_stride, inner_stride,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    UNIT: tl.constexpr, TILE: tl.constexpr, ZEROS: tl.constexpr, CHECK: tl.constexpr,
):  # fmt: skip
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    pack_tile(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT), out + row.to(tl.int64) * 2 * words, valid + row,
        n, 2 * words, tile, low, high, value_start(block, row, inner, block_outer, block_inner),
        value_start(sender, row, inner, sender_outer, sender_inner), TILE, ZEROS, CHECK,
    )  # fmt: skip


@triton.jit
def pack_tile(
    x, out, valid, n, halves, tile, low, high, block, sender,
    TILE: tl.constexpr, ZEROS: tl.constexpr, CHECK: tl.constexpr,
):  # fmt: skip
    """A tile of the row at x (n,) to its words at `out` (halves,); `valid`, block and sender are at addresses."""
    j = tile * TILE + tl.arange(0, TILE)
    values = load(x, j, n)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    result = ~negative(values, TILE)
    if special(values):  # beyond n are zeros
        result = packed(values > 0, TILE)
        if CHECK and tl.min(is_finite(values).to(tl.int32)) == 0:
            tl.store(valid, False)
        if ZEROS:
            zero = packed((values == 0) & (j < n), TILE)
            if ZEROS == 2:
                zero &= philox.word(place, tl.load(block), tl.load(sender), low, high)
            result |= zero
    tl.store(out + place, result, mask=place < halves)


@triton.jit(do_not_specialize=("n", "inner", "outer_stride", "inner_stride"))
def _check_rows(x, valid, n, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    check_tile(row_start(x, row, inner, outer_stride, inner_stride, UNIT), valid + row, n, tile, TILE)


@triton.jit
def check_tile(x, valid, n, tile, TILE: tl.constexpr):
    """Takes `valid` from the row at x (n,) if a number of this tile is not finite."""
    values = load(x, tile * TILE + tl.arange(0, TILE), n)
    if tl.min(is_finite(values).to(tl.int32)) == 0:
        tl.store(valid, False)
