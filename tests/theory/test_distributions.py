"""The formulas against the library's own quantile functions."""

import pytest
import torch

from gradvote.kernels.quantiles import QUANTILES, quantile
from gradvote.theory.distributions import DISTRIBUTIONS, distribution_named
from gradvote.theory.quadrature import integrate

WORDS = torch.arange(0, 2**32, 2**20 - 1)


def test_every_noise_of_the_library_has_a_formula() -> None:
    assert set(DISTRIBUTIONS) == set(QUANTILES)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_cdf_inverts_the_quantiles(name: str) -> None:
    p = (WORDS.double() + 0.5) / 2**32
    assert (DISTRIBUTIONS[name].cdf(quantile(name, WORDS).double()) - p).abs().max() < 1e-6


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_density_has_mass_one_mean_zero_variance_one(name: str) -> None:
    noise = DISTRIBUTIONS[name]
    ends = torch.tensor([[-noise.reach], [noise.reach]], dtype=torch.float64)
    kinks = torch.tensor([noise.kinks], dtype=torch.float64) if noise.kinks else None
    moments = [float(integrate(lambda x, k=k: noise.pdf(x) * x**k, *ends, kinks)) for k in range(3)]
    assert moments == pytest.approx([1, 0, 1], abs=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_density_is_the_slope_of_the_cdf(name: str) -> None:
    x = torch.linspace(-1.7, 1.7, 100).double()
    slope = (DISTRIBUTIONS[name].cdf(x + 1e-5) - DISTRIBUTIONS[name].cdf(x - 1e-5)) / 2e-5
    assert torch.allclose(slope, DISTRIBUTIONS[name].pdf(x), atol=1e-8)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'laplace'"):
        distribution_named("laplas")
