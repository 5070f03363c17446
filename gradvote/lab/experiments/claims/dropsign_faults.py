"""Phong and Phuong, Table 1, the column of fault tolerance, by measurement: which methods outlive faulty links."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.claims.dropsign_tables import METHODS
from gradvote.lab.experiments.drawing import Panel, heatmap
from gradvote.lab.experiments.statistics import Estimate
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import finals, train, with_seeds

SIGNS = ("signSGD vote", "DropSign 0.3+0.5")
SCALED = ("SGD", "dist-EF", "FlexCompress")
FAULTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "2 of 7 inverted": [{"fault": "invert", "place": "uplink", "num": 2, "redraw": True}],
    "1 of 7 times 1000": [{"fault": "rescale", "factor": 1000.0, "place": "uplink", "num": 1, "redraw": True}],
    "1 of 7 random": [{"fault": "random", "std": 100.0, "place": "uplink", "num": 1, "redraw": True}],
}
KEPT_SHARE = 0.8


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "together": True, "steps": 200, "batch_size": 32, "eval_every": 100},
        "paper": {"data": "mnist", "steps": 4000, "batch_size": 64, "eval_every": 200},
    }[scale]
    shared |= {"workers": 7, "partition": "iid", "schedule": "cosine"}
    rows = [
        {"method": m, "fault": name, "faults": faults, **_own(m), **shared}
        for m in (*SCALED, *SIGNS)
        for name, faults in FAULTS.items()
    ]
    return with_seeds(rows, {"quick": 3, "paper": 5}[scale])


def _own(method: str) -> Cell:
    settings = METHODS[method]
    return {"algorithm": settings["algorithm"], "options": settings.get("options", {}), "lr": settings["rates"][1]}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    table = {m: {f: finals(where(records, method=m, fault=f)) for f in FAULTS} for m in (*SCALED, *SIGNS)}
    kept = {m: min(e.value for e in row.values()) / row["none"].value for m, row in table.items()}
    return [
        verdict(
            f"Ballots of signs outlive every tested fault with {KEPT_SHARE:.0%} of their accuracy: signSGD, DropSign",
            all(kept[m] >= KEPT_SHARE for m in SIGNS),
            "; ".join(_said(m, table[m]) for m in SIGNS),
            at_best=Outcome.IN_KIND,
        ),
        verdict(
            "Ballots with sizes do not: SGD, dist-EF, FlexCompress",
            all(kept[m] < KEPT_SHARE for m in SCALED),
            "; ".join(_said(m, table[m]) for m in SCALED),
            at_best=Outcome.IN_KIND,
        ),
    ]


def _said(method: str, row: dict[str, Estimate]) -> str:
    return f"{method}: " + ", ".join(f"{fault} {estimate}" for fault, estimate in row.items())


def draw(records: Sequence[Record]) -> Figure:
    methods = (*SCALED, *SIGNS)
    numbers = [[finals(where(records, method=m, fault=f)).value for f in FAULTS] for m in methods]
    return heatmap(
        "Which methods outlive faulty links",
        f"final test accuracy on {records[0]['data']}, seven links, faulty ones drawn at each step",
        [Panel("", numbers)],
        rows=methods,
        columns=list(FAULTS),
        x_label="",
        y_label="",
    )


CLAIM = Claim(
    title="DropSignSGD Table 1: fault tolerance, measured",
    source="Phong, Phuong, IEEE Access 2020, Table 1, last column",
    method="Seven workers on evenly spread data; links on the way up, drawn afresh at each step, that invert, multiply "
    "by 1000 (what has a size; signs do not), or send random signs and random sizes instead. A method tolerates a "
    f"fault if it keeps {KEPT_SHARE:.0%} of its accuracy. Quick scale: digits, 200 steps; paper scale here: MNIST, "
    "4000 steps.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
)
