"""Ranks whose parameters part, each in another way; what became of it, as three spawned ranks see it."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gradvote import algorithms, ddp
from gradvote.distributed import Exchange, ParametersDiffer
from gradvote.engines.distributed import comparison
from tests.engines.workers import batch, new_model

STEPS = 6
Harm = Callable[[nn.Module, torch.optim.Optimizer, Any], None]


def first_of(memory: Any) -> torch.Tensor:
    """A tensor of a state, to turn a bit in."""
    if isinstance(memory, torch.Tensor):
        return memory
    return first_of(next(iter(memory.values() if isinstance(memory, dict) else memory)))


def clip(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    for p in model.parameters():
        p.data.clamp_(-0.05, 0.05)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    model.load_state_dict({name: value + 0.25 for name, value in model.state_dict().items()})


def tie(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    """Ten rows of the last layer are made the same one."""
    weight = [*model.parameters()][-2]
    weight.data.copy_(weight.data[:1].expand_as(weight))


def rate(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    optimizer.param_groups[0]["lr"] = 0.5


def momentum(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    state = optimizer.state[[*model.parameters()][-1]]
    state["momentum_buffer"].view(torch.int32)[0] ^= 1 << 29


def memory(kind: str) -> Harm:
    def turn(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
        for seat in vote._session.seats.values():
            states = getattr(seat, kind).states[0]
            if states and states[0]:
                first_of(states).view(-1)[0] += 100.0

    return turn


def last(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    [*model.parameters()][-2].data[-1, -1] += 1.0


def each_its_own(model: nn.Module, optimizer: torch.optim.Optimizer, vote: Any) -> None:
    for p in model.parameters():
        p.data += 0.01 * dist.get_rank()


CASES: dict[str, tuple[Harm, tuple[int, ...], dict[str, Any]]] = {
    "clips weights": (clip, (1,), {}),
    "loads a checkpoint": (load, (0,), {}),
    "ties weights": (tie, (2,), {}),
    "another rate": (rate, (1,), {}),
    "a momentum": (momentum, (1,), {}),
    "every rank has its own": (each_its_own, (0, 1, 2), {}),
    "two alike": (load, (0, 2), {}),
    "the last coordinate": (last, (1,), {"check_parameters_every": 3}),
    "switched off": (clip, (1,), {"check_parameters_every": None}),
    "a worker's memory": (memory("worker"), (1,), {}),
    "a server's memory": (memory("server"), (1,), {}),
    "a replicated server's memory": (memory("server"), (1,), {"placement": "replicated"}),
}


def run(behind_ddp: bool, harm: Harm, ranks: tuple[int, ...], options: dict[str, Any]) -> tuple[int, str]:
    """Steps that were taken, and the error that ended them. A rank does harm after its second step."""
    model, vote = new_model(), None  # type: nn.Module, Any
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    algorithm = algorithms.create("dist-ef-sgdm")
    net = DistributedDataParallel(model) if behind_ddp else model
    if behind_ddp:
        vote = ddp.attach(net, algorithm, optimizer=optimizer, timeout=60, **options)
    else:
        vote = Exchange(model.named_parameters(), algorithm, optimizer=optimizer, timeout=60, **options)
    for step in range(STEPS):
        x, y = batch(dist.get_rank(), step)
        optimizer.zero_grad()
        try:
            cross_entropy(net(x), y).backward()
            if not behind_ddp:
                vote.step()
        except RuntimeError as error:  # torch puts its own words before those of a hook
            assert isinstance(error, ParametersDiffer) or behind_ddp
            return step, str(error)
        optimizer.step()
        if step == 1 and dist.get_rank() in ranks:
            harm(model, optimizer, vote)
    return STEPS, ""


def different_options() -> str:
    model = new_model()
    try:
        Exchange(model.named_parameters(), algorithms.signsgd(), check_parameters_every=10 + dist.get_rank())
    except ValueError as error:
        return str(error)
    return ""


def everything() -> dict[str, Any]:
    with mock.patch.object(comparison, "EARLY", 100):
        found = {(name, False): run(False, *case) for name, case in CASES.items()}
    found |= {(name, True): run(True, *CASES[name]) for name in ("loads a checkpoint", "two alike", "switched off")}
    return {"found": found, "options": different_options()}
