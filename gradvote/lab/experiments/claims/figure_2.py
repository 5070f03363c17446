"""Chen et al., Figure 2: with exclusive classes signSGD and medianSGD stall; noise or sub-sampling mends it."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import (
    Bench,
    Cell,
    Claim,
    Numbers,
    Outcome,
    Record,
    Scale,
    Verdict,
    values,
    verdict,
    where,
)
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import Estimate
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, best, finals, gain, train, with_seeds

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"noise_std": None},
    "b = 1e-5": {"noise_std": 1e-5},
    "b = 1e-3": {"noise_std": 1e-3},
    "b = 1e-2": {"noise_std": 1e-2},
    "b = 1e-1": {"noise_std": 1e-1},
    "sub-sampling": {"noise_std": None, "batch_size": 2},
}
RATES: dict[str, dict[Scale, tuple[float, ...]]] = {
    "signsgd": {"quick": (3e-3, 1e-2), "paper": (1.0, 1e-1, 1e-2, 1e-3, 1e-4)},
    "mediansgd": {"quick": (0.3,), "paper": (1.0, 1e-1, 1e-2, 1e-3)},
}


def cells(scale: Scale) -> list[Cell]:
    shared = {
        "quick": {"data": "digits", "together": True, "workers": 5, "samples": 60, "steps": 500, "eval_every": 50},
        "paper": {"data": "mnist", "workers": 5, "steps": 50000, "eval_every": 250},
    }[scale]
    rows = [
        {"method": m, "setting": s, **_options(m, s, scale), "lr": lr, **shared}
        for m in RATES
        for s in SETTINGS
        if scale == "paper" or s != "b = 1e-5"
        for lr in RATES[m][scale]
    ]
    return with_seeds(rows, {"quick": 4, "paper": 3}[scale])


def _options(method: str, setting: str, scale: Scale) -> dict[str, Any]:
    noise, batch = SETTINGS[setting]["noise_std"], SETTINGS[setting].get("batch_size")
    size = batch if scale == "quick" or batch is None else 128
    if noise is None:
        return {"algorithm": method, "batch_size": size}
    return {"algorithm": f"noisy-{method}", "options": {"noise_std": noise}}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    full = records[0]["data"] == "mnist"
    kind = Outcome.REPRODUCED if full else Outcome.IN_KIND
    return [v for method in RATES for v in _judged(where(records, method=method), method, kind)]


def _judged(records: Sequence[Record], method: str, kind: Outcome) -> list[Verdict]:
    chosen = {s: best(where(records, setting=s)) for s in values(records, "setting")}
    reached = {s: finals(group) for s, group in chosen.items()}
    none = reached["none"]
    noisy = max((s for s in reached if s.startswith("b =")), key=lambda s: reached[s].value)
    said = "; ".join(f"{s}: {reached[s]} (η = {chosen[s][0]['lr']:g})" for s in reached)
    norm = {s: finals(chosen[s], "grad_norm") for s in ("none", noisy)}
    gains = {s: gain(chosen[s], chosen["none"]) for s in reached}
    first = next((s for s in reached if s.startswith("b =") and _clear(gains[s])), "no b")
    return [
        verdict(
            f"{method} without noise stalls on exclusive classes, with noise it learns",
            _clear(gains[noisy]),
            f"test accuracy at the best rate: {said}",
            at_best=kind,
        ),
        verdict(
            f"{method} learns by sub-sampling as well",
            _clear(gains["sub-sampling"]),
            f"{reached['sub-sampling']} against {none}, seed by seed a gain of {gains['sub-sampling']}",
            at_best=kind,
        ),
        verdict(
            f"{method}: the paper's b = 1e-3 is enough",
            _clear(gains["b = 1e-3"]),
            f"{reached['b = 1e-3']} against {none} without noise, seed by seed a gain of {gains['b = 1e-3']}. A gap of "
            f"ten points is there from {first} on; best: {noisy} with {reached[noisy]}. Gradient norm at the end: "
            f"{norm['none']} without noise, {norm[noisy]} with that",
            at_best=kind,
        ),
    ]


def _clear(gained: Estimate) -> bool:
    """Whether a setting gains ten points, and the interval of the gain leaves no doubt of its sign."""
    return gained.value > 0.1 and gained.low > 0


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for setting in values(records, "setting"):
        steps, centre, low, high = band(best(where(records, method="signsgd", setting=setting)), "test_accuracy")
        series.append(Series(setting, steps, centre, low, high))
    return plot(
        "Exclusive classes: signSGD with and without noise",
        f"test accuracy on {records[0]['data']}, best rate of each; band over seeds",
        series,
        x_label="step",
        y_limits=(0, 1),
    )


CLAIM = Claim(
    title="Figure 2: exclusive classes, with and without noise",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Figure 2",
    method="Five workers with two classes each that nobody else has, full local gradients, one hidden layer of 128, "
    "constant rate searched over a grid (of medianSGD's 0.3 and 1 quick scale has 0.3). Quick scale: digits of "
    "8×8 pixels (64-128-10, 600 images, 500 steps, batches of 2, the paper's 1 % of a worker's images); paper "
    "scale: MNIST (784-128-10, 60,000 images, 50,000 steps, batches of 128); M = 5 for the paper's even 10.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
