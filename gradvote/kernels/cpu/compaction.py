"""Bits moved together and apart again: eight words at a time, by six steps of parallel shifts.

Warren, "Hacker's Delight", 2nd edition, sections 7-4 and 7-5: step i moves by 2^i what has bit i in its distance.
"""

from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from gradvote.kernels.cpu.bits import population
from gradvote.kernels.cpu.blocks import Place, Words, rows_of
from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.lanes import INT64, Builder, Scalar, Vector, load, store
from gradvote.kernels.cpu.threads import split

LANES = 8
GRAIN = 1 << 12
"""Words that are worth a thread."""


def compact(words: Tensor, keep: Tensor, width: int) -> Tensor:
    """`reference.compact`."""
    shape = torch.broadcast_shapes(words.shape, keep.shape)[:-1]
    source, kept = rows_of(words, 1, shape), rows_of(keep, 1, shape)
    out = torch.zeros(*shape, width, dtype=torch.int64)
    job = (source.place, kept.place, out.view(len(source.body), width).numpy())
    split(lambda start, stop: _compact(*job, start, stop), len(source.body), GRAIN // max(source.n, 1))
    return out


def expand(words: Tensor, keep: Tensor) -> Tensor:
    """`reference.expand`."""
    shape = torch.broadcast_shapes(words.shape[:-1], keep.shape[:-1])
    source, kept = rows_of(words, 1, shape), rows_of(keep, 1, shape)
    out = torch.empty(*shape, keep.shape[-1], dtype=torch.int64)
    job = (source.place, kept.place, out.view(len(kept.body), keep.shape[-1]).numpy())
    split(lambda start, stop: _expand(*job, start, stop), len(kept.body), GRAIN // max(kept.n, 1))
    return out


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
def append(out: Words, position: int, word: int) -> None:
    """Writes a word at a bit position of zeros, as far as there is room."""
    index, shift = position >> 6, np.uint64(position & 63)
    if index < len(out):
        out[index] |= word << np.int64(shift)
    if index + 1 < len(out):
        out[index + 1] |= np.int64((np.uint64(word) >> np.uint64(1)) >> (np.uint64(63) - shift))


@kernel
def _compact(place: Place, kept: Place, out: Words, start: int, stop: int) -> None:
    body, stride, _, width = place
    masks, mask_stride, _, _ = kept
    words, keep = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for row in range(start, stop):
        position, target = 0, out[row]
        for first in range(0, width, LANES):
            count = min(LANES, width - first)
            for lane in range(count):
                words[lane] = _word(body + row * stride + 8 * (first + lane))
                keep[lane] = _word(masks + row * mask_stride + 8 * (first + lane))
            _compress(words.ctypes.data, keep.ctypes.data)
            for lane in range(count):
                append(target, position, words[lane])
                position += population(keep.ctypes.data + 8 * lane)


@kernel
def _expand(place: Place, kept: Place, out: Words, start: int, stop: int) -> None:
    body, stride, _, available = place
    masks, mask_stride, _, width = kept
    words, keep = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for row in range(start, stop):
        position = 0
        for first in range(0, width, LANES):
            count = min(LANES, width - first)
            for lane in range(count):
                index, shift = position >> 6, np.uint64(position & 63)
                source = body + row * stride + 8 * index
                low = np.uint64(_word(source)) >> shift if index < available else np.uint64(0)
                high = np.uint64(_word(source + 8)) << np.uint64(1) if index + 1 < available else np.uint64(0)
                words[lane] = np.int64(low | high << (np.uint64(63) - shift))
                keep[lane] = _word(masks + row * mask_stride + 8 * (first + lane))
                position += population(keep.ctypes.data + 8 * lane)
            _deposit(words.ctypes.data, keep.ctypes.data)
            for lane in range(count):
                out[row, first + lane] = words[lane]
