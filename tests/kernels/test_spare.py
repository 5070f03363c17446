"""Memory serves again once nobody refers to it, and never before."""

import os

import pytest
import torch

from gradvote.kernels.cpu.spare import LARGE, LARGE_PAGE, Spare

SHAPE = (3, LARGE // 8)
SIZE = 4 * 3 * LARGE // 8


def test_memory_is_lent_again_once_the_last_view_is_gone() -> None:
    spare = Spare()
    first, other = spare.empty(SHAPE), spare.empty(SHAPE)
    place, row = first.data_ptr(), first[1]
    del first
    assert spare.kept == 0
    assert spare.empty(SHAPE).data_ptr() != place
    del row
    places = {spare.empty(SHAPE).data_ptr(), other.data_ptr()}
    assert len(places) == 2


def test_the_same_memory_returns_for_a_result_of_about_its_size() -> None:
    spare = Spare()
    old, new = spare.empty(SHAPE), spare.empty(SHAPE)
    place = old.data_ptr()
    del old
    again = spare.empty((3, LARGE // 8 - 4096))
    assert again.data_ptr() == place
    assert again.data_ptr() != new.data_ptr()
    del again
    assert spare.empty((2, LARGE // 8)).data_ptr() != place


def test_what_waits_is_bounded_whatever_was_in_use_and_however_many_sizes_there_were() -> None:
    spare = Spare(ready=2 * SIZE)
    for count in range(5, 12):
        lent = [spare.empty((count, LARGE // 8)) for _ in range(5)]
        assert spare.used >= 5 * count * LARGE // 2
        while lent:
            lent.pop()
            assert spare.kept <= 2 * SIZE
    assert spare.used == 0


def test_little_is_ready_when_nothing_is_in_use() -> None:
    spare = Spare(ready=LARGE)
    lent = [spare.empty((LARGE // 4,)) for _ in range(3)]
    place = lent[0].data_ptr()
    while lent:
        lent.pop()
    assert spare.kept == LARGE and spare.used == 0
    assert spare.empty((LARGE // 8,), torch.int64).data_ptr() == place


def test_results_are_ordinary_tensors() -> None:
    spare = Spare()
    for shape in ((0,), (7,), (2, 0), SHAPE):
        x = spare.empty(shape)
        assert x.shape == shape
        assert x.dtype == torch.float32
        assert x.is_contiguous()
    assert spare.empty(SHAPE).data_ptr() % 64 == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork processes.")
def test_a_forked_process_writes_into_memory_of_its_own() -> None:
    """Workers of a DataLoader are forked while states of a vote are there."""
    x = Spare().empty(SHAPE).fill_(1)
    child = os.fork()
    if child == 0:
        x.numpy()[:] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bool((x == 1).all())


def test_memory_begins_where_a_large_page_does() -> None:
    """A result of some megabytes would otherwise be in small pages for the most part."""
    assert all(Spare().empty((n, LARGE // 8)).data_ptr() % LARGE_PAGE == 0 for n in range(4, 9))
