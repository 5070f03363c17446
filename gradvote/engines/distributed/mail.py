"""What a rank has to send, and what it waits for."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mail:
    """A message for each rank, in pieces (bytes,) or (rows, bytes) uint8, and the number of bytes that comes from each.

    Rows of a piece stand behind each other in the message.
    """

    messages: list[list[Tensor]]
    expected: list[int]
