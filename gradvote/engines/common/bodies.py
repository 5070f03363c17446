"""The ballots of many senders, read in one go where they have one form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import Payload
from gradvote.engines.common.payloads import plane_of, stack
from gradvote.engines.common.protocol import Planes, Protocol
from gradvote.staging import to_device
from gradvote.wire import Kind


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
