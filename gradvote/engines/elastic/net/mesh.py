"""Connections between all processes of a run: each one dials those with a lower ticket, again and again.

Both ends prove who they are (`authentication`), then greet each other (`greetings`). A process is heard if the register
knows its ticket, as that of the worker it has proven to be. A refused connection, an answer by another ticket, or this
machine's own word prove that a process has ended; silence proves nothing.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import partial

from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.addresses import bare, listening
from gradvote.engines.elastic.net.authentication import Credentials, secure
from gradvote.engines.elastic.net.channels import Channel, GaveUp, Unproven
from gradvote.engines.elastic.net.connections import Connection, Inbox
from gradvote.engines.elastic.net.dialing import Dialling
from gradvote.engines.elastic.net.frames import FrameKind
from gradvote.engines.elastic.net.gate import PATIENCE, Gate
from gradvote.engines.elastic.net.greetings import UNTOLD, Hello, hear
from gradvote.engines.elastic.net.local_processes import has_ended
from gradvote.engines.elastic.signing.names import SIGNED

PAUSE, SWEEP = 0.05, 0.25
MOST, MOST_OF_ONE = 1024, 4
"""Connections at a time, and those of one worker: its processes of before may not be known to have ended yet."""
CROWDED = "too many connections"


class Mesh:
    """`connections` by ticket, of all processes that are connected now; changes are told by the inbox.

    `strangers`, by ticket too, are the numbers and recipes of those that were refused; `unproven` are the numbers of
    those that did not prove who they are when they were dialled, why not, and how often in a row.
    """

    def __init__(
        self,
        register: Register,
        host: str,
        recipe: int,
        inbox: Inbox,
        limits: dict[FrameKind, int],
        credentials: Credentials | None = None,
    ) -> None:
        self._register, self.recipe, self._inbox, self.limits = register, recipe, inbox, limits
        self.credentials, self.gate = credentials, Gate()
        self._server = listening(bare(host))
        self._server.settimeout(SWEEP)
        self.host, self.port = bare(host), int(self._server.getsockname()[1])
        self.connections: dict[int, Connection] = {}
        self.ended: set[int] = set()
        self.strangers: dict[int, tuple[int, int]] = {}
        self.unproven: dict[int, tuple[int, str, int]] = {}
        self.probing = False
        self._numbers: dict[int, int] = {}
        self._dialling = Dialling()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self.me, self._past = Member(0, 0), (0, 0)

    def start(self, me: Member) -> None:
        """Listen and dial in the background, under this name."""
        self.me = me
        for work in (self._accept, self._dial):
            threading.Thread(target=work, name=f"gradvote {work.__name__}", daemon=True).start()

    def stop(self) -> None:
        """End all connections, after what is queued has been sent."""
        with self._lock:
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

    def offends(self, connection: Connection, reason: str) -> None:
        """A worker has broken the rules: its connection ends, and where that happens often, it has to stay away."""
        self.gate.refuse(reason, connection.peer.number)
        connection.close()

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
                sock, (host, *_) = self._server.accept()
            except TimeoutError:
                self.gate.sweep()
            except OSError:  # the process has no descriptors, or no memory: who waits stays in the system's queue
                if not self._stopped.is_set():
                    self.gate.shed()
                    self._stopped.wait(PAUSE)
            else:
                self.gate.sweep()
                self._admit(sock, str(host))

    def _admit(self, sock: socket.socket, host: str) -> None:
        if not self.gate.knocks(host):
            sock.close()
            return
        channel = Channel(sock)
        self.gate.enter(channel)
        try:
            threading.Thread(target=self._answer, args=(channel, host), daemon=True).start()
        except RuntimeError:  # the system has no thread for it
            self.gate.leave(channel)
            channel.close()

    def _answer(self, waiting: Channel, host: str) -> None:
        try:
            channel = secure(waiting.sock, self.credentials, server_side=True, seconds=PATIENCE)
            channel.patience(PATIENCE)
            greeting = hear(channel)
            self._check(greeting, proven=channel.peer is not None)
            self._greet(channel, greeting)
            channel.patience(None)
        except OSError as error:
            if isinstance(error, GaveUp | TimeoutError | ConnectionResetError):
                self.gate.gave_up(_reason(error), host)
            else:
                self.gate.refuse(_reason(error), host)
            waiting.close()
            return
        finally:
            self.gate.leave(waiting)
        self.gate.welcome(host)
        if greeting.probe or greeting.to != self.me.ticket:
            channel.close()
        else:
            self._use(channel, greeting)

    def _check(self, greeting: Hello, proven: bool) -> None:
        """Raise ConnectionAbortedError unless this process is known to the register, as a process of this worker."""
        member = greeting.member
        if self.gate.barred(member.number):
            raise ConnectionAbortedError("barred for a while")
        if self._numbers.get(member.ticket) != member.number:
            try:
                place = self._register.place(member.ticket)
            except RegisterLost as error:
                if not proven:
                    raise ConnectionAbortedError("unknown process") from error
            else:
                if place is None or place.number != member.number:
                    raise ConnectionAbortedError("unknown process")
                self._numbers[member.ticket] = member.number
        if self._crowded(member):
            raise ConnectionAbortedError(CROWDED)

    def _crowded(self, member: Member) -> bool:
        others = [c for c in list(self.connections.values()) if c.peer.ticket != member.ticket]
        return len(others) >= MOST or sum(c.peer.number == member.number for c in others) >= MOST_OF_ONE

    def _greet(self, channel: Channel, asked: Hello) -> None:
        """Answer a greeting; the recipe is told to who knows it, or knows it but for the signatures."""
        told = self.recipe if asked.recipe in (self.recipe, self.recipe ^ SIGNED) else UNTOLD
        channel.send_frame(Hello(self.me, asked.member.ticket, told).frame())

    def _dial(self) -> None:
        while not self._stopped.wait(PAUSE):
            with contextlib.suppress(RegisterLost):
                self._register.refresh()
                for place in sorted(self._missing(), key=lambda place: self._dialling.begun(place.ticket)):
                    self._dialling.begin(place.ticket, partial(self._try, place))

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
        if has_ended(place.process, place.host):
            self._has_ended(place.ticket)
            return
        if self.gate.barred(place.number):
            return
        try:
            channel, answer = self._reach(place)
        except TimeoutError:
            self._dialling.too_short(place.ticket)
            return
        except OSError:
            return
        self._dialling.answers(place.ticket)
        self.unproven.pop(place.ticket, None)
        self._numbers[answer.member.ticket] = answer.member.number
        if answer.member.ticket != place.ticket:
            self._has_ended(place.ticket)
        if place.ticket > self.me.ticket or answer.member.ticket != place.ticket:
            channel.close()
        else:
            self._use(channel, answer)

    def _reach(self, place: Presence) -> tuple[Channel, Hello]:
        """Who is there, at the place of a process, and a channel to it.

        Raises:
            OSError: nobody, for all that is known now; what that proves or suggests has been taken note of.
        """
        try:
            sock = socket.create_connection((place.host, place.port), self._dialling.connecting(place.ticket))
        except ConnectionRefusedError:
            self._has_ended(place.ticket)
            raise
        try:
            return self._introduce(sock, place)
        except OSError as error:
            sock.close()
            if not isinstance(error, TimeoutError):
                self._doubt(place, error)
            raise

    def _has_ended(self, ticket: int) -> None:
        self.ended.add(ticket)
        self.unproven.pop(ticket, None)

    def _introduce(self, sock: socket.socket, place: Presence) -> tuple[Channel, Hello]:
        """Prove and ask who is there, at the place of a process.

        Raises:
            OSError: no process of this run has answered.
        """
        patience = self._dialling.answering(place.ticket)
        channel = secure(sock, self.credentials, server_side=False, seconds=patience)
        channel.patience(patience)
        own = Hello(self.me, place.ticket, self.recipe, probe=place.ticket > self.me.ticket)
        channel.send_frame(own.frame())
        answer = hear(channel)
        if answer.member.ticket == place.ticket and answer.member.number != place.number:
            raise Unproven("it answers in another worker's name")
        channel.patience(None)
        return channel, answer

    def _doubt(self, place: Presence, error: OSError) -> None:
        times = self.unproven.get(place.ticket, (0, "", 0))[2]
        self.unproven[place.ticket] = place.number, str(error), times + 1

    def _use(self, channel: Channel, greeting: Hello) -> None:
        peer = greeting.member
        if greeting.recipe != self.recipe:
            self.strangers[peer.ticket] = peer.number, greeting.recipe
            channel.close()
            return
        connection = Connection(channel, peer, self._inbox, self.limits)
        with self._lock:
            crowded = self._crowded(peer)  # anew: handshakes side by side have all found room
            if crowded or self._stopped.is_set():
                if crowded:
                    self.gate.refuse(CROWDED)
                channel.close()
                return
            old = self.connections.get(peer.ticket)
            self.connections[peer.ticket] = connection
            connection.start()
        if old is not None:
            old.close()


def _reason(error: OSError) -> str:
    if isinstance(error, Unproven):
        return "not proven"
    if isinstance(error, TimeoutError):
        return "too slow"
    return str(error) if isinstance(error, ConnectionAbortedError) else "no greeting"
