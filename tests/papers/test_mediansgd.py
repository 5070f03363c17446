"""medianSGD, Chen et al. 2020, Algorithm 2: x ← x − η·median_i(g_i); for even M the mean of the two middle values."""

import pytest
import torch

from gradvote.algorithms import mediansgd
from tests.papers.compare import WORKERS, assert_same
from tests.papers.shared import NUMELS, Tensors


class MedianSGD:
    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        direction = []
        for k in range(len(NUMELS)):
            coordinates = []
            for j in range(NUMELS[k]):
                values = sorted(float(g_i[k][j]) for g_i in g)
                low, high = values[(len(g) - 1) // 2], values[len(g) // 2]
                middle = torch.tensor(low) if len(g) % 2 else (torch.tensor(low) + torch.tensor(high)) / 2
                coordinates.append(middle)
            direction.append(torch.stack(coordinates))
        return direction


@pytest.mark.parametrize("num_workers", WORKERS)
def test_equals_the_paper(num_workers: int) -> None:
    assert_same(mediansgd(), MedianSGD(), num_workers, rates=(0.1,) * 3)
