"""Standard normal numbers that nobody can repeat: ChaCha20 keyed by the operating system, never by a seed.

Of each uniform number all 64 bits are used, so that u ≥ 2⁻⁶⁴ and |z| ≤ 9.42 before the sum below; what is cut off is
charged to δ (`CUT_OFF`). A float's last bits can betray what noise was added to (Mironov 2012); each number is the
half-sum of four independent ones, after which that attack needs more work than is feasible (Holohan, Braghin 2021),
and a sign that follows hides those bits anyway.
"""

import os

import numpy as np
from numpy.typing import NDArray

from gradvote.errors import MissingExtra

CUT_OFF = 4 * 2.0**-64
"""The probability, for each number, that it differs from a normal one because its tail is cut off."""
SLAB = 1 << 18
"""Numbers that are made at a time."""


class SecureNormal:
    """A source of standard normal numbers. A new one has a new key."""

    def __init__(self) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise MissingExtra("cryptography", "dp") from error
        self._stream = Cipher(algorithms.ChaCha20(os.urandom(32), os.urandom(16)), mode=None).encryptor()

    def uniform(self, count: int) -> NDArray[np.float64]:
        """So many numbers in (0, 1), from 64 bits each."""
        words = np.frombuffer(self._stream.update(bytes(8 * count)), np.uint64)
        return np.minimum((words.astype(np.float64) + 0.5) * 2.0**-64, 1 - 2.0**-53)

    def draw(self, count: int) -> NDArray[np.float64]:
        """So many standard normal numbers."""
        parts = [self._slab(min(SLAB, count - at)) for at in range(0, count, SLAB)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _slab(self, count: int) -> NDArray[np.float64]:
        total = np.zeros(count)
        for _ in range(2):
            radius = np.sqrt(-2 * np.log(self.uniform(count)))
            angle = 2 * np.pi * self.uniform(count)
            total += radius * np.cos(angle) + radius * np.sin(angle)
        return total / 2
