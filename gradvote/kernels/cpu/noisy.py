"""Noise, and noise then signs in one pass: the draws live in registers only."""

from typing import Any

import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import (
    FORMATS,
    common_shape,
    per_row,
    position,
    result_rows,
    rows_of,
    shape_with,
)
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.formulas import DISTRIBUTIONS, quantile
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import FLOAT32, FLOAT64, INT64, Builder, Scalar, Vector, splat, store
from gradvote.kernels.cpu.loops import at, ceiling, each_group, group_at, group_to, value_at
from gradvote.kernels.cpu.philox import TILE, TILES, tiles
from gradvote.kernels.cpu.signs import inside, write_word, zeros_of
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.quantiles import formula_of
from gradvote.rng import Draw

GROUP = TILES * TILE
GRAIN = 1 << 15
"""Coordinates that are worth a thread."""
NOTHING = ()
"""The format of an absent summand."""


def noise(draw: Draw, n: int, distribution: str) -> Tensor:
    """`reference.noise`."""
    shape = common_shape(draw.block.shape, draw.sender.shape)
    out = spare.empty((*shape, n))
    _fill(out, out, NOTHING, 1.0, draw, distribution)
    return out


def add_noise(x: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> Tensor:
    """`reference.add_noise`."""
    shape = _shape(x, std, draw)
    if x.dtype not in FORMATS:
        return reference.add_noise(x, std, draw, distribution)
    out = spare.empty((*shape, x.shape[-1]), torch.promote_types(x.dtype, torch.float32))
    _fill(x, out, FORMATS[x.dtype], std, draw, distribution)
    return out


def noisy_pack_signs(
    x: Tensor, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool
) -> tuple[Tensor, Tensor]:
    """`reference.noisy_pack_signs`."""
    kind = _kind_of(distribution)
    if x.dtype not in FORMATS:
        return reference.noisy_pack_signs(x, std, draw, distribution, zeros)
    n, shape = x.shape[-1], shape_with(_shape(x, std, draw), zeros)
    rows = rows_of(x, GROUP, shape)
    words = spare.empty((*shape, reference.num_words(n)), torch.int64)
    valid = torch.ones(shape, dtype=torch.bool, device="cpu")
    job = (FORMATS[x.dtype], kind, rows.place, n, _scales(std, shape), position(draw, shape), zeros_of(zeros, shape))
    results = words.data_ptr(), valid.data_ptr()
    split(lambda start, stop: _pack(*job, *results, start, stop), rows.total, GRAIN // GROUP)
    return words, valid


def _fill(x: Tensor, out: Tensor, format_: Any, std: float | Tensor, draw: Draw, distribution: str) -> None:
    """Writes x + b·ξ, or ξ where there is NOTHING to add to."""
    kind, shape = _kind_of(distribution), out.shape[:-1]
    summand, results = rows_of(x, GROUP, shape), result_rows(out, GROUP)
    job = (format_, kind, summand.place, results.place, results.groups, _scales(std, shape), position(draw, shape))
    split(lambda start, stop: _add(*job, start, stop), results.total, GRAIN // GROUP)


def _kind_of(distribution: str) -> tuple[None, ...]:
    """A value whose type tells the compiler the distribution."""
    formula_of(distribution)
    return (None,) * (1 + DISTRIBUTIONS.index(distribution))


def _shape(x: Tensor, std: float | Tensor, draw: Draw) -> torch.Size:
    shape = shape_with(x.shape[:-1], draw)
    return common_shape(shape, std.shape) if isinstance(std, Tensor) else shape


def _scales(std: float | Tensor, shape: torch.Size) -> Any:
    return per_row(torch.as_tensor(std, dtype=torch.float32, device="cpu"), shape)


def _noisy(
    builder: Builder, format_: Any, kind: Any, address: Scalar, stds: Scalar, draw: Any, row: Scalar, group: Scalar
) -> list[Vector]:
    """x + b·ξ, tile by tile, for a group of coordinates."""
    key, blocks, senders = draw
    where = key, value_at(builder, blocks, row), value_at(builder, senders, row)
    sums = []
    for index, words in enumerate(tiles(builder, *where, builder.mul(group, INT64(TILES)), TILES)):
        xi = quantile(DISTRIBUTIONS[len(kind) - 1], words)
        if len(format_):
            offset = INT64(index * TILE * item_bytes(format_))
            x = read(builder, format_, builder.add(address, offset), TILE)
            scaled = xi * splat(builder, value_at(builder, stds, row, FLOAT32), TILE)
            xi = x + (scaled.to(FLOAT64, "fpext") if len(format_) == 2 else scaled)
        sums.append(xi)
    return sums


def result_bytes(format_: Any) -> int:
    """Bytes of a sum with coordinates of this format: at least those of float32."""
    return 8 if len(format_) == 2 else 4


@program
def _pack(
    builder: Builder,
    format_: Any,
    kind: Any,
    place: Any,
    n: Scalar,
    stds: Scalar,
    draw: Any,
    zeros: Any,
    words: Scalar,
    valid: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    width = ceiling(builder, n, TILE)
    with each_group(builder, start, stop, ceiling(builder, n, GROUP)) as (row, group):
        address = group_at(builder, place, row, group, GROUP, item_bytes(format_))
        for tile, x in enumerate(_noisy(builder, format_, kind, address, stds, draw, row, group)):
            index = builder.add(builder.mul(group, INT64(TILES)), INT64(tile))
            with builder.if_then(builder.icmp_signed("<", index, width), likely=True):
                out = at(builder, words, (builder.add(builder.mul(row, width), index), 8))
                write_word(x, inside(builder, n, index), zeros, row, index, n, out, builder.add(valid, row))


@program
def _add(
    builder: Builder,
    format_: Any,
    kind: Any,
    place: Any,
    result: Any,
    groups: Scalar,
    stds: Scalar,
    draw: Any,
    start: Scalar,
    stop: Scalar,
) -> None:
    with each_group(builder, start, stop, groups) as (row, group):
        address = group_at(builder, place, row, group, GROUP, item_bytes(format_))
        with group_to(builder, result, row, group, GROUP, result_bytes(format_)) as out:
            for tile, x in enumerate(_noisy(builder, format_, kind, address, stds, draw, row, group)):
                store(x, builder.add(out, INT64(tile * TILE * result_bytes(format_))))
