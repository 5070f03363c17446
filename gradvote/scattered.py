"""Coordinates of a layout that stand in several tensors, for kernels that read or write them where they are.

To copy gradients into one vector and directions out of it takes a card longer than all else that a worker does. So
the kernels for rows of unequal length take this in place of a vector (d,): with each row's address, and no copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradvote.layout import Layout
from gradvote.ragged import Numbers, Ragged, numbers
from gradvote.staging import to_device


@dataclass(frozen=True, eq=False)
class Scattered:
    """The coordinates of rows (d,): `starts` says where each row begins, in items from the first of `tensors` on.

    All items are of one type; `where` (B,) has `starts` on their device. `whole` gives the vector: a copy of what is
    there, or room for what is to be there.
    """

    tensors: Sequence[Tensor]
    starts: Numbers
    where: Tensor
    whole: Callable[[], Tensor]

    @property
    def base(self) -> Tensor:
        """What addresses are counted from."""
        return self.tensors[0]

    @property
    def device(self) -> torch.device:
        """Where the coordinates are."""
        return self.base.device

    @property
    def dtype(self) -> torch.dtype:
        """Their type."""
        return self.base.dtype

    def unit(self, rows: Ragged, size: int) -> int:
        """So many items, if each row begins at a multiple of them and has a multiple of them; else 1."""
        return 1 if (self.starts % size).any() or (rows.lengths % size).any() else size


Vector = Tensor | Scattered
"""Coordinates (d,), in one tensor or in several."""


class Places:
    """Where the rows of layouts begin, on a device: copied to it where something has moved since the last time."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Numbers, Tensor]] = {}

    def scattered(self, layout: Layout, pieces: Sequence[Tensor], whole: Callable[[], Tensor]) -> Scattered | None:
        """The pieces of a layout, each contiguous, where they are; None where their types differ."""
        base = pieces[0]
        if any(x.dtype != base.dtype for x in pieces):
            return None
        begins = numbers([x.data_ptr() - base.data_ptr() for x in pieces]) // base.element_size()
        piece, inside = layout.ragged.kept("pieces", lambda: _pieces(layout))
        starts = begins[piece] + inside
        known = self._known.get(id(layout))
        if known is None or known[1].device != base.device or not np.array_equal(known[0], starts):
            known = self._known[id(layout)] = starts, to_device(torch.from_numpy(starts), base.device)
        return Scattered(pieces, *known, whole)


def vector_of(x: Vector) -> Tensor:
    """The vector itself."""
    return x.whole() if isinstance(x, Scattered) else x


def _pieces(layout: Layout) -> tuple[Numbers, Numbers]:
    """The piece that each row is in, and where in it the row begins."""
    offsets, begins = layout.ragged.offsets[:-1], numbers([p.offset for p in layout.pieces])
    piece = np.searchsorted(begins, offsets, "right") - 1
    return piece, offsets - begins[piece]
