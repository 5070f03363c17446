"""Bernstein et al.: the bound for one worker, and the bound for a vote with adversaries."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.faults import Faulty, create
from gradvote.lab.experiments.arena import Descent, astray
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.problems import Quadratic, draw_noise, quadratic
from gradvote.lab.experiments.statistics import Estimate, above, below, exact, mean, slopes
from gradvote.theory import adversary_bound, mixed_norm, one_worker_bound, one_worker_prescription

D, DROP, REPLICAS, WORKERS = 16, 4.0, 16, 15
NULLS, TOLERANCE = ("no step", "random steps"), 0.05
NOISES = ("gaussian", "laplace", "uniform", "rare")
STD = torch.linspace(0.5, 3.0, D, dtype=torch.float64)
LIARS = (0, 2, 4, 6, 7)


def cells(scale: Scale) -> list[Cell]:
    lengths = {"quick": (64, 256, 1024), "paper": (64, 256, 1024, 4096, 16384)}[scale]
    long = {"quick": 256, "paper": 4096}[scale]
    one = [{"bound": "one worker", "noise": n, "liars": 0, "steps": k} for n in NOISES for k in lengths]
    vote = [{"bound": "vote", "noise": "gaussian", "steps": long}]
    lies = [{**v, "fault": f, "liars": a} for v in vote for f in ("invert", "blind") for a in LIARS]
    return one + lies + [{**lies[2], "steps": k} for k in lengths if k != long]


def measure(cell: Cell, bench: Bench) -> Numbers:
    """The left side of the bound for each replica, the bound, and the left sides of the null methods.

    One worker sees one sample a step. Voters see batches of K samples, K the number of steps: noise σ/√K.
    """
    problem, start = quadratic(1, D, 0.0, DROP)
    known = {"steps": cell["steps"], "smoothness_l1": problem.smoothness_l1, "drop": DROP}
    lr, one = one_worker_prescription(**known).lr, cell["bound"] == "one worker"
    workers, std = (1, STD) if one else (WORKERS, STD / cell["steps"] ** 0.5)

    def along(lost: bool, steps: int = cell["steps"]) -> list[float]:
        size = _norms({**cell, "steps": steps}, workers, std, problem, start, lr, lost, bench)
        return [float(f"{v:.6g}") for v in (size if one else size.square())]

    right = (
        one_worker_bound(**known)
        if one
        else adversary_bound(workers=WORKERS, share=cell["liars"] / WORKERS, noise_l1=float(STD.sum()), **known)
    )
    return {"left": along(False), "right": right, "nulls": {NULLS[0]: along(False, 1), NULLS[1]: along(True)}}


def _norms(
    cell: Cell, workers: int, std: Tensor, problem: Quadratic, start: Tensor, lr: float, lost: bool, bench: Bench
) -> Tensor:
    """The mean over the steps of the mixed norm (one worker) or ‖∇f‖₁ (vote), for each replica."""
    generator = torch.Generator().manual_seed(13)

    def gradients(x: Tensor, step: int) -> Tensor:
        exact = problem.gradient(x).expand(workers, -1, -1)
        return exact + std * draw_noise(cell["noise"], tuple(exact.shape), generator)

    lying = (Faulty(create(cell["fault"]), workers=tuple(range(cell["liars"]))),) if cell["liars"] else ()
    algorithm, told = algorithms.create("signsgd", zero="abstain"), astray(gradients) if lost else gradients
    descent = Descent(
        algorithm, told, start.expand(REPLICAS, -1), lr, seed=4, faults=() if lost else lying, tell=bench.tell
    )
    total = torch.zeros(REPLICAS, dtype=torch.float64)
    for x in descent.iterates(cell["steps"] - 1):
        g = problem.gradient(x)
        total = total + (mixed_norm(g, std) if cell["bound"] == "one worker" else g.abs().sum(1))
    return total.div(cell["steps"])


def judge(records: Sequence[Record]) -> list[Verdict]:
    one, vote = where(records, bound="one worker"), where(records, bound="vote")
    fair = [r for r in one if r["noise"] != "rare"]
    rare = max(where(one, noise="rare"), key=lambda r: r["steps"])
    by_steps = where(fair, noise="gaussian")
    rate = slopes([r["steps"] for r in by_steps], [r["left"] for r in by_steps])
    return [
        _below(fair, "One worker: signSGD stays below 3√(‖L‖₁(f₀ − f*)/K) under symmetric unimodal noise"),
        verdict(
            "One worker: the left side falls at least as K^−½",
            below("exponent of K", rate, -0.5 + TOLERANCE),
            f"exponent of K under Gaussian noise, from {by_steps[0]['steps']} to {by_steps[-1]['steps']}: {rate}",
            paper="−0.5",
        ),
        verdict(
            "One worker: the noise must be symmetric and unimodal",
            above("over bound", ratio(rare), 1.0),
            f"with noise of 3 at probability 0.1, else −1/3, the bound {rare['right']:.3g} is broken at K = "
            f"{rare['steps']}: {mean(rare['left'])}",
            paper="> 1",
        ),
        _below(vote, f"A vote of {WORKERS} with up to {max(LIARS)} adversaries stays below its bound"),
    ]


def ratio(record: Record) -> Estimate:
    """The left side over the right one."""
    each = [v / record["right"] for v in record["left"]]
    return exact(each[0]) if len(set(each)) == 1 else mean(each)


def _below(records: Sequence[Record], statement: str) -> Verdict:
    ratios = [ratio(r) for r in records]
    passed = {name: sum(ratio(r).high < 1 for r in in_place(name, records)) for name in NULLS}
    told = ", ".join(f"{name} in {count}" for name, count in passed.items())
    return verdict(
        statement,
        [below(_named(r), e, 1.0) for r, e in zip(records, ratios, strict=True)],
        f"left side over bound: {min(e.low for e in ratios):.2g} to {max(e.high for e in ratios):.2g} in {len(ratios)} "
        f"settings; so loose that a null stays below as well: {told}",
        paper="≤ 1",
    )


def _named(record: Record) -> str:
    liars = f", {record['liars']} of {WORKERS} liars" if record["bound"] == "vote" else f", {record['noise']}"
    return f"K = {record['steps']}{liars}"


def in_place(name: str, records: Sequence[Record]) -> list[Record]:
    """The null method's measurements in place of the tested one's."""
    return [replace(r, numbers={**r.numbers, "left": r["nulls"][name]}) for r in records]


def symmetric(records: Sequence[Record]) -> list[Record]:
    """Gaussian noise in the place of the one that is not symmetric: nothing breaks the bound."""
    kept = [r for r in records if r.cell.get("noise") != "rare"]
    return kept + [
        replace(r, cell={**r.cell, "noise": "rare"}) for r in where(kept, bound="one worker", noise="gaussian")
    ]


def draw(records: Sequence[Record]) -> Figure:
    vote = where(records, bound="vote")
    long = vote[0]["steps"]
    series = []
    for fault in ("invert", "blind"):
        mine = where(vote, fault=fault, steps=long)
        share = [r["liars"] / WORKERS for r in mine]
        series.append(Series(f"measured, {fault}", share, [mean(r["left"]).value for r in mine]))
    series.append(Series("bound", share, [r["right"] for r in mine], guide=True))
    return plot(
        "A vote with adversaries stays below its bound",
        f"(mean ‖∇f‖₁)² of {WORKERS} workers, K = {long} steps · log scale",
        series,
        x_label="share of adversaries α",
        log_y=True,
    )


CLAIM = Claim(
    title="One worker, and votes with adversaries: the bounds",
    source="Bernstein, Zhao, Azizzadenesheli, Anandkumar, ICLR 2019, Theorems 1 and 2",
    method=f"A quadratic in {D} dimensions with every constant known, gradients with noise of σ_j from 0.5 to 3, the "
    "prescribed rate; blind multiplicative adversaries that invert or rescale at random. 16 replicas, each with an "
    "exponent of its own. The null methods do not step, or step as far in random directions.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={**{name: partial(in_place, name) for name in NULLS}, "symmetric noise": symmetric},
)
