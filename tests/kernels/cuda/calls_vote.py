"""Calls of the kernels of `gradvote.kernels.cuda.vote`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels.cuda import vote
from tests.kernels.cuda.both import there
from tests.kernels.inputs import words_like


def _call(number: int, masked: bool, width: int) -> Callable[[], object]:
    words, ties = words_like((number, 2, width), 1), words_like((2, width), 2)
    counted = words_like((number, 2, width), 3) if masked else None
    return partial(vote.majority, *there((words, counted, torch.ones(number, 2) > 0, ties)))


CALLS: list[Callable[[], object]] = [
    *(_call(number, masked, 8) for number in (*vote.TILES, 16) for masked in (False, True)),
    _call(3, True, 9),
]
