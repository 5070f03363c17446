"""Exact laws against the published table, against each other, and against the library's own draws."""

import math

import pytest
import torch
from torch import Tensor

from gradvote import kernels
from gradvote.rng import Draw
from gradvote.theory import (
    expected_noisy_median,
    median_mean_gap,
    noisy_median_density,
    noisy_median_variance,
    noisy_vote_probability,
)
from gradvote.theory.distributions import DISTRIBUTIONS
from gradvote.theory.quadrature import integrate

U = torch.tensor([1.0, 2.0, 10.0])
NAMES = sorted(DISTRIBUTIONS)
DRAWS = 40_000


def noisy(u: Tensor, b: float, name: str) -> Tensor:
    """u_i + bξ_i (M, DRAWS), drawn by the library's kernels."""
    sender = torch.arange(len(u))[:, None]
    draw = Draw(123, torch.zeros(1, dtype=torch.int64), sender)
    return kernels.add_noise(u[:, None, None].expand(-1, 1, DRAWS), b, draw, name)[:, 0].double()


@pytest.mark.parametrize(
    ("b", "expected"),
    [(0.5, 2.0251), (1, 2.1996), (2, 2.6958), (5, 3.7521), (10, 4.1617), (20, 4.2885), (50, 4.3261), (100, 4.3315)],
)
def test_expected_median_of_the_papers_example(b: float, expected: float) -> None:
    assert float(expected_noisy_median(U, b)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("b", [0.05, 0.7, 20.0])
def test_moments_and_votes_agree_with_simulation(name: str, num: int, b: float) -> None:
    u = torch.tensor([-2.0, 0.1, 0.3, 1.0, 1.1, 4.0, 4.0])[:num]
    x = noisy(u, b, name)
    middle = x.quantile(0.5, dim=0)
    error = 5 * float(middle.std()) / math.sqrt(DRAWS)
    assert float(expected_noisy_median(u, b, name)) == pytest.approx(float(middle.mean()), abs=error)
    if num % 2:
        assert float(noisy_median_variance(u, b, name)) == pytest.approx(float(middle.var()), rel=0.06)
    votes = x.sign().sum(0).sign()
    assert float(noisy_vote_probability(u, b, name)) == pytest.approx(float((votes + 1).mean() / 2), abs=0.013)


@pytest.mark.parametrize("name", NAMES)
def test_the_density_has_the_same_mass_mean_and_variance(name: str) -> None:
    b, kinks = 3.0, torch.cat([U + 3.0 * t for t in DISTRIBUTIONS[name].kinks or (0.0,)])[None].double()
    low, high = torch.tensor([[-60.0], [90.0]]).double()

    def moment(k: int) -> float:
        return float(integrate(lambda z: (noisy_median_density(U, b, z[0], name) * z[0] ** k)[None], low, high, kinks))

    mean = float(expected_noisy_median(U, b, name))
    assert moment(0) == pytest.approx(1, abs=1e-7)
    assert moment(1) == pytest.approx(mean, abs=1e-6)
    assert moment(2) - mean**2 == pytest.approx(float(noisy_median_variance(U, b, name)), abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_symmetry_shift_and_scale(name: str) -> None:
    expected = expected_noisy_median(U, 2.0, name)
    assert torch.allclose(expected_noisy_median(-U, 2.0, name), -expected, atol=1e-12)
    assert torch.allclose(expected_noisy_median(U * 3 + 1, 6.0, name), expected * 3 + 1, atol=1e-11)
    assert torch.allclose(noisy_median_variance(U * 3 + 1, 6.0, name), noisy_median_variance(U, 2.0, name) * 9)
    assert torch.allclose(noisy_vote_probability(-U, 2.0, name), 1 - noisy_vote_probability(U, 2.0, name))


def test_one_worker_is_the_noise_itself() -> None:
    u = torch.tensor([[0.5]])
    assert torch.allclose(expected_noisy_median(u, 2.0), u[0].double())
    assert torch.allclose(noisy_median_variance(u, 2.0), torch.tensor([4.0]).double())


def test_coordinates_are_independent_and_keep_their_shape() -> None:
    u = torch.randn(5, 3, 50, generator=torch.Generator().manual_seed(1))
    whole = expected_noisy_median(u, 0.3)
    assert whole.shape == (3, 50)
    assert torch.allclose(whole[1, 7], expected_noisy_median(u[:, 1, 7], 0.3), atol=1e-12)
    assert expected_noisy_median(torch.zeros(3, 0), 0.3).shape == (0,)


def test_without_noise_it_is_the_median_and_the_vote() -> None:
    u = torch.tensor([[1.0, -1.0, 0.0, 3.0], [2.0, -2.0, 0.0, -3.0]])
    assert expected_noisy_median(u, 0).tolist() == [1.5, -1.5, 0.0, 0.0]
    assert noisy_vote_probability(u, 0).tolist() == [1.0, 0.0, 0.5, 0.5]
    assert noisy_median_variance(U, 0).item() == 0
    assert median_mean_gap(u[:, :1]).item() == 0
    assert median_mean_gap(U).item() == pytest.approx(2 - 13 / 3)


def test_the_gap_closes_and_the_noise_of_equal_values_leaves_none() -> None:
    gaps = [abs(float(expected_noisy_median(U, b)) - 13 / 3) for b in (1, 10, 100, 1000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4
    assert float(expected_noisy_median(torch.full((5,), 0.25), 1e4)) == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_noisy_median(U, -1.0), "not negative"),
        (lambda: expected_noisy_median(U, 1.0, "gauss"), "gaussian"),
        (lambda: expected_noisy_median(torch.tensor(1.0), 1.0), "worker axis"),
        (lambda: noisy_vote_probability(torch.tensor([math.nan]), 1.0), "finite"),
        (lambda: noisy_median_variance(torch.zeros(2), 1.0), "odd number"),
        (lambda: noisy_median_density(U, 0.0, torch.zeros(1)), "needs noise"),
    ],
)
def test_mistakes_are_explained(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
