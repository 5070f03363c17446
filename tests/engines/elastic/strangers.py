"""Who should not be heard, and a worker gone bad: attacks on the port of a worker, each of which ends by itself."""

import contextlib
import random
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.teaching import FRESH
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net.authentication import Credentials, secure
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.net.greetings import Hello, hear

FAR = Slot(10**9)


@dataclass
class Attacker:
    """Attacks the worker behind a port. `credentials` are those of a worker of the run, for one gone bad."""

    port: int
    recipe: int = 0
    credentials: Credentials | None = None
    others: Path | None = None
    """A folder with the certificates of another run."""
    seed: int = 0

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=2)

    @contextmanager
    def enrolled(self, member: Member, to: int) -> Iterator[Channel]:
        """A connection as a process that the register knows."""
        sock = self.dial()
        try:
            channel = secure(sock, self.credentials, server_side=False, seconds=2)
            channel.patience(5)
            channel.send_frame(Hello(member, to, self.recipe).frame())
            hear(channel)
            yield channel
        finally:
            sock.close()


def enrol(register: Register, number: int) -> Member:
    """Take a ticket, and a place where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    member = Member(register.ticket(), number)
    register.publish(Presence(member.ticket, member.number, "127.0.0.1", port, 0, "bad"))
    return member


def of_all_kinds(body: bytes = b"\x01" * 40) -> list[Frame]:
    return [Frame(kind, 1, slot, body) for kind in FrameKind for slot in (Slot(), FAR)]


def announcing(kind: FrameKind, length: int) -> bytes:
    """The header of a frame whose body is long."""
    raw = bytearray(Frame(kind, 1, Slot(3), b"x").pack()[0])
    struct.pack_into("<Q", raw, struct.calcsize("<4sBxxxIIQ"), length)
    raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))
    return bytes(raw)


def plain_frames(a: Attacker) -> None:
    """All kinds of frames, before anything was proven."""
    for frame in of_all_kinds():
        with contextlib.suppress(OSError), a.dial() as sock:
            sock.sendall(b"".join(frame.pack()))
    with contextlib.suppress(OSError), a.dial() as sock:
        sock.sendall(random.Random(a.seed).randbytes(5000))


def no_certificate(a: Attacker) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError), context.wrap_socket(a.dial()) as sock:
        for frame in of_all_kinds():
            sock.sendall(b"".join(frame.pack()))
        assert not sock.recv(1), "somebody without a certificate was answered"


def another_run(a: Attacker) -> None:
    if a.others is None:
        return
    stranger = replace(a, credentials=Credentials.load(a.others, 0))
    with contextlib.suppress(OSError), stranger.enrolled(Member(1, 0), 1):
        raise AssertionError("somebody with another run's certificate was answered")


def half_open(a: Attacker, num: int = 80, seconds: float = 0.5) -> None:
    socks = []
    for _ in range(num):
        with contextlib.suppress(OSError):
            socks.append(a.dial())
    time.sleep(seconds)
    for sock in socks:
        sock.close()


def slow(a: Attacker, seconds: float = 1.0) -> None:
    with contextlib.suppress(OSError), a.dial() as sock:
        for byte in b"\x16\x03\x01\x02\x00\x01" * 4:
            sock.sendall(bytes([byte]))
            time.sleep(seconds / 24)


def flood(a: Attacker, num: int = 300) -> None:
    for _ in range(num):
        with contextlib.suppress(OSError), a.dial() as sock:
            sock.sendall(b"G")


STRANGERS: dict[str, Callable[[Attacker], None]] = {
    "plain frames": plain_frames, "no certificate": no_certificate, "another run": another_run,
    "half-open": half_open, "slow": slow, "flood": flood,
}  # fmt: skip


def says_outside(channel: Channel) -> None:
    for _ in range(20):
        channel.send_frame(Frame(FrameKind.OUTSIDE, 1, FAR, b"member"))
        time.sleep(0.02)


def pulls(channel: Channel) -> None:
    for _ in range(300):
        channel.send_frame(Frame(FrameKind.PULL, 1, Slot(), FRESH))


def announces(channel: Channel) -> None:
    channel.sendall(announcing(FrameKind.SNAPSHOT, 1 << 40))


def floods(channel: Channel) -> None:
    for _ in range(6000):
        channel.send_frame(Frame(FrameKind.WANT, 1, Slot(3), bytes(100)))


def sends_all_kinds(channel: Channel) -> None:
    for frame in of_all_kinds():
        if frame.kind not in (FrameKind.READY, FrameKind.GOODBYE):
            channel.send_frame(frame)


BAD_MEMBERS: dict[str, Callable[[Channel], None]] = {
    "outside": says_outside, "pulls": pulls, "announces": announces, "floods": floods, "all kinds": sends_all_kinds,
}  # fmt: skip


def goes_bad(a: Attacker, how: str, member: Member, to: int) -> None:
    """An enrolled worker does this until it is thrown out."""
    with contextlib.suppress(OSError), a.enrolled(member, to) as channel:
        BAD_MEMBERS[how](channel)
        channel.end_writing()
        while channel.sock.recv(1 << 16):
            pass


def in_background(attack: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=attack, daemon=True)
    thread.start()
    return thread
