"""Bits to flags, numbers and counts, 64 at a time, and flags to bits."""

import functools
from typing import Any

import torch
from numba import types
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import Place, Words, per_row, result_rows, rows_of
from gradvote.kernels.cpu.jit import emitted, kernel, program
from gradvote.kernels.cpu.lanes import (
    BIT,
    FLOAT32,
    INT8,
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
from gradvote.kernels.cpu.loops import at, each_group, group_at, group_to, value_at
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split

WORD = 64
LINE, PAGE = 8, 128
"""Words of a vector, and those that are counted together: at most 31 vectors, whose bytes cannot overflow."""
GRAIN = 1 << 10
"""Words that are worth a thread."""
OVERWRITE, ADD, FLAGS = ((None,) * kind for kind in range(1, 4))
"""What becomes of the bits, as values whose types tell the compiler."""


def unpack_signs(
    words: Tensor, n: int, scale: float | Tensor = 1.0, out: Tensor | None = None, add: bool = False
) -> Tensor:
    """`reference.unpack_signs`."""
    shape = words.shape[:-1]
    scale = torch.as_tensor(scale, dtype=torch.float32, device="cpu")
    if scale.dim() and scale.shape != shape:
        shape = torch.broadcast_shapes(shape, scale.shape)
    if out is None:
        out = spare.empty((*shape, n))
    elif out.dtype != torch.float32 or out.shape != (*shape, n) or not out.is_contiguous():
        return reference.unpack_signs(words, n, scale, out, add)
    _unpack(words, out, shape, per_row(scale, shape), ADD if add else OVERWRITE)
    return out


def unpack_bits(words: Tensor, n: int) -> Tensor:
    """`reference.unpack_bits`."""
    out = torch.empty(*words.shape[:-1], n, dtype=torch.bool, device="cpu")
    shape = words.shape[:-1]
    _unpack(words, out, shape, per_row(torch.ones((), dtype=torch.float32, device="cpu"), shape), FLAGS)
    return out


def pack_bits(flags: Tensor) -> Tensor:
    """`reference.pack_bits`."""
    rows = rows_of(flags, WORD)
    words = spare.empty((*flags.shape[:-1], rows.groups), torch.int64)
    job = (rows.place, rows.groups, words.data_ptr())
    split(lambda start, stop: _pack(*job, start, stop), words.numel(), GRAIN)
    return words


def count_bits(words: Tensor) -> Tensor:
    """`reference.count_bits`."""
    rows = rows_of(words, 1)
    counts = torch.empty(words.shape[:-1], dtype=torch.int64, device="cpu")
    target = counts.view(-1).numpy()
    split(lambda start, stop: _count(rows.place, target, start, stop), counts.numel(), GRAIN // max(rows.n, 1))
    return counts


def _unpack(words: Tensor, out: Tensor, shape: torch.Size, scales: Any, kind: tuple[None, ...]) -> None:
    source, rows = rows_of(words, 1, shape), result_rows(out, WORD)
    job = (kind, source.place, rows.place, rows.groups, scales)
    split(lambda start, stop: _expand(*job, start, stop), rows.total, GRAIN)


@emitted
def population(typing: Any, address: Any) -> Any:
    """The number of bits set in the word at an address."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        return builder.ctpop(builder.load(builder.inttoptr(args[0], INT64.as_pointer()), align=1))

    return types.int64(address), generate


@emitted
def _page_population(typing: Any, address: Any) -> Any:
    """The number of bits set in `PAGE` words at an address: counts in bytes are added up, and those at the end."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        lines = [load(builder, builder.add(args[0], INT64(8 * first)), INT64, LINE) for first in range(0, PAGE, LINE)]
        total = functools.reduce(Vector.__add__, map(_byte_counts, lines))
        for shift, low in ((8, 0x00FF00FF00FF00FF), (16, 0x0000FFFF0000FFFF), (32, 0x00000000FFFFFFFF)):
            total = (total & low) + (total.shift_zeros(shift) & low)
        return functools.reduce(builder.add, (builder.extract_element(total.value, INT32(k)) for k in range(LINE)))

    return types.int64(address), generate


def _byte_counts(words: Vector) -> Vector:
    """The number of bits set in each byte (Warren, "Hacker's Delight", 2nd edition, section 5-1)."""
    pairs = words - (words.shift_zeros(1) & 0x5555555555555555)
    fours = (pairs & 0x3333333333333333) + (pairs.shift_zeros(2) & 0x3333333333333333)
    return (fours + fours.shift_zeros(4)) & 0x0F0F0F0F0F0F0F0F


@kernel
def populations(address: int, words: int) -> int:
    """The number of bits set in words at an address."""
    total, whole = 0, words // PAGE * PAGE
    for index in range(0, whole, PAGE):
        total += _page_population(address + 8 * index)
    for index in range(whole, words):
        total += population(address + 8 * index)
    return total


@program
def _expand(
    builder: Builder,
    kind: Any,
    source: Any,
    result: Any,
    groups: Scalar,
    scales: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    """Writes what becomes of each word."""
    item, adds = 1 if len(kind) == len(FLAGS) else 4, len(kind) == len(ADD)
    with each_group(builder, start, stop, groups) as (row, group):
        lanes = load(builder, group_at(builder, source, row, group, 1, 8), INT64, 1).cast(BIT)
        with group_to(builder, result, row, group, WORD, item, filled=adds) as target:
            if len(kind) == len(FLAGS):
                store(lanes.to(INT8, "zext"), target)
            else:
                plus = splat(builder, value_at(builder, scales, row, FLOAT32), WORD)
                signed = lanes.where(plus, plus.flipped())
                store(load(builder, target, FLOAT32, WORD) + signed if adds else signed, target)


@program
def _pack(builder: Builder, place: Any, width: Scalar, words: Scalar, start: Scalar, stop: Scalar) -> None:
    """Writes the word of each 64 flags."""
    with each_group(builder, start, stop, width) as (row, group):
        flags = load(builder, group_at(builder, place, row, group, WORD, 1), INT8, WORD)
        word = at(builder, words, (row, builder.mul(width, INT64(8))), (group, 8))
        store_word(builder, flags.equal(0).negated().bitmap(), word)


@kernel
def _count(place: Place, counts: Words, start: int, stop: int) -> None:
    body, stride, width = place
    for row in range(start, stop):
        counts[row] = populations(body + row * stride, width)
