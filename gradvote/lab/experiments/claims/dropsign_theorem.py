"""Phong and Phuong, Theorem 1: DropSignSGD's smallest expected ‖∇f‖² falls as 1/√(MT)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent, Exchange, Gradients, astray
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import draw_noise, quadratic
from gradvote.lab.experiments.statistics import Estimate, below, mean, slopes
from gradvote.theory import dropsign_lr

D, DROP, SPREAD, SIGMA, MU, C, REPLICAS, GROUPS = 8, 4.0, 0.03, 2.0, 0.5, 4.0, 32, 8
GROWN = 1.5
NULLS = ("no step", "random steps")
TOLERANCE = 0.05
LONG: dict[Scale, int] = {"quick": 1024, "paper": 8192}
"""T where M varies: the error memories' part of ‖∇f‖², of order M/T, must be small beside 1/√(MT)."""


def cells(scale: Scale) -> list[Cell]:
    steps = {"quick": (64, 128, 256, 512, 1024), "paper": (128, 512, 2048, 8192, 32768)}[scale]
    sizes = dict.fromkeys([*((t, 4) for t in steps), *((LONG[scale], m) for m in (1, 2, 4, 8, 16))])
    return [{"steps": t, "workers": m} for t, m in sizes]


def measure(cell: Cell, bench: Bench) -> Numbers:
    """The smallest mean of ‖∇f‖² in each group of replicas, along the run and along those of the null methods."""
    problem, start = quadratic(cell["workers"], D, SPREAD, DROP)
    generator = torch.Generator().manual_seed(17)

    def gradients(x: Tensor, step: int) -> Tensor:
        exact = problem.gradients(x)
        return exact + SIGMA * draw_noise("gaussian", tuple(exact.shape), generator)

    largest = dropsign_lr(c=C, mu=MU, smoothness=problem.smoothness) / C
    lr = largest * min(1.0, (cell["workers"] / cell["steps"]) ** 0.5)
    algorithm = algorithms.create("dropsignsgd", mu=MU, c=C, zero="abstain")

    memories: list[Tensor] = []

    def look(exchange: Exchange) -> None:
        memories.append(exchange.unsent().square().sum(-1).mean(0))

    def along(told: Gradients, watch: bool = False) -> list[Tensor]:
        seen = look if watch else lambda exchange: None
        descent = Descent(algorithm, told, start.expand(REPLICAS, -1), lr, 6, tell=bench.tell, unsent=seen)
        sizes = (problem.gradient(x).square().sum(1) for x in descent.iterates(cell["steps"]))
        return [size.view(GROUPS, -1).mean(1) for size in sizes]

    tested, lost = along(gradients, watch=True), along(astray(gradients))
    nulls = {NULLS[0]: _smallest(tested[:1]), NULLS[1]: _smallest(lost)}
    return {
        "lr": lr,
        "smallest": _smallest(tested),
        "first": float(tested[0].mean()),
        "nulls": nulls,
        **_halves(memories),
    }


def _halves(memories: Sequence[Tensor]) -> dict[str, list[float]]:
    """The largest mean ‖e_i‖² of the workers' memories in each group of replicas, in the second and the third quarter
    and after: what grows without a bound is larger at the end."""
    sizes = torch.stack([size.view(GROUPS, -1).mean(1) for size in memories])
    middle = len(sizes) // 2
    parts = {"memory_before": sizes[:middle].amax(0), "memory_after": sizes[middle:].amax(0)}
    return {name: [float(f"{v:.6g}") for v in part] for name, part in parts.items()}


def _smallest(means: Sequence[Tensor]) -> list[float]:
    return [float(f"{v:.6g}") for v in torch.stack(list(means)).amin(0)]


def judge(records: Sequence[Record]) -> list[Verdict]:
    by_steps, by_workers = _by_steps(records), _by_workers(records)
    falls, shared = _slope(by_steps, "steps"), _slope(by_workers, "workers")
    return [
        verdict(
            "The smallest E‖∇f‖² falls at least as T^−½",
            below("exponent of T", falls, -0.5 + TOLERANCE),
            f"exponent of T: {falls} (M = 4), from {_mean(by_steps[0]):.2g} to {_mean(by_steps[-1]):.2g}",
            paper="−0.5",
        ),
        verdict(
            "It falls at least as M^−½: more workers help",
            below("exponent of M", shared, -0.5 + TOLERANCE),
            f"exponent of M: {shared} (T = {by_workers[0]['steps']}), from {_mean(by_workers[0]):.2g} at M = 1 to "
            f"{_mean(by_workers[-1]):.2g} at M = 16",
            paper="−0.5",
        ),
        _bounded(records),
    ]


def _bounded(records: Sequence[Record]) -> Verdict:
    """The paper's Lemma 2 has a bound U, whose constant is not known here: the memories do not grow with the steps."""
    grown = {
        (r["steps"], r["workers"]): mean([a / b for a, b in zip(r["memory_after"], r["memory_before"], strict=True)])
        for r in records
    }
    largest = max(max(r["memory_after"] + r["memory_before"]) for r in records)
    return verdict(
        "Lemma 2: the memories stay bounded",
        [below(f"T = {t}, M = {m}, second half over first", e, GROWN) for (t, m), e in grown.items()],
        f"largest mean ‖e‖² of a worker's memory (U): {largest:.3g}, {largest / (D * C**2):.2g}·dc²",
        paper="≤ U",
    )


def _slope(records: Sequence[Record], key: str) -> Estimate:
    return slopes([r[key] for r in records], [r["smallest"] for r in records])


def _mean(record: Record) -> float:
    return mean(record["smallest"]).value


def growing(records: Sequence[Record]) -> list[Record]:
    """Memories that grow evenly with the steps, as where c is too small for the gradients."""
    return [replace(r, numbers={**r.numbers, "memory_after": [4 * v for v in r["memory_before"]]}) for r in records]


def in_place(name: str, records: Sequence[Record]) -> list[Record]:
    """The null method's measurements in place of the tested one's."""
    return [replace(r, numbers={**r.numbers, "smallest": r["nulls"][name]}) for r in records]


def _by_steps(records: Sequence[Record]) -> list[Record]:
    return where(records, workers=4)


def _by_workers(records: Sequence[Record]) -> list[Record]:
    mine = where(records, steps=where(records, workers=16)[0]["steps"])
    return sorted(mine, key=lambda r: int(r["workers"]))


def draw(records: Sequence[Record]) -> Figure:
    by_steps, by_workers = _by_steps(records), _by_workers(records)
    series = [
        Series("M = 4, T varies", [r["steps"] * 4 for r in by_steps], [_mean(r) for r in by_steps]),
        Series("M varies", [r["workers"] * r["steps"] for r in by_workers], [_mean(r) for r in by_workers]),
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
    method=f"Heterogeneous quadratics in {D} dimensions with sampling noise, μ = {MU}, c = {C:g} to fit the "
    "gradients' scale (a lasting |g|/(1 − μ), also of the worker farthest out, must stay below βc), η = √(M/T) "
    f"times the theorem's largest; the expectation is the mean of {REPLICAS // GROUPS} replicas, in each of {GROUPS} "
    "groups. The paper's constants are not known here, so exponents are compared, one-sided. The null methods do "
    "not step, or step as far in random directions.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={**{name: partial(in_place, name) for name in NULLS}, "memories that grow": growing},
)
