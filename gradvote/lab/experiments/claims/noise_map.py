"""Beyond the papers: b × share of liars × heterogeneity, the trade-off that Chen et al. leave open, as a map."""

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
from gradvote.lab.experiments.drawing import Panel, heatmap
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import finals, gain, train, with_seeds

WORKERS = 9
SPREADS: dict[str, dict[str, Any]] = {
    "equal": {"partition": "iid"},
    "three workers for each class": {"partition": "by-class", "partition_options": {"redundancy": 3}},
}
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.0, 0.01, 0.03, 0.1),
    "paper": (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
}
LIARS: dict[Scale, tuple[int, ...]] = {"quick": (0, 1, 3), "paper": (0, 1, 2, 3, 4)}


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "samples": 60, "steps": 100, "eval_every": 100},
        "paper": {"data": "mnist", "steps": 4000, "eval_every": 400, "batch_size": 256},
    }[scale]
    rows = [
        {"spread": s, **own, "liars": k, **_lies(k), "b": b, "options": {"noise_std": b}}
        for s, own in SPREADS.items()
        for k in LIARS[scale]
        for b in STDS[scale]
    ]
    shared |= {"algorithm": "noisy-signsgd", "lr": 1e-2, "schedule": "cosine", "workers": WORKERS}
    return with_seeds([{**r, **shared} for r in rows], {"quick": 3, "paper": 5}[scale])


def _lies(liars: int) -> Cell:
    return {"faults": [{"fault": "invert", "num": liars}]} if liars else {}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    equal, skewed = (where(records, spread=s) for s in SPREADS)
    most = max(values(records, "liars"))
    chosen = {k: _best_b(where(skewed, liars=k)) for k in values(records, "liars")}
    gained = {k: gain(where(skewed, liars=k, b=b), where(skewed, liars=k, b=0.0)) for k, b in chosen.items()}
    stds = values(records, "b")
    loss = {b: _at(equal, 0, b) - _at(equal, most, b) for b in stds}
    return [
        verdict(
            "On different data noise pays whatever the number of liars: the best b is not 0",
            all(g.low > 0 for g in gained.values()),
            "best b, and what it gains over none, seed by seed: "
            + ", ".join(f"{k} of {WORKERS} liars: b = {b:g}, {gained[k]}" for k, b in chosen.items()),
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "On equal data more noise makes the vote weaker against liars",
            loss[stds[-1]] > loss[0.0],
            f"accuracy lost to {most} of {WORKERS} liars: " + ", ".join(f"b = {b:g}: {v:.3f}" for b, v in loss.items()),
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "Liars cost more on different data than on equal data, at the best b of each",
            _best(skewed, 0) - _best(skewed, most) > _best(equal, 0) - _best(equal, most),
            f"test accuracy at the best b without liars and with {most}: equal data {_best(equal, 0):.3f} and "
            f"{_best(equal, most):.3f}, different data {_best(skewed, 0):.3f} and {_best(skewed, most):.3f}",
            at_best=Outcome.IN_KIND,
        ),
    ]


def _at(records: Sequence[Record], liars: int, b: float) -> float:
    return finals(where(records, liars=liars, b=b)).value


def _best_b(records: Sequence[Record]) -> float:
    return float(max(values(records, "b"), key=lambda b: finals(where(records, b=b)).value))


def _best(records: Sequence[Record], liars: int) -> float:
    return max(_at(records, liars, b) for b in values(records, "b"))


def draw(records: Sequence[Record]) -> Figure:
    liars, stds = values(records, "liars"), values(records, "b")
    panels = [
        Panel(spread, [[_at(where(records, spread=spread), k, b) for b in stds] for k in reversed(liars)])
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
    method="Nine workers, full batches, signSGD by vote with Gaussian noise of size b (η = 0.01, half-cosine); liars "
    "send the negative of their gradient. Data are equal, or each class is held by three workers, so that no "
    "liar alone withholds a class. Quick scale: 600 digits, 100 steps; paper scale: MNIST, batches of 256, 4000 "
    "steps.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
