"""EF-signSGD, Karimireddy et al. 2019, Algorithm 1, with the mean over M workers.

The paper's memory holds η; the library's does not and is rescaled when η changes. Scaling by powers of two is exact, so
for such rates every bit agrees; for others the two agree to rounding.
"""

import pytest
import torch

from gradvote.algorithms import ef_signsgd
from tests.papers.compare import BINARY_RATES, CASES, RATES, WORKERS, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, average, gradients, norm1, zeros
from tests.rounds import Rounds


class EFSignSGD:
    """p = ηg + e; Δ = (‖p‖₁/d)·sign(p); x ← x − (1/M)ΣΔ_i; e ← p − Δ, per parameter tensor."""

    def __init__(self, num_workers: int, zero: str = "random") -> None:
        self.sign = Signs(Generator(), zero)
        self.e = [zeros() for _ in range(num_workers)]

    def move(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        """(1/M)ΣΔ_i."""
        deltas = []
        for i, g_i in enumerate(g):
            p = [lr * g_k + e_k for g_k, e_k in zip(g_i, self.e[i], strict=True)]
            signs = self.sign(p, t, i)
            delta = [norm1(p_k) / len(p_k) * s_k for p_k, s_k in zip(p, signs, strict=True)]
            self.e[i] = [a - b for a, b in zip(p, delta, strict=True)]
            deltas.append(delta)
        return [average([d[k] for d in deltas]) for k in range(len(NUMELS))]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return [delta / lr for delta in self.move(g, t, lr)]


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    assert_same(ef_signsgd(zero=zero), EFSignSGD(num_workers, zero), num_workers, BINARY_RATES)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_equals_the_paper_to_rounding(num_workers: int) -> None:
    rounds, paper = Rounds(ef_signsgd(), NUMELS, num_workers), EFSignSGD(num_workers)
    for t, (g, lr) in enumerate(zip(gradients(num_workers, len(RATES)), RATES, strict=True)):
        direction, moved = rounds.step(g, t, lr), paper.move(g, t, lr)
        for a, b in zip(direction, moved, strict=True):
            torch.testing.assert_close(a * lr, b, rtol=2e-5, atol=1e-5 * float(b.abs().max()))
