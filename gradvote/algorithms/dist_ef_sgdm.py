"""dist-EF-SGDM: scaled signs and error memory in both directions, with Nesterov momentum.

Zheng, Huang, Kwok, "Communication-efficient distributed blockwise momentum SGD with error-feedback", NeurIPS 2019,
Algorithms 1 and 2; a block is one parameter tensor.
"""

from gradvote.aggregators.bounded_mean import mean_of
from gradvote.codecs import ErrorFeedback, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import Momentum

LR = 0.01
BITS = (1, 1)
SCALES = (1, 1)
WORDS = ("scaled sign, momentum, memory", "mean, memory", "scaled sign")
PAPER = "Zheng et al. 2019"
TRUST = "every worker"


def dist_ef_sgdm(
    mu: float = 0.9, zero: Zero = "random", weights: tuple[float, ...] | None = None, bound: float | None = None
) -> Algorithm:
    """m ← μm + g; p = g + μm + (η_{t−1}/η_t)e; Δ = (‖p‖₁/n)·sign(p); e ← p − Δ, and so the server. 1 + 1 bits.

    32 more bits per tensor and direction. The paper's weight decay with a momentum of its own is
    `gradvote.optim.NesterovDecay`. η is about (1−μ) times that of SGD without momentum.
    `bound=2`: no worker's scale counts for more than twice the median of all (`BoundedMean`), which the paper has not.
    """
    feedback = ErrorFeedback(Sign("l1", zero))
    return Algorithm(chain(Momentum(mu, nesterov=True), feedback), mean_of(weights, bound), feedback, block_size=None)
