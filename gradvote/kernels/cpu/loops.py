"""Loops and addresses in emitted code, for whole kernels that are written as one `jit.program`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from gradvote.kernels.cpu.emit import LINE, ask
from gradvote.kernels.cpu.lanes import INT8, INT64, Builder, Scalar

ZERO = INT64(0)
AHEAD = 2048
"""Bytes ahead of a group that are asked for: the hardware stops at every page, and does not follow what is written."""

Place = tuple[Scalar, ...]
"""The address of rows, their distance in bytes and their length in items (`blocks.Place`)."""


@contextmanager
def each(builder: Builder, start: Scalar, stop: Scalar, step: int = 1) -> Iterator[Scalar]:
    """What follows is repeated for start, start + step, ... below stop."""
    with cgutils.for_range_slice(builder, start, stop, INT64(step)) as (index, _):
        yield index


@contextmanager
def each_group(builder: Builder, start: Scalar, stop: Scalar, width: Scalar) -> Iterator[tuple[Scalar, Scalar]]:
    """What follows is repeated for the row and the place in it of each unit from start to stop, `width` to a row."""
    some = greatest(builder, width, INT64(1))
    rows = builder.sdiv(start, some), ceiling(builder, stop, some)
    with each(builder, *rows) as row:
        before = builder.mul(row, width)
        first = greatest(builder, builder.sub(start, before), ZERO)
        with each(builder, first, least(builder, builder.sub(stop, before), width)) as group:
            yield row, group


def stack(builder: Builder, kind: Any) -> Scalar:
    """A pointer to room for a value, at a line of the cache, the same for all rounds of a loop."""
    with builder.goto_entry_block():
        room = builder.alloca(kind)
    room.align = LINE
    return room


def least(builder: Builder, a: Scalar, b: Scalar) -> Scalar:
    """The smaller of two integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def greatest(builder: Builder, a: Scalar, b: Scalar) -> Scalar:
    """The larger of two integers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def ceiling(builder: Builder, a: Scalar, b: Scalar | int) -> Scalar:
    """⌈a / b⌉ for a >= 0, b > 0."""
    b = INT64(b) if isinstance(b, int) else b
    return builder.sdiv(builder.add(a, builder.sub(b, INT64(1))), b)


def at(builder: Builder, base: Scalar, *steps: tuple[Scalar, Scalar | int]) -> Scalar:
    """base + Σ index · bytes."""
    for index, size in steps:
        base = builder.add(base, builder.mul(index, INT64(size) if isinstance(size, int) else size))
    return base


def group_at(builder: Builder, place: Place, row: Scalar, group: Scalar, count: int, item: int) -> Scalar:
    """The address of a group of `count` items of a row; of a shorter last one a copy with zeros behind it."""
    address, short, left = _group(builder, place, row, group, count, item)
    if count == 1 or not item:
        return address
    ask(builder, address, AHEAD, count * item)
    room = _room(builder, count * item)
    with builder.if_then(short, likely=False):
        _fill(builder, room, address, left, count * item)
    return builder.select(short, builder.ptrtoint(room, INT64), address)


@contextmanager
def group_to(
    builder: Builder, place: Place, row: Scalar, group: Scalar, count: int, item: int, filled: bool = False
) -> Iterator[Scalar]:
    """Where a group of `count` items of a row is written: a shorter last one aside, of which its own items are kept.

    `filled`: what stands there is read before.
    """
    address, short, left = _group(builder, place, row, group, count, item)
    ask(builder, address, AHEAD, count * item, writes=True)
    room = _room(builder, count * item)
    if filled:
        with builder.if_then(short, likely=False):
            _fill(builder, room, address, left, count * item)
    yield builder.select(short, builder.ptrtoint(room, INT64), address)
    with builder.if_then(short, likely=False):
        cgutils.raw_memcpy(builder, builder.inttoptr(address, room.type), room, left, 1)  # type: ignore[no-untyped-call]


def _group(
    builder: Builder, place: Place, row: Scalar, group: Scalar, count: int, item: int
) -> tuple[Scalar, Scalar, Scalar]:
    """The address of a group, whether fewer than `count` items are left of its row, and their bytes."""
    body, stride, n = place
    left = builder.sub(n, builder.mul(group, INT64(count)))
    address = at(builder, body, (row, stride), (group, count * item))
    return address, builder.icmp_signed("<", left, INT64(count)), builder.mul(left, INT64(item))


def _room(builder: Builder, size: int) -> Scalar:
    return builder.bitcast(stack(builder, ir.ArrayType(INT8, size)), INT8.as_pointer())


def _fill(builder: Builder, room: Scalar, address: Scalar, left: Scalar, size: int) -> None:
    """Copies `left` bytes into a room of `size` bytes, with zeros behind them."""
    cgutils.memset(builder, room, INT64(size), 0)  # type: ignore[no-untyped-call]
    cgutils.raw_memcpy(builder, room, builder.inttoptr(address, room.type), left, 1)  # type: ignore[no-untyped-call]


def value_at(builder: Builder, table: Scalar, index: Scalar, kind: Any = INT64) -> Scalar:
    """Entry `index` of a table of integers or floats."""
    size = 4 if str(kind) in ("float", "i32") else 8
    return builder.load(builder.inttoptr(at(builder, table, (index, size)), kind.as_pointer()))
