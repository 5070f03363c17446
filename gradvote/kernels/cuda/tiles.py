"""What kernels do with a tile of a row: find it, load it, pack it. Called by kernels only."""

import triton
import triton.language as tl


@triton.jit
def row_start(x, row, inner, outer_stride, inner_stride, UNIT: tl.constexpr):
    """The address of a row's first item (see `rows.Rows`)."""
    outer, place = (row // inner).to(tl.int64), (row % inner).to(tl.int64)
    return x + (outer * outer_stride + place * inner_stride) * UNIT


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
    """Flags (TILE,) as int32 words (TILE / 32,)."""
    bits = tl.reshape(flags.to(tl.int32), (TILE // 32, 32))
    return tl.sum(bits << tl.arange(0, 32)[None, :], axis=1)


@triton.jit
def is_finite(x):
    """Whether each number is finite."""
    return tl.abs(x) < float("inf")


@triton.jit
def divided(a, b):
    """a / b correctly rounded, of one type and shape; `/` is not for float32."""
    return a / b if a.dtype == tl.float64 else tl.div_rn(a, b)


@triton.jit
def appended(values, value):
    """A tuple with one value more."""
    return values + (value,)  # noqa: RUF005  # Triton has no starred expressions
