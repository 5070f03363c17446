"""A training step of ResNet-20 on batches shaped like CIFAR-10: DDP with and without `gradvote.ddp.attach`.

`python benchmarks/resnet_step.py [--ranks 2] [--batch-size 64] [--steps 10]`. The contestants take turns in every step,
so that a disturbance meets them all; a figure is printed only when all ranks ended with the same parameters.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.launch import spawn
from gradvote.lab.models import build

SHAPE, CLASSES, WARM_UP = (3, 32, 32), 10, 3
VOTES: dict[str, Callable[[], Algorithm] | None] = {
    "fp32": None,
    "signsgd": algorithms.signsgd,
    "dropsignsgd": algorithms.dropsignsgd,
    "dropsignsgd-64": lambda: algorithms.dropsignsgd(granularity=64),
    "dist-ef-sgdm": algorithms.dist_ef_sgdm,
    "dist-ef-sgdm, max_norm": algorithms.dist_ef_sgdm,
}


def contestant(name: str) -> tuple[nn.Module, Callable[[Tensor, Tensor], None]]:
    """A model and its training step."""
    model = build("resnet20", SHAPE, CLASSES, seed=0)
    ddp, optimizer = (
        DistributedDataParallel(model, **gradvote.ddp.OWN_BUFFERS),
        torch.optim.SGD(model.parameters(), 1e-4),
    )
    make = VOTES[name]
    if make is not None:
        gradvote.ddp.attach(ddp, make(), optimizer=optimizer, max_norm=1.0 if "max_norm" in name else None)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(ddp(x), y).backward()
        optimizer.step()

    return model, step


def measure(batch_size: int, steps: int) -> dict[str, list[float]]:
    """Seconds per step of the slowest rank, by contestant."""
    contestants = {name: contestant(name) for name in VOTES}
    seconds: dict[str, list[float]] = {name: [] for name in VOTES}
    generator = torch.Generator().manual_seed(dist.get_rank())
    for k in range(WARM_UP + steps):
        x = torch.randn(batch_size, *SHAPE, generator=generator)
        y = torch.randint(CLASSES, (batch_size,), generator=generator)
        for name, (_, step) in contestants.items():
            dist.barrier()
            start = time.perf_counter()
            step(x, y)
            took = torch.tensor(time.perf_counter() - start)
            dist.all_reduce(took, dist.ReduceOp.MAX)
            if k >= WARM_UP:
                seconds[name].append(float(took))
    for name, (model, _) in contestants.items():
        check(name, torch.cat([p.detach().flatten() for p in model.parameters()]))
    return seconds


def check(name: str, parameters: Tensor) -> None:
    """All ranks have the same parameters, and finite ones."""
    everyone = [torch.empty_like(parameters) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, parameters)
    if not bool(parameters.isfinite().all()) or any(not torch.equal(other, parameters) for other in everyone):
        raise RuntimeError(f"The ranks differ after training with {name}, so its time says nothing.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="of each rank")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    found = spawn(measure, options.ranks, options.batch_size, options.steps)[0]
    print(f"{'':16}{'ms per step':>12}{'against fp32':>14}   {options.ranks} ranks, batches of {options.batch_size}")
    for name, seconds in found.items():
        print(f"{name:16}{1e3 * median(seconds):>12.1f}{median(seconds) / median(found['fp32']):>13.2f}x")
