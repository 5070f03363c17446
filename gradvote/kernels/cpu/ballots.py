"""Compiled votes over tables of ballots, 512 coordinates at a time; no ballot is ever unpacked.

A masked ballot enters as two inputs, (word ∧ counted) and (word ∨ ¬counted): both set for a vote, none against, one
where it is silent. So k masked ballots are a plain vote of 2k inputs, and a win is "more than half of all inputs".
"""

from functools import reduce
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from gradvote.kernels.cpu import count
from gradvote.kernels.cpu.count import WORDS
from gradvote.kernels.cpu.emit import INT64, Builder, Value, item, load, store, stream
from gradvote.kernels.cpu.jit import emitted, kernel

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


@kernel
def vote(
    ballots: Shape,
    table: Words,
    places: Words,
    width: int,
    ties: int | None,
    won: int,
    tied: int,
    start: int,
    stop: int,
) -> None:
    """Tiles `start` to `stop` of rows by one straight line per ballot count; `ties`, `won`, `tied` are addresses.

    Where `ties` is None nothing can tie, and `tied` is left alone. The last line of a row overlaps the one before it.
    """
    tiles = -(-width // TILE)
    for unit in range(start, stop):
        job, first = unit // tiles, unit % tiles * TILE
        rows = table[job].ctypes.data
        for line in range(first, min(first + TILE, width), LANES):
            column = min(line, width - LANES)
            _decide(ballots, rows, 8 * column, ties, won, tied, 8 * (places[job] * width + column))


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


@emitted
def _decide(typing: Any, ballots: Any, table: Any, offset: Any, ties: Any, won: Any, tied: Any, place: Any) -> Any:
    """Counts a line of all ballots, at `offset` of the rows in `table`, and writes the result at `place`."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        inputs = _inputs(builder, ballots, args[1], args[2])
        planes, half = count.count(builder, inputs), len(inputs) // 2
        winners = count.at_least(builder, planes, half + 1)
        _write(builder, winners, None if ties is types.none else count.equal(builder, planes, half), *args[3:])
        return context.get_dummy_value()

    return types.void(ballots, table, offset, ties, won, tied, place), generate


@emitted
def _add(typing: Any, chunk: Any, table: Any, offset: Any, planes: Any, counter: Any) -> Any:
    """Adds a line of a chunk of ballots to the planes at address `counter`, TILE words apart."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        total = _planes(builder, len(planes), args[4])
        digits = count.count(builder, _inputs(builder, chunk, args[1], args[2]))
        for plane, line in enumerate(count.add(builder, total, digits)):
            store(builder, line, args[4], INT64(8 * TILE * plane))
        return context.get_dummy_value()

    return types.void(chunk, table, offset, planes, counter), generate


@emitted
def _settle(typing: Any, planes: Any, counter: Any, ties: Any, won: Any, tied: Any, place: Any) -> Any:
    """Writes what the planes at address `counter` decide."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        *below, top = _planes(builder, len(planes), args[1])
        even = reduce(builder.and_, below, builder.not_(top))
        _write(builder, top, None if ties is types.none else even, *args[2:])
        return context.get_dummy_value()

    return types.void(planes, counter, ties, won, tied, place), generate


def _inputs(builder: Builder, ballots: Any, table: Value, offset: Value) -> list[Value]:
    """The inputs that a line of ballots stands for."""
    lines = [
        [stream(builder, WORDS, item(builder, table, ballot * len(words) + i), offset) for i in range(len(words))]
        for ballot, words in enumerate(ballots)
    ]
    return [line for words in lines for line in (_masked(builder, *words) if len(words) == 2 else words)]


def _masked(builder: Builder, line: Value, counted: Value) -> tuple[Value, Value]:
    return builder.and_(line, counted), builder.or_(line, builder.not_(counted))


def _planes(builder: Builder, number: int, counter: Value) -> list[Value]:
    return [load(builder, WORDS, counter, INT64(8 * TILE * plane)) for plane in range(number)]


def _write(builder: Builder, winners: Value, even: Value, ties: Value, won: Value, tied: Value, place: Value) -> None:
    """Writes a line of winners and, if there can be any (`even` is not None), of ties, settled by `ties`."""
    if even is not None:
        store(builder, even, tied, place)
        winners = builder.or_(winners, builder.and_(even, load(builder, WORDS, ties, place)))
    store(builder, winners, won, place)
