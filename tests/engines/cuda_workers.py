"""What the tests of a card run, here and on ranks: prepared gradients and plain SGD, as for the golden file.

All functions say on which device; "cpu" does the same without a card.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from gradvote.engines.elastic.replica import Replica
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import kernels
from gradvote.core import Algorithm
from gradvote.distributed import PLACEMENTS, Exchange
from gradvote.engines.common.slot import Slot
from gradvote.engines.gradients import set_gradients
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from tests.golden.cases import SEED, STEPS, Work, all_cases, work_of

WORKERS = 2
SOME = ("dropsignsgd", "signsgd", "dist-ef-sgdm", "relative noise", "sgd weights bfloat16")
Found = dict[str, list[Tensor]]
"""The parameters at the end, on the CPU, by case."""


def on(device: str, worker: int) -> Work:
    """A worker whose model is there."""
    work = work_of(worker)
    work.model.to(device)
    return work


def gradients(work: Work, step: int) -> list[Tensor | None]:
    """Those of a step, where the model is."""
    pairs = zip(work.model.parameters(), work.gradients(step), strict=True)
    return [None if own is None else own.to(p.device) for p, own in pairs]


def parameters(work: Work) -> list[Tensor]:
    return [p.detach().cpu() for p in work.model.parameters()]


def simulated(algorithm: Algorithm, device: str, num_workers: int = WORKERS) -> list[Tensor]:
    works = [on(device, i) for i in range(num_workers)]
    model, optimizer = works[0].model, works[0].optimizer
    params = list(model.parameters())
    protocol = protocol_for(params, algorithm, SEED)
    simulation = Simulation(protocol, num_workers, device=params[0].device)
    for step in range(STEPS):
        rows = torch.full((num_workers, protocol.layout.size), torch.nan, device=params[0].device)
        for row, work in zip(rows, works, strict=True):
            pairs = zip(params, gradients(work, step), strict=True)
            protocol.layout.flatten([torch.full_like(p, torch.nan) if g is None else g for p, g in pairs], out=row)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        direction = simulation.step(rows, step, [rates[id(p)] for p in params])
        set_gradients(params, protocol.layout, direction, simulation.decided[0])
        optimizer.step()
    return parameters(works[0])


def expected(num_workers: int = WORKERS) -> Found:
    """What the definitions give on the CPU."""
    with kernels.definitions(1):
        return {name: simulated(own, "cpu", num_workers) for name, own in all_cases().items()}


def replicas(algorithm: Algorithm, device: str) -> list[list[Tensor]]:
    """An elastic run's members, each with its own model, without the network between them."""
    works = [on(device, i) for i in range(WORKERS)]
    members = [Replica(w.model, w.optimizer, algorithm, w.worker, SEED, None) for w in works]
    for step in range(STEPS):
        for work in works:
            pairs = zip(work.model.parameters(), gradients(work, step), strict=True)
            for p, own in pairs:
                p.grad = own
        ballots = [member.vote(Slot(step)) for member in members]
        for member, ballot in zip(members, ballots, strict=True):
            member.keep(ballot, True)
            member.apply(Slot(step), {i: own.body for i, own in enumerate(ballots)})
    return [parameters(work) for work in works]


def by_exchange(algorithm: Algorithm, device: str, **options: Any) -> list[Tensor]:
    work = on(device, dist.get_rank())
    exchange = Exchange(work.model.named_parameters(), algorithm, optimizer=work.optimizer, seed=SEED, **options)
    for step in range(STEPS):
        _exchanged(work, exchange, step)
    state = exchange.state_dict()
    exchange.load_state_dict(state)
    return parameters(work)


def _exchanged(work: Work, exchange: Exchange, step: int) -> None:
    for p, own in zip(work.model.parameters(), gradients(work, step), strict=True):
        p.grad = own
    exchange.step()
    work.optimizer.step()


def by_ddp(algorithm: Algorithm, device: str, **options: Any) -> list[Tensor]:
    work = on(device, dist.get_rank())
    group = options.pop("process_group", None)
    ddp = DistributedDataParallel(work.model, find_unused_parameters=True, bucket_cap_mb=0.01, process_group=group)
    gradvote.ddp.attach(ddp, algorithm, optimizer=work.optimizer, seed=SEED, **options)
    for step in range(STEPS):
        ddp(gradients(work, step)).backward()
        work.optimizer.step()
    return parameters(work)


def on_gloo(device: str) -> dict[str, Found]:
    """Every case by DDP and by an exchange in shards, and some in other ways, on ranks that share a device."""
    cases = all_cases()
    found: dict[str, Found] = {"ddp": {name: by_ddp(a, device) for name, a in cases.items()}}
    for placement in PLACEMENTS:
        names = cases if placement == "sharded" else SOME
        own = {name: by_exchange(cases[name], device, placement=placement, chunks=1) for name in names}
        found[f"exchange {placement}"] = own
    found["exchange in chunks"] = {name: by_exchange(cases[name], device, chunks=3) for name in SOME}
    torch.set_default_device(device)
    found["another default device"] = {name: by_exchange(cases[name], device) for name in SOME[:2]}
    torch.set_default_device(None)
    return found


def on_nccl() -> dict[str, Found]:
    """The same with bytes that stay on the card."""
    torch.cuda.set_device(0)
    group = dist.new_group(backend="nccl")
    cases = all_cases()
    return {
        "exchange": {name: by_exchange(a, "cuda", group=group, chunks=1) for name, a in cases.items()},
        "exchange replicated": {"signum": by_exchange(cases["signum"], "cuda", group=group, placement="replicated")},
        "ddp": {name: by_ddp(cases[name], "cuda", process_group=group) for name in SOME},
    }


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within, what waits for the card raises, but for events."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def without_waiting(backend: str, names: tuple[str, ...]) -> list[str]:
    """The cases, and the engines, whose steps waited for the card elsewhere than at an event; with the reason."""
    torch.cuda.set_device(0)
    group = dist.new_group(backend="nccl") if backend == "nccl" else None
    waited = []
    for name in names:
        for engine in (_exchange_waits, _ddp_waits):
            try:
                engine(all_cases()[name], group)
            except RuntimeError as error:
                waited.append(f"{name}, {engine.__name__}: {error}")
    return waited


def _exchange_waits(algorithm: Algorithm, group: Any) -> None:
    work = on("cuda", dist.get_rank())
    exchange = Exchange(
        work.model.named_parameters(), algorithm, optimizer=work.optimizer, seed=SEED, group=group, chunks=2
    )
    for step in (0, 1, 0):
        _exchanged(work, exchange, step)
    for p, own in zip(work.model.parameters(), gradients(work, 1), strict=True):
        p.grad = own
    with no_waiting():
        exchange.step()


def _ddp_waits(algorithm: Algorithm, group: Any) -> None:
    work = on("cuda", dist.get_rank())
    ddp = DistributedDataParallel(work.model, bucket_cap_mb=0.01, process_group=group)
    gradvote.ddp.attach(ddp, algorithm, optimizer=work.optimizer, seed=SEED)
    for step in (0, 1, 0):
        ddp(gradients(work, step)).backward()
        work.optimizer.step()
    loss = ddp(gradients(work, 1))
    with no_waiting():
        loss.backward()
