"""Triton's moving averages give the bits of the definition, and keep old blocks as they were."""

import pytest
import torch

from gradvote.kernels import reference
from gradvote.kernels.cuda import averages
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
CASES = [(n, DTYPES[i % 4], sorted(LAYOUTS)[i % 5], i) for i, n in enumerate((0, 1, 7, 63, 64, 65, 1025, 2049, 64, 65))]


@pytest.mark.parametrize(("n", "dtype", "layout", "seed"), CASES)
def test_averages(n: int, dtype: torch.dtype, layout: str, seed: int) -> None:
    x, old = coordinates((2, 2, n), dtype, seed, layout), coordinates((2, 2, n), torch.float32, 3 * seed + 1)
    check(averages.moving_average, reference.moving_average, old, 0.9, x, 0.1)
    check(averages.finite_or, reference.finite_or, x, old.to(dtype))
    check(averages.finite_or, reference.finite_or, x, old[:1].double())


@pytest.mark.parametrize("odd", [torch.nan, -torch.inf, 3e38, -(2.0**64), 2.0**64 * (1 - 2**-24)])
def test_blocks_that_are_too_large_stay_old(odd: float) -> None:
    x, old = coordinates((3, 70), torch.float32, 1), coordinates((3, 70), torch.float32, 2)
    x[1, 69] = odd
    check(averages.moving_average, reference.moving_average, old, 0.9, x, 0.1)
    check(averages.moving_average, reference.moving_average, old, 0.9, x, 3e20)


def test_a_block_of_several_programs_is_repaired_whole() -> None:
    x, old = torch.ones(2, 16385), torch.zeros(2, 16385)
    x[1, 0] = torch.inf
    check(averages.moving_average, reference.moving_average, old, 0.9, x, 0.1)
