"""Accuracy after equal rounds: FedAvg and the vote on clients that hold two classes each, with a NaN, with liars.

    python benchmarks/flower_accuracy.py [--data digits mnist] [--rounds 100] [--seeds 3] [--out FILE.json]

Ten clients, five local steps of SGD on batches of 32. Rates are tuned on other seeds than those that are judged, and
the judged accuracy is that of the test split, which tuning does not see: it uses a fifth of the training split. Votes
are counted by the simulation, which gives Flower's parameters bit for bit on equal layouts (tests/engines/flower);
FedAvg is x ← mean of the clients' arrays, weighted by samples. The vote's rate falls as a half cosine, FedAvg's stays.
"""

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.lab.data import ByClass, load
from gradvote.partitions import Partition

M, H, BATCH = 10, 5, 32
HIDDEN = {"digits": 128, "mnist": 32}
TUNED_ON, FIRST = (1000,), 0
LOCAL, ETA, NOISE = (0.1, 0.3), (0.01, 0.03), (0.003, 0.01, 0.03)
Rule = Callable[[Tensor, int], Tensor]
Run = Callable[["Task", int], float]


@dataclass
class Task:
    """One seed's clients and what is judged on, and the model's shapes."""

    x: Tensor
    y: Tensor
    clients: list[Tensor]
    judge_x: Tensor
    judge_y: Tensor
    hidden: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.hidden, self.x.shape[1]), (self.hidden,), (10, self.hidden), (10,)]


cached = lru_cache(load)


def task_of(name: str, seed: int, partition: Partition, tuning: bool) -> Task:
    """The task of a seed; for tuning the last fifth of the training split is judged on, and nobody trains on it."""
    data = cached(name)
    order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(17))[:10_000]
    x, y = data.train_x.flatten(1)[order], data.train_y[order]
    own = len(y) * 4 // 5
    clients = partition(y[:own], M, seed)
    judged = (x[own:], y[own:]) if tuning else (data.test_x.flatten(1), data.test_y)
    return Task(x[:own], y[:own], clients, *judged, HIDDEN[name])


def start(task: Task, seed: int) -> list[Tensor]:
    """The first parameters, as torch.nn.Linear draws them."""
    made, found = torch.Generator().manual_seed(seed), []
    for shape in task.shapes:
        fan = task.x.shape[1] if len(found) < 2 else task.hidden
        found.append((torch.rand(shape, generator=made) * 2 - 1) / fan**0.5)
    return found


def logits(params: Sequence[Tensor], x: Tensor) -> Tensor:
    """Those of one model, or of each client's (M, ...)."""
    w1, b1, w2, b2 = params
    hidden = torch.relu(x @ w1.mT + b1.unsqueeze(-2))
    return hidden @ w2.mT + b2.unsqueeze(-2)


def differences(task: Task, now: Sequence[Tensor], lr: float, number: int, seed: int) -> Tensor:
    """start − end of all clients' own steps (M, d)."""
    own = [p.expand(M, *p.shape).clone().requires_grad_() for p in now]
    made = torch.Generator().manual_seed(100_000 * seed + number)
    sizes = torch.tensor([len(mine) for mine in task.clients])
    places = (torch.rand(H, M, BATCH, generator=made) * sizes[:, None]).long()
    for step in range(H):
        batch = torch.stack([mine[at] for mine, at in zip(task.clients, places[step], strict=True)])
        loss = torch.nn.functional.cross_entropy(
            logits(own, task.x[batch]).transpose(1, 2), task.y[batch], reduction="none"
        )
        for p, g in zip(own, torch.autograd.grad(loss.mean(1).sum(), own), strict=True):
            p.data.sub_(g, alpha=lr)
    pairs = zip(now, own, strict=True)
    return torch.cat([(p - q).detach().flatten(1) for p, q in pairs], 1)


def accuracy(task: Task, params: Sequence[Tensor]) -> float:
    """Of the judged samples, in per cent; a model of NaN is right by chance only."""
    return 100 * float((logits(params, task.judge_x).nan_to_num(0.0).argmax(1) == task.judge_y).float().mean())


def train(task: Task, rounds: int, seed: int, local: float, rule: Rule, spoil: Callable[[Tensor], Tensor]) -> float:
    """Rounds of local steps, then x ← x − rule(differences)."""
    params = start(task, seed)
    for number in range(rounds):
        update = rule(spoil(differences(task, params, local, number, seed)), number)
        at = 0
        for p in params:
            p.sub_(update[at : at + p.numel()].reshape(p.shape))
            at += p.numel()
    return accuracy(task, params)


def fedavg(task: Task, among: Sequence[int]) -> Rule:
    """The mean of some clients, weighted by their samples."""
    sizes = torch.tensor([float(len(task.clients[i])) for i in among])
    shares = sizes / sizes.sum()
    return lambda u, _: shares @ u[list(among)]


def vote(task: Task, eta: float, noise: float, rounds: int, seed: int) -> Rule:
    """The noisy vote, with a rate that falls to zero over the rounds as a half cosine."""
    algorithm, d = algorithms.noisy(algorithms.signsgd(), noise), sum(math.prod(shape) for shape in task.shapes)
    simulation = Simulation(protocol_for([torch.zeros(d)], algorithm, seed), M)

    def rule(u: Tensor, number: int) -> Tensor:
        lr = eta * (1 + math.cos(math.pi * number / rounds)) / 2
        return lr * simulation.step(u, number, lr)

    return rule


def median(u: Tensor, _: int) -> Tensor:
    """FedMedian's rule."""
    return u.median(0).values if not bool(u.isnan().any()) else torch.full_like(u[0], torch.nan)


def nan_client(u: Tensor) -> Tensor:
    u[4] = torch.nan
    return u


def inverting(liars: Sequence[int]) -> Callable[[Tensor], Tensor]:
    def spoil(u: Tensor) -> Tensor:
        u[list(liars)] *= -1
        return u

    return spoil


def liars_of(seed: int) -> list[int]:
    return torch.randperm(M, generator=torch.Generator().manual_seed(seed))[:3].tolist()


def honest(u: Tensor) -> Tensor:
    """A client's own update, unchanged."""
    return u


def measure(name: str, rounds: int, seeds: int, fixed: Sequence[float] | None) -> dict[str, object]:
    """All of one data set; `fixed`: these rates (local, η, b) in place of tuned ones."""
    two, three = ByClass(2, redundancy=2), ByClass(redundancy=3)

    def over(
        which: Sequence[int], tuning: bool, partition: Partition, run: Callable[[Task, int], float]
    ) -> list[float]:
        return [run(task_of(name, seed, partition, tuning), seed) for seed in which]

    def best(grid: Sequence[tuple[float, ...]], partition: Partition, run: Callable[..., float]) -> tuple[float, ...]:
        scores = {c: statistics.mean(over(TUNED_ON, True, partition, lambda t, s, c=c: run(t, s, *c))) for c in grid}
        return max(scores, key=lambda c: scores[c])

    def average(t: Task, s: int, local: float, spoil: Callable[[Tensor], Tensor] = honest) -> float:
        return train(t, rounds, s, local, fedavg(t, range(M)), spoil)

    def votes(t: Task, s: int, local: float, eta: float, b: float, spoil: Callable[[Tensor], Tensor] = honest) -> float:
        return train(t, rounds, s, local, vote(t, eta, b, rounds, s), spoil)

    def among_honest(t: Task, s: int, local: float) -> float:
        return train(t, rounds, s, local, fedavg(t, [i for i in range(M) if i not in liars_of(s)]), honest)

    def lied_to(t: Task, s: int, local: float, eta: float, b: float) -> float:
        return votes(t, s, local, eta, b, inverting(liars_of(s)))

    def tuned() -> tuple[tuple[float, ...], ...]:
        one, grid = [(x,) for x in LOCAL], [*itertools.product(LOCAL, ETA, NOISE)]
        plain = best(one, two, average), best(grid, two, votes)
        return *plain, best(one, three, among_honest), best(grid, three, lied_to)

    judged = range(FIRST, FIRST + seeds)
    if fixed is not None:
        local, eta, b = fixed
        f, v, fh, vh = (local,), (local, eta, b), (local,), (local, eta, b)
    else:
        f, v, fh, vh = tuned()
    rows = {
        "FedAvg": over(judged, False, two, lambda t, s: average(t, s, *f)),
        "vote": over(judged, False, two, lambda t, s: votes(t, s, *v)),
        "FedAvg, one NaN": over(judged, False, two, lambda t, s: average(t, s, *f, nan_client)),
        "FedMedian, one NaN": over(judged, False, two, lambda t, s: train(t, rounds, s, *f, median, nan_client)),
        "vote, one NaN": over(judged, False, two, lambda t, s: votes(t, s, *v, nan_client)),
        "FedAvg of the honest seven": over(judged, False, three, lambda t, s: among_honest(t, s, *fh)),
        "vote, three inverting": over(judged, False, three, lambda t, s: lied_to(t, s, *vh)),
    }
    means = {key: statistics.mean(own) for key, own in rows.items()}
    misses = {
        "vote against FedAvg (2 points)": means["FedAvg"] - means["vote"],
        "one NaN against FedAvg without it (3 points)": means["FedAvg"] - means["vote, one NaN"],
        "three inverting against FedAvg of the honest (5 points)": means["FedAvg of the honest seven"]
        - means["vote, three inverting"],
    }
    return {"data": name, "rates": {"FedAvg": f, "vote": v, "honest": fh, "inverting": vh}, "test": rows, "gap": misses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fixed", type=float, nargs=3, metavar=("LOCAL", "ETA", "B"), help="rates that are not tuned")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name in given.data:
        found.append(measure(name, given.rounds, given.seeds, given.fixed))
        print(json.dumps(found[-1], indent=1), flush=True)
        text = json.dumps(found, indent=1)
        if given.out is not None:
            given.out.write_text(text + "\n")
    limits = (2.0, 3.0, 5.0)
    for own in found:
        gaps = own["gap"]
        assert isinstance(gaps, dict)
        for (what, gap), limit in zip(gaps.items(), limits, strict=True):
            print(f"{own['data']}: {what}: {gap:.1f} behind: {'reached' if gap <= limit else 'MISSED'}")


if __name__ == "__main__":
    main()
