"""Calls of the kernels of `gradvote.kernels.cuda.order`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels.cuda import order
from tests.kernels.cuda.both import there
from tests.kernels.inputs import coordinates


def _call(
    kernel: Callable[..., object], number: int, dtype: torch.dtype, *more: object, n: int = 64
) -> partial[object]:
    return partial(kernel, *there((coordinates((number, 2, n), dtype, 1), torch.ones(number, 2) > 0, *more)))


CALLS: list[Callable[[], object]] = [
    *(_call(order.median, number, torch.float32) for number in (2, 8, 16, 32, 65)),
    *(_call(order.median, number, torch.float64) for number in (8, 65)),
    _call(order.trimmed_mean, 8, torch.float32, 2, n=65),
    *(
        _call(order.mean, 8, dtype, *weights)
        for dtype in (torch.float32, torch.float64)
        for weights in ((), (torch.ones(8),))
    ),
]
