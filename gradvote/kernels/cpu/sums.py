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
from gradvote.kernels.cpu.jit import instruction, kernel

TILE = 4096
"""Bytes of a tile: a page of each row."""
CHUNK = 8
"""Rows that are added together."""

Addresses = NDArray[np.int64]
Scalar = np.floating[Any]
Length = tuple[None, ...]
"""A value whose type tells the compiler a number."""


@kernel
def fold(
    zero: Scalar,
    chunk: Length,
    one: Length,
    total: int,
    table: Addresses,
    weights: int | None,
    divisors: NDArray[np.floating[Any]],
    places: Addresses,
    width: int,
    out: int,
    start: int,
    stop: int,
) -> None:
    """Tiles `start` to `stop` of rows of `width` bytes: (((0 + w_1·x_1) + w_2·x_2) + ...) / divisor.

    `zero` gives the type of the items; `out`, the buffer `total` of a tile and `weights` (one per entry of the table,
    or None: all 1) are addresses.
    """
    num_rows, tiles = table.shape[1], -(-width // TILE)
    whole = num_rows - num_rows % len(chunk)
    for unit in range(start, stop):
        job, begin = unit // tiles, unit % tiles * TILE
        size, last = min(TILE, width - begin), width - LINE - begin
        for line in range(0, size, LINE):
            clear(zero, total + line)
        for row in range(0, whole, len(chunk)):
            for line in range(0, size, LINE):
                entry, offset = job * num_rows + row, begin + min(line, last)
                _add_rows(zero, chunk, table.ctypes.data, weights, entry, offset, total + line)
        for row in range(whole, num_rows):
            for line in range(0, size, LINE):
                entry, offset = job * num_rows + row, begin + min(line, last)
                _add_rows(zero, one, table.ctypes.data, weights, entry, offset, total + line)
        for line in range(0, size, LINE):
            divide(zero, total + line, divisors[job], out + places[job] * width + begin + min(line, last))


@instruction
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


@instruction
def clear(builder: Builder, zero: Value, place: Value) -> None:
    """Sets the line at `place` to +0."""
    store(builder, splat(vector(zero.type), 0.0), place)


@instruction
def add(builder: Builder, zero: Value, total: Value, place: Value) -> None:
    """Adds the line at `place` to the line at `total`."""
    kind = vector(zero.type)
    store(builder, builder.fadd(load(builder, kind, total), load(builder, kind, place)), total)


@instruction
def divide(builder: Builder, zero: Value, total: Value, divisor: Value, place: Value) -> None:
    """Writes the line at `total` over a number, of the type of `zero`, to `place`."""
    kind = vector(zero.type)
    store(builder, builder.fdiv(load(builder, kind, total), broadcast(builder, kind, divisor)), place)
