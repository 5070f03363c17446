"""Triton's sums fold in the order of the definition."""

import pytest
import torch

from gradvote.kernels import reference
from gradvote.kernels.cuda import trees
from tests.kernels.cuda.both import DEVICE, check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates, same, words_like

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
SIZES = (0, 1, 2, 7, 63, 64, 65, 1023, 1024, 1025, 2049, 16385)
CASES = [(n, sorted(LAYOUTS)[i % 5], (2, 3) if n < 2049 else (1,), i) for i, n in enumerate(SIZES)]


@pytest.mark.parametrize(("n", "layout", "shape", "seed"), CASES)
def test_sums(n: int, layout: str, shape: tuple[int, ...], seed: int) -> None:
    check(trees.tree_sum, reference.tree_sum, coordinates((*shape, n), DTYPES[seed % 2], seed, layout))
    x = coordinates((*shape, n), DTYPES[seed % 4], seed + 1, layout)
    check(trees.mean_abs, reference.mean_abs, x)
    check(trees.mean_abs, reference.mean_abs, x, words_like((*shape, reference.num_words(n)), seed))


@pytest.mark.parametrize("n", [1, 4, 5, 1024, 1025, 4096])
def test_zeros_that_are_padded_become_positive(n: int) -> None:
    check(trees.tree_sum, reference.tree_sum, torch.full((2, n), -0.0))


def test_masks_by_broadcasting() -> None:
    x = coordinates((2, 3, 70), torch.float32, 1)
    check(trees.mean_abs, reference.mean_abs, x, words_like((2,), 1))
    check(trees.mean_abs, reference.mean_abs, x[:1, :1], words_like((2, 3, 2), 2))
    check(trees.mean_abs, reference.mean_abs, x, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("tiles", [1024, 1025, 8192, 9000])
def test_many_tiles(tiles: int) -> None:
    sums, counts = torch.randn(2, tiles, generator=torch.Generator().manual_seed(1)), torch.zeros(2, dtype=torch.int32)
    got = trees.folded(sums.to(DEVICE), counts.to(DEVICE), tiles, 0, mean=False)
    assert same(got.cpu(), reference._fold(sums))


def test_other_formats_take_the_definition() -> None:
    check(trees.tree_sum, reference.tree_sum, coordinates((2, 70), torch.bfloat16, 1))
    check(trees.mean_abs, reference.mean_abs, torch.arange(70)[None])
