"""A majority vote whose steps have the size of the updates, tensor by tensor, for `gradvote.local_steps`.

Ways of several steps differ in size between tensors by orders of magnitude: one size of step for all is too long for
some and too short for others. Here each ballot tells the mean magnitude of each tensor, and the median over the workers
is the length of the step. After Bernstein et al. 2018 (the vote) and You et al. 2017 (a rate for each layer).
"""

from gradvote.aggregators import MajorityVote
from gradvote.codecs import Sign, Sized, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import Size

LR = 0.7
BITS = (1 + 1 / 64, 1 + 1 / 64)
SCALES = (1, 1)
WORDS = ("sign, size", "majority vote, median size", "sign, size")
PAPER = "after Bernstein et al. 2018"
TRUST = "a majority"


def sized_signsgd(zero: Zero = "random", weights: tuple[float, ...] | None = None, still: bool = True) -> Algorithm:
    """x ← x − η·s·sign(Σ sign(g_i)), s = median_i mean|g_i| per tensor. 1 + 1 bits per coordinate, 32 per tensor each.

    A minority moves neither the sign on which all others agree nor the size beyond that of honest workers. `zero` and
    `still` are those of `signsgd`. On data that differ between workers put noise before the vote: `noisy`, with
    position="vote" and noise_std=Relative(...), so that the noise fits each tensor, too, and the size is told without.
    """
    sign = Sign(zero=zero, still=still)
    up, down = chain(Size(), sign), Sized(sign)
    return Algorithm(up, MajorityVote(zero, weights, still), down, block_size=None)
