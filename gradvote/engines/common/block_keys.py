"""The numbers of blocks by which randomness is keyed, on the devices where draws are made."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradvote.layout import Layout
from gradvote.staging import CPU, to_device


@dataclass(frozen=True, eq=False)
class BlockKeys:
    """Those of a layout; `shifts`, of each parameter, are added to the numbers of its blocks."""

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
