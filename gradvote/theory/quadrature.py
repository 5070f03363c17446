"""Integrals over an interval per coordinate, by Gauss's rule on panels between given knots."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

NODES = 8
PANELS = 64


@cache
def _rule() -> tuple[Tensor, Tensor]:
    """Nodes and weights (8,) of Gauss–Legendre on [0, 1]: exact for polynomials of degree 15."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy(nodes + 1) / 2, torch.from_numpy(weights) / 2


def integrate(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, kinks: Tensor | None = None) -> Tensor:
    """∫ f over [low, high] for each coordinate (d,); f takes points (d, P) and gives values (d, P).

    64 equal panels, divided further at `kinks` (d, K), where f is not smooth; those outside the interval do no harm.
    """
    knots = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, PANELS + 1, dtype=low.dtype)
    if kinks is not None:
        knots = torch.cat((knots, torch.minimum(torch.maximum(kinks, low[:, None]), high[:, None])), 1).sort(1).values
    nodes, weights = _rule()
    width = knots.diff(dim=1)
    points = knots[:, :-1, None] + width[..., None] * nodes
    values = f(points.flatten(1)).view(points.shape)
    return ((values * weights).sum(-1) * width).sum(-1)
