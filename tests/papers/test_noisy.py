"""Noise around the algorithms: Chen et al. 2020, Algorithms 3 and 4, and its two positions and two scales."""

import pytest
import torch

from gradvote.algorithms import create, dist_ef_sgdm, dropsignsgd, lion, mediansgd, noisy, sgd, signsgd, signum
from gradvote.core import Algorithm
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
