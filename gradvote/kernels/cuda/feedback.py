"""Momentum, error memory and signs in one pass: `feedback_reference.feedback_step` on a CUDA device.

With a given scale, every coordinate is read once and written once, and blocks that turn out not to be finite are
repaired (see `averages`). Where the scale is the mean of |p|, short rows are held whole (`feedback_rows`); of long ones
a first pass leaves p in the new memory and the sums of its tiles, and a second takes away what is sent.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import feedback_reference, reference
from gradvote.kernels.cuda import feedback_rows, philox
from gradvote.kernels.cuda.averages import NARROW, repair
from gradvote.kernels.cuda.columns import strides_of, unit_of
from gradvote.kernels.cuda.feedback_parts import DRAWN, advanced, flags, kind_of, sent, signs
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import Rows, rows_of, values_of
from gradvote.kernels.cuda.tiles import appended, drawn, is_finite, load, row_start, value_start
from gradvote.kernels.cuda.trees import fold, folded, near
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.rng import Draw

SUMMED = 1024
"""Coordinates of a tile whose |p| are summed."""
TILES = 2, 4
"""Tiles of a row that one program takes: with a given scale, and where |p| is summed."""
PARTS = 1, 8
"""Parts in which it takes them, so that the first folds are of a thread's own numbers."""
DRAIN = 2048
"""Coordinates of a row that one program of the second pass takes."""


def feedback_step(
    x: Tensor,
    memory: Tensor,
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    zeros: Draw | bool,
    scale: Tensor | None,
) -> Feedback:
    """`feedback_reference.feedback_step`."""
    state = [memory] if inertia is None else [memory, inertia.momentum]
    if x.dtype not in NARROW or any(t.dtype != torch.float32 or t.shape != x.shape for t in state):
        return feedback_reference.feedback_step(x, memory, ratio, inertia, keep, zeros, scale)
    lead, width = x.shape[:-1], reference.num_words(x.shape[-1])
    old = [rows_of(t) for t in state]
    if scale is None and x.shape[-1] <= feedback_rows.LONGEST:
        masks = old[0] if keep is None else rows_of(keep.to(torch.int64), lead)
        return feedback_rows.step_rows(x, old, ratio, inertia, masks, zeros, keep is not None)
    bits = torch.empty((*lead, width), dtype=torch.int64, device=x.device)
    new = [torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in state]
    valid, moved = torch.ones((2, *lead), dtype=torch.bool, device=x.device)
    masks = rows_of(bits if keep is None else keep.to(torch.int64), lead)
    sums, counts = _advance(x, old, new, inertia, (bits, valid, moved), ratio, masks, zeros, scale, keep is not None)
    if scale is None:
        tiles = portions(x.shape[-1], SUMMED)
        found = folded(sums, counts, tiles, x.shape[-1] if keep is None else 0, mean=True)
        launch(
            _drain, old[0].number * portions(old[0].n, DRAIN), x,
            old[0].x, new[0], bits.view(torch.int32), masks.x.view(torch.int32), found, valid, old[0].n, width,
            old[0].inner, *strides_of(old[0], unit_of(old[0])), *strides_of(masks, 1),
            UNIT=unit_of(old[0]), TILE=DRAIN, MASKED=keep is not None,
        )  # fmt: skip
        valid &= found.isfinite()
    else:
        found = scale
        repair(old[0], new[0], valid)
    if inertia is not None:
        repair(old[1], new[1], moved)
    return Feedback(bits, valid, found, new[0], None if inertia is None else new[1])


def _advance(
    x: Tensor, old: list[Rows], new: list[Tensor], inertia: Inertia | None, results: tuple[Tensor, Tensor, Tensor],
    ratio: Tensor, masks: Rows, zeros: Draw | bool, scale: Tensor | None, masked: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The first pass; gives the sums of tiles, and how many coordinates each row sends, if the scale is not given."""
    rows, (bits, valid, moved) = rows_of(x), results
    lead, summed = rows.lead, scale is None
    tiles = portions(rows.n, SUMMED)
    sums = torch.empty((rows.number if summed else 0, max(tiles, 1)), dtype=torch.float32, device=x.device)
    counts = torch.zeros(lead if summed else 0, dtype=torch.int32, device=x.device)
    scales = values_of(ratio if scale is None else scale.float(), lead)
    draw = philox.place_of(zeros, lead) if isinstance(zeros, Draw) else (0, 0, bits, 0, 0, bits, 0, 0)
    unit = unit_of(rows, *old)
    launch(
        _advance_rows, rows.number * portions(rows.n, SUMMED * TILES[summed]), x,
        rows.x, old[0].x, old[-1].x, new[0], new[-1], bits.view(torch.int32), valid, moved, sums, counts,
        masks.x.view(torch.int32), *values_of(ratio.float(), lead), *scales,
        0.0 if inertia is None else float(inertia.mu), rows.n, bits.shape[-1], tiles, rows.inner,
        *strides_of(rows, unit), *strides_of(old[0], unit), *strides_of(old[-1], unit), *strides_of(masks, 1), *draw,
        UNIT=unit, SIZE=SUMMED, TILES=TILES[summed], PARTS=PARTS[summed], KIND=kind_of(inertia),
        ZEROS=DRAWN if isinstance(zeros, Draw) else int(zeros), MASKED=masked, SUMMED=summed,
    )  # fmt: skip
    return sums, counts


@triton.jit(
    do_not_specialize=(
        "ratio_outer", "ratio_inner", "scale_outer", "scale_inner", "n", "width", "sum_tiles", "inner",
        "outer_stride", "inner_stride", "old_outer", "old_inner", "moving_outer", "moving_inner", "mark_outer",
        "mark_inner", "low", "high", "block_outer", "block_inner", "sender_outer", "sender_inner",
    )
)  # fmt: skip
def _advance_rows(
    x, memory, momentum, new_memory, new_momentum, bits, valid, moved, sums, counts, marks,
    ratios, ratio_outer, ratio_inner, scales, scale_outer, scale_inner, mu, n, width, sum_tiles, inner,
    outer_stride, inner_stride, old_outer, old_inner, moving_outer, moving_inner, mark_outer, mark_inner,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    UNIT: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, PARTS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    programs = tl.cdiv(n, SIZE * TILES)
    row, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    ratio, scale, place = drawn(ratios, row, inner, ratio_outer, ratio_inner), 0.0, row.to(tl.int64)
    if not SUMMED:
        scale = drawn(scales, row, inner, scale_outer, scale_inner)
    advance_tile(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT),
        row_start(memory, row, inner, old_outer, old_inner, UNIT),
        row_start(momentum, row, inner, moving_outer, moving_inner, UNIT), new_memory + place * n,
        new_momentum + place * n, bits + place * 2 * width, valid + row, moved + row, sums + place * sum_tiles,
        counts + row, row_start(marks, row, inner, mark_outer, mark_inner, 2), ratio, scale, mu,
        n, 2 * width, sum_tiles, program, low, high, value_start(block, row, inner, block_outer, block_inner),
        value_start(sender, row, inner, sender_outer, sender_inner), SIZE, TILES, PARTS, KIND, ZEROS, MASKED, SUMMED,
    )  # fmt: skip


@triton.jit
def advance_tile(
    x, memory, momentum, new_memory, new_momentum, bits, valid, moved, sums, counts, marks, ratio, scale, mu,
    n, halves, sum_tiles, program, low, high, block, sender,
    SIZE: tl.constexpr, TILES: tl.constexpr, PARTS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """TILES tiles of SIZE coordinates of the row at x (n,); all that is not of every coordinate is the row's own.

    A part stands as (tiles, words, 32), so that words and coordinates lie together in the registers of a thread. Where
    the momentum is not finite, p is not either: so the greatest of the two flags' sums tells of both.
    """
    tile = program * TILES + tl.arange(0, TILES)
    WORDS: tl.constexpr = SIZE // PARTS // 32
    magnitudes, wrong = (), tl.zeros((TILES, WORDS, 32), tl.int32)
    sent_count = wrong
    for k in tl.static_range(PARTS):
        place = tile[:, None] * (SIZE // 32) + k * WORDS + tl.arange(0, WORDS)[None, :]
        j = place[:, :, None] * 32 + tl.arange(0, 32)[None, None, :]
        inside = j < n
        before, moving = load(memory, j, n), 0.0
        if KIND > 0:
            moving = load(momentum, j, n)
        p, m = advanced(load(x, j, n), before, moving, ratio, mu, KIND)
        if KIND > 0:
            tl.store(new_momentum + j, m, mask=inside)
            wrong = tl.maximum(wrong, 2 * (inside & ~is_finite(m)).to(tl.int32))
        wrong = tl.maximum(wrong, (inside & ~is_finite(p)).to(tl.int32))
        word = signs(p, inside, place, low, high, block, sender, ZEROS)
        tl.store(bits + place, word, mask=place < halves)
        marked = inside
        if MASKED:
            mark = tl.load(marks + place, mask=place < halves, other=0)
            marked = inside & flags(mark)
        if SUMMED:
            tl.store(new_memory + j, p, mask=inside)
            magnitudes = appended(magnitudes, tl.where(marked, tl.abs(p), 0.0))
            sent_count += marked.to(tl.int32)
        else:
            tl.store(new_memory + j, sent(p, flags(word), marked, scale, MASKED), mask=inside)
    worst = tl.max(wrong)
    tl.store(valid, False, mask=worst > 0)
    tl.store(moved, False, mask=worst > 1)
    if SUMMED:
        total = fold(tl.reshape(near(magnitudes), (TILES, SIZE // 8)), TILES, SIZE // 8, 7, True)
        tl.store(sums + tile, total, mask=tile < sum_tiles)
        if MASKED:
            tl.atomic_add(counts, tl.sum(sent_count))


@triton.jit(
    do_not_specialize=("n", "width", "inner", "outer_stride", "inner_stride", "mark_outer", "mark_inner"),
)
def _drain(
    memory, new_memory, bits, marks, scales, valid, n, width, inner, outer_stride, inner_stride, mark_outer, mark_inner,
    UNIT: tl.constexpr, TILE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    drain_tile(
        row_start(memory, row, inner, outer_stride, inner_stride, UNIT), new_memory + row.to(tl.int64) * n,
        bits + row.to(tl.int64) * 2 * width, row_start(marks, row, inner, mark_outer, mark_inner, 2),
        tl.load(scales + row), valid + row, n, 2 * width, tile, TILE, MASKED,
    )  # fmt: skip


@triton.jit
def drain_tile(
    memory, new_memory, bits, marks, scale, valid, n, halves, tile, TILE: tl.constexpr, MASKED: tl.constexpr
):  # fmt: skip
    """p at `new_memory` (n,) without what is sent; the row at `memory` where p or the scale is not finite."""
    place, lanes = tile * (TILE // 32) + tl.arange(0, TILE // 32), tl.arange(0, 32)[None, :]
    j = place[:, None] * 32 + lanes
    out = new_memory + j
    if (tl.load(valid) != 0) & is_finite(scale):
        p = tl.load(out, mask=j < n, other=0)
        word = tl.load(bits + place, mask=place < halves, other=0)
        positive = ((word[:, None] >> lanes) & 1) != 0
        kept = positive
        if MASKED:
            mark = tl.load(marks + place, mask=place < halves, other=0)
            kept = ((mark[:, None] >> lanes) & 1) != 0
        tl.store(out, sent(p, positive, kept, scale, MASKED), mask=j < n)
    else:
        tl.store(out, tl.load(memory + j, mask=j < n, other=0), mask=j < n)
