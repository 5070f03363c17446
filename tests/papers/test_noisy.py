"""Noise around the algorithms: Chen et al. 2020, Algorithms 3 and 4, and its two positions and two scales."""

import math
from dataclasses import dataclass

import pytest
import torch

from gradvote.algorithms import create, dist_ef_sgdm, dropsignsgd, lion, mediansgd, noisy, sgd, signsgd, signum
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.recipes import first_of
from gradvote.schedules import Constant, Cosine, Schedule
from gradvote.transforms import Relative
from tests.papers.compare import FEW, WORKERS, Paper, assert_same
from tests.papers.shared import NUMELS, Generator, Noise, Tensors
from tests.papers.test_dist_ef_sgdm import DistEF
from tests.papers.test_dropsignsgd import DropSign
from tests.papers.test_lion import Lion
from tests.papers.test_mediansgd import MedianSGD
from tests.papers.test_sgd import SGD
from tests.papers.test_signsgd import SignSGD
from tests.papers.test_signum import Signum

DISTRIBUTIONS = ("gaussian", "laplace", "uniform", "logistic")


class NoisyGradients:
    """Each worker adds b·ξ to its gradient; the rest is the paper inside."""

    def __init__(self, inside: Paper, b: float, distribution: str = "gaussian") -> None:
        self.inside, self.noise = inside, Noise(Generator(), b, distribution)

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return self.inside.step([self.noise(g_i, t, i) for i, g_i in enumerate(g)], t, lr)


class RelativeNoise:
    """b_W = 0.1·(the workers' max|g_W|, combined) per tensor W; the first step uses the worker's own, the others the
    combined value of the step before."""

    def __init__(self, inside: Paper, combine: str) -> None:
        self.inside, self.combine, self.generator = inside, combine, Generator()
        self.agreed: list[torch.Tensor] | None = None

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        own = [[g_k.abs().max() for g_k in g_i] for g_i in g]
        noisy_g = []
        for i, g_i in enumerate(g):
            peaks, xi = self.agreed or own[i], self.generator.noise(t, i, "gaussian")
            noisy_g.append([a + (0.1 * peak) * z for a, peak, z in zip(g_i, peaks, xi, strict=True)])
        self.agreed = [self._together([o[k] for o in own]) for k in range(len(NUMELS))]
        return self.inside.step(noisy_g, t, lr)

    def _together(self, peaks: Tensors) -> torch.Tensor:
        ranked = torch.stack(peaks).sort().values
        if self.combine == "max":
            return ranked[-1]
        return (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2


@pytest.mark.parametrize(("num_workers", "distribution"), list(zip(WORKERS, DISTRIBUTIONS, strict=True)))
def test_noisy_signsgd(num_workers: int, distribution: str) -> None:
    paper = NoisyGradients(SignSGD(), 0.7, distribution)
    assert_same(noisy(signsgd(), 0.7, distribution), paper, num_workers, FEW)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_noisy_mediansgd(distribution: str) -> None:
    paper = NoisyGradients(MedianSGD(), 0.7, distribution)
    assert_same(noisy(mediansgd(), 0.7, distribution), paper, 4, FEW[:2])


@pytest.mark.parametrize(
    ("algorithm", "paper"),
    [
        (sgd(), SGD()),
        (signum(), Signum(4)),
        (lion(), Lion(4)),
        (dist_ef_sgdm(), DistEF(4)),
        (dropsignsgd(), DropSign(4)),
        (signsgd(zero="abstain"), SignSGD("abstain")),
    ],
    ids=["sgd", "signum", "lion", "dist-ef-sgdm", "dropsignsgd", "signsgd-abstain"],
)
def test_on_the_gradient(algorithm: Algorithm, paper: Paper) -> None:
    assert_same(noisy(algorithm, 0.3), NoisyGradients(paper, 0.3), 4, FEW)


class FallingNoise:
    """b_t·ξ with b_t = ½·(1 + cos(πt/6))/2, of the second worker half of that."""

    def __init__(self, inside: Paper) -> None:
        self.inside, self.generator = inside, Generator()

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        parts = [0.5, 0.25, 0.5]
        b = [part * (1 + math.cos(math.pi * min(t / 6, 1.0))) / 2 for part in parts]
        noisy_g = [Noise(self.generator, b[i], "gaussian")(g_i, t, i) for i, g_i in enumerate(g)]
        return self.inside.step(noisy_g, t, lr)


@dataclass(frozen=True)
class Falling(Schedule):
    """As above."""

    def __call__(self, step: int, sender: int) -> float:
        return Cosine(0.25 if sender == 1 else 0.5, 6)(step, sender)


@pytest.mark.parametrize("name", ["signsgd", "signum", "mediansgd"])
def test_noise_by_a_schedule(name: str) -> None:
    papers = {"signsgd": SignSGD(), "signum": Signum(3), "mediansgd": MedianSGD()}
    assert_same(noisy(create(name), Falling()), FallingNoise(papers[name]), 3, FEW)


def test_a_schedule_of_b_is_a_recipe_and_is_checked() -> None:
    algorithm = noisy(signsgd(), Cosine(0.5, 6))
    assert first_of(repr(algorithm)) == algorithm
    with pytest.raises(ValueError, match="must be finite and not negative; got -1"):
        Simulation(protocol_for([torch.zeros(3)], noisy(signsgd(), Constant(-1.0)), 0), 2).step(
            torch.ones(2, 3), 0, 1.0
        )


def _vote_noise() -> Noise:
    return Noise(Generator(), 0.3, "gaussian")


@pytest.mark.parametrize(
    ("algorithm", "paper"),
    [
        (signum(), Signum(4, noise=_vote_noise())),
        (lion(), Lion(4, noise=_vote_noise())),
        (dist_ef_sgdm(), DistEF(4, noise=_vote_noise())),
        (dropsignsgd(), DropSign(4, noise=_vote_noise())),
    ],
    ids=["signum", "lion", "dist-ef-sgdm", "dropsignsgd"],
)
def test_just_before_the_vote(algorithm: Algorithm, paper: Paper) -> None:
    """The noise is in what is signed (and in the scale), and not in momentum and memory."""
    assert_same(noisy(algorithm, 0.3, position="vote"), paper, 4, FEW)


def test_without_momentum_both_positions_are_one() -> None:
    assert noisy(signsgd(), 0.3, position="vote") == noisy(signsgd(), 0.3)


@pytest.mark.parametrize("combine", ["median", "max"])
@pytest.mark.parametrize("num_workers", WORKERS)
def test_relative_noise(num_workers: int, combine: str) -> None:
    algorithm = noisy(signsgd(), Relative(0.1, combine))  # type: ignore[arg-type]
    assert_same(algorithm, RelativeNoise(SignSGD(), combine), num_workers, FEW)


@pytest.mark.parametrize("name", ["signum", "dist-ef-sgdm", "dropsignsgd"])
def test_relative_noise_around_memories(name: str) -> None:
    papers = {"signum": Signum(3), "dist-ef-sgdm": DistEF(3), "dropsignsgd": DropSign(3)}
    algorithm = create(f"noisy-{name}", noise_std=Relative())
    assert_same(algorithm, RelativeNoise(papers[name], "median"), 3, FEW)
