"""The compiled signs give the bits of the definitions, for every format, shape, layout and rule for zeros."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from gradvote.kernels import reference
from gradvote.kernels.cpu import signs
from tests.kernels.inputs import DTYPES, SIZES, coordinates, draw_for, dtypes, layouts, same, seeds, shapes, sizes

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@patient
@given(shape=shapes, n=sizes, dtype=dtypes, layout=layouts, seed=seeds)
def test_signs_and_flags(shape: tuple[int, ...], n: int, dtype: torch.dtype, layout: str, seed: int) -> None:
    x = coordinates((*shape, n), dtype, seed, layout)
    for zeros in (True, False, draw_for(shape, seed)):
        words, valid = signs.checked_pack_signs(x, zeros)
        expected_words, expected_valid = reference.checked_pack_signs(x, zeros)
        assert torch.equal(words, expected_words)
        assert torch.equal(valid.expand_as(expected_valid), expected_valid)
        assert torch.equal(signs.pack_signs(x, zeros), expected_words)
    assert torch.equal(signs.finite(x), reference.finite(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_row(dtype: torch.dtype) -> None:
    x = coordinates((16385,), dtype, seed=3)
    assert torch.equal(signs.pack_signs(x, draw_for((), 5)), reference.pack_signs(x, draw_for((), 5)))


@pytest.mark.parametrize("n", SIZES)
def test_zeros_everywhere(n: int) -> None:
    x, zeros = torch.zeros(2, n), draw_for((2,), 7)
    assert torch.equal(signs.pack_signs(x, zeros), reference.random_bits(zeros, n).expand(2, -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 63, 64, 128])
def test_each_kind_of_non_finite_number_is_seen_anywhere(dtype: torch.dtype, place: int) -> None:
    for odd in (torch.nan, torch.inf, -torch.inf):
        x = torch.ones(3, 129, dtype=dtype)
        x[1, place] = odd
        assert signs.finite(x).tolist() == [True, False, True]


def test_finite_or_takes_old_blocks_only_where_needed() -> None:
    new, old = torch.randn(3, 100), torch.randn(3, 100)
    assert signs.finite_or(new, old) is new
    new[1, 7] = torch.inf
    assert same(signs.finite_or(new, old), reference.finite_or(new, old))


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_other_formats_take_the_definition(dtype: torch.dtype) -> None:
    x = torch.tensor([[1, 0, 1]]).to(dtype)
    assert torch.equal(signs.finite(x), torch.ones(1, dtype=torch.bool))
