"""Bits moved together and apart again: eight words at a time, by six steps of parallel shifts.

Warren, "Hacker's Delight", 2nd edition, sections 7-4 and 7-5: step i moves by 2^i what has bit i in its distance.
"""

from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from gradvote.kernels.cpu.bits import WORD, population, populations
from gradvote.kernels.cpu.blocks import Place, Rows, Words, common_shape, rows_of
from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.lanes import INT64, Builder, Scalar, Vector, load, store
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split

LANES = 8
PART = 1 << 12
"""Words of a row that are moved by one thread. Where a part's bits begin follows from the counts of those before it."""


def compact(words: Tensor, keep: Tensor, width: int) -> Tensor:
    """`reference.compact`."""
    shape = common_shape(words.shape, keep.shape)[:-1]
    source, kept = rows_of(words, 1, shape), rows_of(keep, 1, shape)
    out = spare.empty((*shape, width), torch.int64).zero_()
    parts, starts = _starts(kept)
    edges, target = np.zeros((len(starts), 3), np.int64), out.view(source.body.shape[0], width).numpy()
    job = (source.place, kept.place, parts, starts, target, edges)
    split(lambda start, stop: _compact(*job, start, stop), len(starts), 1)
    _join(parts, starts, edges, target)
    return out


def expand(words: Tensor, keep: Tensor) -> Tensor:
    """`reference.expand`."""
    shape = common_shape(words.shape[:-1], keep.shape[:-1])
    source, kept = rows_of(words, 1, shape), rows_of(keep, 1, shape)
    out = spare.empty((*shape, keep.shape[-1]), torch.int64)
    parts, starts = _starts(kept)
    job = (source.place, kept.place, parts, starts, out.view(kept.body.shape[0], keep.shape[-1]).numpy())
    split(lambda start, stop: _expand(*job, start, stop), len(starts), 1)
    return out


def _starts(kept: Rows) -> tuple[int, Words]:
    """Parts per row, and (R·parts,) where in its row's compacted bits each part begins."""
    parts = -(-kept.n // PART)
    counts = np.zeros((kept.body.shape[0], parts), np.int64)
    if parts == 1:
        return parts, counts.ravel()
    split(lambda start, stop: _count(kept.place, parts, counts.ravel(), start, stop), counts.size, 4)
    return parts, (counts.cumsum(1) - counts).ravel()


def _moves(keep: Vector) -> list[Vector]:
    """For each step the bits that move, where they stand before it (when bits move together)."""
    moves, left = [], keep.negated() << 1
    for step in range(6):
        odd = left
        for distance in (1, 2, 4, 8, 16, 32):
            odd = odd ^ (odd << distance)
        moving = odd & keep
        keep = (keep ^ moving) | moving.shift_zeros(1 << step)
        left = left & odd.negated()
        moves.append(moving)
    return moves


def compressed(words: Vector, keep: Vector) -> Vector:
    """The bits at the set bits of `keep`, moved to the low end."""
    words = words & keep
    for step, moving in enumerate(_moves(keep)):
        taken = words & moving
        words = (words ^ taken) | taken.shift_zeros(1 << step)
    return words


def deposited(words: Vector, keep: Vector) -> Vector:
    """The low bits moved to the set bits of `keep`."""
    for step, moving in reversed(list(enumerate(_moves(keep)))):
        words = (words & moving.negated()) | ((words << (1 << step)) & moving)
    return words & keep


def _eight(move: Any) -> Any:
    """A function for kernels: replaces eight words at an address by `move` of them and of eight words at another."""

    def typing(typing: Any, words: Any, keep: Any) -> Any:
        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
            vectors = [load(builder, address, INT64, LANES) for address in args]
            store(move(*vectors), args[0])
            return context.get_dummy_value()

        return types.void(words, keep), generate

    return emitted(typing)


_compress, _deposit = _eight(compressed), _eight(deposited)


@emitted
def _word(typing: Any, address: Any) -> Any:
    """The word at an address."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        return builder.load(builder.inttoptr(args[0], INT64.as_pointer()), align=1)

    return types.int64(address), generate


@kernel
def _count(kept: Place, parts: int, counts: Words, start: int, stop: int) -> None:
    masks, stride, width = kept
    for unit in range(start, stop):
        row, first = unit // parts, unit % parts * PART
        counts[unit] = populations(masks + row * stride + 8 * first, min(PART, width - first))


@emitted
def _mixed_line(typing: Any, keep: Any) -> Any:
    """Not zero where a mask keeps only some bits of one of the eight words at an address."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        words = load(builder, args[0], INT64, LANES)
        mixed = (words + (words & 1)).equal(0).negated()
        return builder.zext(mixed.bitmap(), INT64)

    return types.int64(keep), generate


@kernel
def _is_whole(keep: int, count: int) -> bool:
    """Whether a mask keeps all or nothing of each word; the last words, less than a line, are looked at one by one."""
    mixed, lines = 0, count // LANES * LANES
    for index in range(0, lines, LANES):
        mixed |= _mixed_line(keep + 8 * index)
    for index in range(lines, count):
        word = _word(keep + 8 * index)
        mixed |= word + (word & 1)
    return mixed == 0


@kernel
def _choose(words: int, keep: int, count: int, chosen: Words) -> int:
    """Writes the words that are kept; how many they are. One word more is written to."""
    found = 0
    for index in range(count):
        chosen[found] = _word(words + 8 * index)
        found += _word(keep + 8 * index) & 1
    return found


@kernel
def _place(words: int, index: int, available: int, keep: int, begin: int, end: int, out: Words) -> None:
    """Writes words from `index` on where the mask keeps one, zero elsewhere and where no more are `available`."""
    for place in range(begin, end):
        kept = _word(keep + 8 * place)
        out[place] = _word(words + 8 * index) & kept if index < available else 0
        index += kept & 1


@kernel
def _mixed(keep: Words, count: int) -> bool:
    """Whether a mask keeps only some of a word's bits."""
    found = False
    for lane in range(count):
        found |= keep[lane] != 0 and keep[lane] != -1
    return found


@kernel
def _high(word: int, shift: int) -> Any:
    """word >> (64 − shift), without its sign."""
    return np.int64((np.uint64(word) >> np.uint64(1)) >> (np.uint64(63) - np.uint64(shift)))


@kernel
def _compact(
    place: Place, kept: Place, parts: int, starts: Words, out: Words, edges: Words, start: int, stop: int
) -> None:
    """Writes the words that a part has for itself; `edges` get its first word where this is shared, and its last.

    The third of the edges is the last word's place.
    """
    body, stride, width = place
    words, keep = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    chosen = np.empty(PART + 1, np.int64)
    for unit in range(start, stop):
        row, begin, current = unit // parts, unit % parts * PART, 0
        index, filled = starts[unit] >> 6, starts[unit] & 63
        end = min(begin + PART, width)
        if not filled and _is_whole(kept[0] + row * kept[1] + 8 * begin, end - begin):
            found = _choose(body + row * stride + 8 * begin, kept[0] + row * kept[1] + 8 * begin, end - begin, chosen)
            found = max(0, min(found, out.shape[1] - index))
            out[row, index : index + found] = chosen[:found]
            edges[unit, 1], edges[unit, 2] = 0, index + found
            continue
        shared = index if filled else -1
        for first in range(begin, end, LANES):
            count = min(LANES, width - first)
            for lane in range(count):
                keep[lane] = _word(kept[0] + row * kept[1] + 8 * (first + lane))
                words[lane] = _word(body + row * stride + 8 * (first + lane)) & keep[lane]
            if _mixed(keep, count):
                _compress(words.ctypes.data, keep.ctypes.data)
            for lane in range(count):
                size = population(keep.ctypes.data + 8 * lane)
                current |= words[lane] << filled
                if filled + size < WORD:
                    filled += size
                    continue
                if index == shared:
                    edges[unit, 0] = current
                elif index < out.shape[1]:
                    out[row, index] = current
                current, index, filled = _high(words[lane], filled), index + 1, filled + size - WORD
        edges[unit, 1], edges[unit, 2] = current, index


@kernel
def _join(parts: int, starts: Words, edges: Words, out: Words) -> None:
    """Adds the words that neighbouring parts share."""
    for unit in range(len(starts)):
        row, first, last = unit // parts, starts[unit] >> 6, edges[unit, 2]
        if first < out.shape[1]:
            out[row, first] |= edges[unit, 0]
        if last < out.shape[1]:
            out[row, last] |= edges[unit, 1]


@kernel
def _expand(place: Place, kept: Place, parts: int, starts: Words, out: Words, start: int, stop: int) -> None:
    body, stride, available = place
    width = kept[2]
    words, keep = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for unit in range(start, stop):
        row, begin, position = unit // parts, unit % parts * PART, starts[unit]
        end, masks = min(begin + PART, width), kept[0] + row * kept[1]
        if not position & 63 and _is_whole(masks + 8 * begin, end - begin):
            _place(body + row * stride, position >> 6, available, masks, begin, end, out[row])
            continue
        for first in range(begin, end, LANES):
            count, ahead = min(LANES, width - first), position
            for lane in range(count):
                index, shift = ahead >> 6, ahead & 63
                source = body + row * stride + 8 * index
                low = np.uint64(_word(source)) >> np.uint64(shift) if index < available else np.uint64(0)
                high = np.uint64(_word(source + 8)) << np.uint64(1) if index + 1 < available else np.uint64(0)
                words[lane] = np.int64(low | high << (np.uint64(63) - np.uint64(shift)))
                keep[lane] = _word(masks + 8 * (first + lane))
                ahead += population(keep.ctypes.data + 8 * lane)
            if _mixed(keep, count):
                _deposit(words.ctypes.data, keep.ctypes.data)
            for lane in range(count):
                out[row, first + lane] = words[lane] & keep[lane]
            position = ahead
