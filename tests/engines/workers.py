"""What the spawned ranks of the tests run: training of a small CNN on data that differ between workers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradvote import algorithms, faults
from gradvote.aggregators import Krum, Median, NearestNeighbourMixing
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import local_gradients, trainable
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.transforms import Relative

Plan = dict[int, dict[str, tuple[str, ...]]]
"""For each number of ranks, and for each placement, the algorithms that are run."""
Case = tuple[str, str]

STEPS = 8
SEED = 3
SHAPE, CLASSES = (1, 8, 8), 10


def recipes() -> dict[str, Algorithm]:
    """Every algorithm of the catalogue, and forms that take other paths."""
    plain = {name: algorithms.create(name) for name in algorithms.names()}
    return plain | {
        "noisy-signsgd": algorithms.create("noisy-signsgd"),
        "relative": algorithms.noisy(algorithms.signsgd(), Relative(0.1)),
        "abstain": algorithms.signsgd(zero="abstain"),
        "coarse-masks": algorithms.dropsignsgd(granularity=64),
    }


def whole() -> dict[str, Algorithm]:
    """Rules that need whole vectors: of numbers, and of what memories send."""
    mixed = NearestNeighbourMixing(1, Median())
    return {
        "krum": replace(algorithms.sgd(), aggregate=Krum(1)),
        "mixing": replace(algorithms.dist_ef_sgdm(), aggregate=mixed),
    }


FAULTS: dict[str, tuple[Faulty, ...]] = {
    "dist-ef-sgdm": (Faulty(faults.create("drop"), "uplink", num=1, redraw=True),),
    "signum": (Faulty(faults.create("invert"), "worker", workers=(1,)), Faulty(faults.create("random"), "uplink")),
}


def new_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, CLASSES)
        return nn.Sequential(*layers)


def batch(worker: int, step: int) -> tuple[Tensor, Tensor]:
    """Worker i sees classes i and i + 1 only."""
    generator = torch.Generator().manual_seed(1000 * step + worker)
    y = (torch.randint(0, 2, (8,), generator=generator) + worker) % CLASSES
    x = torch.randn(8, *SHAPE, generator=generator) + y[:, None, None, None] * 0.3
    return x, y


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def lr_at(step: int) -> float:
    return 0.01 if step < 5 else 0.004


def simulate(algorithm: Algorithm, num_workers: int, plan: tuple[Faulty, ...] = ()) -> Tensor:
    """The parameters after all rounds in one process."""
    model = new_model()
    params = trainable(model)
    protocol = protocol_for(params, algorithm, SEED)
    simulation = Simulation(protocol, num_workers, plan)
    optimizer = torch.optim.SGD(params, lr_at(0))
    for step in range(STEPS):
        gradients = torch.zeros(num_workers, protocol.layout.size)
        for i in range(num_workers):
            protocol.layout.flatten(local_gradients(model, *batch(i, step))[1], out=gradients[i])
        direction = simulation.step(gradients, step, lr_at(step))
        for p in params:
            p.grad = torch.zeros_like(p)
        protocol.layout.unflatten(direction, [p.grad for p in params if p.grad is not None])
        optimizer.param_groups[0]["lr"] = lr_at(step)
        optimizer.step()
    return flat(model)


def exchange_steps(model: nn.Module, exchange: Exchange, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = lr_at(step)
        optimizer.zero_grad()
        cross_entropy(model(batch(dist.get_rank(), step)[0]), batch(dist.get_rank(), step)[1]).backward()
        exchange.step()
        optimizer.step()


def cases(plan: Plan, size: int) -> Iterator[tuple[Case, Algorithm, str, tuple[Faulty, ...]]]:
    """What a number of ranks runs: every algorithm in its placements, and with faults."""
    made = recipes() | whole()
    for placement, names in plan[size].items():
        for name in names:
            yield (name, placement), made[name], placement, ()
    for name, faulty in FAULTS.items():
        yield (name, "faults"), made[name], "sharded", faulty


def simulate_all(plan: Plan, size: int) -> dict[Case, Tensor]:
    """The parameters by case; all placements share one simulation."""
    found: dict[tuple[str, bool], Tensor] = {}
    results = {}
    for (name, kind), algorithm, _, faulty in cases(plan, size):
        key = name, bool(faulty)
        if key not in found:
            found[key] = simulate(algorithm, size, faulty)
        results[name, kind] = found[key]
    return results


def train_all(plan: Plan) -> dict[int, dict[Case, Tensor]]:
    """This rank's final parameters by the number of ranks and by case."""
    results = {}
    for size in plan:
        group = dist.new_group(range(size))
        if dist.get_rank() < size:
            results[size] = {
                case: resumed(algorithm, placement, group, faulty)
                for case, algorithm, placement, faulty in cases(plan, size)
            }
    return results


def resumed(algorithm: Algorithm, placement: Any, group: Any, plan: tuple[Faulty, ...] = ()) -> Tensor:
    """Half of the steps in one chunk, then the rest in three by a new exchange that loads the first one's state."""
    model = new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr_at(0))
    options: dict[str, Any] = {"placement": placement, "optimizer": optimizer, "seed": SEED, "faults": plan}
    first = Exchange(model.named_parameters(), algorithm, chunks=1, group=group, **options)
    exchange_steps(model, first, optimizer, range(STEPS // 2))
    second = Exchange(model.named_parameters(), algorithm, chunks=3, group=group, **options)
    second.load_state_dict(first.state_dict())
    exchange_steps(model, second, optimizer, range(STEPS // 2, STEPS))
    return flat(model)
