"""The cases on every engine: what each of them lets a book see."""

import contextlib
import gc
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote.core import Algorithm
from gradvote.distributed import PLACEMENTS, Exchange
from gradvote.elastic import Timeouts
from gradvote.engines.common.replica import Replica
from gradvote.engines.gradients import set_gradients
from gradvote.engines.launch import spawn
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.engines.torchft.vote import TorchftVote
from tests.engines.torchft.test_quorum_round import Table
from tests.golden.cases import KEPT, SEED, SHAPES, SMALL, STEPS, WORKERS, Work, all_cases, cases_on, kept, work_of
from tests.golden.observe import Book, Digests, bodies_are_seen, merged, observed

Hashes = dict[str, list[str]]
"""The hash of each step, by what it is of."""
Found = dict[tuple[str, str], Hashes]
"""By case and by place: an engine, with its placement."""
Shapes = Sequence[tuple[int, ...]]
PATIENT = Timeouts(deadline=60.0, grace=1.0, gather=60.0, timeout=120.0)
"""A busy machine must not make a healthy round slow, which would be another round."""


def simulated(algorithm: Algorithm, shapes: Shapes = SHAPES) -> Hashes:
    own, works = observed(algorithm), [work_of(i, shapes) for i in range(WORKERS)]
    model, optimizer = works[0].model, works[0].optimizer
    params = list(model.parameters())
    protocol = protocol_for(params, own, SEED)
    simulation = Simulation(protocol, WORKERS)
    with bodies_are_seen():
        for step in range(STEPS):
            rows = torch.full((WORKERS, protocol.layout.size), torch.nan)
            for row, work in zip(rows, works, strict=True):
                pairs = zip(params, work.gradients(step), strict=True)
                protocol.layout.flatten([torch.full_like(p, torch.nan) if g is None else g for p, g in pairs], out=row)
            rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
            with own.book.step(step, model):
                direction = simulation.step(rows, step, [rates[id(p)] for p in params])
                set_gradients(params, protocol.layout, direction, simulation.decided[0])
                optimizer.step()
    return merged([own.book.digests()])


def by_exchange(work: Work, algorithm: Algorithm, placement: Any, steps: range, state: Any = None) -> tuple[Book, Any]:
    own = observed(algorithm)
    exchange = Exchange(
        work.model.named_parameters(), own, placement=placement, optimizer=work.optimizer, seed=SEED, chunks=1
    )
    if state is not None:
        exchange.load_state_dict(state)
    for step in steps:
        work.set_gradients(step)
        with own.book.step(step, work.model):
            exchange.step()
            work.optimizer.step()
    return own.book, exchange.state_dict()


def by_ddp(work: Work, algorithm: Algorithm, placement: Any, steps: range, state: Any = None) -> tuple[Book, Any]:
    own = observed(algorithm)
    ddp = DistributedDataParallel(work.model, find_unused_parameters=True)
    vote = gradvote.ddp.attach(ddp, own, placement=placement, optimizer=work.optimizer, seed=SEED)
    if state is not None:
        vote.load_state_dict(state)
    for step in steps:
        gradients = work.gradients(step)
        with own.book.step(step, work.model):
            ddp(gradients).backward()
            work.optimizer.step()
    return own.book, vote.state_dict()


ELASTIC = ("replicated", "sharded")
COLLECTIVE: dict[str, Callable[..., tuple[Book, Any]]] = {"exchange": by_exchange, "ddp": by_ddp}


def on_ranks() -> dict[tuple[str, str], Digests]:
    """What one rank sees of every case, by case and place."""
    found = {}
    with few_objects(), bodies_are_seen():
        for engine, run in COLLECTIVE.items():
            for placement in PLACEMENTS:
                for name, algorithm in cases_on(engine, placement).items():
                    book, _ = run(work_of(dist.get_rank()), algorithm, placement, range(STEPS))
                    found[name, f"{engine} {placement}"] = book.digests()
    return found


def by_place(ranks: Sequence[dict[tuple[str, str], Digests]]) -> Found:
    """What all ranks of Exchange and DDP see together."""
    return {key: merged([rank[key] for rank in ranks]) for key in ranks[0]}


def on_collectives() -> Found:
    """Exchange and DDP, in one world of processes."""
    return by_place(spawn(on_ranks, WORKERS))


@contextlib.contextmanager
def few_objects() -> Iterator[None]:
    """Engines look for the modules and scalers that are alive: here not among all that was imported."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def on_simulation() -> Found:
    found = {(name, "simulation"): simulated(algorithm) for name, algorithm in all_cases().items()}
    return found | {(KEPT, "simulation"): simulated(kept(), SMALL)}


def on_elastic(placement: str) -> Found:
    """Workers as threads, over connections of their own."""
    found = {}
    with few_objects():
        for name, algorithm in cases_on("elastic", placement).items():
            books = elastic_threads([work_of(i) for i in range(WORKERS)], algorithm, placement, range(STEPS))
            found[name, f"elastic {placement}"] = merged([book.digests() for book, _ in books])
    return found


def on_torchft() -> Found:
    found = {}
    with few_objects():
        for name, algorithm in cases_on("torchft", "sharded").items():
            books = torchft_threads([work_of(i) for i in range(WORKERS)], algorithm, range(STEPS))
            found[name, "torchft"] = merged([book.digests() for book, _ in books])
    return found


def elastic_threads(
    works: Sequence[Work], algorithm: Algorithm, placement: Any, steps: range, states: Sequence[Any] | None = None
) -> list[tuple[Book, Any]]:
    store, num = HashStore(), len(works)

    def run(work: Work) -> tuple[Book, Any]:
        own = observed(algorithm)
        vote = gradvote.elastic.attach(
            work.model, work.optimizer, own, min_workers=num, worker=work.worker, workers=num, store=store,
            host="127.0.0.1", timeouts=PATIENT, seed=SEED, placement=placement,
        )  # fmt: skip
        if states is not None:
            vote.load_state_dict(states[work.worker])
        with vote:
            for step in vote.steps(steps.stop):
                work.set_gradients(step)
                with own.book.step(step, work.model):
                    vote.step()
            return own.book, vote.state_dict()

    with bodies_are_seen(), contextlib.redirect_stderr(io.StringIO()), ThreadPoolExecutor(num) as pool:
        return [*pool.map(run, works)]


class Manager:
    """What a vote asks of torchft's manager, where all goes well."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.errors: list[Exception] = []

    def register_state_dict_fn(self, key: str, load: Any, save: Any) -> None:
        pass

    def wait_quorum(self) -> None:
        pass

    def current_step(self) -> int:
        return self._step

    def is_participating(self) -> bool:
        return True

    def errored(self) -> None:
        return None

    def report_error(self, error: Exception) -> None:
        self.errors.append(error)

    def should_commit(self) -> bool:
        self._step += not self.errors
        return not self.errors


def torchft_threads(
    works: Sequence[Work], algorithm: Algorithm, steps: range, states: Sequence[Any] | None = None
) -> list[tuple[Book, Any]]:
    """Votes over a table instead of a process group, and with a manager that agrees with everything."""
    table = Table(len(works))

    def run(work: Work) -> tuple[Book, Any]:
        own = observed(algorithm)
        with table.lock:
            manager: Any = Manager(steps.start)
            rounds: Any = table.place(work.worker)
            vote = TorchftVote(manager, Replica(work.model, work.optimizer, own, work.worker, SEED, None), rounds)
            if states is not None:
                vote.load_state_dict(states[work.worker])
            for step in steps:
                work.set_gradients(step)
                with own.book.step(step, work.model):
                    assert vote.step(), manager.errors
            rounds.sent = rounds.received = 0
            return own.book, vote.state_dict()

    with bodies_are_seen(), ThreadPoolExecutor(len(works)) as pool:
        return [*pool.map(run, works)]
