"""Payloads of several senders: pick one, stack all, choose block by block. M senders, B blocks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradvote.core import Payload, Plane, State
from gradvote.engines.common.all_groups import Payloads
from gradvote.kernels.cpu.spare import LARGE, spare
from gradvote.staging import CPU, to_device, to_host


def plane_of(plane: Plane, i: int) -> Plane:
    """Sender i's plane of a plane of all senders, whose rows are (M, B)."""
    return Plane(plane.name, plane.dtype, plane.row[i]) if isinstance(plane.row, Tensor) else plane


def payload_of(payload: Payload, i: int) -> Payload:
    """Sender i's payload (B, ...) of payloads (M, B, ...)."""
    return Payload(payload.valid[i], {name: plane[i] for name, plane in payload.planes.items()})


def for_all(payload: Payload, num: int) -> Payload:
    """A payload (B, ...) as that of each of `num` (num, B, ...), without a copy."""
    planes = {name: plane.expand(num, *plane.shape) for name, plane in payload.planes.items()}
    return Payload(payload.valid.expand(num, *payload.valid.shape), planes)


def moved(payloads: Sequence[Payload], device: torch.device) -> Sequence[Payload]:
    """Payloads on a device: from a card to the host with one wait for all of them."""
    if isinstance(payloads, Payloads):
        return payloads.on(device)
    tensors = [x for p in payloads for x in (p.valid, *p.planes.values())]
    found = iter(to_host(tensors) if device.type == "cpu" else [to_device(x, device) for x in tensors])
    return [Payload(next(found), {name: next(found) for name in p.planes}) for p in payloads]


def stack(payloads: Sequence[Payload]) -> Payload:
    """Payloads (B, ...) as one (M, B, ...); narrower rows are padded with zeros."""
    names = payloads[0].planes
    return Payload(torch.stack([p.valid for p in payloads]), {k: _pad_stack([p[k] for p in payloads]) for k in names})


def empty(planes: Sequence[Plane], num_blocks: int, device: torch.device | None = None) -> Payload:
    """A payload of abstentions, to be written to."""
    arrays = {p.name: _zeros((num_blocks, _width(p)), p.dtype, device or CPU) for p in planes}
    return Payload(torch.zeros(num_blocks, dtype=torch.bool, device=device), arrays)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Large ones on the host in memory that is used again."""
    if device.type != "cpu" or dtype.itemsize * math.prod(shape) < LARGE:
        return torch.zeros(shape, dtype=dtype, device=device)
    return spare.empty(shape, dtype).zero_()


def where(mask: Tensor, new: Any, old: Any) -> Any:
    """`new` in the blocks (..., B) of `mask`, `old` elsewhere, through a whole state."""
    if isinstance(new, dict):
        return {key: where(mask, value, old[key]) for key, value in new.items()}
    return torch.where(mask[..., None] if new.dim() > mask.dim() else mask, new, old)


def states_on(states: Sequence[State], device: torch.device) -> list[State]:
    """States with their tensors on a device; those that are there already are not copied."""
    return [_state_on(state, device) for state in states]


def _state_on(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _state_on(own, device) for key, own in value.items()}
    return to_device(value, device)


def check_alike(found: Any, expected: Any, what: str) -> None:
    """Whether two states have the same keys, lengths, shapes and types all the way down.

    Raises:
        ValueError: they have not; the sentence says where.
    """
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        for key, value in expected.items():
            check_alike(found[key], value, f"{what}, {key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for i, (own, value) in enumerate(zip(found, expected, strict=True)):
            check_alike(own, value, f"{what}, {i}")
    elif _signature(found) != _signature(expected):
        raise ValueError(f"{what} holds {_signature(found)}; {_signature(expected)} was expected.")


def _signature(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return (
        f"{type(value).__name__} of {', '.join(map(str, value))}" if isinstance(value, dict) else type(value).__name__
    )


def _width(plane: Plane) -> int:
    if isinstance(plane.row, Tensor):
        return int(plane.row.max()) if plane.row.numel() else 0
    return plane.row


def _pad_stack(rows: list[Tensor]) -> Tensor:
    width = max(row.shape[-1] for row in rows)
    return torch.stack([_padded(row, width - row.shape[-1]) for row in rows])


def _padded(row: Tensor, missing: int) -> Tensor:
    return torch.nn.functional.pad(row, (0, missing)) if missing else row
