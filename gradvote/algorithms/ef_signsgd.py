"""EF-signSGD: scaled signs with error memory on the workers.

Karimireddy, Rebjock, Stich, Jaggi, "Error feedback fixes signSGD and other gradient compression schemes", ICML 2019,
Algorithm 1, with the mean over M workers.
"""

from gradvote.aggregators import Mean
from gradvote.codecs import Dense, ErrorFeedback, Sign
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm

LR = 0.1
BITS = (1, 32)
SCALES = (1, 0)
WORDS = ("scaled sign, error memory", "mean", "mean")
PAPER = "Karimireddy et al. 2019"
TRUST = "every worker"


def ef_signsgd(zero: Zero = "random", weights: tuple[float, ...] | None = None) -> Algorithm:
    """p = ηg + e; Δ = (‖p‖₁/n)·sign(p) per tensor; e ← p − Δ; x ← x − mean(Δ_i). 1 + 32 bits per coordinate.

    The memory is kept in gradient units, e/η, and rescaled when η changes: the paper's η inside the memory, up to
    rounding. 32 more bits per tensor for the scale.
    """
    return Algorithm(ErrorFeedback(Sign("l1", zero)), Mean(weights), Dense(), block_size=None)
