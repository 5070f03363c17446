"""What all members hold alike, as bytes for a peer that learns and as a name, without a second copy on the way."""

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradvote.engines.common.digests import Bytes
from gradvote.staging import to_host

LENGTH = struct.Struct("<Q")


def to_bytes(state: Any, before: bytes = b"", sized: bool = False) -> bytes:
    """`state` as `torch.save` writes it, behind some other bytes and, if `sized`, its length (`LENGTH`).

    It is written into the memory from which it is sent. A rate that numpy has worked out is sent as a plain number: a
    peer that reads tensors and plain values only would refuse numpy's.
    """
    file = io.BytesIO()
    file.write(before + LENGTH.pack(0) * sized)
    start = file.tell()
    torch.save(plain(state), file)
    if sized:
        size = file.tell() - start
        file.seek(len(before))
        file.write(LENGTH.pack(size))
    return file.getvalue()


def from_bytes(raw: Bytes) -> Any:
    """The inverse, read from where it arrived, on the CPU. Raises whatever torch does for bytes that are no state."""
    return torch.load(io.BufferedReader(_Reader(raw)), weights_only=True, map_location="cpu")


def digest_of_state(state: Any) -> str:
    """A name of a state, equal for those that are alike."""
    hasher = hashlib.blake2b(digest_size=16)
    for piece in _bytes_of(state):
        hasher.update(piece)
    return hasher.hexdigest()


def plain(value: Any) -> Any:
    """A state with Python's numbers in place of numpy's."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is dict:
        return {plain(key): plain(own) for key, own in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def copied(value: Any) -> Any:
    """A state with tensors of its own."""
    if isinstance(value, dict):
        return {key: copied(own) for key, own in value.items()}
    return [copied(own) for own in value] if isinstance(value, list) else value.detach().clone()


class _Reader(io.RawIOBase):
    """A file of bytes that are read where they are; `io.BytesIO` would copy all of them."""

    def __init__(self, raw: Bytes) -> None:
        super().__init__()
        self._raw, self._at = memoryview(raw), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        piece = self._raw[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._raw)}[whence]
        self._at = max(start + offset, 0)
        return self._at


def _bytes_of(value: Any) -> Iterator[Any]:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _bytes_of(value[key])
    elif isinstance(value, list | tuple):
        for own in value:
            yield from _bytes_of(own)
    elif isinstance(value, Tensor):
        yield to_host([value.detach()])[0].contiguous().reshape(-1).view(torch.uint8).numpy().data
    else:
        yield repr(value).encode()
