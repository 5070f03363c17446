"""Calls of the kernels of `gradvote.kernels.cuda.draws` and `noisy`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels.cuda import draws, noisy, noisy_signs
from gradvote.kernels.cuda.formulas import DISTRIBUTIONS
from tests.kernels.cuda.both import there
from tests.kernels.inputs import DTYPES, coordinates, draw_for

DRAW, STD = draw_for((2,), 1), torch.ones(2)

CALLS: list[Callable[[], object]] = [
    partial(draws.random_words, there(DRAW), 512),
    partial(draws.random_bits, there(DRAW), 512),
    *(
        partial(draws.keep_bits, *there((DRAW, 512, threshold, granularity)))
        for threshold in (9, torch.tensor([9, 9]))
        for granularity in (1, 3, 64)
    ),
    *(partial(noisy.noise, there(DRAW), 512, distribution) for distribution in DISTRIBUTIONS),
    *(
        partial(kernel, *there((coordinates((2, n), dtype, 1), std, DRAW, distribution, *more)))
        for n, dtype, std, distribution, zeros in (
            *((512, DTYPES[0], 1.0, distribution, DRAW) for distribution in DISTRIBUTIONS),
            *((512, dtype, STD, DISTRIBUTIONS[0], DRAW) for dtype in DTYPES),
            (511, DTYPES[0], STD, DISTRIBUTIONS[1], False),
            (511, DTYPES[0], STD, DISTRIBUTIONS[1], True),
        )
        for kernel, more in ((noisy.add_noise, ()), (noisy_signs.noisy_pack_signs, (zeros,)))
    ),
]
