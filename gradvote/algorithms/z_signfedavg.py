"""z-SignFedAvg: noisy signs of how far the workers' local steps led, averaged and scaled so that they are unbiased.

Tang, Wang, Chang, "z-SignFedAvg: A unified stochastic sign-based compression for federated learning", AAAI 2024, arXiv
2302.02589, Algorithm 1, with z = 1 (Gaussian noise) and z = ∞ (uniform). For `gradvote.local_steps`.
"""

import math

from gradvote.aggregators import Mean
from gradvote.codecs import Dense, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.fitting import check_types
from gradvote.transforms import OwnNoise

LR = 1.0
BITS = (1, 32)
WORDS = ("sign of noisy way, scaled", "mean", "mean")
PAPER = "Tang et al. 2024"
TRUST = "every worker"

_NOISES = {1.0: ("gaussian", math.sqrt(math.pi / 2), 1.0), math.inf: ("uniform", 1.0, 1 / math.sqrt(3))}
"""By z: ξ_z, of density exp(−t^{2z}/2)/(2η_z); η_z = ∫₀^∞ exp(−t^{2z}/2) dt; the standard deviation of ξ_z."""


@check_types
def z_signfedavg(
    sigma: float = 0.01,
    z: float = 1.0,
    zero: Zero = "random",
    weights: tuple[float, ...] | None = None,
) -> Algorithm:
    """Δ_i = η_z·σ·sign((θ − θ_i) + σξ_z); the outer optimizer steps along mean(Δ_i). 1 + 32 bits per coordinate.

    E Δ_i is θ − θ_i up to (|θ − θ_i|/σ)² relatively; with z = ∞ (uniform noise; z = 1 is Gaussian) it is exact where
    |θ − θ_i| ≤ σ. σ is in units of the way that H steps led, the paper's σ times its inner rate γ; the paper's server
    step ηγ is the outer rate times η_z·σ here. The mean of bounded signs limits what one worker can add to η_z·σ/M per
    coordinate.
    """
    if z not in _NOISES:
        raise ValueError(f"z-SignFedAvg is here for z = 1 (Gaussian noise) and z = inf (uniform); got {z}.")
    name, eta, deviation = _NOISES[z]
    return Algorithm(chain(OwnNoise(sigma * deviation, name), Sign(eta * sigma, zero)), Mean(weights), Dense())
