"""Frames on a socket: a header with a checksum of its own, and a body with its digest. Parsed, never unpickled.

Nothing that a peer sends can do more than be refused: an altered body is skipped, since the header tells its length; an
altered header, or one that announces too much, ends the connection, which is then opened again.
"""

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import Protocol

from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot

MAGIC = b"GVE2"
_HEADER = struct.Struct(f"<4sBxxxIIQQ{DIGEST_BYTES}s")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
_CHUNK = 1 << 16


class FrameKind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    BALLOT = 2
    HELD = 3
    RECORD = 4
    PULL = 5
    SNAPSHOT = 6
    STEP = 7
    READY = 8
    OUTSIDE = 9
    BYE = 10
    DECISION = 11
    DIGEST = 12
    WANT = 13
    MEMORY = 14
    GOODBYE = 15
    WHOLE = 16


VOTE_FRAMES = (FrameKind.BALLOT, FrameKind.HELD, FrameKind.RECORD)
SHARD_FRAMES = (FrameKind.DECISION, FrameKind.DIGEST, FrameKind.WANT, FrameKind.WHOLE, FrameKind.MEMORY)
"""Between those who hold shards."""
ROUND_FRAMES = VOTE_FRAMES + SHARD_FRAMES
STATE_FRAMES = (FrameKind.SNAPSHOT, FrameKind.STEP)
"""What is sent to those who learn only."""


class Source(Protocol):
    """What bytes are read from: a socket, or a channel."""

    def recv_into(self, view: memoryview, /) -> int:
        """Fill the beginning of a buffer: how many bytes; 0 at the end."""


class BrokenStream(OSError):
    """What arrives on this connection cannot be told apart into frames any more."""


class WrongFrame(BrokenStream):
    """What the other end has sent, unaltered, is no frame that it may send."""


@dataclass(frozen=True)
class Frame:
    """`author` is the ticket of whose words these are; `sound` is False where the body was altered on its way."""

    kind: FrameKind
    author: int
    slot: Slot
    body: bytes | bytearray = b""
    digest: bytes = b""
    sound: bool = True

    def pack(self) -> list[bytes | bytearray]:
        """Header and body, to be sent one after the other."""
        digest = self.digest or digest_of(self.body)
        raw = _HEADER.pack(MAGIC, self.kind, self.author, self.slot.attempt, self.slot.step, len(self.body), digest)
        header = raw + _CHECK.pack(zlib.crc32(raw))
        return [header, self.body] if self.body else [header]


def read(sock: Source, limits: dict[FrameKind, int]) -> Frame:
    """The next frame; `limits` are the longest bodies, by kind.

    Raises:
        BrokenStream: the header was altered; WrongFrame: it announces a body that is too long, or no kind of frame.
        OSError: the connection has ended.
    """
    raw = _exactly(sock, HEADER_BYTES)
    magic, kind, author, attempt, step, length, digest = _HEADER.unpack_from(raw)
    if magic != MAGIC or _CHECK.unpack_from(raw, _HEADER.size)[0] != zlib.crc32(raw[: _HEADER.size]):
        raise BrokenStream("a header was altered on its way")
    if kind not in FrameKind.__members__.values() or length > limits.get(FrameKind(kind), 0):
        raise WrongFrame(f"a frame of kind {kind} announces {length} bytes")
    body = _exactly(sock, length)
    return Frame(FrameKind(kind), author, Slot(step, attempt), body, digest, digest_of(body) == digest)


def _exactly(sock: Source, length: int) -> bytearray:
    """Memory grows with what has arrived, not with what was announced."""
    data = bytearray()
    while len(data) < length:
        start = len(data)
        data += bytes(min(length - start, max(_CHUNK, start)))
        view = memoryview(data)
        while start < len(data):
            got = sock.recv_into(view[start:])
            if not got:
                raise ConnectionResetError("the other end closed the connection")
            start += got
        view.release()
    return data
