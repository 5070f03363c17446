from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradvote import theory
from gradvote.theory import expected_alignment, median_mean_gap, noise_from_gap, noisy_vote_probability, suggest_noise


def test_equal_gradients_need_no_noise(generator: torch.Generator) -> None:
    gradient = torch.randn(300, generator=generator)
    assert suggest_noise(gradient.expand(5, -1)) == 0
    assert expected_alignment(gradient.sign().expand(5, -1), 0.0) == pytest.approx(1)


def test_where_the_vote_leads_uphill_noise_turns_it_round() -> None:
    gradients = torch.tensor([[1.0], [1.0], [-10.0]])
    assert expected_alignment(gradients, 0.0) == -1
    b = suggest_noise(gradients)
    assert 1 < b < 100
    assert expected_alignment(gradients, b) > 0


def test_it_is_the_best_of_a_fine_search(generator: torch.Generator) -> None:
    gradients = torch.randn(7, 200, generator=generator).exp() - 1.2
    b = suggest_noise(gradients)
    best = max(expected_alignment(gradients, float(c), "gaussian") for c in torch.logspace(-2, 1, 100))
    assert expected_alignment(gradients, b) > best - 0.002


def test_it_scales_with_the_gradients_and_sees_a_sample(generator: torch.Generator) -> None:
    gradients = torch.randn(5, 10_000, generator=generator).exp() - 1.2
    assert suggest_noise(gradients * 100) == pytest.approx(100 * suggest_noise(gradients), rel=1e-6)
    assert suggest_noise(gradients, num_coordinates=10_000) / suggest_noise(gradients) == pytest.approx(1, abs=0.5)


def test_alignment_is_the_expected_cosine(generator: torch.Generator) -> None:
    gradients = torch.randn(3, 40, generator=generator)
    vote = 2 * noisy_vote_probability(gradients, 0.7) - 1
    mean = gradients.double().mean(0)
    assert expected_alignment(gradients, 0.7) == pytest.approx(float(mean @ vote / mean.norm()) / 40**0.5)


def test_zero_gradients_and_mistakes() -> None:
    assert suggest_noise(torch.zeros(3, 4)) == 0
    assert suggest_noise(torch.zeros(3, 0)) == 0
    with pytest.raises(ValueError, match="gaussian"):
        suggest_noise(torch.ones(3, 4), "normal")
    with pytest.raises(ValueError, match="finite"):
        suggest_noise(torch.full((3, 4), torch.nan))


def test_noise_as_large_as_the_gap(generator: torch.Generator) -> None:
    assert noise_from_gap(torch.tensor([[1.0], [2.0], [10.0]])) == pytest.approx(7 / 6)
    gradients = torch.randn(5, 6, 7, generator=generator).exp()
    b = noise_from_gap(gradients, factor=1.0)
    assert b == pytest.approx(float(median_mean_gap(gradients).square().mean().sqrt()))
    assert noise_from_gap(gradients * 100, factor=0.5) == pytest.approx(50 * b, rel=1e-5)
    assert noise_from_gap(gradients[:1].expand(5, -1, -1)) == pytest.approx(0, abs=1e-15)
    assert noise_from_gap(torch.zeros(3, 0)) == 0


@pytest.mark.parametrize(
    ("gradients", "factor", "message"),
    [(torch.ones(3), 1.0, "shape"), (torch.full((3, 2), torch.inf), 1.0, "finite"), (torch.ones(3, 2), -1.0, "factor")],
)
def test_mistakes_about_the_gap(gradients: torch.Tensor, factor: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_from_gap(gradients, factor)


@pytest.mark.parametrize("kind", [tuple, list, np.asarray])
def test_gradients_come_as_any_sequence(kind: Callable[[Any], Any]) -> None:
    rows = ((1.0, 2.0), (1.5, -3.0), (0.0, 9.0))
    expected = torch.tensor(rows, dtype=torch.float64)
    given = kind(rows)
    assert torch.equal(theory.median_mean_gap(given), theory.median_mean_gap(expected))
    assert theory.noise_from_gap(given) == theory.noise_from_gap(expected)
    assert theory.suggest_noise([*expected]) == theory.suggest_noise(expected)
    assert torch.equal(theory.mixed_norm(rows[0], 0.5), theory.mixed_norm(expected[0], 0.5))


def test_what_are_no_numbers_is_said() -> None:
    with pytest.raises(ValueError, match="Numbers of one shape were expected, one entry for each worker"):
        theory.noise_from_gap("gradients")
