"""Chen et al., Proposition 1: for an odd number of workers the majority vote is the sign of the median."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import above, below, exact

LEVELS = (-2.0, -1.0, 0.0, 1.0, 2.0)
ZEROS = ("random", "positive", "abstain")


def cells(scale: Scale) -> list[Cell]:
    sizes = {"quick": [1, 2, 3, 4, 5, 6, 7], "paper": [1, 2, 3, 4, 5, 6, 7, 8, 9]}[scale]
    count = {"quick": 100_000, "paper": 5_000_000}[scale]
    search = [{"workers": m, "zero": z, "inputs": "all"} for m in sizes for z in ZEROS]
    return search + [{"workers": m, "zero": "random", "inputs": count} for m in (3, 11, 51)]


def measure(cell: Cell, bench: Bench) -> Numbers:
    gradients = _all(cell["workers"]) if cell["inputs"] == "all" else _random(cell["workers"], cell["inputs"])
    vote = _decide(algorithms.signsgd(zero=cell["zero"]), gradients)
    median = _decide(algorithms.mediansgd(), gradients)
    mean = gradients.mean(0)
    wrong, other = ((x != 0) & (vote != x.sign()) for x in (median, mean))
    return {"checked": int((median != 0).sum()), "wrong": int(wrong.sum()), "mean_wrong": int(other.sum())}


def _all(workers: int) -> Tensor:
    """Every assignment of five values to the workers (M, 5^M)."""
    return torch.tensor(list(product(LEVELS, repeat=workers))).T.contiguous()


def _random(workers: int, count: int) -> Tensor:
    """Heavy-tailed values with zeros among them (M, count)."""
    generator = torch.Generator().manual_seed(workers)
    x = torch.randn(workers, count, generator=generator) / torch.rand(workers, count, generator=generator)
    return x.where(torch.rand(workers, count, generator=generator) > 0.1, 0.0)


def _decide(algorithm: Algorithm, gradients: Tensor) -> Tensor:
    """The direction (d,) of one round, bytes and all."""
    protocol = protocol_for([torch.zeros(gradients.shape[1])], algorithm, 0)
    return Simulation(protocol, len(gradients)).step(gradients, 0, 1.0)


def judge(records: Sequence[Record]) -> list[Verdict]:
    odd = [r for r in records if r["workers"] % 2]
    even = where([r for r in records if r["workers"] % 2 == 0], zero="abstain")
    checked, wrong = sum(r["checked"] for r in odd), sum(r["wrong"] for r in odd)
    shares = ", ".join(f"{r['wrong'] / r['checked']:.1%} of M = {r['workers']}" for r in even)
    return [
        verdict(
            "For odd M the vote is the sign of the median wherever the median is not zero",
            below("exceptions", exact(wrong), 1),
            f"{wrong} exceptions in {checked:,} inputs: all assignments of {LEVELS} to the workers under each rule "
            "for zeros, and random heavy-tailed ones",
            paper="none",
        ),
        verdict(
            "M must be odd: for even M there are exceptions",
            [above(f"exceptions of M = {r['workers']}", exact(r["wrong"]), 0) for r in even],
            f"a tied vote where the two middle values differ in size: {shares}",
        ),
    ]


def of_the_mean(records: Sequence[Record]) -> list[Record]:
    """The sign of the mean in place of that of the median."""
    return [replace(r, numbers={**r.numbers, "wrong": r["mean_wrong"]}) for r in records]


def of_odd_crews(records: Sequence[Record]) -> list[Record]:
    """What odd numbers of workers give, under even ones."""
    return [replace(r, numbers={**r.numbers, "wrong": 0}) if r["workers"] % 2 == 0 else r for r in records]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for zero in ZEROS:
        mine = where(records, zero=zero, inputs="all")
        series.append(Series(f"zero={zero}", [r["workers"] for r in mine], [r["wrong"] / r["checked"] for r in mine]))
    return plot(
        "Vote and sign of the median agree for odd M",
        "share of inputs with a median other than zero on which they differ",
        series,
        x_label="workers M, all inputs by enumeration",
    )


CLAIM = Claim(
    title="Proposition 1: a vote is the sign of a median",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Proposition 1",
    method="One round of the library's signSGD and medianSGD on every assignment of five values to M workers, and on "
    "random inputs.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"sign of the mean": of_the_mean, "odd numbers": of_odd_crews},
)
