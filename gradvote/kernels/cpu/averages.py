"""Moving averages in one pass: what is multiplied, added and looked at for infinities is read once."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import result_rows, rows_of
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import FLOAT32, INT8, Builder, Scalar, Vector, load, splat, store, store_word
from gradvote.kernels.cpu.loops import each_group, group_at, group_to
from gradvote.kernels.cpu.signs import INFINITY, if_any
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split

LANES = 64
GRAIN = 1 << 10
"""Groups that are worth a thread."""
_LIMIT = int(np.float32(reference.LIMIT).view(np.int32))


def moving_average(old: Tensor, beta: float, x: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """`reference.moving_average`; one tensor twice where all of it is finite."""
    if x.dtype != torch.float32 or old.dtype != torch.float32 or x.shape != old.shape:
        return reference.moving_average(old, beta, x, gain)
    new, whole = spare.empty(x.shape), torch.ones(x.shape[:-1], dtype=torch.bool, device="cpu")
    sources, target = [rows_of(t, LANES) for t in (old, x)], result_rows(new, LANES)
    places = (rows.place for rows in (*sources, target))
    job = (np.float32(beta), np.float32(gain), *places, whole.data_ptr(), target.groups)
    split(lambda start, stop: _average(*job, start, stop), target.total, GRAIN)
    return new, new if bool(whole.all()) else torch.where(whole[..., None], new, old)


def bounded(x: Vector) -> Vector:
    """`reference.bounded`."""
    return (x.magnitude() < _LIMIT).where(x, x * math.inf)


@program
def _average(
    builder: Builder,
    beta: Scalar,
    gain: Scalar,
    old: Any,
    x: Any,
    new: Any,
    whole: Scalar,
    groups: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    """Writes β·old + γ·x of each group, x `bounded`; the flag of its row falls where that is not finite."""
    factors = [splat(builder, factor, LANES) for factor in (beta, gain)]
    with each_group(builder, start, stop, groups) as (row, group):
        before, added = (load(builder, group_at(builder, p, row, group, LANES, 4), FLOAT32, LANES) for p in (old, x))
        result = before * factors[0] + bounded(added) * factors[1]
        with group_to(builder, new, row, group, LANES, 4) as target:
            store(result, target)
        with if_any(result.magnitude() >= INFINITY[32]):
            store_word(builder, INT8(0), builder.add(whole, row))
