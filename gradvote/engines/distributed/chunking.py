"""In how many parts a gradient travels: many hide work behind the wire, few cost less work; the first steps show."""

import torch

from gradvote.engines.common.part import chunks_of
from gradvote.engines.distributed.transport import Transport
from gradvote.layout import Layout
from gradvote.staging import CPU

CHUNK = 3_000_000
"""Coordinates that are worth a chunk of their own."""
MAX_CHUNKS = 8
DENSE = 1_500_000
"""Of dense ballots or decisions, which are most of what an exchange needs in memory, on the processor."""
NUMBERS = 3
"""Numbers of chunks that are tried, at most: one, many, and one between them."""
TRIALS = 3
"""Steps with each number of chunks; the first of them does not count, and of the others the fastest."""


def numbers_for(size: int, wide: bool = False, home: torch.device = CPU) -> list[int]:
    """The numbers of chunks that are tried for so many coordinates of a gradient at `home`, many first; `wide`: one."""
    many = min(max(size // CHUNK, 1), MAX_CHUNKS)
    if wide:
        return [max(-(-size // DENSE), many) if home == CPU else many]
    return sorted({1, round(many**0.5), many}, reverse=True)


class Chunking:
    """The chunks of each step. Where their number is open, one, some and many take turns, and all choose the fastest.

    Results do not depend on it, as a block is never split. Dense ballots and decisions (`wide`) always travel in many,
    of which few are there at once: they fill memory.
    """

    def __init__(self, layout: Layout, transport: Transport, chunks: int | None, wide: bool = False) -> None:
        numbers = numbers_for(layout.size, wide, transport.home) if chunks is None else [chunks]
        self._transport = transport
        self._open = [chunks_of(layout, number) for number in numbers]
        self._seconds: list[list[float]] = [[] for _ in numbers]

    def layouts(self) -> list[Layout]:
        """The chunks of the coming step."""
        return self._open[self._trial()]

    def took(self, seconds: float) -> None:
        """A step has been made in this time."""
        if len(self._open) == 1:
            return
        self._seconds[self._trial()].append(seconds)
        if all(len(own) == TRIALS for own in self._seconds):
            own = torch.tensor([min(seconds[1:]) for seconds in self._seconds], dtype=torch.float64, device=CPU)
            self._open = [self._open[int(self._transport.gather(own).sum(0).argmin())]]

    def _trial(self) -> int:
        return next((k for k, own in enumerate(self._seconds) if len(own) < TRIALS), 0) if len(self._open) > 1 else 0
