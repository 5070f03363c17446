"""Large results in memory that earlier results have given back: fresh pages cost more than the arithmetic on them.

A step that leaves the old state as it is writes as much as it reads; the system clears each page it hands out. So the
memory of a result serves a later result once no tensor refers to it any more.
"""

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which memory is kept."""
READY = 1 << 25
"""Bytes that may wait for another use, beyond as many as are in use."""
ALIGNMENT = 64

Memory = NDArray[np.uint8]


class Spare:
    """Memory that was given back; never more than is in use and `ready` bytes. Sizes long unused go first."""

    def __init__(self, ready: int = READY) -> None:
        self._ready, self._lock, self._free, self.used = ready, threading.RLock(), dict[int, list[Memory]](), 0

    @property
    def kept(self) -> int:
        """Bytes that wait for another use."""
        return sum(size * len(arrays) for size, arrays in self._free.items())

    def empty(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """`torch.empty` of a type that numpy has."""
        size = dtype.itemsize * math.prod(shape)
        if size < LARGE:
            return torch.empty(tuple(shape), dtype=dtype)
        memory = self._take(size)
        lent = memory[-memory.ctypes.data % ALIGNMENT :][:size]
        weakref.finalize(lent, self._give_back, size, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(*shape)

    def _take(self, size: int) -> Memory:
        with self._lock:
            self.used += size
            arrays = self._of(size)
            return arrays.pop() if arrays else np.empty(size + ALIGNMENT, np.uint8)

    def _give_back(self, size: int, memory: Memory) -> None:
        with self._lock:
            self.used -= size
            self._of(size).append(memory)
            while self.kept > self.used + self._ready:
                oldest = next(arrays for arrays in self._free.values() if arrays)
                oldest.pop()

    def _of(self, size: int) -> list[Memory]:
        """What is free of a size, which is now the one used last."""
        arrays = self._free[size] = self._free.pop(size, [])
        return arrays


spare = Spare()
