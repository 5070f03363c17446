"""What the spawned ranks of the DDP tests run."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.engines.distributed import hook_thread, pipeline
from tests.engines.failing_workers import text_of
from tests.engines.workers import CLASSES, batch, flat, new_model, whole

STEPS = 6
SEED = 3
MANY_BUCKETS = {"bucket_cap_mb": 0.002}
APART = {**MANY_BUCKETS, "small": 0}
SOME = 1500
"""Bytes of a few of the small buckets."""
VARIANTS: dict[str, dict[str, Any]] = {
    "one bucket": {},
    "many buckets": APART,
    "buckets that travel together": MANY_BUCKETS,
    "views": {**APART, "gradient_as_bucket_view": True},
    "static graph": {**APART, "static_graph": True},
    "unused allowed": {**APART, "find_unused_parameters": True},
}


class Branches(nn.Module):
    """A part that only even ranks reach, tied weights, a frozen one, a channels-last one and a half-precision one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.deeper = nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last)
        self.first, self.second = nn.Linear(144, 12, bias=False), nn.Linear(12, 12)
        self.third, self.sometimes = nn.Linear(12, 12), nn.Linear(12, 12)
        self.out = nn.Linear(12, CLASSES).to(torch.bfloat16)
        self.third.weight = self.second.weight
        self.second.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.third(self.second(self.first(self.deeper(self.conv(x)).flatten(1)).relu()))
        if dist.get_rank() % 2 == 0:
            x = x + self.sometimes(x)
        return self.out(x.to(torch.bfloat16)).float()


def branches() -> nn.Module:
    torch.manual_seed(0)
    return Branches()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Two groups with rates of their own."""
    params = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD([{"params": params[:2], "lr": 0.02}, {"params": params[2:], "lr": 0.01}])


def by_exchange(make: Callable[[], nn.Module], algorithm: Any, micro: int = 1, placement: Any = "sharded") -> Tensor:
    model = make()
    optimizer = optimizer_of(model)
    exchange = Exchange(model.parameters(), algorithm, optimizer=optimizer, seed=SEED, timeout=60, placement=placement)
    return _loop(model, model, optimizer, exchange.step, micro)


def by_ddp(
    make: Callable[[], nn.Module],
    algorithm: Any,
    micro: int = 1,
    small: int = hook_thread.SMALL,
    placement: Any = "sharded",
    **options: Any,
) -> Tensor:
    """The same with DDP; buckets of less than `small` bytes wait for the next."""
    model = make()
    net, optimizer = DistributedDataParallel(model, **options), optimizer_of(model)
    gradvote.ddp.attach(net, algorithm, optimizer=optimizer, seed=SEED, timeout=60, placement=placement)
    with mock.patch.object(hook_thread, "SMALL", small):
        return _loop(model, net, optimizer, lambda: None, micro)


def exchanges() -> list[int]:
    """How many exchanges a step of DDP with many buckets makes: each its own, few small ones together, all together."""
    counted = []
    for small in (0, SOME, hook_thread.SMALL):
        with mock.patch.object(pipeline, "run", wraps=pipeline.run) as run:
            by_ddp(branches, algorithms.signsgd(), small=small, find_unused_parameters=True, **MANY_BUCKETS)
        counted.append(run.call_count // STEPS)
    return counted


def _loop(model: nn.Module, net: nn.Module, optimizer: Any, exchange: Callable[[], None], micro: int) -> Tensor:
    for step in range(STEPS):
        optimizer.zero_grad()
        for k in range(micro):
            x, y = batch(dist.get_rank(), micro * step + k)
            with net.no_sync() if isinstance(net, DistributedDataParallel) and k < micro - 1 else nullcontext():
                cross_entropy(net(x), y).backward()
        exchange()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()
    return flat(model)


class WithStatistics(nn.Module):
    """BatchNorm behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.conv(x)).relu().flatten(1))


def statistics() -> tuple[list[Tensor], Tensor]:
    """All ranks' running means, and this rank's after averaging."""
    torch.manual_seed(0)
    model = WithStatistics()
    net = DistributedDataParallel(model, **gradvote.ddp.OWN_BUFFERS)
    gradvote.ddp.attach(net, algorithms.signsgd(), timeout=60)
    cross_entropy(net(batch(dist.get_rank(), 0)[0]), batch(dist.get_rank(), 0)[1]).backward()
    own = model.norm.running_mean
    assert own is not None
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, own.clone())
    gradvote.ddp.average_statistics(net)
    return everyone, own


def refusals() -> dict[str, str]:
    """What attach says about models that it does not take; nobody waits for anybody."""
    sharded = new_model()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    cases: dict[str, Any] = {"plain": new_model(), "fsdp": sharded}
    errors = {name: text_of(lambda m=m: gradvote.ddp.attach(m, algorithms.signsgd())) for name, m in cases.items()}  # type: ignore[misc]
    net = DistributedDataParallel(new_model())
    return {**errors, "whole vectors": text_of(lambda: gradvote.ddp.attach(net, whole()["krum"]))}


def everything() -> dict[str, Any]:
    return {"variants": variants(), "exchanges": exchanges(), "statistics": statistics(), "refusals": refusals()}


def variants() -> dict[str, tuple[Tensor, Tensor]]:
    """DDP's parameters and the plain loop's for each way to build DDP."""
    results = {}
    for name, algorithm in {"dist_ef_sgdm": algorithms.dist_ef_sgdm(), "signum": algorithms.signum()}.items():
        expected = by_exchange(new_model, algorithm)
        for variant, options in VARIANTS.items():
            results[f"{name}, {variant}"] = by_ddp(new_model, algorithm, **options), expected
        accumulated = by_exchange(new_model, algorithm, micro=3)
        results[f"{name}, no_sync"] = by_ddp(new_model, algorithm, micro=3, **APART), accumulated
        expected = by_exchange(branches, algorithm)
        for small in (0, SOME):
            found = by_ddp(branches, algorithm, small=small, find_unused_parameters=True, **MANY_BUCKETS)
            results[f"{name}, branches, {small}"] = found, expected
    for name, algorithm in whole().items():
        for placement in ("central", "replicated"):
            expected = by_exchange(branches, algorithm, placement=placement)
            options = {"find_unused_parameters": True, **MANY_BUCKETS}
            found = by_ddp(branches, algorithm, small=0, placement=placement, **options)
            results[f"{name}, {placement}"] = found, expected
    return results
