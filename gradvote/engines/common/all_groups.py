"""Contexts, payloads and states of all groups at once: what belongs to one group is a view, made when somebody looks.

A layout of a thousand sizes has a thousand groups. What is done to all of them in one call (`codecs.all_rows`) works on
`whole`; whoever knows groups only (a part of another package, a fault on a link) goes through the sequence. The keys
and learning rates of which contexts are made stand beside them, by the group and for all rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from gradvote.core import LEAST_RATE, Context, Payload, Plane, State
from gradvote.layout import Layout
from gradvote.ragged import Ragged, RaggedPlane
from gradvote.staging import CPU, to_device, to_host

T = TypeVar("T")


class Views(Sequence[T], ABC):
    """A sequence with an entry for each group, which is made when it is first asked for."""

    def __init__(self, length: int) -> None:
        self._length, self._made = length, dict[int, T]()

    @abstractmethod
    def _make(self, group: int) -> T: ...

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if index not in self._made:
            self._made[index] = self._make(index)
        return self._made[index]

    def __iter__(self) -> Iterator[T]:
        return (self[i] for i in range(len(self)))


class Contexts(Views[Context]):
    """The context of each group; `whole` is that of all rows, with one block number and one rate for each."""

    def __init__(self, whole: Context, each: Callable[[], Sequence[Context]], num_groups: int) -> None:
        super().__init__(num_groups)
        self.whole, self._each, self._list = whole, each, None

    _list: Sequence[Context] | None

    def _make(self, group: int) -> Context:
        if self._list is None:
            self._list = self._each()
        return self._list[group]


@dataclass(frozen=True, eq=False)
class BlockKeys:
    """The numbers of a layout's blocks by which randomness is keyed, on the devices where draws are made.

    `shifts`, of each parameter, are added to the numbers of its blocks.
    """

    layout: Layout
    shifts: Sequence[int]
    _groups: dict[torch.device, list[Tensor]] = field(default_factory=dict)
    _rows: dict[torch.device, Tensor] = field(default_factory=dict)

    def of_groups(self, device: torch.device) -> list[Tensor]:
        """Of the blocks of each group (B,): copied to a device once."""
        if device not in self._groups:
            blocks = [g.block_on(device) for g in self.layout.groups]
            if self.shifts:
                more = [torch.tensor([self.shifts[i] for i in g.owners], device=CPU) for g in self.layout.groups]
                blocks = [own + to_device(by, device) for own, by in zip(blocks, more, strict=True)]
            self._groups[device] = blocks
        return self._groups[device]

    def of_rows(self, device: torch.device) -> Tensor:
        """Of all blocks (B,), in the order of the flat vector."""
        if device not in self._rows:
            rows = self.layout.ragged
            keys = rows.block + torch.tensor(self.shifts, device=CPU)[rows.owner] if self.shifts else rows.block
            self._rows[device] = to_device(keys, device)
        return self._rows[device]


def rates_of(
    lr: float | Sequence[float], owners: Sequence[tuple[int, ...]], device: torch.device
) -> Sequence[float | Tensor]:
    """The rate of each group, or of each of its blocks: one copy to the device for all of them."""
    if isinstance(lr, int | float):
        return [lr] * len(owners)
    each = torch.tensor([lr[owner] for own in owners for owner in own], dtype=torch.float32, device=CPU)
    rates: Sequence[Tensor] = torch.split(to_device(each, device), [*map(len, owners)])
    return rates


def rates_of_rows(
    lr: float | Sequence[float], rows: Ragged, device: torch.device
) -> tuple[float | Tensor, dict[str, Tensor]]:
    """The rate of all rows, or of each, on a device; and the least, which nobody needs to ask a card for then."""
    if isinstance(lr, int | float):
        return lr, {}
    rates = torch.tensor(lr, dtype=torch.float32, device=CPU)[rows.owner]
    return to_device(rates, device), {LEAST_RATE: rates.amin()}


class Planes(Views[tuple[Plane, ...]]):
    """What a payload holds, group by group; `whole` says it of all rows, if that is known."""

    def __init__(self, whole: Sequence[RaggedPlane], make: Callable[[int], tuple[Plane, ...]], num_groups: int) -> None:
        super().__init__(num_groups)
        self.whole, self._of = whole, make

    def _make(self, group: int) -> tuple[Plane, ...]:
        return self._of(group)

    def of_sender(self, i: int) -> "Planes":
        """Those of one of several senders."""
        own = [p.of_sender(i) for p in self.whole]
        return Planes(own, lambda group: tuple(_of_sender(p, i) for p in self[group]), len(self))


class Payloads(Views[Payload]):
    """Payloads whose planes hold the rows of all groups; of `planes` each says where its rows begin."""

    def __init__(self, rows: Ragged, whole: Payload, planes: Sequence[RaggedPlane]) -> None:
        super().__init__(len(rows.groups) - 1)
        self.rows, self.whole, self.planes = rows, whole, planes

    def _make(self, group: int) -> Payload:
        first, last = (int(at) for at in self.rows.groups[group : group + 2])
        arrays = {p.name: p.rectangle(self.whole[p.name], first, last) for p in self.planes}
        return Payload(self.whole.valid[..., first:last], arrays)

    @classmethod
    def empty(
        cls, rows: Ragged, planes: Sequence[RaggedPlane], *leading: int, device: torch.device = CPU
    ) -> "Payloads":
        """Abstentions, to be written to."""
        arrays = {p.name: torch.zeros((*leading, int(p.starts[-1])), dtype=p.dtype, device=device) for p in planes}
        valid = torch.zeros((*leading, rows.num_rows), dtype=torch.bool, device=device)
        return cls(rows, Payload(valid, arrays), planes)

    def on(self, device: torch.device) -> "Payloads":
        """The same on a device: from a card to the host with one wait for all of them."""
        if self.whole.valid.device == device:
            return self
        tensors = [self.whole.valid, *self.whole.planes.values()]
        valid, *arrays = to_host(tensors) if device.type == "cpu" else [to_device(x, device) for x in tensors]
        return Payloads(self.rows, Payload(valid, dict(zip(self.whole.planes, arrays, strict=True))), self.planes)


class States(Views[State]):
    """States whose tensors hold a number for each coordinate of all rows (d,), or for each row (B,)."""

    def __init__(self, layout: Layout, whole: State) -> None:
        super().__init__(len(layout.groups))
        self.layout, self.whole = layout, whole

    def _make(self, group: int) -> State:
        own, rows = self.layout.groups[group], self.layout.ragged
        first, last = (int(at) for at in rows.groups[group : group + 2])

        def view(leaf: Tensor) -> Tensor:
            if len(leaf) == rows.num_rows:
                return leaf[first:last]
            return leaf[own.offset : own.offset + own.size].view(len(own.blocks), own.n)

        return _mapped(view, self.whole)

    @classmethod
    def joined(cls, layout: Layout, states: Sequence[State]) -> "States | None":
        """The states of a layout's groups (B, n) and (B,) as one; None where they are not of this form."""
        if isinstance(states, States):
            return states
        alike = all(_fits(state, len(g.blocks), g.n) for state, g in zip(states, layout.groups, strict=True))
        return cls(layout, _joined(states)) if alike else None


def flags_of(payloads: Sequence[Payload]) -> list[Tensor]:
    """The validity flags of payloads (..., B) of all groups, in as many tensors as there are."""
    return [payloads.whole.valid] if isinstance(payloads, Payloads) else [payload.valid for payload in payloads]


def _of_sender(plane: Plane, i: int) -> Plane:
    return Plane(plane.name, plane.dtype, plane.row[i]) if isinstance(plane.row, Tensor) else plane


def _mapped(change: Callable[[Tensor], Tensor], state: Mapping[str, Any]) -> State:
    return {k: _mapped(change, v) if isinstance(v, dict) else change(v) for k, v in state.items()}


def _fits(state: Mapping[str, Any], num_blocks: int, n: int) -> bool:
    """Whether all tensors of a state are of known types, with a number for each block, or each coordinate."""
    shapes = ((num_blocks,), (num_blocks, n))
    return all(
        _fits(v, num_blocks, n)
        if isinstance(v, dict)
        else v.dtype in (torch.float32, torch.bfloat16) and tuple(v.shape) in shapes
        for v in state.values()
    )


def _joined(states: Sequence[State]) -> State:
    return {
        key: _joined([s[key] for s in states])
        if isinstance(own, dict)
        else torch.cat([s[key].flatten() for s in states])
        for key, own in states[0].items()
    }
