"""Adam's step of rows of unequal length, in one call."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels.adam_reference import Betas, Moments
from gradvote.kernels.cpu import adam
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.ragged_rows import keep_rows, place_of, row_at
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.ragged import Ragged
from gradvote.scattered import Vector

_adam = adam._adam


def ragged_adam_step(x: Vector, old: Moments, betas: Betas, rows: Ragged) -> tuple[Tensor, Moments]:
    """`ragged_reference.ragged_adam_step`."""
    out, whole = [spare.empty(old.m.shape) for _ in range(3)], torch.ones(rows.num_rows, dtype=torch.bool, device="cpu")
    weights, divisors = adam.weights_of(old, betas, whole.shape)
    source, begins = place_of(x, rows)
    places = source, *(t.data_ptr() for t in (old.m, old.v, *out))
    table = begins, rows.offsets, rows.lengths, rows.words
    job = (adam.factors_of(betas), places, table, divisors, whole.data_ptr())
    split(lambda start, stop: _adam_rows(*job, start, stop), int(rows.words[-1]), adam.GRAIN)
    update, m, v = out
    if not bool(whole.all()):
        lost = ~whole.numpy()
        keep_rows(m, old.m, lost, rows)
        keep_rows(v, old.v, lost, rows)
        pairs = zip(weights, (old.m_weight, old.v_weight), strict=True)
        return update, Moments(m, v, *(torch.where(whole, new, before) for new, before in pairs))
    return update, Moments(m, v, *weights)


@kernel
def _adam_rows(factors: Any, places: Any, table: Any, divisors: Any, whole: int, start: int, stop: int) -> None:
    begins, offsets, lengths, starts = table
    beta1, gain1, beta2, gain2, eps = factors
    x, m, v, update, new_m, new_v = places
    row, none = row_at(starts, start), np.int64(0)
    while row < len(lengths) and starts[row] < stop:
        first, last = max(start - starts[row], 0), min(stop, starts[row + 1]) - starts[row]
        n, begin, width = lengths[row], 4 * offsets[row], starts[row + 1] - starts[row]
        _adam(
            beta1,
            gain1,
            beta2,
            gain2,
            eps,
            (x + 4 * begins[row], none, n),
            (m + begin, none, n),
            (v + begin, none, n),
            (update + begin, none, n),
            (new_m + begin, none, n),
            (new_v + begin, none, n),
            divisors[2 * row : 2 * row + 2],
            whole + row,
            width,
            first,
            last,
        )
        row += 1
