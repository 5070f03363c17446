"""The first frame each way: who one is, for whom it is meant, and what one trains."""

import struct
from dataclasses import dataclass

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.frames import Frame, FrameKind

VERSION = 3
_HELLO = struct.Struct("<HBxIIIQ")
UNTOLD = 0
"""In place of the recipe, towards whom that names another one: strangers do not learn it."""


@dataclass(frozen=True)
class Hello:
    """`to` is the ticket of whom it is meant for; who only asks whether that process is here says `probe`."""

    member: Member
    to: int
    recipe: int
    probe: bool = False

    def frame(self) -> Frame:
        """As it travels."""
        body = _HELLO.pack(VERSION, self.probe, self.member.ticket, self.member.number, self.to, self.recipe)
        return Frame(FrameKind.HELLO, self.member.ticket, Slot(), body)


def hear(channel: Channel) -> Hello:
    """The other end's greeting.

    Raises:
        ConnectionAbortedError: what came is none, or names another worker than its certificate.
        OSError: the connection has ended.
    """
    frame = channel.recv_frame({FrameKind.HELLO: _HELLO.size})
    if frame.kind != FrameKind.HELLO or len(frame.body) != _HELLO.size or not frame.sound:
        raise ConnectionAbortedError("no greeting")
    version, probe, ticket, number, to, recipe = _HELLO.unpack(frame.body)
    if version != VERSION:
        raise ConnectionAbortedError("another version")
    if channel.peer is not None and channel.peer != number:
        raise ConnectionAbortedError("another worker's number")
    return Hello(Member(ticket, number), to, recipe, bool(probe))
