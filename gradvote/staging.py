"""The one place where tensors pass between the host and a card: what a step needs on the other side, and no more.

`Leaving` takes tensors to the host by pinned memory: the copies are queued on the current stream, and one event tells
when all of them are there, so that work of the card goes on meanwhile. `to_device` is the other way, and waits for
nothing. On the CPU both are the tensors themselves.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")
APART = (1 << 25) + 1
"""Bytes for which the C library asks the system each time (glibc's largest threshold); unused pages cost nothing."""


class Leaving:
    """Tensors on their way to the host, or to another device; those that are there already are not copied."""

    def __init__(self, tensors: Sequence[Tensor], to: torch.device = CPU) -> None:
        self._moved = [_to_host(x) if to.type == "cpu" else to_device(x, to) for x in tensors]
        card = next((x.device for x in tensors if x.is_cuda and to.type == "cpu"), None)
        self._event = None if card is None else torch.cuda.Event()
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(card))

    @property
    def ready(self) -> bool:
        """Whether `arrived` would not wait."""
        return self._event is None or self._event.query()

    def arrived(self) -> list[Tensor]:
        """The tensors where they went, once the card has come so far."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._moved


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the host: one wait for all of them, and none for those that are there."""
    return Leaving(tensors).arrived()


def asked(flag: Tensor) -> bool:
    """What a flag () says: a question that is waited for, for what is seldom asked."""
    return bool(to_host([flag])[0])


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. From the host it is queued on the current stream there; from a card to the host it waits.

    What comes from the host must not be written to afterwards.
    """
    if x.device == device:
        return x
    if device.type == "cpu":
        return to_host([x])[0]
    if device.type == "cuda" and x.is_cpu and not x.is_pinned():
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def new_bytes(size: int, device: torch.device, home: torch.device) -> Tensor:
    """Memory (size,) uint8 on a device for what goes on to another one."""
    return torch.empty(size, dtype=torch.uint8, device=device, pin_memory=(device.type, home.type) == ("cpu", "cuda"))


class Rooms:
    """Memory on the host that is used again and again, by name: for what has been sent, or read, before the next use.

    It is not from the heap: there small things that stay settle in the holes that messages leave, so that the next one
    does not fit, and a step of many chunks takes as much memory as all of them together.
    """

    def __init__(self) -> None:
        self._rooms: dict[object, Tensor] = {}

    def take(self, name: object, size: int) -> Tensor:
        """Memory (size,) uint8, which holds anything."""
        room = self._rooms.get(name)
        if room is None or len(room) < size:
            room = self._rooms[name] = torch.empty(max(size, APART), dtype=torch.uint8, device=CPU)
        return room[:size]


def device_of(tensors: Sequence[Tensor], default: torch.device = CPU) -> torch.device:
    """The device of the first of some tensors."""
    return tensors[0].device if tensors else default


def _to_host(x: Tensor) -> Tensor:
    if x.is_cpu:
        return x
    if not x.is_cuda:
        return x.to(CPU)
    hosted = torch.empty(x.shape, dtype=x.dtype, device=CPU, pin_memory=True)
    return hosted.copy_(x, non_blocking=True)
