"""A ballot: the learning rates of the optimizer's groups (float64 each), and the body of the wire format.

The rate of a step is the lower median of the counted ballots' rates, group by group: a worker whose schedule lags is
outvoted. Bodies of many senders are read in one go where they have one form (`parsed`).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import Context, Payload, State
from gradvote.engines.common.digests import Bytes
from gradvote.engines.common.parameter_check import UNCHECKED
from gradvote.engines.common.payloads import moved, plane_of, stack
from gradvote.engines.common.protocol import Planes, Protocol
from gradvote.engines.common.slot import Slot
from gradvote.staging import CPU, to_device, to_host
from gradvote.wire import Kind


@dataclass(frozen=True)
class Ballot:
    """A worker's vote on its way: what it sends, and its memory afterwards, both where the gradients are.

    `check` is the digest of a part of the parameters on which it voted.
    """

    slot: Slot
    rates: bytes
    planes: Planes
    payloads: Sequence[Payload]
    ctxs: Sequence[Context]
    after: Sequence[State]
    check: bytes = UNCHECKED

    @cached_property
    def body(self) -> bytes:
        """The whole of it."""
        return self.rates + packed(self.payloads, self.planes)

    @cached_property
    def on_host(self) -> Sequence[Payload]:
        """The payloads on the host, to be cut."""
        return moved(self.payloads, CPU)


def packed(payloads: Sequence[Payload], planes: Planes) -> bytes:
    """Payloads as they travel; none where there are no blocks."""
    return to_host([wire.pack(payloads, planes).contiguous()])[0].numpy().tobytes() if payloads else b""


def unpacked(raw: bytearray, planes: Planes, blocks: list[int]) -> Sequence[Payload]:
    """The inverse of `packed`, on the host."""
    return wire.unpack(torch.frombuffer(raw, dtype=torch.uint8), planes, blocks) if blocks else []


def differ(planes: Planes) -> bool:
    """Whether the lengths of rows depend on who sent them, as with random masks."""
    return any(isinstance(plane.row, Tensor) for group in planes for plane in group)


def parsed(protocol: Protocol, bodies: Sequence[memoryview], planes: Planes, device: torch.device) -> Sequence[Payload]:
    """The checked ballots (M, B, ...) in the bodies of M messages; `planes` are those of all senders.

    Raises:
        WireError: a body does not have the length that its planes ask for.
    """
    if not differ(planes):
        return protocol.parse(Kind.BALLOT, to_device(wire.stacked(bodies), device), planes)
    each = []
    for i, body in enumerate(bodies):
        own = [tuple(plane_of(p, i) for p in group) for group in planes]
        each.append(protocol.parse(Kind.BALLOT, to_device(wire.stacked([body])[0], device), own))
    return [stack(payloads) for payloads in zip(*each, strict=True)]


def rates_to_bytes(rates: Sequence[float]) -> bytes:
    """The learning rates of the optimizer's groups, float64 each."""
    return struct.pack(f"<{len(rates)}d", *rates)


def rates_from_bytes(raw: Bytes) -> Sequence[float]:
    """The inverse of `rates_to_bytes`."""
    return struct.unpack(f"<{len(raw) // 8}d", raw)


def agreed_rates(rates: Sequence[Sequence[float]]) -> list[float]:
    """The lower median, group by group, of those that can be learning rates; 0 where there is none."""
    agreed = []
    for column in zip(*rates, strict=True):
        usable = sorted(r for r in column if math.isfinite(r) and r >= 0)
        agreed.append(usable[(len(usable) - 1) // 2] if usable else 0.0)
    return agreed
