"""Beyond the papers: what accuracy each algorithm buys with its bits, PowerSGD included."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.powersgd import PowerRun
from gradvote.lab.experiments.statistics import mean
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, best, finals, train, with_seeds

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
        "quick": {"data": "digits", "steps": 300, "eval_every": 30, "batch_size": 64},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 100, "batch_size": 64},
    }[scale]
    partitions = {"quick": ("by-class",), "paper": ("by-class", "iid")}[scale]
    rows = [
        {
            "method": m,
            **_without_rates(own),
            **_alone_or_not(m, scale),
            "lr": lr,
            "partition": p,
            "workers": 5,
            "schedule": "cosine",
            **shared,
        }
        for p in partitions
        for m, own in METHODS.items()
        for lr in (own["rates"] if scale == "paper" else own["rates"][1:])
    ]
    return with_seeds(rows, {"quick": 3, "paper": 5}[scale])


def _alone_or_not(method: str, scale: Scale) -> Cell:
    return {"together": True} if scale == "quick" and method != "powersgd" else {}


def _without_rates(own: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key != "rates"}


def measure(cell: Cell, bench: Bench) -> Numbers:
    if "rank" in cell:
        return train(cell, bench, run_of=lambda setup, place: PowerRun(setup, place, cell["rank"]))
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    mine = where(records, partition="by-class")
    tuned = {m: best(where(mine, method=m)) for m in METHODS}
    level = SHARE * finals(tuned["sgd"]).value
    bits = {m: cost for m, group in tuned.items() if (cost := bits_to_reach(group, level)) is not None}
    cheap = min((m for m in MEMORY if m in bits), key=lambda m: bits[m], default=None)
    said = ", ".join(f"{m} {bits[m]:.4g}" for m in sorted(bits, key=lambda m: bits[m]))
    never = [m for m in METHODS if m not in bits]
    ended = ", ".join(f"{m} {finals(tuned[m])} (η = {tuned[m][0]['lr']:g})" for m in METHODS)
    power = bits.get("powersgd")
    return [
        verdict(
            f"On exclusive classes a method of 2 bits or fewer reaches {SHARE:.0%} of SGD's accuracy with at most "
            f"1/{SAVING} of its bits",
            cheap is not None and "sgd" in bits and bits[cheap] * SAVING <= bits["sgd"],
            f"bits per coordinate, up and down, until the test accuracy is {level:.3f}: {said}; never: "
            f"{', '.join(never) or 'none'}. Final accuracies: {ended}",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "PowerSGD of rank 1 sends fewer bits than the cheapest of them",
            power is not None and cheap is not None and power < bits[cheap],
            f"PowerSGD: {power if power is None else f'{power:.4g}'}, {cheap}: "
            f"{'never' if cheap is None else f'{bits[cheap]:.4g}'}; it averages numbers that the senders choose, and "
            "its saving grows with the size of the matrices",
            at_best=Outcome.IN_KIND,
        ),
    ]


def spent(record: Record) -> list[float]:
    """Bits per coordinate sent and received by a worker up to each look."""
    up, down = record["bits_up"], record["bits_down"]
    return [s * ((u or 0) + (d or 0)) for s, u, d in zip(record["step"], up, down, strict=True)]


def bits_to_reach(records: Sequence[Record], level: float) -> float | None:
    """Mean over seeds of the bits until the test accuracy is at least `level`; None if a seed never reaches it."""
    costs = []
    for r in records:
        there = [bits for bits, a in zip(spent(r), r["test_accuracy"], strict=True) if a is not None and a >= level]
        if not there:
            return None
        costs.append(there[0])
    return mean(costs).value


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for method in SHOWN:
        group = best(where(records, partition="by-class", method=method))
        _, centre, low, high = band(group, "test_accuracy")
        bits = spent(group[0])[: len(centre)]
        series.append(Series(method, bits[1:], centre[1:], low[1:], high[1:]))
    return plot(
        "What accuracy the bits buy",
        f"test accuracy on {records[0]['data']}, exclusive classes, best rate of each; band over seeds",
        series,
        x_label="bits per coordinate and worker so far, up and down, measured (log scale)",
        log_x=True,
        y_limits=(0, 1),
        height=440,
    )


CLAIM = Claim(
    title="Accuracy against bits, all algorithms",
    source="Beyond the papers; PowerSGD: Vogels, Karimireddy, Jaggi, NeurIPS 2019",
    method="Five workers with two exclusive classes each, half-cosine rate, the best of three learning rates of each "
    "method (two at quick scale), batches of 64. Bits are those of the messages, headers included; PowerSGD's are "
    "those of its factors and vectors (rank 1, error memory, μ = 0.9). DropSign's c is 1, the best of 0.1, 0.3 and 1: "
    "exclusive classes leave large lasting gradients, and a coordinate drains at most βc a step. Quick scale: digits, "
    "300 steps; paper scale: MNIST, 4000 steps, and evenly spread data as well.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
