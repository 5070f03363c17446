"""Bits moved together and apart again: words of 32 bits by five steps of parallel shifts, at places found by counting.

Warren, "Hacker's Delight", 2nd edition, sections 7-4 and 7-5: step i moves by 2^i what has bit i in its distance.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, lead_of, words_of
from gradvote.kernels.cuda.tiles import count, row_start

PART = 1024
"""Words of 32 bits of a row that one program moves. Where a part's bits begin follows from the counts before it."""
_SCALARS = ("n", "available", "inner", "outer_stride", "inner_stride", "keep_outer", "keep_inner")


def compact(words: Tensor, keep: Tensor, width: int) -> Tensor:
    """`reference.compact`."""
    lead = lead_of(words.shape[:-1], keep.shape[:-1])
    out = torch.zeros((*lead, width), dtype=torch.int64, device=words.device)
    _move(_compact, words_of(words, lead), words_of(keep, lead), out, 2 * width)
    return out


def expand(words: Tensor, keep: Tensor) -> Tensor:
    """`reference.expand`."""
    lead = lead_of(words.shape[:-1], keep.shape[:-1])
    out = torch.empty((*lead, keep.shape[-1]), dtype=torch.int64, device=words.device)
    source = words_of(words, lead)
    _move(_expand, source, words_of(keep, lead), out, source.n)
    return out


def _move(kernel: object, source: Rows, kept: Rows, out: Tensor, available: int) -> None:
    """Start a kernel of this file; `available` is the number of words of 32 bits on the compacted side."""
    parts = portions(kept.n, PART)
    starts = kept.x if parts <= 1 else _starts(kept, parts)
    launch(
        kernel, kept.number * parts, out,
        source.x, kept.x, starts, out.view(torch.int32), kept.n, available, *source.place, *kept.place[1:],
        SEVERAL=parts > 1, UNIT=source.unit, KEEP_UNIT=kept.unit, PART=PART,
    )  # fmt: skip


def _starts(kept: Rows, parts: int) -> Tensor:
    """Where in its row's compacted bits each part begins: (R, parts)."""
    counts = torch.empty((kept.number, parts), dtype=torch.int32, device=kept.x.device)
    launch(_count_parts, counts.numel(), counts, kept.x, counts, kept.n, *kept.place, UNIT=kept.unit, PART=PART)
    return counts.cumsum(1) - counts


@triton.jit(do_not_specialize=("n", "inner", "outer_stride", "inner_stride"))
def _count_parts(keep, counts, n, inner, outer_stride, inner_stride, UNIT: tl.constexpr, PART: tl.constexpr):
    parts = tl.cdiv(n, PART)
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    keep = row_start(keep, row, inner, outer_stride, inner_stride, UNIT)
    count_part(keep, counts + tl.program_id(0), n, part, PART)


@triton.jit
def count_part(keep, counts, n, part, PART: tl.constexpr):
    """How many bits a part of the row at `keep` (n,) has, to the number at `counts`."""
    i = part * PART + tl.arange(0, PART)
    tl.store(counts, tl.sum(count(tl.load(keep + i, mask=i < n, other=0))))


@triton.jit(do_not_specialize=_SCALARS)
def _compact(
    words, keep, starts, out, n, available, inner, outer_stride, inner_stride, keep_outer, keep_inner,
    SEVERAL: tl.constexpr, UNIT: tl.constexpr, KEEP_UNIT: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    parts = tl.cdiv(n, PART)
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    words = row_start(words, row, inner, outer_stride, inner_stride, UNIT)
    keep = row_start(keep, row, inner, keep_outer, keep_inner, KEEP_UNIT)
    target = out + row.to(tl.int64) * available
    compact_part(words, keep, starts + tl.program_id(0), target, n, available, part, SEVERAL, PART)


@triton.jit
def compact_part(words, keep, start, out, n, available, part, SEVERAL: tl.constexpr, PART: tl.constexpr):
    """A part of the rows at `words` and `keep` (n,) to the row at `out` (available,); `start` tells where it begins."""
    i = part * PART + tl.arange(0, PART)
    kept = tl.load(keep + i, mask=i < n, other=0)
    own = tl.load(words + i, mask=i < n, other=0)
    place = _places(kept, start, SEVERAL)
    bits = _together(own.to(tl.uint32, bitcast=True), kept.to(tl.uint32, bitcast=True))
    shift = (place % 32).to(tl.uint32)
    near, far = bits << shift, (bits >> 1) >> (31 - shift)
    index = (place // 32).to(tl.int32)
    target = out + index
    tl.atomic_or(target, near.to(tl.int32, bitcast=True), mask=(near != 0) & (index < available), sem="relaxed")
    tl.atomic_or(target + 1, far.to(tl.int32, bitcast=True), mask=(far != 0) & (index + 1 < available), sem="relaxed")


@triton.jit(do_not_specialize=_SCALARS)
def _expand(
    words, keep, starts, out, n, available, inner, outer_stride, inner_stride, keep_outer, keep_inner,
    SEVERAL: tl.constexpr, UNIT: tl.constexpr, KEEP_UNIT: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    parts = tl.cdiv(n, PART)
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    words = row_start(words, row, inner, outer_stride, inner_stride, UNIT)
    keep = row_start(keep, row, inner, keep_outer, keep_inner, KEEP_UNIT)
    target = out + row.to(tl.int64) * n
    expand_part(words, keep, starts + tl.program_id(0), target, n, available, part, SEVERAL, PART)


@triton.jit
def expand_part(words, keep, start, out, n, available, part, SEVERAL: tl.constexpr, PART: tl.constexpr):
    """What `compact_part` moved together in the row at `words` (available,), apart to the row at `out` (n,)."""
    i = part * PART + tl.arange(0, PART)
    kept = tl.load(keep + i, mask=i < n, other=0)
    place = _places(kept, start, SEVERAL)
    index, shift = (place // 32).to(tl.int32), (place % 32).to(tl.uint32)
    source = words + index
    near = tl.load(source, mask=index < available, other=0).to(tl.uint32, bitcast=True)
    far = tl.load(source + 1, mask=index + 1 < available, other=0).to(tl.uint32, bitcast=True)
    bits = _apart((near >> shift) | ((far << 1) << (31 - shift)), kept.to(tl.uint32, bitcast=True))
    tl.store(out + i, bits.to(tl.int32, bitcast=True), mask=i < n)


@triton.jit
def _places(kept, start, SEVERAL: tl.constexpr):
    """Where in its row's compacted bits the bits of each word begin."""
    counts = count(kept)
    place = tl.cumsum(counts, 0) - counts
    if SEVERAL:
        place = place + tl.load(start)
    return place


@triton.jit
def _step(keep, left, STEP: tl.constexpr):
    """The bits that move in a step, where they stand before it (when bits move together); and the next `keep`, `left`.

    `left` marks, at first, the bits that have one that is not kept just below.
    """
    odd = left ^ (left << 1)
    odd = odd ^ (odd << 2)
    odd = odd ^ (odd << 4)
    odd = odd ^ (odd << 8)
    odd = odd ^ (odd << 16)
    moving = odd & keep
    return moving, (keep ^ moving) | (moving >> STEP), left & (odd ^ 0xFFFFFFFF)


@triton.jit
def _steps(keep):
    """The bits that move by 1, 2, 4, 8 and 16."""
    one, kept, left = _step(keep, (keep ^ 0xFFFFFFFF) << 1, 1)
    two, kept, left = _step(kept, left, 2)
    four, kept, left = _step(kept, left, 4)
    eight, kept, left = _step(kept, left, 8)
    sixteen, kept, left = _step(kept, left, 16)
    return one, two, four, eight, sixteen


@triton.jit
def _down(words, moving, STEP: tl.constexpr):
    taken = words & moving
    return (words ^ taken) | (taken >> STEP)


@triton.jit
def _up(words, moving, STEP: tl.constexpr):
    return (words ^ (words & moving)) | ((words << STEP) & moving)


@triton.jit
def _together(words, keep):
    """The bits at the set bits of `keep`, moved to the low end."""
    one, two, four, eight, sixteen = _steps(keep)
    words = _down(_down(words & keep, one, 1), two, 2)
    return _down(_down(_down(words, four, 4), eight, 8), sixteen, 16)


@triton.jit
def _apart(words, keep):
    """The low bits moved to the set bits of `keep`."""
    one, two, four, eight, sixteen = _steps(keep)
    words = _up(_up(_up(words, sixteen, 16), eight, 8), four, 4)
    return _up(_up(words, two, 2), one, 1) & keep
