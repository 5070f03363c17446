"""Signum with majority vote: signSGD with momentum.

Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with majority vote is communication efficient and fault
tolerant", ICLR 2019, Algorithm 1.
"""

from gradvote.aggregators import MajorityVote
from gradvote.codecs import Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import Ema

LR = 1e-3
BITS = (1 + 1 / 64, 1 + 1 / 64)
WORDS = ("sign of averaged gradient", "majority vote", "sign")
PAPER = "Bernstein et al. 2019"
TRUST = "a majority"


def signum(
    beta: float = 0.9, zero: Zero = "random", weights: tuple[float, ...] | None = None, still: bool = True
) -> Algorithm:
    """v ← βv + (1−β)g; x ← x − η·sign(Σ sign(v_i)): a vote on the signs of momenta, 1 + 1 bits per coordinate.

    β = 0 is signSGD. The paper's decoupled decay, x ← x − η(sign + λx), is the optimizer's: torch.optim.SGD with
    `weight_decay=λ`, no momentum. `still` as in `signsgd` (1/64 + 1/64 bits), for momenta that were never touched.
    """
    sign = Sign(zero=zero, still=still)
    return Algorithm(chain(Ema(beta), sign), MajorityVote(zero, weights, still), sign)
