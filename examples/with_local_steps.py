"""Eight steps of its own on each worker, then one vote on how far they led; the lines marked + are all that is needed.

torchrun --nproc-per-node 5 examples/with_local_steps.py
"""

import argparse
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn

import gradvote  # +


def digits(rank: int, num_ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-iid: the samples sorted by class and cut into one run for each rank."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    mine = labels.argsort(stable=True).tensor_split(num_ranks)[rank]
    return images[mine], labels[mine]


def main(steps: int) -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    rank, x, y = dist.get_rank(), *digits(dist.get_rank(), dist.get_world_size())
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    outer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, nesterov=True)  # +
    algorithm = gradvote.algorithms.dist_ef_sgdm(mu=0.0)  # + 1 bit up and 1 bit down for each coordinate
    local = gradvote.local_steps.attach(model, optimizer, algorithm, every=8, outer=outer)  # +
    for step in range(steps):
        batch = torch.randint(len(y), (32,), generator=torch.Generator().manual_seed(1000 * step + rank))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        local.step()  # + after each of the optimizer's steps
    if rank == 0:
        x, y = digits(0, 1)
        accuracy = (model(x).argmax(-1) == y).float().mean().item()
        fewer = local.every * local.vote.stats().compression_rate
        print(f"accuracy {accuracy:.3f} after {local.round} rounds; {fewer:.0f} times fewer bytes than an all-reduce")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start this with torchrun, as its first lines say")
    main(options.steps)
