"""Bernstein et al. 2018: signSGD is what Adam becomes where its averages forget at once."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import nn

from gradvote import algorithms
from gradvote.lab.experiments.arena import Exchange
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import draw_noise, quadratic
from gradvote.lab.experiments.statistics import Estimate, above, below, mean, slopes

D, DROP, SIGMA, LR, REPLICAS = 8, 4.0, 1.0, 0.01, 8
BETAS = (0.9, 0.5, 0.1, 0.01, 0.001, 0.0)
SMALL, SAME = BETAS[2:5], 1e-6


def cells(scale: Scale) -> list[Cell]:
    return [{"beta": beta, "steps": {"quick": 300, "paper": 3000}[scale]} for beta in BETAS]


def measure(cell: Cell, bench: Bench) -> Numbers:
    """For each replica, the mean over steps and coordinates of how far Adam's step is from signSGD's, in units of η.

    Both see the same gradients, along Adam's path; torch's Adam with β₁ = β₂ = β and ε = 10⁻¹², its bias corrected.
    """
    problem, start = quadratic(1, D, 0.0, DROP)
    x = nn.Parameter(start.expand(REPLICAS, -1).clone())
    adam = torch.optim.Adam([x], lr=LR, betas=(cell["beta"], cell["beta"]), eps=1e-12)
    vote = Exchange(algorithms.create("signsgd", zero="abstain"), 1, REPLICAS, D, seed=8)
    generator, apart = torch.Generator().manual_seed(19), torch.zeros(REPLICAS, dtype=torch.float64)
    for step in range(cell["steps"]):
        bench.tell(step, cell["steps"], "")
        before = x.detach().clone()
        x.grad = problem.gradient(before) + SIGMA * draw_noise("gaussian", (REPLICAS, D), generator)
        adam.step()
        sign = vote.step(x.grad[None], step, LR)
        apart += ((before - x.detach()) / LR - sign).abs().mean(1)
    return {"apart": [float(f"{v:.6g}") for v in apart / cell["steps"]]}


def judge(records: Sequence[Record]) -> list[Verdict]:
    apart = {r["beta"]: mean(r["apart"]) for r in records}
    steps = [
        above(f"from β = {a:g} to {b:g}", _less(where(records, beta=a)[0], where(records, beta=b)[0]), 0.0)
        for a, b in pairwise(BETAS)
    ]
    return [
        verdict(
            "signSGD is the limit of Adam as β → 0",
            [*steps, above("exponent of β", _exponent(records), 0.0), below("β = 0, apart", apart[0.0], SAME)],
            "mean distance of a step from signSGD's, in units of η: "
            + ", ".join(f"β = {b:g}: {e}" for b, e in apart.items())
            + f"; it falls as β to the power of {_exponent(records)} from {SMALL[0]:g} to {SMALL[-1]:g}",
            paper="→ 0",
        )
    ]


def _exponent(records: Sequence[Record]) -> Estimate:
    return slopes(SMALL, [where(records, beta=b)[0]["apart"] for b in SMALL])


def _less(record: Record, other: Record) -> Estimate:
    return mean([a - b for a, b in zip(record["apart"], other["apart"], strict=True)])


def unchanged(records: Sequence[Record]) -> list[Record]:
    """Adam with its usual β, whatever β is said."""
    (usual,) = where(records, beta=BETAS[0])
    return [replace(r, numbers=usual.numbers) for r in records]


def draw(records: Sequence[Record]) -> Figure:
    mine = [r for r in records if r["beta"] > 0]
    found = [mean(r["apart"]) for r in mine]
    y, low, high = ([getattr(e, k) for e in found] for k in ("value", "low", "high"))
    return plot(
        "Adam becomes signSGD",
        "mean distance of a step from signSGD's, in units of η · log scale",
        [Series("Adam", [r["beta"] for r in mine], y, low, high)],
        x_label="β₁ = β₂ (log scale)",
        log_x=True,
        log_y=True,
    )


CLAIM = Claim(
    title="signSGD as Adam with β → 0",
    source="Bernstein, Wang, Azizzadenesheli, Anandkumar, ICML 2018",
    method=f"torch's Adam with β₁ = β₂ = β on noisy gradients of a quadratic in {D} dimensions, {REPLICAS} replicas; "
    "at each step the library's signSGD is given the same gradients.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"β = 0.9 throughout": unchanged},
)
