"""dist-EF-SGDM, Zheng, Huang, Kwok 2019, Algorithms 1 and 2; a block is one tensor."""

import pytest
import torch

from gradvote.algorithms import dist_ef_sgdm
from gradvote.optim import NesterovDecay
from tests.papers.compare import CASES, RATES, assert_equal, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, average, no_noise, norm1, zeros

SERVER = 2**32 - 1


class DistEF:
    """Worker: m ← μm + g; p = g + μm + (η_{t−1}/η_t)e; s = ‖p‖₁/n; Δ = s·sign(p); e ← p − Δ.

    Server: p̃ = (1/M)ΣΔ_i + (η_{t−1}/η_t)ẽ; s̃ = ‖p̃‖₁/n; Δ̃ = s̃·sign(p̃); ẽ ← p̃ − Δ̃. The ratio is of float32s.
    """

    def __init__(self, num_workers: int, mu: float = 0.9, zero: str = "random", noise=no_noise) -> None:
        self.mu, self.noise, self.sign = mu, noise, Signs(Generator(), zero)
        self.m = [zeros() for _ in range(num_workers)]
        self.e = [zeros() for _ in range(num_workers)]
        self.e_server = zeros()
        self.last_lr: float | None = None

    def compress(self, p: Tensors, t: int, sender: int) -> Tensors:
        return [norm1(p_k) / len(p_k) * s_k for p_k, s_k in zip(p, self.sign(p, t, sender), strict=True)]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        ratio = torch.tensor(lr if self.last_lr is None else self.last_lr) / torch.tensor(lr)
        deltas = []
        for i, g_i in enumerate(g):
            p = []
            for k in range(len(NUMELS)):
                self.m[i][k] = self.mu * self.m[i][k] + g_i[k]
                p.append(g_i[k] + self.mu * self.m[i][k] + ratio * self.e[i][k])
            delta = self.compress(self.noise(p, t, i), t, i)
            self.e[i] = [a - b for a, b in zip(p, delta, strict=True)]
            deltas.append(delta)
        p = [average([d[k] for d in deltas]) + ratio * self.e_server[k] for k in range(len(NUMELS))]
        decision = self.compress(p, t, SERVER)
        self.e_server = [a - b for a, b in zip(p, decision, strict=True)]
        self.last_lr = lr
        return decision


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    paper = DistEF(num_workers, zero=zero)
    rounds = assert_same(dist_ef_sgdm(zero=zero), paper, num_workers)
    assert_equal(rounds.unsent(rounds.algorithm.down, rounds.server), paper.e_server)
    for i in range(num_workers):
        assert_equal(rounds.unsent(rounds.algorithm.up, rounds.workers[i]), paper.e[i])
        assert_equal(rounds.memories(rounds.workers[i], "0", "momentum"), paper.m[i])


def test_without_momentum() -> None:
    assert_same(dist_ef_sgdm(mu=0.0), DistEF(3, mu=0.0), 3)


def test_decay_with_its_own_momentum() -> None:
    """w ← μw + λx; x ← x − η(Δ̃ + μw + λx)."""
    x = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = NesterovDecay([x], lr=1.0, momentum=0.9, weight_decay=0.1)
    expected, w, mu, decay = x.detach().clone(), torch.zeros(7), 0.9, 0.1
    generator = torch.Generator().manual_seed(0)
    for lr in RATES:
        decision = torch.randn(7, generator=generator)
        x.grad = decision.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        w = mu * w + decay * expected
        expected = expected - lr * (decision + mu * w + decay * expected)
    assert torch.equal(x.detach(), expected)
