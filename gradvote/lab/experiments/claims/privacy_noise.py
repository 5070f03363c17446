"""Chen et al.'s remark that noise for privacy may help convergence: accuracy against ε, the vote beside the mean."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gradvote.engines.simulation import Simulation
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
from gradvote.lab.experiments.training import final, finals, gain, learned, standing, train, with_seeds
from gradvote.lab.experiments.tuning import VALIDATION
from gradvote.lab.train import Run, RunFolder
from gradvote.lab.train.setup import Setup
from gradvote.privacy import Gaussian, epsilon_of
from gradvote.staging import device_of

DELTA, MAX_NORM = 1e-5, 1.0
SIGMAS = (0.0, 0.003, 0.03, 0.3, 5.0)
FAINT, PRIVATE = (0.003, 0.03, 0.3), 5.0
"""At 100 rounds the last one is worth ε = 10."""
RATES = {"signsgd": (0.003, 0.01, 0.03), "sgd": (0.1, 0.5, 2.0)}
VOTE, MEAN = "signsgd", "sgd"
MARGIN = 0.02


class PrivateRun(Run):
    """A run whose workers release their gradients under an account of unit "client", with noise of sigma·C."""

    def __init__(self, setup: Setup, place: RunFolder, sigma: float) -> None:
        self.privacy = Gaussian(sigma, MAX_NORM) if sigma else None
        super().__init__(setup, place)

    def _engine(self) -> Simulation:
        bound = None if self.privacy is not None or self.config.algorithm == VOTE else MAX_NORM  # a sign has no length
        device = device_of(list(self.models[0].parameters()))
        return Simulation(self.setup.protocol, self.config.workers, (), bound, device, self.privacy)


def cells(scale: Scale) -> list[Cell]:
    common: dict[str, Any] = {
        "data": "digits",
        "model": "mlp:hidden=[16]",
        "workers": 10,
        "partition": "by-class",
        "partition_options": {"classes_per_worker": 2, "redundancy": 2},
        "mode": "vectorized",
        "schedule": "cosine",
        "steps": 100,
        "eval_every": 50,
        **({"samples": 60} if scale == "quick" else {}),
    }
    rows = [
        {"algorithm": rule, "sigma": sigma, **common, "choices": [{"lr": lr} for lr in RATES[rule]]}
        for rule in (VOTE, MEAN)
        for sigma in SIGMAS
    ]
    return with_seeds(rows, {"quick": 3, "medium": 10, "paper": 20}[scale])


def measure(cell: Cell, bench: Bench) -> Numbers:
    return train(cell, bench, run_of=lambda setup, place: PrivateRun(setup, place, cell["sigma"]))


def epsilon(sigma: float, steps: int = 100) -> float:
    """What a run costs each worker."""
    return epsilon_of(sigma, steps, DELTA) if sigma else float("inf")


def judge(records: Sequence[Record]) -> list[Verdict]:
    votes, means = where(records, algorithm=VOTE), where(records, algorithm=MEAN)
    none, private = where(votes, sigma=0.0), where(votes, sigma=PRIVATE)
    faint = max((where(votes, sigma=s) for s in FAINT), key=lambda own: own[0][VALIDATION])
    sigma = faint[0]["sigma"]
    budget = f"ε = {epsilon(PRIVATE):.3g} at δ = {DELTA:g}"
    return [
        verdict(
            "Noise in front of the sign, as a mechanism for privacy adds it, helps the vote on data that differ",
            above("over the vote without noise", gain(faint, none), 0.0),
            f"test accuracy with σ = {sigma:g} {finals(faint)}, without noise {finals(none)}; but that much noise is "
            f"worth ε = {epsilon(sigma):.3g}, which protects nobody",
        ),
        verdict(
            f"So much noise as gives {budget} for each client helps the vote",
            above("over the vote without noise", gain(private, none), 0.0),
            f"test accuracy {finals(private)}, without noise {finals(none)}",
        ),
        verdict(
            f"At {budget} the vote is within {MARGIN:g} of the mean of the same noisy updates, at a 32nd of the bits",
            [
                above("over the mean", gain(private, where(means, sigma=PRIVATE)), -MARGIN),
                above("learned", learned(private), 0.05),
            ],
            f"test accuracy of the vote {finals(private)}, of the mean {finals(where(means, sigma=PRIVATE))}, of the "
            f"mean without noise {finals(where(means, sigma=0.0))}",
        ),
    ]


def draw(records: Sequence[Record]) -> Figure:
    series = []
    for rule in (VOTE, MEAN):
        own = where(records, algorithm=rule)
        sigmas = [s for s in values(own, "sigma") if s]
        ends = [finals(where(own, sigma=s)) for s in sigmas]
        low, high = ([e.value + sign * e.half for e in ends] for sign in (-1, 1))
        series.append(Series(rule, [epsilon(s) for s in sigmas], [e.value for e in ends], low, high))
        still = finals(where(own, sigma=0.0)).value
        edge = [epsilon(sigmas[0]), epsilon(sigmas[-1])]
        series.append(Series(f"{rule}, no noise", edge, [still, still], guide=True))
    return plot("Accuracy against privacy", "test accuracy", series, x_label="epsilon of a client", log_x=True)


CLAIM = Claim(
    title="Noise for privacy, and what it does to the vote",
    source="Chen, Chen, Sun, Wu, Hong, NeurIPS 2020, the remark on differential privacy",
    method="Digits, a net of one hidden layer of 16, ten clients with two classes each, each class with two clients; "
    "whole gradients of a client, bounded to norm 1, with Gaussian noise of σ, 100 steps, a rate that falls as a half "
    "cosine and was chosen for each σ on the validation split, as was the σ that helps most. Votes by signSGD, means "
    "by SGD, of the same releases. ε is exact, for adding or removing a client, against whoever sees its ballots. "
    "Quick scale: 60 images of each "
    "class, 3 seeds; medium: all, 10 seeds; paper: 20 seeds.",
    cells=cells,
    measure=measure,
    judge=judge,
    draw=draw,
    nulls={"no step": standing},
    tuning=Tuning(final, seeds=1),
    scales=SCALES,
    pace=0.01,
)
