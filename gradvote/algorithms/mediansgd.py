"""medianSGD: the coordinate-wise median of the gradients.

Yin, Chen, Kannan, Bartlett, "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018;
Algorithm 2 of Chen, Chen, Sun, Wu, Hong, "Distributed training with heterogeneous data", NeurIPS 2020.
"""

from gradvote.aggregators import Median
from gradvote.codecs import Dense
from gradvote.core import Algorithm

LR = 0.1
BITS = (32, 32)
WORDS = ("gradient", "median", "median")
PAPER = "Yin et al. 2018"
TRUST = "a majority"


def mediansgd(dtype: str = "float32") -> Algorithm:
    """x ← x − η·median_i(g_i), coordinate-wise, for even M the mean of the two middle values; 32 + 32 bits."""
    return Algorithm(Dense(dtype), Median(), Dense(dtype))
