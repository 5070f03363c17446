"""Random words, fair bits and masks: `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import lead_of, values_of
from gradvote.kernels.cuda.tiles import before, drawn, packed
from gradvote.rng import Draw

TILES = 32
"""Tiles of 64 random words that one program draws."""
TILE = 1024
"""Coordinates of a mask in coarse units that one program takes."""
UNITS = 1 << 16
"""One, as a threshold."""
_SCALARS = ("n", "width", "inner", *philox.NAMES)
_MASKS = (*_SCALARS, "limit_outer", "limit_inner", "plain", "granularity")


def random_words(draw: Draw, count: int) -> Tensor:
    """`reference.random_words`."""
    lead = lead_of(draw.block.shape, draw)
    out = torch.empty((*lead, count), dtype=torch.int64, device=draw.block.device)
    _draw(draw, lead, out, count, count, bits=False)
    return out


def random_bits(draw: Draw, n: int) -> Tensor:
    """`reference.random_bits`."""
    lead, width = lead_of(draw.block.shape, draw), reference.num_words(n)
    out = torch.empty((*lead, width), dtype=torch.int64, device=draw.block.device)
    _draw(draw, lead, out.view(torch.int32), n, 2 * width, bits=True)
    return out


def keep_bits(draw: Draw, n: int, threshold: int | Tensor, granularity: int = 1) -> Tensor:
    """`reference.keep_bits`."""
    lead, device = lead_of(draw.block.shape, draw, threshold), draw.block.device
    out = torch.empty((*lead, reference.num_words(n)), dtype=torch.int64, device=device)
    limit = (out, 0, 0, 0)
    if not isinstance(threshold, Tensor):
        limit = (out, 0, 0, min(max(int(threshold), 0), UNITS))
    elif threshold.is_floating_point():
        return reference.keep_bits(draw, n, threshold, granularity)
    else:
        limit = (*values_of(threshold.to(device, non_blocking=True), lead), 0)
    rows, inner = lead.numel(), lead[-1] if lead else 1
    place = (out.view(torch.int32), n, 2 * out.shape[-1], inner, *philox.place_of(draw, lead), *limit)
    given = isinstance(threshold, Tensor)
    if granularity == 1:
        programs = rows * portions(out.shape[-1], 2 * TILES)
        launch(_fine_mask, programs, out, *place, GIVEN=given, TILES=TILES)
    else:
        programs = rows * portions(n, TILE)
        launch(_coarse_mask, programs, out, *place, granularity, GIVEN=given, EVEN=granularity % 32 == 0, TILE=TILE)
    return out


def _draw(draw: Draw, lead: torch.Size, out: Tensor, n: int, width: int, bits: bool) -> None:
    """Write `width` words of each row's stream; as bits, those of coordinates below n."""
    programs = lead.numel() * portions(width, 64 * TILES)
    place = (out, n, width, lead[-1] if lead else 1, *philox.place_of(draw, lead))
    launch(_words, programs, out, *place, BITS=bits, TILES=TILES)


@triton.jit(do_not_specialize=_SCALARS)
def _words(
    out, n, width, inner, low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    BITS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    groups = tl.cdiv(width, 64 * TILES)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    words_tile(out + row.to(tl.int64) * width, n, width, group, own_block, own_sender, low, high, BITS, TILES)


@triton.jit
def words_tile(out, n, width, tile, block, sender, low, high, BITS: tl.constexpr, TILES: tl.constexpr):
    """A tile of 64·TILES words of a stream to `out` (width,); as bits, those of coordinates below n."""
    first = tile * TILES
    lower, upper = philox.pairs(first, block, sender, low, high, TILES)
    i = philox.places(first, TILES)
    if BITS:
        lower &= before(n, 32 * i)
        upper &= before(n, 32 * i + 1024)
    tl.store(out + i, _unsigned(lower, out), mask=i < width)
    tl.store(out + i + 32, _unsigned(upper, out), mask=i + 32 < width)


@triton.jit(do_not_specialize=_MASKS)
def _fine_mask(
    out, n, halves, inner, low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    limit, limit_outer, limit_inner, plain, GIVEN: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    groups = tl.cdiv(halves, 4 * TILES)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    least = _limit(limit, row, inner, limit_outer, limit_inner, plain, GIVEN)
    fine_mask_tile(out + row.to(tl.int64) * halves, n, halves, group, own_block, own_sender, low, high, least, TILES)


@triton.jit
def fine_mask_tile(out, n, halves, tile, block, sender, low, high, least, TILES: tl.constexpr):
    """A tile of 4·TILES words of a mask of n coordinates, to `out` (halves,)."""
    first = tile * TILES
    w0, w1, w2, w3 = philox.four(first * 16 + tl.arange(0, 16 * TILES), block, sender, low, high)
    i = tl.arange(0, 2 * TILES)
    place = first * 4 + 4 * (i // 2) + i % 2
    lower = _eights(_kept(w0, least) | _kept(w1, least) << 2, TILES) & before(n, 32 * place)
    upper = _eights(_kept(w2, least) | _kept(w3, least) << 2, TILES) & before(n, 32 * place + 64)
    tl.store(out + place, lower, mask=place < halves)
    tl.store(out + place + 2, upper, mask=place + 2 < halves)


@triton.jit(do_not_specialize=_MASKS)
def _coarse_mask(
    out, n, halves, inner, low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    limit, limit_outer, limit_inner, plain, granularity,
    GIVEN: tl.constexpr, EVEN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    least = _limit(limit, row, inner, limit_outer, limit_inner, plain, GIVEN)
    coarse_mask_tile(
        out + row.to(tl.int64) * halves, n, halves, tile, own_block, own_sender, low, high, least, granularity,
        EVEN, TILE,
    )  # fmt: skip


@triton.jit
def coarse_mask_tile(
    out, n, halves, tile, block, sender, low, high, least, granularity, EVEN: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """A tile of a mask of n coordinates in units of `granularity`, to `out` (halves,)."""
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    if EVEN:
        unit = 32 * place // granularity
        kept = -_is_kept(unit, block, sender, low, high, least)
    else:
        unit = (tile * TILE + tl.arange(0, TILE)) // granularity
        kept = packed(_is_kept(unit, block, sender, low, high, least) == 1, TILE)
    tl.store(out + place, kept & before(n, 32 * place), mask=place < halves)


@triton.jit
def _is_kept(unit, block, sender, low, high, least):
    """1 where the 16-bit number of a unit is below the limit, 0 elsewhere."""
    words = philox.word(unit // 2, block, sender, low, high)
    return (((words >> (unit % 2 * 16)) & 0xFFFF) < least).to(tl.int32)


@triton.jit
def _kept(words, least):
    """Two bits, for the lower and the upper half of random words: whether it is below the limit."""
    words = words.to(tl.int32, bitcast=True)
    return ((words & 0xFFFF) < least).to(tl.int32) | (((words >> 16) & 0xFFFF) < least).to(tl.int32) << 1


@triton.jit
def _eights(fours, TILES: tl.constexpr):
    """Groups of four bits (16·TILES,) as int32 words (2·TILES,)."""
    return tl.sum(tl.reshape(fours, (2 * TILES, 8)) << (4 * tl.arange(0, 8))[None, :], axis=1)


@triton.jit
def _limit(limit, row, inner, outer_stride, inner_stride, plain, GIVEN: tl.constexpr):
    """The threshold of a row, in [0, 2^16]."""
    if GIVEN:
        own = drawn(limit, row, inner, outer_stride, inner_stride).to(tl.int64)
        plain = tl.minimum(tl.maximum(own, 0), 65536).to(tl.int32)
    return plain


@triton.jit
def _unsigned(words, out):
    """Words as items of `out`: int64 without a sign, or int32 as they are."""
    return words.to(tl.uint32, bitcast=True).to(out.dtype.element_ty)
