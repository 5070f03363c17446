"""Triton's random words, fair bits and masks are those of the definitions."""

import pytest
import torch

from gradvote.kernels import reference
from gradvote.kernels.cuda import draws
from gradvote.rng import Draw
from tests.kernels.cuda.both import check, there
from tests.kernels.inputs import draw_for

SHAPES: list[tuple[int, ...]] = [(3,), (), (2, 3), (2, 1, 3)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 16385)
CASES = [(n, SHAPES[i % 4] if n < 9999 else (2,), i) for i, n in enumerate(SIZES)]


@pytest.mark.parametrize(("n", "shape", "seed"), CASES)
def test_words_bits_and_masks(n: int, shape: tuple[int, ...], seed: int) -> None:
    draw = draw_for(shape, seed)
    check(draws.random_words, reference.random_words, draw, n)
    check(draws.random_bits, reference.random_bits, draw, n)
    limits = torch.randint(-9, 65546, shape, generator=torch.Generator().manual_seed(seed))
    for granularity in (1, 64, (3, 32, 96, 100)[seed % 4]):
        check(draws.keep_bits, reference.keep_bits, draw, n, 20000 + seed, granularity)
        check(draws.keep_bits, reference.keep_bits, draw, n, limits, granularity)


@pytest.mark.parametrize("threshold", [0, 1, 65535, 65536])
@pytest.mark.parametrize("granularity", [1, 64, 5])
def test_nothing_and_everything(threshold: int, granularity: int) -> None:
    check(draws.keep_bits, reference.keep_bits, draw_for((2,), 3), 1000, threshold, granularity)


def test_thresholds_for_more_rows_and_of_other_types() -> None:
    draw = draw_for((3,), 5)
    for limits in (torch.tensor([[9], [60000]]), torch.tensor(30000, dtype=torch.int32), torch.tensor(30000.5)):
        check(draws.keep_bits, reference.keep_bits, draw, 130, limits)


def test_places_of_any_integer_type() -> None:
    wide, narrow = (
        Draw(7, torch.arange(3, dtype=block), torch.tensor(2, dtype=sender))
        for block, sender in ((torch.int64, torch.int64), (torch.int32, torch.int16))
    )
    for kernel, definition in (
        (draws.random_bits, reference.random_bits),
        (draws.random_words, reference.random_words),
    ):
        check(lambda _: kernel(there(narrow), 130), lambda _: definition(wide, 130), 0)  # noqa: B023  # called at once
