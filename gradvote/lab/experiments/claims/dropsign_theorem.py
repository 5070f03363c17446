"""Phong and Phuong, Theorem 1: DropSignSGD's smallest expected ‖∇f‖² falls as 1/√(MT)."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import draw_noise, quadratic
from gradvote.lab.experiments.statistics import slope
from gradvote.theory import dropsign_lr

D, DROP, SPREAD, SIGMA, MU, C, REPLICAS = 8, 4.0, 0.03, 2.0, 0.5, 4.0, 32
TOLERANCE = 0.05
LONG: dict[Scale, int] = {"quick": 1024, "paper": 8192}
"""T where M varies: the error memories' part of ‖∇f‖², of order M/T, must be small beside 1/√(MT)."""


def cells(scale: Scale) -> list[Cell]:
    steps = {"quick": (64, 128, 256, 512, 1024), "paper": (128, 512, 2048, 8192, 32768)}[scale]
    sizes = dict.fromkeys([*((t, 4) for t in steps), *((LONG[scale], m) for m in (1, 2, 4, 8, 16))])
    return [{"steps": t, "workers": m} for t, m in sizes]


def measure(cell: Cell, bench: Bench) -> Numbers:
    problem, start = quadratic(cell["workers"], D, SPREAD, DROP)
    generator = torch.Generator().manual_seed(17)

    def gradients(x: Tensor, step: int) -> Tensor:
        exact = problem.gradients(x)
        return exact + SIGMA * draw_noise("gaussian", tuple(exact.shape), generator)

    largest = dropsign_lr(c=C, mu=MU, smoothness=problem.smoothness) / C
    lr = largest * min(1.0, (cell["workers"] / cell["steps"]) ** 0.5)
    algorithm = algorithms.create("dropsignsgd", mu=MU, c=C, zero="abstain")
    squares = []
    for x in Descent(algorithm, gradients, start.expand(REPLICAS, -1), lr, seed=6).iterates(cell["steps"]):
        squares.append(float(problem.gradient(x).square().sum(1).mean()))
    return {"lr": lr, "smallest": min(squares), "first": squares[0]}


def judge(records: Sequence[Record]) -> list[Verdict]:
    by_steps, by_workers = _by_steps(records), _by_workers(records)
    falls = slope([r["steps"] for r in by_steps], [r["smallest"] for r in by_steps])
    shared = slope([r["workers"] for r in by_workers], [r["smallest"] for r in by_workers])
    return [
        verdict(
            "The smallest E‖∇f‖² falls at least as T^−½",
            falls.value <= -0.5 + TOLERANCE,
            f"fitted exponent of T: {falls} (M = 4), from {by_steps[0]['smallest']:.2g} to "
            f"{by_steps[-1]['smallest']:.2g}",
        ),
        verdict(
            "It falls at least as M^−½: more workers help",
            shared.value <= -0.5 + TOLERANCE,
            f"fitted exponent of M: {shared} (T = {by_workers[0]['steps']}), from {by_workers[0]['smallest']:.2g} at "
            f"M = 1 to {by_workers[-1]['smallest']:.2g} at M = 16",
        ),
    ]


def _by_steps(records: Sequence[Record]) -> list[Record]:
    return where(records, workers=4)


def _by_workers(records: Sequence[Record]) -> list[Record]:
    mine = where(records, steps=where(records, workers=16)[0]["steps"])
    return sorted(mine, key=lambda r: int(r["workers"]))


def draw(records: Sequence[Record]) -> Figure:
    by_steps, by_workers = _by_steps(records), _by_workers(records)
    series = [
        Series("M = 4, T varies", [r["steps"] * 4 for r in by_steps], [r["smallest"] for r in by_steps]),
        Series("M varies", [r["workers"] * r["steps"] for r in by_workers], [r["smallest"] for r in by_workers]),
    ]
    x, y = series[0].x, series[0].y[0]
    series.append(Series("(MT)^−½", x, [y * (v / x[0]) ** -0.5 for v in x], guide=True))
    return plot(
        "DropSignSGD gains from steps and from workers",
        "smallest E‖∇f‖² along the run · log scale",
        series,
        x_label="M·T (log scale)",
        log_x=True,
        log_y=True,
    )


CLAIM = Claim(
    title="DropSignSGD's rate",
    source="Phong, Phuong, IEEE Access 2020, Theorem 1",
    method=f"Heterogeneous quadratics in {D} dimensions with sampling noise, μ = {MU}, c = {C:g} to fit the gradients' "
    "scale (a lasting |g|/(1 − μ), also of the worker farthest out, must stay below βc), η = √(M/T) times the "
    f"theorem's largest; the expectation is the mean of {REPLICAS} replicas. The paper's constants are not known here, "
    "so exponents are compared, one-sided.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
)
