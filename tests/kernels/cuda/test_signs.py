"""Triton's signs give the bits of the definitions, for every format, size, layout and rule for zeros."""

import pytest
import torch

from gradvote.kernels import reference
from gradvote.kernels.cuda import signs
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates, draw_for

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3), (2, 1, 3)]
CASES = [
    (n, DTYPES[i % 4], sorted(LAYOUTS)[i % 5], SHAPES[i % 4 if i % 3 else 1], i)
    for i, n in enumerate((0, 1, 7, 63, 64, 65, 127, 129, 1024, 1025, 2049, 64, 65, 1, 0, 4097))
]


@pytest.mark.parametrize(("n", "dtype", "layout", "shape", "seed"), CASES)
def test_signs_and_flags(n: int, dtype: torch.dtype, layout: str, shape: tuple[int, ...], seed: int) -> None:
    x = coordinates((*shape, n), dtype, seed, layout)
    for zeros in (True, False, draw_for(shape, seed)):
        check(signs.checked_pack_signs, reference.checked_pack_signs, x, zeros)
    check(signs.pack_signs, reference.pack_signs, x, False)
    check(signs.finite, reference.finite, x)


@pytest.mark.parametrize("n", [1, 64, 2049])
def test_zeros_everywhere(n: int) -> None:
    check(signs.pack_signs, reference.pack_signs, torch.zeros(2, n), draw_for((2,), 7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 128])
def test_each_kind_of_non_finite_number_is_seen_anywhere(dtype: torch.dtype, place: int) -> None:
    x = torch.ones(4, 129, dtype=dtype)
    for row, odd in enumerate((torch.nan, torch.inf, -torch.inf)):
        x[row, place] = odd
    check(signs.finite, reference.finite, x)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_other_formats_take_the_definition(dtype: torch.dtype) -> None:
    check(signs.finite, reference.finite, torch.tensor([[1, 0, 1]]).to(dtype))
