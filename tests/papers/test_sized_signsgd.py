"""A majority vote (Bernstein et al. 2018) whose steps are as long as the median of the workers' mean magnitudes."""

import pytest
import torch

from gradvote.algorithms import sized_signsgd
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, gradients, norm1
from tests.rounds import Rounds


class SizedSignSGD:
    """s·sign(Σ sign(g_i)), s = median_i ‖g_i‖₁/n, tensor by tensor."""

    def __init__(self, zero: str) -> None:
        self.sign = Signs(Generator(), zero, still=True)

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        voted = self.sign.vote([self.sign(g_i, t, i) for i, g_i in enumerate(g)], t)
        return [v * self.size([g_i[k] for g_i in g]) for k, v in enumerate(voted)]

    def size(self, each: list[torch.Tensor]) -> torch.Tensor:
        sizes = sorted(norm1(x) / len(x) for x in each)
        low, high = sizes[(len(sizes) - 1) // 2], sizes[len(sizes) // 2]
        return (low + high) / 2


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_rule(num_workers: int, zero: str) -> None:
    assert_same(sized_signsgd(zero), SizedSignSGD(zero), num_workers)  # type: ignore[arg-type]


def test_a_liar_does_not_choose_the_size() -> None:
    """One of three says a million times as much: every step stays within what the honest two said."""
    honest = gradients(3, 1)[0]
    told = [honest[0], honest[1], [-1e6 * x for x in honest[1]]]
    for k, step in enumerate(Rounds(sized_signsgd(), NUMELS, 3).step(told, 0, 0.1)):
        largest = max(float(norm1(g[k]) / NUMELS[k]) for g in honest[:2])
        assert float(step.abs().max()) <= largest
