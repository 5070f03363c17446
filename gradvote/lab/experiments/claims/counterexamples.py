"""Karimireddy et al., Counter-examples 1 to 3: signSGD fails, error feedback mends it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import Estimate, above, below, exact, mean

EPSILON = 0.5
UNSOLVED, SOLVED = 0.2, 0.1
METHODS: dict[str, float] = {"signsgd": 1.0, "ef-signsgd": 1.0, "dist-ef-sgdm": 0.1}
"""Each with the rate that makes its steps comparable: momentum 0.9 multiplies a step by ten."""


@dataclass(frozen=True)
class Problem:
    """f (R,) and a stochastic gradient (1, R, p) at x (R, p); the start, the rate, and the solution's value."""

    f: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, torch.Generator], Tensor]
    start: Tensor
    lr: float
    limit: float | None = None


def _drift_gradient(x: Tensor, generator: torch.Generator) -> Tensor:
    rare = torch.rand(x.shape, generator=generator) < 0.25
    return torch.where(rare, 4.0, -1.0)[None]


def _kinked(x: Tensor) -> Tensor:
    return EPSILON * (x[:, 0] + x[:, 1]).abs() + (x[:, 0] - x[:, 1]).abs()


def _kinked_gradient(x: Tensor, generator: torch.Generator) -> Tensor:
    along, across = (x[:, 0] + x[:, 1]).sign(), (x[:, 0] - x[:, 1]).sign()
    return torch.stack((EPSILON * along + across, EPSILON * along - across), 1)[None]


ROWS = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64) + EPSILON


def _squares(x: Tensor) -> Tensor:
    return (x @ ROWS.T).square().sum(1)


def _squares_gradient(x: Tensor, generator: torch.Generator) -> Tensor:
    """Twice the gradient of one of the two terms, drawn at random: unbiased."""
    row = ROWS[torch.randint(2, (len(x),), generator=generator)]
    return (4 * (row * x).sum(1, keepdim=True) * row)[None]


PROBLEMS: dict[str, Problem] = {
    "1: drift": Problem(lambda x: x[:, 0] / 4 + 0.25, _drift_gradient, torch.tensor([0.0]), 0.002, limit=1.0),
    "2: kinks": Problem(_kinked, _kinked_gradient, torch.tensor([1.0, 0.7]), 0.002),
    "3: least squares": Problem(_squares, _squares_gradient, torch.tensor([1.0, 0.7]), 0.003),
}


def cells(scale: Scale) -> list[Cell]:
    steps, seeds = {"quick": (3000, 20), "paper": (40000, 100)}[scale]
    return [{"problem": p, "algorithm": a, "steps": steps, "seeds": seeds} for p in PROBLEMS for a in METHODS]


def measure(cell: Cell, bench: Bench) -> Numbers:
    problem, steps, seeds = PROBLEMS[cell["problem"]], cell["steps"], cell["seeds"]
    generator = torch.Generator().manual_seed(7)
    lr = problem.lr * METHODS[cell["algorithm"]]

    def project(x: Tensor) -> Tensor:
        return x if problem.limit is None else x.clamp(-problem.limit, problem.limit)

    start = problem.start.double().expand(seeds, -1)
    descent = Descent(
        algorithms.create(cell["algorithm"], zero="abstain"),
        lambda x, _: problem.gradient(x, generator),
        start,
        lr,
        seed=5,
        project=project,
        tell=bench.tell,
    )
    curve, every, tail = [], max(1, steps // 100), torch.zeros(seeds, dtype=torch.float64)
    for step, x in enumerate(descent.iterates(steps)):
        value = problem.f(x)
        if step % every == 0:
            curve.append(mean(value.tolist()).value)
        tail += value * (step > steps * 9 // 10)
    final = tail / (steps - steps * 9 // 10)
    moved = float((x.sum(1) - start.sum(1)).abs().max())
    return {"every": every, "curve": curve, "final": final.tolist(), "moved": moved}


def judge(records: Sequence[Record]) -> list[Verdict]:
    verdicts = []
    for name, problem in PROBLEMS.items():
        start = float(problem.f(problem.start.double()[None]))
        sign = where(records, problem=name, algorithm="signsgd")[0]
        others = [r for r in where(records, problem=name) if r["algorithm"] != "signsgd"]
        detail = f", x₁ + x₂ moved by {sign['moved']:.1e}" if name == "2: kinks" else ""
        verdicts += [
            verdict(
                f"Counter-example {name}: signSGD does not solve it",
                above("f − f* over the start's", _share(sign, start), UNSOLVED),
                f"f − f* from {start:.3g} to {mean(sign['final'])}, least {min(sign['final']):.3g}{detail}",
                paper="> 0",
            ),
            verdict(
                f"Counter-example {name}: error feedback solves it",
                [below(f"{r['algorithm']}, f − f* over the start's", _share(r, start), SOLVED) for r in others],
                "mean and worst of all runs: "
                + ", ".join(f"{r['algorithm']} {mean(r['final'])}, {max(r['final']):.2g}" for r in others),
                paper="→ 0",
            ),
        ]
    return verdicts


def _share(record: Record, start: float) -> Estimate:
    ends = [v / start for v in record["final"]]
    return exact(ends[0]) if len(set(ends)) == 1 else mean(ends)


def standing(records: Sequence[Record]) -> list[Record]:
    """Nobody moves from the start."""
    starts = {name: float(p.f(p.start.double()[None])) for name, p in PROBLEMS.items()}
    return [
        replace(r, numbers={**r.numbers, "final": [starts[r["problem"]]] * r["seeds"], "moved": 0.0}) for r in records
    ]


def cured(records: Sequence[Record]) -> list[Record]:
    """Error feedback under the name of signSGD, and the other way round."""
    swap = {"signsgd": "ef-signsgd", "ef-signsgd": "signsgd"}
    return [replace(r, cell={**r.cell, "algorithm": swap.get(r["algorithm"], r["algorithm"])}) for r in records]


def draw(records: Sequence[Record]) -> Figure:
    mine = where(records, problem="3: least squares")
    series = [
        Series(r["algorithm"], [i * r["every"] for i in range(len(r["curve"]))], [max(v, 1e-12) for v in r["curve"]])
        for r in mine
    ]
    return plot(
        "Error feedback solves what signs alone cannot",
        "counter-example 3: f − f*, mean over seeds · log scale",
        series,
        x_label="step",
        log_y=True,
    )


CLAIM = Claim(
    title="Three problems on which signSGD fails",
    source="Karimireddy, Rebjock, Stich, Jaggi, ICML 2019, Counter-examples 1 to 3",
    method=f"One worker, ε = {EPSILON}, from (1, 0.7), or from 0 on [−1, 1]; the mean of f − f* over the last tenth of "
    "the steps for every seed. dist-EF-SGDM is beyond the paper.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"no step": standing, "roles reversed": cured},
)
