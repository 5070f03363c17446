"""Payloads as bytes, of sizes known to both ends beforehand; bytes from a peer are parsed, never unpickled.

A message is a header and a body. The body holds, group by group of the layout, each plane's rows (little-endian, a row
only as long as its own count says), and then the validity flags of all blocks, eight to a byte.
`docs/wire-format.md` is the specification.

Bodies are packed and unpacked where their payloads are, on a card without waiting for it; messages are on the host.
"""

import enum
import struct
import zlib
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Payload, Plane
from gradvote.staging import to_device

MAGIC = b"GVT2"
FIXED, CHECKSUM = struct.Struct("<4sBxxxIIQQI"), struct.Struct("<I")
HEADER_BYTES = FIXED.size + CHECKSUM.size


class WireError(ValueError):
    """A message that cannot be what its sender should have sent; says what was found and what was expected."""


class Kind(enum.IntEnum):
    """What a message is."""

    BALLOT = 1
    DECISION = 2


class Header(NamedTuple):
    """Who sends what for which round; `recipe` is a digest of algorithm and layout, the same at both ends."""

    kind: Kind
    sender: int
    step: int
    attempt: int
    recipe: int


def body_bytes(planes: Sequence[Sequence[Plane]], num_blocks: Sequence[int]) -> int:
    """Bytes of the body of a message: the planes of each group, and the number of its blocks."""
    rows = sum(_plane_size(p, blocks) for group, blocks in zip(planes, num_blocks, strict=True) for p in group)
    return rows + -(-sum(num_blocks) // 8)


def pack(payloads: Sequence[Payload], planes: Sequence[Sequence[Plane]]) -> Tensor:
    """The body of a message (..., bytes) uint8: one payload and its planes per group of the layout.

    Leading axes are allowed where every row has the same length for all of them.
    """
    return joined(pieces(payloads, planes)) if payloads else torch.zeros(0, dtype=torch.uint8, device="cpu")


def pieces(payloads: Sequence[Payload], planes: Sequence[Sequence[Plane]]) -> list[Tensor]:
    """The same in pieces that stand behind each other: what is sent as it lies is not copied.

    A piece is (..., bytes), or (B, bytes) of one sender's rows that lie apart; the last one is none of these.
    """
    pairs = [(x[p.name], p) for x, group in zip(payloads, planes, strict=True) for p in group]
    parts = [x.view(torch.uint8) if _lies_apart(x, p) else _plane_bytes(x, p) for x, p in pairs]
    return [*parts, pack_flags(torch.cat([x.valid for x in payloads], -1))]


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """Pieces as one (..., bytes)."""
    leading = pieces[-1].dim()
    return torch.cat([piece.flatten(-2) if piece.dim() > leading else piece for piece in pieces], -1)


def unpack(body: Tensor, planes: Sequence[Sequence[Plane]], num_blocks: Sequence[int]) -> list[Payload]:
    """The payloads in a body (..., bytes), one per group.

    Raises:
        WireError: the body does not have the length that `planes` and `num_blocks` ask for.
    """
    expected = body_bytes(planes, num_blocks)
    check_length(body.shape[-1], expected)
    flags = unpack_flags(body[..., expected - -(-sum(num_blocks) // 8) :], sum(num_blocks)).split(list(num_blocks), -1)
    payloads, at = [], 0
    for group, blocks, valid in zip(planes, num_blocks, flags, strict=True):
        arrays = {}
        for plane in group:
            size = _plane_size(plane, blocks)
            arrays[plane.name] = _plane_from(body.narrow(-1, at, size), plane, blocks)
            at += size
        payloads.append(Payload(valid, arrays))
    return payloads


def check_length(given: int, expected: int) -> None:
    """Raise WireError where a body does not have the length that its planes ask for."""
    if given != expected:
        raise WireError(f"The body of a message has {given} bytes; {expected} were expected.")


def frame(body: Tensor, header: Header) -> bytes:
    """Header and body (bytes,) uint8, on the host, as one message."""
    raw = body.contiguous().numpy().data
    kind, sender, step, attempt, recipe = header
    fixed = FIXED.pack(MAGIC, kind, sender, attempt, step, recipe, len(raw))
    return b"".join((fixed, CHECKSUM.pack(_checksum(fixed, raw)), raw))


def unframe(message: bytes, expected: Header) -> Tensor:
    """The body of a message after its checks, on the host: a copy.

    Raises:
        WireError: as `body_of`.
    """
    body = bytearray(body_of(message, expected))
    return torch.frombuffer(body, dtype=torch.uint8) if body else torch.zeros(0, dtype=torch.uint8, device="cpu")


def body_of(message: bytes, expected: Header) -> memoryview:
    """The body of a message after its checks, where it lies.

    Raises:
        WireError: the message is cut short or altered, or is not the `expected` one; the sentence names the field.
    """
    if len(message) < HEADER_BYTES:
        raise WireError(f"A message needs {HEADER_BYTES} bytes of header; this one has {len(message)} in all.")
    fixed, body = bytes(message[: FIXED.size]), memoryview(message)[HEADER_BYTES:]
    magic, kind, sender, attempt, step, recipe, length = FIXED.unpack(fixed)
    if magic != MAGIC:
        raise WireError(f"A message begins with {MAGIC!r}; this one begins with {magic!r}.")
    if length != len(body):
        raise WireError(f"The header announces {length} bytes of body; {len(body)} arrived.")
    if CHECKSUM.unpack_from(message, FIXED.size)[0] != _checksum(fixed, body):
        raise WireError("The checksum does not fit: the message was altered on its way.")
    found = kind, sender, step, attempt, recipe
    if found != expected:
        name, value, asked = next(x for x in zip(Header._fields, found, expected, strict=True) if x[1] != x[2])
        raise WireError(f"The message is for {name} {value}; {name} {asked} was expected.")
    return body


def stacked(bodies: Sequence[memoryview]) -> Tensor:
    """Bodies of one length as rows (M, bytes), each of which begins where a word may."""
    size = len(bodies[0])
    rows = np.empty((len(bodies), -(-size // 8) * 8), np.uint8)
    for row, body in zip(rows, bodies, strict=True):
        row[:size] = body
    return torch.from_numpy(rows[:, :size])


def _checksum(fixed: bytes, body: memoryview) -> int:
    """CRC-32 of the message with zeros in place of the checksum."""
    return zlib.crc32(body, zlib.crc32(fixed + bytes(CHECKSUM.size)))


def _plane_size(plane: Plane, num_blocks: int) -> int:
    rows = plane.rows
    return plane.dtype.itemsize * (rows * num_blocks if isinstance(rows, int) else int(rows.sum()))


def _row_mask(rows: NDArray[np.int64], width: int) -> NDArray[np.bool_] | None:
    """Which items (B, width) are sent; None: all."""
    return None if (rows == width).all() else np.arange(width) < rows[:, None]


def _raw(array: Tensor) -> NDArray[Any]:
    """The items as integers of their size: numpy has no bfloat16."""
    return array.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[array.itemsize]).numpy()


def _places(rows: NDArray[np.int64], width: int, device: torch.device) -> Tensor:
    """Where the items of rows of these lengths stand in rows of one width: worked out on the card itself."""
    ends = to_device(torch.from_numpy(rows.cumsum()), device)
    number = torch.arange(int(rows.sum()), device=device)
    row = torch.searchsorted(ends, number, right=True)
    return number + (row * width - (ends - to_device(torch.from_numpy(rows), device))[row])


def _plane_bytes(array: Tensor, plane: Plane) -> Tensor:
    rows, width = plane.rows, array.shape[-1]
    if not isinstance(rows, int):
        assert array.dim() == 2, "rows of differing length have one sender"
        mask = _row_mask(rows, width)
        if mask is not None and array.is_cpu:
            return torch.from_numpy(_raw(array)[mask].view(np.uint8))
        if mask is not None:
            return array.reshape(-1).index_select(0, _places(rows, width, array.device)).view(torch.uint8)
    flat: Tensor = array.contiguous().flatten(-2)
    return flat.view(torch.uint8)


def _lies_apart(array: Tensor, plane: Plane) -> bool:
    """Whether whole rows (B, width) of numbers that lie side by side are sent, with something else between the rows."""
    whole = isinstance(plane.row, int) and array.dim() == 2 and array.shape[-1] > 1
    return whole and not array.is_contiguous() and array.stride(-1) == 1


def _plane_from(raw: Tensor, plane: Plane, num_blocks: int) -> Tensor:
    size = plane.dtype.itemsize
    *strides, step = raw.stride()
    if step != 1 or reduce(or_, strides, raw.data_ptr() | int(raw.storage_offset())) % size:
        raw = raw.clone(memory_format=torch.contiguous_format)
    rows = plane.rows
    width = rows if isinstance(rows, int) else int(rows.max(initial=0))
    mask = None if isinstance(rows, int) else _row_mask(rows, width)
    if not raw.numel():
        return torch.zeros(*raw.shape[:-1], num_blocks, width, dtype=plane.dtype, device=raw.device)
    if mask is None:
        items = raw.view(plane.dtype)
        return items.view(*items.shape[:-1], num_blocks, width)
    array = torch.zeros(num_blocks, width, dtype=plane.dtype, device=raw.device)
    if raw.is_cpu:
        _raw(array)[mask] = raw.numpy().view(_raw(array).dtype)
    else:
        assert not isinstance(rows, int)
        array.view(-1).index_copy_(0, _places(rows, width, raw.device), raw.view(plane.dtype))
    return array


def pack_flags(valid: Tensor) -> Tensor:
    """Flags (..., B) as bytes, eight to a byte, the first in the lowest bit."""
    if valid.is_cpu:
        return torch.from_numpy(np.packbits(valid.numpy(), axis=-1, bitorder="little"))
    padded = torch.nn.functional.pad(valid, (0, -valid.shape[-1] % 8)).unflatten(-1, (-1, 8))
    packed: Tensor = (padded.to(torch.uint8) << _bits(valid.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_flags(raw: Tensor, num_blocks: int) -> Tensor:
    """The inverse: bytes as flags (..., B)."""
    if raw.is_cpu:
        flags = np.unpackbits(raw.numpy(), axis=-1, count=num_blocks, bitorder="little")
        return torch.from_numpy(flags.view(np.bool_))
    return (raw[..., None] >> _bits(raw.device) & 1).flatten(-2)[..., :num_blocks].bool()


def _bits(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
