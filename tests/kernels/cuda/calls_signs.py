"""Calls of the kernels of `gradvote.kernels.cuda.signs`."""

from collections.abc import Callable
from functools import partial

from gradvote.kernels.cuda import signs
from tests.kernels.cuda.both import there
from tests.kernels.inputs import DTYPES, coordinates, draw_for

CALLS: list[Callable[[], object]] = [
    *(
        partial(signs.checked_pack_signs, *there((coordinates((2, n), dtype, 1), zeros)))
        for n in (64, 65)
        for dtype in DTYPES
        for zeros in (True, False, draw_for((2,), 1))
    ),
    *(
        partial(kernel, *there((coordinates((2, 65), DTYPES[0], 1), *more)))
        for kernel, more in ((signs.pack_signs, (False,)), (signs.finite, ()))
    ),
]
