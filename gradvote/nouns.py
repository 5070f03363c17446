"""What passes between the parts: contexts, units of zeros, planes and payloads. `gradvote.core` has the parts.

Shapes: M workers, B blocks, n coordinates of one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

State = dict[str, Any]
SERVER = 2**32 - 1
LEAST_RATE = "least rate"
"""Under which name `Context.memo` has the least of several learning rates, on the CPU."""


@dataclass(frozen=True)
class Units:
    """The units of zeros: `length` consecutive coordinates of a tensor each, known to both ends from shapes.

    `phase` (B,) says how far into a unit each block begins; None: all begin with one. Of a unit that the border of a
    block cuts, each block has a unit of its own.
    """

    length: int = 64
    phase: Tensor | None = None

    def count(self, n: int) -> int:
        """The most units that a block of n coordinates can have, whatever its phase."""
        if self.phase is None or not n:
            return -(-n // self.length)
        return (n + self.length - 2) // self.length + 1

    @property
    def are_words(self) -> bool:
        """Whether each unit is one word of packed bits."""
        return self.length == 64 and self.phase is None


UNITS = Units()
"""The units of blocks of which no shape is known."""


@dataclass(frozen=True)
class Context:
    """What both ends know without being told; `block` and `sender` broadcast against the leading axes (..., B).

    `block` and `lr` are on the device of the tensors that are worked on, `sender` is a number or a tensor of the CPU.
    `secret` keys a worker's private draws (noise, signs of zeros) and never leaves it; None derives it from the seed:
    reproducible, and then the noise protects nobody. `units` are those of the blocks' zeros. `memo` holds what has been
    worked out about this round (masks, senders). `peers` are n and the context of each group of the same round, this
    one too, for as long as they are used.
    """

    seed: int
    step: int
    block: Tensor
    sender: int | Tensor
    lr: float | Tensor = 1.0
    attempt: int = 0
    secret: bytes | None = field(default=None, repr=False)
    units: Units = field(default=UNITS, repr=False, compare=False)
    peers: "Sequence[tuple[int, ref[Context]]]" = field(default=(), repr=False, compare=False)
    memo: dict[Any, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def as_server(self) -> "Context":
        """The same round as the server sees it: its draws are public, so that every replica makes the same."""
        return self._server

    @cached_property
    def _server(self) -> "Context":
        return replace(self, sender=SERVER, secret=None)


@dataclass(frozen=True)
class Plane:
    """One array of a payload on the wire: `row` items per block, an int or a tensor (..., B) known to both ends.

    Both need it before anything arrives, so the tensor is on the CPU wherever the payload is.
    """

    name: str
    dtype: torch.dtype
    row: int | Tensor

    @property
    def rows(self) -> int | NDArray[np.int64]:
        """`row` as an array where it is a tensor."""
        return self.row.numpy() if isinstance(self.row, Tensor) else self.row


@dataclass(frozen=True)
class Payload:
    """What is sent: a validity flag per block (..., B) and planes (..., B, row); False in `valid` is an abstention."""

    valid: Tensor
    planes: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.planes[name]

    def carrying(self, more: Mapping[str, Tensor]) -> "Payload":
        """The payload with more planes."""
        return Payload(self.valid, {**self.planes, **more})
