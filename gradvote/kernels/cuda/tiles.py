"""What kernels do with a tile of a row: find it, load it, pack it. Called by kernels only."""

import triton
import triton.language as tl


@triton.jit
def row_start(x, row, inner, outer_stride, inner_stride, UNIT: tl.constexpr):
    """The address of a row's first item (see `rows.Rows`)."""
    outer, place = (row // inner).to(tl.int64), (row % inner).to(tl.int64)
    return x + (outer * outer_stride + place * inner_stride) * UNIT


@triton.jit
def whole(n, UNIT: tl.constexpr):
    """n, which is a multiple of `UNIT` (`rows.Rows`), in a form that shows it: so many items then move at once."""
    return n // UNIT * UNIT


@triton.jit
def load(row, j, n):
    """Items j of a row of n as at least float32, zero beyond n."""
    values = tl.load(row + j, mask=j < n, other=0)
    if values.dtype.primitive_bitwidth < 32:
        values = values.to(tl.float32)
    return values


@triton.jit
def drawn(values, row, inner, outer_stride, inner_stride):
    """The number that belongs to a row (see `rows.Values`)."""
    return tl.load(values + (row // inner).to(tl.int64) * outer_stride + (row % inner).to(tl.int64) * inner_stride)


@triton.jit
def packed(flags, TILE: tl.constexpr):
    """Flags (TILE,), each 0 or 1, as int32 words (TILE / 32,): four by four in a thread, eight threads together."""
    even, odd = tl.split(tl.reshape(flags.to(tl.int32), (TILE // 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    bits = tl.reshape(first | (second << 1) | (third << 2) | (fourth << 3), (TILE // 32, 8))
    return tl.sum(bits << (4 * tl.arange(0, 8))[None, :], axis=1)


@triton.jit
def is_finite(x):
    """Whether each number is finite."""
    return tl.abs(x) < float("inf")


@triton.jit
def special(x):
    """Whether each number is zero or not finite, which few are."""
    if x.dtype.primitive_bitwidth == 64:
        found = (x == 0) | ~is_finite(x)
    else:
        found = (x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF) - 1 >= 0x7F7FFFFF
    return found
