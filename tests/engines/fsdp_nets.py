"""The sharded model of the tests, its meshes, batches and votes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm

SEED, STEPS, CLASSES, BLOCK = 3, 3, 24, 4
"""Rows are cut so that blocks of four coordinates end where shards do."""


class Net(nn.Module):
    """Rows that two or three shards cannot share evenly, fewer rows than shards, a frozen and a seldom used part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.uneven = nn.Linear(16, 24), nn.Linear(24, 7, bias=False)
        self.sometimes, self.frozen = nn.Linear(24, 24), nn.Linear(24, 24)
        self.out, self.few = nn.Linear(24, CLASSES), nn.Parameter(torch.randn(2, 8))
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor, sometimes: bool = True) -> Tensor:
        x = self.first(x).relu()
        more = self.uneven(x).square().mean(-1, keepdim=True) + (self.few * x[:1, :8]).sum()
        x = self.frozen(x) + (self.sometimes(x) if sometimes else 0)
        return self.out(x) + more


class Mesh:
    """Two replicas of some shards, on the first ranks; the others leave it alone."""

    def __init__(self, shards: int) -> None:
        ranks = torch.arange(2 * shards).view(2, shards)
        self.both = DeviceMesh("cpu", ranks, mesh_dim_names=("replicate", "shard"))
        self.here = dist.get_rank() < 2 * shards
        if self.here:
            self.replicas, self.shard = self.both["replicate"], self.both["shard"]
            self.replica, self.number = self.replicas.get_local_rank(), self.shard.get_local_rank()


def new_net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


def sharded(mesh: Mesh, wrap: Callable[[nn.Module], nn.Module] = lambda m: m, **options: Any) -> nn.Module:
    net = new_net()
    for name in ("first", "uneven", "sometimes", "out"):
        setattr(net, name, wrap(getattr(net, name)))
        fully_shard(getattr(net, name), mesh=mesh.shard, **options)
    fully_shard(net, mesh=mesh.shard, **options)
    return net


def batch(mesh: Mesh, number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * number + 10 * mesh.replica + mesh.number)
    return torch.randn(8, 16, generator=generator), torch.randint(0, CLASSES, (8,), generator=generator)


def loss_of(net: nn.Module, mesh: Mesh, number: int, scale: float = 1.0, **options: Any) -> Tensor:
    x, y = batch(mesh, number)
    return cross_entropy(net(x, **options).float(), y) * scale


def optimizer_of(net: nn.Module, lr: float = 0.02) -> torch.optim.Optimizer:
    params = [p for p in net.parameters() if p.requires_grad]
    return torch.optim.SGD([{"params": params[:2], "lr": lr}, {"params": params[2:], "lr": lr / 2}])


@torch.no_grad()
def whole(net: nn.Module) -> Tensor:
    return torch.cat([full(p).flatten() for p in net.parameters()])


def full(p: Tensor) -> Tensor:
    return p.full_tensor() if isinstance(p, DTensor) else p


def attach(mesh: Mesh, net: nn.Module, optimizer: Any, algorithm: Algorithm, **options: Any) -> Any:
    return gradvote.fsdp.attach(net, algorithm, group=mesh.replicas, optimizer=optimizer, seed=SEED, **options)


def blocks_alike(name: str) -> Algorithm:
    return replace(algorithms.create(name), block_size=BLOCK)


def train(mesh: Mesh, net: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(net, mesh, step).backward()
        optimizer.step()
