"""Two ranks of gloo that share a card: DDP with and without votes. And NCCL, with the one rank that a card can have."""

import json
import os
import socket
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradvote
from card.steps import ALGORITHMS, STEPS, WARM_UP, Task
from gradvote import algorithms
from gradvote.distributed import Exchange

D = 25_600_000
CONTESTANTS = ("no exchange", "fp32", "signsgd", "dist-ef-sgdm", "dropsignsgd")


def ddp(folder: Path) -> dict[str, float]:
    """Milliseconds per step of ResNet-50, batches of 64, of the slower of two ranks."""
    return _world(2, "gloo", _ddp, folder)


def memory(folder: Path) -> dict[str, list[float]]:
    """Bytes per parameter beyond parameter and gradient, kept and at the peak, of Exchange with two ranks."""
    return _world(2, "gloo", _memory, folder)


def nccl(folder: Path) -> dict[str, Any]:
    """An exchange of one rank over NCCL: whether it gives the parameters that gloo gives, for each algorithm."""
    over_nccl, over_gloo = (_world(1, backend, _exchange, folder) for backend in ("nccl", "gloo"))
    return {name: over_nccl[name] == over_gloo[name] for name in over_nccl}


def _world(size: int, backend: str, work: Any, folder: Path) -> Any:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, (size, backend, port, work, folder), size)
    return json.loads((folder / "rank0.json").read_text())


def _rank(rank: int, size: int, backend: str, port: int, work: Any, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
    torch.cuda.set_device(0)
    dist.init_process_group(backend, rank=rank, world_size=size)
    found = work()
    if rank == 0:
        (folder / "rank0.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def _ddp() -> dict[str, float]:
    found = {}
    for name in CONTESTANTS:
        task = Task("ResNet-50", 64)
        model: nn.Module = task.model if name == "no exchange" else DistributedDataParallel(task.model)
        if name in ALGORITHMS:
            gradvote.ddp.attach(model, ALGORITHMS[name](), optimizer=task.optimizer)
        found[name] = _slowest(task, model)
    return found


def _slowest(task: Task, model: nn.Module) -> float:
    times = []
    for k in range(WARM_UP + STEPS):
        dist.barrier()
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        task.step(model=model)
        after.record()
        torch.cuda.synchronize()
        took = torch.tensor(before.elapsed_time(after))
        dist.all_reduce(took, dist.ReduceOp.MAX)
        if k >= WARM_UP:
            times.append(float(took))
    return median(times)


def _memory() -> dict[str, list[float]]:
    found = {}
    for name in ("signsgd", "signum", "dist-ef-sgdm", "dropsignsgd", "mediansgd"):
        torch.cuda.empty_cache()
        parameter = nn.Parameter(torch.zeros(D, device="cuda"))
        parameter.grad = torch.randn(D, device="cuda")
        before = torch.cuda.memory_allocated()
        exchange = Exchange([("p", parameter)], algorithms.create(name), seed=0)
        exchange.step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        exchange.step()
        torch.cuda.synchronize()
        found[name] = [
            (bytes - before) / D for bytes in (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())
        ]
        del exchange, parameter
    return found


def _exchange() -> dict[str, str]:
    found = {}
    for name in algorithms.names():
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.zeros(100_001, device="cuda"))
        exchange = Exchange([("p", parameter)], algorithms.create(name), seed=0)
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            parameter.grad = torch.randn(100_001, generator=generator).cuda()
            exchange.step()
            if parameter.grad is not None:
                parameter.data.sub_(parameter.grad)
        found[name] = str(parameter.detach().double().sum().item())
    return found
