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
from gradvote.kernels.cuda.feedback_parts import DRAWN, advanced, flags, kind_of, sent, signs
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, rows_of, values_of
from gradvote.kernels.cuda.tiles import appended, divided, drawn, is_finite, load, row_start, value_start
from gradvote.kernels.cuda.trees import fold, near
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.rng import Draw

LONGEST = 16384
"""Coordinates of the longest row that one program holds."""
SIZE = 1024
"""Coordinates of a tile whose |p| are summed."""
SHARE = 32
"""Coordinates of a row that one thread takes."""
REGISTERS = 64
"""Registers that a thread may use where many threads hold a row, so that two programs run at a time."""


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
        num_warps=warps, maxnreg=REGISTERS if warps > 8 else None,
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
    WORDS: tl.constexpr = SIZE // 8 // 32
    tile, lanes = tl.arange(0, TILES)[:, None] * (SIZE // 32), tl.arange(0, 32)[None, None, :]
    ps, words, magnitudes = (), (), ()
    greatest = tl.zeros((TILES, WORDS, 32), tl.float32)
    fastest, number = greatest, greatest.to(tl.int32)
    for k in tl.static_range(8):
        place = tile + k * WORDS + tl.arange(0, WORDS)[None, :]
        j = place[:, :, None] * 32 + lanes
        inside = j < n
        before, moving = load(memory, j, n), 0.0
        if KIND > 0:
            moving = load(momentum, j, n)
        p, m = advanced(load(x, j, n), before, moving, ratio, mu, KIND)
        if KIND > 0:
            tl.store(new_momentum + j, m, mask=inside)
            fastest = _greater(fastest, tl.where(inside, m, 0.0))
        p = tl.where(inside, p, 0.0)
        word = signs(p, inside, place, low, high, block, sender, ZEROS)
        tl.store(bits + place, word, mask=place < halves)
        greatest = _greater(greatest, p)
        if MASKED:
            marked = inside & flags(tl.load(marks + place, mask=place < halves, other=0))
            magnitudes = appended(magnitudes, tl.where(marked, tl.abs(p), 0.0))
            number += marked.to(tl.int32)
        else:
            magnitudes = appended(magnitudes, tl.abs(p))
        ps, words = appended(ps, p), appended(words, word)
    sums = fold(tl.reshape(near(magnitudes), (TILES, SIZE // 8)), TILES, SIZE // 8, 7, True)
    count = n
    if MASKED:
        count = tl.sum(number)
    total = fold(tl.reshape(sums, (1, TILES)), 1, TILES, LEVELS, True)
    scale = tl.sum(divided(total, tl.zeros_like(total) + tl.maximum(count, 1).to(tl.float32)))
    fine = (tl.min(is_finite(greatest).to(tl.int32)) == 1) & is_finite(scale)
    tl.store(scales, scale)
    tl.store(valid, fine)
    for k in tl.static_range(8):
        place = tile + k * WORDS + tl.arange(0, WORDS)[None, :]
        j = place[:, :, None] * 32 + lanes
        kept = j < n
        if MASKED:
            kept = flags(tl.load(marks + place, mask=place < halves, other=0))
        left = sent(ps[k], flags(words[k]), kept, scale, MASKED)
        if not fine:
            left = load(memory, j, n)
        tl.store(new_memory + j, left, mask=j < n)
    if KIND > 0:
        if tl.min(is_finite(fastest).to(tl.int32)) == 0:
            tl.debug_barrier()  # what was stored above is overwritten
            for k in tl.static_range(8):
                j = (tile + k * WORDS + tl.arange(0, WORDS)[None, :])[:, :, None] * 32 + lanes
                tl.store(new_momentum + j, load(momentum, j, n), mask=j < n)


@triton.jit
def _greater(a, b):
    """The greater of a and the size of b, or NaN if one of them is."""
    return tl.maximum(a, tl.abs(b), propagate_nan=tl.PropagateNan.ALL)
