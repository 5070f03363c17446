"""Connections between all processes of a run: each one dials those with a lower ticket, again and again.

The first frame each way is a HELLO: ticket, number, whom it is meant for, and the recipe. A refused connection, or an
answer by another ticket, proves that a process has ended; silence proves nothing.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.register import Presence, Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.addresses import bare, listening
from gradvote.engines.elastic.net.connections import Connection, Inbox
from gradvote.engines.elastic.net.frames import Frame, FrameKind, read

_HELLO = struct.Struct("<HIIIQ")
VERSION = 2
CONNECTING = 0.5
PAUSE = 0.05
_PROBE = 0


class Mesh:
    """`connections` by ticket, of all processes that are connected now; changes are told by the inbox.

    `strangers`, by ticket too, are the numbers and recipes of those that were refused.
    """

    def __init__(self, register: Register, host: str, recipe: int, inbox: Inbox, limits: dict[FrameKind, int]) -> None:
        self._register, self.recipe, self._inbox, self._limits = register, recipe, inbox, limits
        self._server = listening(bare(host))
        self.host, self.port = bare(host), int(self._server.getsockname()[1])
        self.connections: dict[int, Connection] = {}
        self.ended: set[int] = set()
        self.strangers: dict[int, tuple[int, int]] = {}
        self.probing = False
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self.me, self._past = Member(0, 0), (0, 0)

    def start(self, me: Member) -> None:
        """Listen and dial in the background, under this name."""
        self.me = me
        for work in (self._accept, self._dial):
            threading.Thread(target=work, name=f"gradvote {work.__name__}", daemon=True).start()

    def stop(self) -> None:
        """End all connections, after what is queued has been sent."""
        self._stopped.set()
        self._server.close()
        for connection in list(self.connections.values()):
            connection.finish()

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended, unless another one has replaced it."""
        with self._lock:
            if self.connections.get(connection.peer.ticket) is connection:
                del self.connections[connection.peer.ticket]
            self._past = self._past[0] + connection.bytes_sent, self._past[1] + connection.bytes_received

    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received so far."""
        with self._lock:
            connections = list(self.connections.values())
            return self._past[0] + sum(x.bytes_sent for x in connections), self._past[1] + sum(
                x.bytes_received for x in connections
            )

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(10 * CONNECTING)
            peer, meant, recipe = _read_hello(sock)
            self._greet(sock, self.me.ticket, peer.ticket)
        except OSError:
            sock.close()
            return
        if peer.ticket == _PROBE or meant != self.me.ticket:
            sock.close()
            return
        self._use(sock, peer, recipe)

    def _dial(self) -> None:
        while not self._stopped.wait(PAUSE):
            with contextlib.suppress(RegisterLost):
                self._register.refresh()
                for place in self._missing():
                    if not self._stopped.is_set():
                        self._try(place)

    def _missing(self) -> Iterator[Presence]:
        """Whom to dial, the latest first; a worker's earlier processes only while their ends have to be proven."""
        last = self._register.num_tickets() if self.probing else self.me.ticket - 1
        numbers = {connection.peer.number for connection in list(self.connections.values())}
        for ticket in range(last, 0, -1):
            if ticket not in self.connections and ticket not in self.ended and ticket != self.me.ticket:
                place = self._register.place(ticket)
                if place is not None and (self.probing or place.number not in numbers):
                    numbers.add(place.number)
                    yield place

    def _try(self, place: Presence) -> None:
        try:
            sock = socket.create_connection((place.host, place.port), timeout=CONNECTING)
        except ConnectionRefusedError:
            self.ended.add(place.ticket)
            return
        except OSError:
            return
        try:
            probe = place.ticket > self.me.ticket
            self._greet(sock, _PROBE if probe else self.me.ticket, place.ticket)
            peer, _, recipe = _read_hello(sock)
        except OSError:
            sock.close()
            return
        if peer.ticket != place.ticket:
            self.ended.add(place.ticket)
        if probe or peer.ticket != place.ticket:
            sock.close()
        else:
            self._use(sock, peer, recipe)

    def _greet(self, sock: socket.socket, ticket: int, to: int) -> None:
        body = _HELLO.pack(VERSION, ticket, self.me.number, to, self.recipe)
        sock.sendall(b"".join(Frame(FrameKind.HELLO, self.me.ticket, Slot(), body).pack()))

    def _use(self, sock: socket.socket, peer: Member, recipe: int) -> None:
        if recipe != self.recipe:
            self.strangers[peer.ticket] = peer.number, recipe
            sock.close()
            return
        connection = Connection(sock, peer, self._inbox, self._limits)
        with self._lock:
            old = self.connections.get(peer.ticket)
            self.connections[peer.ticket] = connection
            connection.start()
        if old is not None:
            old.close()


def _read_hello(sock: socket.socket) -> tuple[Member, int, int]:
    frame = read(sock, {FrameKind.HELLO: _HELLO.size})
    if frame.kind != FrameKind.HELLO or len(frame.body) != _HELLO.size or not frame.sound:
        raise ConnectionAbortedError("no greeting")
    version, ticket, number, meant, recipe = _HELLO.unpack(frame.body)
    if version != VERSION:
        raise ConnectionAbortedError("another version")
    return Member(ticket, number), meant, recipe
