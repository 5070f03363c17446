"""Sign momentum with local steps, Yu et al. 2024, Algorithm 1, with γ = 1."""

import pytest

from gradvote.algorithms import sign_momentum
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, average, zeros

SERVER = 2**32 - 1


class SignMomentum:
    """Δ = mean_i(θ − θ_i); u = β₁m + (1−β₁)Δ; m ← β₂m + (1−β₂)Δ; the step is sign(u)."""

    def __init__(self, beta1: float = 0.95, beta2: float = 0.98, zero: str = "random") -> None:
        self.m, self.betas, self.sign = zeros(), (beta1, beta2), Signs(Generator(16384), zero, still=True)

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        b1, b2 = self.betas
        delta = [average([g_i[k] for g_i in g]) for k in range(len(NUMELS))]
        u = [m * b1 + d * (1 - b1) for m, d in zip(self.m, delta, strict=True)]
        self.m = [m * b2 + d * (1 - b2) for m, d in zip(self.m, delta, strict=True)]
        return self.sign(u, t, SERVER)


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_algorithm_1(num_workers: int, zero: str) -> None:
    assert_same(sign_momentum(zero=zero), SignMomentum(zero=zero), num_workers)  # type: ignore[arg-type]


def test_other_betas() -> None:
    assert_same(sign_momentum(0.9, 0.99), SignMomentum(0.9, 0.99), 3)
