"""The quantile functions in Triton: the formulas of `gradvote.kernels.quantiles`, written out line by line."""

from collections.abc import Callable
from functools import partial

import triton
import triton.language as tl

from gradvote.kernels.cuda.traced import Symbol, function
from gradvote.kernels.quantiles import QUANTILES, formula_of

DISTRIBUTIONS = tuple(sorted(QUANTILES))


class TritonLanes:
    """What the formulas need beyond operators, as Triton (see `quantiles.Lanes`)."""

    def number(self, integer: Symbol) -> Symbol:
        """int32 -> float32, rounded to nearest even."""
        return integer.trace.write(f"{integer.name}.to(tl.float32)")

    def bits(self, number: Symbol) -> Symbol:
        """The bit pattern of a float32."""
        return number.trace.write(f"{number.name}.to(tl.int32, bitcast=True)")

    def value(self, bits: Symbol) -> Symbol:
        """The float32 of a bit pattern."""
        return bits.trace.write(f"{bits.name}.to(tl.float32, bitcast=True)")

    def where_rare(self, condition: Symbol, rare: Callable[[], Symbol], common: Symbol) -> Symbol:
        """Both, and a choice for each lane."""
        return common.trace.write(f"tl.where({condition.name}, {rare().name}, {common.name})")


def _written(distribution: str) -> Callable[..., Symbol]:
    return function(distribution, ["words"], partial(formula_of(distribution), TritonLanes()))  # type: ignore[no-any-return]  # a function for kernels


_gaussian, _laplace, _logistic, _uniform = map(_written, DISTRIBUTIONS)


def kind_of(distribution: str) -> int:
    """The number of a distribution. Raises ValueError for one that does not exist."""
    formula_of(distribution)
    return DISTRIBUTIONS.index(distribution)


@triton.jit
def quantile(words, KIND: tl.constexpr):
    """`quantiles.quantile` of int32 words, for distribution `DISTRIBUTIONS[KIND]`."""
    if KIND == 0:
        result = _gaussian(words)
    elif KIND == 1:
        result = _laplace(words)
    elif KIND == 2:
        result = _logistic(words)
    else:
        result = _uniform(words)
    return result
