"""Time and bytes of one exchange of a gradient of d coordinates, against all-reduces; each result is verified.

Run by every rank of a process group. Rank i's gradient is g_i[j] = ((j·(2i + 1)·2654435761 mod 2³²) mod 65536) −
32767.5, so that every rank knows what the others have.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.distributed.chunking import NUMBERS, TRIALS
from gradvote.engines.launch import spawn
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.lab.bench.all_reduce import RIVALS, Contestant, rival

HASH, SAMPLE = 2654435761, 6 * 16384
WARM_UP = {"fp32": 1, "bf16": 1, "fp16": 1, "power-sgd": 3}
CHOOSING = NUMBERS * TRIALS + 1
"""Steps after which an exchange has chosen its chunks, and has taken its memories over into them."""
ALGORITHMS: dict[str, Callable[[], Any]] = {
    "signsgd": algorithms.signsgd,
    "dropsignsgd": algorithms.dropsignsgd,
    "dropsignsgd-64": lambda: algorithms.dropsignsgd(granularity=64),
    "dist-ef-sgdm": lambda: replace(algorithms.dist_ef_sgdm(), block_size=16384),
}
"""A single tensor stands for a whole model here, so that memories with a scale per tensor get blocks, too."""
NAMES = (*RIVALS, *ALGORITHMS)


@dataclass(frozen=True)
class Result:
    """Seconds of the slowest rank in each repeat; bytes this rank sent in a step, as counted and on the interface."""

    name: str
    seconds: list[float]
    bytes_sent: int
    interface_bytes: int | None

    @property
    def best(self) -> float:
        """The fastest repeat."""
        return min(self.seconds)


def run(d: int, names: Sequence[str], repeats: int, placement: Any = "sharded", interface: str = "") -> list[Result]:
    """Measure the contestants one after another; all ranks must run the same.

    Raises:
        RuntimeError: a result is wrong.
    """
    return [_contest(name, d, repeats, placement, interface) for name in names]


def run_locally(d: int, ranks: int = 4, names: Sequence[str] = NAMES, repeats: int = 5) -> list[Result]:
    """The same between processes of this machine, over loopback; rank 0's results."""
    results: list[Result] = spawn(run, ranks, d, tuple(names), repeats)[0]
    return results


def gradient(rank: int, d: int) -> Tensor:
    """Rank i's gradient (d,)."""
    j = torch.arange(d, dtype=torch.int64)
    return (((j * (2 * rank + 1) * HASH) & 0xFFFFFFFF) & 0xFFFF).to(torch.float32) - 32767.5


def _contest(name: str, d: int, repeats: int, placement: Any, interface: str) -> Result:
    own = gradient(dist.get_rank(), d)
    step, sent, result, load = rival(name, own) if name in RIVALS else _voted(name, own, placement)
    warm_up = WARM_UP.get(name, CHOOSING)
    for _ in range(warm_up):
        load(own)
        step()
    _verify(name, result(), d, warm_up)
    seconds, counted, wire = [], sent(), _interface_bytes(interface)
    for _ in range(repeats):
        load(own)
        dist.barrier()
        started = time.perf_counter()
        step()
        seconds.append(_slowest(time.perf_counter() - started))
    after = _interface_bytes(interface)
    _verify(name, result(), d, warm_up + repeats)
    passed = None if wire is None or after is None else (after - wire) // repeats
    return Result(name, seconds, (sent() - counted) // repeats, passed)


def _voted(name: str, own: Tensor, placement: Any) -> Contestant:
    p = nn.Parameter(torch.zeros_like(own))
    p.grad = own.clone()
    exchange = Exchange([p], ALGORITHMS[name](), placement=placement)

    def result() -> Tensor:
        assert p.grad is not None
        return p.grad

    def load(gradient: Tensor) -> None:
        p.grad = torch.empty_like(p).copy_(gradient)

    return exchange.step, lambda: exchange.stats().bytes_sent, result, load


def _verify(name: str, found: Tensor, d: int, steps: int) -> None:
    """The first blocks against the simulation's, or the mean, and all coordinates against the other ranks' result."""
    n = min(SAMPLE, d)
    if name in RIVALS:
        right = _is_mean(name, found[:n])
    else:
        right = torch.equal(found[:n], _simulated(name, _everyone(n), steps))
    digest = torch.tensor([float(found.double().sum()), float(found.double().square().sum())], dtype=torch.float64)
    digests = [torch.zeros_like(digest) for _ in range(dist.get_world_size())]
    dist.all_gather(digests, digest)
    if not right or any(not torch.equal(other, digest) for other in digests):
        raise RuntimeError(f"The result of {name} is wrong on rank {dist.get_rank()}, so its time says nothing.")


def _is_mean(name: str, found: Tensor) -> bool:
    """Whether a rival gives the mean up to its type's precision; PowerSGD promises no bound, only a finite result."""
    if name == "power-sgd":
        return bool(found.isfinite().all()) and bool(found.any())
    tolerance = {"fp32": 0.1, "fp16": 50.0, "bf16": 400.0}[name]
    return torch.allclose(found, _everyone(len(found)).mean(0), rtol=0.0, atol=tolerance)


def _simulated(name: str, everyone: Tensor, steps: int) -> Tensor:
    """The direction after some steps with the same gradients (M, n), whole blocks, which no other block influences."""
    algorithm: Algorithm = ALGORITHMS[name]()
    simulation = Simulation(protocol_for([everyone[0]], algorithm, 0), len(everyone))
    for step in range(steps):
        direction = simulation.step(everyone, step, 1.0)
    return direction


def _everyone(n: int) -> Tensor:
    return torch.stack([gradient(rank, n) for rank in range(dist.get_world_size())])


def _slowest(seconds: float) -> float:
    worst = torch.tensor([seconds], dtype=torch.float64)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return float(worst)


def _interface_bytes(interface: str) -> int | None:
    """Bytes sent by a network interface of this namespace so far."""
    if not interface:
        return None
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.strip().startswith(f"{interface}:"))
    return int(row.split(":")[1].split()[8])
