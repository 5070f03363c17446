"""Rescaled payloads."""

import math
from dataclasses import dataclass

from torch import Tensor

from gradvote import kernels
from gradvote.faults._base import Fault
from gradvote.rng import Draw


@dataclass(frozen=True)
class Rescale(Fault):
    """what should be sent times a factor, or times a random positive vector

    x ← factor·s^ξ·x with ξ uniform on (−1, 1) per coordinate and s = `spread` ≥ 1, so between factor/s and factor·s.
    A positive factor leaves signs alone, a negative one inverts them; means are ruined by a large one.
    """

    factor: float = 1000.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.factor) or self.factor == 0 or not 1 <= self.spread < math.inf:
            raise ValueError(
                "Rescale needs a finite factor other than 0 and a spread of at least 1; "
                f"got factor={self.factor}, spread={self.spread}."
            )

    def on_values(self, x: Tensor, draw: Draw) -> Tensor:
        if self.spread == 1:
            return x * self.factor
        exponent = kernels.noise(draw, x.shape[-1], "uniform") / math.sqrt(3)
        return x * (exponent * math.log(self.spread)).exp() * self.factor

    def on_bits(self, words: Tensor, draw: Draw) -> Tensor:
        return words if self.factor > 0 else ~words


SAMPLES = (Rescale(2.0), Rescale(-3.0))
