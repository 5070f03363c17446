"""Means and slopes with 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradvote.errors import MissingExtra

try:
    from scipy.stats import linregress, t
except ImportError as error:
    raise MissingExtra("scipy", "theory") from error


@dataclass(frozen=True)
class Estimate:
    """A value and half the width of its 95 % interval (Student's t; NaN from a single observation)."""

    value: float
    half: float

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    def __str__(self) -> str:
        half = 0.0 if self.half < 1e-12 * abs(self.value) else self.half
        return f"{self.value:.3g}" if math.isnan(half) else f"{self.value:.3g} ± {half:.1g}"


def mean(observations: Sequence[float]) -> Estimate:
    """The mean of independent observations."""
    n = len(observations)
    centre = math.fsum(observations) / n
    if n == 1:
        return Estimate(centre, math.nan)
    variance = math.fsum((x - centre) ** 2 for x in observations) / (n - 1)
    return Estimate(centre, float(t.ppf(0.975, n - 1)) * math.sqrt(variance / n))


def slope(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """The exponent s of y ∝ x^s, by least squares on logarithms; all numbers must be positive."""
    fit = linregress([math.log(v) for v in x], [math.log(v) for v in y])
    return Estimate(float(fit.slope), float(t.ppf(0.975, len(x) - 2)) * float(fit.stderr) if len(x) > 2 else math.nan)
