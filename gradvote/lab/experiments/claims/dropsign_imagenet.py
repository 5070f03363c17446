"""Phong and Phuong, Tables 1 and 2 with their own data and model: runs where an ImageNet folder is."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.photographs import train
from gradvote.lab.experiments.statistics import mean
from gradvote.lab.experiments.training import with_seeds

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
    "quick": {"model": "resnet20", "size": 32, "epochs": 1, "eval_epochs": 1, "batch_size": 32, **FEW},
    "paper": {"model": "resnet50", "size": 224, "epochs": 90, "eval_epochs": 5, "batch_size": 32},
}
CLOSE = 0.01


def cells(scale: Scale) -> list[Cell]:
    shared = {"data": NAME, "workers": 7, "optimizer": "sgd", "weight_decay": 1e-4, **SIZES[scale]}
    return with_seeds([{"method": m, **shared, **own} for m, own in METHODS.items()], 1)


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    reached = {m: mean([r["top1"][-1] for r in where(records, method=m)]).value for m in METHODS}
    full = records[0]["model"] == "resnet50"
    lead = reached["DropSign 0.3+0.5"] - reached["SGD"]
    said = "; ".join(f"{m} {reached[m]:.4f} ({PUBLISHED[m]:.4f})" for m in METHODS)
    return [
        verdict(
            "Table 1: DropSign 0.3+0.5 is within a point of SGD, signSGD by vote is behind both",
            lead > -CLOSE and reached["signSGD vote"] < min(reached["SGD"], reached["DropSign 0.3+0.5"]),
            f"top-1, measured (published): {said}. One seed for each",
            at_best=Outcome.REPRODUCED if full else Outcome.IN_KIND,
        )
    ]


def draw(records: Sequence[Record]) -> Figure:
    series = [Series(r["method"], r["step"], r["top1"]) for r in records]
    return plot("ImageNet", f"top-1 accuracy, {records[0]['model']}", series, x_label="step", y_limits=(0, 1))


CLAIM = Claim(
    title="DropSignSGD Table 1 on ImageNet itself",
    source="Phong, Phuong, IEEE Access 2020, Table 1",
    method="Seven workers with equal shares of ImageNet (a folder `imagenet` with train and val, and in them a folder "
    "for each class), random crops and mirroring, rate divided by 10 after 30, 60 and 80 of 90 epochs, weight decay "
    "1e-4. Unstated and chosen here: batches of 32 for each worker, the rates. Paper scale: ResNet-50, 224 pixels, a "
    "GPU; quick scale: ResNet-20, 32 pixels, 20 steps, to see that it runs.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    needs=(NAME,),
)
