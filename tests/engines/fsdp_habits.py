"""What users do to sharded replicas, and what they are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.fsdp import fully_shard

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from tests.engines.failing_workers import text_of
from tests.engines.fsdp_nets import Mesh, Net, attach, blocks_alike, loss_of, new_net, optimizer_of, sharded, whole
from tests.engines.habit_workers import with_warnings


def parted(mesh: Mesh) -> tuple[str, str]:
    """All shards of the second replica are changed behind the vote's back, and found at the next comparison."""
    net = sharded(mesh)
    attach(mesh, net, optimizer_of(net), algorithms.signsgd(), check_parameters_every=1)
    loss_of(net, mesh, 0).backward()
    with torch.no_grad():
        for p in net.parameters():
            p.to_local().add_(mesh.replica)  # type: ignore[attr-defined]
    found = text_of(lambda: loss_of(net, mesh, 1).backward())
    with torch.no_grad():
        for p in net.parameters():
            p.to_local().sub_(mesh.replica)  # type: ignore[attr-defined]
    return found, f"between rank {mesh.number} and rank {mesh.number + 2}"


def several_votes(mesh: Mesh) -> tuple[Tensor, Tensor, list[str]]:
    """Two synchronising passes for a step; each votes, and the directions add up; a part only the first one used."""
    runs = []
    for apart in (False, True):
        net = sharded(mesh)
        optimizer = optimizer_of(net)
        attach(mesh, net, optimizer, algorithms.mediansgd())

        def run(net: Any = net, optimizer: Any = optimizer, apart: bool = apart) -> Tensor:
            for step in range(2):
                total: dict[Any, Any] = {}
                for k in range(2):
                    if apart or not k:
                        optimizer.zero_grad()
                    loss_of(net, mesh, 2 * step + k, sometimes=k == 0).backward()
                    for p in net.parameters():
                        if apart and p.grad is not None:
                            total[p] = p.grad if p not in total else total[p] + p.grad
                for p, gradient in total.items():
                    p.grad = gradient
                optimizer.step()
            return whole(net)

        runs.append(with_warnings(run))
    return runs[0][0], runs[1][0], runs[0][1]


def not_a_number(mesh: Mesh) -> dict[str, Any]:
    """A shard of the second replica is NaN in one parameter; then that shard of all replicas; then all of it."""
    found = {}
    for case, bad in {"one": (1, (0,)), "shard": (None, (0,)), "all": (None, (0, 1))}.items():
        net = sharded(mesh)
        optimizer = optimizer_of(net)
        vote = attach(mesh, net, optimizer, blocks_alike("signsgd"))
        before = whole(net)
        with spoiled(net.first.weight, bad[0] in (None, mesh.replica) and mesh.number in bad[1], torch.nan):
            loss_of(net, mesh, 0).backward()
        gradient = net.first.weight.grad
        local = None if gradient is None else gradient.to_local()
        optimizer.step()
        found[case] = local, (whole(net) - before)[net.few.numel() :][: 24 * 16], vote.stats().abstentions
    return found


@contextmanager
def spoiled(p: Any, here: bool, value: float, rows: slice = slice(None)) -> Iterator[None]:
    """FSDP's gradient of p has rows of `value` on this rank, before the vote hears of it."""

    @torch.no_grad()
    def spoil(whole: Any) -> None:
        if here:
            whole.grad.to_local()[rows].fill_(value)

    handle = p.register_post_accumulate_grad_hook(spoil)
    p._post_accumulate_grad_hooks.move_to_end(handle.id, last=False)
    yield
    handle.remove()


def overflows(mesh: Mesh) -> dict[str, tuple[float, bool, bool]]:
    """The scale after a step, whether it was taken, and whether all ranks have the same parameters."""
    found = {}
    for case, replicas in {"one of two": (1,), "both": (0, 1)}.items():
        net = sharded(mesh)
        optimizer, scaler = optimizer_of(net), GradScaler("cpu", 1024.0)
        attach(mesh, net, optimizer, blocks_alike("dist-ef-sgdm"), scaler=scaler)
        before = whole(net)
        here = mesh.replica in replicas and mesh.number == mesh.replica
        with spoiled(net.first.weight, here, torch.inf, slice(1)):
            scaler.scale(loss_of(net, mesh, 0)).backward()
        scaler.step(optimizer)
        scaler.update()
        after = whole(net)
        found[case] = float(scaler.get_scale()), not torch.equal(after, before), bool(after.isfinite().all())
    return found


def on_one_replica_only(mesh: Mesh) -> tuple[float, bool]:
    """A part that only the second replica reaches: the first abstains there."""
    net = sharded(mesh)
    optimizer = optimizer_of(net)
    attach(mesh, net, optimizer, blocks_alike("signsgd"))
    before = whole(net.sometimes)
    loss_of(net, mesh, 0, sometimes=mesh.replica == 1).backward()
    optimizer.step()
    moved = (whole(net.sometimes) != before).float().mean()
    optimizer.zero_grad()
    loss_of(net, mesh, 1, sometimes=False).backward()
    return float(moved), net.sometimes.weight.grad is None


def changed_after(mesh: Mesh) -> dict[str, Any]:
    """What is done to a model after the start, and to directions."""
    net = sharded(mesh)
    optimizer = optimizer_of(net)
    attach(mesh, net, optimizer, blocks_alike("dist-ef-sgdm"))

    def clipped() -> None:
        loss_of(net, mesh, 0).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()

    _, said = with_warnings(clipped)
    optimizer.zero_grad()
    net.frozen.requires_grad_(True)
    return {"clipped": said, "unfrozen": text_of(lambda: loss_of(net, mesh, 1).backward())}


def began_apart(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Replicas that begin with other values, and what they have after attaching."""
    net = sharded(mesh)
    with torch.no_grad():
        for p in net.parameters():
            p.to_local().add_(mesh.replica)  # type: ignore[attr-defined]
    attach(mesh, net, optimizer_of(net), algorithms.signsgd())
    return whole(net), whole(new_net())


def counted(mesh: Mesh) -> tuple[Any, int]:
    """The counts after one step of a larger model, and the coordinates of this shard."""
    net = nn.Linear(256, 256, bias=False)
    fully_shard(net, mesh=mesh.shard)
    vote = attach(mesh, net, None, algorithms.signsgd())
    net(torch.randn(4, 256)).square().mean().backward()
    return vote.stats(), net.weight.to_local().numel()  # type: ignore[operator]


def refusals(mesh: Mesh) -> dict[str, str]:
    """What attach says; nobody waits for anybody."""

    def text(net: Any, algorithm: Any = None, group: Any = mesh.replicas, **options: Any) -> str:
        given = algorithms.signsgd() if algorithm is None else algorithm
        return text_of(lambda: gradvote.fsdp.attach(net, given, group=group, **options))

    hybrid, partly, twice = new_net(), new_net(), sharded(mesh)
    fully_shard(hybrid, mesh=mesh.both)
    fully_shard(partly.first, mesh=mesh.shard)
    attach(mesh, twice, None, algorithms.signsgd())
    with torch.device("meta"):
        empty = Net()
    fully_shard(empty, mesh=mesh.shard)
    small = nn.Sequential(nn.Linear(4, 1))
    fully_shard(small, mesh=mesh.shard)
    krum = replace(algorithms.sgd(), aggregate=gradvote.aggregators.Krum(0))
    other, replicas = sharded(mesh), mesh.replicas.get_group()
    return {
        "hybrid": text(hybrid),
        "plain": text(new_net()),
        "partly": text(partly),
        "twice": text(twice),
        "meta": text(empty),
        "empty": text(small),
        "whole vectors": text(other, krum),
        "shards": text(other, group=mesh.shard),
        "two dimensions": text(other, group=mesh.both),
        "no group": text(other, group=None),
        "swapped": text(algorithms.signsgd(), other),
        "seeds": text(other, seed=mesh.replica),
        "one rank": text(other, seed=int(dist.get_rank() == 1)),
        "a bound in one shard": text(other, max_norm=[None, 1.0][dist.get_rank() % 2]),
        "exchange": text_of(lambda: Exchange(other.parameters(), algorithms.signsgd(), group=replicas)),
    }
