"""Distributed SGD, the mean in full precision: the baseline."""

from gradvote.aggregators import Mean
from gradvote.codecs import Dense
from gradvote.core import Algorithm

LR = 0.1
BITS = (32, 32)
WORDS = ("gradient", "mean", "mean")
TRUST = "every worker"


def sgd(weights: tuple[float, ...] | None = None, dtype: str = "float32") -> Algorithm:
    """x ← x − η·(1/M) Σ g_i: the mean of full gradients, 32 + 32 bits per coordinate.

    `weights`, one per worker, give the weighted mean Σ w_i·g_i / Σ w_i. One unbounded worker ruins it.
    """
    return Algorithm(Dense(dtype), Mean(weights), Dense(dtype))
