"""Calls of the kernels of `gradvote.kernels.cuda.feedback`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels.cuda import feedback
from gradvote.kernels.cuda.averages import NARROW
from gradvote.kernels.feedback_reference import Inertia
from gradvote.rng import Draw
from tests.kernels.cuda.both import there
from tests.kernels.inputs import coordinates, draw_for, words_like


def _call(
    dtype: torch.dtype, nesterov: bool | None, zeros: Draw | bool, masked: bool, mean: bool, n: int
) -> Callable[[], object]:
    x, memory, momentum = (coordinates((2, n), kind, 1) for kind in (dtype, torch.float32, torch.float32))
    inertia = None if nesterov is None else Inertia(momentum, 0.9, nesterov)
    keep = words_like((2, -(-n // 64)), 3) if masked else None
    given = (x, memory, torch.ones(2), inertia, keep, zeros, None if mean else torch.ones(2))
    return partial(feedback.feedback_step, *there(given))


CALLS: list[Callable[[], object]] = [
    *(
        _call(torch.float32, nesterov, zeros, masked, mean, 64)
        for nesterov, zeros, masked in ((None, draw_for((2,), 1), False), (False, True, True), (True, False, False))
        for mean in (False, True)
    ),
    *(_call(dtype, True, draw_for((2,), 1), True, dtype != torch.float16, 65) for dtype in NARROW[1:]),
    *(_call(torch.float32, True, draw_for((2,), 1), masked, True, 16384) for masked in (False, True)),
    *(
        _call(torch.float32, nesterov, zeros, masked, True, 16448)
        for nesterov, zeros, masked in ((None, draw_for((2,), 1), False), (False, True, True), (True, False, False))
    ),
]
