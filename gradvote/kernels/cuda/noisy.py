"""Noise, alone and added to numbers: `reference` on a CUDA device."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cuda import philox
from gradvote.kernels.cuda.formulas import kind_of, quantile
from gradvote.kernels.cuda.launch import launch, portions
from gradvote.kernels.cuda.rows import lead_of, number_of, rows_of
from gradvote.kernels.cuda.tiles import drawn, load, number, row_start
from gradvote.rng import Draw

TILES = 16
"""Tiles of 64 coordinates that one program takes."""
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_SCALARS = ("n", "words", "inner", "outer_stride", "inner_stride", "std_outer", "std_inner", *philox.NAMES)


def noise(draw: Draw, n: int, distribution: str) -> Tensor:
    """`reference.noise`."""
    out = torch.empty((*lead_of(draw.block.shape, draw), n), device=draw.block.device)
    _add(None, out, 1.0, draw, distribution)
    return out


def add_noise(x: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> Tensor:
    """`reference.add_noise`."""
    if x.dtype not in FLOATS:
        return reference.add_noise(x, std, draw, distribution)
    lead, dtype = lead_of(x.shape[:-1], draw, std), torch.promote_types(x.dtype, torch.float32)
    out = torch.empty((*lead, x.shape[-1]), dtype=dtype, device=x.device)
    _add(x, out, std, draw, distribution)
    return out


def _add(x: Tensor | None, out: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> None:
    """Write x + b·ξ, or ξ where there is nothing to add to."""
    kind, lead = kind_of(distribution), out.shape[:-1]
    rows, result = rows_of(out if x is None else x, lead), rows_of(out)
    launch(
        _add_rows, rows.number * portions(rows.n, 64 * TILES), out,
        rows.x, out, rows.n, *rows.place, *number_of(std, lead, out), *philox.place_of(draw, lead),
        GIVEN=isinstance(std, Tensor), KIND=kind, SUM=x is not None, UNIT=rows.unit, OUT_UNIT=result.unit, TILES=TILES,
    )  # fmt: skip


@triton.jit(do_not_specialize=_SCALARS)
def _add_rows(
    x, out, n, inner, outer_stride, inner_stride, std, std_outer, std_inner, plain,
    low, high, block, block_outer, block_inner, sender, sender_outer, sender_inner,
    GIVEN: tl.constexpr, KIND: tl.constexpr, SUM: tl.constexpr, UNIT: tl.constexpr, OUT_UNIT: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    n = n // OUT_UNIT * OUT_UNIT
    groups = tl.cdiv(n, 64 * TILES)
    row, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    own_block = drawn(block, row, inner, block_outer, block_inner)
    own_sender = drawn(sender, row, inner, sender_outer, sender_inner)
    scale = 0.0
    if SUM:
        scale = number(std, row, inner, std_outer, std_inner, plain, GIVEN)
        x = row_start(x, row, inner, outer_stride, inner_stride, UNIT)
    target = out + row.to(tl.int64) * (n // OUT_UNIT) * OUT_UNIT
    noise_tile(x, target, n, group, scale, own_block, own_sender, low, high, KIND, SUM, TILES)


@triton.jit
def noise_tile(
    x, out, n, tile, scale, block, sender, low, high, KIND: tl.constexpr, SUM: tl.constexpr, TILES: tl.constexpr
):  # fmt: skip
    """A tile of 64·TILES draws, alone or times `scale` added to the row at x (n,), to `out`."""
    first = tile * TILES
    lower, upper = philox.pairs(first, block, sender, low, high, TILES)
    lower, upper = quantile(lower, KIND), quantile(upper, KIND)
    j = philox.places(first, TILES)
    if SUM:
        lower, upper = _sum(load(x, j, n), lower * scale), _sum(load(x, j + 32, n), upper * scale)
    tl.store(out + j, lower, mask=j < n)
    tl.store(out + j + 32, upper, mask=j + 32 < n)


@triton.jit
def _sum(x, term):
    return x + term.to(x.dtype)
