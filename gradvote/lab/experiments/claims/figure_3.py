"""Chen et al., Figure 3: ResNet-20 without BatchNorm on CIFAR-10, exclusive classes, with and without noise."""

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
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import band, best, finals, gain, train, with_seeds

SETTINGS: dict[str, dict[str, Any]] = {
    "homogeneous": {"partition": "iid", "noise_std": None},
    "heterogeneous": {"partition": "by-class", "noise_std": None},
    "heterogeneous, b = 0.001": {"partition": "by-class", "noise_std": 1e-3},
    "heterogeneous, relative b": {"partition": "by-class", "noise_std": "relative:0.1:max"},
}
RATES: dict[str, dict[Scale, tuple[float, ...]]] = {
    "signsgd": {"quick": (2e-3, 1e-2), "paper": (1e-2, 1e-3, 1e-4)},
    "mediansgd": {"quick": (), "paper": (0.1, 0.03, 0.01)},
}
MARGIN = 0.02
PUBLISHED_STEPS = 7000
NOISY = ("heterogeneous, b = 0.001", "heterogeneous, relative b")


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"model": "mlp", "together": True, "samples": 200, "pool": 4, "steps": 400, "eval_every": 50},
        "paper": {"model": "resnet20-nobn", "steps": PUBLISHED_STEPS, "eval_every": 250},
    }[scale]
    shared |= {"data": "cifar10", "batch_size": 64, "eval_samples": 2000, "workers": 5, "schedule": "step"}
    rows = [
        {"method": m, "setting": s, **_options(m, s), "lr": lr, **shared}
        for m in RATES
        for s in SETTINGS
        for lr in RATES[m][scale]
    ]
    return with_seeds(rows, {"quick": 3, "paper": 3}[scale])


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
    chosen = {s: best(where(records, setting=s)) for s in SETTINGS}
    reached = {s: finals(group) for s, group in chosen.items()}
    said = "; ".join(f"{s}: {reached[s]} (η = {chosen[s][0]['lr']:g})" for s in SETTINGS)
    scope = "" if records[0]["steps"] >= PUBLISHED_STEPS else ". A small net in the ResNet's place"
    return [
        verdict(
            f"{method}: exclusive classes cost accuracy (published: about 0.70 against 0.75)",
            _clear(chosen["homogeneous"], chosen["heterogeneous"]),
            f"test accuracy at the best rate: {said}{scope}",
            at_best=Outcome.IN_KIND,
        ),
        *(
            verdict(
                f"{method}: with {s.removeprefix('heterogeneous, ')} they cost less",
                _clear(chosen[s], chosen["heterogeneous"]),
                f"{reached[s]} against {reached['heterogeneous']} without noise{scope}",
                at_best=Outcome.IN_KIND,
            )
            for s in NOISY
        ),
    ]


def _clear(records: Sequence[Record], others: Sequence[Record]) -> bool:
    """Whether a setting gains `MARGIN` over another, and the interval of the gain leaves no doubt of its sign."""
    gained = gain(records, others)
    return gained.value > MARGIN and gained.low > 0


def draw(records: Sequence[Record]) -> Figure:
    mine, series = where(records, method="signsgd"), []
    for setting in SETTINGS:
        steps, centre, low, high = band(best(where(mine, setting=setting)), "test_accuracy")
        series.append(Series(setting.removeprefix("heterogeneous, "), steps, centre, low, high))
    return plot(
        f"CIFAR-10, exclusive classes, signSGD ({records[0]['model']})",
        "test accuracy, best rate of each; band over seeds",
        series,
        x_label="step",
    )


CLAIM = Claim(
    title="Figure 3: ResNet-20 on CIFAR-10",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Figure 3",
    method="Five workers, two exclusive classes each or evenly spread data; the rate divided by 2, 10 and 20 after "
    "1/7, 3/7 and 5/7 of the steps; b = 0.001 and b = 0.1·max|g| per block over all workers. Unstated in the paper and "
    "chosen here: batches of 64 for each worker, the rate (searched). Paper scale: ResNet-20 without BatchNorm, 7000 "
    "steps on the training batches that are there, signSGD and medianSGD. Quick scale: signSGD and a net of one hidden "
    "layer of 128 on 2000 images of 8×8 pixels, 400 steps, as some hundred steps of the ResNet on a CPU show nothing. "
    "The test set is as large as the file that is there, at most 2000 images.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    needs=("cifar10",),
)
