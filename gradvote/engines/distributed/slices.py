"""The verbs of a protocol, slice by slice: a new state takes the memory that the old state of the slice before had.

A slice is some whole blocks of a part, about `SLICE` coordinates, with states of its own. Each is replaced as soon as
there is a new one, so that besides the states only those of one slice exist twice. Results are joined, and are those
of the whole part, as blocks do not know of each other. What is voted on (`update_of`) is given by the slice, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gradvote.core import Context, Part, Payload, Plane, State
from gradvote.engines.common.all_groups import Payloads
from gradvote.engines.common.all_groups import Planes as AllPlanes
from gradvote.engines.common.clipping import shortened, squares
from gradvote.engines.common.flat_buffer import Decode, FlatBuffer
from gradvote.engines.common.part import evenly_cut
from gradvote.engines.common.protocol import Planes, Protocol
from gradvote.engines.distributed.states import has_state
from gradvote.layout import Layout
from gradvote.ragged import RaggedPlane
from gradvote.scattered import Vector
from gradvote.staging import CPU
from gradvote.wire import Kind

SLICE = 1 << 20
"""Coordinates of a slice, where blocks are not larger."""
WHOLE = 1 << 23
"""Coordinates up to which a part stays whole whose groups are worked on in one call: in slices that would be many."""
FEW = 4
"""Slices of a larger part on a card, which each call costs more than the work: a quarter of a state exists twice."""

States = list[Sequence[State]]
"""Slice by slice, and in each group by group."""
Contexts = list[Sequence[Context]]
Gradients = Mapping[int, Tensor | None]
"""By parameter's number; None where there is none."""
Update = Callable[[Layout], Vector]
"""Gives what is voted on (d_k,) for the layout of a slice; valid until the next call."""
Write = Callable[[Layout, Decode], None]
"""Takes what gives a slice's direction, and the layout of the slice."""
Rows = list[tuple[int, slice]]
"""The group of the part, and the rows there, of each group of a slice."""


@dataclass(frozen=True)
class Slices:
    """A part's protocol, cut into slices of at most `size` coordinates or one block; None: it stays whole."""

    whole: Protocol
    size: int | None

    @cached_property
    def protocols(self) -> tuple[Protocol, ...]:
        """One for each slice."""
        if self.size is None or self.whole.layout.size <= self.size:
            return (self.whole,)
        return tuple(replace(self.whole, layout=own) for own in evenly_cut(self.whole.layout, self.size))

    @cached_property
    def rows(self) -> list[Rows]:
        """Where each slice's groups are in those of the part."""
        return _rows([own.layout for own in self.protocols], self.whole.layout)

    def contexts(
        self,
        step: int,
        sender: int | Tensor,
        lr: float | Sequence[float],
        secret: bytes | None = None,
        device: torch.device = CPU,
    ) -> Contexts:
        """`Protocol.contexts` of each slice; where there is but one, or on a card, its groups are worked on at once."""
        at_once = len(self.protocols) == 1 or device.type != "cpu"
        return [own.contexts(step, sender, lr, 0, secret, device, at_once=at_once) for own in self.protocols]

    def encode(self, update: Update, states: States, ctxs: Contexts) -> Sequence[Payload]:
        """Worker: update -> ballots; `states` are replaced one by one."""
        parts = []
        for k, (own, now) in enumerate(zip(self.protocols, ctxs, strict=True)):
            payloads, states[k] = own.encode(update(own.layout), states[k], now)
            parts.append(payloads)
        return self._joined(parts)

    def combine(self, ballots: Sequence[Payload], states: States, ctxs: Contexts) -> Sequence[Payload]:
        """Server: ballots (M, B, ...) -> decision (B, ...); `states` are replaced one by one."""
        parts = []
        for k, (own, rows, now) in enumerate(zip(self.protocols, self.rows, ctxs, strict=True)):
            chosen = ballots if len(self.protocols) == 1 else [_some(ballots[g], (slice(None), at)) for g, at in rows]
            decision, states[k] = own.combine(chosen, states[k], now)
            parts.append(decision)
        return self._joined(parts)

    def decode(self, decision: Sequence[Payload], states: States, ctxs: Contexts, write: Write) -> None:
        """Worker: decision -> a direction for each slice."""
        for k, (own, rows, now) in enumerate(zip(self.protocols, self.rows, ctxs, strict=True)):
            chosen = self._of_slice(decision, k, rows)

            def decode(
                out: Vector | None,
                k: int = k,
                own: Protocol = own,
                chosen: Sequence[Payload] = chosen,
                now: Sequence[Context] = now,
            ) -> Tensor | None:
                direction, states[k] = own.decode_to(chosen, states[k], now, out)
                return direction

            write(own.layout, decode)

    def planes(self, kind: Kind, ctxs: Contexts) -> Planes:
        """`Protocol.planes` of the part."""
        found = [own.planes(kind, now) for own, now in zip(self.protocols, ctxs, strict=True)]
        if len(found) == 1:
            return found[0]
        wholes = [own.whole for own in found if isinstance(own, AllPlanes)]
        if len(wholes) == len(found):
            own = [_joined_ragged(planes) for planes in zip(*wholes, strict=True)]
            return AllPlanes(own, lambda group: self._group_planes(found)[group], len(self.whole.layout.groups))
        return self._group_planes(found)

    def _group_planes(self, found: Sequence[Planes]) -> list[tuple[Plane, ...]]:
        groups: list[list[tuple[Plane, ...]]] = [[] for _ in self.whole.layout.groups]
        for rows, planes in zip(self.rows, found, strict=True):
            for (g, _), own in zip(rows, planes, strict=True):
                groups[g].append(own)
        return [tuple(map(_joined_plane, zip(*own, strict=True))) for own in groups]

    def _of_slice(self, payloads: Sequence[Payload], k: int, rows: Rows) -> Sequence[Payload]:
        """What payloads (B, ...) of the part hold of slice k: its rows follow on each other."""
        if len(self.protocols) == 1:
            return payloads
        if not isinstance(payloads, Payloads):
            return [_some(payloads[g], (at,)) for g, at in rows]
        first, last = self._begins[k : k + 2]
        planes = [p.some(first, last) for p in payloads.planes]
        arrays = {p.name: payloads.whole[p.name][int(p.starts[first]) : int(p.starts[last])] for p in payloads.planes}
        own = Payload(payloads.whole.valid[first:last], arrays)
        return Payloads(self.protocols[k].layout.ragged, own, planes)

    @cached_property
    def _begins(self) -> list[int]:
        """The first row of each slice, and the end of the last."""
        return [0, *accumulate(own.layout.ragged.num_rows for own in self.protocols)]

    def _joined(self, parts: Sequence[Sequence[Payload]]) -> Sequence[Payload]:
        if len(parts) == 1:
            return parts[0]
        whole = [part for part in parts if isinstance(part, Payloads)]
        if len(whole) == len(parts):
            arrays = {p.name: torch.cat([part.whole[p.name] for part in whole]) for p in whole[0].planes}
            planes = [_joined_ragged(own) for own in zip(*(part.planes for part in whole), strict=True)]
            valid = torch.cat([part.whole.valid for part in whole])
            return Payloads(self.whole.layout.ragged, Payload(valid, arrays), planes)
        groups: list[list[Payload]] = [[] for _ in self.whole.layout.groups]
        for rows, payloads in zip(self.rows, parts, strict=True):
            for (g, _), own in zip(rows, payloads, strict=True):
                groups[g].append(own)
        return [own[0] if len(own) == 1 else _joined_payload(own) for own in groups]


def slices_of(protocol: Protocol, part: Part, device: torch.device, whole: bool = False) -> Slices:
    """How the half of a round that `part` is does its work: in slices where it has a state, and no card to keep busy.

    Each slice is a round of calls, of which a card has more than enough: there are `FEW`, where each does with few.
    What needs the `whole` is not cut.
    """
    cut, size = not whole and protocol.algorithm.aggregate.separable and has_state(part), protocol.layout.size
    if device != CPU:
        cut = cut and part is protocol.algorithm.up and protocol.at_once_on_a_card
        return Slices(protocol, max(WHOLE, -(-size // FEW)) if cut else None)
    return Slices(protocol, SLICE if cut and not (protocol.at_once and size <= WHOLE) else None)


def update_of(buffer: FlatBuffer, gradients: Gradients, scale: float, shrink: float = 1.0) -> Update:
    """Gradients without a scaler's `scale`, times `shrink`: as they lie in `.grad` where nothing is done to them."""
    if scale == shrink == 1:
        return lambda layout: buffer.where_they_are(layout, gradients)
    if shrink == 1:
        return lambda layout: _true(buffer, gradients, scale, layout)
    return lambda layout: shortened(_true(buffer, gradients, scale, layout), shrink)


def squares_of(buffer: FlatBuffer, layouts: Sequence[Layout], gradients: Gradients, scale: float) -> list[Tensor]:
    """The `squares` of gradients without a scaler's `scale`, of each slice, of which their norm is made."""
    slices = (own for layout in layouts for own in evenly_cut(layout, SLICE))
    return [squares(own, _true(buffer, gradients, scale, own)) for own in slices]


def _true(buffer: FlatBuffer, gradients: Gradients, scale: float, layout: Layout) -> Tensor:
    flat = buffer.gather(layout, gradients)
    return flat if scale == 1 else flat / scale


def _rows(slices: Sequence[Layout], whole: Layout) -> list[Rows]:
    found, g, used = [], 0, 0
    for layout in slices:
        rows: Rows = []
        for group in layout.groups:
            rows.append((g, slice(used, used + len(group.blocks))))
            used += len(group.blocks)
            if used == len(whole.groups[g].blocks):
                g, used = g + 1, 0
        found.append(rows)
    return found


def _some(payload: Payload, rows: tuple[slice, ...]) -> Payload:
    return Payload(payload.valid[rows], {name: plane[rows] for name, plane in payload.planes.items()})


def _joined_payload(parts: Sequence[Payload]) -> Payload:
    """Payloads (B_k, ...) of one group behind each other; narrower rows are padded with zeros."""
    planes = {}
    for name in parts[0].planes:
        own = [part[name] for part in parts]
        width = max(plane.shape[-1] for plane in own)
        planes[name] = torch.cat([p if p.shape[-1] == width else pad(p, (0, width - p.shape[-1])) for p in own])
    return Payload(torch.cat([part.valid for part in parts]), planes)


def _joined_ragged(parts: Sequence[RaggedPlane]) -> RaggedPlane:
    """Planes of rows that follow on each other, as one."""
    ends = np.cumsum([0, *(int(p.starts[-1]) for p in parts)])
    starts = [p.starts[:-1] + end for p, end in zip(parts, ends, strict=False)]
    lengths = np.concatenate([p.lengths for p in parts], -1)
    return RaggedPlane(parts[0].name, parts[0].dtype, np.concatenate([*starts, ends[-1:]]), lengths)


def _joined_plane(parts: Sequence[Plane]) -> Plane:
    first = parts[0]
    if not isinstance(first.row, Tensor):
        return first
    return Plane(first.name, first.dtype, torch.cat([p.row for p in parts if isinstance(p.row, Tensor)], -1))
