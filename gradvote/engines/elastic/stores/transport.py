"""Messages between a register and a process, each of which shows first that it is one of the run.

With certificates (`net.authentication`) that is TLS, and the register has one of its own. Without, both have the run's
secret: they send 32 random bytes, then a code (HMAC-SHA256) of both by the secret; nothing else is listened to before
that, and each message has a code of its bytes, its direction and its number. That is not encrypted: it is for processes
of one machine. A message is its length, its bytes, and the code.
"""

import hmac
import secrets
import socket
import struct
import time

from gradvote.engines.elastic.net.authentication import REGISTER, Credentials, secure
from gradvote.engines.elastic.net.channels import Channel, Unproven

NONCE, CODE = 32, 32
LONGEST, MOMENT = 1 << 20, 5.0
"""Bytes of a message; seconds for the rest of a message that has begun."""
DIALLED, ANSWERED = b"dialled", b"answered"
_LENGTH, _NUMBER = struct.Struct("<I"), struct.Struct("<Q")
Access = bytes | Credentials
"""What a process of the run shows to be one: the secret, or its certificate."""


class Link:
    """One end of a connection whose other end is of this run; `peer` is the worker's number that it has proven.

    With a `key`, messages have codes by it; `role` and `other` tell the directions apart.
    """

    def __init__(self, channel: Channel, key: bytes = b"", role: bytes = b"", other: bytes = b"") -> None:
        self.peer = channel.peer
        self._channel, self._key, self._role, self._other = channel, key, role, other
        self._sent = self._received = 0

    def send(self, message: bytes, until: float) -> None:
        """Send it by `until` (monotonic seconds).

        Raises:
            OSError: the other end is gone, or does not take it in time.
        """
        self._channel.patience(_left(until))
        self._channel.sendall(_LENGTH.pack(len(message)) + message + self._code(self._role, self._sent, message))
        self._sent += 1

    def receive(self, until: float | None) -> bytes:
        """The next message; None waits without end for it to begin, and then for a moment.

        Raises:
            Unproven: somebody has altered it.
            OSError: the other end is gone or silent, or announces too much.
        """
        self._channel.patience(None if until is None else _left(until))
        head = _receive(self._channel, _LENGTH.size)
        if until is None:
            self._channel.patience(MOMENT)
        length = _LENGTH.unpack(head)[0]
        if length > LONGEST:
            raise ConnectionAbortedError(f"a message of {length} bytes is announced")
        message = _receive(self._channel, length)
        code = self._code(self._other, self._received, message)
        self._received += 1
        if not hmac.compare_digest(_receive(self._channel, len(code)), code):
            raise Unproven("a message was altered on its way")
        return message

    def close(self) -> None:
        """End it."""
        self._channel.close()

    def _code(self, role: bytes, number: int, message: bytes) -> bytes:
        return _code_of(self._key, role, _NUMBER.pack(number), message) if self._key else b""


def secured(sock: socket.socket, access: Access, until: float, answering: bool) -> Link:
    """A link over a connected socket, whose ends have shown each other by `until` that they are of one run.

    Raises:
        Unproven: the other end has not.
        OSError: it is gone, or silent.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(access, bytes):
        return _by_secret(sock, access, until, answering)
    channel = secure(sock, access, answering, _left(until))
    if not answering and channel.peer != REGISTER:
        raise Unproven(f"it is worker {channel.peer}, and not the register")
    return Link(channel)


def _by_secret(sock: socket.socket, secret: bytes, until: float, answering: bool) -> Link:
    channel = Channel(sock)
    channel.patience(_left(until))
    own = secrets.token_bytes(NONCE)
    channel.sendall(own)
    theirs = _receive(channel, NONCE)
    role, other = (ANSWERED, DIALLED) if answering else (DIALLED, ANSWERED)
    key = _code_of(secret, b"gradvote register", *((theirs, own) if answering else (own, theirs)))
    channel.sendall(_code_of(key, b"here", role))
    if not hmac.compare_digest(_receive(channel, CODE), _code_of(key, b"here", other)):
        raise Unproven("it does not have this run's secret")
    return Link(channel, key, role, other)


def _code_of(key: bytes, *parts: bytes) -> bytes:
    made = hmac.new(key, digestmod="sha256")
    for part in parts:
        made.update(_LENGTH.pack(len(part)) + part)
    return made.digest()


def _receive(channel: Channel, length: int) -> bytes:
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length:
        more = channel.recv_into(view[got:])
        if not more:
            raise ConnectionResetError("the other end closed the connection")
        got += more
    return bytes(data)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the other end does not answer")
    return left
