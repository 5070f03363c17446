"""Triton's compaction gives the bits of the definition, and undoes itself."""

import pytest
import torch

from gradvote.kernels import reference
from gradvote.kernels.cuda import compaction
from tests.kernels.cuda.both import check
from tests.kernels.inputs import LAYOUTS, words_like
from tests.on_card import DEVICE

SHAPES: list[tuple[int, ...]] = [(3,), (), (2, 3), (2, 1, 3)]
SIZES = (0, 1, 7, 63, 64, 65, 129, 1025, 2049, 16385)
SHARES = (0.3, 0.0, 0.99, 0.01, 0.5, 1.0)
CASES = [(n, SHAPES[i % 4], SHARES[i % 6], sorted(LAYOUTS)[i % 5], i) for i, n in enumerate(SIZES)]


def mask(shape: tuple[int, ...], share: float, seed: int) -> torch.Tensor:
    return reference.pack_bits(torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share)


@pytest.mark.parametrize(("n", "shape", "share", "layout", "seed"), CASES)
def test_together_and_apart(n: int, shape: tuple[int, ...], share: float, layout: str, seed: int) -> None:
    keep, words = mask((*shape, n), share, seed), words_like((*shape, reference.num_words(n)), seed)
    width = reference.num_words(int(reference.count_bits(keep).amax())) + seed % 2
    check(compaction.compact, reference.compact, LAYOUTS[layout](words), LAYOUTS[layout](keep), width)
    together = reference.compact(words, keep, width)
    if width:
        check(compaction.expand, reference.expand, LAYOUTS[layout](together), keep)
    assert torch.equal(reference.expand(together, keep) if width else words * 0, words & keep)


def test_one_mask_for_all_workers() -> None:
    keep, words = mask((3, 1000), 0.3, 1), words_like((5, 3, 16), 2)
    width = reference.num_words(int(reference.count_bits(keep).amax()))
    check(compaction.compact, reference.compact, words, keep, width)
    check(compaction.expand, reference.expand, reference.compact(words, keep, width), keep)


def test_nothing_is_read_or_written_beyond_the_rows() -> None:
    keep, words = torch.full((2, 9), -1, device=DEVICE), words_like((2, 9), 3).to(DEVICE)
    short = compaction.compact(words, keep, 4)
    assert torch.equal(short, words[:, :4])
    assert torch.equal(compaction.expand(short, keep), torch.nn.functional.pad(words[:, :4], (0, 5)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("granularity", [1, 64])
def test_rows_of_several_parts(granularity: int, share: float) -> None:
    n = 32 * compaction.PART * 2 + 77
    units = torch.rand((2, -(-n // granularity)), generator=torch.Generator().manual_seed(n)) < share
    keep = reference.pack_bits(units.repeat_interleave(granularity, -1)[:, :n])
    words = words_like((2, reference.num_words(n)), 5)
    width = reference.num_words(int(reference.count_bits(keep).amax()))
    check(compaction.compact, reference.compact, words, keep, width)
    if width:
        check(compaction.expand, reference.expand, reference.compact(words, keep, width), keep)
