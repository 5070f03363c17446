"""Calls of the kernels of `gradvote.kernels.cuda.ragged_*`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.kernels import Betas, Inertia, Moments
from gradvote.kernels.cuda import ragged_adam, ragged_bits, ragged_bytes, ragged_feedback, ragged_signs
from gradvote.layout import layout_of
from gradvote.rng import Draw
from tests.kernels.cuda.both import there


def _calls() -> list[Callable[[], object]]:
    made: list[Callable[[], object]] = []
    for numels, units in (([4096, 128], [64, 64]), ([300, 65, 7], [64, 3, 64])):
        rows = layout_of(numels, 2048, units).ragged
        draw = there(Draw(2**60, rows.block, torch.tensor(1)))
        x, (words, marks) = there(torch.randn(rows.size)), there((_words(rows.words), _words(rows.unit_words)))
        limit, each = there(torch.tensor(9)), there(torch.rand(rows.num_rows))
        for zeros in (True, False, draw):
            made += [partial(ragged_signs.ragged_signs, x, zeros, still, rows) for still in (True, False)]
        made += [
            partial(ragged_signs.ragged_noisy_signs, x, 0.5, draw, "gaussian", draw, rows),
            partial(ragged_signs.ragged_noisy_signs, x, each, draw, "laplace", True, rows),
            partial(ragged_feedback.ragged_feedback_step, x, x, each, None, words, False, None, rows),
            partial(ragged_feedback.ragged_feedback_step, x, x, each, Inertia(x, 0.9, True), None, draw, None, rows),
            partial(ragged_feedback.ragged_feedback_step, x, x, each, Inertia(x, 0.9, False), words, draw, each, rows),
        ]
        made += [
            partial(ragged_signs.ragged_average, x, 0.9, x, 0.1, rows),
            partial(ragged_adam.ragged_adam_step, x, Moments(x, x, each, each), Betas(0.8, 0.9, 1e-8), rows),
            partial(ragged_signs.ragged_averaged_signs, x, x, (0.9, 0.1), (0.99, 0.01), draw, True, rows),
            partial(ragged_signs.ragged_averaged_signs, x, x, (0.9, 0.1), (0.9, 0.1), False, False, rows),
            partial(ragged_bits.ragged_counts, words, rows),
            partial(ragged_bits.ragged_compact, words, words, rows),
            partial(ragged_bits.ragged_expand, words, words, rows),
            partial(ragged_bits.ragged_whole_units, words, rows),
            partial(ragged_bits.ragged_outside_units, marks, rows),
        ]
        for keep in (None, words):
            made += [
                partial(ragged_bits.ragged_unpack, words, keep, each, x.clone(), rows),
                partial(ragged_feedback.ragged_mean_abs, x, keep, rows),
            ]
        made += [
            partial(ragged_bits.ragged_keep_bits, draw, threshold, granularity, rows)
            for threshold in (100, limit)
            for granularity in (1, 64)
        ]
    table = torch.tensor([[0, 8], [16, 8], [8, 8]]).numpy()
    made += [
        partial(ragged_bytes.ragged_copy, words, table[0] * size // 8, words.clone(), table[1], table[2])
        for size in (8, 4, 1)
    ]
    return made


def _words(starts: object) -> torch.Tensor:
    return torch.zeros(int(starts[-1]), dtype=torch.int64)  # type: ignore[index]  # an array


CALLS = _calls()
