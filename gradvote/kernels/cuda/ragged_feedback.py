"""Memory steps and means of rows of unequal length: `ragged_reference` on a CUDA device.

As in `feedback`: with a given scale in one pass; else rows are held whole if all are short (`feedback_rows`), or p is
left in the new memory and a second pass takes away what is sent. Between them the sums of tiles, which stand behind
each other for all rows, are folded, one program for each row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import ragged_reference
from gradvote.kernels.cuda import feedback_rows, tables
from gradvote.kernels.cuda.averages import NARROW
from gradvote.kernels.cuda.feedback import DRAIN, PARTS, SUMMED, TILES, advance_tile, drain_tile
from gradvote.kernels.cuda.feedback_parts import kind_of
from gradvote.kernels.cuda.feedback_rows import LONGEST, step_row
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.ragged_signs import repair
from gradvote.kernels.cuda.tiles import divided
from gradvote.kernels.cuda.trees import FOLD, fold, sum_tiles
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.kernels.reference import TILE
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector, vector_of
from gradvote.staging import to_device


def ragged_feedback_step(
    x: Vector,
    memory: Tensor,
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    zeros: Draw | bool,
    scale: Tensor | None,
    rows: Ragged,
) -> Feedback:
    """`ragged_reference.ragged_feedback_step`."""
    old = [memory] if inertia is None else [memory, inertia.momentum]
    table = tables.coordinates(rows, SUMMED * TILES[scale is None], x.device, "sums")
    rule = tables.zeros_of(zeros, rows, table.x)
    if rule is None or x.dtype not in NARROW or any(t.dtype != torch.float32 for t in old):
        return ragged_reference.ragged_feedback_step(vector_of(x), memory, ratio, inertia, keep, zeros, scale, rows)
    if scale is None and rows.longest <= LONGEST:
        return _held_whole(x, old, ratio, inertia, keep, rule, rows)
    summed, device = scale is None, x.device
    bits = torch.empty(int(rows.words[-1]), dtype=torch.int64, device=device)
    new = [torch.empty_like(t) for t in old]
    valid, moved = torch.ones((2, rows.num_rows), dtype=torch.bool, device=device)
    sums = torch.empty(int(rows.starts(TILE)[-1]) if summed else 0, dtype=torch.float32, device=device)
    counts = torch.zeros(rows.num_rows if summed else 0, dtype=torch.int32, device=device)
    marks = bits if keep is None else keep
    source, form = tables.source_of(x, table)
    launch(
        _advance, table.programs, bits, table.x, *source, old[0], old[-1], new[0], new[-1], bits.view(torch.int32),
        valid, moved, sums, counts, marks.view(torch.int32), *tables.each_of(ratio.float()),
        *tables.each_of(ratio if scale is None else scale.float()), 0.0 if inertia is None else float(inertia.mu),
        *rule[1],
        SIZE=SUMMED, TILES=TILES[summed], PARTS=PARTS[summed],
        KIND=kind_of(inertia), ZEROS=rule[0], MASKED=keep is not None,
        SUMMED=summed, **form,
    )  # fmt: skip
    if scale is None:
        found = _folded(sums, counts, rows, keep is not None)
        table = tables.coordinates(rows, DRAIN, device)
        launch(
            _drain, table.programs, bits, table.x, memory, new[0], bits.view(torch.int32), marks.view(torch.int32),
            found, valid, UNIT=table.unit, TILE=DRAIN, MASKED=keep is not None,
        )  # fmt: skip
        valid = valid & found.isfinite()
    else:
        found = scale
        repair(memory, new[0], valid, rows)
    if inertia is not None:
        repair(inertia.momentum, new[1], moved, rows)
    return Feedback(bits, valid, found, new[0], None if inertia is None else new[1])


def _held_whole(
    x: Vector,
    old: list[Tensor],
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    rule: tuple[int, tables.Position],
    rows: Ragged,
) -> Feedback:
    """The step of short rows, a program for each."""
    table = tables.coordinates(rows, LONGEST, x.device)
    bits = torch.empty(int(rows.words[-1]), dtype=torch.int64, device=x.device)
    new = [torch.empty_like(t) for t in old]
    valid = torch.empty(rows.num_rows, dtype=torch.bool, device=x.device)
    scale = torch.empty(rows.num_rows, dtype=torch.float32, device=x.device)
    marks = bits if keep is None else keep
    tiles = triton.next_power_of_2(max(portions(rows.longest, SUMMED), 1))
    warps = min(max(tiles * SUMMED // feedback_rows.SHARE // 32, 4), 32)
    source, form = tables.source_of(x, table)
    launch(
        _step, table.programs, bits, table.x, *source, old[0], old[-1], new[0], new[-1], bits.view(torch.int32), valid,
        scale, marks.view(torch.int32), *tables.each_of(ratio.float()), 0.0 if inertia is None else float(inertia.mu),
        *rule[1], SIZE=SUMMED, TILES=tiles, LEVELS=tiles.bit_length() - 1, KIND=kind_of(inertia), ZEROS=rule[0],
        MASKED=keep is not None, num_warps=warps, maxnreg=feedback_rows.REGISTERS if warps > 8 else None, **form,
    )  # fmt: skip
    return Feedback(bits, valid, scale, new[0], None if inertia is None else new[1])


def ragged_mean_abs(x: Vector, keep: Tensor | None, rows: Ragged) -> Tensor:
    """`ragged_reference.ragged_mean_abs`."""
    if x.dtype != torch.float32:
        return ragged_reference.ragged_mean_abs(vector_of(x), keep, rows)
    table = tables.coordinates(rows, TILE, x.device, "sums")
    sums = torch.empty(table.programs, dtype=torch.float32, device=x.device)
    counts = torch.zeros(rows.num_rows, dtype=torch.int32, device=x.device)
    marks = sums if keep is None else keep
    source, form = tables.source_of(x, table)
    launch(
        _sum, table.programs, sums, table.x, *source, marks, sums, counts, SIZE=TILE, MASKED=keep is not None, **form
    )
    return _folded(sums, counts, rows, keep is not None)


def _folded(sums: Tensor, counts: Tensor, rows: Ragged, masked: bool) -> Tensor:
    """The mean of each row (B,), from the sums of its tiles, which it uses up, and how many numbers each has."""
    starts = rows.kept(("sums", sums.device), lambda: to_device(torch.from_numpy(rows.starts(TILE)), sums.device))
    lengths = rows.kept(("lengths", sums.device), lambda: to_device(torch.from_numpy(rows.lengths), sums.device))
    out = torch.empty(rows.num_rows, dtype=torch.float32, device=sums.device)
    launch(_fold, rows.num_rows, sums, sums, starts, lengths, counts, out, SIZE=FOLD, MASKED=masked)
    return out


@triton.jit(do_not_specialize=("low", "high", "ratio_step", "scale_step"))
def _advance(
    table, x, where, memory, momentum, new_memory, new_momentum, bits, valid, moved, sums, counts, marks,
    ratios, ratio_step, scales, scale_step, mu, low, high, block, sender,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, PARTS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    n, row, place = tables.length(table, UNIT), tables.row(table), tables.offset(table, UNIT)
    scale = 0.0
    if not SUMMED:
        scale = tl.load(scales + row * scale_step)
    advance_tile(
        tables.start(x, where, table, UNIT, SCATTERED), memory + place, momentum + place, new_memory + place,
        new_momentum + place, bits + 2 * tables.word(table), valid + row, moved + row, sums + tables.third(table),
        counts + row, marks + 2 * tables.word(table),
        tl.load(ratios + row * ratio_step), scale, mu, n, tables.halves_of(n), tl.cdiv(n, SIZE), tables.tile(table),
        low, high, block + row, sender, SIZE, TILES, PARTS, KIND, ZEROS, MASKED, SUMMED,
    )  # fmt: skip


@triton.jit(do_not_specialize=("low", "high", "ratio_step"))
def _step(
    table, x, where, memory, momentum, new_memory, new_momentum, bits, valid, scales, marks, ratios, ratio_step, mu,
    low, high, block, sender,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, SIZE: tl.constexpr, TILES: tl.constexpr, LEVELS: tl.constexpr,
    KIND: tl.constexpr, ZEROS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    n, row, place = tables.length(table, UNIT), tables.row(table), tables.offset(table, UNIT)
    step_row(
        tables.start(x, where, table, UNIT, SCATTERED), memory + place, momentum + place, new_memory + place,
        new_momentum + place, bits + 2 * tables.word(table), valid + row, scales + row,
        marks + 2 * tables.word(table), tl.load(ratios + row * ratio_step), mu, n, tables.halves_of(n), low, high,
        block + row, sender, SIZE, TILES, LEVELS, KIND, ZEROS, MASKED,
    )  # fmt: skip


@triton.jit
def _drain(
    table, memory, new_memory, bits, marks, scales, valid,
    UNIT: tl.constexpr, TILE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    n, row, place = tables.length(table, UNIT), tables.row(table), tables.offset(table, UNIT)
    drain_tile(
        memory + place, new_memory + place, bits + 2 * tables.word(table), marks + 2 * tables.word(table),
        tl.load(scales + row), valid + row, n, tables.halves_of(n), tables.tile(table), TILE, MASKED,
    )  # fmt: skip


@triton.jit
def _sum(
    table, x, where, marks, sums, counts,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, SIZE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    one = tl.arange(0, 1)
    zero, start = one[:, None].to(tl.int64), tables.start(x, where, table, UNIT, SCATTERED)
    words = marks + tables.word(table) + zero
    tile = tables.tile(table) + one
    sum_tiles(
        start + zero, words, sums + tables.third(table) + tile, counts + tables.row(table) + one,
        tables.length(table, 1), tile, one == 0, SIZE, 1, True, MASKED,
    )  # fmt: skip


@triton.jit
def _fold(sums, starts, lengths, counts, out, SIZE: tl.constexpr, MASKED: tl.constexpr):
    """Sums padded to a power of two, halved until SIZE are left: each lane adds what it alone has written."""
    row, i = tl.program_id(0), tl.arange(0, SIZE)
    begin = tl.load(starts + row)
    own, tiles = sums + begin + i, (tl.load(starts + row + 1) - begin).to(tl.int32)
    size = tiles * 0 + SIZE
    while size < tiles:
        size *= 2
    while size > SIZE:
        size //= 2
        k = size * 0
        while k < size:
            upper = tl.load(own + k + size, mask=k + size + i < tiles, other=0)
            lower = tl.load(own + k, mask=k + i < tiles, other=0)
            tl.store(own + k, lower + upper, mask=k + i < tiles)
            k += SIZE
        tl.debug_barrier()  # a lane reads its own numbers, if loads and stores are laid out alike: this needs no if
        tiles = tl.minimum(tiles, size)
    total = fold(tl.reshape(tl.load(own, mask=i < tiles, other=0), (1, SIZE)), 1, SIZE, 10, True)
    count = tl.load(lengths + row).to(tl.int32)
    if MASKED:
        count = tl.load(counts + row)
    divisor = tl.maximum(count, 1).to(tl.float32) + tl.zeros((1,), tl.float32)
    tl.store(out + row + tl.arange(0, 1), divided(total, divisor))
