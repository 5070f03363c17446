"""Chen et al. 2020, Figure 1: f(x) = (1/3)Σ(x − a_i)²/2 with a = (1, 2, 10), δ = 0.001, from x₀ = 0.0005.

The mean gradient is x − 13/3, the median gradient x − 2. Theorem 3's instance is this construction.
"""

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import mediansgd, sgd, signsgd
from tests.papers.play import play

A = torch.tensor([1.0, 2.0, 10.0], dtype=torch.float64)[:, None, None]
START = torch.full((1, 1), 0.0005, dtype=torch.float64)
DELTA = 0.001


def gradients(x: Tensor, step: int) -> Tensor:
    return x - A


def test_signsgd_alternates_around_the_median() -> None:
    """x_t = 0.0005 + 0.001·t up to t = 1999; from there on 1.9995 and 2.0005 in turn."""
    iterates = [float(x) for x in play(signsgd(zero="positive"), gradients, START, DELTA, 2020)]
    for t, x in enumerate(iterates, start=1):
        expected = 0.0005 + 0.001 * t if t <= 1999 else (2.0005 if t % 2 == 0 else 1.9995)
        assert x == pytest.approx(expected, abs=1e-9)
    assert abs(iterates[2018] - 13 / 3) == pytest.approx(2.3338, abs=5e-5)
    assert abs(iterates[2019] - 13 / 3) == pytest.approx(2.3328, abs=5e-5)


def test_mediansgd_goes_to_the_median() -> None:
    """|median gradient| = 1.9995·0.999^t, so that |mean gradient| → 7/3."""
    iterates = [float(x) for x in play(mediansgd("float64"), gradients, START, DELTA, 1500)]
    for t, x in enumerate(iterates, start=1):
        assert abs(x - 2) == pytest.approx(1.9995 * 0.999**t, rel=1e-10)
    last = next(reversed(list(play(mediansgd("float64"), gradients, START + 2, 0.5, 60))))
    assert abs(float(last) - 13 / 3) == pytest.approx(7 / 3, rel=1e-12)


def test_sgd_goes_to_the_mean() -> None:
    *_, last = play(sgd(dtype="float64"), gradients, START, 0.5, 60)
    assert float(last) == pytest.approx(13 / 3, rel=1e-12)
