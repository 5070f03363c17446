"""Chen et al., Theorems 5 and 6: the rates of noisy signSGD and noisy medianSGD, whose constants the paper hides."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent, astray
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import quadratic
from gradvote.lab.experiments.statistics import Estimate, below, mean, slopes
from gradvote.theory import mixed_norm, noisy_median_variance, noisy_mediansgd_prescription, noisy_signsgd_prescription

WORKERS, DROP, SPREAD, REPLICAS = 5, 4.0, 0.3, 16
ORDERS = {"signsgd": (5, -1 / 4, 3 / 4), "mediansgd": (6, -1 / 3, 2 / 3)}
"""The theorem, and the exponents of T and d in its rate."""
TOLERANCE = 0.05
NULLS = ("no step", "random steps")
SHRINKS = 0.9


def cells(scale: Scale) -> list[Cell]:
    by_steps = {"quick": (128, 512, 2048), "paper": (128, 512, 2048, 8192, 32768)}[scale]
    by_d = {"quick": (2, 8, 32), "paper": (2, 8, 32, 128, 512)}[scale]
    sizes = dict.fromkeys([*((t, 2) for t in by_steps), *((512, d) for d in by_d)])
    return [{"algorithm": a, "steps": t, "d": d} for a in ORDERS for t, d in sizes]


def measure(cell: Cell, bench: Bench) -> Numbers:
    """The left side of the theorem along the run, for each replica, and along those of the null methods.

    Theorem 5 bounds the mean of the mixed norm of its (11), σ that of the median of the noise; Theorem 6 ‖∇f‖².
    """
    problem, start = quadratic(WORKERS, cell["d"], SPREAD, DROP, flattest=1.0)
    prescribe = noisy_signsgd_prescription if cell["algorithm"] == "signsgd" else noisy_mediansgd_prescription
    chosen = prescribe(steps=cell["steps"], d=cell["d"])
    algorithm = algorithms.create(f"noisy-{cell['algorithm']}", noise_std=chosen.noise_std)
    size = _left_of(cell, chosen.noise_std)

    def along(lr: float, lost: bool) -> list[float]:
        gradients = astray(lambda x, _: problem.gradients(x)) if lost else lambda x, _: problem.gradients(x)
        descent = Descent(algorithm, gradients, start.expand(REPLICAS, -1), lr, seed=3, tell=bench.tell)
        total = torch.zeros(REPLICAS, dtype=torch.float64)
        for x in descent.iterates(cell["steps"] - 1):
            total += size(problem.gradient(x))
        return [float(f"{v:.6g}") for v in total / cell["steps"]]

    still = float(size(problem.gradient(start[None]))[0])
    nulls = {NULLS[0]: [still] * REPLICAS, NULLS[1]: along(chosen.lr, lost=True)}
    return {"b": chosen.noise_std, "lr": chosen.lr, "left": along(chosen.lr, lost=False), "nulls": nulls}


def _left_of(cell: Cell, b: float) -> Callable[[Tensor], Tensor]:
    if cell["algorithm"] == "mediansgd":
        return lambda g: g.square().sum(1)
    std = b * float(noisy_median_variance(torch.zeros(WORKERS, 1, dtype=torch.float64), 1.0).max()) ** 0.5
    return lambda g: mixed_norm(g, torch.full((cell["d"],), std, dtype=torch.float64))


def judge(records: Sequence[Record]) -> list[Verdict]:
    return [v for name in ORDERS for v in _judged(where(records, algorithm=name), name)]


def _judged(records: Sequence[Record], name: str) -> list[Verdict]:
    number, in_steps, in_d = ORDERS[name]
    what = "the mixed norm of (11)" if name == "signsgd" else "‖∇f‖²"
    by_steps, by_d = where(records, d=2), where(records, steps=512)
    falls, grows = _slope(by_steps, "steps"), _slope(by_d, "d")
    beaten = [below(f"d = {r['d']}, of standing still", _of_standing(r), SHRINKS) for r in by_d]
    return [
        verdict(
            f"Theorem {number}: noisy {name}'s mean of {what} falls at least as T^{in_steps:.2g}",
            below("exponent of T", falls, in_steps + TOLERANCE),
            f"exponent of T from {by_steps[0]['steps']} to {by_steps[-1]['steps']}: {falls} (d = 2)",
            paper=f"{in_steps:.2g}",
        ),
        verdict(
            f"Theorem {number}: it grows at most as d^{in_d:.2g}, and is below {SHRINKS:g} of standing still",
            [below("exponent of d", grows, in_d + TOLERANCE), *beaten],
            f"exponent of d from {by_d[0]['d']} to {by_d[-1]['d']}: {grows} (T = 512, D_f and L fixed); of standing "
            "still: " + ", ".join(f"{_of_standing(r)} at d = {r['d']}" for r in by_d),
            paper=f"{in_d:.2g}",
        ),
    ]


def _slope(records: Sequence[Record], key: str) -> Estimate:
    return slopes([r[key] for r in records], [r["left"] for r in records])


def _of_standing(record: Record) -> Estimate:
    still = record["nulls"][NULLS[0]][0]
    return mean([v / still for v in record["left"]])


def in_place(name: str, records: Sequence[Record]) -> list[Record]:
    """The null method's measurements in place of the tested one's."""
    return [replace(r, numbers={**r.numbers, "left": r["nulls"][name]}) for r in records]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for name, (_, order, _) in ORDERS.items():
        mine = where(records, algorithm=name, d=2)
        steps, found = [r["steps"] for r in mine], [mean(r["left"]) for r in mine]
        left, low, high = ([getattr(e, k) for e in found] for k in ("value", "low", "high"))
        series.append(Series(f"noisy {name}", steps, left, low, high))
        series.append(Series(f"T^{order:.2g}", steps, [left[0] * (t / steps[0]) ** order for t in steps], guide=True))
    return plot(
        "Noise with the prescribed b(T, d) converges",
        "mean of the bounded norm over the run, heterogeneous quadratics, d = 2 · log scale",
        series,
        x_label="steps T (log scale)",
        log_x=True,
        log_y=True,
    )


CLAIM = Claim(
    title="Theorems 5 and 6: rates of the noisy methods",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Theorems 5 and 6",
    method="Quadratics with skewed optima (all curvatures 1, D_f = 4, M = 5), b and δ as prescribed for each T and "
    f"d, Gaussian noise, {REPLICAS} replicas, each with an exponent of its own. The constants are hidden in the "
    "paper, so exponents are compared, one-sided. The null methods do not step, or step as far in random directions.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={name: partial(in_place, name) for name in NULLS},
)
