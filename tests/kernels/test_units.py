"""The compiled kernels on units of zeros give the bits of the definitions, for every unit, phase, shape and format."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels import reference, units_reference
from gradvote.kernels.cpu import signs, units
from tests.kernels.inputs import DTYPES, SIZES, coordinates, draw_for, dtypes, layouts, seeds, shapes, words_like

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
lengths = st.sampled_from([1, 2, 16, 27, 48, 63, 64, 65, 100, 144, 4096])


def units_for(length: int, shape: tuple[int, ...], cut: bool, seed: int) -> Units:
    """Blocks, the last leading axis, that begin anywhere in a unit."""
    if not cut:
        return Units(length)
    return Units(length, torch.randint(length, shape[-1:], generator=torch.Generator().manual_seed(seed)))


def blanked(x: Tensor, own: Units) -> Tensor:
    """x with every other unit all zeros, of which some have one odd coordinate."""
    number = units_reference._numbers(x.shape[-1], own, x.device)
    blank = torch.where(number % 2 == 0, 0.0, x)
    return torch.where((number % 8 == 4) & (torch.rand(x.shape[-1]) < 0.1), 1.0, blank).to(x.dtype)


@patient
@given(
    shape=shapes, n=st.sampled_from(SIZES), length=lengths, cut=st.booleans(), dtype=dtypes, layout=layouts, seed=seeds
)
def test_signs_and_units(
    shape: tuple[int, ...], n: int, length: int, cut: bool, dtype: torch.dtype, layout: str, seed: int
) -> None:
    own = units_for(length, shape, cut, seed)
    x = coordinates((*shape, n), dtype, seed, layout)
    for case in (x, blanked(x, own), torch.zeros_like(x), -torch.zeros_like(x)):
        for zeros in (True, draw_for(shape, seed)):
            found = signs.still_pack_signs(case, zeros, own)
            expected = units_reference.still_pack_signs(case, zeros, own)
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1].expand_as(expected[1]), expected[1])
            assert torch.equal(found[2], expected[2].expand_as(found[2]))


@patient
@given(shape=shapes, n=st.sampled_from(SIZES), length=lengths, cut=st.booleans(), seed=seeds)
def test_units_and_words(shape: tuple[int, ...], n: int, length: int, cut: bool, seed: int) -> None:
    own = units_for(length, shape, cut, seed)
    words = words_like((*shape, reference.num_words(n)), seed) | words_like((*shape, reference.num_words(n)), seed + 1)
    words = words | -(words_like((*shape, reference.num_words(n)), seed + 2) & 1)
    assert torch.equal(units.whole_units(words, n, own), units_reference.whole_units(words, n, own))
    flags = words_like((*shape, reference.num_words(own.count(n))), seed)
    outside = units_reference.outside_units(flags, n, own)
    assert torch.equal(units.outside_units(flags, n, own), outside)
    assert torch.equal(units_reference.whole_units(~outside, n, own) & ~flags, torch.zeros_like(flags))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", [Units(), Units(100, torch.tensor([37]))], ids=["words", "rows"])
def test_a_long_row(dtype: torch.dtype, own: Units) -> None:
    x = blanked(coordinates((1, 16385), dtype, seed=3), own)
    x[0, 16384 // 2 :] = 0
    x[0, 500] = torch.nan
    for found, expected in zip(
        signs.still_pack_signs(x, False, own), units_reference.still_pack_signs(x, False, own), strict=True
    ):
        assert torch.equal(found, expected)


def test_what_a_unit_is() -> None:
    """Counted by hand: rows of 5, of which the block has the last 2 coordinates of one, two whole ones and 1 more."""
    own = Units(5, torch.tensor([3]))
    x = torch.tensor([[0, -0.0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    assert own.count(13) == 4
    assert units_reference.still_pack_signs(x, True, own)[2].tolist() == [[0b1101]]
    assert units_reference.outside_units(torch.tensor([[0b1101]]), 13, own).tolist() == [[0b0000001111100]]
