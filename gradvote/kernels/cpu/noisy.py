"""Noise, and noise then signs in one pass: the draws live in registers only."""

from typing import Any

import torch
from numba import types
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import (
    FORMATS,
    Flags,
    Place,
    Position,
    Scales,
    Words,
    common_shape,
    per_row,
    position,
    result_rows,
    rows_of,
    shape_with,
)
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.formulas import DISTRIBUTIONS, quantile
from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.lanes import FLOAT64, INT64, Builder, Scalar, Vector, items, splat, store
from gradvote.kernels.cpu.philox import TILE, TILES, tiles
from gradvote.kernels.cpu.signs import Zeros, bytes_of, mark, room, settle, word_at, zeros_of
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
    valid = torch.ones(shape, dtype=torch.bool)
    job = (FORMATS[x.dtype], kind, rows.place, n, _scales(std, shape), position(draw, shape), zeros_of(zeros, shape))
    results = words.view(-1).numpy(), valid.view(-1).numpy()
    split(lambda start, stop: _pack(*job, *results, start, stop), rows.total, GRAIN // GROUP)
    return words, valid


def _fill(x: Tensor, out: Tensor, format_: Any, std: float | Tensor, draw: Draw, distribution: str) -> None:
    """Writes x + b·ξ, or ξ where there is NOTHING to add to."""
    kind, shape = _kind_of(distribution), out.shape[:-1]
    summand, results = rows_of(x, GROUP, shape), result_rows(out, GROUP)
    job = (format_, kind, summand.place, results.place, results.groups, _scales(std, shape), position(draw, shape))
    split(lambda start, stop: _add(*job, start, stop), results.total, GRAIN // GROUP)
    results.finish()


def _kind_of(distribution: str) -> tuple[None, ...]:
    """A value whose type tells the compiler the distribution."""
    formula_of(distribution)
    return (None,) * (1 + DISTRIBUTIONS.index(distribution))


def _shape(x: Tensor, std: float | Tensor, draw: Draw) -> torch.Size:
    shape = shape_with(x.shape[:-1], draw)
    return common_shape(shape, std.shape) if isinstance(std, Tensor) else shape


def _scales(std: float | Tensor, shape: torch.Size) -> Any:
    return per_row(torch.as_tensor(std, dtype=torch.float32), shape)


def _noisy(builder: Builder, format_: Any, kind: Any, address: Scalar, std: Scalar, where: Scalar) -> list[Vector]:
    """x + b·ξ, tile by tile, for a group of coordinates; `where` is key, block, sender and first tile."""
    key, block, sender, first = items(builder, where, 4)
    sums = []
    for index, words in enumerate(tiles(builder, key, block, sender, first, TILES)):
        xi = quantile(DISTRIBUTIONS[len(kind) - 1], words)
        if len(format_):
            offset = INT64(index * TILE * item_bytes(format_))
            x, scaled = read(builder, format_, builder.add(address, offset), TILE), xi * splat(builder, std, TILE)
            xi = x + (scaled.to(FLOAT64, "fpext") if len(format_) == 2 else scaled)
        sums.append(xi)
    return sums


@emitted
def _look(typing: Any, format_: Any, kind: Any, address: Any, std: Any, where: Any, marks: Any) -> Any:
    """`mark` for each tile of a noisy group."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        for index, x in enumerate(_noisy(builder, *signature.args[:2], *args[2:5])):
            mark(x, builder.add(args[5], INT64(24 * index)))
        return context.get_dummy_value()

    return types.void(format_, kind, address, std, where, marks), generate


@emitted
def _write(typing: Any, format_: Any, kind: Any, address: Any, std: Any, where: Any, out: Any) -> Any:
    """Writes a noisy group to the address `out`."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        size = TILE * result_bytes(signature.args[0])
        for index, x in enumerate(_noisy(builder, *signature.args[:2], *args[2:5])):
            store(x, builder.add(args[5], INT64(index * size)))
        return context.get_dummy_value()

    return types.void(format_, kind, address, std, where, out), generate


def result_bytes(format_: Any) -> int:
    """Bytes of a sum with coordinates of this format: at least those of float32."""
    return 8 if len(format_) == 2 else 4


@emitted
def _result_bytes(typing: Any, format_: Any) -> Any:
    return types.int64(format_), lambda context, builder, signature, args: INT64(result_bytes(signature.args[0]))


@kernel
def _pack(
    format_: Any,
    kind: Any,
    place: Place,
    n: int,
    stds: Scales,
    draw: Position,
    zeros: Zeros,
    words: Words,
    valid: Flags,
    start: int,
    stop: int,
) -> None:
    body, stride, rest, whole = place
    key, blocks, senders = draw
    size, width, groups = GROUP * bytes_of(format_), -(-n // TILE), -(-n // GROUP)
    marks = room()
    while start < stop:
        row, first = start // groups, start % groups
        std, block, sender = stds[row], blocks[row], senders[row]
        last, broken = min(groups, first + stop - start), 0
        for group in range(first, last):
            address = body + row * stride + group * size if group < whole else rest + row * size
            _look(format_, kind, address, std, (key, block, sender, group * TILES), marks)
            for index in range(group * TILES, min((group + 1) * TILES, width)):
                tile = 3 * (index - group * TILES)
                word, zero = word_at(marks, tile), word_at(marks, tile + 1)
                if n - index * TILE < TILE:
                    word &= (1 << (n - index * TILE)) - 1
                words[row * width + index] = word | settle(zero, zeros, row, index, n) if zero else word
                broken |= word_at(marks, tile + 2)
        if broken:
            valid[row] = False
        start += last - first


@kernel
def _add(
    format_: Any,
    kind: Any,
    place: Place,
    result: Place,
    groups: int,
    stds: Scales,
    draw: Position,
    start: int,
    stop: int,
) -> None:
    body, stride, rest, whole = place
    out, out_stride, out_rest, _ = result
    key, blocks, senders = draw
    size, out_size = GROUP * bytes_of(format_), GROUP * _result_bytes(format_)
    while start < stop:
        row, first = start // groups, start % groups
        std, block, sender, last = stds[row], blocks[row], senders[row], min(groups, first + stop - start)
        for group in range(first, last):
            inside = group < whole
            address = body + row * stride + group * size if inside else rest + row * size
            target = out + row * out_stride + group * out_size if inside else out_rest + row * out_size
            _write(format_, kind, address, std, (key, block, sender, group * TILES), target)
        start += last - first
