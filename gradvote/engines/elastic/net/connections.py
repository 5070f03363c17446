"""A connection to one peer: a thread that sends, a thread that receives. A peer that hangs holds up nobody else."""

import contextlib
import queue
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.net.frames import BrokenStream, Frame, FrameKind, read


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
    """A connection has ended; `damaged` says what was wrong with what arrived on it."""

    connection: "Connection"
    damaged: str = ""


Event = Arrived | Opened | Closed
Inbox = queue.SimpleQueue[Event]


class Connection:
    """Frames to and from a peer. Everything that arrives goes to the inbox, in order, and at last `Closed`."""

    def __init__(self, sock: socket.socket, peer: Member, inbox: Inbox, limits: dict[FrameKind, int]) -> None:
        self.sock, self.peer, self.limits = sock, peer, dict(limits)
        self.bytes_sent = self.bytes_received = 0
        self._inbox, self._waiting = inbox, deque[Frame]()
        self._changed, self._closing, self._ended = threading.Condition(), False, False
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Announce the connection, and begin."""
        self._inbox.put(Opened(self))
        for work in (self._send, self._receive):
            threading.Thread(target=work, name=f"gradvote {work.__name__} {self.peer.ticket}", daemon=True).start()

    def send(self, frame: Frame) -> None:
        """Queue a frame; what a lost peer does not get, it does not need."""
        with self._changed:
            self._waiting.append(frame)
            self._changed.notify()

    def withdraw(self, kind: FrameKind) -> None:
        """Take back the frames of this kind that wait."""
        with self._changed:
            self._waiting = deque(frame for frame in self._waiting if frame.kind != kind)

    def finish(self) -> None:
        """Send what is queued, then end the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> None:
        """End the connection now."""
        self.finish()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    @property
    def idle(self) -> bool:
        """Whether everything has been handed to the system, or the connection has ended."""
        return self._ended or not self._waiting

    def _send(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._waiting and not self._closing:
                        self._changed.wait()
                    if not self._waiting:
                        break
                    frame = self._waiting.popleft()
                for part in frame.pack():
                    self.sock.sendall(part)
                    self.bytes_sent += len(part)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
        self._ended = True

    def _receive(self) -> None:
        damaged = ""
        try:
            while True:
                frame = read(self.sock, self.limits)
                self.bytes_received += len(frame.body)
                self._inbox.put(Arrived(self, frame))
        except BrokenStream as error:
            damaged = str(error)
        except OSError:
            pass
        self.close()
        self._inbox.put(Closed(self, damaged))
        self.sock.close()
