"""Signum with majority vote, Bernstein et al. 2019, Algorithm 1."""

import pytest
import torch

from gradvote.algorithms import signsgd, signum
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, gradients, no_noise, zeros
from tests.rounds import Rounds


class Signum:
    """Worker: v ← (1−β)g + βv, sends sign(v); the server sends V = sign(Σ_i sign(v_i))."""

    def __init__(self, num_workers: int, beta: float = 0.9, zero: str = "random", noise=no_noise) -> None:
        self.beta, self.noise, self.sign = beta, noise, Signs(Generator(), zero, still=True)
        self.v = [zeros() for _ in range(num_workers)]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        ballots = []
        for i, g_i in enumerate(g):
            self.v[i] = [(1 - self.beta) * g_k + self.beta * v_k for g_k, v_k in zip(g_i, self.v[i], strict=True)]
            ballots.append(self.sign(self.noise(self.v[i], t, i), t, i))
        return self.sign.vote(ballots, t)


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    assert_same(signum(zero=zero), Signum(num_workers, zero=zero), num_workers)


def test_beta_zero_is_signsgd() -> None:
    ours, plain = Rounds(signum(beta=0.0), NUMELS, 4), Rounds(signsgd(), NUMELS, 4)
    for t, g in enumerate(gradients(4, 5)):
        for a, b in zip(ours.step(g, t, 0.1), plain.step(g, t, 0.1), strict=True):
            assert torch.equal(a, b)


def test_decoupled_decay_is_the_optimizers() -> None:
    """x ← x − η(sign(V) + λx), to rounding: the optimizer may fuse the product and the sum."""
    x = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    expected, v = x.detach().clone(), torch.tensor([1.0, -1.0] * 3 + [1.0])
    optimizer = torch.optim.SGD([x], lr=0.01, weight_decay=0.1)
    for _ in range(10):
        x.grad = v.clone()
        optimizer.step()
        expected = expected - 0.01 * (v + 0.1 * expected)
    torch.testing.assert_close(x.detach(), expected, rtol=1e-5, atol=1e-7)
