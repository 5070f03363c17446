"""Phong and Phuong, Tables 1 and 2 with their own data and model: runs where an ImageNet folder is."""

import math
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
from gradvote.lab.experiments.photographs import train
from gradvote.lab.experiments.statistics import Estimate, above
from gradvote.lab.experiments.training import standing, with_seeds

NAME = "imagenet"
PUBLISHED = {
    "SGD": 0.7627,
    "dist-EF": 0.7677,
    "FlexCompress": 0.7638,
    "signSGD vote": 0.7277,
    "DropSign 0.3+0.3": 0.7609,
    "DropSign 0.3+0.5": 0.7664,
    "DropSign 0.3+0.7": 0.7685,
}
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"algorithm": "sgd", "optimizer": "nesterov", "lr": 0.1},
    "dist-EF": {"algorithm": "dist-ef-sgdm", "lr": 0.1},
    "FlexCompress": {"algorithm": "flexcompress", "lr": 0.1},
    "signSGD vote": {"algorithm": "signum", "lr": 1e-4},
    "DropSign 0.3+0.3": {"algorithm": "dropsignsgd", "options": {"keep_down": 0.3}, "lr": 0.1},
    "DropSign 0.3+0.5": {"algorithm": "dropsignsgd", "options": {"keep_down": 0.5}, "lr": 0.1},
    "DropSign 0.3+0.7": {"algorithm": "dropsignsgd", "options": {"keep_down": 0.7}, "lr": 0.1},
}
FEW = {"most_steps": 20, "most_tests": 320}
SIZES: dict[Scale, dict[str, Any]] = {
    "quick": {"model": "resnet20", "size": 32, "epochs": 1, "eval_epochs": 1, **FEW},
    "paper": {"model": "resnet50", "size": 224, "epochs": 90, "eval_epochs": 5},
}
CLOSE = 0.01


RECIPES: dict[str, dict[str, Any]] = {
    "own": {"optimizer": "sgd", "batch_size": 32},
    "reference 36": {"optimizer": "nesterov-decay", "batch_size": 36},
}
"""What the paper leaves unstated, chosen here; and what the code of its reference 36 does (ZiyueHuang/dist-ef-sgdm).

That is a warm-up of five epochs, a tenth of the rate every 30, batches of 256 in all, memories times η_{t−1}/η_t, and
weight decay with a local momentum of its own. Its one scale for each 50 MB of gradients is not offered: a scale here is
that of a tensor.
"""


def cells(scale: Scale) -> list[Cell]:
    shared = {"data": NAME, "workers": 7, "weight_decay": 1e-4, **SIZES[scale]}
    rows = [
        {"method": m, "recipe": recipe, **shared, **how, **_told(own, recipe)}
        for recipe, how in RECIPES.items()
        for m, own in METHODS.items()
    ]
    return with_seeds(rows, 1)


def _told(own: Cell, recipe: str) -> Cell:
    if recipe == "own" or own["algorithm"] != "dropsignsgd":
        return own
    return {**own, "options": {**own["options"], "track_lr": True}}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    return [_judged(where(records, recipe=recipe), recipe) for recipe in values(records, "recipe")]


def _judged(records: Sequence[Record], recipe: str) -> Verdict:
    reached = {m: where(records, method=m)[0] for m in METHODS}
    full = records[0]["model"] == "resnet50"
    said = "; ".join(f"{m} {r['top1'][-1]:.4f} ({PUBLISHED[m]:.4f})" for m, r in reached.items())
    drop, sgd, vote = (reached[m] for m in ("DropSign 0.3+0.5", "SGD", "signSGD vote"))
    return verdict(
        f"Table 1, recipe {recipe}: DropSign 0.3+0.5 is within a point of SGD, signSGD by vote is behind both",
        [
            above("DropSign − SGD", _apart(drop, sgd), -CLOSE),
            above("DropSign − vote", _apart(drop, vote), 0.0),
            above("SGD − vote", _apart(sgd, vote), 0.0),
        ],
        f"top-1, measured (published): {said}. One seed for each: intervals are those of {drop['tests']:,} test images",
        at_best=Outcome.REPRODUCED if full else Outcome.IN_KIND,
        paper="+0.37, +3.87",
    )


def _apart(record: Record, other: Record) -> Estimate:
    """The difference of two shares of the same number of images, by the binomial law."""
    ends, tests = (record["top1"][-1], other["top1"][-1]), record["tests"]
    return Estimate(ends[0] - ends[1], 1.96 * math.sqrt(sum(p * (1 - p) for p in ends) / tests), tests)


def draw(records: Sequence[Record]) -> Figure:
    series = [Series(r["method"], r["step"], r["top1"]) for r in where(records, recipe="own")]
    return plot("ImageNet", f"top-1 accuracy, {records[0]['model']}", series, x_label="step", y_limits=(0, 1))


CLAIM = Claim(
    title="DropSignSGD Table 1 on ImageNet itself",
    source="Phong, Phuong, IEEE Access 2020, Table 1",
    method="Seven workers with equal shares of ImageNet (a folder `imagenet` with train and val, and in them a "
    "folder for each class), random crops and mirroring, weight decay 1e-4, by two recipes. Own: the rate divided "
    "by 10 after 30, 60 and 80 of 90 epochs, batches of 32 for each worker. Reference 36, the code that the paper's "
    "methods come from: five epochs of warm-up, the rate divided by 10 every 30 epochs, batches of 36 (256 in all), "
    "memories times the ratio of rates, weight decay with a local momentum of its own; its one scale for each 50 MB "
    "of gradients is not offered. Paper scale: ResNet-50, 224 pixels, a GPU; quick scale: ResNet-20, 32 pixels, 20 "
    "steps, to see that it runs.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    needs=(NAME,),
    nulls={"no step": standing},
    untuned="rates are those of the recipes",
)
