"""Bytes and frames between two processes: plain, or by TLS without the pitfalls of an `SSLSocket`.

One thread may read while another one writes. An `SSLSocket` is not safe then, and its `shutdown` takes TLS away from
under the reader: so TLS works on memory here, under a lock, and the socket is used outside of it.
"""

import contextlib
import socket
import ssl
import threading
import time
from typing import Any

from gradvote.engines.elastic.net.frames import BrokenStream, Frame, FrameKind, read

_PIECE = 1 << 18
"""Bytes that are written, or read, at once."""
_SHORT = 1 << 16
"""A frame of so many bytes at most is sent as one piece: two wake its reader twice, and TLS seals each."""
_ANSWERS = 1 << 14
"""Bytes that TLS may want to answer by itself before this end writes again: a few changes of keys."""


class Unproven(OSError):
    """The other end has not proven that it is one of this run."""


class GaveUp(Unproven):
    """It has ended the connection before that: a busy machine may do so, too."""


class Channel:
    """A plain socket. `peer` is the worker's number that the other end has proven; None: it has proven nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer: int | None = None
        self._until: float | None = None

    def patience(self, seconds: float | None) -> None:
        """All that is read and written from now on must come within so many seconds, together; None: no limit."""
        self._until = None if seconds is None else time.monotonic() + seconds
        self.sock.settimeout(seconds)

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it.

        Raises:
            OSError: the connection has ended, or patience has.
        """
        self._wait()
        self.sock.sendall(data)

    def recv_into(self, view: memoryview) -> int:
        """Fill the beginning of a buffer with what comes next: how many bytes; 0 at the end.

        Raises:
            OSError: the connection was broken, or patience has ended.
        """
        self._wait()
        return self.sock.recv_into(view)

    def send_frame(self, frame: Frame) -> int:
        """Send a frame: how many bytes that were."""
        parts = frame.pack()
        length = sum(map(len, parts))
        for part in parts if length > _SHORT else [b"".join(parts)]:
            self.sendall(part)
        return length

    def recv_frame(self, limits: dict[FrameKind, int]) -> Frame:
        """The next frame; see `frames.read`."""
        return read(self, limits)

    def end_writing(self) -> None:
        """Nothing more will be sent; what the other end sends is still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """End the connection: who reads or writes comes back with an error. The descriptor stays until `close`."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, and give back its descriptor."""
        self.hang_up()
        self.sock.close()

    def _wait(self) -> None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the other end took too long")
            self.sock.settimeout(left)


class SecureChannel(Channel):
    """TLS over a socket. `handshake` comes first."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        super().__init__(sock)
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=server_side)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._sealed = memoryview(bytearray(_PIECE))

    def handshake(self) -> dict[str, Any]:
        """Prove to each other who both are: the other end's certificate, verified.

        Raises:
            Unproven: it has none of this run, or speaks something else.
            OSError: the connection has ended.
        """
        try:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.do_handshake()
                    self._flush()
                    return self._tls.getpeercert() or {}
                self._flush()
                if not self._receive():
                    raise GaveUp("it ended the connection instead of proving who it is")
        except ssl.SSLError as error:
            with contextlib.suppress(OSError):
                self._flush()  # tell it why
            raise Unproven(f"it has no certificate of this run ({error.reason or error})") from error

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            with self._writing:
                with self._lock:
                    self._tls.write(view[start : start + _PIECE])
                    sealed = self._goes.read()
                super().sendall(sealed)

    def recv_into(self, view: memoryview) -> int:
        while True:
            with self._lock:
                try:
                    if self._came.pending or self._tls.pending():  # else an exception would be all that comes
                        return self._tls.read(len(view), view)  # type: ignore[return-value]  # an int where there is a buffer
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return 0
                except ssl.SSLError as error:
                    raise BrokenStream(f"what came by TLS was altered ({error.reason or error})") from error
                if self._goes.pending > _ANSWERS:
                    raise BrokenStream("it wants new keys again and again")
            if not self._receive():
                return 0

    def _receive(self) -> bool:
        self._wait()
        got = self.sock.recv_into(self._sealed)
        with self._lock:
            self._came.write(self._sealed[:got])
        return bool(got)

    def _flush(self) -> None:
        with self._lock:
            data = self._goes.read()
        if data:
            super().sendall(data)
