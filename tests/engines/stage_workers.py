"""Training in stages: a model that is changed once it is wrapped, or gets a second vote, as two ranks run it."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.engines.distributed import hook_thread
from tests.engines.failing_workers import text_of
from tests.engines.habit_workers import nothing, with_warnings
from tests.engines.workers import CLASSES, batch, flat, new_model

KINDS = ("ddp", "exchange")


def stages() -> dict[str, tuple[Tensor, Tensor, list[str]]]:
    """Parameters after two stages with the first vote kept, and with it dropped; and what was said."""
    found = {}
    for kind in KINDS:
        for change in ("same optimizer", "other rate", "new layer"):
            kept, said = with_warnings(partial(_in_stages, kind, change, True))
            found[f"{kind}, {change}"] = kept, _in_stages(kind, change, False), said
    return found


def _in_stages(kind: str, change: str, keep: bool) -> Tensor:
    model, votes = new_model(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for stage in range(2):
        if stage == 1 and change != "same optimizer":
            if change == "new layer":
                torch.manual_seed(1)
                model.append(nn.Linear(CLASSES, CLASSES))
            optimizer = torch.optim.SGD(model.parameters(), 0.005)
        net, step, vote = _voting(kind, model, optimizer)
        votes = [*votes, (net, vote)] if keep else [(net, vote)]
        for number in range(4):
            optimizer.zero_grad()
            x, y = batch(dist.get_rank(), 4 * stage + number)
            cross_entropy(net(x), y).backward()
            step()
            nn.utils.clip_grad_norm_(model.parameters(), math.inf)  # as trainers measure a norm
            optimizer.step()
    return flat(model)


def _voting(
    kind: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, Callable[[], object], Any]:
    own: dict[str, Any] = {"optimizer": optimizer, "timeout": 60}
    if kind == "exchange":
        exchange = Exchange(model.named_parameters(), algorithms.dist_ef_sgdm(), **own)
        return model, exchange.step, exchange
    net = DistributedDataParallel(model)
    return net, nothing, gradvote.ddp.attach(net, algorithms.dist_ef_sgdm(), **own)


def between_wrapping_and_attaching() -> dict[str, str]:
    """What is said where a layer is unfrozen, added or replaced after DDP has wrapped the model, or thawed later."""
    return {name: text_of(partial(_between, name)) for name in ("unfrozen", "added", "replaced", "thawed")}


def _between(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(name != "unfrozen")
    net = DistributedDataParallel(model, find_unused_parameters=True)
    if name == "added":
        model.append(nn.Linear(2, 2))
    elif name == "replaced":
        model[1].bias = nn.Parameter(torch.zeros(2))
    else:
        model[0].requires_grad_(name == "unfrozen")
    gradvote.ddp.attach(net, algorithms.signsgd(), timeout=60)
    net(torch.ones(1, 4)).sum().backward()
    model[0].requires_grad_()
    net(torch.ones(1, 4)).sum().backward()


def frozen_since_wrapped() -> dict[str, tuple[Tensor, Tensor]]:
    """Parameters after steps of a model whose first layers were frozen after DDP had wrapped it, and before that.

    As Lightning's `configure_optimizers` does; `alone`: they fill buckets of their own.
    """
    found = {}
    for name, small in (("together", hook_thread.SMALL), ("alone", 0)):
        ends = []
        for late in (True, False):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(20, 300), nn.Linear(300, 300), nn.Linear(300, 5))
            if not late:
                model[:2].requires_grad_(False)
            net = DistributedDataParallel(model, find_unused_parameters=True, bucket_cap_mb=0.1)
            model[:2].requires_grad_(False)
            optimizer = torch.optim.SGD(model[2].parameters(), 0.05)
            vote = gradvote.ddp.attach(net, algorithms.dist_ef_sgdm(), optimizer=optimizer, timeout=60)
            generator = torch.Generator().manual_seed(dist.get_rank())
            with mock.patch.object(hook_thread, "SMALL", small):
                for _ in range(4):
                    optimizer.zero_grad()
                    cross_entropy(net(torch.randn(6, 20, generator=generator)), torch.arange(6) % 5).backward()
                    optimizer.step()
            ends.append(torch.cat([flat(model), torch.tensor([float(vote.step)])]))
        found[name] = ends[0], ends[1]
    return found


class Fabric(nn.Module):
    """As Lightning Fabric wraps a DDP model."""

    def __init__(self, net: DistributedDataParallel) -> None:
        super().__init__()
        self._forward_module = net


def fabrics_model() -> str:
    """What is said of it."""
    return text_of(lambda: gradvote.ddp.attach(Fabric(DistributedDataParallel(new_model())), algorithms.signsgd()))  # type: ignore[arg-type]  # a stand-in


def everything() -> dict[str, Any]:
    return {f.__name__: f() for f in (stages, between_wrapping_and_attaching, frozen_since_wrapped, fabrics_model)}
