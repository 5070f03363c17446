"""What one rank of a study on links does: time rounds alone, and a whole run beside its simulation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

import gradvote
from gradvote.engines.common.parameter_check import digests_of
from gradvote.engines.gradients import trainable
from gradvote.lab.plan import bits_of
from language.plan import ADAMW, METHODS, SCALES
from language.records import Record, add
from language.runs import WORKERS, Local, Reading

WARM_UP = 2
"""Rounds before those that count: they load kernels and make buffers."""


def seconds_of_a_step(size: str, steps: int, skipped: int = 4) -> float:
    """The median time of a step of AdamW of one worker with one thread, forward and backward passes included."""
    reading = Reading(SCALES[size])
    model, own = reading.model(0), []
    optimizer = AdamW(model.parameters(), 1e-3)
    for step in range(skipped + steps):
        batch = reading.batches(0, step)[0]
        started = time.perf_counter()
        take(model, optimizer, *batch)
        own.append(time.perf_counter() - started)
    return median(own[skipped:])


def rounds(size: str, name: str, repeats: int) -> Record:
    """Seconds of each round, those of the slowest rank, and the bytes that this rank sends in one.

    Workers have moved by a step of AdamW on gradients of their own, which costs nothing to make; only the round is
    timed. Afterwards all ranks have the same parameters, or no number is given.
    """
    model, rank = Reading(SCALES[size]).model(0), dist.get_rank()
    gradients = torch.Generator().manual_seed(rank)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=gradients)
    if name == ADAMW:
        return _all_reduces(model, repeats)
    inner, local = attached(model, {"method": name, "every": 1, "inner": 1e-3, "outer": METHODS[name].outer[0]})
    seconds = []
    for _ in range(WARM_UP + repeats):
        inner.step()
        with _timed(seconds):
            local.step()
    check_alike(trainable(model))
    sent = local.vote.stats().bytes_sent / (WARM_UP + repeats)
    return {"seconds": seconds[WARM_UP:], "bytes": round(sent), "params": sum(p.numel() for p in model.parameters())}


def attached(model: nn.Module, cell: Record, **options: Any) -> tuple[AdamW, gradvote.local_steps.LocalSteps]:
    """A model's inner optimizer and its local steps, as `language.runs.Local` simulates them."""
    method = METHODS[cell["method"]]
    algorithm, inner = method.algorithm(), AdamW(model.parameters(), cell["inner"])
    up, down = bits_of(algorithm)
    everyone = (WORKERS - 1) * up < (WORKERS - 1) / WORKERS * (up + down)
    outer = SGD(model.parameters(), cell["outer"], momentum=method.momentum, nesterov=method.momentum > 0)
    options = {"seed": cell.get("seed", 0), "placement": "replicated" if everyone else "sharded", **options}
    return inner, gradvote.local_steps.attach(model, inner, algorithm, every=cell["every"], outer=outer, **options)


def whole(cell: Record) -> Record:
    """A run of a cell, worker by worker on ranks of their own: seconds of its steps and of its rounds, and the losses.

    Raises:
        RuntimeError: the parameters are not those of the simulation, bit for bit.
    """
    scale, rank = SCALES[cell["scale"]], dist.get_rank()
    reading = Reading(scale)
    model = reading.model(cell["seed"])
    inner, local = attached(model, cell)
    stepping, exchanging = list[float](), list[float]()
    for step in range(0, scale.steps, cell["every"]):
        batches = [reading.batches(cell["seed"], step + k)[rank] for k in range(cell["every"])]
        with _timed(stepping):
            for batch in batches[:-1]:
                take(model, inner, *batch)
                local.step()
            take(model, inner, *batches[-1])
        with _timed(exchanging):
            local.step()
    check_alike(trainable(model))
    losses = {"validation": reading.loss(model, reading.validation), "test": reading.loss(model, reading.test)}
    if not rank:
        check_simulated(cell, reading, model)
    dist.barrier()
    own = {"stepping": round(sum(stepping), 3), "exchanging": round(sum(exchanging), 3), "rounds": len(exchanging)}
    return {**own, **losses}


def take(model: nn.Module, optimizer: AdamW, x: Tensor, y: Tensor) -> None:
    """A step of a worker's own."""
    optimizer.zero_grad(set_to_none=True)
    cross_entropy(model(x), y).backward()
    optimizer.step()


def check_simulated(cell: Record, reading: Reading, model: nn.Module) -> None:
    """The model must have the parameters, to the bit, that the simulation of a run without a fault ends with."""
    other = reading.model(cell["seed"])
    simulated = Local({**cell, "fault": 0.0}, reading, other)
    for step in range(0, SCALES[cell["scale"]].steps, cell["every"]):
        simulated.advance(step)
    if not all(torch.equal(own, p) for own, p in zip(trainable(model), simulated.params, strict=True)):
        raise RuntimeError(f"{cell} ends with other parameters than its simulation.")


def check_alike(params: list[nn.Parameter]) -> None:
    """All ranks must have these parameters to the bit."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, digests_of(params))
    if any(own != found[0] for own in found):
        raise RuntimeError("The ranks' parameters differ; nothing that was timed counts.")


def write(record: Record, out: Path) -> None:
    """One line of JSON more, by rank 0."""
    if not dist.get_rank():
        add(record, out)


def _all_reduces(model: nn.Module, repeats: int) -> Record:
    """What averaging in float32 takes, in one flat tensor."""
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    seconds, own = list[float](), flat.clone()
    for _ in range(WARM_UP + repeats):
        flat.copy_(own)
        with _timed(seconds):
            dist.all_reduce(flat)
    size = flat.numel()
    return {"seconds": seconds[WARM_UP:], "bytes": 2 * (WORKERS - 1) * 4 * size // WORKERS, "params": size}


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    """The time from when all ranks begin to when the last one ends."""
    dist.barrier()
    started = time.perf_counter()
    yield
    own = torch.tensor(time.perf_counter() - started, dtype=torch.float64)
    dist.all_reduce(own, dist.ReduceOp.MAX)
    seconds.append(round(float(own), 5))
