"""Plain PyTorch DDP; the lines marked + are all that gradvote needs.

torchrun --nproc-per-node 4 examples/with_ddp.py
"""

import argparse
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradvote  # +


def digits(rank: int, num_ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-iid: the samples sorted by class and cut into one run for each rank."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    mine = labels.argsort(stable=True).tensor_split(num_ranks)[rank]
    return images[mine], labels[mine]


def main(steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    x, y = digits(dist.get_rank(), dist.get_world_size())
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    ddp = DistributedDataParallel(model, **gradvote.ddp.OWN_BUFFERS)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.02)
    vote = gradvote.ddp.attach(ddp, gradvote.algorithms.dist_ef_sgdm(), optimizer=optimizer)  # +
    generator = torch.Generator().manual_seed(dist.get_rank())
    for step in range(steps):
        batch = torch.randint(len(y), (64,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(ddp(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        if step % 50 == 0 and dist.get_rank() == 0:
            print(f"step {step}: loss of rank 0 {loss.item():.3f}")
    gradvote.ddp.average_statistics(ddp)  # + BatchNorm's running statistics of all ranks
    stats = vote.stats()  # +
    if dist.get_rank() == 0:
        x, y = digits(0, 1)
        ddp.eval()
        accuracy = (model(x).argmax(-1) == y).float().mean().item()
        print(f"accuracy {accuracy:.3f}; {stats.bits_per_coordinate:.2f} bits per coordinate and step sent, ")
        print(f"{stats.compression_rate:.1f} times fewer than float32")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start this with torchrun, as its first lines say")
    main(options.steps)
