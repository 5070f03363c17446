"""What the spawned ranks of the tests of sharded models run: replicas of two and of three shards on six processes."""

import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.distributed import chunking
from tests.engines.failing_workers import text_of
from tests.engines.fsdp_checkpoints import GROUPS, mixed, resumed
from tests.engines.fsdp_habits import (
    began_apart,
    changed_after,
    counted,
    not_a_number,
    on_one_replica_only,
    overflows,
    parted,
    refusals,
    several_votes,
)
from tests.engines.fsdp_nets import (
    SEED,
    STEPS,
    Mesh,
    attach,
    blocks_alike,
    full,
    loss_of,
    new_net,
    optimizer_of,
    sharded,
    train,
    whole,
)


def by_shards(
    mesh: Mesh,
    algorithm: Algorithm,
    micro: int = 1,
    max_norm: float | None = None,
    scaler: GradScaler | None = None,
    **how: Any,
) -> Tensor:
    """In chunks of a hundred coordinates, which change nothing."""
    net = sharded(mesh, **how)
    optimizer = optimizer_of(net)
    with mock.patch.object(chunking, "CHUNK", 100):
        attach(mesh, net, optimizer, algorithm, max_norm=max_norm, scaler=scaler)
    scaler = scaler or GradScaler("cpu", enabled=False)
    for step in range(STEPS):
        optimizer.zero_grad()
        for k in range(micro):
            net.set_requires_gradient_sync(k == micro - 1)  # type: ignore[operator]
            scaler.scale(loss_of(net, mesh, micro * step + k, sometimes=step != 2)).backward()
        _decay(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return whole(net)


def by_replicas(mesh: Mesh, algorithm: Algorithm, micro: int = 1, max_norm: float | None = None, **how: Any) -> Tensor:
    """Unsharded replicas with an `Exchange`; their gradients are those of FSDP without a vote."""
    net, twin = new_net(), sharded(mesh, **how)
    optimizer, group = optimizer_of(net), mesh.replicas.get_group()
    named = [(n, p) for n, p in net.named_parameters()]
    exchange = Exchange(named, algorithm, optimizer=optimizer, seed=SEED, group=group, max_norm=max_norm)
    for step in range(STEPS):
        optimizer.zero_grad()
        _copy(net, twin)
        for k in range(micro):
            twin.set_requires_gradient_sync(k == micro - 1)  # type: ignore[operator]
            loss_of(twin, mesh, micro * step + k, sometimes=step != 2).backward()
        for p, other in zip(net.parameters(), twin.parameters(), strict=True):
            p.grad, other.grad = None if other.grad is None else full(other.grad), None
        exchange.step()
        _decay(optimizer)
        optimizer.step()
    return whole(net)


def _decay(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.9


@torch.no_grad()
def _copy(net: nn.Module, twin: nn.Module) -> None:
    for p, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert isinstance(other, DTensor)
        rows = other.to_local()
        rows.copy_(_shard_of(p, other))


def _shard_of(p: Tensor, like: DTensor) -> Tensor:
    chunks = p.chunk(like.device_mesh.size())
    number = like.device_mesh.get_local_rank()
    return chunks[number] if number < len(chunks) else p[:0]


HALF = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
HALF_WAY = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16)
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "noise, kept whole": ("noisy-signsgd", {"reshard_after_forward": False}, {}),
    "masks, scaled, reduced in bfloat16": ("dropsignsgd", {"mp_policy": HALF_WAY}, {"scaler": True}),
    "memories, accumulated and bounded": ("dist-ef-sgdm", {"micro": 2, "max_norm": 0.05}, {}),
    "memories, mixed precision, recomputed": ("dist-ef-sgdm", {"mp_policy": HALF, "wrap": checkpoint_wrapper}, {}),
}
"""An algorithm, how both are trained, and how the shards alone are: a scale of a power of two changes nothing."""


def equals(mesh: Mesh, names: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    found = {}
    for name in names:
        algorithm, how, more = VARIANTS[name]
        more = {"scaler": GradScaler("cpu", 1024.0)} if more else {}
        chosen = blocks_alike(algorithm)
        found[name] = by_shards(mesh, chosen, **how, **more), by_replicas(mesh, chosen, **how)
    return found


def everything(folder: str) -> None:
    """Each rank writes what it found; then rank 3 dies, and the others of four write what they see of it."""
    two, three = Mesh(2), Mesh(3)
    GROUPS.update({4: dist.new_group(range(4)), 6: dist.group.WORLD})
    found: dict[str, Any] = {}
    cases = (
        several_votes,
        not_a_number,
        overflows,
        on_one_replica_only,
        changed_after,
        began_apart,
        refusals,
        mixed,
        counted,
        parted,
    )
    if two.here:
        found = {"equals": equals(two, tuple(VARIANTS))} | {case.__name__: case(two) for case in cases}
    dist.barrier()
    found["of three"] = equals(three, ("memories, accumulated and bounded",))
    found["resumed"] = resumed(two, three, f"{folder}/states")
    found["place"] = (three.replica, two.number if two.here else None)
    torch.save(found, f"{folder}/{dist.get_rank()}.pt")
    dist.barrier()
    if two.here:
        dying(two, folder)


def dying(mesh: Mesh, folder: str) -> None:
    """Rank 3 dies in its second step."""
    net = sharded(mesh)
    optimizer = optimizer_of(net)
    attach(mesh, net, optimizer, algorithms.signsgd())
    train(mesh, net, optimizer, range(1))
    started = time.monotonic()
    if dist.get_rank() == 3:
        os._exit(3)
    text = text_of(lambda: train(mesh, net, optimizer, range(1, 4)))
    (Path(folder) / f"{dist.get_rank()}.txt").write_text(f"{time.monotonic() - started} {text}")
    raise RuntimeError("gloo/transport: ended by rank 3")
