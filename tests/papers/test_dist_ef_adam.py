"""dist-EF with Adam's update, after Chen, Shen, Liu, Luo 2023; a block is one tensor."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gradvote.algorithms import dist_ef_adam
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, average, norm1, zeros

SERVER = 2**32 - 1


def root(x: Tensor) -> Tensor:
    """√x, rounded to nearest: PyTorch's own, of a large vector, is not on every processor."""
    return torch.as_tensor(np.sqrt(x.numpy()))


class DistEFAdam:
    """Worker: m, v as in Adam; p = m̂/(√v̂ + ε) + (η_{t−1}/η_t)e; Δ = (‖p‖₁/n)·sign(p); e ← p − Δ. So the server."""

    def __init__(self, num_workers: int, beta1: float = 0.8, beta2: float = 0.999, zero: str = "random") -> None:
        self.betas, self.sign = (beta1, beta2), Signs(Generator(), zero)
        self.m, self.v, self.e = ([zeros() for _ in range(num_workers)] for _ in range(3))
        self.e_server, self.last_lr, self.young = zeros(), None, torch.zeros(2)

    def compress(self, p: Tensors, t: int, sender: int) -> Tensors:
        return [norm1(p_k) / len(p_k) * s_k for p_k, s_k in zip(p, self.sign(p, t, sender), strict=True)]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        ratio = torch.tensor(lr if self.last_lr is None else self.last_lr) / torch.tensor(lr)
        b1, b2 = self.betas
        self.young = self.young * torch.tensor([b1, b2]) + torch.tensor([1 - b1, 1 - b2])
        deltas = []
        for i, g_i in enumerate(g):
            p = []
            for k in range(len(NUMELS)):
                self.m[i][k] = b1 * self.m[i][k] + (1 - b1) * g_i[k]
                self.v[i][k] = b2 * self.v[i][k] + (1 - b2) * (g_i[k] * g_i[k])
                update = (self.m[i][k] / self.young[0]) / (root(self.v[i][k]) / root(self.young[1]) + 1e-8)
                p.append(update + ratio * self.e[i][k])
            delta = self.compress(p, t, i)
            self.e[i] = [a - b for a, b in zip(p, delta, strict=True)]
            deltas.append(delta)
        p = [average([d[k] for d in deltas]) + ratio * self.e_server[k] for k in range(len(NUMELS))]
        decision = self.compress(p, t, SERVER)
        self.e_server = [a - b for a, b in zip(p, decision, strict=True)]
        self.last_lr = lr
        return decision


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_rule(num_workers: int, zero: str) -> None:
    assert_same(dist_ef_adam(zero=zero), DistEFAdam(num_workers, zero=zero), num_workers)


def test_other_betas() -> None:
    assert_same(dist_ef_adam(0.9, 0.95), DistEFAdam(3, 0.9, 0.95), 3)
