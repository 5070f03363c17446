"""Configured faults as one rank meets them: the same change that the simulation makes to all workers at once."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gradvote.core import Context, Payload, State
from gradvote.engines.common.payloads import for_all, payload_of, where
from gradvote.engines.common.protocol import Protocol
from gradvote.faults import Faulty, on_gradients, on_link
from gradvote.staging import to_host


def spoiled_gradient(
    faults: Sequence[Faulty], protocol: Protocol, flat: Tensor, ctxs: Sequence[Context], M: int
) -> Tensor:
    """The update (d,) that this rank claims to have."""
    if not any(f.place == "worker" for f in faults):
        return flat
    parts = []
    for x, ctx in zip(protocol.layout.views(flat), ctxs, strict=True):
        assert isinstance(ctx.sender, int)
        parts.append(on_gradients(faults, x.expand(M, *x.shape), ctx, M)[ctx.sender].flatten())
    return torch.cat(parts)


def through(
    faults: Sequence[Faulty],
    place: Literal["uplink", "downlink"],
    payloads: Sequence[Payload],
    ctxs: Sequence[Context],
    M: int,
) -> Sequence[Payload]:
    """Payloads (B, ...) after this rank's link."""
    if not any(f.place in (place, "both") for f in faults):
        return payloads
    arrived = []
    for payload, ctx in zip(payloads, ctxs, strict=True):
        assert isinstance(ctx.sender, int)
        arrived.append(payload_of(on_link(faults, place, for_all(payload, M), ctx, M), ctx.sender))
    return arrived


def keep_lost(
    protocol: Protocol,
    sent: Sequence[Payload],
    arrived: Sequence[Payload],
    states: Sequence[State],
    ctxs: Sequence[Context],
) -> Sequence[State]:
    """The worker's states, with everything that the link lost still unsent."""
    lost = [s.valid & ~a.valid for s, a in zip(sent, arrived, strict=True)]
    if not any(bool(mask.any()) for mask in to_host(lost)):
        return states
    kept = protocol.undelivered(states, sent, ctxs)
    return [where(mask, k, s) for mask, k, s in zip(lost, kept, states, strict=True)]
