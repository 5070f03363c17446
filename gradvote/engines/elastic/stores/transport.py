"""Messages between a register and a process, each of which shows first that it has the run's secret.

Both send 32 random bytes, then a code (HMAC-SHA256) of both by the secret; nothing else is listened to before that. A
message is its length, its bytes, and a code of them by a key of this connection, its direction and its number. It is
not encrypted: what the register holds is no secret, and ballots do not pass here.
"""

import hmac
import secrets
import socket
import struct
import time
from typing import Self

NONCE, CODE = 32, 32
LONGEST = 1 << 20
_LENGTH, _NUMBER = struct.Struct("<I"), struct.Struct("<Q")
DIALLED, ANSWERED = b"dialled", b"answered"
Access = bytes
"""What a process of the run shows to be one: its secret."""


class NotAuthentic(OSError):
    """The other end does not have the secret, or somebody has altered what it sends."""


class Channel:
    """One end of a connection whose other end has the secret; every call ends by `until` (monotonic seconds)."""

    def __init__(self, sock: socket.socket, key: bytes, role: bytes, other: bytes) -> None:
        self.sock, self._key, self._role, self._other = sock, key, role, other
        self._sent = self._received = 0

    @classmethod
    def secured(cls, sock: socket.socket, secret: bytes, until: float, answering: bool) -> Self:
        """Greet the other end.

        Raises:
            NotAuthentic: it does not have the secret.
            OSError: it is gone, or silent.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = secrets.token_bytes(NONCE)
        _send(sock, own, until)
        theirs = _receive(sock, NONCE, until)
        role, other = (ANSWERED, DIALLED) if answering else (DIALLED, ANSWERED)
        key = _code(secret, b"gradvote register", *((theirs, own) if answering else (own, theirs)))
        _send(sock, _code(key, b"here", role), until)
        if not hmac.compare_digest(_receive(sock, CODE, until), _code(key, b"here", other)):
            raise NotAuthentic("The other end does not have this run's secret.")
        return cls(sock, key, role, other)

    def send(self, message: bytes, until: float) -> None:
        """Raises OSError where the other end is gone, or does not take it in time."""
        code = _code(self._key, self._role, _NUMBER.pack(self._sent), message)
        self._sent += 1
        _send(self.sock, _LENGTH.pack(len(message)) + message + code, until)

    def receive(self, until: float | None) -> bytes:
        """The next message; None waits for it to begin without an end, and then for a moment.

        Raises:
            NotAuthentic: somebody has altered it.
            OSError: the other end is gone or silent, or announces too much.
        """
        head = _receive(self.sock, _LENGTH.size, until)
        until = time.monotonic() + 5.0 if until is None else until
        length = _LENGTH.unpack(head)[0]
        if length > LONGEST:
            raise ConnectionAbortedError(f"a message of {length} bytes is announced")
        message = _receive(self.sock, length, until)
        code = _code(self._key, self._other, _NUMBER.pack(self._received), message)
        self._received += 1
        if not hmac.compare_digest(_receive(self.sock, CODE, until), code):
            raise NotAuthentic("A message was altered on its way.")
        return message

    def close(self) -> None:
        """End it."""
        self.sock.close()


def _code(key: bytes, *parts: bytes) -> bytes:
    made = hmac.new(key, digestmod="sha256")
    for part in parts:
        made.update(_LENGTH.pack(len(part)) + part)
    return made.digest()


def _send(sock: socket.socket, data: bytes, until: float) -> None:
    sock.settimeout(_left(until))
    sock.sendall(data)


def _receive(sock: socket.socket, length: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < length:
        sock.settimeout(None if until is None else _left(until))
        got = sock.recv(length - len(data))
        if not got:
            raise ConnectionResetError("the other end closed the connection")
        data += got
    return bytes(data)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the other end does not answer")
    return left


def secured(sock: socket.socket, access: Access, until: float, answering: bool) -> Channel:
    """A channel over a connected socket; see `Channel.secured`."""
    return Channel.secured(sock, access, until, answering)
