"""Triton's means, medians and trimmed means give the bits of the definitions."""

import pytest
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import order
from tests.kernels.cuda.both import check, slow
from tests.kernels.inputs import LAYOUTS, coordinates

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
FLOATS = (torch.float32, torch.float64)


def _flags(*shape: int) -> Tensor:
    """Of the blocks, one counts all rows, one none and the others some."""
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.7
    valid[:, 0], valid[:, -1] = True, False
    return valid


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 64, *map(slow, (33, 50))])
def test_networks(number: int) -> None:
    dtype, layout = FLOATS[number % 2], sorted(LAYOUTS)[number % 5]
    x, valid = coordinates((number, 3, 33), dtype, 3 * number, layout), _flags(number, 3)
    check(order.median, reference.median, x, valid)
    check(order.trimmed_mean, reference.trimmed_mean, x, valid, 1 + number // 8)


@pytest.mark.parametrize(("number", "dtype"), [(65, FLOATS[0]), (70, FLOATS[1]), slow(130, FLOATS[1])])
def test_medians_bit_by_bit(number: int, dtype: torch.dtype) -> None:
    x, valid = coordinates((number, 2, 7), dtype, 3), _flags(number, 2)
    x[:, :, 3] = torch.where(x[:, :, 3].isnan(), x[:, :, 3], -0.0)
    check(order.median, reference.median, x, valid)


@pytest.mark.parametrize("n", [0, 1, 65, 1025])
def test_odd_sizes(n: int) -> None:
    x, valid = coordinates((4, n), FLOATS[0], 3), torch.tensor([True, True, False, True])
    check(order.median, reference.median, x, valid)
    check(order.mean, reference.mean, x, valid)


@pytest.mark.parametrize("number", [1, 2, 8, 9, 70])
def test_means(number: int) -> None:
    dtype, layout = FLOATS[number % 2], sorted(LAYOUTS)[number % 5]
    x, valid = coordinates((number, 2, 2, 33), dtype, number, layout), _flags(number, 2, 2)
    weights = torch.rand(number, generator=torch.Generator().manual_seed(1))
    for given in (None, weights, weights - 0.4, torch.where(weights < 0.3, torch.inf, weights)):
        check(order.mean, reference.mean, x, valid, given)


def test_a_sum_of_zeros_is_never_negative() -> None:
    x, valid = torch.full((5, 9), -0.0), torch.ones(5, dtype=torch.bool)
    for trim in (None, 0, 1):
        check(order.trimmed_mean, reference.trimmed_mean, x, valid, trim)
    check(order.mean, reference.mean, x, valid, torch.ones(5))


def test_what_has_no_kernel_takes_the_definition() -> None:
    valid = torch.ones(70, dtype=torch.bool)
    check(order.trimmed_mean, reference.trimmed_mean, coordinates((70, 9), torch.float32, 1), valid, 2)
    for kernel, definition in ((order.mean, reference.mean), (order.median, reference.median)):
        check(kernel, definition, coordinates((5, 9), torch.bfloat16, 1), valid[:5])
