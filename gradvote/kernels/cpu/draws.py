"""Random words, fair bits and masks: what the tiles of a stream are, written out."""

import math
from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import Place, Position, Words, common_shape, per_row, position, result_rows, shape_with
from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.lanes import INT16, INT64, Builder, Scalar, Vector, items, splat, store
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
    rows.finish()
    return out


def _limits(threshold: int | Tensor, shape: torch.Size) -> Words:
    """The threshold of each row, in [0, 2^16]."""
    if isinstance(threshold, Tensor):
        limits: Words = np.clip(per_row(threshold, shape), 0, UNITS).astype(np.int64)
        return limits
    return np.full(math.prod(shape), min(max(threshold, 0), UNITS), np.int64)


def _clear(words: Tensor, n: int) -> Tensor:
    if n % 64 and words.numel():
        words[..., -1] &= (1 << n % 64) - 1
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


@emitted
def _draw(typing: Any, kind: Any, where: Any, limit: Any, out: Any) -> Any:
    """Writes what becomes of a group of tiles; `where` is key, block, sender and first tile."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        kind, size = signature.args[0], 8 * WIDTHS[len(signature.args[0]) - 1]
        key, block, sender, first = items(builder, args[1], 4)
        for index, words in enumerate(tiles(builder, key, block, sender, first, TILES)):
            store(_results(kind, words, args[2]), builder.add(args[3], INT64(index * size)))
        return context.get_dummy_value()

    return types.void(kind, where, limit, out), generate


@emitted
def _bytes(typing: Any, kind: Any) -> Any:
    size = 8 * TILES * WIDTHS[len(kind) - 1]
    return types.int64(kind), lambda context, builder, signature, args: INT64(size)


@kernel
def _fill(kind: Any, result: Place, groups: int, draw: Position, limits: Words, start: int, stop: int) -> None:
    out, stride, rest, whole = result
    key, blocks, senders = draw
    size = _bytes(kind)
    while start < stop:
        row, first = start // groups, start % groups
        block, sender, limit, last = blocks[row], senders[row], limits[row], min(groups, first + stop - start)
        for group in range(first, last):
            target = out + row * stride + group * size if group < whole else rest + row * size
            _draw(kind, (key, block, sender, group * TILES), limit, target)
        start += last - first
