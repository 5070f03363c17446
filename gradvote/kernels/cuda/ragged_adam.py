"""Adam's step of rows of unequal length: `ragged_reference.ragged_adam_step` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import ragged_reference
from gradvote.kernels.adam_reference import Betas, Moments, advanced_weights
from gradvote.kernels.cuda import tables
from gradvote.kernels.cuda.adam import adam_tile, factors_of
from gradvote.kernels.cuda.averages import NARROW, TILE
from gradvote.kernels.cuda.launch import launch
from gradvote.kernels.cuda.ragged_signs import repair
from gradvote.kernels.roots import sqrt
from gradvote.ragged import Ragged
from gradvote.scattered import Vector


def ragged_adam_step(x: Vector, old: Moments, betas: Betas, rows: Ragged) -> tuple[Tensor, Moments]:
    """`ragged_reference.ragged_adam_step`."""
    if x.dtype not in NARROW or old.m.dtype != torch.float32:
        return ragged_reference.ragged_adam_step(x, old, betas, rows)
    update, m, v = (torch.empty_like(old.m) for _ in range(3))
    sent = torch.ones(rows.num_rows, dtype=torch.bool, device=old.m.device)
    weights = advanced_weights(old, betas)
    table = tables.coordinates(rows, TILE, old.m.device)
    source, form = tables.source_of(x, table)
    launch(
        _adam, table.programs, old.m, table.x, *source, old.m, old.v, update, m, v, sent,
        weights[0], sqrt(weights[1]), *factors_of(betas), TILE=TILE, **form,
    )  # fmt: skip
    repair(old.m, m, sent, rows)
    repair(old.v, v, sent, rows)
    kept = [torch.where(sent, new, before) for new, before in zip(weights, old[2:], strict=True)]
    return update, Moments(m, v, *kept)


@triton.jit
def _adam(
    table, x, where, m, v, update, new_m, new_v, sent, weights, roots, beta1, gain1, beta2, gain2, eps,
    UNIT: tl.constexpr, SCATTERED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    n, row, place = tables.length(table, UNIT), tables.row(table), tables.offset(table, UNIT)
    adam_tile(
        tables.start(x, where, table, UNIT, SCATTERED), m + place, v + place, update + place, new_m + place,
        new_v + place, sent + row, tl.load(weights + row), tl.load(roots + row), beta1, gain1, beta2, gain2, eps,
        n, tables.tile(table), TILE,
    )  # fmt: skip
