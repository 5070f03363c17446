"""Compiled votes over tables of ballots, 512 coordinates at a time; no ballot is ever unpacked.

A masked ballot enters as two inputs, (word ∧ counted) and (word ∨ ¬counted): both set for a vote, none against, one
where it is silent. So k masked ballots are a plain vote of 2k inputs, and a win is "more than half of all inputs".
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradvote.kernels.cpu import count
from gradvote.kernels.cpu.count import WORDS
from gradvote.kernels.cpu.emit import INT64, Builder, Value, item, load, store, stream
from gradvote.kernels.cpu.jit import instruction, kernel, program
from gradvote.kernels.cpu.loops import at, ceiling, each, each_group, least, value_at

LANES = WORDS.count
TILE = 512
"""Words of a tile: a page of each row."""
CHUNK = 16
"""Inputs that `tally` counts together: the hardware follows that many rows."""

Words = NDArray[np.int64]
Shape = tuple[tuple[None, ...], ...]
"""One entry per ballot, of one or two words: as a type it tells the compiler how many there are."""


def shape(ballots: int, streams: int) -> Shape:
    """The shape of so many plain (1 stream) or masked (2 streams: word and counted) ballots."""
    return ((None,) * streams,) * ballots


@program
def vote(
    builder: Builder,
    ballots: Any,
    table: Value,
    places: Value,
    width: Value,
    ties: Value | None,
    won: Value,
    tied: Value,
    start: Value,
    stop: Value,
) -> None:
    """Tiles `start` to `stop` of rows by one straight line per ballot count; `ties`, `won`, `tied` are addresses.

    Where `ties` is None nothing can tie, and `tied` is left alone. The last line of a row overlaps the one before it.
    """
    with each_group(builder, start, stop, ceiling(builder, width, TILE)) as (job, tile):
        rows = at(builder, table, (job, 8 * sum(map(len, ballots))))
        before = builder.mul(value_at(builder, places, job), width)
        first, last = builder.mul(tile, INT64(TILE)), builder.sub(width, INT64(LANES))
        with each(builder, first, least(builder, builder.add(first, INT64(TILE)), width), LANES) as line:
            column = least(builder, line, last)
            offset, place = (builder.mul(words, INT64(8)) for words in (column, builder.add(before, column)))
            _decide(builder, ballots, rows, offset, ties, won, tied, place)


@kernel
def tally(
    chunk: Shape,
    planes: tuple[None, ...],
    initial: Words,
    counter: Words,
    rows: Words,
    table: Words,
    places: Words,
    width: int,
    ties: int | None,
    won: int,
    tied: int,
    start: int,
    stop: int,
) -> None:
    """`vote` for any number of ballots: `rows` is filled from `table`, and further entries point to silence.

    The counter (P, TILE) starts at `initial` = 2^(P−1) − threshold, so that its top plane marks the winners, and all
    other planes set mark the ties.
    """
    tiles = -(-width // TILE)
    for unit in range(start, stop):
        job, begin = unit // tiles, unit % tiles * TILE
        last = width - LANES - begin
        _begin(initial, counter, rows, table[job], begin)
        for chosen in range(0, len(rows), CHUNK):
            for line in range(0, min(TILE, width - begin), LANES):
                _add(chunk, rows[chosen:].ctypes.data, 8 * min(line, last), planes, counter[:, line:].ctypes.data)
        for line in range(0, min(TILE, width - begin), LANES):
            place = 8 * (places[job] * width + begin + min(line, last))
            _settle(planes, counter[:, line:].ctypes.data, ties, won, tied, place)


@kernel
def _begin(initial: Words, counter: Words, rows: Words, table: Words, begin: int) -> None:
    for row in range(len(table)):
        rows[row] = table[row] + 8 * begin
    for plane in range(len(initial)):
        for word in range(TILE):
            counter[plane, word] = initial[plane]


def _decide(
    builder: Builder, ballots: Any, table: Value, offset: Value, ties: Value, won: Value, tied: Value, place: Value
) -> None:
    """Counts a line of all ballots, at `offset` of the rows in `table`, and writes the result at `place`."""
    inputs = _inputs(builder, ballots, table, offset)
    planes, half = count.count(builder, inputs), len(inputs) // 2
    even = None if ties is None else count.equal(builder, planes, half)
    _write(builder, count.at_least(builder, planes, half + 1), even, ties, won, tied, place)


@instruction
def _add(builder: Builder, chunk: Any, table: Value, offset: Value, planes: Any, counter: Value) -> None:
    """Adds a line of a chunk of ballots to the planes at address `counter`, TILE words apart."""
    digits = count.count(builder, _inputs(builder, chunk, table, offset))
    total = count.add(builder, _planes(builder, planes, counter), digits)
    for plane, line in enumerate(total):
        store(builder, line, counter, INT64(8 * TILE * plane))


@instruction
def _settle(builder: Builder, planes: Any, counter: Value, ties: Value, won: Value, tied: Value, place: Value) -> None:
    """Writes what the planes at address `counter` decide."""
    *below, top = _planes(builder, planes, counter)
    even = None if ties is None else reduce(builder.and_, below, builder.not_(top))
    _write(builder, top, even, ties, won, tied, place)


def _inputs(builder: Builder, ballots: Any, table: Value, offset: Value) -> list[Value]:
    """The inputs that a line of ballots stands for."""
    lines = [
        [stream(builder, WORDS, item(builder, table, ballot * len(words) + i), offset) for i in range(len(words))]
        for ballot, words in enumerate(ballots)
    ]
    return [line for words in lines for line in (_masked(builder, *words) if len(words) == 2 else words)]


def _masked(builder: Builder, line: Value, counted: Value) -> tuple[Value, Value]:
    return builder.and_(line, counted), builder.or_(line, builder.not_(counted))


def _planes(builder: Builder, planes: Any, counter: Value) -> list[Value]:
    return [load(builder, WORDS, counter, INT64(8 * TILE * plane)) for plane in range(len(planes))]


def _write(builder: Builder, winners: Value, even: Value, ties: Value, won: Value, tied: Value, place: Value) -> None:
    """Writes a line of winners and, if there can be any (`even` is not None), of ties, settled by `ties`."""
    if even is not None:
        store(builder, even, tied, place)
        winners = builder.or_(winners, builder.and_(even, load(builder, WORDS, ties, place)))
    store(builder, winners, won, place)
