"""The compiled vote gives the bits of `reference.majority`, for every number of workers, shape, mask and layout."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu import vote
from gradvote.kernels.cpu.vote import majority

POISON = 0x5A5A5A5A5A5A5A5A


@pytest.fixture(autouse=True)
def poisoned_and_split(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds rubbish, and every second tile goes to another thread."""
    monkeypatch.setattr(torch, "empty", lambda *size, **how: torch.full(*size, POISON, **how))
    monkeypatch.setattr(vote, "PART", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random_words(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)


def check(words: Tensor, counted: Tensor | None, valid: Tensor, ties: Tensor | None = None) -> None:
    ties = random_words(*words.shape[1:], seed=9) if ties is None else ties
    won, tied = majority(words, counted, valid, ties)
    expected_won, expected_tied = reference.majority(words, counted, valid, ties)
    assert torch.equal(won, expected_won)
    assert torch.equal(tied, expected_tied)


def everyone(words: Tensor) -> Tensor:
    return torch.ones(words.shape[:-1], dtype=torch.bool)


@pytest.mark.parametrize("num_workers", [*range(1, 34), 64, 65, 100])
def test_every_number_of_workers(num_workers: int) -> None:
    words = random_words(num_workers, 1037)
    check(words, None, everyone(words))


@pytest.mark.parametrize("num_workers", [*range(1, 18), 33, 65])
def test_every_number_of_masked_workers(num_workers: int) -> None:
    words = random_words(num_workers, 1037)
    check(words, random_words(*words.shape, seed=1), everyone(words))


@pytest.mark.parametrize("num_workers", [1000, 4095, 4096])
@pytest.mark.parametrize("masked", [False, True])
def test_crowds(num_workers: int, masked: bool) -> None:
    words = random_words(num_workers, 2, 9)
    valid = torch.arange(2 * num_workers).reshape(num_workers, 2) % 7 != 3
    check(words, random_words(*words.shape, seed=1) if masked else None, valid)


def test_a_crowd_of_one_mind_does_not_overflow_the_counter() -> None:
    words = torch.full((4096, 1, 8), -1)
    won, tied = majority(words, words, everyone(words), torch.zeros(1, 8, dtype=torch.int64))
    assert (won == -1).all()
    assert not tied.any()


@pytest.mark.parametrize("width", [0, 1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 16385])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_odd_sizes(width: int, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    words = random_words(4, width)
    check(words, None, everyone(words))
    check(words, random_words(*words.shape, seed=1), everyone(words))


@pytest.mark.parametrize("masked", [False, True])
def test_abstaining_blocks(masked: bool) -> None:
    words = random_words(5, 2, 6, 521)
    counted = random_words(*words.shape, seed=1) if masked else None
    valid = torch.rand(words.shape[:-1], generator=torch.Generator().manual_seed(2)) < 0.6
    valid[:, 0, 0], valid[:, 1, 2] = False, True
    check(words, counted, valid)
    check(words, counted, torch.zeros_like(valid))


@pytest.mark.parametrize("lost", [0, 4])
def test_a_worker_that_is_lost_altogether(lost: int) -> None:
    words = random_words(5, 3, 40)
    valid = everyone(words)
    valid[lost] = False
    check(words, None, valid)


@pytest.mark.parametrize("masked", [False, True])
def test_layouts(masked: bool) -> None:
    """Transposed axes, strided and shifted words, broadcast ballots and ties."""
    base = random_words(6, 5, 4, 70)
    ties = random_words(70, seed=3)
    for words in (
        base.transpose(0, 1),
        base.transpose(1, 2),
        base[..., ::3],
        base[:, 1:, :, 3:],
        base[:1].expand_as(base),
    ):
        counted = words.roll(1, 0) if masked else None
        check(words, counted, everyone(words), ties[: words.shape[-1]].expand(words.shape[1:]))


def test_constant_ties_and_validity_by_broadcasting() -> None:
    words = torch.cat((random_words(2, 3, 9), ~random_words(2, 3, 9)))
    for tie in (0, -1):
        check(words, None, torch.tensor(True).expand(4, 3), torch.tensor(tie).expand(3, 9))
        won, tied = majority(words, None, everyone(words), torch.tensor(tie).expand(3, 9))
        assert (tied == -1).all()
        assert (won == tie).all()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    num_workers=st.sampled_from([1, 2, 3, 6, 7, 33, 40]),
    width=st.integers(0, 20) | st.integers(500, 530),
    masked=st.booleans(),
    presence=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 99),
)
def test_any_shape(shape: list[int], num_workers: int, width: int, masked: bool, presence: float, seed: int) -> None:
    words = random_words(num_workers, *shape, width, seed=seed)
    valid = torch.rand(words.shape[:-1], generator=torch.Generator().manual_seed(seed)) < presence
    check(words, random_words(*words.shape, seed=seed + 1) if masked else None, valid)
