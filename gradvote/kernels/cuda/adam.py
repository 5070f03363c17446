"""Adam's step in one pass, for rows of one length and of several, on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import adam_reference
from gradvote.kernels.adam_reference import Betas, Moments, advanced_weights
from gradvote.kernels.cuda.averages import NARROW, TILE, bounded, repair
from gradvote.kernels.cuda.columns import strides_of, unit_of
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import rows_of
from gradvote.kernels.cuda.tiles import is_finite, load, row_start
from gradvote.kernels.roots import sqrt


def adam_step(x: Tensor, old: Moments, betas: Betas) -> tuple[Tensor, Moments]:
    """`adam_reference.adam_step`."""
    averages = (old.m, old.v)
    if x.dtype not in NARROW or any(t.dtype != torch.float32 or t.shape != x.shape for t in averages):
        return adam_reference.adam_step(x, old, betas)
    update, m, v = (torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in range(3))
    sent = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    weights = advanced_weights(old, betas)
    divisors = [own.expand(sent.shape).contiguous() for own in (weights[0], sqrt(weights[1]))]
    own, *sources = (rows_of(t.detach()) for t in (x, *averages))
    unit = unit_of(own, *sources)
    places = [stride for rows in (own, *sources) for stride in strides_of(rows, unit)]
    launch(
        _adam, own.number * portions(own.n, TILE), x,
        own.x, *(rows.x for rows in sources), update, m, v, sent, *divisors, *factors_of(betas), own.n, own.inner,
        *places, UNIT=unit, TILE=TILE,
    )  # fmt: skip
    for rows, new in zip(sources, (m, v), strict=True):
        repair(rows, new, sent)
    kept = [torch.where(sent, new, before) for new, before in zip(weights, old[2:], strict=True)]
    return update, Moments(m, v, *kept)


def factors_of(betas: Betas) -> tuple[float, ...]:
    """β₁, 1 − β₁, β₂, 1 − β₂ and ε."""
    first, second, eps = betas
    return first, 1 - first, second, 1 - second, eps


@triton.jit(
    do_not_specialize=(
        "n", "inner", "outer_stride", "inner_stride", "m_outer", "m_inner", "v_outer", "v_inner",
    )
)  # fmt: skip
def _adam(
    x, m, v, update, new_m, new_v, sent, weights, roots, beta1, gain1, beta2, gain2, eps, n, inner,
    outer_stride, inner_stride, m_outer, m_inner, v_outer, v_inner, UNIT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    n = n // UNIT * UNIT
    tiles = tl.cdiv(n, TILE)
    row, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    place = row.to(tl.int64) * n
    adam_tile(
        row_start(x, row, inner, outer_stride, inner_stride, UNIT), row_start(m, row, inner, m_outer, m_inner, UNIT),
        row_start(v, row, inner, v_outer, v_inner, UNIT), update + place, new_m + place, new_v + place, sent + row,
        tl.load(weights + row), tl.load(roots + row), beta1, gain1, beta2, gain2, eps, n, tile, TILE,
    )  # fmt: skip


@triton.jit
def adam_tile(
    x, m, v, update, new_m, new_v, sent, weight, root, beta1, gain1, beta2, gain2, eps, n, tile, TILE: tl.constexpr
):
    """A tile of the step of the row at x (n,); `sent` falls where its update is not finite."""
    j = tile * TILE + tl.arange(0, TILE)
    own, first, second = bounded(load(x, j, n)), load(m, j, n), load(v, j, n)
    first = first * beta1 + own * gain1
    second = second * beta2 + own * own * gain2
    divisor = tl.div_rn(tl.sqrt_rn(second), tl.zeros_like(second) + root) + eps
    result = tl.div_rn(tl.div_rn(first, tl.zeros_like(first) + weight), divisor)
    tl.store(update + j, result, mask=j < n)
    tl.store(new_m + j, first, mask=j < n)
    tl.store(new_v + j, second, mask=j < n)
    if tl.min((is_finite(result) | (j >= n)).to(tl.int32)) == 0:
        tl.store(sent, False)
