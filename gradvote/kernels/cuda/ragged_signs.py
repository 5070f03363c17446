"""Signs and averages of rows of unequal length: `ragged_reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import ragged_reference
from gradvote.kernels.cuda import averages, noisy_signs, philox, tables, units
from gradvote.kernels.cuda.averages import NARROW, average_tile, bounded, repair_tile
from gradvote.kernels.cuda.formulas import kind_of
from gradvote.kernels.cuda.launch import launch
from gradvote.kernels.cuda.noisy_signs import noisy_tile
from gradvote.kernels.cuda.rows import number_of
from gradvote.kernels.cuda.tiles import before, is_finite, load, negative, packed, special
from gradvote.kernels.cuda.units import whole_tile
from gradvote.kernels.ragged_reference import Weights
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from gradvote.scattered import Vector, vector_of

TILE = 2048
"""Coordinates of a row that one program takes: its units of 64 fill one word of 32 bits."""
_ZEROS = ("zero_low", "zero_high")


def ragged_signs(x: Vector, zeros: Draw | bool, still: bool, rows: Ragged) -> tuple[Tensor, Tensor, Tensor | None]:
    """`ragged_reference.ragged_signs`."""
    table = tables.coordinates(rows, TILE, x.device)
    rule = tables.zeros_of(zeros, rows, table.x)
    if rule is None or x.dtype not in NARROW:
        return ragged_reference.ragged_signs(vector_of(x), zeros, still, rows)
    results, places = _results(x, still, rows)
    source, form = tables.source_of(x, table)
    launch(
        _signs, table.programs, results[0], table.x, *source, *places, *rule[1],
        TILE=TILE, ZEROS=rule[0], STILL=still, APART=_are_apart(still, rows), **form,
    )  # fmt: skip
    return _marked(results, still, rows)


def ragged_averaged_signs(
    old: Tensor, x: Vector, voted: Weights, kept: Weights, zeros: Draw | bool, still: bool, rows: Ragged
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """`ragged_reference.ragged_averaged_signs`: what is voted on is never written."""
    table = tables.coordinates(rows, TILE, x.device)
    rule = tables.zeros_of(zeros, rows, table.x)
    if rule is None or x.dtype not in NARROW or old.dtype != torch.float32:
        return ragged_reference.ragged_averaged_signs(old, vector_of(x), voted, kept, zeros, still, rows)
    results, places = _results(x, still, rows)
    new, whole = torch.empty_like(old), torch.ones(rows.num_rows, dtype=torch.bool, device=old.device)
    source, form = tables.source_of(x, table)
    launch(
        _averaged_signs, table.programs, old, table.x, *source, *places, *rule[1], old, new, whole,
        *map(float, (*voted, *kept)), TILE=TILE, ZEROS=rule[0], STILL=still, APART=_are_apart(still, rows), **form,
    )  # fmt: skip
    repair(old, new, whole, rows)
    return *_marked(results, still, rows), new


def _are_apart(still: bool, rows: Ragged) -> bool:
    """Whether there are units to be marked that are no words."""
    return still and not bool(rows.are_words.all())


def _results(
    like: Vector, still: bool, rows: Ragged
) -> tuple[tuple[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, ...]]:
    """Room for words, flags, marks, and zeros where units are no words; and the same as arguments of a kernel."""
    out, valid = _words(like, int(rows.words[-1])), torch.ones(rows.num_rows, dtype=torch.bool, device=like.device)
    marks = _words(like, int(rows.unit_words[-1])) if still else None
    zero = _words(like, int(rows.words[-1])) if _are_apart(still, rows) else out
    places = [own.view(torch.int32) for own in (out, out if marks is None else marks, zero)]
    return (out, valid, marks, zero), (*places, valid)


def _marked(
    results: tuple[Tensor, Tensor, Tensor | None, Tensor], still: bool, rows: Ragged
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Words, flags and marks, when the units that are no words are marked, too."""
    out, valid, marks, zero = results
    if marks is not None and _are_apart(still, rows):
        whole_units(zero, marks, tables.units(rows, units.TILE, out.device, others=True))
    return out, valid, marks


def whole_units(words: Tensor, marks: Tensor, table: tables.Table) -> None:
    """Mark in words (U,) which units of a table's rows have all their bits set in words (W,)."""
    own, out = words.view(torch.int32), marks.view(torch.int32)
    launch(_whole, table.programs, words, table.x, own, out, TILE=units.TILE)


def ragged_noisy_signs(
    x: Vector, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool, rows: Ragged
) -> tuple[Tensor, Tensor]:
    """`ragged_reference.ragged_noisy_signs`."""
    table = tables.coordinates(rows, 64 * noisy_signs.TILES * noisy_signs.PARTS, x.device)
    kind, rule, position = kind_of(distribution), tables.zeros_of(zeros, rows, table.x), tables.position_of(draw, rows)
    if rule is None or position is None or x.dtype not in NARROW:
        return ragged_reference.ragged_noisy_signs(vector_of(x), std, draw, distribution, zeros, rows)
    out = _words(x, int(rows.words[-1]))
    valid = torch.ones(rows.num_rows, dtype=torch.bool, device=x.device)
    scale = number_of(std, valid.shape, table.x)
    source, form = tables.source_of(x, table)
    launch(
        _noisy, table.programs, out, table.x, *source, out.view(torch.int32), valid, scale.x, scale.inner_stride,
        scale.plain, *position, *rule[1], GIVEN=isinstance(std, Tensor), KIND=kind, ZEROS=rule[0],
        TILES=noisy_signs.TILES, PARTS=noisy_signs.PARTS, num_warps=1, **form,
    )  # fmt: skip
    return out, valid


def ragged_average(old: Tensor, beta: float, x: Vector, gain: float, rows: Ragged) -> tuple[Tensor, Tensor]:
    """`ragged_reference.ragged_average`."""
    if x.dtype not in NARROW or old.dtype != torch.float32:
        return ragged_reference.ragged_average(old, beta, vector_of(x), gain, rows)
    new, kept = torch.empty_like(old), torch.empty_like(old)
    whole = torch.ones(rows.num_rows, dtype=torch.bool, device=x.device)
    table = tables.coordinates(rows, averages.TILE, x.device)
    source, form = tables.source_of(x, table)
    launch(
        _average, table.programs, old, table.x, old, *source, new, kept, whole, float(beta), float(gain),
        TILE=averages.TILE, **form,
    )  # fmt: skip
    repair(old, kept, whole, rows)
    return new, kept


def repair(old: Tensor, new: Tensor, whole: Tensor, rows: Ragged) -> None:
    """Gives the rows of `new` (d,) that are not `whole` (B,) what they were in `old`."""
    table = tables.coordinates(rows, averages.REPAIR, new.device)
    launch(_repair, table.programs, new, table.x, old, new, whole, UNIT=table.unit, TILE=averages.REPAIR)


def _words(like: Vector, number: int) -> Tensor:
    return torch.empty(number, dtype=torch.int64, device=like.device)


@triton.jit(do_not_specialize=("low", "high"))
def _signs(
    table, x, where, out, marks, zeros, valid, low, high, block, sender,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, TILE: tl.constexpr, ZEROS: tl.constexpr, STILL: tl.constexpr,
    APART: tl.constexpr,
):  # fmt: skip
    n = tables.length(table, UNIT)
    values = load(tables.start(x, where, table, UNIT, SCATTERED), tables.tile(table) * TILE + tl.arange(0, TILE), n)
    _sign_tile(values, n, table, out, marks, zeros, valid, low, high, block, sender, TILE, ZEROS, STILL, APART)


@triton.jit(do_not_specialize=("low", "high"))
def _averaged_signs(
    table, x, where, out, marks, zeros, valid, low, high, block, sender, old, new, whole,
    beta, gain, kept_beta, kept_gain,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, TILE: tl.constexpr, ZEROS: tl.constexpr, STILL: tl.constexpr,
    APART: tl.constexpr,
):  # fmt: skip
    n, j, place = tables.length(table, UNIT), tables.tile(table) * TILE + tl.arange(0, TILE), tables.offset(table, UNIT)
    before, added = load(old + place, j, n), bounded(load(tables.start(x, where, table, UNIT, SCATTERED), j, n))
    kept = before * kept_beta + added * kept_gain
    tl.store(new + place + j, kept, mask=j < n)
    if tl.min((is_finite(kept) | (j >= n)).to(tl.int32)) == 0:
        tl.store(whole + tables.row(table), False)
    values = before * beta + added * gain
    _sign_tile(values, n, table, out, marks, zeros, valid, low, high, block, sender, TILE, ZEROS, STILL, APART)


@triton.jit
def _sign_tile(
    values, n, table, out, marks, zeros, valid, low, high, block, sender,
    TILE: tl.constexpr, ZEROS: tl.constexpr, STILL: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """The signs of a tile, and marks of its units that are words, in one pass: most tiles have no zero at all.

    Of units that are no words (APART) only the zeros are marked here. What is beyond n is zero.
    """
    tile, row = tables.tile(table), tables.row(table)
    place = tile * (TILE // 32) + tl.arange(0, TILE // 32)
    result, units_of_zeros = ~negative(values, TILE), tile * 0
    zero = tl.zeros((TILE // 32,), tl.int32)
    if special(values):
        result = packed(values > 0, TILE)
        if tl.min(is_finite(values).to(tl.int32)) == 0:
            tl.store(valid + row, False)
        zero = packed(values == 0, TILE) & before(n, 32 * place)
        if STILL:
            full = tl.reshape((zero == before(n, 32 * place)).to(tl.int32), (TILE // 64, 2))
            lower, upper = tl.split(full)
            unit = tl.arange(0, TILE // 64)
            units_of_zeros = tl.sum((lower & upper & (tile * TILE + 64 * unit < n).to(tl.int32)) << unit)
        if ZEROS == 1:
            result |= zero
        if ZEROS == 2:
            result |= zero & philox.word(place, tl.load(block + row), tl.load(sender), low, high)
    inside = place < tables.halves_of(n)
    tl.store(out + 2 * tables.word(table) + place, result, mask=inside)
    if STILL:
        words_are_units = tables.units_are_words(table)
        target = marks + 2 * tables.third(table) + tile
        tl.store(target, units_of_zeros, mask=words_are_units)
        beyond = ((tile + 1) * TILE >= n) & (tile % 2 == 0)  # the upper half of the last word
        tl.store(target + 1, tile * 0, mask=words_are_units & beyond)
        if APART:
            tl.store(zeros + 2 * tables.word(table) + place, zero, mask=inside & (words_are_units == 0))


@triton.jit
def _whole(table, words, marks, TILE: tl.constexpr):
    n, size, phase = tables.length(table, 1), tables.unit(table), tables.phase(table)
    number = tables.units_in(n, size, phase)
    whole_tile(
        words + 2 * tables.word(table), marks + 2 * tables.third(table), n, number, tables.halves_of(number),
        tables.tile(table), size, tl.maximum(phase, 0), TILE,
    )  # fmt: skip


@triton.jit(do_not_specialize=("low", "high", *_ZEROS))
def _noisy(
    table, x, where, out, valid, std, std_step, plain, low, high, block, sender,
    zero_low, zero_high, zero_block, zero_sender,
    GIVEN: tl.constexpr, KIND: tl.constexpr, ZEROS: tl.constexpr, UNIT: tl.constexpr, SCATTERED: tl.constexpr,
    TILES: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    n, row = tables.length(table, UNIT), tables.row(table)
    if GIVEN:
        plain = tl.load(std + row * std_step).to(tl.float32)
    noisy_tile(
        tables.start(x, where, table, UNIT, SCATTERED), out + 2 * tables.word(table), valid + row, n,
        tables.halves_of(n), tables.tile(table), plain * tl.full((), 1.0, tl.float32), low, high,
        tl.load(block + row), tl.load(sender), zero_low, zero_high, zero_block + row, zero_sender,
        KIND, ZEROS, TILES, PARTS,
    )  # fmt: skip


@triton.jit
def _average(
    table, old, x, where, new, kept, whole, beta, gain,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    place = tables.offset(table, UNIT)
    average_tile(
        old + place, tables.start(x, where, table, UNIT, SCATTERED), new + place, kept + place,
        whole + tables.row(table), beta, gain, tables.length(table, UNIT), tables.tile(table), TILE,
    )  # fmt: skip


@triton.jit
def _repair(table, old, new, whole, UNIT: tl.constexpr, TILE: tl.constexpr):
    place = tables.offset(table, UNIT)
    n, tile = tables.length(table, UNIT), tables.tile(table)
    repair_tile(old + place, new + place, whole + tables.row(table), n, tile, TILE)
