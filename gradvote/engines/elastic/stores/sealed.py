"""Entries in a store that anyone may write to: each has, in front, a code made with the run's secret.

An entry without a right code is none, and is written over; so a stranger changes no decision. What a stranger deletes
is entered again by whoever has seen it. What is left to it is to keep the store busy, or to stop it.
"""

import hashlib
import hmac
import threading
from collections import OrderedDict
from typing import Protocol

from gradvote.engines.elastic.consensus.storage import RegisterLost, Storage

CODE = 64
TRIES, KEPT, LOOKED_AT = 20, 4096, 64
"""How often an entry is fought for; how many are remembered; how many of these are looked at in one go."""


class Swapping(Protocol):
    """A store of bytes with an atomic exchange; all calls are bounded."""

    def get(self, key: str, seconds: float) -> bytes | None:
        """What is there; None where there is none. Raises RegisterLost."""

    def swap(self, key: str, expected: bytes | None, value: bytes, seconds: float) -> bytes | None:
        """Write `value` if `expected` is there (None: nothing); what is there afterwards. Raises RegisterLost."""


class Sealed(Storage):
    """With an empty `secret`, entries have no code: any text is one."""

    exposed = True

    def __init__(self, store: Swapping, secret: bytes = b"") -> None:
        self._store = store
        self._key = hashlib.sha256(b"gradvote register entries\0" + secret).digest() if secret else b""
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock, self._looked_at = threading.Lock(), 0

    def get(self, key: str, seconds: float) -> str | None:
        value = self._open(key, self._store.get(key, seconds))
        known = self._remembered(key)
        if value is None and known is not None:
            return self.first(key, known, seconds)  # it has been deleted, or written over
        return None if value is None else self._remember(key, value)

    def first(self, key: str, value: str, seconds: float) -> str:
        known = self._remembered(key)
        sealed = self._seal(key, value if known is None else known)
        expected: bytes | None = None
        for _ in range(TRIES):
            there = self._store.swap(key, expected, sealed, seconds)
            found = self._open(key, there)
            if found is not None:
                return self._remember(key, found)
            expected = there
        raise RegisterLost(f"Somebody without the run's secret writes over {key} in the store, again and again.")

    def refresh(self, seconds: float) -> None:
        with self._lock:
            keys = list(self._known)
        start = self._looked_at if self._looked_at < len(keys) else 0
        for key in keys[start : start + LOOKED_AT]:
            self.get(key, seconds)
        self._looked_at = start + LOOKED_AT

    def _seal(self, key: str, value: str) -> bytes:
        return self._code(key, value.encode()) + value.encode()

    def _open(self, key: str, text: bytes | None) -> str | None:
        """The entry in a text; None where no process of the run has written it."""
        if text is None:
            return None
        size = CODE if self._key else 0
        right = hmac.compare_digest(text[:size], self._code(key, text[size:]))
        return text[size:].decode(errors="replace") if right else None

    def _code(self, key: str, value: bytes) -> bytes:
        if not self._key:
            return b""
        return hmac.new(self._key, f"{len(key)}:{key}".encode() + value, hashlib.sha256).hexdigest().encode()

    def _remembered(self, key: str) -> str | None:
        with self._lock:
            return self._known.get(key)

    def _remember(self, key: str, value: str) -> str:
        with self._lock:
            value = self._known.setdefault(key, value)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return value
