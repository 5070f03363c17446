"""DiLoCo, Douillard et al. 2023, Algorithm 1, lines 11 to 14; and its rounds in 8 bits."""

from functools import partial

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import diloco
from gradvote.lab.plan import bits_of
from tests.papers.compare import WORKERS, assert_same
from tests.papers.shared import NUMELS, Tensors, average, gradients, zeros
from tests.rounds import Rounds


class DiLoCo:
    """Δ = (1/k) Σ_i (θ − θ_i); with `whole`, each Δ_i and Δ as whole numbers of 8 bits times max|x|/127."""

    def __init__(self, whole: bool = False) -> None:
        self.sent = whole_numbers if whole else torch.clone

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return [self.sent(average([self.sent(g_i[k]) for g_i in g])) for k in range(len(NUMELS))]


def whole_numbers(x: Tensor) -> Tensor:
    s = x.abs().max() / 127.0
    return torch.round(x / s) * s if s > 0 else torch.zeros_like(x)


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_equals_algorithm_1(num_workers: int, dtype: str) -> None:
    assert_same(diloco(dtype), DiLoCo(dtype == "int8"), num_workers)  # type: ignore[arg-type]


def test_the_outer_step_is_nesterov_s() -> None:
    """Line 14 with torch's SGD, against m ← μm + Δ; θ ← θ − η(Δ + μm) by hand."""
    rounds, theta, m = Rounds(diloco(), NUMELS, 3), zeros(), zeros()
    params = [torch.nn.Parameter(torch.zeros(n)) for n in NUMELS]
    outer = torch.optim.SGD(params, lr=0.7, momentum=0.9, nesterov=True)
    for t, g in enumerate(gradients(3, 4)):
        for k, (p, d) in enumerate(zip(params, rounds.step(g, t, 0.7), strict=True)):
            p.grad = d
            m[k] = 0.9 * m[k] + d
            theta[k] = theta[k] - 0.7 * (d + 0.9 * m[k])
        outer.step()
    for p, own in zip(params, theta, strict=True):
        torch.testing.assert_close(p.detach(), own, rtol=1e-5, atol=1e-6)


def test_bits() -> None:
    assert bits_of(diloco("int8")) == pytest.approx((8, 8), rel=1e-3)
    assert bits_of(diloco()) == pytest.approx((32, 32), rel=1e-3)


def test_half_a_step_is_the_largest_error() -> None:
    x = partial(torch.linspace, -3.0, 2.0)(1000)
    assert float((whole_numbers(x) - x).abs().max()) <= 3.0 / 127 / 2 * 1.0001
