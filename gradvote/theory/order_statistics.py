"""Order statistics of independent variables of different laws, exactly, by the Poisson-binomial distribution.

The number N(x) of variables at or below x is a sum of independent coins of probabilities F_i(x), and the k-th smallest
variable is ≤ x exactly when N(x) ≥ k.

Shapes: M variables on the first axis, anything behind it.
"""

import torch
from torch import Tensor


def count_pmf(p: Tensor) -> Tensor:
    """P(N = k), k = 0..M, as (M + 1, ...), for coins of probabilities p (M, ...)."""
    pmf = torch.zeros(len(p) + 1, *p.shape[1:], dtype=p.dtype)
    pmf[0] = 1
    for i, p_i in enumerate(p):
        pmf[1 : i + 2] = pmf[1 : i + 2] * (1 - p_i) + pmf[: i + 1] * p_i
        pmf[0] = pmf[0] * (1 - p_i)
    return pmf


def at_least(p: Tensor, k: int) -> Tensor:
    """P(N ≥ k) (...) for coins of probabilities p (M, ...): the distribution function of the k-th smallest variable."""
    return count_pmf(p)[k:].sum(0)


def at_least_slope(p: Tensor, slope: Tensor, k: int) -> Tensor:
    """d P(N ≥ k) / dx for p (M, ...) of derivatives `slope` (M, ...): the density of the k-th smallest variable.

    Σ_i f_i · P(exactly k − 1 of the others), every term a sum of positive numbers.
    """
    total = torch.zeros_like(p[0])
    for i in range(len(p)):
        others = torch.cat((p[:i], p[i + 1 :]))
        total = total + slope[i] * count_pmf(others)[k - 1]
    return total


def middle_ranks(num: int) -> tuple[int, int]:
    """The ranks (counted from 1) of the two middle values of `num`; they are equal for odd `num`."""
    return (num + 1) // 2, num // 2 + 1
