"""What the ranks of the tests of huge gradients run: a quadratic for each worker, and one number that is too large."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange

D, STEPS, LR, SPOILT = 70, 120, 0.01, (5, 1, 7)
"""Coordinates, steps, learning rate; step, worker and coordinate of the huge gradient."""
RECIPES = {
    "dist-ef-sgdm": algorithms.dist_ef_sgdm(),
    "dropsignsgd": algorithms.dropsignsgd(c=1.0),
    "signum": algorithms.signum(),
}


def gradient(x: Tensor, worker: int, step: int, huge: float) -> Tensor:
    """Worker i pulls towards a target of its own, with noise."""
    target = torch.randn(D, generator=torch.Generator().manual_seed(worker))
    g = x - target + 0.1 * torch.randn(D, generator=torch.Generator().manual_seed(1000 * step + worker))
    if huge and (step, worker) == SPOILT[:2]:
        g[SPOILT[2]] = huge
    return g


def distance(x: Tensor, num_workers: int) -> float:
    """From the optimum of the mean objective."""
    targets = [torch.randn(D, generator=torch.Generator().manual_seed(worker)) for worker in range(num_workers)]
    return float((x - torch.stack(targets).mean(0)).norm())


def exchanged(algorithm: Algorithm, huge: float, steps: int) -> tuple[Tensor, list[int]]:
    """The parameters in the end, and the blocks on which the spoilt worker had abstained after each step."""
    p, seen = nn.Parameter(torch.zeros(D)), []
    optimizer = torch.optim.SGD([p], LR)
    exchange = Exchange([p], algorithm, optimizer=optimizer, placement="replicated", timeout=60)
    for step in range(steps):
        p.grad = gradient(p.detach(), dist.get_rank(), step, huge)
        exchange.step()
        optimizer.step()
        seen.append(exchange.stats().abstentions[SPOILT[1]])
    return p.detach(), seen


def everything(huge: float, steps: int) -> dict[str, tuple[Tensor, list[int]]]:
    """All algorithms on this rank."""
    return {name: exchanged(algorithm, huge, steps) for name, algorithm in RECIPES.items()}
