"""Signs to bits, and whether all is finite: one look at every coordinate."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import FORMATS, Words, position, rows_of, shape_with
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import INT8, INT64, Builder, Scalar, Vector, store_word
from gradvote.kernels.cpu.loops import at, ceiling, each_group, group_at, value_at
from gradvote.kernels.cpu.philox import fair_word
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.rng import Draw

WORD = 64
GRAIN = 1 << 10
"""Words that are worth a thread."""
INFINITY = {32: 0x7F800000, 64: 0x7FF << 52}
"""The bits of infinity by width; those of |x| are at least as great where x is not finite."""
NEGATIVE, POSITIVE, RANDOM = 0, 1, 2
"""What the bit of an exact zero is."""

Zeros = tuple[int, int, Words, Words]


def pack_signs(x: Tensor, zeros: Draw | bool) -> Tensor:
    """`reference.pack_signs`."""
    return checked_pack_signs(x, zeros)[0]


def finite(x: Tensor) -> Tensor:
    """`reference.finite`."""
    return checked_pack_signs(x, False)[1] if x.dtype in FORMATS else reference.finite(x)


def finite_or(new: Tensor, old: Tensor) -> Tensor:
    """`reference.finite_or`; `new` itself where all of it is finite."""
    whole = finite(new)
    same = new.shape == old.shape and new.dtype == old.dtype
    return new if same and bool(whole.all()) else torch.where(whole[..., None], new, old)


def checked_pack_signs(x: Tensor, zeros: Draw | bool) -> tuple[Tensor, Tensor]:
    """`reference.checked_pack_signs`."""
    if x.dtype not in FORMATS:
        return reference.checked_pack_signs(x, zeros)
    n, shape = x.shape[-1], shape_with(x.shape[:-1], zeros)
    rows = rows_of(x, WORD, shape)
    words, valid = spare.empty((*shape, rows.groups), torch.int64), torch.ones(shape, dtype=torch.bool)
    job = (FORMATS[x.dtype], rows.place, n, zeros_of(zeros, shape), words.data_ptr(), valid.data_ptr())
    split(lambda start, stop: _pack(*job, start, stop), words.numel(), GRAIN)
    return words, valid


def zeros_of(zeros: Draw | bool, shape: torch.Size) -> Zeros:
    """The rule for zeros, and for random ones key, blocks and senders of their draw."""
    if isinstance(zeros, Draw):
        return (RANDOM, *position(zeros, shape))
    nobody = np.zeros(1, np.int64)
    return (POSITIVE if zeros else NEGATIVE, 0, nobody, nobody)


def write_word(
    x: Vector, within: Scalar | None, zeros: Any, row: Scalar, index: Scalar, n: Scalar, out: Scalar, valid: Scalar
) -> None:
    """Writes word `index` of a row, from its coordinates, to address `out`; the flag at `valid` falls if not finite.

    `within` has the bits of the row's n coordinates, or is None where all beyond them are zeros. Zeros and what is not
    finite are looked for only where the least and the greatest |x| show that there are any.
    """
    builder, bits = x.builder, x.magnitude()
    infinity = INFINITY[bits.value.type.element.width]
    least, greatest = bits.fold(lambda a, b: a < b), bits.fold(lambda a, b: b < a)
    positive = (x > 0.0).bitmap()
    if within is not None:
        positive = builder.and_(positive, within)
    store_word(builder, positive, out)
    with if_any((least < 1) | (greatest >= infinity)):
        drawn = settled(builder, (bits < 1).bitmap(), zeros, row, index, n)
        store_word(builder, builder.or_(positive, drawn), out)
        with if_any(bits >= infinity):
            store_word(builder, INT8(0), valid)


def settled(builder: Builder, zero: Scalar, zeros: Any, row: Scalar, index: Scalar, n: Scalar) -> Scalar:
    """The bits of the zeros of a word."""
    rule, key, blocks, senders = zeros
    zero = builder.and_(zero, inside(builder, n, index))
    known = builder.select(builder.icmp_signed("==", rule, INT64(POSITIVE)), zero, INT64(0))
    before = builder.block
    with builder.if_then(builder.icmp_signed("==", rule, INT64(RANDOM))):
        fair = fair_word(builder, key, value_at(builder, blocks, row), value_at(builder, senders, row), index)
        drawn, after = builder.and_(zero, fair), builder.block
    either = builder.phi(INT64)
    either.add_incoming(known, before)
    either.add_incoming(drawn, after)
    return either


def inside(builder: Builder, n: Scalar, index: Scalar) -> Scalar:
    """The bits of word `index` of a row that belong to its n coordinates."""
    left = builder.sub(n, builder.mul(index, INT64(WORD)))
    whole = builder.icmp_signed(">=", left, INT64(WORD))
    return builder.select(whole, INT64(-1), builder.sub(builder.shl(INT64(1), left), INT64(1)))


def if_any(condition: Vector) -> Any:
    """What follows happens, rarely, where a condition holds in some lane."""
    lanes = condition.bitmap()
    return condition.builder.if_then(condition.builder.icmp_unsigned("!=", lanes, lanes.type(0)), likely=False)


@program
def _pack(
    builder: Builder,
    kind: Any,
    place: Any,
    n: Scalar,
    zeros: Any,
    words: Scalar,
    valid: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    width = ceiling(builder, n, WORD)
    with each_group(builder, start, stop, width) as (row, index):
        x = read(builder, kind, group_at(builder, place, row, index, WORD, item_bytes(kind)), WORD)
        out = at(builder, words, (builder.add(builder.mul(row, width), index), 8))
        write_word(x, None, zeros, row, index, n, out, builder.add(valid, row))
