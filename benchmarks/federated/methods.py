"""The methods that are compared, each with a grid of as many settings as any other.

A method is run with (task, seed, rounds, setting, spoil); `spoil` is what faulty clients do to their updates.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from federated.tasks import THREE, TWO, M, Rate, Rule, Spoil, Task, train
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.partitions import Partition
from gradvote.schedules import Constant, Cosine

NAN = 4
"""The client that sends NaN where one does."""
Setting = dict[str, Any]
Run = Callable[..., float]


@dataclass(frozen=True)
class Method:
    """How it is run, the data it is tuned on, its settings, and who inverts while it is tuned."""

    run: Run
    partition: Partition
    grid: tuple[Setting, ...]
    liars: bool = False


def rate(value: float, kind: str, rounds: int) -> Rate:
    """A rate over the rounds: constant, or falling to zero as a half cosine."""
    return Cosine(value, rounds).__call__ if kind == "cosine" else Constant(value).__call__


def mean_of(task: Task, among: Sequence[int]) -> Rule:
    """FedAvg's mean of some clients, weighted by their samples."""
    sizes = torch.tensor([float(len(task.clients[i])) for i in among])
    shares = sizes / sizes.sum()
    return lambda u, _: shares @ u[list(among)]


def median(u: Tensor, _: int) -> Tensor:
    """FedMedian's rule."""
    return u.median(0).values if not bool(u.isnan().any()) else torch.full_like(u[0], torch.nan)


def fedavg(task: Task, seed: int, rounds: int, s: Setting, spoil: Spoil, rule: Rule | None = None) -> float:
    """x ← mean of the clients' arrays; with a setting of its own for the server, Flower's FedAvgM."""
    own = rule or mean_of(task, range(M))
    outer = rate(s.get("outer", 1.0), s.get("outer rate", "constant"), rounds)
    return train(task, rounds, seed, rate(s["local"], s["local rate"], rounds), own, spoil, outer, s.get("momentum", 0))


def fedavg_of_honest(task: Task, seed: int, rounds: int, s: Setting, spoil: Spoil) -> float:
    """FedAvg that knows who lies, and leaves them out."""
    liars = liars_of(seed)
    return fedavg(task, seed, rounds, s, honest, mean_of(task, [i for i in range(M) if i not in liars]))


def fedavg_without(task: Task, seed: int, rounds: int, s: Setting, spoil: Spoil) -> float:
    """FedAvg of the other clients, where one sends NaN."""
    return fedavg(task, seed, rounds, s, honest, mean_of(task, [i for i in range(M) if i != NAN]))


def voted(
    algorithm: Callable[[Setting], Algorithm],
    task: Task,
    seed: int,
    rounds: int,
    s: Setting,
    spoil: Spoil,
    fellows: bool = True,
) -> float:
    """Rounds of the simulation, which has Flower's parameters bit for bit (tests/engines/flower)."""
    protocol = protocol_for([torch.zeros(shape) for shape in task.shapes], algorithm(s), seed)
    simulation = Simulation(protocol, M, fellows=task.holders if fellows else ())
    outer, local = rate(s["outer"], s["outer rate"], rounds), rate(s["local"], "constant", rounds)

    def rule(updates: Tensor, number: int) -> Tensor:
        return simulation.step(updates, number, outer(number))

    return train(task, rounds, seed, local, rule, spoil, outer, s.get("momentum", 0))


def noisy_vote(s: Setting) -> Algorithm:
    return algorithms.noisy(algorithms.signsgd(), s["b"])


def error_memory(s: Setting) -> Algorithm:
    return algorithms.dist_ef_sgdm(0.0, bound=1.0)


def honest(u: Tensor) -> Tensor:
    """A client's own update, unchanged."""
    return u


def nan_client(u: Tensor) -> Tensor:
    u[NAN] = torch.nan
    return u


def inverting(seed: int) -> Spoil:
    """Three clients, drawn by the seed, send their updates with the other sign."""
    liars = liars_of(seed)

    def spoil(u: Tensor) -> Tensor:
        u[liars] *= -1
        return u

    return spoil


def liars_of(seed: int) -> list[int]:
    return torch.randperm(M, generator=torch.Generator().manual_seed(seed))[:3].tolist()


def _grid(each: dict[str, Sequence[Any]]) -> tuple[Setting, ...]:
    found = tuple(dict(zip(each, own, strict=True)) for own in itertools.product(*each.values()))
    assert len(found) == 12, "each method is tried with as many settings"
    return found


CONSTANT, EITHER = ("constant",), ("constant", "cosine")
AVERAGE = _grid({"local": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "local rate": EITHER})
VOTES = _grid({"local": (0.1, 0.2, 0.3), "outer": (0.03, 0.06), "b": (0.003, 0.01), "outer rate": ("cosine",)})
MEMORY = _grid({"local": (0.2, 0.3), "outer": (0.5, 1.0, 2.0), "momentum": (0.0, 0.5), "outer rate": CONSTANT})
METHODS = {
    "FedAvg": Method(fedavg, TWO, AVERAGE),
    "vote": Method(partial(voted, noisy_vote, fellows=False), TWO, VOTES),
    "error memory": Method(partial(voted, error_memory, fellows=False), TWO, MEMORY),
    "FedAvg of the honest": Method(fedavg_of_honest, THREE, AVERAGE, liars=True),
    "vote with fellows": Method(partial(voted, noisy_vote), THREE, VOTES, liars=True),
    "error memory with fellows": Method(partial(voted, error_memory), THREE, MEMORY, liars=True),
}
