"""Bytes of some rows of all groups, in the order of the wire format: written and read with one copy for each row.

`docs/wire-format.md` puts group by group each plane's rows behind each other, then the flags of all blocks. Where each
row stands follows from lengths, which are the same in every step, but for those of random masks.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote import kernels, wire
from gradvote.engines.common.all_groups import Payloads
from gradvote.ragged import Numbers, Ragged, RaggedPlane, numbers, starts_of
from gradvote.staging import to_device
from gradvote.wire import WireError

Places = tuple[Numbers, Numbers, int]
"""Where each row of each plane stands in a body, its bytes (P, R), and the bytes of all."""


class Cut:
    """The rows `chosen` (R,) of a layout's, which a message holds in groups that begin at `groups`."""

    def __init__(self, chosen: Numbers, groups: Numbers) -> None:
        self.chosen, self._groups = chosen, groups
        self._known = dict[tuple[str, ...], tuple[Sequence[RaggedPlane], Places]]()

    @cached_property
    def flag_bytes(self) -> int:
        """Bytes of the validity flags."""
        return -(-len(self.chosen) // 8)

    def num_bytes(self, planes: Sequence[RaggedPlane]) -> int:
        """Bytes of a body."""
        return self._places(planes)[2] + self.flag_bytes

    def pieces(self, payloads: Payloads) -> list[Tensor]:
        """The body of the rows' payloads (B, ...), in pieces."""
        places, sizes, total = self._places(payloads.planes)
        whole = payloads.whole
        body = torch.empty(total, dtype=torch.uint8, device=whole.valid.device)
        for k, plane in enumerate(payloads.planes):
            begins = plane.starts[self.chosen] * plane.dtype.itemsize
            kernels.ragged_copy(whole[plane.name].contiguous(), begins, body, places[k], sizes[k])
        return [body, wire.pack_flags(whole.valid[self._on(body.device)])]

    def read(self, body: Tensor, planes: Sequence[RaggedPlane], into: Payloads, sender: int | None = None) -> None:
        """Write the rows of a body (bytes,) into payloads (B, ...), or into those of one of several senders.

        Raises:
            WireError: the body does not have the length that `planes` ask for.
        """
        places, sizes, total = self._places(planes)
        if len(body) != total + self.flag_bytes:
            raise WireError(f"The body of a message has {len(body)} bytes; {total + self.flag_bytes} were expected.")
        body = body.contiguous()
        for k, plane in enumerate(into.planes):
            target = into.whole[plane.name] if sender is None else into.whole[plane.name][sender]
            begins = plane.starts[self.chosen] * plane.dtype.itemsize
            kernels.ragged_copy(body, places[k], target, begins, sizes[k])
        valid = into.whole.valid if sender is None else into.whole.valid[sender]
        valid[self._on(body.device)] = wire.unpack_flags(body[total:], len(self.chosen))

    def _on(self, device: torch.device) -> Tensor:
        """The numbers of the rows, to index tensors of a device with: copied to it once."""
        if device not in self._indices:
            self._indices[device] = to_device(torch.from_numpy(self.chosen), device)
        return self._indices[device]

    @cached_property
    def _indices(self) -> dict[torch.device, Tensor]:
        return {}

    def _places(self, planes: Sequence[RaggedPlane]) -> Places:
        """Where all rows stand; planes whose lengths are the arrays of last time are not looked at again."""
        key = tuple(p.name for p in planes)
        last = self._known.get(key)
        if last is not None and all(a.lengths is b.lengths for a, b in zip(last[0], planes, strict=True)):
            return last[1]
        sizes = np.stack([p.lengths[self.chosen] * p.dtype.itemsize for p in planes])
        order, places = self._order(len(planes)), np.empty(sizes.size, np.int64)
        ends = starts_of(sizes.ravel()[order])
        places[order] = ends[:-1]
        found = places.reshape(sizes.shape), sizes, int(ends[-1])
        self._known[key] = planes, found
        return found

    def _order(self, num_planes: int) -> NDArray[np.int64]:
        """The order in which rows (P, R) stand: by group, plane and row."""
        if num_planes not in self._orders:
            num = len(self.chosen)
            group = np.tile(np.repeat(np.arange(len(self._groups) - 1), np.diff(self._groups)), num_planes)
            plane, row = np.repeat(np.arange(num_planes), num), np.tile(np.arange(num), num_planes)
            self._orders[num_planes] = np.lexsort((row, plane, group))
        return self._orders[num_planes]

    @cached_property
    def _orders(self) -> dict[int, NDArray[np.int64]]:
        return {}


def cut_of(rows: Ragged) -> Cut:
    """All rows."""
    return Cut(np.arange(rows.num_rows, dtype=np.int64), rows.groups)


def cut_from(rows: Ragged, groups: Sequence[int], chosen: Sequence[NDArray[np.int64]]) -> Cut:
    """Some rows of some groups of a layout: `chosen[k]` are their numbers in group `groups[k]`."""
    own = [rows.groups[g] + numbers for g, numbers in zip(groups, chosen, strict=True)]
    return Cut(np.concatenate(own) if own else numbers(()), starts_of(numbers([len(x) for x in own])))
