"""Calls of the kernels of `gradvote.kernels.cuda.trees`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels.cuda import trees
from tests.kernels.cuda.both import there
from tests.kernels.inputs import DTYPES, coordinates, words_like

CALLS: list[Callable[[], object]] = [
    *(partial(trees.tree_sum, *there((coordinates((2, 65), dtype, 1),))) for dtype in (torch.float32, torch.float64)),
    *(
        partial(trees.mean_abs, *there((coordinates((2, 65), dtype, 1), *keep)))
        for dtype in DTYPES
        for keep in ((), (words_like((2, 2), 1),))
    ),
    *(
        partial(trees.folded, *there((torch.ones(1, 1025, dtype=dtype), torch.ones(1).int(), 1025, 0, False)))
        for dtype in (torch.float32, torch.float64)
    ),
]
