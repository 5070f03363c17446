"""signSGD with majority vote, Bernstein et al. 2018; Chen et al. 2020, Algorithm 1."""

from dataclasses import replace

import pytest

from gradvote.algorithms import signsgd
from tests.papers.compare import CASES, assert_same
from tests.papers.shared import Generator, Signs, Tensors


class SignSGD:
    """Worker i sends sign(g_i); the server sends sign(Σ_i sign(g_i)). What the papers lack: units of zeros stay."""

    def __init__(self, zero: str = "random", block_size: int | None = None, still: bool = True) -> None:
        self.sign = Signs(Generator(block_size), zero, still)

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return self.sign.vote([self.sign(g_i, t, i) for i, g_i in enumerate(g)], t)


class WeightedSignSGD(SignSGD):
    """sign(Σ_i w_i·sign(g_i))."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.weights = weights

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        return self.sign.vote([self.sign(g_i, t, i) for i, g_i in enumerate(g)], t, self.weights)


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    assert_same(signsgd(zero=zero), SignSGD(zero), num_workers)


def test_without_the_rule_for_units() -> None:
    assert_same(signsgd(still=False), SignSGD(still=False), 3, rates=(0.1,) * 2)


@pytest.mark.parametrize("block_size", [1, 50, 64, 65])
def test_blocks_change_nothing_but_the_draws(block_size: int) -> None:
    algorithm = replace(signsgd(), block_size=block_size)
    assert_same(algorithm, SignSGD(block_size=block_size), 4, rates=(0.1,) * 2)


def test_weights() -> None:
    weights = (1.0, 3.0, 0.5, 2.5)
    assert_same(signsgd(weights=weights), WeightedSignSGD(weights), 4)
