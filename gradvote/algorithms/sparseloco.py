"""SparseLoCo: the largest coordinates of each chunk at two bits, with a fading error memory, after local steps.

Sarfi, Thérien, Lidin, Belilovsky, "Communication efficient LLM pre-training with SparseLoCo", arXiv 2508.15706.
For `gradvote.local_steps` with the outer optimizer torch.optim.SGD(lr=1.0), without momentum: the memory stands for it.
"""

from gradvote.aggregators import Mean
from gradvote.codecs import DecayingFeedback, Dense, TopK
from gradvote.core import Algorithm
from gradvote.fitting import check_types

LR = 1.0
BITS = (929 / 4096, 32)
WORDS = ("largest 1/64 at 2 bits, fading memory", "mean", "mean")
PAPER = "Sarfi et al. 2025"
TRUST = "every worker"


@check_types
def sparseloco(
    density: float = 1 / 64,
    decay: float = 0.95,
    chunk: int = 4096,
    weights: tuple[float, ...] | None = None,
) -> Algorithm:
    """e ← βe + (θ − θ_i); Δ_i = Q(TopK(e)) in each chunk; e ← e − Δ_i; the outer optimizer steps along mean(Δ_i).

    `density` is k/chunk. Bits up: density·(2 + log₂ chunk) and 32 per chunk, 0.23 with the defaults; down 32, or none
    where all workers get all ballots (placement `replicated`: M − 1 ballots each, the paper's all-gather). Chunks are
    consecutive coordinates, the paper's of matrices are squares of 64; its two bits number four bins of the kept
    values, here they are the sign and one of two magnitudes. The memory is rescaled where the outer rate changes.
    """
    return Algorithm(DecayingFeedback(TopK(density), decay=decay), Mean(weights), Dense(), block_size=chunk)
