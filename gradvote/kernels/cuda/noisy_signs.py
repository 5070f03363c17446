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
from gradvote.kernels.cuda.settled import lesser, settled, terms
from gradvote.kernels.cuda.signs import FLOATS
from gradvote.kernels.cuda.tiles import before, drawn, is_finite, load, number, row_start, value_start, whole
from gradvote.rng import Draw

TILES, PARTS = 4, 8
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
    out = out.to(tl.pointer_type(tl.int16), bitcast=True)
    share, slack = scale, scale
    if KIND < 3:
        share, slack = terms(scale)
    while at < end:
        j = philox.places(at, TILES)
        lower_x, upper_x = load(x, j, n), load(x, j + 32, n)
        lower, upper = philox.pairs(at, block, sender, low, high, TILES)
        eighth = tl.arange(0, 2 * TILES)
        place, shift = 4 * (at + eighth // 2) + eighth % 2, 16 * (eighth % 2)
        positive, unsure = place * 0, True
        if KIND < 3:
            lower_sign, lower_margin = settled(lower_x, lower, share, slack, KIND)
            upper_sign, upper_margin = settled(upper_x, upper, share, slack, KIND)
            positive = ~_joined(lower_sign, upper_sign, TILES)
            margin = tl.reduce(lesser(lower_margin, upper_margin), 1, lesser)
            unsure = tl.min((margin > 0).to(tl.int32)) == 0
        if unsure:
            lower_noisy, upper_noisy = _sum(lower_x, lower, scale, KIND), _sum(upper_x, upper, scale, KIND)
            positive = _joined(_marked(lower_noisy > 0), _marked(upper_noisy > 0), TILES)
            if _special(lower_noisy, upper_noisy):
                if ZEROS > 0:
                    zero = _joined(_marked(lower_noisy == 0), _marked(upper_noisy == 0), TILES)
                    if ZEROS == 2:
                        fair_block, fair_sender, word = tl.load(zero_block), tl.load(zero_sender), place // 4 * 2
                        fair = philox.word(word, fair_block, fair_sender, zero_low, zero_high) >> shift
                        more = philox.word(word + 1, fair_block, fair_sender, zero_low, zero_high) >> shift
                        zero &= (fair & 0xFFFF) | (more << 16)
                    positive |= zero
                finite = (is_finite(lower_noisy) | (j >= n)) & (is_finite(upper_noisy) | (j + 32 >= n))
                if tl.min(finite.to(tl.int32)) == 0:
                    tl.store(valid, False)
        if (at + TILES) * 64 > n:
            first = 16 * place
            positive &= (before(n, first) & 0xFFFF) | (before(n, first + 32) << 16)
        tl.store(out + place, positive.to(tl.int16), mask=place < 2 * halves)
        tl.store(out + place + 2, (positive >> 16).to(tl.int16), mask=place < 2 * halves)
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
def _marked(flags):
    """Words whose topmost bit is set where a flag is."""
    return -flags.to(tl.int32)


@triton.jit
def _joined(lower, upper, TILES: tl.constexpr):
    """Topmost bits of both halves of tiles, (16·TILES, 2) each, as (2·TILES,): 16 of either half, the lower's first.

    So eight lanes join their bits in one word, where a word of 32 coordinates would take sixteen, and a step more.
    """
    lower, more_lower = tl.split(lower.to(tl.uint32, bitcast=True))
    upper, more_upper = tl.split(upper.to(tl.uint32, bitcast=True))
    low, high = ((more_lower >> 31) << 1) | (lower >> 31), ((more_upper >> 31) << 1) | (upper >> 31)
    bits = tl.reshape((low | (high << 16)).to(tl.int32, bitcast=True), (2 * TILES, 8))
    return tl.sum(bits << (2 * tl.arange(0, 8))[None, :], axis=1)
