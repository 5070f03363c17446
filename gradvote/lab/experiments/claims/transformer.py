"""Beyond the papers: a character-level transformer, four workers with their own plays of Shakespeare."""

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
    verdict,
    where,
)
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.language import train
from gradvote.lab.experiments.statistics import Estimate, above, below, exact, mean
from gradvote.lab.experiments.training import band, standing, with_seeds

METHODS: dict[str, dict[str, Any]] = {
    "AdamW, mean": {"algorithm": "sgd", "optimizer": "adamw"},
    "SGD, mean": {"algorithm": "sgd", "optimizer": "sgd"},
    "Signum": {"algorithm": "signum", "optimizer": "sgd"},
    "Distributed Lion": {"algorithm": "lion", "optimizer": "sgd"},
    "DropSign": {"algorithm": "dropsignsgd", "options": {"c": 0.05}, "optimizer": "sgd"},
    "noisy sign": {"algorithm": "noisy-signsgd", "options": {"noise_std": 1e-3}, "optimizer": "sgd"},
}
ONE_BIT = ("Signum", "Distributed Lion", "DropSign", "noisy sign")
RATES: dict[Scale, tuple[float, ...]] = {
    "quick": (3e-3, 3e-2, 3e-1),
    "medium": (1e-3, 1e-2, 1e-1),
    "paper": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
}
WORST = 10.0
CLOSE = 0.1


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"context": 32, "width": 48, "layers": 2, "heads": 2, "batch_size": 8, "steps": 40, "eval_every": 10},
        "medium": {
            **{"context": 64, "width": 96, "layers": 2, "heads": 4},
            **{"batch_size": 4, "steps": 500, "eval_every": 50},
        },
        "paper": {
            **{"context": 128, "width": 256, "layers": 6, "heads": 4},
            **{"batch_size": 16, "steps": 5000, "eval_every": 250},
        },
    }[scale]
    choices = [{"lr": lr} for lr in RATES[scale]]
    rows = [{"method": m, **own, "choices": choices, "workers": 4, **shared} for m, own in METHODS.items()]
    return with_seeds(rows, {"quick": 3, "medium": 4, "paper": 3}[scale])


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    runs = {m: where(records, method=m) for m in METHODS}
    adam, sgd = runs["AdamW, mean"], runs["SGD, mean"]
    traffic = {m: own[0]["bytes"][-1] / 1e6 for m, own in runs.items()}
    said = "; ".join(f"{m} {_loss(own)} with {traffic[m]:.3g} MB (η = {own[0]['lr']:g})" for m, own in runs.items())
    winner = max(ONE_BIT, key=lambda m: float(runs[m][0]["validation"]))
    saving = traffic["AdamW, mean"] / max(traffic[winner], 1e-9)
    fell = below("AdamW's fall", mean([end(r) - r["loss"][0] for r in adam]), -0.3)
    return [
        verdict(
            f"A method of at most 2 bits comes within {CLOSE} nats of AdamW on the mean, with 1/20 of its traffic",
            [below(f"{winner} − AdamW", _apart(runs[winner], adam), CLOSE), above("saving", exact(saving), 20), fell],
            f"held-out loss per character: {said}. Best of few bits on validation data: {winner}, at 1/{saving:.0f} of "
            "the bytes",
            at_best=Outcome.IN_KIND,
        ),
        *(
            verdict(
                f"{m} is at least as good as SGD on the mean, at the same number of steps",
                [below(f"{m} − SGD", _apart(runs[m], sgd), 0.02), fell],
                f"held-out loss per character: {_loss(runs[m])} against {_loss(sgd)}",
                at_best=Outcome.IN_KIND,
            )
            for m in ONE_BIT
        ),
    ]


def score(record: Record) -> float:
    """The higher the better."""
    return -end(record)


def end(record: Record) -> float:
    """The final held-out loss; a run that diverged has the worst."""
    return WORST if record["diverged"] else min(float(record["loss"][-1]), WORST)


def _loss(records: Sequence[Record]) -> Estimate:
    return mean([end(r) for r in records])


def _apart(records: Sequence[Record], others: Sequence[Record]) -> Estimate:
    theirs = {r["seed"]: end(r) for r in others}
    return mean([end(r) - theirs[r["seed"]] for r in records])


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for method in METHODS:
        group = where(records, method=method)
        _, centre, low, high = band(group, "loss")
        megabytes = [b / 1e6 for b in group[0]["bytes"][: len(centre)]]
        series.append(Series(method, megabytes[1:], centre[1:], low[1:], high[1:]))
    return plot(
        "A transformer on few bits",
        f"held-out loss per character (nats), {records[0]['steps']} steps; band over seeds",
        series,
        x_label="MB sent, all workers, up and down (log scale)",
        log_x=True,
    )


CLAIM = Claim(
    title="A transformer on Shakespeare",
    source="Beyond the papers; Liu, Wu, Chen, Huang, Liu, NeurIPS 2024, train language models with distributed Lion",
    method="A character-level transformer on tiny Shakespeare, four workers with different plays, the last tenth of "
    "each play held out: one half of that to choose by, the other to judge by. Half-cosine rate, its start chosen "
    "from the same grid for every method, no weight decay; b = 0.001, DropSign's c = 0.05. Quick scale: 2 layers, "
    "width 48, 8 windows of 32 characters for each worker, 40 steps; medium scale: 4 layers, width 128, 8 windows "
    "of 64, 1000 steps; paper scale: 4.8 million parameters, 6 layers, width 256, 16 windows of 128, 5000 steps, "
    "nine rates.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    needs=("tinyshakespeare",),
    nulls={"no step": standing},
    tuning=Tuning(score),
    scales=SCALES,
    pace=0.1,
)
