"""z-SignFedAvg, Tang, Wang, Chang 2024, Algorithm 1: Δ_i = sign(θ − θ_i + σξ_z); the step is η_zσ·mean(Δ_i)."""

import math

import pytest
import torch

from gradvote.algorithms import z_signfedavg
from gradvote.core import Context
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import NUMELS, Generator, Noise, Signs, Tensors, average

BLOCK = 16384


class ZSignFedAvg:
    """ξ_1 is a standard Gaussian; ξ_∞ is uniform on [−1, 1], of variance 1/3."""

    def __init__(self, sigma: float, z: float, zero: str) -> None:
        generator = Generator(BLOCK)
        self.eta = math.sqrt(math.pi / 2) if z == 1 else 1.0
        deviation, name = (1.0, "gaussian") if z == 1 else (1 / math.sqrt(3), "uniform")
        self.sigma, self.noise, self.sign = sigma, Noise(generator, sigma * deviation, name), Signs(generator, zero)

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        deltas = [self.sign(self.noise(g_i, t, i), t, i) for i, g_i in enumerate(g)]
        return [average([d[k] * (self.eta * self.sigma) for d in deltas]) for k in range(len(NUMELS))]


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
@pytest.mark.parametrize("z", [1.0, math.inf])
def test_equals_algorithm_1(num_workers: int, zero: str, z: float) -> None:
    assert_same(z_signfedavg(0.5, z, zero), ZSignFedAvg(0.5, z, zero), num_workers)  # type: ignore[arg-type]


@pytest.mark.parametrize(("z", "bias"), [(1.0, 0.2**2 / 6), (math.inf, 0.0)])
def test_the_signs_are_unbiased(z: float, bias: float) -> None:
    """E η_zσ·sign(x + σξ_z) = x: exactly for z = ∞, to |x/σ|²/6 for z = 1. That is what η_z is for."""
    algorithm, n = z_signfedavg(0.5, z), 400_000
    x, ctx = torch.full((1, n), 0.1), Context(0, 0, torch.zeros(1, dtype=torch.int64), 0)
    ballot, _ = algorithm.encode(x, algorithm.up.init(x), ctx)
    mean, error = float(algorithm.up.decode(ballot, ctx, n).mean()), 0.63 / math.sqrt(n)
    assert abs(mean - 0.1) < 0.1 * bias + 4 * error


def test_only_these_two() -> None:
    with pytest.raises(ValueError, match=r"z = 1 .* and z = inf .*; got 2"):
        z_signfedavg(z=2)
