"""Compiled noise, and noise then signs in one pass, give the bits of the definitions."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradvote.kernels import quantiles, reference
from gradvote.kernels.cpu import noisy
from tests.kernels.inputs import DTYPES, coordinates, draw_for, layouts, same, seeds, shapes, sizes

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
distributions = st.sampled_from(sorted(quantiles.QUANTILES))


@patient
@given(shape=shapes, n=sizes, distribution=distributions, layout=layouts, seed=seeds)
def test_noisy_signs(shape: tuple[int, ...], n: int, distribution: str, layout: str, seed: int) -> None:
    x, draw = coordinates((*shape, n), torch.float32, seed, layout), draw_for(shape, seed)
    for std in (0.0, 0.7, torch.rand(shape)):
        for zeros in (True, False, draw_for(shape, seed + 1)):
            words, valid = noisy.noisy_pack_signs(x, std, draw, distribution, zeros)
            expected_words, expected_valid = reference.noisy_pack_signs(x, std, draw, distribution, zeros)
            assert torch.equal(words, expected_words.expand_as(words))
            assert torch.equal(valid, expected_valid.expand_as(valid))


@patient
@given(shape=shapes, n=sizes, distribution=distributions, layout=layouts, seed=seeds)
def test_noise_added(shape: tuple[int, ...], n: int, distribution: str, layout: str, seed: int) -> None:
    x, draw = coordinates((*shape, n), torch.float32, seed, layout), draw_for(shape, seed)
    assert same(noisy.noise(draw, n, distribution), reference.noise(draw, n, distribution))
    for std in (0.0, 1e-3, torch.rand(shape)):
        expected = reference.add_noise(x, std, draw, distribution)
        assert same(noisy.add_noise(x, std, draw, distribution), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format(dtype: torch.dtype) -> None:
    x, draw = coordinates((2, 3, 321), dtype, seed=3), draw_for((2, 3), 4)
    assert same(noisy.add_noise(x, 0.1, draw, "gaussian"), reference.add_noise(x, 0.1, draw, "gaussian"))
    for result, expected in zip(
        noisy.noisy_pack_signs(x, 0.1, draw, "gaussian", draw),
        reference.noisy_pack_signs(x, 0.1, draw, "gaussian", draw),
        strict=True,
    ):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("distribution", sorted(quantiles.QUANTILES))
def test_many_draws(distribution: str) -> None:
    """Enough for the rare branches and every exponent of the tails."""
    draw = draw_for((4,), 8)
    assert same(noisy.noise(draw, 300_001, distribution), reference.noise(draw, 300_001, distribution))


@pytest.mark.parametrize("std", [torch.inf, torch.nan, 3e38])
def test_noise_out_of_range_is_flagged(std: float) -> None:
    x, draw = torch.ones(2, 70), draw_for((2,), 8)
    for result, expected in zip(
        noisy.noisy_pack_signs(x, std, draw, "laplace", False),
        reference.noisy_pack_signs(x, std, draw, "laplace", False),
        strict=True,
    ):
        assert torch.equal(result, expected)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'laplace'"):
        noisy.noise(draw_for((), 1), 5, "laplac")
