"""Quantile functions of 32-bit words: elementwise IEEE operations in fixed order, so the same bits on every device.

A word w stands for the probability p = (w + 1/2) / 2^32. Each function returns the quantile of a symmetric distribution
of mean 0 and variance 1 at p, in float32: finite for all 2^32 words, non-decreasing up to the rounding below, and
exactly odd: w and its complement ~w give ±the same value. Allowed are +, −, ×, ÷ of float32 (correctly rounded
everywhere, unlike torch's √), int32 operations, bit casts and selections; no libm and no fused multiply-add.

| distribution | range | largest error seen for |ξ| < 3.1 | beyond |
|---|---|---|---|
| gaussian | ±6.3380 | 1.6e-6 | 1.1e-6 |
| laplace | ±15.684 | 6e-7 | 1.5e-6 |
| logistic | ±12.611 | 6e-7 | 1.5e-6 |
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

    def where_rare(self, condition: Value, rare: Callable[[], Value], common: Value) -> Value:
        """`rare()` where the condition holds, `common` elsewhere; the condition is seldom true."""


_SIGN = -(2**31)
_MANTISSA = 0x7FFFFF
_SQRT_HALF = 0x3F3504F3  # bits of √½

_LOG2 = (
    1.442699670791626, -0.7213758826255798, 0.48046502470970154, -0.3589618504047394,
    0.29726260900497437, -0.2726980149745941, 0.17063455283641815,
)  # fmt: skip
_SQRT_HALF_LN_2 = 0.4901290833950043
_SQRT_3_LN_2_OVER_PI = 0.38215208053588867
_UNIFORM_STEP = 2.0647654253025394e-07  # 2√3 / 2^24

_CENTRE_TOP = (
    3.893751621246338, 3611.46337890625, 474413.09375, 13345584.0, 85949920.0, 108926352.0, 13233081.0,
)  # fmt: skip
_CENTRE_BOTTOM = (
    1.0, 1120.214111328125, 174022.5625, 5938444.5, 49478168.0, 93719104.0, 27765490.0,
)  # fmt: skip
_TAIL = (
    -4.968608856201172, -2.1509029865264893, 0.4338148832321167, -0.17136338353157043,
    0.08358404040336609, -0.04640965536236763, 0.02764247916638851, -0.012219063006341457,
    0.005915444809943438, -0.012523526325821877, 0.00943040195852518,
)  # fmt: skip
_TAIL_WORDS = 2**22


def gaussian(lanes: Lanes, words: Value) -> Value:
    """z·R(1 − z²) for z = 2p − 1, with R rational (6, 6); where p < 2^-10 a polynomial of degree 10 in log₂ 2p."""
    rank = _rank(words)
    tail = _tail(lanes, rank) * 2.0**-31
    square = tail * (2.0 - tail)
    centre = (tail - 1.0) * (_polynomial(_CENTRE_TOP, square) / _polynomial(_CENTRE_BOTTOM, square))
    lower = lanes.where_rare(rank < _TAIL_WORDS, lambda: _gaussian_tail(lanes, tail), centre)
    return _mirror(lanes, lower, words)


def laplace(lanes: Lanes, words: Value) -> Value:
    """√½ · ln 2p below the median."""
    lower = _log2(lanes, _tail(lanes, _rank(words)), 31) * _SQRT_HALF_LN_2
    return _mirror(lanes, lower, words)


def logistic(lanes: Lanes, words: Value) -> Value:
    """(√3 / π) · ln(p / (1 − p))."""
    tail = _tail(lanes, _rank(words))
    odds = tail / (2.0**32 - tail)
    return _mirror(lanes, _log2(lanes, odds) * _SQRT_3_LN_2_OVER_PI, words)


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

    def where_rare(self, condition: Tensor, rare: Callable[[], Tensor], common: Tensor) -> Tensor:
        return torch.where(condition, rare(), common)


def _rank(words: Value) -> Value:
    """Distance of a word from the nearer end of [0, 2^32), in [0, 2^31)."""
    return words ^ (words >> 31)


def _tail(lanes: Lanes, rank: Value) -> Value:
    """2^32·min(p, 1 − p), in (0, 2^31]."""
    return lanes.number(rank) + 0.5


def _mirror(lanes: Lanes, lower: Value, words: Value) -> Value:
    """The lower half's value for words below 2^31, its negative above."""
    return lanes.value(lanes.bits(lower) ^ (words & _SIGN))


def _log2(lanes: Lanes, x: Value, less: int = 0) -> Value:
    """log₂ x − less, for normal x > 0: x = 2^e·(1 + f) with 1 + f in [√½, √2)."""
    shifted = lanes.bits(x) - (_SQRT_HALF + (less << 23))
    f = lanes.value((shifted & _MANTISSA) + _SQRT_HALF) - 1.0
    return lanes.number(shifted >> 23) + f * _polynomial(_LOG2, f)


def _gaussian_tail(lanes: Lanes, tail: Value) -> Value:
    return _polynomial(_TAIL, (-20.5 - _log2(lanes, tail)) * 0.0625)


def _polynomial(coefficients: Sequence[float], x: Value) -> Value:
    """c_0 + c_1·x + … by Estrin's scheme: neighbours are joined, c_{i+1}·x + c_i, then the same in x², x⁴, …"""
    terms: list[Value] = list(coefficients)
    while len(terms) > 1:
        joined = [high * x + low for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = joined + terms[2 * len(joined) :]
        x = x * x
    return terms[0]
