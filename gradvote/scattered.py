"""Coordinates of a layout that stand in several tensors, for kernels that read or write them where they are.

To copy gradients into one vector and directions out of it takes a card longer than all else that a worker does, and a
processor a fifth of a step. So the kernels for rows of unequal length take this in place of a vector (d,): with each
row's address, and no copy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from gradvote.layout import Layout, copy
from gradvote.ragged import Numbers, numbers
from gradvote.staging import to_device


@dataclass(frozen=True, eq=False)
class Scattered:
    """The coordinates of a layout (d,): `starts` says where each row begins, in items from the first of `tensors` on.

    Those are the parameters' own, in the order in which they occur, contiguous and of one type; `where` (B,) has
    `starts` on their device. `whole` gives the vector: a copy of what is there, or room for what is to be there.
    """

    layout: Layout
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

    def unit(self, size: int) -> int:
        """So many items, if each row begins at a multiple of them and has a multiple of them; else 1."""
        return 1 if (self.starts % size).any() or (self.layout.ragged.lengths % size).any() else size

    def put(self, vector: Tensor) -> None:
        """Copy a vector (d,) to where its coordinates belong."""
        own = dict(zip(params_of(self.layout), self.tensors, strict=True))
        flat = {i: x.view(-1) for i, x in own.items()}
        pieces = [flat[p.param][p.start : p.start + p.length] for p in self.layout.pieces]
        copy(pieces, self.layout.split(vector))


Vector = Tensor | Scattered
"""Coordinates (d,), in one tensor or in several."""


class _Known(NamedTuple):
    """Where the tensors of a layout were, and so its rows: on the host, and on the device."""

    layout: "ref[Layout]"
    tensors: Numbers
    starts: Numbers
    where: Tensor


class Places:
    """Where the rows of layouts begin, on a device: copied to it where something has moved since the last time."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def scattered(self, layout: Layout, tensors: Mapping[int, Tensor], whole: Callable[[], Tensor]) -> Scattered | None:
        """A layout's coordinates in contiguous `tensors`, by parameter; None where their types or alignments differ."""
        own = [tensors[param] for param in params_of(layout)]
        base = own[0]
        if any(x.dtype != base.dtype for x in own):
            return None
        places, key = numbers([x.data_ptr() for x in own]), id(layout)
        if ((places - places[0]) % base.element_size()).any():
            return None
        known = self._known.get(key)
        stale = known is None or known.layout() is not layout or known.where.device != base.device
        if known is None or stale or not np.array_equal(known.tensors, places):
            tensor, inside = layout.ragged.kept("parameters of rows", lambda: _rows(layout))
            starts = (places[tensor] - places[0]) // base.element_size() + inside
            gone = ref(layout, lambda _: self._known.pop(key, None))  # its number may be another layout's then
            known = _Known(gone, places, starts, to_device(torch.from_numpy(starts), base.device))
            self._known[key] = known
        return Scattered(layout, own, known.starts, known.where, whole)


def vector_of(x: Vector) -> Tensor:
    """The vector itself."""
    return x.whole() if isinstance(x, Scattered) else x


def params_of(layout: Layout) -> list[int]:
    """The parameters of a layout's coordinates, in the order in which they occur."""
    return layout.ragged.kept("parameters", lambda: list(dict.fromkeys(p.param for p in layout.pieces)))


def _rows(layout: Layout) -> tuple[Numbers, Numbers]:
    """Of each row which of those parameters it is in, and where in that it begins."""
    order = {param: i for i, param in enumerate(params_of(layout))}
    offsets, begins = layout.ragged.offsets[:-1], numbers([p.offset for p in layout.pieces])
    piece = np.searchsorted(begins, offsets, "right") - 1
    tensor, start = numbers([order[p.param] for p in layout.pieces]), numbers([p.start for p in layout.pieces])
    return tensor[piece], start[piece] + offsets - begins[piece]
