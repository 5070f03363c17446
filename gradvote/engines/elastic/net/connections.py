"""A connection to one peer: a thread that sends, a thread that receives. A peer that hangs holds up nobody else.

What waits is bounded in both directions. Of what has arrived and was not taken yet, a peer may fill its share: then it
is read no further. What it does not read itself may wait for it up to a limit: then the connection ends.
"""

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.frames import STATE_FRAMES, BrokenStream, Frame, FrameKind, WrongFrame

ROOM = 1 << 23
"""Bytes that may always wait."""


@dataclass(frozen=True)
class Arrived:
    """A frame from a peer, and when it came (monotonic seconds)."""

    connection: "Connection"
    frame: Frame
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Opened:
    """A connection stands."""

    connection: "Connection"


@dataclass(frozen=True)
class Closed:
    """A connection has ended; `damaged` says what was wrong with what arrived on it, `offence` what the peer did."""

    connection: "Connection"
    damaged: str = ""
    offence: str = ""


Event = Arrived | Opened | Closed
Inbox = queue.SimpleQueue[Event]


class Connection:
    """Frames to and from a peer. Everything that arrives goes to the inbox, in order, and at last `Closed`.

    `limits` are the longest bodies by kind. States are read only from a peer that was asked for one (`expect_state`).
    """

    def __init__(self, channel: Channel, peer: Member, inbox: Inbox, limits: Mapping[FrameKind, int]) -> None:
        self.channel, self.peer = channel, peer
        self.limits = {kind: size for kind, size in limits.items() if kind not in STATE_FRAMES}
        self._states = {kind: size for kind, size in limits.items() if kind in STATE_FRAMES}
        self._room = ROOM + 4 * max(self.limits.values(), default=0)
        self.bytes_sent = self.bytes_received = 0
        self._inbox, self._waiting, self._untaken, self._offence = inbox, deque[Frame](), 0, ""
        self._changed, self._closing, self._ended = threading.Condition(), False, False
        channel.patience(None)
        if channel.sock.family in (socket.AF_INET, socket.AF_INET6):
            channel.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Announce the connection, and begin."""
        self._inbox.put(Opened(self))
        for work in (self._send, self._receive):
            threading.Thread(target=work, name=f"gradvote {work.__name__} {self.peer.ticket}", daemon=True).start()

    def send(self, frame: Frame) -> None:
        """Queue a frame; what a lost peer does not get, it does not need."""
        with self._changed:
            if self._closing:
                return
            self._waiting.append(frame)
            full = frame.kind not in STATE_FRAMES and self._bytes_waiting(states=False) > self._room
            self._changed.notify_all()
        if full:
            self._offence = "does not read"
            self.close()

    def states_waiting(self) -> int:
        """Bytes of states and steps that the peer has not read yet."""
        with self._changed:
            return self._bytes_waiting(states=True)

    def expect_state(self) -> None:
        """This peer is asked for its state."""
        self.limits.update(self._states)

    def withdraw(self, kind: FrameKind) -> None:
        """Take back the frames of this kind that wait."""
        with self._changed:
            self._waiting = deque(frame for frame in self._waiting if frame.kind != kind)

    def taken(self, frame: Frame) -> None:
        """A frame was taken from the inbox: there is room for more."""
        with self._changed:
            self._untaken -= len(frame.body)
            self._changed.notify_all()

    def finish(self) -> None:
        """Send what is queued, then end the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the connection now."""
        self.finish()
        with self._changed:
            self._waiting.clear()
        self.channel.hang_up()

    @property
    def ending(self) -> bool:
        """Whether this end has had enough."""
        return self._closing

    @property
    def idle(self) -> bool:
        """Whether everything has been handed to the system, or the connection has ended."""
        return self._ended or not self._waiting

    def _bytes_waiting(self, states: bool) -> int:
        return sum(len(frame.body) for frame in self._waiting if (frame.kind in STATE_FRAMES) == states)

    def _send(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._waiting and not self._closing:
                        self._changed.wait()
                    if not self._waiting:
                        break
                    frame = self._waiting[0]
                self.bytes_sent += self.channel.send_frame(frame)
                with self._changed:
                    if self._waiting and self._waiting[0] is frame:
                        self._waiting.popleft()
            self.channel.send_frame(Frame(FrameKind.GOODBYE, 0, Slot()))
            self.channel.end_writing()
        except OSError:
            self.close()
        self._ended = True

    def _receive(self) -> None:
        damaged = ""
        try:
            while (frame := self.channel.recv_frame(self.limits)).kind != FrameKind.GOODBYE:
                self.bytes_received += len(frame.body)
                self._keep(frame)
        except WrongFrame as error:
            damaged, self._offence = str(error), self._offence or "wrong frames"
        except BrokenStream as error:
            damaged = str(error)
        except OSError:
            pass
        self.close()
        self._inbox.put(Closed(self, damaged, self._offence))
        self.channel.close()

    def _keep(self, frame: Frame) -> None:
        """Hand a frame to the inbox, as soon as there is room in this peer's share."""
        with self._changed:
            while self._untaken and self._untaken + len(frame.body) > self._room and not self._closing:
                self._changed.wait()
            self._untaken += len(frame.body)
        self._inbox.put(Arrived(self, frame))
