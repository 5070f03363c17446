"""Triton's vote gives the bits of `reference.majority`, for every number of workers, shape, mask and layout."""

import pytest
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import vote
from tests.kernels.cuda.both import check, slow
from tests.kernels.inputs import words_like


def _flags(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.7


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7, 8, 15, 70, *map(slow, (16, 31))])
def test_every_kind_of_number(number: int) -> None:
    """Blocks where all, some and no ballots count; a chunk more and a ballot more."""
    words, valid = words_like((number, 3, 9), 1), _flags(number, 3)
    valid[:, 0], valid[:, 1] = True, False
    for counted in (None, words_like(words.shape, 3)):
        check(vote.majority, reference.majority, words, counted, valid, words_like((3, 9), 4))


@pytest.mark.parametrize("width", [0, 1, 63, 256, 513, 1025])
def test_odd_sizes(width: int) -> None:
    words, valid = words_like((4, width), 1), torch.ones(4, dtype=torch.bool)
    check(vote.majority, reference.majority, words, words_like(words.shape, 3), valid, words_like((width,), 4))


def test_layouts() -> None:
    """Transposed axes, strided and shifted words, broadcast ballots, marks, flags and ties."""
    base, ties = words_like((4, 2, 3, 40), 1), words_like((40,), 4)
    for words in (
        base.transpose(0, 1),
        base.transpose(1, 2),
        base[..., ::3],
        base[:, 1:, :, 3:],
        base[:1].expand(5, 2, 3, 40),
    ):
        tie = ties[: words.shape[-1]].expand(words.shape[1:])
        flags = torch.tensor([True, False, True])[: words.shape[2]].expand(words.shape[:-1])
        check(vote.majority, reference.majority, words, base[:1, :1, :1, : words.shape[-1]], flags, tie)


@pytest.mark.parametrize("masked", [False, True])
def test_a_crowd_of_one_mind_does_not_overflow_the_counter(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    """With a counter of fewer bits, to be quick; a ballot more is not for it."""
    assert (1 << vote.PLANES - 1) - 1 == vote.LIMIT == 15 * (vote.LIMIT // 15)
    monkeypatch.setattr(vote, "PLANES", 9)
    monkeypatch.setattr(vote, "LIMIT", 255)
    for number in (255, 256):
        words, flags = torch.full((number, 2), -1), torch.ones(number, dtype=torch.bool)
        ties = torch.zeros(2, dtype=torch.int64)
        check(vote.majority, reference.majority, words, words if masked else None, flags, ties)
