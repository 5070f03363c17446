"""Means and slopes with 95 % intervals, and comparisons that they decide, or leave undecided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradvote.errors import MissingExtra

try:
    from scipy.stats import linregress, t
except ImportError as error:
    raise MissingExtra("scipy", "theory") from error

POWER = 0.8
MOST = 10_000
"""More observations than that are not proposed."""


@dataclass(frozen=True)
class Estimate:
    """A value and half the width of its 95 % interval (Student's t of `n` observations; NaN from a single one).

    What is known exactly has half = 0.
    """

    value: float
    half: float
    n: int = 1

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    def __str__(self) -> str:
        half = 0.0 if self.half < 1e-12 * abs(self.value) else self.half
        return (
            f"{self.value:.3g}" if math.isnan(half) or (half == 0 and self.n == 1) else f"{self.value:.3g} ± {half:.1g}"
        )


@dataclass(frozen=True)
class Check:
    """One comparison: whether `estimate` lies on the right side of `threshold`, `above` it or below.

    `what` names the estimate.
    """

    what: str
    estimate: Estimate
    threshold: float
    above: bool

    @property
    def holds(self) -> bool | None:
        """True or False where the interval is all on one side; None where it is not, or unknown."""
        low, high = self.estimate.low - self.threshold, self.estimate.high - self.threshold
        if math.isnan(low) or math.isnan(high):
            return None
        holds, fails = (low > 0, high <= 0) if self.above else (high < 0, low >= 0)
        return True if holds else False if fails else None

    @property
    def margin(self) -> float:
        """How far the end of the interval that is nearer to failing lies from the threshold."""
        off = self.estimate.low - self.threshold if self.above else self.threshold - self.estimate.high
        return -math.inf if math.isnan(off) else off

    @property
    def short(self) -> str:
        """The estimate and what it must be."""
        return f"{self.estimate} {'>' if self.above else '<'} {self.threshold:.3g}"

    def __str__(self) -> str:
        return f"{self.what} {self.short}"

    @property
    def power(self) -> str:
        """What the comparison could have seen, and what it would need; for one that is undecided."""
        e = self.estimate
        if e.n < 2 or math.isnan(e.half):
            return f"{self.what}: a single run has no interval"
        runs = needed(e, abs(e.value - self.threshold))
        more = f"more than {MOST}" if runs is None else str(runs)
        return f"{self.what}: {e.n} runs see {seen(e):.2g} with power {POWER:g}; {more} would decide"


def above(what: str, estimate: Estimate, threshold: float) -> Check:
    """The claim holds where the estimate is above the threshold."""
    return Check(what, estimate, threshold, True)


def below(what: str, estimate: Estimate, threshold: float) -> Check:
    """The claim holds where the estimate is below the threshold."""
    return Check(what, estimate, threshold, False)


def exact(value: float) -> Estimate:
    """A number without a sampling error."""
    return Estimate(float(value), 0.0)


def mean(observations: Sequence[float]) -> Estimate:
    """The mean of independent observations."""
    n = len(observations)
    centre = math.fsum(observations) / n
    if n == 1:
        return Estimate(centre, math.nan)
    variance = math.fsum((x - centre) ** 2 for x in observations) / (n - 1)
    return Estimate(centre, float(t.ppf(0.975, n - 1)) * math.sqrt(variance / n), n)


def seen(estimate: Estimate) -> float:
    """The least distance from a threshold that as many observations, of the same spread, decide with power 0.8."""
    free = estimate.n - 1
    return estimate.half * (1 + float(t.ppf(POWER, free)) / float(t.ppf(0.975, free)))


def needed(estimate: Estimate, distance: float) -> int | None:
    """How many observations of the same spread decide such a distance with power 0.8; None if more than `MOST`."""
    spread = estimate.half / float(t.ppf(0.975, estimate.n - 1)) * math.sqrt(estimate.n)
    fewest = 2
    while fewest <= MOST:
        reach = (float(t.ppf(0.975, fewest - 1)) + float(t.ppf(POWER, fewest - 1))) * spread / math.sqrt(fewest)
        if reach <= distance:
            return fewest
        fewest += max(1, fewest // 20)
    return None


def slope(x: Sequence[float], y: Sequence[float]) -> Estimate:
    """The exponent s of y ∝ x^s, by least squares on logarithms; all numbers must be positive."""
    fit = linregress([math.log(v) for v in x], [math.log(v) for v in y])
    half = float(t.ppf(0.975, len(x) - 2)) * float(fit.stderr) if len(x) > 2 else math.nan
    return Estimate(float(fit.slope), half, len(x))


def slopes(x: Sequence[float], replicas: Sequence[Sequence[float]]) -> Estimate:
    """The mean over replicas of the exponent of each: `replicas[i]` are the values at x[i], one for each replica.

    Its interval is that of the replicas, which no curvature widens: the exponent over the range of x, as it is.
    """
    return mean([slope(x, own).value for own in zip(*replicas, strict=True)])
