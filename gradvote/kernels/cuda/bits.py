"""Bits to flags, numbers and counts, and flags to bits: `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import lead_of, number_of, rows_of, words_of
from gradvote.kernels.cuda.tiles import count, narrowed, number, packed, row_start, whole

TILE = 2048
"""Coordinates of a row that one program takes."""
COUNTED = 4096
"""Words of 32 bits that one program counts."""
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OVERWRITE, ADD = 0, 1
"""What becomes of the numbers that are there."""
_STORE = 16
"""Bytes that a thread may store at once."""
_WORDS = ("inner", "words_outer", "words_inner", "keep_outer", "keep_inner")
_SCALARS = ("n", *_WORDS, "out_outer", "out_inner", "scale_outer", "scale_inner")


def unpack_signs(
    words: Tensor, n: int, scale: float | Tensor = 1.0, out: Tensor | None = None, add: bool = False
) -> Tensor:
    """`reference.unpack_signs`."""
    lead = lead_of(words.shape[:-1], scale) if out is None else out.shape[:-1]
    if out is not None and not in_rows(out, n):
        return reference.unpack_signs(words, n, scale, out, add)
    out = torch.empty((*lead, n), device=words.device) if out is None else out
    unpack(words, None, scale, out, ADD if add else OVERWRITE)
    return out


def unpack_bits(words: Tensor, n: int) -> Tensor:
    """`reference.unpack_bits`."""
    out = torch.empty((*words.shape[:-1], n), dtype=torch.bool, device=words.device)
    unpack(words, None, 1.0, out.view(torch.uint8), OVERWRITE)
    return out


def pack_bits(flags: Tensor) -> Tensor:
    """`reference.pack_bits`."""
    if flags.dtype != torch.bool:
        return reference.pack_bits(flags)
    rows = rows_of(flags)
    width = reference.num_words(rows.n)
    out = torch.empty((*rows.lead, width), dtype=torch.int64, device=flags.device)
    programs = rows.number * portions(rows.n, TILE)
    place = (rows.n, 2 * width, *rows.place)
    launch(_pack, programs, out, rows.x, out.view(torch.int32), *place, UNIT=rows.unit, TILE=TILE)
    return out


def count_bits(words: Tensor) -> Tensor:
    """`reference.count_bits`."""
    rows = words_of(words)
    counts = torch.zeros(rows.lead, dtype=torch.int64, device=words.device)
    programs = rows.number * portions(rows.n, COUNTED)
    launch(_count, programs, counts, rows.x, counts, rows.n, *rows.place, UNIT=rows.unit, TILE=COUNTED)
    return counts


def unpack(words: Tensor, keep: Tensor | None, scale: float | Tensor, out: Tensor, adds: int) -> None:
    """Write ±scale for words (..., W) into the rows of `out` (..., n), zero outside `keep`; flags into bytes."""
    rows = rows_of(out)
    source = words_of(words, rows.lead)
    kept = source if keep is None else words_of(keep, rows.lead)
    launch(
        _unpack, rows.number * portions(rows.n, TILE), out,
        source.x, kept.x, rows.x, rows.n, rows.inner,
        *source.place[1:], *kept.place[1:], *rows.place[1:], *number_of(scale, rows.lead, out),
        GIVEN=isinstance(scale, Tensor), KEPT=keep is not None, FLAGS=out.dtype == torch.uint8, ADDS=adds,
        UNIT=rows.unit, UNITS=source.unit, KEEP_UNIT=kept.unit, TILE=TILE, VECTOR=_STORE // out.element_size(),
    )  # fmt: skip


def in_rows(out: Tensor, n: int) -> bool:
    """Whether the kernel writes numbers of this format, length and layout."""
    overlaps = any(stride == 0 and size > 1 for stride, size in zip(out.stride(), out.shape, strict=True))
    return out.dtype in FLOATS and out.dim() > 0 and out.shape[-1] == n and not overlaps and rows_of(out).x is out


@triton.jit(do_not_specialize=_SCALARS)
def _unpack(
    words, keep, out, n, inner, words_outer, words_inner, keep_outer, keep_inner, out_outer, out_inner,
    scale, scale_outer, scale_inner, plain,
    GIVEN: tl.constexpr, KEPT: tl.constexpr, FLAGS: tl.constexpr, ADDS: tl.constexpr,
    UNIT: tl.constexpr, UNITS: tl.constexpr, KEEP_UNIT: tl.constexpr, TILE: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    size = 0.0
    if not FLAGS:
        size = number(scale, row, inner, scale_outer, scale_inner, plain, GIVEN)
    unpack_tile(
        row_start(words, row, inner, words_outer, words_inner, UNITS),
        row_start(keep, row, inner, keep_outer, keep_inner, KEEP_UNIT),
        row_start(out, row, inner, out_outer, out_inner, UNIT), n, tile, size, KEPT, FLAGS, ADDS, TILE, VECTOR,
    )  # fmt: skip


@triton.jit
def unpack_tile(
    words, keep, out, n, tile, size,
    KEPT: tl.constexpr, FLAGS: tl.constexpr, ADDS: tl.constexpr, TILE: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """A tile of ±size for the row of words (int32) at `words`, to `out` (n,); zero outside the words at `keep`."""
    first = tile * TILE + tl.arange(0, TILE // VECTOR) * VECTOR
    own = tl.load(words + first // 32, mask=first < n, other=0)
    j = first[:, None] + tl.arange(0, VECTOR)[None, :]
    bits = topmost(own, first, VECTOR)
    if FLAGS:
        values = (bits < 0).to(tl.int32)
    else:
        values = signed(bits, size)
    if KEPT:
        kept = tl.load(keep + first // 32, mask=first < n, other=0)
        values = tl.where(topmost(kept, first, VECTOR) < 0, values, 0.0)
    target = out + j
    if ADDS == 1:
        old = tl.load(target, mask=j < n)
        values = old.to(tl.float64) + values if old.dtype == tl.float64 else old.to(tl.float32) + values
    tl.store(target, narrowed(values, out.dtype.element_ty), mask=j < n)


@triton.jit
def topmost(words, first, VECTOR: tl.constexpr):
    """Words whose topmost bits are those of coordinates first to first + VECTOR − 1 of a word each: (..., VECTOR)."""
    shifted = words << (32 - VECTOR - first % 32)
    return shifted[:, None] << (VECTOR - 1 - tl.arange(0, VECTOR))[None, :]


@triton.jit
def signed(bits, size):
    """The size where the topmost bit is set, and its negative elsewhere."""
    return ((bits & -2147483648) ^ (-size).to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=("n", "halves", "inner", "outer_stride", "inner_stride"))
def _pack(flags, out, n, halves, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    flags = row_start(flags, row, inner, outer_stride, inner_stride, UNIT)
    pack_flags_tile(flags, out + row.to(tl.int64) * halves, n, halves, tile, TILE)


@triton.jit
def pack_flags_tile(flags, out, n, halves, tile, TILE: tl.constexpr):
    """A tile of the row of flags at `flags` (n,) to its words at `out` (halves,)."""
    j = tile * TILE + tl.arange(0, TILE)
    own = tl.load(flags + j, mask=j < n, other=0)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    tl.store(out + place, packed(own != 0, TILE), mask=place < halves)


@triton.jit(do_not_specialize=("n", "inner", "outer_stride", "inner_stride"))
def _count(words, counts, n, inner, outer_stride, inner_stride, UNIT: tl.constexpr, TILE: tl.constexpr):
    n = whole(n, UNIT)
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    count_tile(row_start(words, row, inner, outer_stride, inner_stride, UNIT), counts + row, n, tile, TILE)


@triton.jit
def count_tile(words, counts, n, tile, TILE: tl.constexpr):
    """Adds the bits that are set in a tile of the row at `words` (n,) to its number at `counts`."""
    j = tile * TILE + tl.arange(0, TILE)
    own = tl.load(words + j, mask=j < n, other=0)
    tl.atomic_add(counts, tl.sum(count(own)).to(tl.int64))
