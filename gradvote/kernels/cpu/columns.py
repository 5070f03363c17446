"""Compiled order statistics over tables of rows: a line of columns at a time, without transposing copies.

NaN counts as +∞. The ranks low .. k − 1 − low of k rows are added to +0 in ascending order and divided by their number,
so that the sign of a zero never shows in the result.
"""

from functools import partial, reduce
from typing import Any

from gradvote.kernels.cpu.emit import INT64, LINE, Builder, Value, item, load, splat, store, stream, vector
from gradvote.kernels.cpu.jit import instruction, kernel, program
from gradvote.kernels.cpu.loops import at, ceiling, each, each_group, least, value_at
from gradvote.kernels.cpu.networks import sort
from gradvote.kernels.cpu.sums import TILE, Addresses, Scalar, add, clear, divide

AHEAD = 1024
"""Bytes ahead of a load that are asked for: a network takes longer for a line than a vote."""


@program
def select(
    builder: Builder,
    zero: Value,
    rows: Any,
    low: Any,
    table: Value,
    places: Value,
    width: Value,
    out: Value,
    start: Value,
    stop: Value,
) -> None:
    """Tiles `start` to `stop` of rows of `width` bytes by one network; the last line of a row overlaps the one before.

    `zero` gives the type of the items; `out` is an address.
    """
    with each_group(builder, start, stop, ceiling(builder, width, TILE)) as (job, tile):
        inputs = at(builder, table, (job, 8 * len(rows)))
        target = at(builder, out, (value_at(builder, places, job), width))
        first, last = builder.mul(tile, INT64(TILE)), builder.sub(width, INT64(LINE))
        with each(builder, first, least(builder, builder.add(first, INT64(TILE)), width), LINE) as line:
            offset = least(builder, line, last)
            _select_line(builder, zero, rows, low, inputs, offset, builder.add(target, offset))


@kernel
def sort_and_select(
    zero: Scalar,
    low: int,
    left: Scalar,
    table: Addresses,
    places: Addresses,
    width: int,
    out: int,
    lines: int,
    start: int,
    stop: int,
) -> None:
    """The same for any number of rows, one line of columns of all rows at a time, sorted in the buffer `lines`."""
    num_rows, tiles = table.shape[1], -(-width // TILE)
    for unit in range(start, stop):
        job, first = unit // tiles, unit % tiles * TILE
        for line in range(first, min(first + TILE, width), LINE):
            offset = min(line, width - LINE)
            for row in range(num_rows):
                _fetch(zero, table[job, row], offset, lines + LINE * row)
            _sort(zero, lines, num_rows)
            total = lines + LINE * num_rows
            clear(zero, total)
            for rank in range(low, num_rows - low):
                add(zero, total, lines + LINE * rank)
            divide(zero, total, left, out + places[job] * width + offset)


@kernel
def _sort(zero: Scalar, lines: int, count: int) -> None:
    """Merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M) of lines in memory."""
    top = 1
    while 2 * top < count:
        top *= 2
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            for first in range(r, count - d, 2 * p):
                for i in range(first, min(first + p, count - d)):
                    _exchange(zero, lines + LINE * i, lines + LINE * (i + d))
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2


def _ordered(builder: Builder, a: Value, b: Value) -> tuple[Value, Value]:
    """The smaller and the larger; there is no NaN left, and the sign of a zero does not matter."""
    flags = ("nnan", "nsz")
    smaller = builder.select(builder.fcmp_ordered("<", a, b, flags=flags), a, b, flags=flags)
    larger = builder.select(builder.fcmp_ordered(">", a, b, flags=flags), a, b, flags=flags)
    return smaller, larger


def read(builder: Builder, kind: Value, row: Value, offset: Value) -> Value:
    """A line of a row, +∞ in place of NaN."""
    line, infinity = stream(builder, kind, row, offset, AHEAD), splat(kind, float("inf"))
    return builder.select(builder.fcmp_ordered("<", line, infinity), line, infinity)


def _select_line(builder: Builder, zero: Value, rows: Any, low: Any, table: Value, offset: Value, out: Value) -> None:
    """Sorts a line of columns in registers and writes the mean of the ranks that are left to address `out`."""
    kind = vector(zero.type)
    lines = [read(builder, kind, item(builder, table, row), offset) for row in range(len(rows))]
    ranks = sort(lines, partial(_ordered, builder))[len(low) : len(rows) - len(low)]
    total = reduce(builder.fadd, ranks, splat(kind, 0.0))
    store(builder, builder.fdiv(total, splat(kind, float(len(ranks)))), out)


@instruction
def _fetch(builder: Builder, zero: Value, row: Value, offset: Value, place: Value) -> None:
    """Copies a line of a row to address `place`, +∞ in place of NaN."""
    store(builder, read(builder, vector(zero.type), row, offset), place)


@instruction
def _exchange(builder: Builder, zero: Value, first: Value, second: Value) -> None:
    """Puts the smaller items of two lines in memory first."""
    lines = [load(builder, vector(zero.type), place) for place in (first, second)]
    for line, place in zip(_ordered(builder, *lines), (first, second), strict=True):
        store(builder, line, place)
