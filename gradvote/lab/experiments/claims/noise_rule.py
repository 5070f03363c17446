"""Beyond the papers: b chosen during training, half as large as the measured gap between median and mean."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.adaptive import AdaptiveRun, AdaptiveSweep
from gradvote.lab.experiments.claim import (
    SCALES,
    Bench,
    Cell,
    Claim,
    Numbers,
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
from gradvote.lab.experiments.training import (
    KEPT,
    band,
    final,
    finals,
    gain,
    learned,
    setup_of,
    standing,
    train,
    with_seeds,
)
from gradvote.theory import noise_from_gap

TUNING = "digits, mlp"
TASKS: dict[str, dict[str, Any]] = {
    TUNING: {"data": "digits", "model": "mlp"},
    "mnist, mlp": {"data": "mnist", "model": "mlp"},
    "mnist, deep": {"data": "mnist", "model": "gradvote.lab.experiments.nets:deep"},
    "mnist, cnn": {"data": "mnist", "model": "cnn"},
    "cifar10, mlp": {"data": "cifar10", "model": "mlp"},
}
"""The factor was tuned on the first: of those within half a point of the best the one with the least noise. The others
are held out, but that the least was to be taken was decided with results of MNIST and the mlp in sight."""

SMALL: dict[str, dict[str, Any]] = {
    TUNING: {"samples": 60, "steps": 200},
    "mnist, mlp": {"samples": 40, "steps": 200, "pool": 2},
    "mnist, deep": {"samples": 40, "steps": 200, "pool": 2},
    "cifar10, mlp": {"samples": 40, "steps": 200, "pool": 4},
}
"""The tasks of the quick scale, and what makes them quick."""

MEDIUM: dict[str, dict[str, Any]] = {
    TUNING: {"steps": 1000},
    "mnist, mlp": {"samples": 1000, "steps": 1000, "batch_size": 128},
    "mnist, deep": {"samples": 1000, "steps": 1000, "batch_size": 128},
    "cifar10, mlp": {"samples": 1000, "steps": 1000, "batch_size": 128, "pool": 2},
}
FACTORS = (0.5, 1.0, 2.0, 4.0)
FACTOR = 0.5
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": tuple(0.002 * 2**k for k in range(6)),
    "medium": tuple(0.001 * 2**k for k in range(6)),
    "paper": tuple(0.0005 * 2 ** (k / 2) for k in range(18)),
}
RULE, FIXED, NONE = "gap", "fixed", "none"
MARGIN = 0.02


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"eval_every": 50, "eval_samples": 2000},
        "medium": {"eval_every": 100},
        "paper": {"batch_size": 256, "steps": 3000, "eval_every": 150},
    }[scale]
    shared |= {"together": True, "workers": 5, "partition": "by-class", "schedule": "cosine"}
    shared["lr"] = {"quick": 1e-2, "medium": 3e-3, "paper": 1e-3}[scale]
    whole: dict[str, dict[str, Any]] = {task: {} for task in TASKS}
    sizes = {"quick": SMALL, "medium": MEDIUM, "paper": whole}[scale]
    rows: list[Cell] = []
    for task, size in sizes.items():
        common = {"task": task, **TASKS[task], **shared, **size}
        rows += [
            {"rule": RULE, "size": f, "algorithm": "signsgd", **common, "choices": [{}]}
            for f in (FACTORS if task == TUNING else (FACTOR,))
        ]
        if task != TUNING:
            plain = {"algorithm": "noisy-signsgd", **common}
            fixed = [{"size": b, "options": {"noise_std": b}} for b in STDS[scale]]
            rows += [{"rule": FIXED, **plain, "choices": fixed}, {"rule": NONE, **plain, "choices": [_still()]}]
    return with_seeds(rows, {"quick": 5, "medium": 5, "paper": 5}[scale])


def _still() -> Cell:
    return {"size": 0.0, "options": {"noise_std": 0.0}}


def measure(cell: Cell, bench: Bench) -> Numbers:
    if cell["rule"] != RULE:
        return train(cell, bench)
    rule = partial(noise_from_gap, factor=cell["size"])
    return train(cell, bench, run_of=lambda setup, place: AdaptiveRun(setup, place, rule), kept=(*KEPT, "noise_std"))


def measure_together(cells: Sequence[Cell], bench: Bench) -> list[Numbers]:
    if cells[0]["rule"] != RULE:
        return train_together(cells, bench)
    rule = partial(noise_from_gap, factor=cells[0]["size"])
    return AdaptiveSweep([setup_of(cell) for cell in cells], rule).run(bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    tuning = where(records, task=TUNING, rule=RULE)
    factors = {f: where(tuning, size=f) for f in values(tuning, "size")}
    mine = factors[FACTOR]
    return [
        verdict(
            f"Tuning ({TUNING}): a factor of {FACTOR:g} is within {MARGIN:g} of every one of {len(factors)}",
            [
                *(above(f"over {f:g}", gain(mine, own), -MARGIN) for f, own in factors.items() if f != FACTOR),
                above("learned", learned(mine), 0.3),
            ],
            "test accuracy by factor: " + ", ".join(f"{f:g}: {finals(own)}" for f, own in factors.items()),
        ),
        *(_judged(where(records, task=task), task) for task in values(records, "task") if task != TUNING),
    ]


def _judged(records: Sequence[Record], task: str) -> Verdict:
    mine, fixed, none = (where(records, rule=rule) for rule in (RULE, FIXED, NONE))
    ended = [final(r, "noise_std") for r in mine]
    return verdict(
        f"Held out ({task}): b = {FACTOR:g}·rms of the gap is within {MARGIN:g} of the best fixed b, and better than "
        "none",
        [above("over the best fixed b", gain(mine, fixed), -MARGIN), above("over none", gain(mine, none), 0.0)],
        f"test accuracy with the rule {finals(mine)} (b ended at {min(ended):.2g} to {max(ended):.2g}), with the best "
        f"fixed b = {fixed[0]['size']:g} of the validation split {finals(fixed)}, without noise {finals(none)}",
    )


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for task in values(records, "task"):
        for rule in (RULE, NONE):
            own = where(records, task=task, rule=rule, size=FACTOR if rule == RULE else 0.0)
            if own:
                steps, centre, low, high = band(own, "test_accuracy")
                series.append(Series(f"{task}: {rule}", steps, centre, low, high, guide=rule == NONE))
    return plot(
        "Noise of half the gap's size",
        "test accuracy; dashed: without noise; bands over seeds",
        series,
        x_label="step",
        height=420,
    )


CLAIM = Claim(
    title="A rule for b from the measured gap",
    source="Beyond the papers; the gap is that of Chen, Chen, Sun, Wu, Hong, NeurIPS 2020",
    method="Five workers with two exclusive classes each, signSGD with b = ½·‖median − mean‖₂/√d of the workers' "
    "gradients, measured every 10 steps (`theory.noise_from_gap`), against the best of a sweep of fixed b, chosen "
    "on the validation split. The factor was chosen on digits with the mlp, the least of those within half a point "
    "of the best; MNIST with mlp, deep (three hidden layers of 64) and cnn (paper scale) and CIFAR-10 with mlp were "
    "held out, though results of MNIST with the mlp at a factor of 1 were known when the least was preferred. "
    "Half-cosine rate, one start value for all. Quick scale: 40 to 60 images of each class, made smaller, full "
    "batches, 200 steps, sweep in factors of 2; medium scale: 1000 images of each class, batches of 128, 1000 "
    "steps; paper scale: all images, batches of 256, 3000 steps, factors of √2.",
    cells=cells,
    measure=measure,
    measure_together=measure_together,
    judge=judge,
    draw=draw,
    needs=("mnist", "cifar10"),
    nulls={"no step": standing},
    tuning=Tuning(final, seeds=2),
    scales=SCALES,
    pace=0.025,
)
