"""Beyond the papers: what accuracy each algorithm buys with its bits, PowerSGD included."""

import math
from collections.abc import Mapping, Sequence
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
    verdict,
    where,
)
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.powersgd import PowerRun
from gradvote.lab.experiments.statistics import Check, Estimate, above, below, exact, mean
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, final, finals, learned, standing, train, with_seeds

SIGNS, VALUES = (1e-3, 3e-3, 1e-2), (0.03, 0.1, 0.3)
METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"algorithm": "sgd", "rates": (0.1, 0.3, 1.0)},
    "powersgd": {"algorithm": "sgd", "rank": 1, "rates": VALUES},
    "mediansgd": {"algorithm": "mediansgd", "rates": (0.1, 0.3, 1.0)},
    "noisy-mediansgd": {"algorithm": "noisy-mediansgd", "options": {"noise_std": 0.1}, "rates": (0.1, 0.3, 1.0)},
    "signsgd": {"algorithm": "signsgd", "rates": SIGNS},
    "noisy-signsgd": {"algorithm": "noisy-signsgd", "options": {"noise_std": 0.02}, "rates": SIGNS},
    "signum": {"algorithm": "signum", "rates": SIGNS},
    "lion": {"algorithm": "lion", "rates": SIGNS},
    "ef-signsgd": {"algorithm": "ef-signsgd", "rates": (0.1, 0.3, 1.0)},
    "dist-ef-sgdm": {"algorithm": "dist-ef-sgdm", "rates": VALUES},
    "flexcompress": {"algorithm": "flexcompress", "rates": VALUES},
    "dropsignsgd": {"algorithm": "dropsignsgd", "options": {"c": 1.0}, "rates": (0.01, 0.03, 0.1)},
}
MEMORY = ("dist-ef-sgdm", "flexcompress", "dropsignsgd", "noisy-signsgd")
SHARE, SAVING = 0.9, 10
SHOWN = ("sgd", "powersgd", "noisy-mediansgd", "signsgd", "noisy-signsgd", "dist-ef-sgdm", "dropsignsgd")
"""Those of the picture; the others' numbers are in the verdict."""


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "steps": 200, "eval_every": 20, "batch_size": 64},
        "medium": {"data": "mnist", "steps": 1500, "eval_every": 50, "batch_size": 64},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 100, "batch_size": 64},
    }[scale]
    partitions = ("by-class", "iid") if scale == "paper" else ("by-class",)
    rows = [
        {
            "method": m,
            **_without_rates(own),
            **({} if m == "powersgd" else {"together": True}),
            "choices": [{"lr": lr} for lr in own["rates"][1 if scale == "quick" else 0 :]],
            "partition": p,
            "workers": 5,
            "schedule": "cosine",
            **shared,
        }
        for p in partitions
        for m, own in METHODS.items()
    ]
    return with_seeds(rows, {"quick": 3, "medium": 3, "paper": 5}[scale])


def _without_rates(own: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key != "rates"}


def measure(cell: Cell, bench: Bench) -> Numbers:
    if "rank" in cell:
        return train(cell, bench, run_of=lambda setup, place: PowerRun(setup, place, cell["rank"]))
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    mine = where(records, partition="by-class")
    runs = {m: where(mine, method=m) for m in METHODS}
    level = SHARE * finals(runs["sgd"]).value
    spending = {m: bits_to_reach(own, level) for m, own in runs.items()}
    bits = {m: mean(own).value for m, own in spending.items() if own is not None}
    cheap = min((m for m in MEMORY if m in bits), key=lambda m: bits[m], default="none")
    said = ", ".join(f"{m} {bits[m]:.4g}" for m in sorted(bits, key=lambda m: bits[m]))
    never = [m for m in METHODS if m not in bits]
    ended = ", ".join(f"{m} {finals(own)} (η = {own[0]['lr']:g})" for m, own in runs.items())
    return [
        verdict(
            f"On exclusive classes a method of 2 bits or fewer reaches {SHARE:.0%} of SGD's accuracy with at most "
            f"1/{SAVING} of its bits",
            [below(f"{cheap}, of SGD's bits", _ratio(spending, cheap, "sgd"), 1 / SAVING), _learned(runs["sgd"])],
            f"bits per coordinate, up and down, until the test accuracy is {level:.3f}: {said}; never: "
            f"{', '.join(never) or 'none'}. Final accuracies: {ended}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "PowerSGD of rank 1 sends fewer bits than the cheapest of them",
            [below(f"of {cheap}'s bits", _ratio(spending, "powersgd", cheap), 1.0), _learned(runs["powersgd"])],
            f"PowerSGD: {_told(bits, 'powersgd')}, {cheap}: {_told(bits, cheap)}; it averages numbers that the senders "
            "choose, and its saving grows with the size of the matrices",
            at_best=Outcome.IN_KIND,
        ),
    ]


def _told(bits: Mapping[str, float], name: str) -> str:
    return f"{bits[name]:.4g}" if name in bits else "never"


def _learned(records: Sequence[Record]) -> Check:
    return above("learned", learned(records), 0.3)


def _ratio(spending: dict[str, list[float] | None], one: str, other: str) -> Estimate:
    """The mean over seeds of the bits of one by those of the other; infinite where only the other gets there."""
    mine, theirs = spending.get(one), spending.get(other)
    if mine is None:
        return exact(math.inf)
    return exact(0.0) if theirs is None else mean([m / max(t, 1.0) for m, t in zip(mine, theirs, strict=True)])


def spent(record: Record) -> list[float]:
    """Bits per coordinate sent and received by a worker up to each look."""
    up, down = record["bits_up"], record["bits_down"]
    return [s * ((u or 0) + (d or 0)) for s, u, d in zip(record["step"], up, down, strict=True)]


def bits_to_reach(records: Sequence[Record], level: float) -> list[float] | None:
    """For each seed the bits until the test accuracy is at least `level`; None if one of them never reaches it."""
    costs = []
    for r in records:
        there = [bits for bits, a in zip(spent(r), r["test_accuracy"], strict=True) if a is not None and a >= level]
        if not there:
            return None
        costs.append(there[0])
    return costs


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for method in SHOWN:
        group = where(records, partition="by-class", method=method)
        _, centre, low, high = band(group, "test_accuracy")
        bits = spent(group[0])[: len(centre)]
        series.append(Series(method, bits[1:], centre[1:], low[1:], high[1:]))
    return plot(
        "What accuracy the bits buy",
        f"test accuracy on {records[0]['data']}, exclusive classes; band over seeds",
        series,
        x_label="bits per coordinate and worker so far, up and down, measured (log scale)",
        log_x=True,
        y_limits=(0, 1),
        height=440,
    )


CLAIM = Claim(
    title="Accuracy against bits, all algorithms",
    source="Beyond the papers; PowerSGD: Vogels, Karimireddy, Jaggi, NeurIPS 2019",
    method="Five workers with two exclusive classes each, half-cosine rate, each method's start chosen of three "
    "(two at quick scale) on the validation split, batches of 64. Bits are those of the messages, headers included; "
    "PowerSGD's are those of its factors and vectors (rank 1, error memory, μ = 0.9). DropSign's c is 1, the best "
    "of 0.1, 0.3 and 1: exclusive classes leave large lasting gradients, and a coordinate drains at most βc a step. "
    "Quick scale: digits, 200 steps; medium scale: MNIST, 1500 steps; paper scale: MNIST, 4000 steps, and evenly "
    "spread data as well.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final),
    scales=SCALES,
    pace=0.014,
)
