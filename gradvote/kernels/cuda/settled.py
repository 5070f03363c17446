"""The sign of x + b·ξ for Gaussian ξ where a cheap bound settles it: about half the instructions of ξ itself.

With z = 2p − 1 and q = 1 − z², b·TOP·z·N(q) / D(q) is nearly b·ξ; N and D are positive. Where q ≥ EDGE it is off by at
most RELATIVE·|b·ξ| + ABSOLUTE·|b|, seen for all 2^32 words, and D is below 3. So s = x·D + b·TOP·z·N has the sign of
x + b·ξ wherever |s| > RELATIVE·|x·D| + 4·ABSOLUTE·|b|: either both terms have one sign, or b·|ξ| is less or greater
than |x| by more than it is off. Beyond the edge both are of one sign and between 3·|b| and 7·|b|: so the sign
of s is that of x + b·ξ unless |x| is there too.
"""

from functools import partial

import triton
import triton.language as tl

from gradvote.kernels.cuda.formulas import TritonLanes
from gradvote.kernels.cuda.traced import function
from gradvote.kernels.quantiles import Lanes, Value

TOP = tl.constexpr(0.7028823494911194)
EDGE = tl.constexpr(0.003902435302734375)
"""1 − (1 − 2^-9)²: where q is less, p or 1 − p is below 2^-10."""
RELATIVE, ABSOLUTE = tl.constexpr(4.3e-4), tl.constexpr(2.0**-21)
_NUMERATOR = (0.00164008133, 0.254891471, 2.34466274)
_DENOMINATOR = (0.000324182174, 0.0682637103, 0.950204165)
_LEAST, _GREATEST = tl.constexpr(2.0**-60), tl.constexpr(2.0**60)
"""Noise between these neither vanishes nor makes x + b·ξ overflow."""


def position(lanes: Lanes, words: Value) -> tuple[Value, Value]:
    """z and q of 32-bit words."""
    z = lanes.number(words ^ -(2**31)) * 2.0**-31
    return z, 1.0 - z * z


def fraction(q: Value) -> tuple[Value, Value]:
    """N(q) and D(q), of degree 3."""
    (n0, n1, n2), (d0, d1, d2) = _NUMERATOR, _DENOMINATOR
    return ((q + n2) * q + n1) * q + n0, ((q + d2) * q + d1) * q + d0


_position = function("position", ["words"], partial(position, TritonLanes()))
_fraction = function("fraction", ["q"], fraction)


@triton.jit
def settled(x, words, std):
    """Something of the sign of x + std·ξ, and what is above zero where that is sure.

    It never is where the sum is zero or not finite. (Comparisons and selections have half the throughput of sums and
    products on such cards, so there are few.)
    """
    z, q = _position(words)
    numerator, denominator = _fraction(q)
    size, x = tl.abs(std), x.to(tl.float32)
    least = tl.where((size >= _LEAST) & (size <= _GREATEST), 4 * ABSOLUTE * size, float("inf"))
    own = x * denominator
    total = own + std * TOP * z * numerator
    margin = tl.abs(total) - (RELATIVE * tl.abs(own) + least)
    return total, lesser(margin, tl.maximum(q - EDGE, tl.abs(tl.abs(x) - 5 * size) - 2 * size))


@triton.jit
def lesser(a, b):
    """The lesser of two numbers, or NaN if one of them is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
