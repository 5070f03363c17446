"""Sign momentum with local steps: the sign of Lion's average of the workers' mean way.

Yu, Zhou, Xie, Xu, Zhang, Liu, Kar, "Distributed sign momentum with local steps for training transformers", arXiv
2411.17866, Algorithm 1. For `gradvote.local_steps` with the outer optimizer torch.optim.SGD(lr, weight_decay=λ).
"""

from gradvote.aggregators import Mean
from gradvote.codecs import Dense, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import LionMomentum

LR = 1e-3
BITS = (32, 1 + 1 / 64)
WORDS = ("way of local steps", "mean, Lion's momentum", "sign")
PAPER = "Yu et al. 2024"
TRUST = "every worker"


def sign_momentum(
    beta1: float = 0.95,
    beta2: float = 0.98,
    zero: Zero = "random",
    weights: tuple[float, ...] | None = None,
    still: bool = True,
) -> Algorithm:
    """Δ = mean_i(θ − θ_i); u = β₁m + (1−β₁)Δ; m ← β₂m + (1−β₂)Δ; θ ← θ − η(sign(u) + λθ). 32 + 1 bits per coordinate.

    The paper divides Δ by the inner rate γ: the same where γ is constant, as a sign knows no size. Its ηγ is η here.
    With `still`, units of which nothing ever moved stay where they are, at 1/64 bit more.
    """
    down = chain(LionMomentum(beta1, beta2), Sign(zero=zero, still=still))
    return Algorithm(Dense(), Mean(weights), down)
