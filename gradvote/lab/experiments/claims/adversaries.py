"""Bernstein et al.: a vote survives adversaries up to 43 %, the mean does not survive one."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import Estimate
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import finals, train, with_seeds

ATTACKS: dict[str, dict[str, Any]] = {
    "invert": {"fault": "invert"},
    "rescale": {"fault": "rescale", "factor": -100.0},
    "randomise": {"fault": "random", "std": 1.0},
}
RATES = {"signsgd": 3e-3, "sgd": 0.5}
WORKERS = 7


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "steps": 100, "eval_every": 25},
        "paper": {"data": "mnist", "steps": 2000, "eval_every": 100},
    }[scale]
    rows = [
        {
            "algorithm": a,
            "attack": attack,
            "liars": k,
            "lr": lr,
            "workers": WORKERS,
            "partition": "iid",
            "batch_size": 32,
        }
        for a, lr in RATES.items()
        for attack in ATTACKS
        for k in _liars(a, scale)
        if k or attack == "invert"
    ]
    return with_seeds([{**r, **_faults(r), **shared} for r in rows], {"quick": 3, "paper": 5}[scale])


def _liars(algorithm: str, scale: Scale) -> tuple[int, ...]:
    if scale == "paper":
        return 0, 1, 2, 3
    return (0, 1, 3) if algorithm == "signsgd" else (0, 1)


def _faults(row: Cell) -> Cell:
    return {"faults": [{**ATTACKS[row["attack"]], "num": row["liars"]}]} if row["liars"] else {}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    honest = {a: finals(where(records, algorithm=a, liars=0)) for a in RATES}
    vote = {attack: _reached(records, "signsgd", attack, 3) for attack in ATTACKS}
    mean = {attack: _reached(records, "sgd", attack, 1) for attack in ATTACKS}
    full = where(records, data="mnist") != []
    kind = Outcome.REPRODUCED if full else Outcome.IN_KIND
    return [
        verdict(
            "The vote still learns with 3 of 7 adversaries",
            min(e.value for e in vote.values()) > 0.6 * honest["signsgd"].value,
            f"test accuracy without: {honest['signsgd']}; with 3 of 7: {_said(vote)}",
            at_best=kind,
        ),
        verdict(
            "The mean does not survive one rescaling adversary",
            mean["rescale"].value < 0.5 * honest["sgd"].value,
            f"test accuracy without: {honest['sgd']}; with 1 of 7: {_said(mean)}",
            at_best=kind,
        ),
    ]


def _reached(records: Sequence[Record], algorithm: str, attack: str, liars: int) -> Estimate:
    return finals(where(records, algorithm=algorithm, attack=attack, liars=liars))


def _said(reached: dict[str, Estimate]) -> str:
    return ", ".join(f"{attack} {estimate}" for attack, estimate in reached.items())


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for attack in ATTACKS:
        counts = [k for k in (0, 1, 2, 3) if where(records, algorithm="signsgd", attack=_of(attack, k), liars=k)]
        reached = [_reached(records, "signsgd", _of(attack, k), k) for k in counts]
        series.append(Series(f"vote, {attack}", [k / WORKERS for k in counts], [e.value for e in reached]))
        one = [_reached(records, "sgd", _of(attack, k), k) for k in (0, 1)]
        series.append(Series(f"mean, {attack}", [0, 1 / WORKERS], [e.value for e in one]))
    return plot(
        "The vote outlives what ruins the mean",
        f"final test accuracy on {records[0]['data']}, mean over seeds",
        series,
        x_label="share of adversaries",
        y_limits=(0, 1),
    )


def _of(attack: str, liars: int) -> str:
    return attack if liars else "invert"


CLAIM = Claim(
    title="Adversaries from 0 to 43 %",
    source="Bernstein, Zhao, Azizzadenesheli, Anandkumar, ICLR 2019, section on robustness",
    method="Seven workers on evenly spread data, batches of 32, no weight decay; liars invert their gradients, "
    "multiply them by −100, or send Gaussian values instead. Quick scale: digits, 100 steps; paper scale: MNIST, 2000 "
    "steps.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
