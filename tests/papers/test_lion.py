"""Distributed Lion with majority vote, Liu et al. 2024."""

import pytest

from gradvote.algorithms import lion
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import Generator, Signs, Tensors, no_noise, zeros


class Lion:
    """Worker: δ = sign(β₁m + (1−β₁)g); m ← β₂m + (1−β₂)g. Server: sign(Σ_i δ_i)."""

    def __init__(self, num_workers: int, beta1: float = 0.9, beta2: float = 0.99, zero: str = "random", noise=no_noise):
        self.beta1, self.beta2, self.noise, self.sign = beta1, beta2, noise, Signs(Generator(), zero, still=True)
        self.m = [zeros() for _ in range(num_workers)]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        ballots = []
        for i, g_i in enumerate(g):
            mixed = [self.beta1 * m + (1 - self.beta1) * g_k for m, g_k in zip(self.m[i], g_i, strict=True)]
            ballots.append(self.sign(self.noise(mixed, t, i), t, i))
            self.m[i] = [self.beta2 * m + (1 - self.beta2) * g_k for m, g_k in zip(self.m[i], g_i, strict=True)]
        return self.sign.vote(ballots, t)


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    assert_same(lion(zero=zero), Lion(num_workers, zero=zero), num_workers)


def test_other_betas() -> None:
    assert_same(lion(0.95, 0.98), Lion(3, 0.95, 0.98), 3)
