"""The memory step with the mean of |p| as scale, for rows that one program holds: all is read once and written once.

A program keeps p of its row in registers until it has their mean, folded in the order of `trees`: what that adds beyond
the row are sums of nothing, +0, which change no sum of sizes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.columns import strides_of, unit_of
from gradvote.kernels.cuda.feedback_parts import DRAWN, advanced, coordinates, flags, kind_of, packed_lanes, sent
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, rows_of, values_of
from gradvote.kernels.cuda.tiles import appended, divided, drawn, is_finite, row_start, value_start
from gradvote.kernels.cuda.trees import fold
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.rng import Draw

LONGEST = 16384
"""Coordinates of the longest row that one program holds."""
SIZE = 1024
"""Coordinates of a tile whose |p| are summed."""
SHARE = 32
"""Coordinates of a row that one thread takes."""
REGISTERS = 64
"""Registers that a thread may use, so that a multiprocessor holds two of the longest rows: one loads, one stores."""


def step_rows(
    x: Tensor, old: list[Rows], ratio: Tensor, inertia: Inertia | None, masks: Rows, zeros: Draw | bool, masked: bool
) -> Feedback:
    """`feedback_reference.feedback_step` for rows of `LONGEST` coordinates at most, where no scale is given."""
    rows, lead, width = rows_of(x), x.shape[:-1], reference.num_words(x.shape[-1])
    bits = torch.empty((*lead, width), dtype=torch.int64, device=x.device)
    new = [torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in old]
    valid, scale = torch.empty(lead, dtype=torch.bool, device=x.device), torch.empty(lead, device=x.device)
    draw = philox.place_of(zeros, lead) if isinstance(zeros, Draw) else (0, 0, bits, 0, 0, bits, 0, 0)
    unit, tiles = unit_of(rows, *old), triton.next_power_of_2(max(portions(rows.n, SIZE), 1))
    warps = min(max(tiles * SIZE // SHARE // 32, 4), 32)
    launch(
        _step_rows, rows.number, x,
        rows.x, old[0].x, old[-1].x, new[0], new[-1], bits.view(torch.int32), valid, scale, masks.x.view(torch.int32),
        *values_of(ratio.float(), lead), 0.0 if inertia is None else float(inertia.mu), rows.n, width, rows.inner,
        *strides_of(rows, unit), *strides_of(old[0], unit), *strides_of(old[-1], unit), *strides_of(masks, 1), *draw,
        UNIT=unit, SIZE=SIZE, TILES=tiles, LEVELS=tiles.bit_length() - 1, KIND=kind_of(inertia),
        ZEROS=DRAWN if isinstance(zeros, Draw) else int(zeros), MASKED=masked,
        num_warps=warps, maxnreg=REGISTERS,
    )  # fmt: skip
    return Feedback(bits, valid, scale, new[0], None if inertia is None else new[1])


@triton.jit(
    do_not_specialize=(
        "ratio_outer", "ratio_inner", "n", "width", "inner", "outer_stride", "inner_stride", "old_outer", "old_inner",
        "moving_outer", "moving_inner", "mark_outer", "mark_inner", *philox.NAMES,
    )
)  # fmt: skip
def _step_rows(
    x, memory, momentum, new_memory, new_momentum, bits, valid, scales, marks, ratios, ratio_outer, ratio_inner, mu,
    n, width, inner, outer_stride, inner_stride, old_outer, old_inner, moving_outer, moving_inner,
    mark_outer, mark_inner, low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    UNIT: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, LEVELS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    row = tl.program_id(0)
    place = row.to(tl.int64)
    step_row(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT),
        row_start(memory, row, inner, old_outer, old_inner, UNIT),
        row_start(momentum, row, inner, moving_outer, moving_inner, UNIT), new_memory + place * n,
        new_momentum + place * n, bits + place * 2 * width, valid + row, scales + row,
        row_start(marks, row, inner, mark_outer, mark_inner, 2), drawn(ratios, row, inner, ratio_outer, ratio_inner),
        mu, n, 2 * width, low, high, value_start(block, row, inner, block_outer, block_inner),
        value_start(sender, row, inner, sender_outer, sender_inner), SIZE, TILES, LEVELS, KIND, ZEROS, MASKED,
    )  # fmt: skip


@triton.jit
def step_row(
    x, memory, momentum, new_memory, new_momentum, bits, valid, scales, marks, ratio, mu,
    n, halves, low, high, block, sender,
    SIZE: tl.constexpr, TILES: tl.constexpr, LEVELS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The row at x of n ≤ SIZE·TILES coordinates, TILES = 2^LEVELS; all that is not of every coordinate is its own."""
    place = tl.arange(0, TILES)[:, None] * (SIZE // 32) + tl.arange(0, SIZE // 256)[None, :]
    j = coordinates(place)
    x, old, moving, new, moved = x + j, memory + j, momentum + j, new_memory + j, new_momentum + j
    bits, marks = bits + place, marks + place
    ps, first, second, third = (), 0.0, 0.0, 0.0
    greatest = tl.zeros((TILES, SIZE // 256, 32), tl.float32)
    zero, number = greatest > 0, greatest.to(tl.int32)
    ahead = _loaded(x, old, moving, j, n, 0, SIZE, KIND)
    for i in tl.static_range(8):
        own, shift = ahead, _shift(i, SIZE)
        if i < 7:  # before what is stored below, which might be the same memory to a compiler
            ahead = _loaded(x, old, moving, j, n, i + 1, SIZE, KIND)
        inside = j < n - shift
        p, m = advanced(own[0], own[1], own[2], ratio, mu, KIND)
        if KIND > 0:
            tl.store(moved + shift, m, mask=inside)
        p = tl.where(inside, p, 0.0)
        ps, size = appended(ps, p), tl.abs(p)
        if MASKED:
            marked = inside & flags(tl.load(marks + shift // 32, mask=place < halves - shift // 32, other=0))
            greatest, number = _greater(greatest, size), number + marked.to(tl.int32)
            size = tl.where(marked, size, 0.0)
        if i % 2 == 0:  # in the order of `trees.near`, with no more numbers kept than it takes
            first = size
        elif i % 4 == 1:
            second = first + size
        elif i == 3:
            third = second + (first + size)
        else:
            third += second + (first + size)
    sums = fold(tl.reshape(third, (TILES, SIZE // 8)), TILES, SIZE // 8, 7, True)
    count = n
    if MASKED:
        count = tl.sum(number)
    total = fold(tl.reshape(sums, (1, TILES)), 1, TILES, LEVELS, True)
    scale = tl.sum(divided(total, tl.zeros_like(total) + tl.maximum(count, 1).to(tl.float32)))
    fine = is_finite(scale)  # not so if a p among those that are sent is not finite
    if MASKED:
        fine &= tl.min(is_finite(greatest).to(tl.int32)) == 1
    if ZEROS > 0:
        for i in tl.static_range(8):
            zero |= (ps[i] == 0) & (j < n - _shift(i, SIZE))
    zeros = tl.max(zero.to(tl.int32)) > 0
    tl.store(scales, scale)
    tl.store(valid, fine)
    for i in tl.static_range(8):
        shift = _shift(i, SIZE)
        inside, within = j < n - shift, place < halves - shift // 32
        p, positive = ps[i], ps[i] > 0
        word = packed_lanes(positive)
        if ZEROS > 0:
            if zeros:
                word |= _zero_bits(p, inside, place + shift // 32, low, high, block, sender, ZEROS)
                positive = flags(word)
        tl.store(bits + shift // 32, word, mask=within)
        kept = positive
        if MASKED:
            kept = flags(tl.load(marks + shift // 32, mask=within, other=0))
        left = sent(p, positive, kept, scale, MASKED)
        if not fine:
            left = tl.load(old + shift, mask=inside, other=0)
        tl.store(new + shift, left, mask=inside)
    if KIND > 0:
        if not fine:  # or the momentum is finite
            tl.debug_barrier()  # others may have stored what is loaded and overwritten
            greatest = tl.zeros_like(greatest)
            for i in tl.static_range(8):
                shift = _shift(i, SIZE)
                greatest = _greater(greatest, tl.load(moved + shift, mask=j < n - shift, other=0))
            if tl.min(is_finite(greatest).to(tl.int32)) == 0:
                for i in tl.static_range(8):
                    shift = _shift(i, SIZE)
                    tl.store(moved + shift, tl.load(moving + shift, mask=j < n - shift), mask=j < n - shift)


@triton.jit
def _shift(i, SIZE: tl.constexpr):
    """Where in tiles the i-th of eight parts is, in the order in which a fold adds them: 0, 4, 2, 6, 1, 5, 3, 7."""
    return (i % 2 * 4 + i // 2 % 2 * 2 + i // 4) * (SIZE // 8)


@triton.jit
def _loaded(x, old, moving, j, n, i, SIZE: tl.constexpr, KIND: tl.constexpr):
    """x, the memory, and the momentum if there is any, of the i-th part."""
    shift = _shift(i, SIZE)
    inside = j < n - shift
    own, before, momentum = tl.load(x + shift, mask=inside, other=0), tl.load(old + shift, mask=inside, other=0), 0.0
    if KIND > 0:
        momentum = tl.load(moving + shift, mask=inside, other=0)
    return own.to(tl.float32), before, momentum


@triton.jit
def _zero_bits(p, inside, place, low, high, block, sender, ZEROS: tl.constexpr):
    """The bits of zeros in words."""
    word = packed_lanes(inside & (p == 0))
    if ZEROS == 2:
        word &= philox.word(place, tl.load(block), tl.load(sender), low, high)
    return word


@triton.jit
def _greater(a, b):
    """The greater of a and the size of b, or NaN if one of them is."""
    return tl.maximum(a, tl.abs(b), propagate_nan=tl.PropagateNan.ALL)
