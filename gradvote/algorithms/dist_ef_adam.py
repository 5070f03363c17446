"""dist-EF with Adam's update in place of momentum's: scaled signs and error memory in both directions.

After Chen, Shen, Liu, Luo, "Efficient-Adam: Communication-efficient distributed Adam", IEEE Transactions on Signal
Processing 2023: each worker has an Adam of its own, and sends its update. Here averages are corrected for their youth,
as in Adam, β₁ is smaller, and a block is one parameter tensor, as in `dist_ef_sgdm`.
"""

from gradvote.aggregators.bounded_mean import mean_of
from gradvote.codecs import ErrorFeedback, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import Adam

LR = 5e-3
BITS = (1, 1)
SCALES = (1, 1)
WORDS = ("scaled sign, Adam, memory", "mean, memory", "scaled sign")
PAPER = "Chen et al. 2023"
TRUST = "every worker"


def dist_ef_adam(
    beta1: float = 0.8,
    beta2: float = 0.999,
    eps: float = 1e-8,
    zero: Zero = "random",
    weights: tuple[float, ...] | None = None,
    bound: float | None = None,
) -> Algorithm:
    """p = Adam's update of g + (η_{t−1}/η_t)e; Δ = (‖p‖₁/n)·sign(p); e ← p − Δ, and so the server. 1 + 1 bits.

    32 more bits per tensor and direction. η is that of Adam. β₁ is 0.8, not 0.9: memories are late by steps of their
    own. The decoupled decay is the optimizer's: torch.optim.SGD with `weight_decay=λ`.
    `bound=2`: no worker's scale counts for more than twice the median of all (`BoundedMean`).
    """
    feedback = ErrorFeedback(Sign("l1", zero))
    return Algorithm(chain(Adam(beta1, beta2, eps), feedback), mean_of(weights, bound), feedback, block_size=None)
