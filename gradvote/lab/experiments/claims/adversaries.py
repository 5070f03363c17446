"""Bernstein et al.: a vote survives adversaries up to 43 %, the mean does not survive one."""

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
from gradvote.lab.experiments.statistics import above, below
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import (
    contrast,
    final,
    finals,
    learned,
    standing,
    train,
    with_seeds,
)

ATTACKS: dict[str, dict[str, Any]] = {
    "invert": {"fault": "invert"},
    "rescale": {"fault": "rescale", "factor": -100.0},
    "randomise": {"fault": "random", "std": 1.0},
    "any vector": {"fault": "blind"},
    "any vector, both ways": {"fault": "blind", "place": "both"},
}
"""What liars do; the blind multiplicative adversary's vector has any pattern of signs, drawn afresh at each step."""
RATES = {"signsgd": (1e-3, 3e-3), "sgd": (0.2, 0.5)}
WORKERS, SHARES = 7, (1, 2, 3)
KEPT, RUINED = 0.6, 0.5


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "steps": 100, "eval_every": 25},
        "medium": {"data": "mnist", "steps": 1000, "eval_every": 100},
        "paper": {"data": "mnist", "steps": 2000, "eval_every": 100},
    }[scale]
    shared |= {"together": True, "workers": WORKERS, "partition": "iid", "batch_size": 32}
    told = [("signsgd", attack, k) for attack in ATTACKS for k in SHARES]
    told += [("sgd", attack, 1) for attack in ("invert", "rescale", "randomise")]
    rows = [_row(a, attack, k) for a, attack, k in (*((a, "none", 0) for a in RATES), *told)]
    return with_seeds([{**row, **shared} for row in rows], {"quick": 4, "medium": 5, "paper": 5}[scale])


def _row(algorithm: str, attack: str, liars: int) -> Cell:
    """Rates are chosen without liars."""
    faults = [{**ATTACKS[attack], "num": liars}] if liars else []
    honest = {"attack": "none", "liars": 0, "faults": []}
    own = {"algorithm": algorithm, "attack": attack, "liars": liars, "faults": faults, "chosen_as": honest}
    return {**own, "choices": [{"lr": lr} for lr in RATES[algorithm]]}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    vote, mean = where(records, algorithm="signsgd"), where(records, algorithm="sgd")
    honest, averaged = where(vote, liars=0), where(mean, liars=0)
    kind = Outcome.IN_KIND if records[0]["data"] == "digits" else Outcome.REPRODUCED
    ruined = where(mean, attack="rescale")
    verdicts = [
        verdict(
            f"The vote keeps {KEPT:.0%} of its accuracy with {k} of 7 adversaries of any kind",
            [
                above(f"{a}, over {KEPT:g} of honest", contrast((1, _of(vote, a, k)), (-KEPT, honest)), 0.0)
                for a in ATTACKS
            ]
            + [above("learned", learned(honest), 0.3)],
            f"test accuracy without: {finals(honest)}; with: " + _said(vote, tuple(ATTACKS), k),
            at_best=kind,
            paper="learns at 43 %" if k == max(SHARES) else "learns",
        )
        for k in SHARES
    ]
    return [
        *verdicts,
        verdict(
            "The mean does not survive one rescaling adversary",
            [
                below(f"over {RUINED:g} of honest", contrast((1, ruined), (-RUINED, averaged)), 0.0),
                above("learned without", learned(averaged), 0.3),
            ],
            f"test accuracy without: {finals(averaged)}; with 1 of 7: "
            + _said(mean, ("invert", "rescale", "randomise"), 1),
            at_best=kind,
            paper="fails",
        ),
    ]


def _of(records: Sequence[Record], attack: str, liars: int) -> list[Record]:
    return where(records, attack=attack, liars=liars)


def _said(records: Sequence[Record], attacks: Sequence[str], liars: int) -> str:
    return ", ".join(f"{attack} {finals(_of(records, attack, liars))}" for attack in attacks)


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for algorithm, name, attacks in (("signsgd", "vote", ATTACKS), ("sgd", "mean", ("invert", "rescale", "randomise"))):
        mine = where(records, algorithm=algorithm)
        for attack in attacks:
            counts = [k for k in (0, *SHARES) if k == 0 or _of(mine, attack, k)]
            reached = [finals(_of(mine, attack, k) if k else where(mine, liars=0)) for k in counts]
            low, high = [e.low for e in reached], [e.high for e in reached]
            shares = [k / WORKERS for k in counts]
            series.append(Series(f"{name}, {attack}", shares, [e.value for e in reached], low, high))
    return plot(
        "The vote outlives what ruins the mean",
        f"final test accuracy on {records[0]['data']}; bands: 95 % intervals over seeds",
        series,
        x_label="share of adversaries",
        y_limits=(0, 1),
        height=440,
    )


CLAIM = Claim(
    title="Adversaries from 0 to 43 %",
    source="Bernstein, Zhao, Azizzadenesheli, Anandkumar, ICLR 2019, section on robustness",
    method="Seven workers on evenly spread data, batches of 32, no weight decay; liars invert their gradients, "
    "multiply them by −100, send Gaussian values instead, or multiply them by Gaussian vectors, of any pattern of "
    "signs, on the way up, or both ways. Rates chosen without liars on the validation split. Quick scale: digits, "
    "100 steps; medium scale: MNIST, 1000 steps; paper scale: MNIST, 2000 steps.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final),
    scales=SCALES,
    pace=0.01,
)
