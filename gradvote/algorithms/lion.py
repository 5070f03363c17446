"""Distributed Lion with majority vote.

Liu, Wu, Chen, Huang, Liu, "Communication efficient distributed training with distributed Lion", NeurIPS 2024.
"""

from gradvote.aggregators import MajorityVote
from gradvote.codecs import Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import LionMomentum

LR = 1e-3
BITS = (1 + 1 / 64, 1 + 1 / 64)
WORDS = ("sign of Lion's update", "majority vote", "sign")
PAPER = "Liu et al. 2024"
TRUST = "a majority"


def lion(
    beta1: float = 0.9,
    beta2: float = 0.99,
    zero: Zero = "random",
    weights: tuple[float, ...] | None = None,
    still: bool = True,
) -> Algorithm:
    """δ = sign(β₁m + (1−β₁)g); m ← β₂m + (1−β₂)g; x ← x − η·sign(Σδ_i): Lion by majority vote, 1 + 1 bits.

    The decoupled decay, x ← x − η(sign + λx), is the optimizer's: torch.optim.SGD with `weight_decay=λ`.
    `still` as in `signsgd` (1/64 + 1/64 bits), for momenta that were never touched.
    """
    sign = Sign(zero=zero, still=still)
    return Algorithm(chain(LionMomentum(beta1, beta2), sign), MajorityVote(zero, weights, still), sign)
