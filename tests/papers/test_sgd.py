"""Distributed SGD: x ← x − η·(1/M)Σg_i."""

import pytest
import torch

from gradvote.algorithms import sgd
from tests.papers.compare import WORKERS, assert_same
from tests.papers.shared import NUMELS, Tensors, average


class SGD:
    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return [average([g_i[k] for g_i in g]) for k in range(len(NUMELS))]


class WeightedSGD:
    """Σ w_i·g_i / Σ w_i."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self.weights = weights

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        direction = []
        for k in range(len(NUMELS)):
            total, weight = torch.zeros(NUMELS[k]), torch.tensor(0.0)
            for w_i, g_i in zip(self.weights, g, strict=True):
                total = total + w_i * g_i[k]
                weight = weight + w_i
            direction.append(total / weight)
        return direction


@pytest.mark.parametrize("num_workers", WORKERS)
def test_equals_the_paper(num_workers: int) -> None:
    assert_same(sgd(), SGD(), num_workers)


def test_weights() -> None:
    weights = (0.5, 2.0, 0.3, 1.7)
    assert_same(sgd(weights), WeightedSGD(weights), 4)
