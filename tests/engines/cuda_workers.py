"""What the tests of a card run, here and on ranks: prepared gradients and plain SGD, as for the golden file.

All functions say on which device; "cpu" does the same without a card.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote import kernels
from gradvote.core import Algorithm
from gradvote.distributed import PLACEMENTS, Exchange
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed.transport import SERVER_HALF
from gradvote.engines.gradients import set_gradients
from gradvote.engines.simulation import Simulation
from tests.golden.cases import SEED, STEPS, Work, all_cases, work_of

WORKERS = 2
SOME = ("dropsignsgd", "signsgd", "dist-ef-sgdm", "relative noise", "sgd weights bfloat16")
Found = dict[str, list[Tensor]]
"""The parameters at the end, on the CPU, by case."""


def on(device: str, worker: int, dtype: torch.dtype = torch.float32) -> Work:
    """A worker whose model is there."""
    work = work_of(worker)
    work.model.to(device, dtype)
    return work


def gradients(work: Work, step: int) -> list[Tensor | None]:
    """Those of a step, where the model is."""
    pairs = zip(work.model.parameters(), work.gradients(step), strict=True)
    return [None if own is None else own.to(p.dtype).to(p.device) for p, own in pairs]


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


def chosen(names: Sequence[str]) -> dict[str, Algorithm]:
    """The cases of these names."""
    return {name: own for name, own in all_cases().items() if name in names}


def expected(names: Sequence[str], num_workers: int = WORKERS) -> Found:
    """What the definitions give on the CPU."""
    with kernels.definitions(1):
        return {name: simulated(own, "cpu", num_workers) for name, own in chosen(names).items()}


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


def by_exchange(algorithm: Algorithm, device: str, dtype: torch.dtype = torch.float32, **options: Any) -> list[Tensor]:
    work = on(device, dist.get_rank(), dtype)
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


def on_gloo(device: str, names: Sequence[str]) -> tuple[dict[str, Found], list[tuple[list[Tensor], list[Tensor]]]]:
    """Every case by DDP and by an exchange in shards, and some in other ways, on ranks that share a device.

    And pairs of what must be equal. Votes are counted on the CPU by the definitions, which need no compiler.
    """
    with kernels.definitions(1):
        places, bf16 = _places(device, chosen(names)), torch.bfloat16
        some = [own for name, own in chosen(names).items() if name in SOME[:3]]
        return places, [(by_exchange(a, device, bf16), by_exchange(a, "cpu", bf16)) for a in some]


def _places(device: str, cases: Mapping[str, Algorithm]) -> dict[str, Found]:
    some = {name: own for name, own in cases.items() if name in SOME}
    found: dict[str, Found] = {"ddp": {name: by_ddp(a, device) for name, a in cases.items()}}
    for placement in PLACEMENTS:
        those = cases if placement == "sharded" else some
        own = {name: by_exchange(a, device, placement=placement, chunks=1) for name, a in those.items()}
        found[f"exchange {placement}"] = own
    found["exchange in chunks"] = {name: by_exchange(a, device, chunks=3) for name, a in some.items()}
    with mock.patch.dict(os.environ, {SERVER_HALF: "card"}):
        found["votes on the card"] = {name: by_exchange(a, device) for name, a in some.items()}
    torch.set_default_device(device)
    found["another default device"] = {name: by_exchange(a, device) for name, a in some.items()}
    torch.set_default_device(None)
    return found


def on_nccl(names: Sequence[str]) -> dict[str, Found]:
    """The same with bytes that stay on the card."""
    torch.cuda.set_device(0)
    group = dist.new_group(backend="nccl")
    cases = chosen(names)
    some = {name: own for name, own in cases.items() if name in SOME}
    whole = {"signum": cases["signum"]} if "signum" in cases else {}
    return {
        "exchange": {name: by_exchange(a, "cuda", group=group, chunks=1) for name, a in cases.items()},
        "exchange replicated": {
            name: by_exchange(a, "cuda", group=group, placement="replicated") for name, a in whole.items()
        },
        "ddp": {name: by_ddp(a, "cuda", process_group=group) for name, a in some.items()},
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
