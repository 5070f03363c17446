"""Compiled random words, fair bits and masks are those of the definitions."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradvote.kernels import reference
from gradvote.kernels.cpu import draws
from gradvote.rng import Draw
from tests.kernels.inputs import draw_for, seeds, shapes

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
lengths = st.sampled_from([0, 1, 7, 63, 64, 65, 127, 128, 129, 2047, 2048, 4097, 8192, 8193, 16385])


def test_known_answer() -> None:
    """The first vector of Random123: key 0, counter 0."""
    words = draws.random_words(Draw(0, torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)), 34)
    assert words[[0, 1, 32, 33]].tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@patient
@given(shape=shapes, n=lengths, seed=seeds)
def test_words_and_bits(shape: tuple[int, ...], n: int, seed: int) -> None:
    draw = draw_for(shape, seed)
    assert torch.equal(draws.random_words(draw, n), reference.random_words(draw, n))
    assert torch.equal(draws.random_bits(draw, n), reference.random_bits(draw, n))


@patient
@given(shape=shapes, n=lengths, seed=seeds, threshold=st.integers(0, 65536), granularity=st.sampled_from([1, 64, 3]))
def test_masks(shape: tuple[int, ...], n: int, seed: int, threshold: int, granularity: int) -> None:
    draw = draw_for(shape, seed)
    per_row = torch.randint(0, 65537, shape, generator=torch.Generator().manual_seed(seed))
    for limit in (threshold, per_row):
        expected = reference.keep_bits(draw, n, limit, granularity)
        assert torch.equal(draws.keep_bits(draw, n, limit, granularity), expected)


@pytest.mark.parametrize(("threshold", "share"), [(0, 0.0), (65536, 1.0)])
@pytest.mark.parametrize("granularity", [1, 64])
def test_nothing_and_everything(threshold: int, share: float, granularity: int) -> None:
    kept = draws.keep_bits(draw_for((2,), 3), 1000, threshold, granularity)
    assert reference.unpack_bits(kept, 1000).float().mean() == share


def test_places_of_any_integer_type() -> None:
    draw = Draw(7, torch.arange(3), torch.tensor(2))
    narrow = Draw(7, torch.arange(3, dtype=torch.int32), torch.tensor(2, dtype=torch.int16))
    assert torch.equal(draws.random_bits(narrow, 130), reference.random_bits(draw, 130))
