"""Signs to bits, and whether all is finite: one look at every coordinate."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.core import Units
from gradvote.kernels import reference, units_reference
from gradvote.kernels.cpu.blocks import FORMATS, Words, position, rows_of, shape_with
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import INT8, INT64, Builder, Scalar, Vector, store_word
from gradvote.kernels.cpu.loops import at, ceiling, each_group, group_at, value_at
from gradvote.kernels.cpu.philox import fair_word
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.cpu.units import whole_units
from gradvote.kernels.reference import num_words
from gradvote.rng import Draw

WORD = 64
GRAIN = 1 << 10
"""Words that are worth a thread."""
INFINITY = {32: 0x7F800000, 64: 0x7FF << 52}
"""The bits of infinity by width; those of |x| are at least as great where x is not finite."""
NEGATIVE, POSITIVE, RANDOM = 0, 1, 2
"""What the bit of an exact zero is."""

NOTHING, UNITS, WORDS = 0, 1, 2
"""What is written about exact zeros: nothing; a bit for each word of them; or words with a bit for each of them, and
behind the words of all rows whether there are any.
"""

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
    return _checked(x, zeros, shape_with(x.shape[:-1], zeros), (NOTHING, 0, 0))


def still_pack_signs(x: Tensor, zeros: Draw | bool, units: Units) -> tuple[Tensor, Tensor, Tensor]:
    """`units_reference.still_pack_signs`; where units are words, they are found on the way."""
    if x.dtype not in FORMATS:
        return units_reference.still_pack_signs(x, zeros, units)
    n, shape = x.shape[-1], shape_with(x.shape[:-1], zeros)
    if units.are_words:
        flags = torch.zeros((*shape, num_words(units.count(n))), dtype=torch.int64, device="cpu")
        return *_checked(x, zeros, shape, (UNITS, flags.data_ptr(), flags.shape[-1])), flags
    blank = spare.empty((shape.numel() * num_words(n) + 1,), torch.int64).zero_()
    words, valid = _checked(x, zeros, shape, (WORDS, blank.data_ptr(), num_words(n)))
    if not blank.numpy()[-1]:
        return words, valid, torch.zeros((*shape, num_words(units.count(n))), dtype=torch.int64, device="cpu")
    return words, valid, whole_units(blank[:-1].view(*shape, num_words(n)), n, units)


def _checked(x: Tensor, zeros: Draw | bool, shape: torch.Size, told: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Words and flags of rows of this shape; what, where and how many words a row to write about exact zeros."""
    rows = rows_of(x, WORD, shape)
    words, valid = spare.empty((*shape, rows.groups), torch.int64), torch.ones(shape, dtype=torch.bool, device="cpu")
    about = (*told, told[1] + 8 * told[2] * shape.numel())
    job = (FORMATS[x.dtype], rows.place, rows.n, zeros_of(zeros, shape), about, words.data_ptr(), valid.data_ptr())
    split(lambda start, stop: _pack(*job, start, stop), words.numel(), GRAIN)
    return words, valid


def zeros_of(zeros: Draw | bool, shape: torch.Size) -> Zeros:
    """The rule for zeros, and for random ones key, blocks and senders of their draw."""
    if isinstance(zeros, Draw):
        return (RANDOM, *position(zeros, shape))
    nobody = np.zeros(1, np.int64)
    return (POSITIVE if zeros else NEGATIVE, 0, nobody, nobody)


def write_word(
    x: Vector,
    within: Scalar | None,
    zeros: Any,
    row: Scalar,
    index: Scalar,
    n: Scalar,
    out: Scalar,
    valid: Scalar,
    tell: Callable[[Scalar], None] | None = None,
) -> None:
    """Writes word `index` of a row, from its coordinates, to address `out`; the flag at `valid` falls if not finite.

    `within` has the bits of the row's n coordinates, or is None where all beyond them are zeros. Zeros and what is not
    finite are looked for only where the least and the greatest |x| show that there are any; `tell` hears of the zeros.
    """
    builder, bits = x.builder, x.magnitude()
    infinity = INFINITY[bits.value.type.element.width]
    least, greatest = bits.fold(lambda a, b: a < b), bits.fold(lambda a, b: b < a)
    positive = (x > 0.0).bitmap()
    if within is not None:
        positive = builder.and_(positive, within)
    store_word(builder, positive, out)
    with if_any((least < 1) | (greatest >= infinity)):
        zero = (bits < 1).bitmap()
        store_word(builder, builder.or_(positive, settled(builder, zero, zeros, row, index, n)), out)
        if tell is not None:
            tell(zero)
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
    about: Any,
    words: Scalar,
    valid: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    width = ceiling(builder, n, WORD)
    with each_group(builder, start, stop, width) as (row, index):
        x = read(builder, kind, group_at(builder, place, row, index, WORD, item_bytes(kind)), WORD)
        out = at(builder, words, (builder.add(builder.mul(row, width), index), 8))
        tell = partial(_tell, builder, about, row, index, inside(builder, n, index))
        write_word(x, None, zeros, row, index, n, out, builder.add(valid, row), tell)


def _tell(builder: Builder, about: Any, row: Scalar, index: Scalar, own: Scalar, zero: Scalar) -> None:
    """Writes what is asked for about the zeros of a word, of which `own` has the bits of the row's coordinates.

    Other threads write to the same word of flags.
    """
    what, start, width, found = about
    zero, line = builder.and_(zero, own), at(builder, start, (builder.mul(row, width), 8))
    some = builder.icmp_signed("!=", zero, INT64(0))
    with builder.if_then(builder.and_(some, builder.icmp_signed("==", what, INT64(WORDS)))):
        store_word(builder, zero, at(builder, line, (index, 8)))
        store_word(builder, INT64(1), found)
    whole = builder.and_(builder.icmp_signed("==", what, INT64(UNITS)), builder.icmp_signed("==", zero, own))
    with builder.if_then(whole):
        flags = builder.inttoptr(at(builder, line, (builder.ashr(index, INT64(6)), 8)), INT64.as_pointer())
        bit = builder.shl(INT64(1), builder.and_(index, INT64(63)))
        builder.atomic_rmw("or", flags, bit, "monotonic")
