"""Calls of the kernels of `gradvote.kernels.cuda.averages`."""

from collections.abc import Callable
from functools import partial

from gradvote.kernels.cuda import adam, averages
from tests.kernels.cuda.both import there
from tests.kernels.inputs import DTYPES, coordinates
from tests.kernels.test_adam import BETAS, moments

CALLS: list[Callable[[], object]] = [
    *(
        partial(
            averages.moving_average,
            *there((coordinates((2, n), DTYPES[0], 1), 0.9, coordinates((2, n), dtype, 2), 0.1)),
        )
        for n in (64, 65)
        for dtype in averages.NARROW
    ),
    *(
        partial(adam.adam_step, *there((coordinates((2, n), DTYPES[0], 1), moments((2,), n, 1), BETAS)))
        for n in (64, 65)
    ),
    *(
        partial(averages.finite_or, *there((coordinates((2, 65), dtype, 1), coordinates((2, 65), dtype, 2))))
        for dtype in DTYPES
    ),
]
