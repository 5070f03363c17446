"""Chen et al., Algorithms 3 and 4: where the noisy methods come to rest, against the exact prediction.

The instance of Figure 1, whose true optimum is 13/3. A single iterate has a variance of order δb², so means over many
replicas and iterates are compared; the prediction is the zero of the expected step.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, values, verdict, where
from gradvote.lab.experiments.claims.figure_1 import CENTRES, MEAN, gradients
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import Estimate, above, below, mean
from gradvote.theory.stationary import Rule, stationary_point

REPLICAS, BATCHES = 4096, 16
RULES: dict[str, Rule] = {"signsgd": "vote", "mediansgd": "median"}


def cells(scale: Scale) -> list[Cell]:
    stds = {"quick": [0.5, 2.0, 10.0, 50.0], "paper": [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]}[scale]
    steps = {"quick": 800, "paper": 6000}[scale]
    return [{"algorithm": a, "b": b, "steps": steps} for a in RULES for b in stds]


def measure(cell: Cell, bench: Bench) -> Numbers:
    b, name = cell["b"], cell["algorithm"]
    lr = 0.03 if name == "mediansgd" else 0.005 * max(b, 1.0)
    start = torch.full((1, REPLICAS), 2.0, dtype=torch.float64)
    start[:, ::2] = MEAN
    _, start = _average(cell, start, 4 * lr, seed=0, bench=bench)
    coarse, last = _average(cell, start, lr, seed=1, bench=bench)
    fine, _ = _average(cell, last, lr / 2, seed=2, bench=bench)
    found = mean((2 * fine - coarse)[0].view(BATCHES, -1).mean(1).tolist())
    expected = stationary_point(lambda x: x - CENTRES, 0.0, 12.0, b, RULES[name])
    return {"lr": lr, "found": found.value, "half": found.half, "expected": expected}


def _average(cell: Cell, start: Tensor, lr: float, seed: int, bench: Bench) -> tuple[Tensor, Tensor]:
    """Each replica's mean over the second half of its iterates, and its last one."""
    algorithm = algorithms.create(f"noisy-{cell['algorithm']}", noise_std=cell["b"])
    total, half = torch.zeros_like(start), cell["steps"] // 2

    def tell(step: int, steps: int, note: str) -> None:
        bench.tell(seed * steps + step, 3 * steps, f"part {seed + 1} of 3")

    for step, x in enumerate(Descent(algorithm, gradients, start, lr, seed, tell=tell).iterates(cell["steps"])):
        total, last = total + x * (step > half), x
    return total / (cell["steps"] - half), last


def judge(records: Sequence[Record]) -> list[Verdict]:
    return [v for name in RULES for v in _judged(where(records, algorithm=name), name)]


def _judged(records: Sequence[Record], name: str) -> list[Verdict]:
    off = [(r["b"], Estimate(r["found"] - r["expected"], r["half"], BATCHES)) for r in records]
    gaps = [Estimate(abs(r["found"] - MEAN), r["half"], BATCHES) for r in records]
    closer = [
        above(f"closer at b = {r['b']:g}", Estimate(a.value - b.value, math.hypot(a.half, b.half), BATCHES), 0.0)
        for a, b, r in zip(gaps, gaps[1:], records[1:], strict=False)
    ]
    within = [(f"b = {b:g}, off by", e, max(0.004, 0.005 * b)) for b, e in off]
    return [
        verdict(
            f"Noisy {name} rests where its expected step is zero",
            [check for what, e, room in within for check in (above(what, e, -room), below(what, e, room))],
            "; ".join(
                f"b = {r['b']:g}: {r['found']:.4f} ± {r['half']:.4f}, predicted {r['expected']:.4f}" for r in records
            )
            + ". Allowed: 0.005·b, at least 0.004",
        ),
        verdict(
            f"Noisy {name}: more noise brings the resting point closer to the optimum of the mean",
            closer,
            f"measured distance from 13/3: {gaps[0]} at b = {records[0]['b']:g}, {gaps[-1]} at "
            f"b = {records[-1]['b']:g}",
        ),
    ]


def at_the_median(records: Sequence[Record]) -> list[Record]:
    """All rest exactly at the median of the workers' optima, as without noise."""
    return [replace(r, numbers={**r.numbers, "found": float(CENTRES.median()), "half": 0.0}) for r in records]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for name, rule in RULES.items():
        mine = where(records, algorithm=name)
        b, found = values(mine, "b"), [r["found"] for r in mine]
        low, high = ([r["found"] + s * r["half"] for r in mine] for s in (-1, 1))
        series.append(Series(f"noisy {name}", b, found, low, high))
        series.append(Series(f"{rule}: exact", b, [r["expected"] for r in mine], guide=True))
    series.append(Series("optimum 13/3", [records[0]["b"], max(values(records, "b"))], [MEAN, MEAN], guide=True))
    return plot("Where the noisy methods rest", "x, by measurement and by theory", series, x_label="b", log_x=True)


CLAIM = Claim(
    title="Resting points of noisy signSGD and noisy medianSGD",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Algorithms 3 and 4 on the instance of Figure 1",
    method=f"{REPLICAS} replicas from either side of the optimum, Gaussian noise; means over replicas and over "
    "the last half of the iterates, at a rate δ and at δ/2 (after as many steps at 4δ, to get there), extrapolated to "
    "δ = 0 (the drift is not linear, so at δ it is off by O(δ)); 95 % intervals from 16 groups of replicas.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"without noise": at_the_median},
)
