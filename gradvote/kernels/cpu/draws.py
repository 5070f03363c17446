"""Random words, fair bits and masks: what the tiles of a stream are, written out."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import Words, common_shape, per_row, position, result_rows, shape_with
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import INT16, INT64, Builder, Scalar, Vector, splat, store
from gradvote.kernels.cpu.loops import each_group, group_to, value_at
from gradvote.kernels.cpu.philox import TILE, TILES, tiles
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.rng import Draw

GRAIN = 1 << 14
"""Random words that are worth a thread."""
WORDS, BITS, MASK, COARSE_MASK = ((None,) * kind for kind in range(1, 5))
"""What becomes of a tile, as values whose types tell the compiler: 64, 32, 2 or 128 words of the result."""
WIDTHS = (64, 32, 2, 128)
UNITS = 1 << 16
"""One, as a threshold."""


def random_words(draw: Draw, count: int) -> Tensor:
    """`reference.random_words`."""
    return _drawn(WORDS, draw, count, shape_with(torch.Size(), draw), 0)


def random_bits(draw: Draw, n: int) -> Tensor:
    """`reference.random_bits`."""
    return _clear(_drawn(BITS, draw, reference.num_words(n), shape_with(torch.Size(), draw), 0), n)


def keep_bits(draw: Draw, n: int, threshold: int | Tensor, granularity: int = 1) -> Tensor:
    """`reference.keep_bits`."""
    if granularity not in (1, 64):
        return reference.keep_bits(draw, n, threshold, granularity)
    shape = shape_with(torch.Size(), draw)
    if isinstance(threshold, Tensor):
        shape = common_shape(shape, threshold.shape)
    kind = MASK if granularity == 1 else COARSE_MASK
    return _clear(_drawn(kind, draw, reference.num_words(n), shape, threshold), n)


def _drawn(kind: tuple[None, ...], draw: Draw, width: int, shape: torch.Size, threshold: int | Tensor) -> Tensor:
    out = spare.empty((*shape, width), torch.int64)
    rows = result_rows(out, TILES * WIDTHS[len(kind) - 1])
    job = (kind, rows.place, rows.groups, position(draw, shape), _limits(threshold, shape))
    split(lambda start, stop: _fill(*job, start, stop), rows.total, GRAIN // (TILE * TILES))
    return out


def _limits(threshold: int | Tensor, shape: torch.Size) -> Words:
    """The threshold of each row, in [0, 2^16]."""
    if isinstance(threshold, Tensor):
        limits: Words = np.clip(per_row(threshold, shape), 0, UNITS).astype(np.int64)
        return limits
    return np.full(math.prod(shape), min(max(threshold, 0), UNITS), np.int64)


def _clear(words: Tensor, n: int) -> Tensor:
    if n % 64 and words.numel():
        words.numpy()[..., -1] &= (1 << n % 64) - 1
    return words


def keep_lanes(words: Vector, limit: Scalar) -> Vector:
    """Where the 16-bit halves of random words are below a limit in [0, 2^16]."""
    halves = words.cast(INT16)
    builder = words.builder
    below = splat(builder, builder.trunc(builder.sub(limit, INT64(1)), INT16), halves.count)
    none = splat(builder, builder.icmp_signed("<", limit, INT64(1)), halves.count)
    return below.below(halves).negated() & none.negated()


def _results(kind: Any, words: Vector, limit: Scalar) -> Vector:
    if len(kind) == len(WORDS):
        return words.to(INT64, "zext")
    if len(kind) == len(BITS):
        return words
    kept = keep_lanes(words, limit)
    return kept.cast(INT64) if len(kind) == len(MASK) else kept.to(INT64, "sext")


@program
def _fill(
    builder: Builder, kind: Any, result: Any, groups: Scalar, draw: Any, limits: Scalar, start: Scalar, stop: Scalar
) -> None:
    """Writes what becomes of each group of tiles."""
    key, blocks, senders = draw
    width = WIDTHS[len(kind) - 1]
    with each_group(builder, start, stop, groups) as (row, group):
        where = key, value_at(builder, blocks, row), value_at(builder, senders, row)
        limit = value_at(builder, limits, row)
        with group_to(builder, result, row, group, TILES * width, 8) as out:
            for tile, words in enumerate(tiles(builder, *where, builder.mul(group, INT64(TILES)), TILES)):
                store(_results(kind, words, limit), builder.add(out, INT64(tile * width * 8)))
