"""Compiled sums in tree order give the bits of the definitions."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from gradvote.kernels import reference
from gradvote.kernels.cpu import trees
from tests.kernels.inputs import DTYPES, coordinates, dtypes, layouts, same, seeds, shapes, sizes

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@patient
@given(shape=shapes, n=sizes, dtype=dtypes, layout=layouts, seed=seeds)
def test_means(shape: tuple[int, ...], n: int, dtype: torch.dtype, layout: str, seed: int) -> None:
    x = coordinates((*shape, n), dtype, seed, layout)
    keep = reference.pack_bits(torch.rand(*shape, n) < 0.3)
    assert same(trees.mean_abs(x), reference.mean_abs(x))
    assert same(trees.mean_abs(x, keep), reference.mean_abs(x, keep))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1024, 1025, 16384, 16385, 70_000])
def test_sums(dtype: torch.dtype, n: int) -> None:
    x = coordinates((2, n), dtype, seed=4)
    assert same(trees.tree_sum(x), reference.tree_sum(x))
    assert same(trees.mean_abs(x), reference.mean_abs(x))


def test_signed_zeros() -> None:
    for n in (1, 2, 3, 1024, 1025, 2048, 3000):
        x = torch.full((n,), -0.0)
        assert same(trees.tree_sum(x), reference.tree_sum(x))
