"""Triton's kernels on units of zeros give the bits of the definitions, for every unit, phase, shape and format."""

import pytest
import torch

from gradvote.core import Units
from gradvote.kernels import reference, units_reference
from gradvote.kernels.cuda import units
from gradvote.rng import Draw
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates, draw_for, words_like
from tests.kernels.test_units import blanked, units_for

SHAPES: list[tuple[int, ...]] = [(3,), (2, 3), (2, 1, 3), (1,)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 130, 64, 1025)
LENGTHS = (64, 1, 2, 16, 27, 48, 64, 63, 100, 144, 65, 4096)
CASES = [
    (n, length, SHAPES[i % 4], (i // 2) % 2 == 1, DTYPES[i % 4], sorted(LAYOUTS)[i % 5], i)
    for i, (n, length) in enumerate(zip(SIZES, LENGTHS, strict=True))
]


@pytest.mark.parametrize(("n", "length", "shape", "cut", "dtype", "layout", "seed"), CASES)
def test_signs_and_units(
    n: int, length: int, shape: tuple[int, ...], cut: bool, dtype: torch.dtype, layout: str, seed: int
) -> None:
    own = units_for(length, shape, cut, seed)
    x = blanked(coordinates((*shape, n), dtype, seed), own)
    zeros: tuple[bool | Draw, ...] = (True, draw_for(shape, seed))
    for case, rule in zip((LAYOUTS[layout](x), -torch.zeros_like(x)), zeros, strict=True):
        check(units.still_pack_signs, units_reference.still_pack_signs, case, rule, own)


@pytest.mark.parametrize(("n", "length", "shape", "cut", "dtype", "layout", "seed"), CASES)
def test_units_and_words(
    n: int, length: int, shape: tuple[int, ...], cut: bool, dtype: torch.dtype, layout: str, seed: int
) -> None:
    own = units_for(length, shape, cut, seed)
    words = words_like((*shape, reference.num_words(n)), seed) | -(words_like((*shape, reference.num_words(n)), 1) & 1)
    check(units.whole_units, units_reference.whole_units, LAYOUTS[layout](words), n, own)
    flags = words_like((*shape, reference.num_words(own.count(n))), seed)
    check(units.outside_units, units_reference.outside_units, LAYOUTS[layout](flags), n, own)


def test_phases_of_blocks_that_the_words_do_not_have() -> None:
    own = Units(100, torch.tensor([0, 37, 99]))
    check(units.whole_units, units_reference.whole_units, torch.full((1, 5), -1), 300, own)
    check(units.outside_units, units_reference.outside_units, torch.full((2, 1, 1), 6), 300, own)


def test_other_formats_take_the_definition() -> None:
    check(units.still_pack_signs, units_reference.still_pack_signs, torch.tensor([[1, 0, 1]]), True, Units(1))
