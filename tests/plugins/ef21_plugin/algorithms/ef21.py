"""EF21: scaled signs of what the server's estimate of each gradient lacks.

Richtárik, Sokolov, Fatkhullin, "EF21: a new, simpler, theoretically better, and practically faster error feedback",
NeurIPS 2021, Algorithm 2.
"""

from gradvote.aggregators import Mean
from gradvote.codecs import Dense, Sign
from gradvote.core import Algorithm

from ..aggregators.total import Total
from ..codecs.ef21 import Accumulated, Estimate

LR = 0.1
BITS = (1, 32)
SCALES = (1, 0)
WORDS = ("scaled sign of what an estimate lacks", "sum of means", "estimate")
PAPER = "Richtárik et al. 2021"
TRUST = "every worker"


def ef21(workers: int | None = None) -> Algorithm:
    """c_i = C(g_i(x) − ĝ_i); ĝ_i ← ĝ_i + c_i; ĝ ← ĝ + mean(c_i); x ← x − η·ĝ. 1 + 32 bits per coordinate.

    With the number of `workers`, ĝ stays the mean of all ĝ_i where some of them abstain; without it, a mean of those
    that are there is added, as if nobody ever did.
    """
    up = Estimate(Sign("l1"))
    if workers is None:
        return Algorithm(up, Mean(), Accumulated(Dense()), block_size=None)
    return Algorithm(up, Total(), Accumulated(Dense(), 1 / workers), block_size=None)
