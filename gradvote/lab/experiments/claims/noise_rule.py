"""Beyond the papers: b chosen during training, half as large as the measured gap between median and mean."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from gradvote.lab.experiments.adaptive import AdaptiveRun, AdaptiveSweep
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
from gradvote.lab.experiments.statistics import Estimate
from gradvote.lab.experiments.sweep import train_together
from gradvote.lab.experiments.training import KEPT, final, finals, gain, setup_of, train, with_seeds
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

FACTORS = (0.5, 1.0, 2.0, 4.0)
FACTOR = 0.5
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (0.0, *(0.002 * 2**k for k in range(6))),
    "paper": (0.0, *(0.0005 * 2 ** (k / 2) for k in range(18))),
}
RULE, FIXED = "gap", "fixed"
HALF_A_POINT = 0.005


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"together": True, "eval_every": 50, "lr": 1e-2, "eval_samples": 2000},
        "paper": {"batch_size": 256, "steps": 3000, "eval_every": 150, "lr": 1e-3},
    }[scale]
    shared |= {"workers": 5, "partition": "by-class", "schedule": "cosine"}
    rows = []
    for task in TASKS if scale == "paper" else SMALL:
        common = {"task": task, **TASKS[task], **shared, **(SMALL[task] if scale == "quick" else {})}
        factors = FACTORS if task == TUNING else (FACTOR,)
        rows += [{"rule": RULE, "size": f, "algorithm": "signsgd", **common} for f in factors]
        rows += [
            {"rule": FIXED, "size": b, "algorithm": "noisy-signsgd", "options": {"noise_std": b}, **common}
            for b in STDS[scale]
        ]
    return with_seeds(rows, {"quick": 3, "paper": 5}[scale])


def measure(cell: Cell, bench: Bench) -> Numbers:
    if cell["rule"] == FIXED:
        return train(cell, bench)
    rule = partial(noise_from_gap, factor=cell["size"])
    return train(cell, bench, run_of=lambda setup, place: AdaptiveRun(setup, place, rule), kept=(*KEPT, "noise_std"))


def measure_together(cells: Sequence[Cell], bench: Bench) -> list[Numbers]:
    if cells[0]["rule"] == FIXED:
        return train_together(cells, bench)
    rule = partial(noise_from_gap, factor=cells[0]["size"])
    return AdaptiveSweep([setup_of(cell) for cell in cells], rule).run(bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    tuning = where(records, task=TUNING, rule=RULE)
    factors = {f: finals(where(tuning, size=f)) for f in values(tuning, "size")}
    return [
        verdict(
            f"Tuning ({TUNING}): a factor of {FACTOR:g} is within half a point of the best of {len(factors)}",
            factors[FACTOR].value >= max(e.value for e in factors.values()) - HALF_A_POINT,
            "test accuracy by factor: " + ", ".join(f"{f:g}: {e}" for f, e in factors.items()),
        ),
        *(_judged(where(records, task=task), task) for task in values(records, "task") if task != TUNING),
    ]


def _judged(records: Sequence[Record], task: str) -> Verdict:
    fixed = where(records, rule=FIXED)
    swept = {b: finals(where(fixed, size=b)) for b in values(fixed, "size")}
    chosen = max(swept, key=lambda b: swept[b].value)
    mine = where(records, rule=RULE, size=FACTOR)
    reached, ended = finals(mine), [final(r, "noise_std") for r in mine]
    gained = gain(mine, where(fixed, size=chosen))
    return Verdict(
        f"Held out ({task}): b = {FACTOR:g}·rms of the gap is within half a point of the best of {len(swept)} fixed b, "
        "or above",
        _outcome(gained),
        f"test accuracy with the rule {reached} (b ended at {min(ended):.2g} to {max(ended):.2g}), with the best fixed "
        f"b = {chosen:g}, chosen on the same test data: {swept[chosen]}, without noise {swept[0.0]}; seed by seed the "
        f"rule gains {gained}",
    )


def _outcome(gained: Estimate) -> Outcome:
    """Reproduced where the whole interval is above minus half a point, in kind where its centre is."""
    if gained.low >= -HALF_A_POINT:
        return Outcome.REPRODUCED
    return Outcome.IN_KIND if gained.value >= -HALF_A_POINT else Outcome.NOT


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for task in values(records, "task"):
        fixed = [r for r in where(records, task=task, rule=FIXED) if r["size"] > 0]
        stds = values(fixed, "size")
        series.append(Series(task, stds, [finals(where(fixed, size=b)).value for b in stds]))
        level = finals(where(records, task=task, rule=RULE, size=FACTOR)).value
        series.append(Series(f"{task}: rule", [stds[0], stds[-1]], [level, level], guide=True))
    return plot(
        "Noise of half the gap's size",
        "final test accuracy against a fixed b; dashed: b measured while training",
        series,
        x_label="b (log scale)",
        log_x=True,
        height=420,
    )


CLAIM = Claim(
    title="A rule for b from the measured gap",
    source="Beyond the papers; the gap is that of Chen, Chen, Sun, Wu, Hong, NeurIPS 2020",
    method="Five workers with two exclusive classes each, signSGD with b = ½·‖median − mean‖₂/√d of the workers' "
    "gradients, measured every 10 steps (`theory.noise_from_gap`), against a sweep of fixed b, whose best is "
    "chosen on the same test data. The factor was chosen on digits with the mlp, the least of those within half "
    "a point of the best; MNIST with mlp, deep (three hidden layers of 64) and cnn (paper scale) and CIFAR-10 "
    "with mlp were held out, though results of MNIST with the mlp at a factor of 1 were known when the least "
    "was preferred. Half-cosine rate, one start value for all. Quick scale: 40 to 60 images of each class, made "
    "smaller, full batches, 200 steps, sweep in factors of 2; paper scale: all images, batches of 256, "
    "3000 steps, factors of √2.",
    cells=cells,
    measure=measure,
    measure_together=measure_together,
    judge=judge,
    draw=draw,
    needs=("mnist", "cifar10"),
)
