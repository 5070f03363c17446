"""Vectors of one cache line in generic LLVM IR (AVX, AVX-512 and NEON alike), written into compiled kernels.

A row is an integer address, a table an array of them; offsets are in bytes. Whole counts and networks become one
straight line of such instructions, which compiles in a fraction of a second and runs at the speed of memory.
"""

from typing import Any

from llvmlite import ir

LINE = 64
AHEAD = 512
"""Bytes ahead of a load that are asked for: the hardware follows about 16 rows by itself, not 64."""

Builder = Any
Value = Any

INT32, INT64 = ir.IntType(32), ir.IntType(64)
ZERO = INT64(0)
_BYTE = ir.IntType(8).as_pointer()
_SIZES = {"i32": 4, "i64": 8, "float": 4, "double": 8}


def vector(item: Value) -> Value:
    """The type of a line of items."""
    return ir.VectorType(item, LINE // _SIZES[str(item)])


def splat(kind: Value, value: float) -> Value:
    """A constant line."""
    return ir.Constant(kind, [value] * kind.count)


def broadcast(builder: Builder, kind: Value, scalar: Value) -> Value:
    """A line of copies of one value."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, INT32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))


def past(builder: Builder, table: Value, index: Value, kind: Value) -> Value:
    """The address of entry `index` of a table of `kind`."""
    return builder.add(table, builder.mul(index, INT64(_SIZES[str(kind)])))


def item(builder: Builder, table: Value, index: int, kind: Value = INT64) -> Value:
    """Entry `index` of a table of `kind`."""
    return builder.load(builder.inttoptr(past(builder, table, INT64(index), kind), kind.as_pointer()))


def load(builder: Builder, kind: Value, row: Value, offset: Value = ZERO) -> Value:
    """The line at row + offset, which need not be aligned."""
    pointer = builder.inttoptr(builder.add(row, offset), kind.as_pointer())
    return builder.load(pointer, align=_SIZES[str(kind.element)])


def store(builder: Builder, value: Value, row: Value, offset: Value = ZERO) -> None:
    """Writes the line at row + offset."""
    pointer = builder.inttoptr(builder.add(row, offset), value.type.as_pointer())
    builder.store(value, pointer, align=_SIZES[str(value.type.element)])


def stream(builder: Builder, kind: Value, row: Value, offset: Value, ahead: int = AHEAD) -> Value:
    """`load`, and a hint that the line so many bytes ahead will be read soon."""
    ask(builder, builder.add(row, offset), ahead)
    return load(builder, kind, row, offset)


def ask(builder: Builder, address: Value, ahead: int, size: int = LINE, writes: bool = False) -> None:
    """A hint that `size` bytes so far ahead will be read or written soon; harmless past the end of a row."""
    hint = ir.FunctionType(ir.VoidType(), [_BYTE, INT32, INT32, INT32])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTE], hint)
    keep, data_cache = INT32(3), INT32(1)
    for line in range(0, size, LINE):
        place = builder.inttoptr(builder.add(address, INT64(ahead + line)), _BYTE)
        builder.call(prefetch, [place, INT32(int(writes)), keep, data_cache])
