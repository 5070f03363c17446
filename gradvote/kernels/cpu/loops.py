"""Loops and addresses in emitted code, for whole kernels that are written as one `jit.program`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import cgutils

from gradvote.kernels.cpu.lanes import INT64, Builder, Scalar

ZERO = INT64(0)


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
    """A pointer to room for a value, the same for all rounds of a loop."""
    return cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]  # numba has no types


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


def group_at(builder: Builder, place: tuple[Scalar, ...], row: Scalar, group: Scalar, size: int) -> Scalar:
    """The address of a group of a row (`blocks.Place`), in the body or in the rest."""
    body, stride, rest, whole = place
    inside = builder.icmp_signed("<", group, whole)
    return builder.select(inside, at(builder, body, (row, stride), (group, size)), at(builder, rest, (row, size)))


def value_at(builder: Builder, table: Scalar, index: Scalar, kind: Any = INT64) -> Scalar:
    """Entry `index` of a table of integers or floats."""
    size = 4 if str(kind) in ("float", "i32") else 8
    return builder.load(builder.inttoptr(at(builder, table, (index, size)), kind.as_pointer()))
