"""Packed bits of rows of unequal length: `ragged_reference` on a CUDA device, for one sender."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import ragged_reference
from gradvote.kernels.cuda import bits, compaction, draws, tables, units
from gradvote.kernels.cuda.bits import count_tile, unpack_tile
from gradvote.kernels.cuda.compaction import compact_part, count_part, expand_part
from gradvote.kernels.cuda.draws import coarse_mask_tile, fine_mask_tile
from gradvote.kernels.cuda.launch import launch
from gradvote.kernels.cuda.ragged_signs import whole_units
from gradvote.kernels.cuda.tiles import before
from gradvote.kernels.cuda.units import outside_tile
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector

WORDS = 1024
"""Words of 32 bits of a row that one program takes, where it is not told by the kernel for equal rows."""


def ragged_unpack(words: Tensor, keep: Tensor | None, scales: Tensor, out: Vector, rows: Ragged) -> None:
    """`ragged_reference.ragged_unpack`."""
    table, (scale, step) = tables.coordinates(rows, bits.TILE, out.device), tables.each_of(scales)
    kept = words if keep is None else keep
    target, form = tables.source_of(out, table)
    launch(
        _unpack, table.programs, words, table.x, _halves(words), _halves(kept), *target, scale, step,
        KEPT=keep is not None, TILE=bits.TILE, VECTOR=4, **form,
    )  # fmt: skip


def ragged_keep_bits(draw: Draw, threshold: int | Tensor, granularity: int, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_keep_bits`."""
    position = tables.position_of(draw, rows)
    if position is None or (isinstance(threshold, Tensor) and (threshold.numel() > 1 or threshold.is_floating_point())):
        return ragged_reference.ragged_keep_bits(draw, threshold, granularity, rows)
    out = _words(rows, position.block)
    given = isinstance(threshold, Tensor)
    limit, plain = (threshold, 0) if isinstance(threshold, Tensor) else (out, min(max(threshold, 0), draws.UNITS))
    if granularity == 1:
        table = tables.words(rows, 4 * draws.TILES, out.device)
        launch(
            _fine_mask, table.programs, out, table.x, _halves(out), *position, limit, plain,
            GIVEN=given, TILES=draws.TILES,
        )  # fmt: skip
    else:
        table = tables.coordinates(rows, draws.TILE, out.device)
        launch(
            _coarse_mask, table.programs, out, table.x, _halves(out), *position, limit, plain, granularity,
            GIVEN=given, EVEN=granularity % 32 == 0, TILE=draws.TILE,
        )  # fmt: skip
    return out


def ragged_counts(words: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_counts`."""
    if words.dim() > 1:
        return ragged_reference.ragged_counts(words, rows)
    counts = torch.zeros(rows.num_rows, dtype=torch.int64, device=words.device)
    table = tables.words(rows, bits.COUNTED, words.device)
    launch(_count, table.programs, counts, table.x, _halves(words), counts, TILE=bits.COUNTED)
    return counts


def ragged_compact(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_compact`."""
    if words.dim() > 1 or keep.dim() > 1:
        return ragged_reference.ragged_compact(words, keep, rows)
    out = torch.zeros(int(rows.words[-1]), dtype=torch.int64, device=words.device)
    _move(_compact, words, keep, out, rows)
    return out


def ragged_expand(words: Tensor, keep: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_expand`."""
    if words.dim() > 1 or keep.dim() > 1:
        return ragged_reference.ragged_expand(words, keep, rows)
    out = _words(rows, words)
    _move(_expand, words, keep, out, rows)
    return out


def ragged_whole_units(words: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_whole_units`."""
    if words.dim() > 1:
        return ragged_reference.ragged_whole_units(words, rows)
    out = torch.empty(int(rows.unit_words[-1]), dtype=torch.int64, device=words.device)
    whole_units(words, out, tables.units(rows, units.TILE, words.device))
    return out


def ragged_outside_units(flags: Tensor, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_outside_units`."""
    if flags.dim() > 1:
        return ragged_reference.ragged_outside_units(flags, rows)
    out = _words(rows, flags)
    table = tables.words(rows, WORDS, flags.device)
    launch(_outside_words, table.programs, out, table.x, _halves(flags), _halves(out), TILE=WORDS)
    if not rows.are_words.all():
        table = tables.coordinates(rows, units.TILE, flags.device, others=True)
        launch(_outside, table.programs, out, table.x, _halves(flags), _halves(out), TILE=units.TILE)
    return out


def _move(kernel: object, words: Tensor, keep: Tensor, out: Tensor, rows: Ragged) -> None:
    """Move bits together or apart, part by part: where the bits of a part begin follows from the parts before it."""
    table, part = tables.words(rows, compaction.PART, out.device), compaction.PART
    starts = torch.empty(table.programs, dtype=torch.int32, device=out.device)
    several = bool((2 * rows.widths > part).any())
    if several:
        launch(_count_parts, table.programs, out, table.x, _halves(keep), starts, PART=part)
        starts = _within_rows(starts, table)
    launch(
        kernel, table.programs, out, table.x, _halves(words), _halves(keep), starts, _halves(out),
        SEVERAL=several, PART=part,
    )  # fmt: skip


def _within_rows(counts: Tensor, table: tables.Table) -> Tensor:
    """How much there is before each part in its row."""
    before_ = counts.cumsum(0) - counts
    own = torch.arange(len(counts), device=counts.device) - table.x[:, tables.TILE.value]
    return before_ - before_[own]


def _words(rows: Ragged, like: Tensor) -> Tensor:
    return torch.empty(int(rows.words[-1]), dtype=torch.int64, device=like.device)


def _halves(words: Tensor) -> Tensor:
    return words.contiguous().view(torch.int32)


@triton.jit(do_not_specialize=("step",))
def _unpack(
    table, words, keep, out, where, scales, step,
    KEPT: tl.constexpr, UNIT: tl.constexpr, SCATTERED: tl.constexpr, TILE: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    unpack_tile(
        words + 2 * tables.word(table), keep + 2 * tables.word(table),
        tables.start(out, where, table, UNIT, SCATTERED),
        tables.length(table, UNIT), tables.tile(table), tl.load(scales + tables.row(table) * step),
        KEPT, False, 0, TILE, VECTOR,
    )  # fmt: skip


@triton.jit
def _least(limit, plain, GIVEN: tl.constexpr):
    """The threshold, in [0, 2^16]."""
    if GIVEN:
        plain = tl.minimum(tl.maximum(tl.load(limit).to(tl.int64), 0), 65536).to(tl.int32)
    return plain


@triton.jit(do_not_specialize=("low", "high", "plain"))
def _fine_mask(
    table, out, low, high, block, sender, limit, plain, GIVEN: tl.constexpr, TILES: tl.constexpr
):  # fmt: skip
    n, least = tables.length(table, 1), _least(limit, plain, GIVEN)
    own_block, own_sender = tl.load(block + tables.row(table)), tl.load(sender)
    tile = tables.tile(table)
    fine_mask_tile(
        out + 2 * tables.word(table), n, tables.halves_of(n), tile, own_block, own_sender, low, high, least, TILES
    )


@triton.jit(do_not_specialize=("low", "high", "plain", "granularity"))
def _coarse_mask(
    table, out, low, high, block, sender, limit, plain, granularity,
    GIVEN: tl.constexpr, EVEN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    n, least = tables.length(table, 1), _least(limit, plain, GIVEN)
    coarse_mask_tile(
        out + 2 * tables.word(table), n, tables.halves_of(n), tables.tile(table), tl.load(block + tables.row(table)),
        tl.load(sender), low, high, least, granularity, EVEN, TILE,
    )  # fmt: skip


@triton.jit
def _count(table, words, counts, TILE: tl.constexpr):
    n, tile = tables.halves_of(tables.length(table, 1)), tables.tile(table)
    count_tile(words + 2 * tables.word(table), counts + tables.row(table), n, tile, TILE)


@triton.jit
def _count_parts(table, keep, counts, PART: tl.constexpr):
    n, part = tables.halves_of(tables.length(table, 1)), tables.tile(table)
    count_part(keep + 2 * tables.word(table), counts + tl.program_id(0), n, part, PART)


@triton.jit
def _compact(table, words, keep, starts, out, SEVERAL: tl.constexpr, PART: tl.constexpr):
    n, part, start = tables.halves_of(tables.length(table, 1)), tables.tile(table), starts + tl.program_id(0)
    own = words + 2 * tables.word(table)
    compact_part(own, keep + 2 * tables.word(table), start, out + 2 * tables.word(table), n, n, part, SEVERAL, PART)


@triton.jit
def _expand(table, words, keep, starts, out, SEVERAL: tl.constexpr, PART: tl.constexpr):
    n, part, start = tables.halves_of(tables.length(table, 1)), tables.tile(table), starts + tl.program_id(0)
    own = words + 2 * tables.word(table)
    expand_part(own, keep + 2 * tables.word(table), start, out + 2 * tables.word(table), n, n, part, SEVERAL, PART)


@triton.jit
def _outside_words(table, flags, out, TILE: tl.constexpr):
    """Where units are words, a word is all or nothing: one lane for each half of it."""
    n, i = tables.length(table, 1), tables.tile(table) * TILE + tl.arange(0, TILE)
    if tables.units_are_words(table):
        marked = tl.load(flags + 2 * tables.third(table) + i // 64, mask=i < tables.halves_of(n), other=0)
        outside = tl.where(((marked >> (i // 2 % 32)) & 1) == 0, before(n, 32 * i), 0)
        tl.store(out + 2 * tables.word(table) + i, outside, mask=i < tables.halves_of(n))


@triton.jit
def _outside(table, flags, out, TILE: tl.constexpr):
    n, size, phase = tables.length(table, 1), tables.unit(table), tl.maximum(tables.phase(table), 0)
    tile = tables.tile(table)
    outside_tile(
        flags + 2 * tables.third(table), out + 2 * tables.word(table), n, tables.halves_of(n), tile, size, phase, TILE
    )
