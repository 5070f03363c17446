"""Who is at the other end of a socket: TLS 1.3, and certificates of the run's own authority at both ends.

    credentials = Credentials.load("secrets", 3)
    channel = secure(sock, credentials, server_side=True)  # nothing of the other end's is read before it has proven
    channel.peer                                            # ... that it is worker 5, by its certificate
    channel.send_frame(frame), channel.recv_frame(limits), channel.close()

A folder of `gradvote keys` holds the certificates; see `certificates` for its files. Only the standard library is
needed here. Without credentials a channel is plain, and its `peer` is None: such sockets are bound to loopback alone.
"""

import logging
import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gradvote.engines.elastic.net.channels import Channel, SecureChannel, Unproven

LOG = logging.getLogger("gradvote.elastic")
REGISTER = -1
"""The number of the process that serves the register."""
HANDSHAKE = 5.0
"""The longest that the other end may take to prove who it is, in seconds."""
AUTHORITY = "ca.pem"
_NAME = re.compile(r"gradvote:(?:worker:(0|[1-9]\d{0,8})|(register))")
_HOW = "Make them with `gradvote keys FOLDER --workers N`: it adds what is missing, and changes nothing that is there."


def stem_of(number: int) -> str:
    """How the files of a worker, or of the register, begin."""
    return "register" if number == REGISTER else f"worker-{number}"


def name_of(number: int) -> str:
    """What a certificate calls its owner: a URI among its alternative names."""
    return "gradvote:register" if number == REGISTER else f"gradvote:worker:{number}"


def has_certificates(folder: Path | str) -> bool:
    """Whether a folder has an authority."""
    return (Path(folder) / AUTHORITY).is_file()


@dataclass(frozen=True)
class Credentials:
    """What worker `number` (or REGISTER) proves with who it is, and the authority that others must be known to.

    Files that are changed (`gradvote keys --rotate`) are read again before the next handshake.
    """

    folder: Path
    number: int
    _loaded: dict[bool, tuple[object, ssl.SSLContext]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path | str, number: int) -> Self:
        """Those that are in a folder.

        Raises:
            ValueError: a file is missing, cannot be read, or does not fit the others.
        """
        own = cls(Path(folder), number)
        for path in own._files:
            if not path.is_file():
                raise ValueError(f"There is no {path.name} in {path.parent}, which connections need. {_HOW}")
        for server_side in (True, False):
            own.context(server_side)
        if os.name == "posix" and own._files[2].stat().st_mode & 0o077:
            LOG.warning("%s can be read by other users, who could pass for its owner: chmod 600 it.", own._files[2])
        return own

    def context(self, server_side: bool) -> ssl.SSLContext:
        """For the next handshake.

        Raises:
            ValueError: the files do not fit each other, and never did; where they did once, they are used as they were.
        """
        known = self._loaded.get(server_side)
        try:
            version = tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in map(os.stat, self._files))
            if known is None or known[0] != version:
                known = self._loaded[server_side] = version, self._read(server_side)
        except (OSError, ValueError) as error:  # also SSLError; a folder in the middle of a change, or gone
            if known is None:
                names = ", ".join(path.name for path in self._files)
                raise ValueError(f"{names} in {self.folder} do not fit each other ({error}). {_HOW}") from error
        return known[1]

    @property
    def _files(self) -> tuple[Path, Path, Path]:
        stem = stem_of(self.number)
        return self.folder / AUTHORITY, self.folder / f"{stem}.pem", self.folder / f"{stem}.key"

    def _read(self, server_side: bool) -> ssl.SSLContext:
        authority, certificate, key = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # a certificate names a worker, wherever it runs
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority)
        context.load_cert_chain(certificate, key, password="")  # an error, not a question on the terminal
        if server_side:
            context.num_tickets = 0  # each connection proves itself anew
        return context


def secure(
    sock: socket.socket, credentials: Credentials | None, server_side: bool, seconds: float = HANDSHAKE
) -> Channel:
    """A channel over a connected socket, once both ends have proven who they are; plain without credentials.

    With TLS 1.3 the end that dialled learns only with its first read whether the other one has accepted it.

    Raises:
        Unproven: the other end did not prove within so many seconds that it is one of this run.
        OSError: the connection has ended.
    """
    if credentials is None:
        return Channel(sock)
    context = credentials.context(server_side)
    channel = SecureChannel(sock, context, server_side)
    channel.patience(seconds)
    channel.peer = number_in(channel.handshake())
    channel.patience(None)
    return channel


def number_in(certificate: dict[str, Any]) -> int:
    """The worker's number in a certificate that has been verified, or REGISTER.

    Raises:
        Unproven: it names neither.
    """
    for kind, text in certificate.get("subjectAltName", ()):
        match = _NAME.fullmatch(text) if kind == "URI" else None
        if match:
            return REGISTER if match[2] else int(match[1])
    raise Unproven("its certificate names no worker")
