from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.theory.order_statistics import at_least, at_least_slope, count_pmf, middle_ranks

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(probabilities)
def test_count_pmf_equals_the_sum_over_all_outcomes(p: list[float]) -> None:
    expected = [0.0] * (len(p) + 1)
    for outcome in product((0, 1), repeat=len(p)):
        weight = 1.0
        for hit, q in zip(outcome, p, strict=True):
            weight *= q if hit else 1 - q
        expected[sum(outcome)] += weight
    assert count_pmf(torch.tensor(p).double()).tolist() == pytest.approx(expected, abs=1e-6)


@given(probabilities)
def test_slope_is_the_derivative(p: list[float]) -> None:
    rates = torch.arange(1, len(p) + 1).double()
    coins, k = torch.tensor(p).double(), middle_ranks(len(p))[0]
    expected = (at_least(coins + 1e-5 * rates, k) - at_least(coins - 1e-5 * rates, k)) / 2e-5
    assert torch.allclose(at_least_slope(coins, rates, k), expected, atol=1e-6)


@pytest.mark.parametrize(("num", "ranks"), [(1, (1, 1)), (2, (1, 2)), (5, (3, 3)), (6, (3, 4))])
def test_middle_ranks(num: int, ranks: tuple[int, int]) -> None:
    assert middle_ranks(num) == ranks
