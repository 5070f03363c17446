"""Chen et al., Theorems 5 and 6: the rates of noisy signSGD and noisy medianSGD, whose constants the paper hides."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import quadratic
from gradvote.lab.experiments.statistics import mean, slope
from gradvote.theory import noisy_mediansgd_prescription, noisy_signsgd_prescription

WORKERS, DROP, SPREAD, REPLICAS = 5, 4.0, 0.3, 8
ORDERS = {"signsgd": (5, -1 / 4, 3 / 4), "mediansgd": (6, -1 / 3, 2 / 3)}
"""The theorem, and the exponents of T and d in its rate."""


def cells(scale: Scale) -> list[Cell]:
    by_steps = {"quick": (128, 512, 2048), "paper": (128, 512, 2048, 8192, 32768)}[scale]
    by_d = {"quick": (2, 8, 32), "paper": (2, 8, 32, 128, 512)}[scale]
    sizes = dict.fromkeys([*((t, 2) for t in by_steps), *((512, d) for d in by_d)])
    return [{"algorithm": a, "steps": t, "d": d} for a in ORDERS for t, d in sizes]


def measure(cell: Cell, bench: Bench) -> Numbers:
    problem, start = quadratic(WORKERS, cell["d"], SPREAD, DROP, flattest=1.0)
    prescribe = noisy_signsgd_prescription if cell["algorithm"] == "signsgd" else noisy_mediansgd_prescription
    chosen = prescribe(steps=cell["steps"], d=cell["d"])
    algorithm = algorithms.create(f"noisy-{cell['algorithm']}", noise_std=chosen.noise_std)
    descent = Descent(algorithm, lambda x, _: problem.gradients(x), start.expand(REPLICAS, -1), chosen.lr, seed=3)
    total = torch.zeros(REPLICAS, dtype=torch.float64)
    for x in descent.iterates(cell["steps"] - 1):
        total += problem.gradient(x).square().sum(1)
    found = mean((total / cell["steps"]).tolist())
    return {"b": chosen.noise_std, "lr": chosen.lr, "left": found.value, "half": found.half}


def judge(records: Sequence[Record]) -> list[Verdict]:
    verdicts = []
    for name, (number, in_steps, in_d) in ORDERS.items():
        mine = where(records, algorithm=name)
        by_steps, by_d = where(mine, d=2), where(mine, steps=512)
        falls = slope([r["steps"] for r in by_steps], [r["left"] for r in by_steps])
        grows = slope([r["d"] for r in by_d], [r["left"] for r in by_d])
        verdicts += [
            verdict(
                f"Theorem {number}: noisy {name}'s mean ‖∇f‖² falls at least as T^{in_steps:.2g}",
                falls.value <= in_steps + 0.05,
                f"fitted exponent of T: {falls} (d = 2)",
            ),
            verdict(
                f"Theorem {number}: it grows at most as d^{in_d:.2g}",
                grows.value <= in_d + 0.05,
                f"fitted exponent of d: {grows} (T = 512, D_f and L fixed)",
            ),
        ]
    return verdicts


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for name, (_, order, _) in ORDERS.items():
        mine = where(records, algorithm=name, d=2)
        steps, left = [r["steps"] for r in mine], [r["left"] for r in mine]
        low, high = ([r["left"] + s * r["half"] for r in mine] for s in (-1, 1))
        series.append(Series(f"noisy {name}", steps, left, low, high))
        series.append(Series(f"T^{order:.2g}", steps, [left[0] * (t / steps[0]) ** order for t in steps], guide=True))
    return plot(
        "Noise with the prescribed b(T, d) converges",
        "mean ‖∇f‖² over the run, heterogeneous quadratics, d = 2 · log scale",
        series,
        x_label="steps T (log scale)",
        log_x=True,
        log_y=True,
    )


CLAIM = Claim(
    title="Theorems 5 and 6: rates of the noisy methods",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Theorems 5 and 6",
    method="Quadratics with skewed optima (all curvatures 1, D_f = 4, M = 5), b and δ as prescribed for each T and d, "
    "Gaussian noise, 8 replicas. The constants are hidden in the paper, so exponents are compared, one-sided.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
