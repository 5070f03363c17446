"""A parser under attack: it reads what it is given, or refuses it in the way that its callers expect."""

import resource
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SPARE = 1 << 20
"""Bytes that a parser may ask for whatever its input is, for tables and messages of errors."""
TIMES = 64
"""Bytes that it may ask for, for each byte of its input: numbers of a JSON text are objects of 28 bytes and more."""


@dataclass(frozen=True)
class Target:
    """`parse` may raise `refusals`, and nothing else. `make` gives sound inputs, which it must accept."""

    name: str
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    make: Callable[[], Sequence[bytes]]
    times: int = TIMES

    @cached_property
    def seeds(self) -> Sequence[bytes]:
        """The sound inputs."""
        return self.make()

    def accepts(self, data: bytes) -> bool:
        """Whether the parser takes an input.

        Raises:
            Exception: the parser raised what its callers do not expect.
        """
        try:
            self.parse(data)
        except self.refusals:
            return False
        return True

    def costs(self, data: bytes) -> int:
        """Bytes of memory that Python's allocators had out at once for an input, numpy's arrays included."""
        tracemalloc.start()
        try:
            self.accepts(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def cap(self, data: bytes) -> int:
        """The most that an input may cost."""
        return SPARE + self.times * len(data)


def bounded(megabytes: int) -> None:
    """From now on this process cannot have so much more memory than now: torch's tensors are no matter of Python's."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), hard))
