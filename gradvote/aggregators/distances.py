"""Squared distances between workers' vectors, and who is nearest to whom: the same bits on every machine."""

import torch
from torch import Tensor

from gradvote import kernels


def squared_distances(x: Tensor, valid: Tensor) -> Tensor:
    """‖x_i − x_j‖² for x (M, ..., n), valid (M, ...), as (M, M, ...) float64; infinite where one of two is not valid.

    Sums are halving trees; a sum beyond a float32 is infinite, so that vectors of any size are compared.
    """
    distances = torch.zeros(len(x), len(x), *x.shape[1:-1], dtype=torch.float64, device=x.device)
    for i in range(len(x)):
        for j in range(i):
            apart = kernels.tree_sum((x[i] - x[j]).square()).double()
            distances[i, j] = distances[j, i] = apart.where(valid[i] & valid[j], torch.inf)
        distances[i, i] = torch.zeros(x.shape[1:-1], dtype=torch.float64, device=x.device).where(valid[i], torch.inf)
    return distances


def tolerated(f: int, valid: Tensor) -> Tensor:
    """How many liars (...) a rule for f of them can allow for among the valid workers (M, ...): fewer than half."""
    return ((valid.sum(0) - 1) // 2).clamp(0, f)


def ranks(distances: Tensor) -> Tensor:
    """The place (M, M, ...) of worker j among the neighbours of i, by distance; the lower number first in a tie."""
    return distances.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
