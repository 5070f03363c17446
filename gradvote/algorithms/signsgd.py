"""signSGD with majority vote.

Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: compressed optimisation for non-convex problems", ICML 2018;
Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with majority vote is communication efficient and fault
tolerant", ICLR 2019; Algorithm 1 of Chen, Chen, Sun, Wu, Hong, "Distributed training with heterogeneous data:
bridging median- and mean-based algorithms", NeurIPS 2020.
"""

from gradvote.aggregators import MajorityVote
from gradvote.codecs import Sign
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm

LR = 1e-3
BITS = (1 + 1 / 64, 1 + 1 / 64)
WORDS = ("sign", "majority vote", "sign")
PAPER = "Bernstein et al. 2018, 2019"
TRUST = "a majority"


def signsgd(zero: Zero = "random", weights: tuple[float, ...] | None = None, still: bool = True) -> Algorithm:
    """x ← x − η·sign(Σ sign(g_i)): a majority vote on signs, 1 + 1 bits per coordinate, and 1/64 each for `still`.

    `zero` says what the sign of an exact zero is and how a tie is broken: "random" (a fair shared bit), "positive",
    "abstain" (sign(0) = 0, the papers' rule; 2 + 2 bits). With `still`, units of zeros (64 coordinates, or a row of
    the tensor where that is not aligned: an embedding's) are no votes, and stay where they are if nobody votes. On data
    that differ between workers the vote, the sign of the median, need not be the sign of the mean: see `noisy`.
    """
    sign = Sign(zero=zero, still=still)
    return Algorithm(sign, MajorityVote(zero, weights, still), sign)
