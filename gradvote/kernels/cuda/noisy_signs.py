"""Noise, then signs to packed bits, in one pass: the draws live in registers only. `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.formulas import kind_of, quantile
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import lead_of, number_of, rows_of
from gradvote.kernels.cuda.settled import lesser, settled
from gradvote.kernels.cuda.signs import FLOATS
from gradvote.kernels.cuda.tiles import before, drawn, is_finite, load, number, row_start, value_start, whole
from gradvote.rng import Draw

TILES, PARTS = 4, 16
"""Tiles of 64 coordinates that a program, one warp, takes at a time; and how many times it does."""
_NO, _YES, _DRAWN = 0, 1, 2
_SCALARS = (
    "n", "halves", "inner", "outer_stride", "inner_stride", "std_outer", "std_inner", *philox.NAMES,
    "zero_low", "zero_high", "zero_block_outer", "zero_block_inner", "zero_sender_outer", "zero_sender_inner",
)  # fmt: skip


def noisy_pack_signs(
    x: Tensor, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool
) -> tuple[Tensor, Tensor]:
    """`reference.noisy_pack_signs`."""
    kind = kind_of(distribution)
    if x.dtype not in FLOATS:
        return reference.noisy_pack_signs(x, std, draw, distribution, zeros)
    lead = lead_of(x.shape[:-1], draw, std, zeros)
    rows, width = rows_of(x, lead), reference.num_words(x.shape[-1])
    out = torch.empty((*lead, width), dtype=torch.int64, device=x.device)
    valid = torch.ones(lead, dtype=torch.bool, device=x.device)
    fair = philox.place_of(zeros, lead) if isinstance(zeros, Draw) else (0, 0, out, 0, 0, out, 0, 0)
    launch(
        _pack_rows, rows.number * portions(rows.n, 64 * TILES * PARTS), x,
        rows.x, out.view(torch.int32), valid, rows.n, 2 * width, *rows.place,
        *number_of(std, lead, out), *philox.place_of(draw, lead), *fair,
        GIVEN=isinstance(std, Tensor), KIND=kind, ZEROS=_DRAWN if isinstance(zeros, Draw) else int(zeros),
        UNIT=rows.unit, TILES=TILES, PARTS=PARTS, num_warps=1,
    )  # fmt: skip
    return out, valid


@triton.jit(do_not_specialize=_SCALARS)
def _pack_rows(
    x, out, valid, n, halves, inner, outer_stride, inner_stride, std, std_outer, std_inner, plain,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    zero_low, zero_high, zero_block, zero_block_outer, zero_block_inner,
    zero_sender, zero_sender_outer, zero_sender_inner,
    GIVEN: tl.constexpr, KIND: tl.constexpr, ZEROS: tl.constexpr,
    UNIT: tl.constexpr, TILES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    n = whole(n, UNIT)
    groups = tl.cdiv(n, 64 * TILES * PARTS)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    noisy_tile(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT), out + row.to(tl.int64) * halves, valid + row,
        n, halves, group, number(std, row, inner, std_outer, std_inner, plain, GIVEN),
        low, high, drawn(block, row, inner, block_outer, block_inner),
        drawn(sender, row, inner, sender_outer, sender_inner),
        zero_low, zero_high, value_start(zero_block, row, inner, zero_block_outer, zero_block_inner),
        value_start(zero_sender, row, inner, zero_sender_outer, zero_sender_inner), KIND, ZEROS, TILES, PARTS,
    )  # fmt: skip


@triton.jit
def noisy_tile(
    x, out, valid, n, halves, tile, scale, low, high, block, sender, zero_low, zero_high, zero_block, zero_sender,
    KIND: tl.constexpr, ZEROS: tl.constexpr, TILES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """A tile of 64·TILES·PARTS coordinates of the row at x (n,) to its words at `out` (halves,).

    What draws for zeros, zero_block and zero_sender, and `valid` are addresses of the row's numbers.
    """
    at = tile * TILES * PARTS
    end = tl.minimum(at + TILES * PARTS, tl.cdiv(n, 64))
    while at < end:
        j = philox.places(at, TILES)
        lower_x, upper_x = load(x, j, n), load(x, j + 32, n)
        lower, upper = philox.pairs(at, block, sender, low, high, TILES)
        place = 2 * (at + tl.arange(0, TILES))
        lower_words, upper_words, unsure = place * 0, place * 0, True
        if KIND == 0:
            lower_sum, lower_margin = settled(lower_x, lower, scale)
            upper_sum, upper_margin = settled(upper_x, upper, scale)
            lower_words, upper_words = _halves(lower_sum > 0, TILES), _halves(upper_sum > 0, TILES)
            margin = tl.reduce(lesser(lower_margin, upper_margin), 1, lesser)
            unsure = tl.min((margin > 0).to(tl.int32)) == 0
        if unsure:
            lower_noisy, upper_noisy = _sum(lower_x, lower, scale, KIND), _sum(upper_x, upper, scale, KIND)
            lower_words, upper_words = _halves(lower_noisy > 0, TILES), _halves(upper_noisy > 0, TILES)
            if _special(lower_noisy, upper_noisy):
                if ZEROS > 0:
                    lower_zero, upper_zero = _halves(lower_noisy == 0, TILES), _halves(upper_noisy == 0, TILES)
                    if ZEROS == 2:
                        fair_block, fair_sender = tl.load(zero_block), tl.load(zero_sender)
                        lower_zero &= philox.word(place, fair_block, fair_sender, zero_low, zero_high)
                        upper_zero &= philox.word(place + 1, fair_block, fair_sender, zero_low, zero_high)
                    lower_words, upper_words = lower_words | lower_zero, upper_words | upper_zero
                finite = (is_finite(lower_noisy) | (j >= n)) & (is_finite(upper_noisy) | (j + 32 >= n))
                if tl.min(finite.to(tl.int32)) == 0:
                    tl.store(valid, False)
        if (at + TILES) * 64 > n:
            lower_words, upper_words = lower_words & before(n, 32 * place), upper_words & before(n, 32 * place + 32)
        tl.store(out + place, lower_words, mask=place < halves)
        tl.store(out + place + 1, upper_words, mask=place < halves)
        at += TILES


@triton.jit
def _sum(x, words, scale, KIND: tl.constexpr):
    return x + (quantile(words, KIND) * scale).to(x.dtype)


@triton.jit
def _special(a, b):
    """Whether some of the numbers are zero or not finite."""
    a, b = tl.abs(a), tl.abs(b)
    fine = (tl.reduce(lesser(a, b), 1, lesser) > 0) & (tl.max(tl.maximum(a, b), axis=1) < float("inf"))
    return tl.min(fine.to(tl.int32)) == 0


@triton.jit
def _halves(flags, TILES: tl.constexpr):
    """Flags (16·TILES, 2) of one half of each tile as int32 words (TILES,)."""
    place = 2 * (tl.arange(0, 16 * TILES) % 16)
    even, odd = tl.split(tl.where(flags, (1 << place)[:, None] << tl.arange(0, 2)[None, :], 0))
    return tl.sum(tl.reshape(even | odd, (TILES, 16)), axis=1)
