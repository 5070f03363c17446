"""Shapes of rows."""

import itertools

import pytest
import torch

from gradvote.kernels.cpu.blocks import common_shape

SHAPES = [torch.Size(s) for s in ((), (0,), (1,), (3,), (1, 1), (1, 3), (2, 0), (2, 1), (2, 3), (4, 1, 3))]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(SHAPES, SHAPES)))
def test_common_shape_is_that_of_torch(a: torch.Size, b: torch.Size) -> None:
    try:
        expected = torch.broadcast_shapes(a, b)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            common_shape(a, b)
    else:
        assert common_shape(a, b) == expected
