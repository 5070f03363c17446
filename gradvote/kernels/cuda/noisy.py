"""Noise, and noise then signs in one pass: the draws live in registers only. `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.formulas import DISTRIBUTIONS, quantile
from gradvote.kernels.cuda.launch import launch
from gradvote.kernels.cuda.rows import lead_of, number_of, rows_of
from gradvote.kernels.cuda.tiles import drawn, is_finite, load, number, packed, row_start
from gradvote.kernels.quantiles import formula_of
from gradvote.rng import Draw

TILES = 16
"""Tiles of 64 coordinates that one program takes."""
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_NO, _YES, _DRAWN = 0, 1, 2
_SCALARS = ("n", "words", "inner", "outer_stride", "inner_stride", "std_outer", "std_inner", *philox.NAMES)
_ZEROS = ("zero_low", "zero_high", "zero_block_outer", "zero_block_inner", "zero_sender_outer", "zero_sender_inner")


def noise(draw: Draw, n: int, distribution: str) -> Tensor:
    """`reference.noise`."""
    out = torch.empty((*lead_of(draw.block.shape, draw), n), device=draw.block.device)
    _add(None, out, 1.0, draw, distribution)
    return out


def add_noise(x: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> Tensor:
    """`reference.add_noise`."""
    if x.dtype not in FLOATS:
        return reference.add_noise(x, std, draw, distribution)
    lead, dtype = lead_of(x.shape[:-1], draw, std), torch.promote_types(x.dtype, torch.float32)
    out = torch.empty((*lead, x.shape[-1]), dtype=dtype, device=x.device)
    _add(x, out, std, draw, distribution)
    return out


def noisy_pack_signs(
    x: Tensor, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool
) -> tuple[Tensor, Tensor]:
    """`reference.noisy_pack_signs`."""
    kind = _kind_of(distribution)
    if x.dtype not in FLOATS:
        return reference.noisy_pack_signs(x, std, draw, distribution, zeros)
    lead = lead_of(x.shape[:-1], draw, std, zeros)
    rows, width = rows_of(x, lead), reference.num_words(x.shape[-1])
    out = torch.empty((*lead, width), dtype=torch.int64, device=x.device)
    valid = torch.ones(lead, dtype=torch.bool, device=x.device)
    fair = philox.place_of(zeros, lead) if isinstance(zeros, Draw) else (0, 0, out, 0, 0, out, 0, 0)
    launch(
        _pack_rows, rows.number * triton.cdiv(rows.n, 64 * TILES), x,
        rows.x, out.view(torch.int32), valid, rows.n, 2 * width, *rows.place,
        *number_of(std, lead, out), *philox.place_of(draw, lead), *fair,
        GIVEN=isinstance(std, Tensor), KIND=kind, ZEROS=_DRAWN if isinstance(zeros, Draw) else int(zeros),
        UNIT=rows.unit, TILES=TILES,
    )  # fmt: skip
    return out, valid


def _add(x: Tensor | None, out: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> None:
    """Write x + b·ξ, or ξ where there is nothing to add to."""
    kind, lead = _kind_of(distribution), out.shape[:-1]
    rows, result = rows_of(out if x is None else x, lead), rows_of(out)
    launch(
        _add_rows, rows.number * triton.cdiv(rows.n, 64 * TILES), out,
        rows.x, out, rows.n, *rows.place, *number_of(std, lead, out), *philox.place_of(draw, lead),
        GIVEN=isinstance(std, Tensor), KIND=kind, SUM=x is not None, UNIT=rows.unit, OUT_UNIT=result.unit, TILES=TILES,
    )  # fmt: skip


def _kind_of(distribution: str) -> int:
    formula_of(distribution)
    return DISTRIBUTIONS.index(distribution)


@triton.jit(do_not_specialize=(*_SCALARS, *_ZEROS))
def _pack_rows(
    x, out, valid, n, halves, inner, outer_stride, inner_stride, std, std_outer, std_inner, plain,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    zero_low, zero_high, zero_block, zero_block_outer, zero_block_inner,
    zero_sender, zero_sender_outer, zero_sender_inner,
    GIVEN: tl.constexpr, KIND: tl.constexpr, ZEROS: tl.constexpr, UNIT: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    groups = tl.cdiv(n, 64 * TILES)
    row, first = tl.program_id(0) // groups, tl.program_id(0) % groups * TILES
    scale = number(std, row, inner, std_outer, std_inner, plain, GIVEN)
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    lower, upper = philox.pairs(first, own_block, own_sender, low, high, TILES)
    start, j = row_start(x, row, inner, outer_stride, inner_stride, UNIT), philox.places(first, TILES)
    lower = _sum(load(start, j, n), quantile(lower, KIND) * scale)
    upper = _sum(load(start, j + 32, n), quantile(upper, KIND) * scale)
    lower_zero, upper_zero = (lower == 0) & (j < n), (upper == 0) & (j + 32 < n)
    place = 2 * (first + tl.arange(0, TILES))
    target = out + row.to(tl.int64) * halves + place
    lower_words = _halves((lower > 0) & (j < n), TILES)
    upper_words = _halves((upper > 0) & (j + 32 < n), TILES)
    if ZEROS == 1:
        lower_words |= _halves(lower_zero, TILES)
        upper_words |= _halves(upper_zero, TILES)
    if ZEROS == 2 and tl.max((lower_zero | upper_zero).to(tl.int32)) == 1:
        fair_block = drawn(zero_block, row, inner, zero_block_outer, zero_block_inner)
        fair_sender = drawn(zero_sender, row, inner, zero_sender_outer, zero_sender_inner)
        lower_words |= _halves(lower_zero, TILES) & philox.word(place, fair_block, fair_sender, zero_low, zero_high)
        upper_words |= _halves(upper_zero, TILES) & philox.word(place + 1, fair_block, fair_sender, zero_low, zero_high)
    tl.store(target, lower_words, mask=place < halves)
    tl.store(target + 1, upper_words, mask=place < halves)
    fine = (is_finite(lower) | (j >= n)) & (is_finite(upper) | (j + 32 >= n))
    if tl.min(fine.to(tl.int32)) == 0:
        tl.store(valid + row, False)


@triton.jit(do_not_specialize=_SCALARS)
def _add_rows(
    x, out, n, inner, outer_stride, inner_stride, std, std_outer, std_inner, plain,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    GIVEN: tl.constexpr, KIND: tl.constexpr, SUM: tl.constexpr, UNIT: tl.constexpr, OUT_UNIT: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    n = n // OUT_UNIT * OUT_UNIT
    groups = tl.cdiv(n, 64 * TILES)
    row, first = tl.program_id(0) // groups, tl.program_id(0) % groups * TILES
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    lower, upper = philox.pairs(first, own_block, own_sender, low, high, TILES)
    lower, upper = quantile(lower, KIND), quantile(upper, KIND)
    j = philox.places(first, TILES)
    if SUM:
        scale = number(std, row, inner, std_outer, std_inner, plain, GIVEN)
        start = row_start(x, row, inner, outer_stride, inner_stride, UNIT)
        lower, upper = _sum(load(start, j, n), lower * scale), _sum(load(start, j + 32, n), upper * scale)
    target = out + row.to(tl.int64) * (n // OUT_UNIT) * OUT_UNIT + j
    tl.store(target, lower, mask=j < n)
    tl.store(target + 32, upper, mask=j + 32 < n)


@triton.jit
def _sum(x, term):
    return x + term.to(x.dtype)


@triton.jit
def _halves(flags, TILES: tl.constexpr):
    """Flags (16·TILES, 2) of one half of each tile as int32 words (TILES,)."""
    return packed(tl.reshape(flags, (32 * TILES,)), 32 * TILES)
