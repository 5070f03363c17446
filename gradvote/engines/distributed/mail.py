"""What a rank has to send, and what it waits for."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mail:
    """A message (bytes,) uint8 for each rank, and the number of bytes that comes from each."""

    messages: list[Tensor]
    expected: list[int]
