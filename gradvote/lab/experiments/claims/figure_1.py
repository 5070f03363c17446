"""Chen et al., Figure 1 and Theorem 3: the vote and the median stop where the true gradient is 7/3.

f(x) = (1/3) Σ (x − a_i)²/2, a = (1, 2, 10), δ = 0.001, x_0 = 0.0005.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.lab.experiments.arena import Descent
from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import above, below, exact

CENTRES = torch.tensor([1.0, 2.0, 10.0], dtype=torch.float64)
LR, START = 0.001, 0.0005
MEAN = 13 / 3


def cells(scale: Scale) -> list[Cell]:
    steps = {"quick": 6000, "paper": 20000}[scale]
    return [{"algorithm": name, "steps": steps} for name in ("signsgd", "mediansgd", "sgd")]


def gradients(x: Tensor, step: int) -> Tensor:
    return x - CENTRES[:, None, None]


def measure(cell: Cell, bench: Bench) -> Numbers:
    start = torch.full((1, 1), START, dtype=torch.float64)
    options = {"zero": "abstain"} if cell["algorithm"] == "signsgd" else {}
    descent = Descent(algorithms.create(cell["algorithm"], **options), gradients, start, LR, tell=bench.tell)
    x = [float(v) for v in descent.iterates(cell["steps"])]
    kept = range(0, len(x), max(1, len(x) // 200))
    exact = {"signsgd": _exact_sign, "mediansgd": _exact_median, "sgd": _exact_mean}[cell["algorithm"]]
    return {
        "step": list(kept),
        "x": [x[k] for k in kept],
        "last": x[-2:],
        "error": max(abs(v - exact(k)) for k, v in enumerate(x)),
    }


def _exact_sign(step: int) -> float:
    """Up by δ a step until iterate 1999 at 1.9995, then 2.0005 and 1.9995 in turn."""
    return START + LR * step if step < 2000 else (2.0005 if step % 2 == 0 else 1.9995)


def _exact_median(step: int) -> float:
    return 2 - (2 - START) * (1 - LR) ** step


def _exact_mean(step: int) -> float:
    return MEAN - (MEAN - START) * (1 - LR) ** step


def judge(records: Sequence[Record]) -> list[Verdict]:
    sign, median, mean = (where(records, algorithm=a)[0] for a in ("signsgd", "mediansgd", "sgd"))
    gaps = sorted(abs(x - MEAN) for x in sign["last"])
    left = abs(median["last"][-1] - 2)
    limits = f"|∇f| = {gaps[0]:.4f} and {gaps[1]:.4f} at its two limit points, against a gap of 7/3 = {7 / 3:.4f}"
    return [
        verdict(
            "signSGD alternates between 1.9995 and 2.0005 from iteration 1999 on",
            [below("off by", exact(sign["error"]), 1e-9), above("steps", exact(sign["steps"]), 2000)],
            f"largest distance of an iterate from the exact one: {sign['error']:.1e} in {sign['steps']} steps",
            paper="1.9995, 2.0005",
        ),
        verdict(
            "medianSGD's median gradient is 1.9995·0.999^t, and |∇f| tends to 7/3",
            [
                below("off by", exact(median["error"]), 1e-5),
                below("|∇f| from 7/3", exact(abs(abs(median["last"][-1] - MEAN) - 7 / 3)), left + 1e-5),
            ],
            f"largest distance from the formula {median['error']:.1e} (gradients travel in float32); "
            f"|median gradient| {left:.1e} at the end",
            paper="1.9995·0.999^t",
        ),
        verdict(
            "Theorem 3: both stop where |∇f| exceeds both the gap between median and mean, and 1",
            above("|∇f|", exact(gaps[0]), 1.0),
            f"signSGD: {limits}. The lower one is less than the gap by δ/2: on this instance, which the paper only "
            "says to be like the theorem's, the inequality holds up to the step",
            at_best=Outcome.IN_KIND,
            paper="> 1",
        ),
        verdict(
            "The mean of full gradients has no such barrier",
            below("off by", exact(mean["error"]), 1e-5),
            f"SGD follows 13/3·(1 − 0.999^t) to {mean['error']:.1e}",
        ),
    ]


def standing(records: Sequence[Record]) -> list[Record]:
    """Nobody leaves the start."""
    still = {"last": [START, START], "error": MEAN - START}
    return [replace(r, numbers={**r.numbers, **still, "x": [START] * len(r["x"])}) for r in records]


def averaged(records: Sequence[Record]) -> list[Record]:
    """SGD's iterates under the names of the vote and the median."""
    (sgd,) = where(records, algorithm="sgd")
    return [replace(r, numbers=sgd.numbers) for r in records]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for name in ("signsgd", "mediansgd", "sgd"):
        r = where(records, algorithm=name)[0]
        series.append(Series(f"{name}: mean gradient", r["step"], [abs(x - MEAN) for x in r["x"]]))
        if name != "sgd":
            series.append(Series(f"{name}: median gr.", r["step"], [abs(x - 2) for x in r["x"]], guide=True))
    return plot(
        "Median gradient to zero, mean gradient to 7/3",
        "absolute value of the gradients along the iterates · log scale",
        series,
        x_label="iteration",
        log_y=True,
        y_limits=(2e-4, 8),
    )


CLAIM = Claim(
    title="Figure 1 and Theorem 3: where votes and medians stop",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Figure 1, Theorem 3",
    method="The library's signSGD, medianSGD and SGD in the simulation engine, three workers, every iterate compared "
    'with its closed form. The papers\' sign(0) = 0 here and in all claims on formulas (zero="abstain").',
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"no step": standing, "the mean in their place": averaged},
)
