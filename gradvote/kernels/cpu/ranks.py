"""Compiled medians of many rows: the middle values bit by bit, from the number of rows below a trial value.

Floats become integers of the same order (NaN as +∞, −0 as 0). From the highest bit down, a bit belongs to the value of
rank r iff no more than r rows lie below the value with that bit. So the rows of a line of columns, which are in cache,
are read 32 (or 64) times; from about 64 rows on, sorting them takes longer.
"""

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gradvote.kernels.cpu.columns import read
from gradvote.kernels.cpu.emit import INT32, INT64, LINE, Builder, Value, broadcast, load, splat, store, vector
from gradvote.kernels.cpu.jit import instruction, kernel
from gradvote.kernels.cpu.sums import TILE, Addresses, Length, Scalar

CHUNK = 8
"""Rows that are compared together."""
STATE = 3
"""Lines of a state: the value found so far, the trial value, a number of rows."""


def new_buffer(num_rows: int, bits: int) -> NDArray[np.signedinteger]:
    """A line for every row, further ones that no trial value exceeds to make whole chunks, and a state."""
    lines = num_rows + -num_rows % CHUNK + STATE
    kind = np.int32 if bits == 32 else np.int64
    return np.full(lines * LINE * 8 // bits, np.iinfo(kind).max, kind)


@kernel
def middle(
    zero: Scalar,
    chunk: Length,
    bits: int,
    buffer: int,
    table: Addresses,
    places: Addresses,
    width: int,
    out: int,
    start: int,
    stop: int,
) -> None:
    """Medians of tiles `start` to `stop` of rows of `width` bytes, a line of columns of all rows at a time.

    `zero` gives the type of the items, of `bits` bits; `buffer` (see `new_buffer`) and `out` are addresses.
    """
    num_rows, tiles = table.shape[1], -(-width // TILE)
    state = buffer + LINE * (num_rows + -num_rows % CHUNK)
    for unit in range(start, stop):
        job, first = unit // tiles, unit % tiles * TILE
        for line in range(first, min(first + TILE, width), LINE):
            offset = min(line, width - LINE)
            for row in range(num_rows):
                _fetch(zero, table[job, row], offset, buffer + LINE * row)
            _find(zero, chunk, bits, (num_rows - 1) // 2, buffer, state)
            if num_rows % 2 == 0:
                _find_next(zero, chunk, num_rows // 2, buffer, state)
                _write_mean(zero, state, out + places[job] * width + offset)
            else:
                _write_value(zero, state, out + places[job] * width + offset)


@kernel
def _find(zero: Scalar, chunk: Length, bits: int, rank: int, rows: int, state: int) -> None:
    """Sets the state's value to the one of rank `rank`."""
    _lowest(zero, state)
    for bit in range(bits - 1, -1, -1):
        _try_bit(zero, bit, state)
        for row in range(rows, state, LINE * len(chunk)):
            _count_below(zero, chunk, row, state)
        _keep_bit(zero, rank, state)


@kernel
def _find_next(zero: Scalar, chunk: Length, rank: int, rows: int, state: int) -> None:
    """Sets the state's trial value to the one of rank `rank`, given the one before it."""
    _highest(zero, state)
    for row in range(rows, state, LINE * len(chunk)):
        _count_above(zero, chunk, row, state)
    _keep_next(zero, rank, state)


@instruction
def _fetch(builder: Builder, zero: Value, row: Value, offset: Value, place: Value) -> None:
    """Writes the integers that stand for a line of a row."""
    number = vector(zero.type)
    line = builder.fadd(read(builder, number, row, offset), splat(number, 0.0))
    store(builder, _flip(builder, builder.bitcast(line, _integer(zero))), place)


@instruction
def _lowest(builder: Builder, zero: Value, state: Value) -> None:
    kind = _integer(zero)
    store(builder, splat(kind, -(1 << kind.element.width - 1)), state)


@instruction
def _try_bit(builder: Builder, zero: Value, bit: Value, state: Value) -> None:
    """Trial value = value + 2^bit; none counted."""
    kind = _integer(zero)
    one = broadcast(builder, kind, _narrow(builder, builder.shl(INT64(1), bit), kind))
    _set(builder, state, builder.add(_get(builder, kind, state, 0), one), splat(kind, 0))


@instruction
def _count_below(builder: Builder, zero: Value, rows: object, row: Value, state: Value) -> None:
    """Counts the rows below the trial value."""
    kind = _integer(zero)
    trial, count = (_get(builder, kind, state, place) for place in (1, 2))
    for line in _lines(builder, kind, rows, row):
        below = builder.icmp_signed("<", line, trial)
        count = builder.sub(count, builder.sext(below, kind))
    _set(builder, state, trial, count)


@instruction
def _keep_bit(builder: Builder, zero: Value, rank: Value, state: Value) -> None:
    """Value = trial value where no more than `rank` rows are below that."""
    kind = _integer(zero)
    value, trial, count = (_get(builder, kind, state, place) for place in range(STATE))
    kept = builder.icmp_signed("<=", count, broadcast(builder, kind, _narrow(builder, rank, kind)))
    store(builder, builder.select(kept, trial, value), state)


@instruction
def _highest(builder: Builder, zero: Value, state: Value) -> None:
    kind = _integer(zero)
    _set(builder, state, splat(kind, (1 << kind.element.width - 1) - 1), splat(kind, 0))


@instruction
def _count_above(builder: Builder, zero: Value, rows: object, row: Value, state: Value) -> None:
    """Counts the rows up to the value; trial value = the least of those above it."""
    kind = _integer(zero)
    value, least, count = (_get(builder, kind, state, place) for place in range(STATE))
    for line in _lines(builder, kind, rows, row):
        above = builder.icmp_signed(">", line, value)
        count = builder.add(count, builder.zext(builder.not_(above), kind))
        less = builder.and_(above, builder.icmp_signed("<", line, least))
        least = builder.select(less, line, least)
    _set(builder, state, least, count)


@instruction
def _keep_next(builder: Builder, zero: Value, rank: Value, state: Value) -> None:
    """Trial value = value where more than `rank` rows go up to that."""
    kind = _integer(zero)
    value, trial, count = (_get(builder, kind, state, place) for place in range(STATE))
    equal = builder.icmp_signed(">", count, broadcast(builder, kind, _narrow(builder, rank, kind)))
    _set(builder, state, builder.select(equal, value, trial), count)


@instruction
def _write_value(builder: Builder, zero: Value, state: Value, out: Value) -> None:
    store(builder, _number(builder, zero, state, 0), out)


@instruction
def _write_mean(builder: Builder, zero: Value, state: Value, out: Value) -> None:
    total = builder.fadd(_number(builder, zero, state, 0), _number(builder, zero, state, 1))
    store(builder, builder.fdiv(total, splat(vector(zero.type), 2.0)), out)


def _number(builder: Builder, zero: Value, state: Value, place: int) -> Value:
    """A line of the state as floats."""
    return builder.bitcast(_flip(builder, _get(builder, _integer(zero), state, place)), vector(zero.type))


def _integer(zero: Value) -> Value:
    """The vector of integers as wide as the items."""
    return vector(INT32 if zero.type == ir.FloatType() else INT64)


def _flip(builder: Builder, line: Value) -> Value:
    """From the bits of floats to integers of the same order, and back: all but the sign of negative ones inverted."""
    width = line.type.element.width
    sign = builder.ashr(line, splat(line.type, width - 1))
    return builder.xor(line, builder.lshr(sign, splat(line.type, 1)))


def _narrow(builder: Builder, value: Value, kind: Value) -> Value:
    return builder.trunc(value, kind.element) if kind.element.width < 64 else value


def _lines(builder: Builder, kind: Value, rows: object, row: Value) -> list[Value]:
    assert hasattr(rows, "__len__")
    return [load(builder, kind, row, INT64(LINE * i)) for i in range(len(rows))]


def _get(builder: Builder, kind: Value, state: Value, place: int) -> Value:
    return load(builder, kind, state, INT64(LINE * place))


def _set(builder: Builder, state: Value, trial: Value, count: Value) -> None:
    store(builder, trial, state, INT64(LINE))
    store(builder, count, state, INT64(2 * LINE))
