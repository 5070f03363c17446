"""The sign of x + b·ξ where a cheap bound settles it: a third of the instructions of ξ itself.

Where x and ξ have one sign, the sum has it. Where not, it has that of x if |ξ| < t = |x| / b. The word of ξ says how
probable a greater |ξ| is: with r the word for x > 0 and its complement for x < 0, that is v = r / 2^31, and v > 1 is
the first case. So the sum has the sign of x if v·R(t) > 1, where 1 / R(t) is nearly the probability that |ξ| > t. R is
a power of a polynomial, and t beyond LIMITS counts as that. All in all, 1 / R is off by less than SLACK, seen for 2^19
t up to twice LIMITS and for all 2^32 words: so the sign of v·R − 1 is sure wherever its size is above SLACK·R.

This is a bound, not a definition, so products and sums may be fused here, and only here.
"""

from functools import partial
from typing import Protocol

import triton
import triton.language as tl

from gradvote.kernels.cuda.formulas import DISTRIBUTIONS
from gradvote.kernels.cuda.traced import Symbol, function
from gradvote.kernels.quantiles import Value

SLACK = tl.constexpr(6e-5)
SURE = ("gaussian", "laplace", "logistic")
"""Distributions that this is for, the first of `formulas.DISTRIBUTIONS`; a uniform ξ is as cheap as a bound."""
LIMITS = (4.1, 7.3, 6.0)
_ROOTS = (
    (1.00000262, 0.0497810654, 0.0215523001, 0.00265423907, 0.000381081831),
    (0.999999702, 0.0883947611, 0.00388811203, 0.000128560059),
    (0.999999166, 0.113377951, 0.00638335804, 0.000275723112),
)
"""Polynomials whose 16th power is R, or 2·R − 1 for the logistic distribution."""
_LEAST, _GREATEST = tl.constexpr(2.0**-60), tl.constexpr(2.0**60)
"""Noise between these neither vanishes nor makes x + b·ξ overflow."""
_WORDS = tl.constexpr(2.0**31)

assert DISTRIBUTIONS[: len(SURE)] == SURE


class Bound(Protocol):
    """What R needs beyond products."""

    def lesser(self, a: Value, b: float) -> Value:
        """The lesser of a number and a constant."""

    def fused(self, a: Value, b: Value, c: float) -> Value:
        """a·b + c, rounded once or twice."""


def inverse(kind: int, bound: Bound, t: Value) -> Value:
    """R(t)."""
    *lower, result = _ROOTS[kind]
    t = bound.lesser(t, LIMITS[kind])
    for coefficient in reversed(lower):
        result = bound.fused(t, result, coefficient)
    for _ in range(4):
        result = result * result
    return bound.fused(result, 0.5, 0.5) if SURE[kind] == "logistic" else result


class _TritonBound:
    def lesser(self, a: Symbol, b: float) -> Symbol:
        return a.trace.write(f"tl.minimum({a.name}, {b})")

    def fused(self, a: Symbol, b: Symbol | float, c: float) -> Symbol:
        return a.trace.write(f"tl.fma({a.name}, {b.name if isinstance(b, Symbol) else b}, {c})")


_gaussian, _laplace, _logistic = (
    function(f"inverse_{name}", ["t"], partial(inverse, kind, _TritonBound())) for kind, name in enumerate(SURE)
)


@triton.jit
def terms(std):
    """What `settled` takes for a row: 1 / b, and the slack for words, from which no sign is sure where b < 0."""
    slack = tl.where((std >= _LEAST) & (std <= _GREATEST), SLACK * _WORDS, float("inf"))
    return tl.div_rn(tl.full((), 1.0, tl.float32), std), slack


@triton.jit
def settled(x, words, share, slack, KIND: tl.constexpr):
    """Words whose topmost bit is set where x + b·ξ < 0, and what is above zero where that is sure.

    It never is where the sum is zero or not finite: 0·x makes NaN of an x that is not.
    """
    x = x.to(tl.float32)
    bits, size = x.to(tl.int32, bitcast=True), tl.abs(x)
    t = size * share
    if KIND == 0:
        rarity = _gaussian(t)
    elif KIND == 1:
        rarity = _laplace(t)
    else:
        rarity = _logistic(t)
    rank = (words ^ (bits >> 31)).to(tl.uint32, bitcast=True).to(tl.float32)
    excess = tl.fma(rank, rarity, -2147483648.0)
    margin = tl.fma(tl.fma(size, 0.0, -slack), rarity, tl.abs(excess))
    return excess.to(tl.int32, bitcast=True) ^ bits, margin


@triton.jit
def lesser(a, b):
    """The lesser of two numbers, or NaN if one of them is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
