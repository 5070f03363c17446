"""Beyond the papers: b × share of liars × heterogeneity, the trade-off that Chen et al. leave open, as a map."""

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
from gradvote.lab.experiments.drawing import Panel, heatmap
from gradvote.lab.experiments.statistics import above
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import contrast, final, finals, gain, preferred, standing, train, with_seeds

WORKERS = 9
SPREADS: dict[str, dict[str, Any]] = {
    "equal": {"partition": "iid"},
    "three workers for each class": {"partition": "by-class", "partition_options": {"redundancy": 3}},
}
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.0, 0.01, 0.03, 0.1),
    "medium": (0.0, 1e-3, 1e-2, 0.1),
    "paper": (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
LIARS: dict[Scale, tuple[int, ...]] = {"quick": (0, 1, 3), "medium": (0, 1, 3), "paper": (0, 1, 2, 3, 4)}


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "samples": 60, "steps": 100, "eval_every": 100},
        "medium": {"data": "mnist", "together": True, "steps": 800, "eval_every": 400, "batch_size": 128},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 400, "batch_size": 256},
    }[scale]
    rows = [
        {"spread": s, **own, "liars": k, **_lies(k), "b": b, "options": {"noise_std": b}}
        for s, own in SPREADS.items()
        for k in LIARS[scale]
        for b in STDS[scale]
    ]
    shared |= {"algorithm": "noisy-signsgd", "schedule": "cosine", "workers": WORKERS, "compared": True}
    rates = {"quick": (1e-2,), "medium": (1e-3, 3e-3), "paper": (1e-3, 1e-2)}[scale]
    shared["choices"] = [{"lr": lr} for lr in rates]
    return with_seeds([{**r, **shared} for r in rows], {"quick": 4, "medium": 4, "paper": 5}[scale])


def _lies(liars: int) -> Cell:
    return {"faults": [{"fault": "invert", "num": liars}]} if liars else {}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    equal, skewed = (where(records, spread=s) for s in SPREADS)
    most, stds = max(values(records, "liars")), values(records, "b")
    noisy = {k: preferred([r for r in where(skewed, liars=k) if r["b"]], "b") for k in values(records, "liars")}
    gained = {k: gain(own, where(skewed, liars=k, b=0.0)) for k, own in noisy.items()}
    (a, a_hit), (b, b_hit) = ([preferred(where(s, liars=k), "b") for k in (0, most)] for s in (skewed, equal))
    weaker = [(1, 0, stds[-1]), (-1, most, stds[-1]), (-1, 0, 0.0), (1, most, 0.0)]
    return [
        verdict(
            "On different data noise pays whatever the number of liars: the best b is not 0",
            [above(f"{k} of {WORKERS} liars, gain of b = {noisy[k][0]['b']:g}", g, 0.0) for k, g in gained.items()],
            "best b on validation data, and what it gains over none, seed by seed: "
            + ", ".join(f"{k} of {WORKERS} liars: b = {noisy[k][0]['b']:g}, {g}" for k, g in gained.items()),
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On equal data more noise makes the vote weaker against liars",
            above(
                f"lost at b = {stds[-1]:g} rather than 0", contrast(*((w, _at(equal, k, b)) for w, k, b in weaker)), 0.0
            ),
            f"accuracy lost to {most} of {WORKERS} liars: "
            + ", ".join(f"b = {v:g}: {gain(_at(equal, 0, v), _at(equal, most, v))}" for v in stds),
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "Liars cost more on different data than on equal data, at the best b of each",
            above("lost more", contrast((1, a), (-1, a_hit), (-1, b), (1, b_hit)), 0.0),
            f"test accuracy at the best b on validation data without and with {most} liars: equal data {finals(b)} and "
            f"{finals(b_hit)}, different data {finals(a)} and {finals(a_hit)}",
            at_best=Outcome.IN_KIND,
        ),
    ]


def _at(records: Sequence[Record], liars: int, b: float) -> list[Record]:
    return where(records, liars=liars, b=b)


def draw(records: Sequence[Record]) -> Figure:
    liars, stds = values(records, "liars"), values(records, "b")
    panels = [
        Panel(spread, [[finals(_at(where(records, spread=spread), k, b)).value for b in stds] for k in reversed(liars)])
        for spread in SPREADS
    ]
    return heatmap(
        "How much noise, for how many liars?",
        f"final test accuracy on {records[0]['data']}, mean over seeds; {WORKERS} workers",
        panels,
        columns=[f"{b:g}" for b in stds],
        rows=[str(k) for k in reversed(liars)],
        x_label="b",
        y_label="liars",
    )


CLAIM = Claim(
    title="A map: b, liars and heterogeneity",
    source="Beyond the papers; left open by Chen, Chen, Sun, Wu, Hong, NeurIPS 2020",
    method="Nine workers, full batches, signSGD by vote with Gaussian noise of size b (half-cosine; η = 0.01 at "
    "quick scale, else chosen, as the best b, on the validation split, with the same liars); liars send the "
    "negative of their gradient. Data are equal, or each class is held by three workers, so that no liar alone "
    "withholds a class. Quick scale: 600 digits, 100 steps; medium scale: MNIST, batches of 128, 800 steps; paper "
    "scale: MNIST, batches of 256, 4000 steps.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final),
    scales=SCALES,
    pace=0.04,
)
