"""Beyond the papers: accuracy against how different the workers' data are, and against b."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import Estimate
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import best, finals, train, with_seeds

ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.0, 0.01, 0.1),
    "paper": (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
MEAN = "mean"


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "samples": 60, "steps": 120, "eval_every": 120},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 400, "batch_size": 256},
    }[scale]
    shared |= {"workers": 5, "partition": "dirichlet", "schedule": "cosine"}
    rules: list[dict[str, Any]] = [{"rule": MEAN, "b": 0.0, "algorithm": "sgd", "lr": 0.5}]
    rules += [
        {"rule": "vote", "b": b, "algorithm": "noisy-signsgd", "options": {"noise_std": b}, "lr": 1e-2}
        for b in STDS[scale]
    ]
    rows = [{**rule, "alpha": a, "partition_options": {"alpha": a}, **shared} for a in ALPHAS for rule in rules]
    return with_seeds(rows, {"quick": 3, "paper": 5}[scale])


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    vote = where(records, rule="vote")
    stds = sorted({r["b"] for r in vote})
    skewed, even = ({b: finals(where(vote, alpha=a, b=b)) for b in stds} for a in (min(ALPHAS), max(ALPHAS)))
    chosen = {a: best(where(vote, alpha=a), "b")[0]["b"] for a in ALPHAS}
    return [
        verdict(
            "Without noise the vote loses accuracy as the workers' data become different",
            even[0.0].value > skewed[0.0].value + 0.1,
            f"test accuracy without noise: {_along(vote, 0.0)}; of the mean: {_along(where(records, rule=MEAN), 0.0)}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On the most different data noise wins some of it back",
            max(e.value for e in skewed.values()) > skewed[0.0].value + 0.05,
            f"at α = {min(ALPHAS):g}: {_table(skewed)}; without noise at α = {max(ALPHAS):g}: {even[0.0]}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On equal data noise is not needed, and too much of it harms",
            even[0.0].value >= max(e.value for e in even.values()) - 0.02 and even[stds[-1]].value < even[0.0].value,
            f"at α = {max(ALPHAS):g}: {_table(even)}. Best b by α: "
            + ", ".join(f"{a:g}: {b:g}" for a, b in chosen.items()),
            at_best=Outcome.IN_KIND,
        ),
    ]


def _along(records: Sequence[Record], b: float) -> str:
    return ", ".join(f"α = {a:g}: {finals(where(records, alpha=a, b=b))}" for a in ALPHAS)


def _table(reached: dict[float, Estimate]) -> str:
    return ", ".join(f"b = {b:g}: {e}" for b, e in reached.items())


def draw(records: Sequence[Record]) -> Figure:
    series = []
    rules = dict.fromkeys((r["rule"], r["b"]) for r in records)
    for rule, b in rules:
        reached = [finals(where(records, rule=rule, b=b, alpha=a)).value for a in ALPHAS]
        series.append(Series(rule if rule == MEAN else f"vote, b = {b:g}", ALPHAS, reached))
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
    method="Five workers whose shares of each class are drawn from Dirichlet(α), signSGD by vote with b from 0 up (η = "
    "0.01) beside the mean (η = 0.5), half-cosine rate. Quick scale: 600 digits, full batch, 120 steps; paper "
    "scale: MNIST, batches of 256, 4000 steps, nine values of b.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
