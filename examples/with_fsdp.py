"""Plain FSDP2 on a mesh of replicas and shards; the lines marked + are all that gradvote needs.

torchrun --nproc-per-node 4 examples/with_fsdp.py --shards 2
"""

import argparse
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import gradvote  # +


def main(steps: int, shards: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (num_ranks // shards, shards), mesh_dim_names=("replicate", "shard"))
    x, y = (torch.tensor(own) for own in load_digits(return_X_y=True))
    mine = y.argsort(stable=True).tensor_split(num_ranks)[rank]  # non-iid: sorted by class
    x, y, all_x, all_y = x[mine].float() / 16, y[mine], x.float() / 16, y
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh["shard"])  # - mesh=mesh: between replicas float32 would travel
    fully_shard(model, mesh=mesh["shard"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    algorithm = gradvote.algorithms.dist_ef_sgdm()  # +
    vote = gradvote.fsdp.attach(model, algorithm, group=mesh["replicate"], optimizer=optimizer)  # +
    generator = torch.Generator().manual_seed(rank)
    for step in range(steps):
        batch = torch.randint(len(y), (64,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
        if step % 50 == 0 and rank == 0:
            print(f"step {step}: loss of rank 0 {loss.item():.3f}")
    accuracy = (model(all_x).argmax(-1) == all_y).float().mean().item()
    stats = vote.stats()  # +
    if rank == 0:
        print(f"accuracy {accuracy:.3f}; {stats.coordinates} coordinates in this shard, to other replicas")
        print(f"{stats.bits_per_coordinate:.2f} bits each, {stats.compression_rate:.1f} times fewer than float32")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shards", type=int, default=2)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start this with torchrun, as its first lines say")
    main(options.steps, options.shards)
