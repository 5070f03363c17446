"""Where noisy medianSGD and noisy signSGD come to rest on Chen et al.'s Figure 1 problem, gaussian noise of size b.

The numbers are from quadrature: E[median(x − a_i + bξ_i)] = 0, and P(vote > 0) = 1/2. 13/3 is the true optimum. A
coordinate is a replica of the run: all replicas are one call.
"""

import math

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import mediansgd, noisy, signsgd
from gradvote.core import Algorithm
from tests.papers.play import play

A = torch.tensor([1.0, 2.0, 10.0])[:, None, None]
NOISY_MEDIAN = {0.5: 2.0251, 1: 2.1996, 2: 2.6958, 5: 3.7521, 10: 4.1617, 20: 4.2885, 50: 4.3261, 100: 4.3315}
NOISY_SIGN = {0.5: 2.0137, 1: 2.1725, 2: 2.6540, 5: 3.7667, 10: 4.1732, 20: 4.2920, 50: 4.3267, 100: 4.3317}
QUICK, ALL = (1, 10), tuple(NOISY_MEDIAN)
BURN_IN, STEPS, REPLICAS = 150, 250, 4096


def gradients(x: Tensor, step: int) -> Tensor:
    return x - A


def vote(b: float) -> Algorithm:
    return noisy(signsgd(zero="positive"), b)


def direction_at(algorithm: Algorithm, x: float, replicas: int = 2**16) -> tuple[float, float]:
    """Mean direction at x and its standard error."""
    start = torch.full((replicas // 2**14, 2**14), x)
    moved = start - next(play(algorithm, gradients, start, 1.0, 1))
    return float(moved.mean()), float(moved.std()) / math.sqrt(replicas)


def average_of_iterates(algorithm: Algorithm, start: float, rate: float, steps: int) -> tuple[float, float]:
    """The average over replicas and over the iterates after the first ones, and its standard error."""
    total = torch.zeros(1, REPLICAS)
    for step, x in enumerate(play(algorithm, gradients, torch.full((1, REPLICAS), start), rate, BURN_IN + steps)):
        if step >= BURN_IN:
            total += x
    average = total / steps
    return float(average.mean()), float(average.std()) / math.sqrt(REPLICAS)


@pytest.mark.parametrize("b", ALL)
def test_noisy_median_rests_there(b: float) -> None:
    """E[median] is x minus a constant: an error in x is the same error in the mean direction."""
    mean, error = direction_at(noisy(mediansgd(), b), NOISY_MEDIAN[b])
    assert abs(mean) < 4 * error + 1e-4
    assert 4 * error < 0.02 * max(b, 1)


@pytest.mark.parametrize("b", ALL)
def test_noisy_sign_rests_there(b: float) -> None:
    mean, error = direction_at(vote(b), NOISY_SIGN[b])
    assert abs(mean) < 4 * error + 1e-4
    beyond, _ = direction_at(vote(b), NOISY_SIGN[b] + 0.05 * max(b, 1))
    assert beyond > 4 * error


def check_median(b: float, steps: int) -> None:
    average, error = average_of_iterates(noisy(mediansgd(), b), start=3.0, rate=0.1, steps=steps)
    assert abs(average - NOISY_MEDIAN[b]) < 4 * error + 1e-3


def check_sign(b: float, steps: int) -> None:
    """δ = 0.02b: the finite step shifts the average by O(δ)."""
    average, error = average_of_iterates(vote(b), start=NOISY_SIGN[b] + b / 4, rate=0.02 * b, steps=steps)
    assert abs(average - NOISY_SIGN[b]) < 4 * error + 0.02


@pytest.mark.parametrize("b", QUICK)
def test_averages_of_noisy_median_iterates(b: float) -> None:
    check_median(b, STEPS)


@pytest.mark.parametrize("b", QUICK)
def test_averages_of_noisy_sign_iterates(b: float) -> None:
    check_sign(b, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("b", ALL)
def test_averages_of_noisy_median_iterates_whole_table(b: float) -> None:
    check_median(b, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("b", ALL)
def test_averages_of_noisy_sign_iterates_whole_table(b: float) -> None:
    check_sign(b, 4000)
