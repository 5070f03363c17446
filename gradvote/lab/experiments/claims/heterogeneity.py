"""Beyond the papers: accuracy against how different the workers' data are, and against b."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import (
    SCALES,
    Bench,
    Cell,
    Claim,
    Numbers,
    Outcome,
    Record,
    Scale,
    Tuning,
    Verdict,
    values,
    verdict,
    where,
)
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import above, below
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import final, finals, gain, preferred, standing, train, with_seeds

ALPHAS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.01, 0.1, 1.0, 100.0),
    "medium": (0.01, 0.1, 1.0, 100.0),
    "paper": (0.01, 0.1, 1.0, 10.0, 100.0),
}
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.0, 0.01, 0.1),
    "medium": (0.0, 1e-3, 1e-2, 0.1),
    "paper": (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
MEAN = "mean"


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "samples": 60, "steps": 120, "eval_every": 120},
        "medium": {"data": "mnist", "together": True, "steps": 1000, "eval_every": 250, "batch_size": 128},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 400, "batch_size": 256},
    }[scale]
    shared |= {"workers": 5, "partition": "dirichlet", "schedule": "cosine"}
    rules: list[Cell] = [{"rule": MEAN, "b": 0.0, "algorithm": "sgd", "choices": _rates(0.2, 0.5)}]
    rules += [
        {
            "rule": "vote",
            "b": b,
            "algorithm": "noisy-signsgd",
            "options": {"noise_std": b},
            "choices": _rates(3e-3, 1e-2),
        }
        for b in STDS[scale]
    ]
    rows = [
        {**rule, "alpha": a, "partition_options": {"alpha": a}, "compared": True, **shared}
        for a in ALPHAS[scale]
        for rule in rules
    ]
    return with_seeds(rows, {"quick": 4, "medium": 5, "paper": 5}[scale])


def _rates(*rates: float) -> list[Cell]:
    return [{"lr": lr} for lr in rates]


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    vote, alphas = where(records, rule="vote"), values(records, "alpha")
    stds = values(vote, "b")
    skewed, even = (where(vote, alpha=a) for a in (min(alphas), max(alphas)))
    best = preferred([r for r in skewed if r["b"] > 0], "b")
    chosen = {a: preferred(where(vote, alpha=a), "b")[0]["b"] for a in alphas}
    return [
        verdict(
            "Without noise the vote loses accuracy as the workers' data become different",
            above(
                f"lost from α = {max(alphas):g} to {min(alphas):g}",
                gain(where(even, b=0.0), where(skewed, b=0.0)),
                0.05,
            ),
            f"test accuracy without noise: {_along(vote, 0.0)}; of the mean: {_along(where(records, rule=MEAN), 0.0)}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On the most different data noise wins some of it back",
            above(f"gain of b = {best[0]['b']:g}", gain(best, where(skewed, b=0.0)), 0.05),
            f"at α = {min(alphas):g}: {_table(skewed)}; without noise at α = {max(alphas):g}: "
            f"{finals(where(even, b=0.0))}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On equal data noise is not needed, and too much of it harms",
            [
                *(below(f"gain of b = {b:g}", gain(where(even, b=b), where(even, b=0.0)), 0.02) for b in stds if b),
                below(f"gain of b = {stds[-1]:g}", gain(where(even, b=stds[-1]), where(even, b=0.0)), 0.0),
            ],
            f"at α = {max(alphas):g}: {_table(even)}. Best b by α, on validation data: "
            + ", ".join(f"{a:g}: {b:g}" for a, b in chosen.items()),
            at_best=Outcome.IN_KIND,
        ),
    ]


def _along(records: Sequence[Record], b: float) -> str:
    return ", ".join(f"α = {a:g}: {finals(where(records, alpha=a, b=b))}" for a in values(records, "alpha"))


def _table(records: Sequence[Record]) -> str:
    return ", ".join(f"b = {b:g}: {finals(where(records, b=b))}" for b in values(records, "b"))


def draw(records: Sequence[Record]) -> Figure:
    series = []
    rules = dict.fromkeys((r["rule"], r["b"]) for r in records)
    for rule, b in rules:
        alphas = values(records, "alpha")
        reached = [finals(where(records, rule=rule, b=b, alpha=a)).value for a in alphas]
        series.append(Series(rule if rule == MEAN else f"vote, b = {b:g}", alphas, reached))
    return plot(
        "Noise matters where data differ",
        f"final test accuracy on {records[0]['data']}, mean over seeds",
        series,
        x_label="Dirichlet α: small is different, large is equal (log scale)",
        log_x=True,
        y_limits=(0, 1),
    )


CLAIM = Claim(
    title="Accuracy against heterogeneity and against b",
    source="Beyond the papers; the open question is Chen, Chen, Sun, Wu, Hong, NeurIPS 2020",
    method="Five workers whose shares of each class are drawn from Dirichlet(α), signSGD by vote with b from 0 up "
    "beside the mean, half-cosine rate, rates and the best b chosen on the validation split. Quick scale: 600 "
    "digits, full batch, 120 steps; medium scale: MNIST, batches of 128, 1000 steps; paper scale: MNIST, batches of "
    "256, 4000 steps, nine values of b.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final),
    scales=SCALES,
    pace=0.025,
)
