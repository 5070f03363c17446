"""Time and bytes of one exchange of a gradient of d coordinates, against all-reduces; each result is verified.

Run by every rank of a process group. Rank i's gradient is g_i[j] = ((j·(2i + 1)·2654435761 mod 2³²) mod 65536) −
32767.5, so that every rank knows what the others have.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.distributed import Exchange
from gradvote.engines.launch import spawn

HASH, SAMPLE = 2654435761, 100_000
ALGORITHMS: dict[str, Callable[[], Any]] = {
    "signsgd": algorithms.signsgd,
    "dropsignsgd": algorithms.dropsignsgd,
    "dropsignsgd-64": lambda: algorithms.dropsignsgd(granularity=64),
    "dist-ef-sgdm": algorithms.dist_ef_sgdm,
}
RIVALS = ("fp32", "bf16", "fp16")


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


def run_locally(
    d: int, ranks: int = 4, names: Sequence[str] = ("fp32", "fp16", *ALGORITHMS), repeats: int = 5
) -> list[Result]:
    """The same between processes of this machine, over loopback; rank 0's results."""
    results: list[Result] = spawn(run, ranks, d, tuple(names), repeats)[0]
    return results


def gradient(rank: int, d: int) -> Tensor:
    """Rank i's gradient (d,)."""
    j = torch.arange(d, dtype=torch.int64)
    return (((j * (2 * rank + 1) * HASH) & 0xFFFFFFFF) & 0xFFFF).to(torch.float32) - 32767.5


def _contest(name: str, d: int, repeats: int, placement: Any, interface: str) -> Result:
    p = nn.Parameter(torch.zeros(d))
    own = gradient(dist.get_rank(), d)
    step, sent = _rival(p, name) if name in RIVALS else _voted(p, name, placement)
    p.grad = own.clone()
    step()
    _verify(name, p)
    seconds, counted, wire = [], sent(), _interface_bytes(interface)
    for _ in range(repeats):
        p.grad.copy_(own)
        dist.barrier()
        started = time.perf_counter()
        step()
        seconds.append(_slowest(time.perf_counter() - started))
    after = _interface_bytes(interface)
    passed = None if wire is None or after is None else (after - wire) // repeats
    return Result(name, seconds, (sent() - counted) // repeats, passed)


def _voted(p: nn.Parameter, name: str, placement: Any) -> tuple[Callable[[], None], Callable[[], int]]:
    exchange = Exchange([p], ALGORITHMS[name](), placement=placement)
    return exchange.step, lambda: exchange.stats().bytes_sent


def _rival(p: nn.Parameter, name: str) -> tuple[Callable[[], None], Callable[[], int]]:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
    calls, ranks = [0], dist.get_world_size()

    def step() -> None:
        assert p.grad is not None
        calls[0] += 1
        small = (p.grad / ranks).to(dtype)
        dist.all_reduce(small)
        p.grad.copy_(small)

    return step, lambda: calls[0] * 2 * (ranks - 1) * p.numel() * dtype.itemsize // ranks


def _verify(name: str, p: nn.Parameter) -> None:
    """The first coordinates against what all ranks have, and all coordinates against the other ranks' result."""
    assert p.grad is not None
    n = min(SAMPLE, p.numel())
    everyone = torch.stack([gradient(rank, n) for rank in range(dist.get_world_size())])
    found = p.grad[:n]
    if name in RIVALS:
        right = torch.allclose(found, everyone.mean(0), rtol=0.02, atol=300.0 if name != "fp32" else 0.1)
    elif name == "signsgd":
        votes = everyone.sign().sum(0)
        right = bool(((found == votes.sign()) | (votes == 0)).all()) and bool((found.abs() == 1).all())
    else:
        right = bool(found.isfinite().all()) and bool(found.any())
    digest = torch.tensor([float(p.grad.double().sum()), float(p.grad.double().square().sum())], dtype=torch.float64)
    digests = [torch.zeros_like(digest) for _ in range(dist.get_world_size())]
    dist.all_gather(digests, digest)
    if not right or any(not torch.equal(other, digest) for other in digests):
        raise RuntimeError(f"The result of {name} is wrong on rank {dist.get_rank()}, so its time says nothing.")


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
