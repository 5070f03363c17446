"""Chen et al., Theorems 1 and 2: the bounds for signSGD and medianSGD, every term of them known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.lab.experiments.arena import Descent, Gradients, astray
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import draw_noise, logistic, quadratic
from gradvote.lab.experiments.statistics import Estimate, below, exact, mean, slope, slopes
from gradvote.theory import (
    expected_noisy_median,
    median_mean_gap,
    mediansgd_bound,
    mediansgd_prescription,
    noisy_median_variance,
    signsgd_bound,
    signsgd_prescription,
)

WORKERS, DROP, SPREAD, REPLICAS = 5, 4.0, 0.3, 16
MEDIAN, NOISES, CREWS = "median", ("gaussian", "laplace", "logistic", "uniform"), (1, 3, 9, 27, 81)
TESTED, NULLS, TOLERANCE = "tested", ("no step", "random steps"), 0.05
SETTINGS = {"equal": (0.0, 0.0), "noisy": (0.0, 0.5), "heterogeneous": (SPREAD, 0.0), "both": (SPREAD, 0.5)}
"""Spread of the workers' optima, and the standard deviation of the sampling noise."""


def cells(scale: Scale) -> list[Cell]:
    sizes = {"quick": [(64, 8), (256, 8), (1024, 8), (256, 2), (256, 32)], "paper": _grid()}[scale]
    shared = [{"algorithm": a, "steps": t, "d": d} for a in ("signsgd", "mediansgd") for t, d in sizes]
    rows: list[Cell] = [
        {"problem": "quadratic", "setting": s, **c} for c in shared for s in SETTINGS if _wanted(s, c, scale)
    ]
    rows += [{"problem": MEDIAN, "noise": n, "algorithm": "", "workers": list(CREWS)} for n in NOISES]
    return rows + [{"problem": "logistic", "setting": "heterogeneous", **c} for c in shared if c["d"] == 8]


def _grid() -> list[tuple[int, int]]:
    return [(t, d) for t in (64, 256, 1024, 4096, 16384) for d in (2, 8, 32, 128)]


def _wanted(setting: str, cell: Cell, scale: Scale) -> bool:
    """At quick scale the dimension changes only where data are equal or everything is on."""
    return scale == "paper" or cell["d"] == 8 or setting in ("equal", "both")


def measure(cell: Cell, bench: Bench) -> Numbers:
    """The left side of each theorem, for each replica, its right side, and the left sides of the null methods."""
    if cell["problem"] == MEDIAN:
        stds = [_median_std(m, cell["noise"]) for m in cell["workers"]]
        return {"std": stds, "nulls": {name: [1.0] * len(stds) for name in NULLS}}
    return (_on_quadratic if cell["problem"] == "quadratic" else _on_logistic)(cell, bench)


def _median_std(workers: int, noise: str) -> float:
    """The standard deviation σ_m of the median of so many draws of σ_l = 1."""
    return math.sqrt(noisy_median_variance(torch.zeros(workers, 1, dtype=torch.float64), 1.0, noise).max())


def _on_quadratic(cell: Cell, bench: Bench) -> Numbers:
    spread, sigma = SETTINGS[cell["setting"]]
    problem, start = quadratic(WORKERS, cell["d"], spread, DROP)
    generator = torch.Generator().manual_seed(11)

    def gradients(x: Tensor, step: int) -> Tensor:
        exact = problem.gradients(x)
        return exact + sigma * draw_noise("gaussian", tuple(exact.shape), generator) if sigma else exact

    apart = problem.curvatures * (problem.optimum - problem.centres)
    gap = expected_noisy_median(apart, sigma)
    std = float(noisy_median_variance(apart, sigma).max()) ** 0.5
    gaps = float(gap.abs().sum()), float(gap.square().sum())
    algorithm, lr = _prescribed(cell, problem.smoothness, DROP)

    def along(told: Gradients) -> Tensor:
        descent = Descent(algorithm, told, start.expand(REPLICAS, -1), lr, seed=2, tell=bench.tell)
        return torch.stack([_norm(cell, problem.gradient(x)) for x in descent.iterates(cell["steps"] - 1)]).mean(0)

    lefts = {TESTED: along(gradients), NULLS[1]: along(astray(gradients))}
    lefts[NULLS[0]] = _norm(cell, problem.gradient(start.expand(REPLICAS, -1)))
    return _compared(cell, lefts, problem.smoothness, DROP, std, gaps)


def _on_logistic(cell: Cell, bench: Bench) -> Numbers:
    problem, start = logistic(WORKERS, cell["d"])
    drop, L = problem.drop(start), problem.smoothness
    algorithm, lr = _prescribed(cell, L, drop)

    def along(told: Gradients, replicas: int) -> tuple[Tensor, tuple[float, float]]:
        norms, gaps = [], []
        descent = Descent(algorithm, told, start.expand(replicas, -1), lr, seed=2, tell=bench.tell)
        for x in descent.iterates(cell["steps"] - 1):
            g = problem.gradients(x)
            norms.append(_norm(cell, g.mean(0)))
            gap = median_mean_gap(g)[:1]
            gaps.append((float(gap.abs().sum()), float(gap.square().sum())))
        l1, squared = (sum(side) / len(gaps) for side in zip(*gaps, strict=True))
        return torch.stack(norms).mean(0), (l1, squared)

    left, gaps = along(lambda x, _: problem.gradients(x), 1)
    lost, _ = along(astray(lambda x, _: problem.gradients(x)), REPLICAS)
    still = _norm(cell, problem.gradients(start[None]).mean(0))
    return _compared(cell, {TESTED: left, NULLS[0]: still, NULLS[1]: lost}, L, drop, 0.0, gaps)


def _prescribed(cell: Cell, L: float, drop: float) -> tuple[Algorithm, float]:
    if cell["algorithm"] == "signsgd":
        chosen = signsgd_prescription(steps=cell["steps"], d=cell["d"], smoothness=L, drop=drop)
        return algorithms.create("signsgd", zero="abstain"), chosen.lr
    return algorithms.create("mediansgd"), mediansgd_prescription(steps=cell["steps"], d=cell["d"], smoothness=L).lr


def _norm(cell: Cell, gradient: Tensor) -> Tensor:
    """What the theorem bounds, of ∇f (R, p): ‖∇f‖₁ or ‖∇f‖²."""
    return gradient.abs().sum(1) if cell["algorithm"] == "signsgd" else gradient.square().sum(1)


def _compared(
    cell: Cell, lefts: dict[str, Tensor], L: float, drop: float, std: float, gaps: tuple[float, float]
) -> Numbers:
    known = {"steps": cell["steps"], "d": cell["d"], "smoothness": L, "drop": drop, "median_std": std}
    sign = cell["algorithm"] == "signsgd"
    right = signsgd_bound(**known, gap_l1=gaps[0]) if sign else mediansgd_bound(**known, gap_squared=gaps[1])
    told = {name: [float(f"{v:.6g}") for v in left] for name, left in lefts.items()}
    return {"left": told[TESTED], "right": right, "nulls": {name: told[name] for name in NULLS}}


def judge(records: Sequence[Record]) -> list[Verdict]:
    bounds = [v for name in ("signsgd", "mediansgd") for v in _judged(where(records, algorithm=name), name)]
    return [*bounds, _remark(where(records, problem=MEDIAN))]


def _remark(records: Sequence[Record]) -> Verdict:
    """An order for large M, so the exponent is that of the largest two crews; the bound lets it be smaller."""
    rates = {r["noise"]: slope(r["workers"][-2:], r["std"][-2:]).value for r in records}
    return verdict(
        "The median's noise is of order σ_l/√M",
        [below(f"{noise}, exponent of M", exact(rate), -0.5 + TOLERANCE) for noise, rate in rates.items()],
        f"exact σ_m of noise with σ_l = 1, exponents from M = {CREWS[-2]} to {CREWS[-1]}: "
        + ", ".join(f"{noise} {rate:.3f}" for noise, rate in rates.items()),
        paper="−0.5",
    )


def _judged(records: Sequence[Record], name: str) -> list[Verdict]:
    number, order = {"signsgd": 1, "mediansgd": 2}[name], -0.5
    ratios = [ratio(r) for r in records]
    equal = where(records, problem="quadratic", setting="equal", d=8)
    rate = slopes([r["steps"] for r in equal], [r["left"] for r in equal])
    return [
        verdict(
            f"Theorem {number}: {name} stays below its bound, with the prescribed rate",
            [below(_named(r), e, 1.0) for r, e in zip(records, ratios, strict=True)],
            f"left side over bound: {min(e.low for e in ratios):.2g} to {max(e.high for e in ratios):.2g} in "
            f"{len(ratios)} settings; {_loose(records)}",
            paper="≤ 1",
        ),
        verdict(
            f"Theorem {number}: without gap and noise the left side falls as T^{order:g} or faster",
            below("exponent of T", rate, order + TOLERANCE),
            f"exponent of T: {rate}",
            paper=f"{order:g}",
        ),
    ]


def ratio(record: Record) -> Estimate:
    """The left side over the right one; one run without any chance in it is exact."""
    each = [v / record["right"] for v in record["left"]]
    return exact(each[0]) if len(set(each)) == 1 else mean(each)


def _named(record: Record) -> str:
    return f"{record['problem']}, {record['setting']}, T = {record['steps']}, d = {record['d']}"


def _loose(records: Sequence[Record]) -> str:
    """How often a null method stays below the bound, which then says nothing."""
    passed = {name: [r for r in in_place(name, records) if ratio(r).high < 1] for name in NULLS}
    told = ", ".join(f"{name} in {len(own)}" for name, own in passed.items())
    return f"so loose that a null stays below as well: {told} of {len(records)}"


def in_place(name: str, records: Sequence[Record]) -> list[Record]:
    """The null method's measurements in place of the tested one's."""
    return [
        replace(r, numbers={**r.numbers, "std" if r["problem"] == MEDIAN else "left": r["nulls"][name]})
        for r in records
    ]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for name in ("signsgd", "mediansgd"):
        mine = where(records, problem="quadratic", setting="both", algorithm=name, d=8)
        steps = [r["steps"] for r in mine]
        series += [
            Series(f"{name}: bound", steps, [r["right"] for r in mine], guide=True),
            Series(f"{name}: measured", steps, [mean(r["left"]).value for r in mine]),
        ]
    return plot(
        "Measured gradients stay below the bounds",
        "mean ‖∇f‖₁ (signSGD), ‖∇f‖² (medianSGD); heterogeneous, noisy, d = 8 · log scale",
        series,
        x_label="steps T (log scale)",
        log_x=True,
        log_y=True,
    )


CLAIM = Claim(
    title="Theorems 1 and 2: bounds of signSGD and medianSGD",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Theorems 1 and 2",
    method="Quadratics (L = 1, D_f = 4, M = 5) with equal or skewed optima, exact or noisy gradients, and logistic "
    "regression on differing data; the gap between expected median and mean and the variance of the median are "
    "computed exactly, the rates are the prescribed ones. 16 replicas, each with an exponent of its own. The null "
    "methods do not step, or step as far in random directions.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={name: partial(in_place, name) for name in NULLS},
)
