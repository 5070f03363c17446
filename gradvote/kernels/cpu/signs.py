"""Signs to bits, and whether all is finite: one look at every coordinate."""

from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from gradvote.kernels import reference
from gradvote.kernels.cpu.blocks import FORMATS, Flags, Place, Words, position, rows_of, shape_with
from gradvote.kernels.cpu.formats import item_bytes, read
from gradvote.kernels.cpu.jit import emitted, kernel
from gradvote.kernels.cpu.lanes import INT64, Builder, Scalar, Vector, store_word
from gradvote.kernels.cpu.philox import TILES, fair_word
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.rng import Draw

WORD = 64
GRAIN = 1 << 10
"""Words that are worth a thread."""
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
    job = (FORMATS[x.dtype], rows.place, n, zeros_of(zeros, shape), words.view(-1).numpy(), valid.view(-1).numpy())
    split(lambda start, stop: _pack(*job, start, stop), words.numel(), GRAIN)
    return words, valid


def zeros_of(zeros: Draw | bool, shape: torch.Size) -> Zeros:
    """The rule for zeros, and for random ones key, blocks and senders of their draw."""
    if isinstance(zeros, Draw):
        return (RANDOM, *position(zeros, shape))
    nobody = np.zeros(1, np.int64)
    return (POSITIVE if zeros else NEGATIVE, 0, nobody, nobody)


def mark(x: Vector, address: Scalar) -> None:
    """Writes to an address where the lanes of x are positive, zero, and not finite: three words of bits.

    The last two are worked out only where the least and the greatest |x| show that there are any.
    """
    builder, bits = x.builder, x.magnitude()
    infinity = 0x7F800000 if bits.value.type.element.width == 32 else 0x7FF << 52
    least, greatest = bits.fold(lambda a, b: a < b), bits.fold(lambda a, b: b < a)
    odd = ((least < 1) | (greatest >= infinity)).bitmap()
    places = [builder.add(address, INT64(8 * index)) for index in range(3)]
    store_word(builder, (x > 0.0).bitmap(), places[0])
    for place in places[1:]:
        store_word(builder, INT64(0), place)
    with builder.if_then(builder.icmp_unsigned("!=", odd, odd.type(0)), likely=False):
        store_word(builder, (bits < 1).bitmap(), places[1])
        store_word(builder, (bits >= infinity).bitmap(), places[2])


@emitted
def _look(typing: Any, kind: Any, address: Any, marks: Any) -> Any:
    """`mark` for the 64 coordinates at an address."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        mark(read(builder, signature.args[0], args[1], WORD), args[2])
        return context.get_dummy_value()

    return types.void(kind, address, marks), generate


@emitted
def bytes_of(typing: Any, kind: Any) -> Any:
    """Bytes of a coordinate in a format."""
    return types.int64(kind), lambda context, builder, signature, args: INT64(item_bytes(signature.args[0]))


@emitted
def room(typing: Any) -> Any:
    """The address of three words on the stack for each of TILES tiles."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        with builder.goto_entry_block():
            words = builder.alloca(INT64, size=3 * TILES)
        return builder.ptrtoint(words, INT64)

    return types.int64(), generate


@emitted
def word_at(typing: Any, address: Any, index: Any) -> Any:
    """Word `index` of those at an address."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Scalar:
        place = builder.add(args[0], builder.mul(args[1], INT64(8)))
        return builder.load(builder.inttoptr(place, INT64.as_pointer()), align=1)

    return types.int64(types.int64, types.int64), generate


@kernel
def settle(zero: int, zeros: Zeros, row: int, index: int, n: int) -> int:
    """The bits of the zeros of a word."""
    rule, key, blocks, senders = zeros
    if rule == NEGATIVE:
        return 0
    if n - index * WORD < WORD:
        zero &= (1 << (n - index * WORD)) - 1
    return zero & fair_word(key, blocks[row], senders[row], index) if rule == RANDOM else zero


@kernel
def _pack(kind: Any, place: Place, n: int, zeros: Zeros, words: Words, valid: Flags, start: int, stop: int) -> None:
    body, stride, rest, whole = place
    size, width, marks = WORD * bytes_of(kind), -(-n // WORD), room()
    while start < stop:
        row, first = start // width, start % width
        last, broken = min(width, first + stop - start), 0
        for index in range(first, last):
            address = body + row * stride + index * size if index < whole else rest + row * size
            _look(kind, address, marks)
            word, zero = word_at(marks, 0), word_at(marks, 1)
            words[row * width + index] = word | settle(zero, zeros, row, index, n) if zero else word
            broken |= word_at(marks, 2)
        if broken:
            valid[row] = False
        start += last - first
