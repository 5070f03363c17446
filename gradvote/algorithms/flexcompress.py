"""FlexCompressSGD: dist-EF-SGDM that sends a random part of the signs.

Phuong, Phong, "Distributed SGD with flexible gradient compression", IEEE Access 2020. Reconstructed from its published
cost, as the paper's text was not to be had: momentum, memory and ratio of learning rates as in dist-EF-SGDM.
"""

from gradvote.aggregators import Mean
from gradvote.codecs import ErrorFeedback, Masked, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.transforms import Momentum

LR = 0.003  # below dist-EF-SGDM's: what waits to be sent arrives large
BITS = (0.3, 1)
SCALES = (1, 1)
WORDS = ("30 % of the signs, scale, memory", "mean, memory", "scaled sign")
PAPER = "Phuong, Phong 2020 (reconstructed)"
TRUST = "every worker"


def flexcompress(keep: float = 0.3, mu: float = 0.9, zero: Zero = "random", granularity: int = 1) -> Algorithm:
    """dist-EF-SGDM whose workers send each sign with probability `keep`; keep + 1 bits per coordinate. Reconstructed.

    The scale is the mean of |p| over the kept coordinates; e ← p − Δ with Δ = 0 where nothing was sent. 32 more bits
    per tensor and direction.
    """
    up = ErrorFeedback(Masked(keep, Sign("l1", zero), granularity))
    return Algorithm(chain(Momentum(mu, nesterov=True), up), Mean(), ErrorFeedback(Sign("l1", zero)), block_size=None)
