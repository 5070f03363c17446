"""SparseLoCo, Sarfi et al. 2025: e ← βe + Δ; send the largest of each chunk at 2 bits; e ← e − what was sent."""

import math

import pytest
import torch
from torch import Tensor

from gradvote.algorithms import sparseloco
from gradvote.lab.plan import bits_of
from tests.papers.compare import WORKERS, assert_same
from tests.papers.shared import NUMELS, Tensors, average, norm1, zeros

CHUNK, DENSITY = 256, 1 / 16


class SparseLoCo:
    """Coordinate by coordinate; chunks are consecutive."""

    def __init__(self, num_workers: int, decay: float) -> None:
        self.e, self.decay, self.last_lr = [zeros() for _ in range(num_workers)], decay, None

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        ratio = torch.tensor(lr if self.last_lr is None else self.last_lr) / torch.tensor(lr)
        sent = []
        for i, g_i in enumerate(g):
            p = [x + (e * ratio) * self.decay for x, e in zip(g_i, self.e[i], strict=True)]
            delta = [torch.cat([compressed(chunk) for chunk in p_k.split(CHUNK)]) for p_k in p]
            self.e[i] = [a - b for a, b in zip(p, delta, strict=True)]
            sent.append(delta)
        self.last_lr = lr
        return [average([d[k] for d in sent]) for k in range(len(NUMELS))]


def compressed(x: Tensor) -> Tensor:
    """The k largest, each as its sign times the mean of those of its kind: large or small among the kept."""
    k, numbers = math.ceil(DENSITY * len(x)), x.tolist()
    kept = sorted(sorted(range(len(x)), key=lambda j: (-abs(numbers[j]), j))[:k])
    size = x[kept].abs()
    large = size >= norm1(size) / k
    level = {kind: _mean(size, large == kind) for kind in (False, True)}
    out = torch.zeros(len(x))
    for j, is_large in zip(kept, large.tolist(), strict=True):
        out[j] = -level[is_large] if x[j] < 0 else level[is_large]
    return out


def _mean(size: Tensor, chosen: Tensor) -> Tensor:
    total = norm1(torch.where(chosen, size, 0.0)) / max(1, int(chosen.sum()))
    return total.to(torch.bfloat16).float()


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("decay", [0.95, 0.5])
def test_equals_the_rule(num_workers: int, decay: float) -> None:
    assert_same(sparseloco(DENSITY, decay, CHUNK), SparseLoCo(num_workers, decay), num_workers)


def test_bits_are_places_values_and_two_magnitudes() -> None:
    up, down = bits_of(sparseloco())
    assert up == pytest.approx((64 * (12 + 2) + 32 + 1) / 4096) and down == pytest.approx(32, rel=1e-3)
