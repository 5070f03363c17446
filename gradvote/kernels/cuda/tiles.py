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
def value_start(values, row, inner, outer_stride, inner_stride):
    """The address of the number that belongs to a row (see `rows.Values`)."""
    return values + (row // inner).to(tl.int64) * outer_stride + (row % inner).to(tl.int64) * inner_stride


@triton.jit
def drawn(values, row, inner, outer_stride, inner_stride):
    """The number that belongs to a row (see `rows.Values`)."""
    return tl.load(value_start(values, row, inner, outer_stride, inner_stride))


@triton.jit
def number(values, row, inner, outer_stride, inner_stride, plain, GIVEN: tl.constexpr):
    """The float32 that belongs to a row (see `rows.Number`)."""
    if GIVEN:
        plain = drawn(values, row, inner, outer_stride, inner_stride).to(tl.float32)
    return plain * tl.full((), 1.0, tl.float32)  # in Triton's interpreter `plain` is a number of Python's


@triton.jit
def narrowed(x, dtype: tl.constexpr):
    """Numbers in another format, rounded to nearest even: bfloat16 by hand, since Triton's interpreter cuts it off."""
    if dtype == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        x = (
            (tl.where(tl.abs(x) <= float("inf"), rounded, bits | 0x400000) >> 16)
            .to(tl.int16)
            .to(tl.bfloat16, bitcast=True)
        )
    else:
        x = x.to(dtype)
    return x


@triton.jit
def before(n, first):
    """Of the bits from `first` (int32 lanes) on, 32 each, those of coordinates below n."""
    left = tl.minimum(tl.maximum(n - first, 0), 32)
    return tl.where(left == 32, -1, (1 << (left & 31)) - 1)


@triton.jit
def count(words):
    """The number of bits set in int32 words (Warren, "Hacker's Delight", 2nd edition, section 5-1)."""
    words = words.to(tl.uint32, bitcast=True)
    pairs = words - ((words >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    bytes_ = (fours + (fours >> 4)) & 0x0F0F0F0F
    twos = bytes_ + (bytes_ >> 8)
    return ((twos + (twos >> 16)) & 63).to(tl.int32)


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
    """Whether there are numbers that are zero or not finite, which few are."""
    if x.dtype.primitive_bitwidth == 64:
        found = tl.max(((x == 0) | ~is_finite(x)).to(tl.int32)) > 0
    else:
        twice = x.to(tl.uint32, bitcast=True) << 1  # without the sign
        found = tl.max(tl.add(twice, 0xFFFFFFFE, sanitize_overflow=False)) >= 0xFEFFFFFE
    return found


@triton.jit
def negative(x, TILE: tl.constexpr):
    """The topmost bits of numbers (TILE,) as int32 words (TILE / 32,): four by four in a thread, eight together."""
    if x.dtype.primitive_bitwidth == 64:
        tops = (x.to(tl.uint64, bitcast=True) >> 32).to(tl.uint32)
    else:
        tops = x.to(tl.uint32, bitcast=True)
    even, odd = tl.split(tl.reshape(tops, (TILE // 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    two, four = (second >> 31 << 1) | (first >> 31), (fourth >> 31 << 1) | (third >> 31)
    bits = tl.reshape(((four << 2) | two).to(tl.int32, bitcast=True), (TILE // 32, 8))
    return tl.sum(bits << (4 * tl.arange(0, 8))[None, :], axis=1)


@triton.jit
def divided(a, b):
    """a / b correctly rounded, of one type and shape; `/` is not for float32."""
    if a.dtype == tl.float64:
        quotient = a / b
    else:
        quotient = tl.div_rn(a, b)
    return quotient


@triton.jit
def appended(values, value):
    """A tuple with one value more."""
    return values + (value,)
