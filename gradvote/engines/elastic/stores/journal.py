"""Entries on disk: a server that is started again with the same file goes on where it was.

The first line says what it is, then come the entries: lengths of key and value, a checksum, key, value. Among them are
the server's port and the run's secret, so that processes of before find it again; the file has mode 0600. An entry
counts when it is on the disk (fsync). A last one that is not whole was never answered for, and is cut off; anything
else that is damaged is an error. What is not kept any more is left out when the file is written anew, beside the old
one, whose place it then takes: at every moment one of them is whole.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_HEAD = struct.Struct("<HII")
FIRST_LINE = b"gradvote register 1\n"


class Journal:
    """A file of one server at a time, made where there is none.

    Raises:
        ValueError: another server uses the file, or it is something else.
        OSError: it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            os.fchmod(descriptor, 0o600)
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def _begin(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"Another register uses the journal {self.path}. Give each run a file of its own, or end that one."
            ) from None
        line = self._file.read(len(FIRST_LINE))
        if not line:
            self._write(FIRST_LINE)
        elif line != FIRST_LINE:
            raise ValueError(f"{self.path} is not the journal of a register of this version. Name another file.")

    def entries(self) -> Iterator[tuple[str, str]]:
        """All entries, in order; to be read once, before the first `append`.

        Raises:
            ValueError: the file is damaged.
        """
        data = self._file.read()
        start = self._file.tell() - len(data)
        at = 0
        while at < len(data):
            size, entry = _entry(data, at)
            if entry is None and at + size < len(data):
                raise ValueError(f"The journal {self.path} is damaged at byte {start + at}. Start a new run.")
            if entry is None:
                break
            yield entry
            at += size
        self._file.seek(start + at)
        self._file.truncate()

    def append(self, key: str, value: str) -> None:
        """Keep an entry, for good.

        Raises:
            OSError: there is no room, say; nothing was kept.
        """
        self._write(_packed(key, value))

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.tell()

    def rewrite(self, entries: Iterable[tuple[str, str]]) -> None:
        """Have these entries alone from now on.

        Raises:
            OSError: there is no room, say; the file is as it was.
        """
        path = self.path.with_name(f"{self.path.name}.new")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        old, self._file = self._file, file
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(FIRST_LINE + b"".join(_packed(*entry) for entry in entries))
            path.replace(self.path)
        except OSError:
            self._file = old
            file.close()
            path.unlink(missing_ok=True)
            raise
        old.close()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another server use it."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        start = self._file.tell()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file.fileno(), data[written:])
            os.fsync(self._file.fileno())
            self._file.seek(start + len(data))
        except OSError:
            os.ftruncate(self._file.fileno(), start)
            self._file.seek(start)
            raise


def _packed(key: str, value: str) -> bytes:
    raw_key, raw_value = key.encode(), value.encode()
    body = raw_key + raw_value
    return _HEAD.pack(len(raw_key), len(raw_value), zlib.crc32(body)) + body


def _entry(data: bytes, at: int) -> tuple[int, tuple[str, str] | None]:
    """How many bytes an entry takes, and itself; None where it is not whole."""
    if len(data) - at < _HEAD.size:
        return len(data) - at, None
    key, value, check = _HEAD.unpack_from(data, at)
    size = _HEAD.size + key + value
    body = data[at + _HEAD.size : at + size]
    if len(body) < key + value or zlib.crc32(body) != check:
        return max(size, 1), None
    return size, (body[:key].decode(), body[key:].decode())
