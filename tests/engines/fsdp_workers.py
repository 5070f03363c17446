"""What the spawned ranks of the tests of sharded models run: replicas of two and of three shards on six processes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.distributed import chunking
from tests.engines.failing_workers import text_of
from tests.engines.habit_workers import with_warnings

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
    return torch.cat([_full(p).flatten() for p in net.parameters()])


def _full(p: Tensor) -> Tensor:
    return p.full_tensor() if isinstance(p, DTensor) else p


def attach(mesh: Mesh, net: nn.Module, optimizer: Any, algorithm: Algorithm, **options: Any) -> Any:
    return gradvote.fsdp.attach(net, algorithm, group=mesh.replicas, optimizer=optimizer, seed=SEED, **options)


def blocks_alike(name: str) -> Algorithm:
    return replace(algorithms.create(name), block_size=BLOCK)


# --- the same vote as on unsharded replicas -----------------------------------------------------------------------


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
            p.grad, other.grad = None if other.grad is None else _full(other.grad), None
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


# --- habits ---------------------------------------------------------------------------------------------------------


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


# --- refusals -------------------------------------------------------------------------------------------------------


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
        "exchange": text_of(lambda: Exchange(other.parameters(), algorithms.signsgd(), group=replicas)),
    }


# --- checkpoints ----------------------------------------------------------------------------------------------------


def started(mesh: Mesh, steps: range, folder: str = "") -> tuple[Any, Any, Any]:
    net = sharded(mesh)
    optimizer = optimizer_of(net)
    vote = attach(mesh, net, optimizer, blocks_alike("dist-ef-sgdm"))
    if folder:
        load(mesh, net, vote, folder)
    train(mesh, net, optimizer, steps)
    return net, vote, optimizer


def train(mesh: Mesh, net: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(net, mesh, step).backward()
        optimizer.step()


def save(mesh: Mesh, net: nn.Module, vote: Any, folder: str) -> None:
    dcp.save({"model": net.state_dict(), "vote": vote}, checkpoint_id=folder, process_group=ranks_of(mesh))


def load(mesh: Mesh, net: nn.Module, vote: Any, folder: str) -> None:
    state = {"model": net.state_dict(), "vote": vote}
    dcp.load(state, checkpoint_id=folder, process_group=ranks_of(mesh))


GROUPS: dict[int, Any] = {}


def ranks_of(mesh: Mesh) -> Any:
    return GROUPS[mesh.both.size()]


def resumed(two: Mesh, three: Mesh, folder: str) -> dict[str, Any]:
    """After half of the steps: gone on with, resumed by two shards, and by three."""
    found: dict[str, Any] = {}
    if two.here:
        net, vote, optimizer = started(two, range(2))
        found["saved"] = memories(vote)
        save(two, net, vote, folder)
        train(two, net, optimizer, range(2, 4))
        again, _, _ = started(two, range(2, 4), folder=folder)
        found["two"] = whole(net), whole(again)
    dist.barrier()
    net, vote, optimizer = started(three, range(0), folder=folder)
    found["three"] = memories(vote), vote.step
    train(three, net, optimizer, range(2, 3))
    return found


def memories(vote: Any) -> dict[str, Tensor]:
    """All memories of this replica, and of the server, whole."""
    state = vote.state_dict()
    ((_, worker),) = state["worker"].items()
    sides = {"worker": worker, "server": state["server"]}
    return {
        f"{side}, {name}, {leaf}": own.full_tensor()
        for side, saved in sides.items()
        for name, rows in saved.items()
        for leaf, own in rows.items()
    }


def mixed(mesh: Mesh) -> list[str]:
    """A checkpoint whose blocks cannot be mapped: rates differ within a block."""
    _, vote, _ = started(mesh, range(1))
    state = vote.state_dict()
    own = state["worker"][str(mesh.replica)]["first.weight"]
    (rates,) = (leaf for name, leaf in own.items() if name.endswith("lr"))
    rates.to_local()[0, :2] = 0.5
    _, said = with_warnings(lambda: vote.load_state_dict(state))
    others = {**state, "num_replicas": 3}, {**state, "worker": {}}
    return [*said, *(text_of(partial(vote.load_state_dict, other)) for other in others)]


# --- all of it ------------------------------------------------------------------------------------------------------


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
