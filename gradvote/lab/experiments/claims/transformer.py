"""Beyond the papers: a character-level transformer, four workers with their own plays of Shakespeare."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.language import train
from gradvote.lab.experiments.statistics import Estimate, mean
from gradvote.lab.experiments.training import band, with_seeds

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
    "paper": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
}
WORST = 10.0
CLOSE = 0.1


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"context": 32, "width": 48, "layers": 2, "heads": 2, "batch_size": 8, "steps": 40, "eval_every": 10},
        "paper": {
            **{"context": 128, "width": 256, "layers": 6, "heads": 4},
            **{"batch_size": 16, "steps": 5000, "eval_every": 250},
        },
    }[scale]
    rows = [{"method": m, **own, "lr": lr, "workers": 4, **shared} for m, own in METHODS.items() for lr in RATES[scale]]
    return with_seeds(rows, {"quick": 3, "paper": 3}[scale])


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    tuned = {m: _best(where(records, method=m)) for m in METHODS}
    reached = {m: _loss(group) for m, group in tuned.items()}
    traffic = {m: group[0]["bytes"][-1] / 1e6 for m, group in tuned.items()}
    said = "; ".join(f"{m} {reached[m]} with {traffic[m]:.3g} MB (η = {tuned[m][0]['lr']:g})" for m in METHODS)
    winner = min(ONE_BIT, key=lambda m: reached[m].value)
    behind = reached[winner].value - reached["AdamW, mean"].value
    saving = traffic["AdamW, mean"] / traffic[winner]
    return [
        verdict(
            f"A method of at most 2 bits comes within {CLOSE} nats of AdamW on the mean, with 1/20 of its traffic",
            behind <= CLOSE and saving >= 20,
            f"held-out loss per character: {said}. Best of few bits: {winner}, {behind:+.3f} from AdamW at "
            f"1/{saving:.0f} of the bytes",
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "Every method of at most 2 bits is at least as good as SGD on the mean, at the same number of steps",
            all(reached[m].value <= reached["SGD, mean"].value + reached["SGD, mean"].half for m in ONE_BIT),
            ", ".join(f"{m} {reached[m].value - reached['SGD, mean'].value:+.3f}" for m in ONE_BIT)
            + " from SGD, whose interval is "
            + f"± {reached['SGD, mean'].half:.2g}",
            at_best=Outcome.IN_KIND,
        ),
    ]


def _best(records: Sequence[Record]) -> list[Record]:
    """The records of the rate with the lowest final loss."""
    rates = dict.fromkeys(r["lr"] for r in records)
    return min((where(records, lr=lr) for lr in rates), key=lambda group: _loss(group).value)


def _loss(records: Sequence[Record]) -> Estimate:
    """The final held-out loss; a run that diverged has the worst."""
    return mean([WORST if r["diverged"] else min(r["loss"][-1], WORST) for r in records])


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for method in METHODS:
        group = _best(where(records, method=method))
        _, centre, low, high = band(group, "loss")
        megabytes = [b / 1e6 for b in group[0]["bytes"][: len(centre)]]
        series.append(Series(method, megabytes[1:], centre[1:], low[1:], high[1:]))
    return plot(
        "A transformer on few bits",
        f"held-out loss per character (nats), {records[0]['steps']} steps, best rate of each; band over seeds",
        series,
        x_label="MB sent, all workers, up and down (log scale)",
        log_x=True,
    )


CLAIM = Claim(
    title="A transformer on Shakespeare",
    source="Beyond the papers; Liu, Wu, Chen, Huang, Liu, NeurIPS 2024, train language models with distributed Lion",
    method="A character-level transformer on tiny Shakespeare, four workers with different plays, the last tenth of "
    "each play held out; half-cosine rate, its start searched over the same grid for every method, no weight "
    "decay; b = 0.001, DropSign's c = 0.05. Quick scale: 2 layers, width 48, 8 windows of 32 characters for "
    "each worker, 40 steps; paper scale: 4.8 million parameters, 6 layers, width 256, 16 windows of 128, 5000 "
    "steps, nine rates.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    needs=("tinyshakespeare",),
)
