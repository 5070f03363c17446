"""Compiled sums over tables of rows: left folds in the order of the table, a tile of columns at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradvote.kernels.cpu.emit import (
    INT64,
    LINE,
    Builder,
    Value,
    broadcast,
    item,
    load,
    past,
    splat,
    store,
    stream,
    vector,
)
from gradvote.kernels.cpu.jit import instruction, program
from gradvote.kernels.cpu.loops import ZERO, at, ceiling, each, each_group, least, value_at

TILE = 4096
"""Bytes of a tile: a page of each row."""
CHUNK = 8
"""Rows that are added together."""

Addresses = NDArray[np.int64]
Scalar = np.floating[Any]
Length = tuple[None, ...]
"""A value whose type tells the compiler a number."""


@program
def fold(
    builder: Builder,
    zero: Value,
    chunk: Any,
    one: Any,
    total: Value,
    table: Value,
    num_rows: Value,
    weights: Value | None,
    divisors: Value,
    places: Value,
    width: Value,
    out: Value,
    start: Value,
    stop: Value,
) -> None:
    """Tiles `start` to `stop` of rows of `width` bytes: (((0 + w_1·x_1) + w_2·x_2) + ...) / divisor.

    `zero` gives the type of the items; all but `num_rows` (of a table) and `width` are addresses, `total` that of a
    buffer for a tile and `weights` (one per entry of the table) of None for all 1.
    """
    whole = builder.sub(num_rows, builder.srem(num_rows, INT64(len(chunk))))
    with each_group(builder, start, stop, ceiling(builder, width, TILE)) as (job, tile):
        begin = builder.mul(tile, INT64(TILE))
        left = builder.sub(width, begin)
        size, last = least(builder, INT64(TILE), left), builder.sub(left, INT64(LINE))
        before = builder.mul(job, num_rows)
        with each(builder, ZERO, size, LINE) as line:
            clear_line(builder, zero, builder.add(total, line))
        for rows, first, behind in ((chunk, ZERO, whole), (one, whole, num_rows)):
            with each(builder, first, behind, len(rows)) as row, each(builder, ZERO, size, LINE) as line:
                entry, offset = builder.add(before, row), builder.add(begin, least(builder, line, last))
                _add_rows(builder, zero, rows, table, weights, entry, offset, builder.add(total, line))
        target = at(builder, out, (value_at(builder, places, job), width), (begin, 1))
        divisor = value_at(builder, divisors, job, zero.type)
        with each(builder, ZERO, size, LINE) as line:
            place = builder.add(target, least(builder, line, last))
            divide_line(builder, zero, builder.add(total, line), divisor, place)


def _add_rows(
    builder: Builder, zero: Value, rows: Any, table: Value, weights: Value, entry: Value, offset: Value, total: Value
) -> None:
    """Adds a line of rows, times their weights, to the line at `total`; the first row is entry `entry` of the table."""
    kind = vector(zero.type)
    inputs, line = past(builder, table, entry, INT64), load(builder, kind, total)
    for row in range(len(rows)):
        term = stream(builder, kind, item(builder, inputs, row), offset)
        if weights is not None:
            weight = item(builder, past(builder, weights, entry, zero.type), row, zero.type)
            term = builder.fmul(term, broadcast(builder, kind, weight))
        line = builder.fadd(line, term)
    store(builder, line, total)


def clear_line(builder: Builder, zero: Value, place: Value) -> None:
    """Sets the line at `place` to +0."""
    store(builder, splat(vector(zero.type), 0.0), place)


def add_line(builder: Builder, zero: Value, total: Value, place: Value) -> None:
    """Adds the line at `place` to the line at `total`."""
    kind = vector(zero.type)
    store(builder, builder.fadd(load(builder, kind, total), load(builder, kind, place)), total)


def divide_line(builder: Builder, zero: Value, total: Value, divisor: Value, place: Value) -> None:
    """Writes the line at `total` over a number, of the type of `zero`, to `place`."""
    kind = vector(zero.type)
    store(builder, builder.fdiv(load(builder, kind, total), broadcast(builder, kind, divisor)), place)


clear, add, divide = (instruction(write) for write in (clear_line, add_line, divide_line))
