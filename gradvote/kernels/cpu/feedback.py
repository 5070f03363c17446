"""Momentum, error memory and signs in one pass: every coordinate is read once and written once.

A tile of 1024 coordinates is moved in two loops over a buffer in the first cache: p and its marks, then what stays in
memory. A row whose scale is the mean of |p| is moved as a whole, over a buffer in the second cache, where it fits. The
results go to memory of their own, so that a failed round keeps its old state.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from gradvote.kernels import feedback_reference, reference
from gradvote.kernels.cpu.averages import bounded
from gradvote.kernels.cpu.blocks import Rows, Scales, Words, per_row, result_rows, rows_of
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import (
    BIT,
    FLOAT32,
    INT8,
    INT16,
    INT32,
    INT64,
    Builder,
    Scalar,
    Vector,
    load,
    splat,
    store,
    store_word,
)
from gradvote.kernels.cpu.loops import (
    ZERO,
    at,
    ceiling,
    each,
    each_group,
    greatest,
    group_at,
    group_to,
    least,
    stack,
    value_at,
)
from gradvote.kernels.cpu.signs import INFINITY, Zeros, if_any, inside, settled, zeros_of
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.cpu.trees import folded_sum, mean_abs, tile_sum
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.rng import Draw

WORD = 64
BYTES = 4 * WORD
TILE = 16
"""Words of a tile."""
TILES = 16
"""Tiles of the longest row that is moved as a whole."""
GRAIN = 32
"""Tiles that are worth a thread."""
LANES = 16
"""Coordinates that pass through the registers together."""
PLAIN, HEAVY_BALL, NESTEROV = ((None,) * kind for kind in range(1, 4))
"""The kind of momentum, as values whose types tell the compiler."""
GIVEN, MEAN = ((None,) * kind for kind in range(1, 3))
"""Where the scale comes from, likewise."""

Masks = tuple[bool, Words]
Rules = tuple[tuple[None, ...], Scales, Scales, Zeros]


def feedback_step(
    x: Tensor,
    memory: Tensor,
    ratio: Tensor,
    inertia: Inertia | None,
    keep: Tensor | None,
    zeros: Draw | bool,
    scale: Tensor | None,
) -> Feedback:
    """`feedback_reference.feedback_step`."""
    state = [memory] if inertia is None else [memory, inertia.momentum]
    if any(t.dtype != torch.float32 or t.shape != x.shape for t in (x, *state)):
        return feedback_reference.feedback_step(x, memory, ratio, inertia, keep, zeros, scale)
    shape = x.shape[:-1]
    words = spare.empty((*shape, reference.num_words(x.shape[-1])), torch.int64)
    valid, new = torch.ones(shape, dtype=torch.bool, device="cpu"), [spare.empty(x.shape) for _ in state]
    sources, targets = [rows_of(t, WORD) for t in (x, *state)], [result_rows(t, WORD) for t in new]
    apart = scale is None and words.shape[-1] > TILES * TILE
    rule = GIVEN if apart or scale is not None else MEAN
    none = torch.zeros(shape, dtype=torch.float32, device="cpu")
    found = none if scale is None else scale.float()  # per_row gives a view, in which MEAN writes
    rules = rule, per_row(ratio.float(), shape), per_row(found, shape), zeros_of(zeros, shape)
    _advance_rows(sources, targets, inertia, rules, _masks(keep, shape, 0 if apart else -1), words, valid)
    if apart:
        found = mean_abs(new[0], keep)
        _drain_rows(targets[0], per_row(found, shape), _masks(keep, shape, -1), words)
        valid &= found.isfinite()
    _restore(new, state, valid)
    return Feedback(words, valid, found if scale is None else scale, new[0], new[1] if inertia else None)


def _masks(keep: Tensor | None, shape: torch.Size, otherwise: int) -> Masks:
    """The words of a mask, or one word for all places."""
    if keep is None or not otherwise:
        return False, np.full(1, otherwise, np.int64)
    if keep.shape[:-1] != shape or keep.dtype != torch.int64:
        keep = keep.to(torch.int64).expand(*shape, keep.shape[-1])
    return True, keep.contiguous().numpy().ravel()


def _advance_rows(
    sources: list[Rows],
    targets: list[Rows],
    inertia: Inertia | None,
    rules: Rules,
    masks: Masks,
    words: Tensor,
    valid: Tensor,
) -> None:
    kind, mu = (PLAIN, 0.0) if inertia is None else (NESTEROV if inertia.nesterov else HEAVY_BALL, inertia.mu)
    x, memory, momentum = (rows.place for rows in (*sources, sources[-1])[:3])
    new_memory, new_momentum = (rows.place for rows in (*targets, targets[-1])[:2])
    places = x, memory, momentum, new_memory, new_momentum
    results = words.data_ptr(), valid.data_ptr()
    job = (kind, np.float32(mu), places, sources[0].n, *rules, *masks, *results)
    tiles = -(-words.shape[-1] // TILE)
    units, grain = (1, GRAIN // max(tiles, 1)) if rules[0] == MEAN else (tiles, GRAIN)
    split(lambda start, stop: _advance_tiles(*job, start, stop), sources[0].body.shape[0] * units, grain)


def _drain_rows(rows: Rows, scales: Scales, masks: Masks, words: Tensor) -> None:
    job = (rows.place, words.shape[-1], scales, *masks, words.data_ptr())
    split(lambda start, stop: _drain_words(*job, start, stop), words.numel(), GRAIN * TILE)


def _restore(new: list[Tensor], old: list[Tensor], valid: Tensor) -> None:
    """Gives the blocks that are not valid their old memory, and their old momentum where the new one is not finite."""
    if bool(valid.all()):
        return
    new[0][~valid] = old[0][~valid]
    for momentum, before in zip(new[1:], old[1:], strict=True):
        momentum[~valid] = reference.finite_or(momentum[~valid], before[~valid])


@program
def _advance_tiles(
    builder: Builder,
    kind: Any,
    mu: Scalar,
    places: Any,
    n: Scalar,
    rule: Any,
    ratios: Scalar,
    scales: Scalar,
    zeros: Any,
    masked: Scalar,
    masks: Scalar,
    words: Scalar,
    valid: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    x, memory, momentum, new_memory, new_momentum = places
    width, span = ceiling(builder, n, WORD), TILE if len(rule) == len(GIVEN) else TILE * TILES
    buffer = builder.ptrtoint(stack(builder, ir.ArrayType(FLOAT32, span * WORD)), INT64)
    with each_group(builder, start, stop, ceiling(builder, width, span)) as (row, unit):
        ratio, first = value_at(builder, ratios, row, FLOAT32), builder.mul(unit, INT64(span))
        last = least(builder, builder.add(first, INT64(span)), width)
        with each(builder, first, last) as index:
            p = at(builder, buffer, (builder.sub(index, first), BYTES))
            update, kept = (group_at(builder, place, row, index, WORD, 4) for place in (x, memory))
            if len(kind) == len(PLAIN):
                word, zero, unbounded = _advance(builder, kind, mu, ratio, p, update, kept, ZERO, ZERO)
            else:
                moving = group_at(builder, momentum, row, index, WORD, 4)
                with group_to(builder, new_momentum, row, index, WORD, 4) as moved:
                    word, zero, unbounded = _advance(builder, kind, mu, ratio, p, update, kept, moving, moved)
            out = at(builder, words, (builder.add(builder.mul(row, width), index), 8))
            store_word(builder, word, out)
            with builder.if_then(builder.icmp_signed("!=", zero, INT64(0)), likely=False):
                store_word(builder, builder.or_(word, settled(builder, zero, zeros, row, index, n)), out)
            with builder.if_then(builder.icmp_signed("!=", unbounded, INT64(0)), likely=False):
                store_word(builder, INT8(0), builder.add(valid, row))
        if len(rule) == len(GIVEN):
            scale = value_at(builder, scales, row, FLOAT32)
        else:
            scale = _mean(builder, buffer, n, width, row, masked, masks)
            store_word(builder, scale, at(builder, scales, (row, 4)))
            with if_any(splat(builder, scale, 1).magnitude() >= INFINITY[32]):
                store_word(builder, INT8(0), builder.add(valid, row))
        with each(builder, first, last) as index:
            p = at(builder, buffer, (builder.sub(index, first), BYTES))
            place = builder.add(builder.mul(row, width), index)
            mask = value_at(builder, masks, builder.select(masked, place, ZERO))
            with group_to(builder, new_memory, row, index, WORD, 4) as target:
                _drain(builder, p, scale, mask, value_at(builder, words, place), target)


def _mean(
    builder: Builder, buffer: Scalar, n: Scalar, width: Scalar, row: Scalar, masked: Scalar, masks: Scalar
) -> Scalar:
    """The mean of |p| over the marked coordinates of a row in the buffer, summed as `reference.mean_abs` does."""
    sums, marks = stack(builder, ir.VectorType(FLOAT32, TILES)), stack(builder, ir.ArrayType(INT64, TILE))
    count, marks_at = stack(builder, INT64), builder.ptrtoint(marks, INT64)
    builder.store(splat(builder, FLOAT32(0.0), TILES).value, sums)
    builder.store(ZERO, count)
    with each(builder, ZERO, ceiling(builder, width, TILE)) as tile:
        first = builder.mul(tile, INT64(TILE))
        with each(builder, ZERO, INT64(TILE)) as word:
            index = builder.add(first, word)
            within = builder.icmp_signed("<", index, width)
            place = builder.add(builder.mul(row, width), index)
            mask = value_at(builder, masks, builder.select(builder.and_(masked, within), place, ZERO))
            mark = builder.select(within, builder.and_(mask, inside(builder, n, index)), ZERO)
            builder.store(builder.add(builder.load(count), builder.ctpop(mark)), count)
            store_word(builder, mark, at(builder, marks_at, (word, 8)))

        def leaf(index: int) -> Vector:
            p = load(builder, at(builder, buffer, (first, BYTES), (INT64(index), 4 * LANES)), FLOAT32, LANES)
            marked = load(builder, builder.add(marks_at, INT64(LANES // 8 * index)), INT16, 1).cast(BIT)
            return marked.where(p.magnitude().cast(FLOAT32), 0.0)

        store_word(builder, tile_sum(leaf), at(builder, builder.ptrtoint(sums, INT64), (tile, 4)))
    total = folded_sum(Vector(builder, builder.load(sums)))
    return builder.fdiv(total, builder.sitofp(greatest(builder, builder.load(count), INT64(1)), FLOAT32))


@program
def _drain_words(
    builder: Builder,
    rows: Any,
    width: Scalar,
    scales: Scalar,
    masked: Scalar,
    masks: Scalar,
    words: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    with each_group(builder, start, stop, width) as (row, index):
        place, scale = builder.add(builder.mul(row, width), index), value_at(builder, scales, row, FLOAT32)
        mask = value_at(builder, masks, builder.select(masked, place, ZERO))
        with group_to(builder, rows, row, index, WORD, 4, filled=True) as p:
            _drain(builder, p, scale, mask, value_at(builder, words, place), p)


def _advance(
    builder: Builder,
    kind: Any,
    mu: Scalar,
    ratio: Scalar,
    p: Scalar,
    x: Scalar,
    memory: Scalar,
    momentum: Scalar,
    new_momentum: Scalar,
) -> list[Scalar]:
    """A word of coordinates: writes the new momentum and p; the bits where p is positive, zero, and not finite."""
    words = [INT64(0)] * 3
    for first in range(0, WORD, LANES):
        offset = INT64(4 * first)
        moved = bounded(load(builder, builder.add(x, offset), FLOAT32, LANES))
        if len(kind) > len(PLAIN):
            m = load(builder, builder.add(momentum, offset), FLOAT32, LANES) * splat(builder, mu, LANES) + moved
            store(m, builder.add(new_momentum, offset))
            moved = bounded(moved + m * splat(builder, mu, LANES) if len(kind) == len(NESTEROV) else m)
        moved = moved + load(builder, builder.add(memory, offset), FLOAT32, LANES) * splat(builder, ratio, LANES)
        store(moved, builder.add(p, offset))
        unbounded = (moved.cast(INT32) & 0x7FFFFFFF) > INFINITY[32] - 1
        for index, lanes in enumerate((moved > 0.0, moved.equal(0.0), unbounded)):
            bits = builder.shl(builder.zext(lanes.bitmap(), INT64), INT64(first))
            words[index] = builder.or_(words[index], bits)
    return words


def _drain(builder: Builder, p: Scalar, scale: Scalar, mask: Scalar, word: Scalar, out: Scalar) -> None:
    """Writes p − s·sign(p) of a word of coordinates, p where the mask has no bit."""
    for first in range(0, WORD, LANES):
        offset = INT64(4 * first)
        positive, kept = (_lanes(builder, bits, first) for bits in (word, mask))
        plus = splat(builder, scale, LANES)
        sent = kept.where(positive.where(plus, plus.flipped()), 0.0)
        left = load(builder, builder.add(p, offset), FLOAT32, LANES) - sent
        store(left, builder.add(out, offset))


def _lanes(builder: Builder, word: Scalar, first: int) -> Vector:
    """Bits of a word as a condition."""
    bits = builder.trunc(builder.lshr(word, INT64(first)), ir.IntType(LANES))
    return Vector(builder, builder.bitcast(bits, ir.VectorType(BIT, LANES)))
