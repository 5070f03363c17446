"""The quantile functions: exactly odd, finite, near the truth, and their draws distributed as they should be."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from torch import Tensor

from gradvote.kernels import noise
from gradvote.kernels.quantiles import QUANTILES, formula_of, quantile
from tests.kernels.inputs import draw_for

NAMES = sorted(QUANTILES)
TRUTH = {
    "gaussian": stats.norm(),
    "laplace": stats.laplace(scale=0.5**0.5),
    "logistic": stats.logistic(scale=3**0.5 / np.pi),
    "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5),
}
ERROR = {"gaussian": 1.6e-6, "laplace": 1.5e-6, "logistic": 1.5e-6, "uniform": 2e-7}
KURTOSIS = {"gaussian": 3.0, "laplace": 6.0, "logistic": 4.2, "uniform": 1.8}
EDGES = torch.tensor([0, 1, 2**22 - 1, 2**22, 2**31 - 1, 2**31, 2**32 - 2**22 - 1, 2**32 - 2, 2**32 - 1])
NUM_BINS = 4096


def lower_half(count: int = 1_000_000) -> Tensor:
    """Words below 2^31: evenly spread, and of every magnitude."""
    generator = torch.Generator().manual_seed(0)
    even = torch.randint(2**31, (count,), generator=generator)
    scaled = torch.exp2(31 * torch.rand(count, generator=generator, dtype=torch.float64)).long() - 1
    return torch.cat((EDGES[:5], even, scaled)).sort().values


@pytest.mark.parametrize("name", NAMES)
def test_words_and_their_complements_give_opposite_values(name: str) -> None:
    words = lower_half()
    assert torch.equal(quantile(name, words), -quantile(name, 2**32 - 1 - words))


@pytest.mark.parametrize("name", NAMES)
def test_near_the_exact_quantile(name: str) -> None:
    words = lower_half()
    exact = TRUTH[name].ppf((words.double().numpy() + 0.5) / 2**32)
    value = quantile(name, words).double().numpy()
    assert np.isfinite(value).all()
    assert np.abs(value - exact).max() < ERROR[name]
    assert np.diff(value).min() > -1.2e-6


@pytest.mark.parametrize("name", NAMES)
def test_moments_of_evenly_spread_words(name: str) -> None:
    """A word from the middle of each of 2^22 equal parts: the moments of the function itself, without chance."""
    lower = torch.arange(2**9, 2**31, 2**10)
    value = quantile(name, torch.cat((lower, 2**32 - 1 - lower))).double()
    assert abs(value.mean()) < 1e-12
    assert abs(value.square().mean() - 1) < 1e-5
    assert abs(value.pow(4).mean() - KURTOSIS[name]) < 2e-2


@pytest.mark.parametrize("name", NAMES)
def test_a_million_draws(name: str) -> None:
    check_draws(name, draws=1, size=1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_million_draws(name: str) -> None:
    check_draws(name, draws=25, size=4_000_000)


def check_draws(name: str, draws: int, size: int) -> None:
    """Moments, χ² and Kolmogorov–Smirnov over equally probable bins, and counts in the tails."""
    total, counts = draws * size, np.zeros(NUM_BINS)
    moments, thresholds = np.zeros(4), tails(name, total)
    beyond = np.zeros(len(thresholds))
    for seed in range(draws):
        xi = noise(draw_for((), 2 * seed + 1), size, name).double().numpy().ravel()
        moments += [np.mean(xi**power) / draws for power in (1, 2, 3, 4)]
        counts += np.histogram(TRUTH[name].cdf(xi), NUM_BINS, (0, 1))[0]
        beyond += [np.count_nonzero(np.abs(xi) > t) for t in thresholds]
    check_moments(name, moments, total)
    assert stats.chisquare(counts).pvalue > 1e-4
    distance = np.abs(np.cumsum(counts) / total - np.arange(1, NUM_BINS + 1) / NUM_BINS).max()
    assert special.kolmogorov(distance * total**0.5) > 1e-4
    for count, t in zip(beyond, thresholds, strict=True):
        assert stats.binomtest(int(count), total, 2 * TRUTH[name].sf(t)).pvalue > 1e-4


def check_moments(name: str, moments: NDArray[np.float64], total: int) -> None:
    """Each within 4.5 standard errors of its truth."""
    mean, square, cube, fourth = moments
    eighth = {"gaussian": 105, "laplace": 2520, "logistic": 685.8, "uniform": 9}[name]
    sixth = {"gaussian": 15, "laplace": 90, "logistic": 279 / 7, "uniform": 27 / 7}[name]
    truth = KURTOSIS[name]
    for found, expected, variance in (
        (mean, 0, 1),
        (square, 1, truth - 1),
        (cube, 0, sixth),
        (fourth, truth, eighth - truth**2),
    ):
        assert abs(found - expected) < 4.5 * (variance / total) ** 0.5


def tails(name: str, total: int) -> list[float]:
    """Where about 10^5, 10^4, … 100 and 10 of the draws should lie beyond."""
    expected = 10.0 ** np.arange(1, 6)
    return [float(TRUTH[name].isf(count / total / 2)) for count in expected]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no noise distribution named 'normal'"):
        formula_of("normal")
