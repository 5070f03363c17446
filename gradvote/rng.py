"""Counter-based randomness: bits are a function of (key, stream, step, attempt, block, sender, coordinate) alone.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a 64-bit key and
a 128-bit counter to four 32-bit words. Here key = BLAKE2b-64 of (root, stream, step, attempt) and
counter = (q, block, sender, 0). The words of one block are numbered in tiles of 64: with t = i // 64 and r = i % 64,
word i is output 2·(r // 32) + r % 2 of counter q = 16·t + (r % 32) // 2. `docs/wire-format.md` has test vectors.

Public streams have the run's seed as root, so that both ends draw the same masks without sending them. Private
streams have the worker's secret; where none is set, a root derived from the seed.
"""

import enum
import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradvote.core import Context
from gradvote.staging import CPU


class Stream(enum.IntEnum):
    """What a draw is for; part of the key, so that streams never meet."""

    MASK = 1
    TIE = 2
    ZERO = 3
    NOISE = 4
    SAMPLING = 5
    FAULT = 6
    ROUNDING = 7


PRIVATE = frozenset({Stream.ZERO, Stream.NOISE, Stream.SAMPLING, Stream.ROUNDING})


@dataclass(frozen=True)
class Draw:
    """A position in a stream: a 64-bit key, and each row's block and sender (int64, broadcast to (..., B))."""

    key: int
    block: Tensor
    sender: Tensor


def derive_key(root: bytes, stream: Stream, step: int, attempt: int = 0) -> int:
    """BLAKE2b with 8 bytes of output over root ‖ stream ‖ step ‖ attempt (little-endian uint32, uint64, uint32)."""
    message = root + struct.pack("<IQI", stream, step, attempt)
    return int.from_bytes(hashlib.blake2b(message, digest_size=8, person=b"gradvote").digest(), "little")


def root_of(ctx: Context, stream: Stream) -> bytes:
    """The root of a stream: the seed for public ones, the worker's secret (or a seed-derived root) for private ones."""
    if stream not in PRIVATE:
        return b"public:" + struct.pack("<Q", ctx.seed % 2**64)
    return b"secret:" + ctx.secret if ctx.secret is not None else b"derived:" + struct.pack("<Q", ctx.seed % 2**64)


def draw(ctx: Context, stream: Stream) -> Draw:
    """The position of this round in a stream."""
    key = derive_key(root_of(ctx, stream), stream, ctx.step, ctx.attempt)
    return Draw(key, ctx.block, senders_of(ctx))


def senders_of(ctx: Context) -> Tensor:
    """`ctx.sender` as an int64 tensor on the device of `ctx.block`; worked out once for a context."""
    if "senders" not in ctx.memo:
        device, sender = ctx.block.device, ctx.sender
        if not isinstance(sender, Tensor):
            ctx.memo["senders"] = _number(sender, device)
        elif device in (CPU, sender.device):
            ctx.memo["senders"] = sender.to(torch.int64)
        else:
            ctx.memo["senders"] = _numbers(tuple(sender.flatten().tolist()), sender.shape, device)
    return ctx.memo["senders"]


@lru_cache(1024)
def _number(value: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.int64, device=device)


@lru_cache(1024)
def _numbers(values: tuple[int, ...], shape: torch.Size, device: torch.device) -> Tensor:
    """Numbers on a card: copied once, as each copy is waited for."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.int64, device=device).view(shape)
