"""Compiled compaction gives the bits of the definition, and undoes itself."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradvote.kernels import reference
from gradvote.kernels.cpu import compaction
from tests.kernels.inputs import LAYOUTS, layouts, seeds, shapes, sizes, words_like

pytestmark = pytest.mark.usefixtures("hard")
patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
shares = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.99, 1.0])


def mask(shape: tuple[int, ...], share: float, seed: int) -> torch.Tensor:
    return reference.pack_bits(torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share)


@patient
@given(shape=shapes, n=sizes, share=shares, layout=layouts, seed=seeds)
def test_together_and_apart(shape: tuple[int, ...], n: int, share: float, layout: str, seed: int) -> None:
    keep, words = mask((*shape, n), share, seed), words_like((*shape, reference.num_words(n)), seed)
    width = reference.num_words(int(reference.count_bits(keep).amax())) + seed % 2
    together = compaction.compact(LAYOUTS[layout](words), LAYOUTS[layout](keep), width)
    assert torch.equal(together, reference.compact(words, keep, width))
    apart = compaction.expand(together, keep)
    assert torch.equal(apart, reference.expand(together, keep) if width else torch.zeros_like(words))
    assert torch.equal(apart, words & keep)


def test_one_mask_for_all_workers() -> None:
    keep, words = mask((3, 1000), 0.3, 1), words_like((5, 3, 16), 2)
    width = reference.num_words(int(reference.count_bits(keep).amax()))
    together = compaction.compact(words, keep, width)
    assert torch.equal(together, reference.compact(words, keep, width))
    assert torch.equal(compaction.expand(together, keep), words & keep)


def test_nothing_is_read_or_written_beyond_the_rows() -> None:
    keep, words = torch.full((2, 9), -1), words_like((2, 9), 3)
    short = compaction.compact(words, keep, 4)
    assert torch.equal(short, words[:, :4])
    assert torch.equal(compaction.expand(short, keep), torch.nn.functional.pad(words[:, :4], (0, 5)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("granularity", [1, 64])
@pytest.mark.parametrize("n", [64 * compaction.PART, 64 * compaction.PART + 1, 200 * compaction.PART + 77])
def test_rows_of_several_parts(n: int, granularity: int, share: float) -> None:
    units = torch.rand((2, -(-n // granularity)), generator=torch.Generator().manual_seed(n)) < share
    keep = reference.pack_bits(units.repeat_interleave(granularity, -1)[:, :n])
    words = words_like((2, reference.num_words(n)), 5)
    width = reference.num_words(int(reference.count_bits(keep).amax()))
    together = compaction.compact(words, keep, width)
    assert torch.equal(together, reference.compact(words, keep, width))
    assert torch.equal(compaction.expand(together, keep), words & keep)
    assert torch.equal(compaction.compact(words, keep, max(width - 3, 0)), together[:, : max(width - 3, 0)])
