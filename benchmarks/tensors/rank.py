"""One rank of a contestant: makes steps when it is told to."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.distributed import Exchange
from tensors.contest import ALL_REDUCE
from tensors.models import shapes_of

WARM_UP = 11
Step = Callable[[], float]
"""A step; gives when the exchange had ended."""


def inside(name: str, shapes: str) -> None:
    """One rank: says that it is ready, then makes as many steps as each line of its input says."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    generator = torch.Generator().manual_seed(dist.get_rank())
    gradients = [torch.randn(shape, generator=generator) for shape in shapes_of(shapes)]
    step = _all_reduce(gradients) if name == ALL_REDUCE else _exchange(name, gradients)
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            dist.barrier()
            seconds.append(-time.perf_counter())
            seconds[-1] += step()
        print(statistics.median(seconds), flush=True)


def _all_reduce(gradients: Sequence[Tensor]) -> Step:
    flat = torch.cat([g.flatten() for g in gradients])

    def step() -> float:
        dist.all_reduce(flat)
        flat.div_(dist.get_world_size())
        return time.perf_counter()

    return step


def _exchange(name: str, gradients: Sequence[Tensor]) -> Step:
    params = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    optimizer = torch.optim.SGD(params, 0.0)
    algorithm = algorithms.noisy(algorithms.signsgd(), 0.1) if name == "noisy-signsgd" else algorithms.create(name)
    exchange, targets = Exchange(params, algorithm), [torch.empty_like(g) for g in gradients]

    def load() -> None:
        torch._foreach_copy_(targets, list(gradients))
        for p, target in zip(params, targets, strict=True):
            p.grad = target

    def step() -> float:
        exchange.step()
        ended = time.perf_counter()
        optimizer.step()
        load()
        return ended

    load()
    return step
