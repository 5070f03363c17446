"""Where the noisy methods come to rest."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from gradvote.errors import MissingExtra, unknown
from gradvote.theory.noisy_median import expected_noisy_median, noisy_vote_probability

try:
    from scipy.optimize import brentq
except ImportError as error:
    raise MissingExtra("scipy", "theory") from error

Rule = Literal["median", "vote"]


def stationary_point(
    gradients: Callable[[float], Tensor],
    low: float,
    high: float,
    b: float = 0.0,
    rule: Rule = "median",
    distribution: str = "gaussian",
) -> float:
    """The x in [low, high] at which the expected step is zero, for one coordinate.

    `gradients` maps x to the workers' gradients (M,). Noisy medianSGD ("median") rests where
    E median_i(g_i(x) + bξ_i) = 0, noisy signSGD ("vote") where P(Σ sign(g_i(x) + bξ_i) > 0) = ½; b = 0 is medianSGD
    and signSGD. As b grows both tend to the point where the mean of the gradients is zero. Chen et al. 2020.

    Raises:
        ValueError: the expected step has the same sign at both ends, or there is no such rule or distribution.
    """
    if rule not in ("median", "vote"):
        raise unknown("rule", rule, ["median", "vote"])

    def drift(x: float) -> float:
        u = gradients(x)
        if rule == "median":
            return float(expected_noisy_median(u, b, distribution))
        return float(noisy_vote_probability(u, b, distribution)) - 0.5

    if drift(low) * drift(high) > 0:
        raise ValueError(
            f"The expected step has the same sign at {low} and at {high}, so no resting point is known to lie "
            "between them. Give a wider interval."
        )
    return float(brentq(drift, low, high, xtol=1e-10 * max(1.0, abs(low), abs(high)), rtol=1e-12))
