"""Beyond the papers: two ways out of the median's bias, bucketing and noise, on the same exclusive classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from gradvote.core import Algorithm
from gradvote.lab.experiments.bucketing import Bucketing
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
    verdict,
    where,
)
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import above
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, final, finals, gain, preferred, standing, train, with_seeds

METHODS: dict[str, dict[str, Any]] = {
    "mean": {"algorithm": "sgd"},
    "median": {"algorithm": "mediansgd"},
    "median, groups of 2": {"algorithm": "mediansgd", "group": 2},
    "median, b = 0.03": {"algorithm": "noisy-mediansgd", "options": {"noise_std": 0.03}, "compared": True},
    "median, b = 0.1": {"algorithm": "noisy-mediansgd", "options": {"noise_std": 0.1}, "compared": True},
}
MARGIN = 0.05


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "workers": 10, "steps": 100, "batch_size": 32, "eval_every": 25},
        "medium": {"data": "mnist", "workers": 20, "steps": 1500, "batch_size": 32, "eval_every": 150},
        "paper": {"data": "mnist", "workers": 20, "steps": 4000, "batch_size": 32, "eval_every": 100},
    }[scale]
    shared |= {"together": True, "partition_options": {"redundancy": shared["workers"] // 10}}
    rates = {"quick": (0.1, 0.3), "medium": (0.03, 0.1, 0.3), "paper": (0.03, 0.1, 0.3)}[scale]
    choices = [{"lr": lr} for lr in rates]
    rows = [{"method": m, **own, "choices": choices, **shared} for m, own in METHODS.items()]
    return with_seeds(rows, 5)


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench, _change(cell))


def measure_together(cells: Sequence[Cell], bench: Bench) -> list[Numbers]:
    return train_together(cells, bench, _change(cells[0]))


def _change(cell: Cell) -> Callable[[Algorithm], Algorithm] | None:
    if "group" not in cell:
        return None
    return lambda algorithm: replace(algorithm, aggregate=Bucketing(algorithm.aggregate, cell["group"]))


def judge(records: Sequence[Record]) -> list[Verdict]:
    runs = {m: where(records, method=m) for m in METHODS}
    said = "; ".join(f"{m}: {finals(own)}" for m, own in runs.items())
    noisy = preferred([r for m in METHODS if "b =" in m for r in runs[m]], "method")
    name = noisy[0]["method"]
    return [
        verdict(
            "Without liars, groups of two bring the median closer to the mean",
            above("gain of groups", gain(runs["median, groups of 2"], runs["median"]), MARGIN),
            f"test accuracy: {said}",
            at_best=Outcome.IN_KIND,
            paper="80.36 → 95.59, mean 98.75",
        ),
        verdict(
            "Noise does so too, without anybody averaging the ballots",
            above("gain of noise", gain(noisy, runs["median"]), MARGIN),
            f"{name}: {finals(noisy)} against {finals(runs['median'])}; groups of two "
            f"{finals(runs['median, groups of 2'])}",
            at_best=Outcome.IN_KIND,
        ),
    ]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for method in METHODS:
        steps, centre, low, high = band(where(records, method=method), "test_accuracy")
        series.append(Series(method, steps, centre, low, high))
    return plot(
        "Bucketing and noise against the median's bias",
        f"test accuracy on {records[0]['data']}, one class for each worker; band over seeds",
        series,
        x_label="step",
        y_limits=(0, 1),
    )


CLAIM = Claim(
    title="Medians with bucketing against noisy medians",
    source="Karimireddy, He, Jaggi, ICLR 2022 (bucketing), against Chen et al., NeurIPS 2020 (noise)",
    method="Each worker has one class (of MNIST shared with one other; the publication has 24 workers), batches of "
    "32. Rates and b chosen on the validation split. A server that averages groups must see full gradients; noise "
    "leaves the ballots as they are. Quick scale: digits, ten workers, 100 steps; medium scale: MNIST, 20 workers, "
    "1500 steps; paper scale: 4000 steps.",
    cells=cells,
    measure=measure,
    measure_together=measure_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final),
    scales=SCALES,
    pace=0.025,
)
