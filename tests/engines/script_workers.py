"""What scripts do with models and votes beside training them, as two spawned ranks run it."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import algorithms
from gradvote.distributed import Exchange
from tests.engines.failing_workers import text_of
from tests.engines.habit_workers import nothing
from tests.engines.workers import CLASSES, batch, flat, new_model

TASKS, OPEN = Path("/proc/self/task"), Path("/proc/self/fd")


def copies() -> list[bool]:
    """Whether a copy of a DDP model that votes is a model."""
    net = DistributedDataParallel(new_model())
    gradvote.ddp.attach(net, algorithms.signsgd())
    own = copy.deepcopy(net)
    return [torch.equal(flat(own), flat(net)), isinstance(pickle.dumps(net), bytes)]


def uneven() -> str:
    """What is said where a rank has more batches than the others."""
    net = DistributedDataParallel(new_model())
    gradvote.ddp.attach(net, algorithms.signsgd(), timeout=5)
    return text_of(lambda: _join(net))


def _join(net: DistributedDataParallel) -> None:
    with net.join():
        for step in range(1 + dist.get_rank()):
            cross_entropy(net(batch(dist.get_rank(), step)[0]), batch(dist.get_rank(), step)[1]).backward()


def in_inference_mode() -> tuple[Tensor, Tensor]:
    """Parameters after steps within `torch.inference_mode`, in some of which a rank has no gradient; and without it."""
    ends = []
    for inference in (True, False):
        model = new_model()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        with torch.inference_mode(inference):
            exchange = Exchange(model.named_parameters(), algorithms.dist_ef_sgdm(), optimizer=optimizer, timeout=60)
        for step in range(4):
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            if step != 1 or dist.get_rank() == 0:
                x, y = batch(dist.get_rank(), step)
                cross_entropy(model(x), y).backward()
            with torch.inference_mode(inference):
                exchange.step()
                optimizer.step()
        ends.append(flat(model))
    return ends[0], ends[1]


def skipped_votes() -> dict[str, tuple[int, int, float]]:
    """Steps, skipped votes and bits per coordinate, where a scaler skips every step."""
    found = {}
    for name in ("exchange", "ddp"):
        model, scaler = nn.Linear(300, 20), torch.amp.GradScaler("cpu")
        net: nn.Module = model if name == "exchange" else DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        options: dict[str, Any] = {"optimizer": optimizer, "scaler": scaler, "timeout": 60}
        if name == "exchange":
            exchange = Exchange(model.named_parameters(), algorithms.signsgd(), **options)
            step, stats = exchange.step, exchange.stats
        else:
            step, stats = nothing, gradvote.ddp.attach(net, algorithms.signsgd(), **options).stats  # type: ignore[arg-type]
        for _ in range(2):
            scaler.scale(net(torch.ones(2, 300)).sum() * float("inf")).backward()
            step()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        found[name] = stats().steps, stats().skipped, stats().bits_per_coordinate
    return found


def constants() -> list[bool]:
    """Whether buffers that are alike on all ranks stay to the bit while others are averaged, also without memory."""
    model = nn.Module()
    table = torch.arange(1.0, 40.0).reciprocal()
    kept = {"table": table, "exact": table.double() / 3, "one": table[:1].clone().expand(5)}
    for name, buffer in kept.items():
        model.register_buffer(name, buffer)
    model.register_buffer("own", torch.full((2,), float(dist.get_rank())))
    before = {name: buffer.clone() for name, buffer in kept.items()}
    gradvote.distributed.average_statistics(model)
    same = [torch.equal(model.get_buffer(name), own) for name, own in before.items()]
    return [*same, torch.equal(model.get_buffer("own"), torch.full((2,), (dist.get_world_size() - 1) / 2))]


def dropped_exchanges() -> list[tuple[int, int]]:
    """Threads and descriptors while one exchange after another is built and forgotten, one of them late on one rank."""
    found, late = [], []
    for k in range(6):
        exchange = Exchange(new_model().parameters(), algorithms.signsgd(), timeout=60)
        exchange.step()
        late = [exchange] if k == 1 and dist.get_rank() else late[: k < 3]
        del exchange
        found.append((len([*TASKS.iterdir()]), len([*OPEN.iterdir()])))
    return found


def two_votes() -> list[str]:
    """What is said of two votes on the same parameters; the second one is an exchange's."""
    said = []
    for name in ("exchange", "ddp"):
        model = new_model()
        net: nn.Module = model
        second = Exchange(model.parameters(), algorithms.signsgd(), timeout=60)
        if name == "ddp":
            net, step = DistributedDataParallel(model), nothing
            gradvote.ddp.attach(net, algorithms.signsgd(), timeout=60)
        else:
            step = Exchange(model.parameters(), algorithms.signsgd(), timeout=60).step
        x, y = batch(dist.get_rank(), 0)
        cross_entropy(net(x), y).backward()
        step()
        said.append(text_of(second.step))
    return said


def channels_last() -> tuple[Tensor, Tensor]:
    """Parameters of a model in channels_last after steps of two votes each, behind DDP and by an exchange."""
    ends = []
    for name in ("exchange", "ddp"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 10)).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        net, step = model, nothing
        if name == "ddp":
            net = DistributedDataParallel(model)
            gradvote.ddp.attach(net, algorithms.dist_ef_sgdm(), optimizer=optimizer, timeout=60)
        else:
            step = Exchange(model.parameters(), algorithms.dist_ef_sgdm(), optimizer=optimizer, timeout=60).step
        generator = torch.Generator().manual_seed(dist.get_rank())
        for k in range(8):
            cross_entropy(net(torch.randn(4, 3, 6, 6, generator=generator)), torch.arange(4)).backward()
            step()
            if k % 2:
                optimizer.step()
                optimizer.zero_grad()
        ends.append(flat(model))
    return ends[0], ends[1]


def loaded_on_one_rank() -> dict[str, str]:
    """What is said where the first rank alone loads a state, as it may load a model before DDP hands it to all."""
    found = {}
    for name in ("exchange", "ddp"):
        for algorithm in (algorithms.signsgd(), algorithms.dropsignsgd()):
            votes, steps, nets = [], [], []
            for _ in range(2):
                net: nn.Module = new_model()
                if name == "ddp":
                    net = DistributedDataParallel(net)
                    votes.append(gradvote.ddp.attach(net, algorithm, timeout=60))
                    steps.append(nothing)
                else:
                    votes.append(Exchange(net.named_parameters(), algorithm, timeout=60))
                    steps.append(votes[-1].step)
                nets.append(net)
            x, y = batch(dist.get_rank(), 0)
            cross_entropy(nets[0](x), y).backward()
            steps[0]()
            if dist.get_rank() == 0:
                votes[1].load_state_dict(votes[0].state_dict())
            backward = cross_entropy(nets[1](x), y).backward
            if name == "exchange":
                backward()
            last = steps[1] if name == "exchange" else backward
            found[f"{name}, {algorithm.up}"] = text_of(last)
    return found


def loaded_between_comparisons() -> dict[str, Any]:
    """The same before vote 3, at which nothing is compared: on all ranks, on one alone, and another step on one."""
    found: dict[str, Any] = {}
    for name, who in ("exchange", (0, 1)), ("exchange", (0,)), ("ddp", (0,)), ("ddp", "other"), ("signs", (0,)):
        algorithm = algorithms.dropsignsgd() if name != "signs" else algorithms.signsgd()
        net: nn.Module = nn.Sequential(new_model(), nn.Linear(CLASSES, 20_000))
        if name == "ddp":
            net, step = DistributedDataParallel(net), nothing
            vote: Any = gradvote.ddp.attach(net, algorithm, timeout=6)
        else:
            vote = Exchange(net.named_parameters(), algorithm, timeout=6)
            step = vote.step
        states = []
        for number in range(3):
            states.append(vote.state_dict())
            _vote_once(net, step, number)
        if who == "other":
            vote.load_state_dict(states[dist.get_rank()])
        elif dist.get_rank() in who:
            vote.load_state_dict(states[1])
        found[f"{name}, {who}"] = text_of(lambda net=net, step=step: _vote_once(net, step, 3))
        dist.barrier()
    return found


def _vote_once(net: nn.Module, step: Callable[[], None], number: int) -> None:
    net.zero_grad()
    x, y = batch(dist.get_rank(), number)
    cross_entropy(net(x), y).backward()
    step()


def everything() -> dict[str, Any]:
    own = (
        copies,
        in_inference_mode,
        skipped_votes,
        constants,
        dropped_exchanges,
        two_votes,
        channels_last,
        loaded_on_one_rank,
        loaded_between_comparisons,
        uneven,
    )
    return {f.__name__: f() for f in own}
