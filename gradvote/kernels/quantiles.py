"""Quantile functions of 32-bit words: elementwise IEEE operations in fixed order, so the same bits on every device.

A word w stands for the probability p = (w + 1/2) / 2^32. Each function returns the quantile of a symmetric distribution
of mean 0 and variance 1 at p, in float32: finite for all 2^32 words, non-decreasing up to the rounding below, and
exactly odd: w and its complement ~w give ±the same value. Allowed are +, −, ×, ÷ and √ of float32 (correctly rounded
everywhere), int32 operations, bit casts and selections; no libm and no fused multiply-add.

| distribution | range | largest error seen for |ξ| < 3.1 | beyond |
|---|---|---|---|
| gaussian | ±6.3380 | 1.5e-6 | 8e-7 |
| laplace | ±15.684 | 4e-7 | 1.5e-6 |
| logistic | ±12.611 | 4e-7 | 1.5e-6 |
| uniform | ±√3 | 2e-7 | |

The formulas are written once, over `Lanes`: torch tensors here, vectors of machine code in `gradvote.kernels.cpu`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gradvote.errors import unknown

Value = Any
"""Many int32 or float32 numbers: a tensor, or a vector in emitted code. Both bring + - * / & ^ >> and <."""


class Lanes(Protocol):
    """What the formulas need beyond operators."""

    def number(self, integer: Value) -> Value:
        """int32 -> float32, rounded to nearest even."""

    def bits(self, number: Value) -> Value:
        """The bit pattern of a float32, as int32."""

    def value(self, bits: Value) -> Value:
        """The float32 of a bit pattern."""

    def sqrt(self, number: Value) -> Value: ...

    def where_rare(self, condition: Value, rare: Callable[[], Value], common: Value) -> Value:
        """`rare()` where the condition holds, `common` elsewhere; the condition is seldom true."""


_SIGN = -(2**31)
_SQRT_HALF = 0x3F3504F3  # bits of √½

_LOG = (
    0.9999998807907104, -0.5000041127204895, 0.33335378766059875, -0.2496851235628128,
    0.19893892109394073, -0.17259424924850464, 0.16262179613113403, -0.1012626439332962,
)  # fmt: skip
_LN_2 = 0.6931471824645996
_SQRT_HALF_VALUE = 0.7071067690849304
_SQRT_3_OVER_PI = 0.5513288974761963
_UNIFORM_STEP = 2.0647654253025394e-07  # 2√3 / 2^24

_CENTRE_TOP = (
    3.893768548965454, 3611.720703125, 474472.40625, 13347739.0, 85965432.0, 108946600.0, 13235494.0,
)  # fmt: skip
_CENTRE_BOTTOM = (
    1.0, 1120.287841796875, 174043.375, 5939376.5, 49486960.0, 93736464.0, 27770606.0,
)  # fmt: skip
_TAIL = (
    -4.5739946365356445, -1.4658210277557373, 0.0070540872402489185, -0.0006237744819372892,
    -9.10850940272212e-05, 8.553363295504823e-05, -4.3672433093888685e-05, 1.2034368410240859e-05,
)  # fmt: skip
_TAIL_WORDS = 2**22


def gaussian(lanes: Lanes, words: Value) -> Value:
    """z·R(1 − z²) for z = 2p − 1, with R rational (6, 6); beyond p < 2^-10, T(√(−ln 2p)) with T of degree 7."""
    rank = _rank(words)
    tail = _tail_probability(lanes, rank)
    square = tail * (2.0 - tail)
    centre = (tail - 1.0) * (_polynomial(_CENTRE_TOP, square) / _polynomial(_CENTRE_BOTTOM, square))
    lower = lanes.where_rare(rank < _TAIL_WORDS, lambda: _gaussian_tail(lanes, tail), centre)
    return _mirror(lanes, lower, words)


def laplace(lanes: Lanes, words: Value) -> Value:
    """√½ · ln 2p below the median."""
    lower = _log(lanes, _tail_probability(lanes, _rank(words))) * _SQRT_HALF_VALUE
    return _mirror(lanes, lower, words)


def logistic(lanes: Lanes, words: Value) -> Value:
    """(√3 / π) · ln(p / (1 − p))."""
    tail = _tail_probability(lanes, _rank(words))
    return _mirror(lanes, _log(lanes, tail / (2.0 - tail)) * _SQRT_3_OVER_PI, words)


def uniform(lanes: Lanes, words: Value) -> Value:
    """√3·(2p − 1) of the upper 24 bits."""
    return (lanes.number((words ^ _SIGN) >> 8) + 0.5) * _UNIFORM_STEP


QUANTILES: dict[str, Callable[[Lanes, Value], Value]] = {
    "gaussian": gaussian,
    "laplace": laplace,
    "logistic": logistic,
    "uniform": uniform,
}


def quantile(distribution: str, words: Tensor) -> Tensor:
    """The quantile of `distribution` at 32-bit words (int64 in [0, 2^32)), as float32 of the same shape.

    Raises ValueError for a distribution that does not exist.
    """
    formula = formula_of(distribution)
    result: Tensor = formula(_TorchLanes(), words.to(torch.int32))
    return result


def formula_of(distribution: str) -> Callable[[Lanes, Value], Value]:
    """The quantile function of a distribution by name."""
    if distribution not in QUANTILES:
        raise unknown("noise distribution", distribution, QUANTILES)
    return QUANTILES[distribution]


class _TorchLanes:
    def number(self, integer: Tensor) -> Tensor:
        return integer.to(torch.float32)

    def bits(self, number: Tensor) -> Tensor:
        return number.view(torch.int32)

    def value(self, bits: Tensor) -> Tensor:
        return bits.view(torch.float32)

    def sqrt(self, number: Tensor) -> Tensor:
        return number.sqrt()

    def where_rare(self, condition: Tensor, rare: Callable[[], Tensor], common: Tensor) -> Tensor:
        return torch.where(condition, rare(), common)


def _rank(words: Value) -> Value:
    """Distance of a word from the nearer end of [0, 2^32), in [0, 2^31)."""
    return words ^ (words >> 31)


def _tail_probability(lanes: Lanes, rank: Value) -> Value:
    """2·min(p, 1 − p) in (0, 1]."""
    return (lanes.number(rank) + 0.5) * 2.0**-31


def _mirror(lanes: Lanes, lower: Value, words: Value) -> Value:
    """The lower half's value for words below 2^31, its negative above."""
    return lanes.value(lanes.bits(lower) ^ (words & _SIGN))


def _log(lanes: Lanes, x: Value) -> Value:
    """ln x for normal x > 0: x = 2^e·(1 + f) with 1 + f in [√½, √2)."""
    shifted = lanes.bits(x) - _SQRT_HALF
    f = lanes.value((shifted & 0x7FFFFF) + _SQRT_HALF) - 1.0
    return lanes.number(shifted >> 23) * _LN_2 + f * _polynomial(_LOG, f)


def _gaussian_tail(lanes: Lanes, tail: Value) -> Value:
    return _polynomial(_TAIL, lanes.sqrt(0.0 - _log(lanes, tail)) - 3.5)


def _polynomial(coefficients: Sequence[float], x: Value) -> Value:
    """c_0 + c_1·x + … by Horner's rule."""
    *rest, result = coefficients
    for coefficient in reversed(rest):
        result = result * x + coefficient
    return result
