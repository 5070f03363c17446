"""Chen et al., Figure 2: with exclusive classes signSGD and medianSGD stall; noise or sub-sampling mends it."""

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
from gradvote.lab.experiments.training import (
    band,
    final,
    finals,
    gain,
    learned,
    preferred,
    standing,
    train,
    with_seeds,
)

NONE, SAMPLED, PAPER_S = "none", "sub-sampling", "b = 1e-3"
STDS: dict[Scale, tuple[float, ...]] = {
    "quick": (1e-3, 1e-2, 1e-1),
    "medium": (1e-3, 1e-2, 1e-1),
    "paper": (1e-5, 1e-3, 1e-2, 1e-1),
}
RATES: dict[str, dict[Scale, tuple[float, ...]]] = {
    "signsgd": {"quick": (3e-3, 1e-2), "medium": (3e-4, 1e-3, 3e-3), "paper": (1.0, 1e-1, 1e-2, 1e-3, 1e-4)},
    "mediansgd": {"quick": (0.3, 1.0), "medium": (0.03, 0.1, 0.3), "paper": (1.0, 1e-1, 1e-2, 1e-3)},
}
SMALLER = 5
"""Workers of a second, smaller crew at medium scale: the best b, chosen there, against none."""
MARGIN = 0.05


def cells(scale: Scale) -> list[Cell]:
    shared: dict[str, Any] = {
        "quick": {"data": "digits", "workers": 5, "samples": 60, "steps": 400, "eval_every": 50},
        "medium": {"data": "mnist", "workers": 9, "samples": 100, "steps": 10000, "eval_every": 500},
        "paper": {"data": "mnist", "workers": 5, "steps": 50000, "eval_every": 250},
    }[scale]
    shared["together"] = True
    rows = [{"method": m, "setting": s, **own, **shared} for m in RATES for s, own in _settings(m, scale).items()]
    if scale == "medium":
        rows += [{"method": m, **own, **shared, "workers": SMALLER} for m in RATES for own in _smaller(m)]
    return with_seeds(rows, {"quick": 6, "medium": 5, "paper": 3}[scale])


def _settings(method: str, scale: Scale) -> dict[str, Cell]:
    rates = [{"lr": lr} for lr in RATES[method][scale]]
    batch = 128 if scale == "paper" else 2
    plain = {"algorithm": method, "choices": rates}
    noisy = {_named(b): {**_noisy(method, b), "choices": rates, "compared": True} for b in STDS[scale]}
    return {NONE: {**plain, "batch_size": None}, **noisy, SAMPLED: {**plain, "batch_size": batch}}


def _smaller(method: str) -> list[Cell]:
    rates = RATES[method]["medium"]
    both = [{**_noisy(method, b), "lr": lr} for b in STDS["medium"] for lr in rates]
    plain = {"setting": NONE, "algorithm": method, "choices": [{"lr": lr} for lr in rates]}
    return [plain, {"setting": "best b", "choices": both}]


def _noisy(method: str, b: float) -> Cell:
    return {"algorithm": f"noisy-{method}", "options": {"noise_std": b}}


def _named(b: float) -> str:
    return f"b = {b:.0e}".replace("e-0", "e-")


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench)


def judge(records: Sequence[Record]) -> list[Verdict]:
    kind = Outcome.IN_KIND if "samples" in records[0].cell else Outcome.REPRODUCED
    crew = where(records, workers=records[0]["workers"])
    few = where(records, workers=SMALLER) if records[0]["workers"] != SMALLER else []
    found = [v for method in RATES for v in _judged(where(crew, method=method), method, kind)]
    return found + [_again(where(few, method=method), method, kind) for method in RATES if few]


def _judged(records: Sequence[Record], method: str, kind: Outcome) -> list[Verdict]:
    runs = {s: where(records, setting=s) for s in values(records, "setting")}
    noisy = preferred([r for r in records if r["setting"].startswith("b =")], "setting")
    best, none = noisy[0]["setting"], runs[NONE]
    said = "; ".join(f"{s}: {finals(own)} (η = {own[0]['lr']:g})" for s, own in runs.items())
    calmer = gain(none, noisy, "grad_norm")
    return [
        verdict(
            f"{method} without noise stalls on exclusive classes, with noise it learns",
            above(f"{best}, gain", gain(noisy, none), MARGIN),
            f"test accuracy: {said}; {best} is the best on validation data",
            at_best=kind,
            paper="0.35–0.4 → 0.85–0.9",
        ),
        verdict(
            f"{method} learns by sub-sampling as well",
            above("gain", gain(runs[SAMPLED], none), MARGIN),
            f"{finals(runs[SAMPLED])} against {finals(none)}",
            at_best=kind,
            paper="0.35–0.4 → 0.85–0.9",
        ),
        verdict(
            f"{method}: the paper's b = 1e-3 is enough",
            above("gain", gain(runs[PAPER_S], none), MARGIN),
            f"{finals(runs[PAPER_S])} against {finals(none)} without noise",
            at_best=kind,
            paper="b = 1e-3",
        ),
        verdict(
            f"{method}: the gradient of the objective stays large without noise, with noise it does not",
            [above("‖∇f‖, less with noise", calmer, 0.0), above(f"{best}, learned", learned(noisy), 0.3)],
            f"‖∇f‖ at the end: {finals(none, 'grad_norm')} without, {finals(noisy, 'grad_norm')} with {best}",
            at_best=kind,
            paper="flat near 10",
        ),
    ]


def _again(records: Sequence[Record], method: str, kind: Outcome) -> Verdict:
    none, noisy = where(records, setting=NONE), where(records, setting="best b")
    b = noisy[0]["options"]["noise_std"]
    return verdict(
        f"{method}: noise helps five workers too",
        above(f"b = {b:g}, gain", gain(noisy, none), MARGIN),
        f"test accuracy {finals(noisy)} with b = {b:g}, chosen on validation data, against {finals(none)}",
        at_best=kind,
        paper="0.35–0.4 → 0.85–0.9",
    )


def draw(records: Sequence[Record]) -> Figure:
    return _curves(records, "signsgd", "test_accuracy", "signSGD with and without noise", "test accuracy")


def draw_training(records: Sequence[Record]) -> Figure:
    return _curves(records, "mediansgd", "train_accuracy", "medianSGD in training", "training accuracy")


def draw_gradients(records: Sequence[Record]) -> Figure:
    return _curves(records, "mediansgd", "grad_norm", "medianSGD, gradients of the objective", "‖∇f‖")


def _curves(records: Sequence[Record], method: str, key: str, title: str, what: str) -> Figure:
    series, mine = [], where(records, method=method, workers=records[0]["workers"])
    for setting in values(mine, "setting"):
        steps, centre, low, high = band(where(mine, setting=setting), key)
        series.append(Series(setting, steps, centre, low, high))
    return plot(
        f"Exclusive classes: {title}",
        f"{what} on {records[0]['data']}; band over seeds",
        series,
        x_label="step",
        y_limits=(0, 1) if key.endswith("accuracy") else None,
    )


CLAIM = Claim(
    title="Figure 2: exclusive classes, with and without noise",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, Figure 2",
    method="Workers with one or two classes each that nobody else has, full local gradients, one hidden layer of "
    f"128, constant rate, chosen on the validation split. A gap is one of {MARGIN:g} or more. Quick scale: digits of "
    "8×8 pixels (64-128-10, 600 images, 400 steps, batches of 2, the paper's 1 % of a worker's images), M = 5; "
    "medium scale: MNIST (784-128-10), 100 images of each class, 10,000 steps, M = 9, and the best b at M = 5, "
    "rates chosen in 1000 steps; paper scale: 60,000 images less the validation split, 50,000 steps, batches of "
    "128, M = 5 for the paper's even 10.",
    cells=cells,
    measure=measure,
    measure_together=train_together,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final, instead={"medium": {"steps": 1000, "eval_every": 1000}}),
    scales=SCALES,
    pace=0.019,
    pictures={"training": draw_training, "gradients": draw_gradients},
)
