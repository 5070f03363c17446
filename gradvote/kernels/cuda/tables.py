"""Rows of unequal length on a card: which row each program works on, and where that stands.

A kernel takes one program for each tile of each row. Its line of the table has all that it must know, so that it waits
for memory once: the row, the number of the tile in it, n, and where in their vectors the row's coordinates, its words
and its share of a third one begin; the length of its units of zeros, and how far into one it begins (−1: with one).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels.cuda.launch import halves
from gradvote.kernels.cuda.rows import VECTOR
from gradvote.ragged import Numbers, Ragged
from gradvote.rng import Draw
from gradvote.scattered import Scattered, Vector
from gradvote.staging import to_device

ROW, TILE, LENGTH, OFFSET, WORD, THIRD, UNIT_LENGTH, PHASE = (tl.constexpr(i) for i in range(8))
COLUMNS = tl.constexpr(8)


class Table(NamedTuple):
    """Its lines (programs, COLUMNS), and how many programs there are.

    `unit`: every row begins at a multiple of so many coordinates, and has a multiple of as many.
    """

    x: Tensor
    programs: int
    unit: int


class Position(NamedTuple):
    """A draw as arguments of a kernel: the key, the block of each row, and the sender."""

    low: int
    high: int
    block: Tensor
    sender: Tensor


LONGEST = 2**31 - 2**20
"""Coordinates of a row that 32 bits still count when a tile reaches beyond its end."""


def coordinates(
    rows: Ragged, tile: int, device: torch.device, third: str = "unit_words", others: bool = False
) -> Table:
    """A program for each tile of so many coordinates; `third`: "unit_words", or "sums", one for each 1,024.

    `others`: of rows whose units are no words only, here and below.
    """
    return _table(
        rows, ("coordinates", tile, third), device, lambda: (rows.lengths, tile, _thirds(rows, third)), others
    )


def words(rows: Ragged, tile: int, device: torch.device) -> Table:
    """A program for each tile of so many words of 32 bits."""
    return _table(rows, ("words", tile), device, lambda: (2 * rows.widths, tile, rows.unit_words))


def units(rows: Ragged, tile: int, device: torch.device, others: bool = False) -> Table:
    """A program for each tile of so many units of zeros."""
    return _table(rows, ("units", tile), device, lambda: (rows.unit_counts, tile, rows.unit_words), others)


class Source(NamedTuple):
    """Coordinates as arguments of a kernel: where addresses are counted from, and those of rows that are scattered."""

    x: Tensor
    where: Tensor


def source_of(x: Vector, table: Table) -> tuple[Source, dict[str, int]]:
    """Coordinates (d,) of rows, and a kernel's UNIT and SCATTERED for them."""
    if not isinstance(x, Scattered):
        return Source(x, table.x), {"UNIT": table.unit, "SCATTERED": False}
    return Source(x.base, x.where), {"UNIT": min(table.unit, x.unit(VECTOR)), "SCATTERED": True}


def position_of(draw: Draw, rows: Ragged) -> Position | None:
    """A draw of one sender for each row; None where there are more senders."""
    if draw.sender.numel() != 1 or draw.block.numel() != rows.num_rows:
        return None
    return Position(*halves(draw.key), draw.block.contiguous(), draw.sender)


def zeros_of(zeros: Draw | bool, rows: Ragged, like: Tensor) -> tuple[int, Position] | None:
    """The rule for exact zeros, as a kernel's ZEROS and the position of what is drawn."""
    if not isinstance(zeros, Draw):
        return int(zeros), Position(0, 0, like, like)
    position = position_of(zeros, rows)
    return None if position is None else (2, position)


def each_of(value: Tensor) -> tuple[Tensor, int]:
    """A number of each row (B,), or one for all (): it and its stride."""
    return value, value.stride(0) if value.numel() > 1 else 0


def _thirds(rows: Ragged, third: str) -> Numbers:
    return rows.unit_words if third == "unit_words" else rows.starts(1024)


def _table(
    rows: Ragged,
    key: tuple[object, ...],
    device: torch.device,
    how: Callable[[], tuple[Numbers, int, Numbers]],
    others: bool = False,
) -> Table:
    def made() -> Table:
        if rows.longest >= LONGEST:
            raise ValueError(
                f"A block has {rows.longest} coordinates; kernels of a card count up to {LONGEST} in one. Give the "
                "algorithm a block_size, as dataclasses.replace(algorithm, block_size=16384)."
            )
        items, tile, third = how()
        tiles = -(-items // tile)
        row = np.repeat(np.arange(rows.num_rows), tiles)
        first = np.concatenate((np.zeros(1, np.int64), np.cumsum(tiles)))[row]
        ends = (rows.lengths, rows.offsets[:-1], rows.words[:-1], third[:-1], rows.units, rows.phases)
        lines = np.stack([row, np.arange(len(row)) - first, *(own[row] for own in ends)], 1)
        lines = lines[~rows.are_words[row]] if others else lines
        aligned = not ((rows.lengths % VECTOR).any() or (rows.offsets % VECTOR).any())
        return Table(to_device(torch.from_numpy(lines), device), len(lines), VECTOR if aligned else 1)

    return rows.kept((*key, others, device), made)


@triton.jit
def entry(table, column: tl.constexpr):
    """A number of the program's own line."""
    return tl.load(table + tl.program_id(0).to(tl.int64) * COLUMNS + column)


@triton.jit
def row(table):
    """The number of the program's row."""
    return entry(table, ROW)


@triton.jit
def tile(table):
    """The number of the program's tile in its row."""
    return entry(table, TILE).to(tl.int32)


@triton.jit
def length(table, UNIT: tl.constexpr):
    """n of the program's row, in a form that shows that it is a multiple of UNIT."""
    return entry(table, LENGTH).to(tl.int32) // UNIT * UNIT


@triton.jit
def offset(table, UNIT: tl.constexpr):
    """Where the row's coordinates begin, in a form that shows that it is a multiple of UNIT."""
    return entry(table, OFFSET) // UNIT * UNIT


@triton.jit
def start(x, where, table, UNIT: tl.constexpr, SCATTERED: tl.constexpr):
    """The address of the row's first coordinate in x, or where it stands if the rows are scattered."""
    if SCATTERED:
        place = tl.load(where + row(table)) // UNIT * UNIT
    else:
        place = offset(table, UNIT)
    return x + place


@triton.jit
def word(table):
    """Where the row's words of 64 bits begin."""
    return entry(table, WORD)


@triton.jit
def third(table):
    """Where its share of the third vector begins."""
    return entry(table, THIRD)


@triton.jit
def unit(table):
    """The length of the row's units of zeros."""
    return entry(table, UNIT_LENGTH).to(tl.int32)


@triton.jit
def phase(table):
    """How far into a unit the row begins; −1: with one, as do all of its group."""
    return entry(table, PHASE).to(tl.int32)


@triton.jit
def units_are_words(table):
    """Whether each unit of the row is one of its words."""
    return (unit(table) == 64) & (phase(table) < 0)


@triton.jit
def units_in(n, size, own_phase):
    """The most units of so many coordinates that a row of n has (`core.Units.count`)."""
    return tl.where(own_phase < 0, tl.cdiv(n, size), (n + size - 2) // size + 1)


@triton.jit
def halves_of(n):
    """Words of 32 bits that a row of n coordinates fills, in whole words of 64."""
    return tl.cdiv(n, 64) * 2
