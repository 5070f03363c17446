"""Memory serves again once nobody refers to it, and never before."""

import torch

from gradvote.kernels.cpu.spare import ALIGNMENT, LARGE, Spare

SHAPE = (3, LARGE // 8)


def test_memory_is_lent_again_once_the_last_view_is_gone() -> None:
    spare = Spare(ready=0)
    first, other = spare.empty(SHAPE), spare.empty(SHAPE)
    place, row = first.data_ptr(), first[1]
    del first
    assert spare.kept == 0
    assert spare.empty(SHAPE).data_ptr() != place
    del row
    places = {spare.empty(SHAPE).data_ptr(), other.data_ptr()}
    assert len(places) == 2


def test_the_same_memory_returns() -> None:
    spare = Spare(ready=0)
    old, new = spare.empty(SHAPE), spare.empty(SHAPE)
    place = old.data_ptr()
    del old
    again = spare.empty(SHAPE)
    assert again.data_ptr() == place
    assert again.data_ptr() != new.data_ptr()


def test_no_more_is_kept_than_is_in_use() -> None:
    spare = Spare(ready=0)
    lent = [spare.empty(SHAPE) for _ in range(5)]
    del lent[1:]
    assert 0 < spare.kept <= spare.used
    lent.clear()
    assert spare.kept == spare.used == 0


def test_a_little_is_ready_when_nothing_is_in_use() -> None:
    spare = Spare(ready=LARGE)
    lent = [spare.empty((LARGE // 4,)) for _ in range(3)]
    place = lent[2].data_ptr()
    lent.clear()
    assert spare.kept == LARGE and spare.used == 0
    assert spare.empty((LARGE // 8,), torch.int64).data_ptr() == place


def test_results_are_ordinary_tensors() -> None:
    spare = Spare()
    for shape in ((0,), (7,), (2, 0), SHAPE):
        x = spare.empty(shape)
        assert x.shape == shape
        assert x.dtype == torch.float32
        assert x.is_contiguous()
    assert spare.empty(SHAPE).data_ptr() % ALIGNMENT == 0
