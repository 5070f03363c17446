"""Large results in memory that earlier results have given back: fresh pages cost more than the arithmetic on them.

The system clears each page it hands out. So the memory of a result serves a later one of about its size once no tensor
refers to it any more: the old state of one slice becomes the new state of the next. What waits is bounded, for all
exchanges of the process together, and what is let go returns to the system at once.
"""

import contextlib
import math
import mmap
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 1 << 20
"""Bytes from which memory is kept."""
READY = 3 << 22
"""Bytes that may wait for another use: what a slice of momentum and memory needs at once."""
SLACK = 8
"""Memory serves a result that fills it but for one part in so many."""
STEPS = 64
"""Sizes are rounded up to so many steps between one power of two and the next but one: slices differ by a block."""

LARGE_PAGE = 1 << 21
"""Bytes of a large page; memory begins where one does, and what is mapped before it is never touched."""

Memory = NDArray[np.uint8]


class Spare:
    """Memory that was given back, never more than `ready` bytes of it. What has waited longest goes first."""

    def __init__(self, ready: int = READY) -> None:
        self._ready, self._lock, self._free = ready, threading.RLock(), list[Memory]()
        self.used = self.most = 0
        """Bytes that are lent, and the most that ever were since `most` was last set."""

    @property
    def kept(self) -> int:
        """Bytes that wait for another use."""
        return sum(len(memory) for memory in self._free)

    def empty(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """`torch.empty` of a type that numpy has."""
        size = dtype.itemsize * math.prod(shape)
        if size < LARGE:
            return torch.empty(tuple(shape), dtype=dtype, device="cpu")
        memory = self._take(size)
        lent = memory[:size]
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(*shape)

    def _take(self, size: int) -> Memory:
        with self._lock:
            fitting = [i for i, memory in enumerate(self._free) if size <= len(memory) <= size + size // SLACK]
            memory = self._free.pop(fitting[-1]) if fitting else _new(size)
            self.used += len(memory)
            self.most = max(self.most, self.used + self.kept)
            return memory

    def _give_back(self, memory: Memory) -> None:
        with self._lock:
            self.used -= len(memory)
            self._free.append(memory)
            while self.kept > self._ready:
                self._free.pop(0)


def _new(size: int) -> Memory:
    """Pages of their own, large ones where the system has them, so that they go back whatever stands beside them."""
    step = max(mmap.PAGESIZE, (1 << size.bit_length()) // STEPS)
    size += -size % step
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    # Python's default is shared memory, which Linux does not hand out in large pages and a forked process writes into.
    full = size - size % LARGE_PAGE
    pages = mmap.mmap(-1, size + (LARGE_PAGE if full else 0), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = np.frombuffer(pages, np.uint8)
    begin = -whole.ctypes.data % LARGE_PAGE if full else 0
    with contextlib.suppress(OSError, AttributeError):  # not every system has large pages
        if full:
            pages.madvise(mmap.MADV_HUGEPAGE, begin, full)
        # What is left over would be a large page, too, and mostly empty.
        pages.madvise(mmap.MADV_NOHUGEPAGE, begin + full)
    return whole[begin : begin + size]


spare = Spare()
