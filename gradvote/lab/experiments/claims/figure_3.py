"""Chen et al., Figure 3: ResNet-20 without BatchNorm on CIFAR-10, exclusive classes, with and without noise."""

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
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.statistics import above
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, final, finals, gain, standing, train, with_seeds

EVEN, SKEWED = "homogeneous", "heterogeneous"
NOISY = ("heterogeneous, b = 0.001", "heterogeneous, relative b")
SETTINGS: dict[str, dict[str, Any]] = {
    EVEN: {"partition": "iid", "noise_std": None},
    SKEWED: {"partition": "by-class", "noise_std": None},
    NOISY[0]: {"partition": "by-class", "noise_std": 1e-3},
    NOISY[1]: {"partition": "by-class", "noise_std": "relative:0.1:max"},
}
RATES: dict[str, dict[Scale, tuple[float, ...]]] = {
    "signsgd": {"quick": (2e-3, 1e-2), "medium": (3e-4, 1e-3), "paper": (1e-2, 1e-3, 1e-4)},
    "mediansgd": {"quick": (), "medium": (), "paper": (0.1, 0.03, 0.01)},
}
MARGIN = 0.02
PUBLISHED_STEPS = 7000


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"model": "mlp", "together": True, "samples": 200, "pool": 4, "steps": 400, "eval_every": 50},
        "medium": {"model": "cnn", "together": True, "steps": 3000, "eval_every": 250},
        "paper": {"model": "resnet20-nobn", "steps": PUBLISHED_STEPS, "eval_every": 250},
    }[scale]
    shared |= {"data": "cifar10", "batch_size": 64, "eval_samples": 2000, "workers": 5, "schedule": "step"}
    rows = [
        {"method": m, "setting": s, **_options(m, s), "choices": [{"lr": lr} for lr in RATES[m][scale]], **shared}
        for m in RATES
        for s in SETTINGS
        if RATES[m][scale]
    ]
    return with_seeds(rows, {"quick": 5, "medium": 3, "paper": 3}[scale])


def _options(method: str, setting: str) -> dict[str, Any]:
    noise, partition = SETTINGS[setting]["noise_std"], SETTINGS[setting]["partition"]
    if noise is None:
        return {"algorithm": method, "partition": partition}
    return {"algorithm": f"noisy-{method}", "options": {"noise_std": noise}, "partition": partition}


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    return [v for method in values(records, "method") for v in _judged(where(records, method=method), method)]


def _judged(records: Sequence[Record], method: str) -> list[Verdict]:
    runs = {s: where(records, setting=s) for s in SETTINGS}
    said = "; ".join(f"{s}: {finals(own)} (η = {own[0]['lr']:g})" for s, own in runs.items())
    scope = "" if records[0]["model"].startswith("resnet") else ". A small net in the ResNet's place"
    return [
        verdict(
            f"{method}: exclusive classes cost accuracy",
            above("cost", gain(runs[EVEN], runs[SKEWED]), MARGIN),
            f"test accuracy: {said}{scope}",
            at_best=Outcome.IN_KIND,
            paper="0.75 → 0.70",
        ),
        *(
            verdict(
                f"{method}: with {s.removeprefix('heterogeneous, ')} they cost less",
                above("gain", gain(runs[s], runs[SKEWED]), MARGIN),
                f"{finals(runs[s])} against {finals(runs[SKEWED])} without noise{scope}",
                at_best=Outcome.IN_KIND,
                paper="0.70 → 0.75",
            )
            for s in NOISY
        ),
        verdict(
            f"{method}: with b = 0.001 training ends closer to all samples being right (published: about 100 %)",
            above("gain in training", gain(runs[NOISY[0]], runs[SKEWED], "train_accuracy"), 0.0),
            f"training accuracy {finals(runs[NOISY[0]], 'train_accuracy')} against "
            f"{finals(runs[SKEWED], 'train_accuracy')} without noise, {finals(runs[EVEN], 'train_accuracy')} on "
            f"homogeneous data{scope}",
            at_best=Outcome.IN_KIND,
            paper="about 100 %",
        ),
        verdict(
            f"{method}: with b = 0.001 it converges much faster: ahead at half of the steps by {MARGIN:g}",
            above("gain, half way", gain(_half(runs[NOISY[0]]), _half(runs[SKEWED])), MARGIN),
            f"test accuracy half way: {finals(_half(runs[NOISY[0]]))} against {finals(_half(runs[SKEWED]))}{scope}",
            at_best=Outcome.IN_KIND,
        ),
    ]


def _half(records: Sequence[Record]) -> list[Record]:
    """The runs as they were in the middle."""
    middle = len(records[0]["test_accuracy"]) // 2 + 1
    return [
        Record(r.cell, {**r.numbers, "test_accuracy": r["test_accuracy"][:middle]}, r.seconds, r.made) for r in records
    ]


def draw(records: Sequence[Record]) -> Figure:
    mine, series = where(records, method="signsgd"), []
    for setting in SETTINGS:
        steps, centre, low, high = band(where(mine, setting=setting), "test_accuracy")
        series.append(Series(setting.removeprefix("heterogeneous, "), steps, centre, low, high))
    return plot(
        f"CIFAR-10, exclusive classes, signSGD ({records[0]['model']})",
        "test accuracy; band over seeds",
        series,
        x_label="step",
    )


CLAIM = Claim(
    title="Figure 3: ResNet-20 on CIFAR-10",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Figure 3",
    method="Five workers, two exclusive classes each or evenly spread data; the rate divided by 2, 10 and 20 after "
    "1/7, 3/7 and 5/7 of the steps; b = 0.001 and b = 0.1·max|g| per block over all workers. Unstated in the paper "
    "and chosen here: batches of 64 for each worker, the rate (on the validation split). Paper scale: ResNet-20 "
    "without BatchNorm, 7000 steps on the training batches that are there, signSGD and medianSGD. Medium scale: "
    "signSGD and a small convolutional net without BatchNorm, 3000 steps. Quick scale: signSGD and a net of one "
    "hidden layer of 128 on 2000 images of 8×8 pixels, 400 steps, as some hundred steps of the ResNet on a CPU show "
    "nothing. The test set is as large as the file that is there, at most 2000 images.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    needs=("cifar10",),
    nulls={"no step": standing},
    tuning=Tuning(final, instead={"medium": {"steps": 800, "eval_every": 800}, "paper": {"steps": 1500}}),
    scales=SCALES,
    pace=0.2,
)
