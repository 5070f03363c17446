"""The quantile functions in emitted code: the formulas of `gradvote.kernels.quantiles` over vectors."""

from collections.abc import Callable

from gradvote.kernels.cpu.lanes import FLOAT32, INT32, Vector
from gradvote.kernels.quantiles import QUANTILES

DISTRIBUTIONS = tuple(QUANTILES)


def quantile(distribution: str, words: Vector) -> Vector:
    """`quantiles.quantile` of int32 words."""
    result: Vector = QUANTILES[distribution](_EmittedLanes(), words)
    return result


class _EmittedLanes:
    def number(self, integer: Vector) -> Vector:
        return integer.to(FLOAT32, "sitofp")

    def bits(self, number: Vector) -> Vector:
        return number.cast(INT32)

    def value(self, bits: Vector) -> Vector:
        return bits.cast(FLOAT32)

    def where_rare(self, condition: Vector, rare: Callable[[], Vector], common: Vector) -> Vector:
        """Jumps over `rare` where no lane needs it."""
        builder, before = common.builder, common.builder.block
        lanes = condition.bitmap()
        with builder.if_then(builder.icmp_unsigned("!=", lanes, lanes.type(0)), likely=False):
            chosen, after = condition.where(rare(), common), builder.block
        either = builder.phi(common.value.type)
        either.add_incoming(common.value, before)
        either.add_incoming(chosen.value, after)
        return Vector(builder, either)
