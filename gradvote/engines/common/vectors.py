"""Flat vectors and learning rates of a protocol's groups."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradvote.core import LEAST_RATE
from gradvote.ragged import Ragged
from gradvote.scattered import Scattered, Vector
from gradvote.staging import CPU, to_device


def is_plain(x: Vector) -> bool:
    """Whether numbers are written here as they are made."""
    return isinstance(x, Scattered) or (x.dtype == torch.float32 and x.dim() == 1 and x.is_contiguous())


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts (..., d_k) behind each other; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(tuple(parts), -1) if parts else torch.zeros(0, device=CPU, dtype=torch.float32)


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
