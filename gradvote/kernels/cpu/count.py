"""Bit-sliced counting: plane p of a count holds bit p of 512 counters, one per bit of a line.

A full adder turns three planes of weight 2^p into a sum of weight 2^p and a carry of weight 2^(p+1), 512 counters at
a time (Harley and Seal's population count, turned on its side).
"""

from collections.abc import Iterable

from gradvote.kernels.cpu.emit import INT64, Builder, Value, splat, vector

WORDS = vector(INT64)


def full_add(builder: Builder, x: Value, y: Value, z: Value) -> tuple[Value, Value]:
    """The sum x ⊕ y ⊕ z and the carry maj(x, y, z)."""
    differ = builder.xor(x, y)
    return builder.xor(differ, z), builder.xor(x, builder.and_(differ, builder.xor(x, z)))


def count(builder: Builder, inputs: Iterable[Value]) -> list[Value]:
    """The planes of the number of set inputs, lowest first: three equal weights are added as soon as they meet."""
    levels: list[list[Value]] = [[]]
    for line in inputs:
        _push(builder, levels, 0, line)
    for weight, level in enumerate(levels):
        if len(level) == 2:
            x, y = level
            level[:] = [builder.xor(x, y)]
            _push(builder, levels, weight + 1, builder.and_(x, y))
    return [level[0] for level in levels]


def add(builder: Builder, total: list[Value], planes: list[Value]) -> list[Value]:
    """total + planes in as many planes as `total` has."""
    carry, summed = splat(WORDS, 0), []
    for weight, line in enumerate(total):
        other = planes[weight] if weight < len(planes) else splat(WORDS, 0)
        digit, carry = full_add(builder, other, line, carry)
        summed.append(digit)
    return summed


def at_least(builder: Builder, planes: list[Value], threshold: int) -> Value:
    """Where the count is `threshold` or more: the carry of adding 2^P − threshold, P planes."""
    result = splat(WORDS, -1)
    for weight, line in enumerate(planes):
        result = builder.and_(line, result) if threshold >> weight & 1 else builder.or_(line, result)
    return result


def equal(builder: Builder, planes: list[Value], value: int) -> Value:
    """Where the count is `value`."""
    result = splat(WORDS, -1)
    for weight, line in enumerate(planes):
        result = builder.and_(result, line if value >> weight & 1 else builder.not_(line))
    return result


def _push(builder: Builder, levels: list[list[Value]], weight: int, line: Value) -> None:
    if weight == len(levels):
        levels.append([])
    levels[weight].append(line)
    if len(levels[weight]) == 3:
        digit, carry = full_add(builder, *levels[weight])
        levels[weight] = [digit]
        _push(builder, levels, weight + 1, carry)
