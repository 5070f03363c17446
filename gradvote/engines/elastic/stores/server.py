"""Serves a table to the processes of a run. Nobody is heard before it has shown that it is one of them."""

import contextlib
import errno
import secrets
import socket
import threading
import time
from pathlib import Path

from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import PREFIX, read
from gradvote.engines.elastic.consensus.storage import RegisterLost, SlotPast, Storage
from gradvote.engines.elastic.net.addresses import bare, joined, listening
from gradvote.engines.elastic.net.authentication import REGISTER, Credentials
from gradvote.engines.elastic.stores.journal import Journal
from gradvote.engines.elastic.stores.messages import (
    DENIED,
    GET,
    NOTHING,
    PAST,
    REFUSED,
    VALUE,
    Answer,
    Question,
    question_from,
)
from gradvote.engines.elastic.stores.table import NoRoom, Table
from gradvote.engines.elastic.stores.transport import Access, Link, secured

GREETING, ANSWERING = 3.0, 5.0
"""Seconds that the other end has to show who it is, and to take an answer."""
MOST_CLIENTS, MOST_STRANGERS, MOST_OF_ONE = 1024, 32, 16
"""Connections of processes of the run, of those that have not shown yet who they are, and of one worker."""


class RegisterServer:
    """Serves on a listening socket from the moment it is made, until `close`.

    Connections take one thread each: at most `most_clients` of processes of the run, and `most_strangers` that have not
    shown yet who they are, for three seconds at most; who comes when all of these are taken is sent away, and comes
    again. Of one worker the latest 16 stay, so that none takes the places of the others. Messages are bounded by the
    transport, entries by the table.
    """

    def __init__(
        self,
        table: Table,
        access: Access,
        sock: socket.socket,
        most_clients: int = MOST_CLIENTS,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        self.table, self.access, self._socket = table, access, sock
        self.host, self.port = sock.getsockname()[:2]
        self._most, self._most_strangers = most_clients, most_strangers
        self._clients, self._strangers = dict[socket.socket, int | None](), set[socket.socket]()
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._accept, name="gradvote register", daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens: HOST:PORT."""
        return joined(self.host, self.port)

    @property
    def num_connections(self) -> tuple[int, int]:
        """How many processes of the run are connected, and how many that have not shown yet who they are."""
        with self._lock:
            return len(self._clients), len(self._strangers)

    def close(self) -> None:
        """Serve nobody any more."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for sock in (*self._clients, *self._strangers):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.table.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):
                    return
                self._closed.wait(0.1)  # no descriptors left, say: they come back
                continue
            with self._lock:
                welcome = len(self._strangers) < self._most_strangers and len(self._clients) < self._most
                if welcome:
                    self._strangers.add(sock)
            try:
                if not welcome:
                    raise OSError("too many")
                threading.Thread(target=self._serve, args=(sock,), name="gradvote register client", daemon=True).start()
            except (OSError, RuntimeError):  # RuntimeError: no more threads
                self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._strangers.discard(sock)
            self._clients.pop(sock, None)
        sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            _keep_alive(sock)
            link = secured(sock, self.access, time.monotonic() + GREETING, answering=True)
            self._welcome(sock, link.peer)
            while not self._closed.is_set():
                self._answer(link)
        except (OSError, ValueError, RecursionError):
            pass  # it has left, or is nobody to be listened to
        finally:
            self._forget(sock)

    def _welcome(self, sock: socket.socket, peer: int | None) -> None:
        """It has shown who it is; where there are too many of this worker, the oldest go."""
        with self._lock:
            self._strangers.discard(sock)
            self._clients[sock] = peer
            own = [other for other, number in self._clients.items() if number == peer]
            # All but the latest: one that was sent away before may not have been forgotten yet.
            for old in () if peer is None else own[:-MOST_OF_ONE]:
                with contextlib.suppress(OSError):
                    old.shutdown(socket.SHUT_RDWR)

    def _answer(self, link: Link) -> None:
        answer = answered(self.table, question_from(link.receive(None)), link.peer)
        link.send(answer.pack(), time.monotonic() + ANSWERING)


def _keep_alive(sock: socket.socket) -> None:
    """A machine that vanished does not hold its place for hours."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def serve(
    host: str, port: int = 0, journal: Path | None = None, secret: str = "", keys: Path | None = None
) -> RegisterServer:
    """A register that listens at `host` alone, at a port (0: any). With a `journal` it goes on where that ends.

    It hears who has a certificate of the authority in the folder `keys`, or without one who has the secret: an empty
    one is 32 random bytes. The journal has the port and the secret, too.

    Raises:
        ValueError: nothing can listen there, or the journal is in use, damaged, another run's, or something else.
        OSError: the journal cannot be opened or written.
    """
    table = Table(None if journal is None else Journal(journal))
    credentials = None if keys is None else Credentials.load(keys, REGISTER)
    kept = table.first("secret", secret or secrets.token_hex(32))
    if secret and kept != secret:
        raise ValueError(f"The journal {journal} is of a run with another secret. Name another file, or its secret.")
    sock = listening(bare(host), port or int(table.get("port") or 0))
    table.first("port", str(sock.getsockname()[1]))
    return RegisterServer(table, credentials or kept.encode(), sock)


def answered(table: Table, question: Question, peer: int | None) -> Answer:
    """What a table says to a question of worker `peer`; None: it has not proven which one it is."""
    key = question.key
    if not key.startswith(PREFIX) or (question.kind != GET and not _is_fit(key, question.value, peer)):
        told = "that the run can read, and a worker's place by itself"
        return Answer(DENIED, f"The register keeps entries of {PREFIX} alone, {told}.")
    by = None if peer == REGISTER else peer
    try:
        found = table.get(key, by) if question.kind == GET else table.first(key, question.value, by)
    except SlotPast as error:
        return Answer(PAST, str(error))
    except NoRoom as error:
        return Answer(REFUSED, str(error))
    return Answer(NOTHING) if found is None else Answer(VALUE, found)


def _is_fit(key: str, value: str, peer: int | None) -> bool:
    """Whether all can read an entry; and a worker says where it is itself, if it says where a worker is."""
    try:
        found = read(key, value)
    except ValueError:
        return False
    return not isinstance(found, Presence) or peer in (None, REGISTER, found.number)


class OwnTable(Storage):
    """The table of this process, without a socket."""

    exposed = False

    def __init__(self, table: Table) -> None:
        self._table = table

    def get(self, key: str, seconds: float) -> str | None:
        return self._table.get(key)

    def first(self, key: str, value: str, seconds: float) -> str:
        try:
            return self._table.first(key, value)
        except NoRoom as error:
            raise RegisterLost(str(error)) from error

    def refresh(self, seconds: float) -> None:
        """Nobody deletes here."""
