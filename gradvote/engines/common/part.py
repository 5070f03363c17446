"""A part: blocks that are exchanged together (a chunk of the gradient, a DDP bucket), and who serves which of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Payload, Plane
from gradvote.engines.common.cuts import Cut, cut_from
from gradvote.engines.common.protocol import Protocol
from gradvote.layout import Layout, Piece
from gradvote.staging import CPU, device_of

RowNumbers = slice | Tensor
"""Row numbers, as a slice where they are evenly spaced: a view then takes them."""


@dataclass(frozen=True)
class Shard:
    """What one rank serves of a part: `rows[k]` are its rows in the part's group `groups[k]`."""

    protocol: Protocol
    groups: tuple[int, ...]
    rows: tuple[RowNumbers, ...]

    @property
    def num_blocks(self) -> list[int]:
        """Blocks of each group."""
        return [len(group.blocks) for group in self.protocol.layout.groups]

    def payloads(self, whole: Sequence[Payload]) -> list[Payload]:
        """The rows of the part's payloads (B, ...) that belong to this shard."""
        rows = self._rows_on(device_of([p.valid for p in whole]))
        return [_take(whole[g], own) for g, own in zip(self.groups, rows, strict=True)]

    def planes(self, whole: Sequence[tuple[Plane, ...]]) -> list[tuple[Plane, ...]]:
        """Their planes."""
        return [tuple(_rows_of(p, rows) for p in whole[g]) for g, rows in zip(self.groups, self.rows, strict=True)]

    def place(self, served: Sequence[Payload], whole: list[Payload]) -> None:
        """Write the shard's payloads into those of the part."""
        places = self._rows_on(device_of([p.valid for p in served]))
        for g, rows, payload in zip(self.groups, places, served, strict=True):
            whole[g].valid[rows] = payload.valid
            for name, plane in payload.planes.items():
                whole[g][name][rows, : plane.shape[-1]] = plane

    def _rows_on(self, device: torch.device) -> tuple[RowNumbers, ...]:
        """The rows to index tensors of a device with: copied to it once."""
        if device not in self._placed:
            self._placed[device] = tuple(r if isinstance(r, slice) else r.to(device) for r in self.rows)
        return self._placed[device]

    @cached_property
    def _placed(self) -> dict[torch.device, tuple[RowNumbers, ...]]:
        return {}


@dataclass(frozen=True)
class Part:
    """Blocks exchanged together: their protocol, and each rank's shard, or all of them for each (`replicated`)."""

    protocol: Protocol
    shards: tuple[Shard, ...]
    replicated: bool

    @property
    def layout(self) -> Layout:
        """The layout of the part's own flat vector."""
        return self.protocol.layout

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Where each shard's rows stand among all rows of the part, and in a message."""
        return tuple(cut_from(self.layout.ragged, s.groups, [_numbers(r) for r in s.rows]) for s in self.shards)


def part_of(protocol: Protocol, layout: Layout, served: Tensor) -> Part:
    """The part with the blocks of `layout`, served as `served` (M, all blocks) says."""
    own = replace(protocol, layout=layout)
    shards = tuple(_shard(own, mine) for mine in served)
    return Part(own, shards, len(shards) > 1 and bool(served.all()))


def chunks_of(layout: Layout, num_chunks: int) -> list[Layout]:
    """The layout cut into at most `num_chunks` runs of whole blocks; each has its own flat vector.

    Chunk k's flat vector is the k-th piece of the whole one. The first and the last are a third of the others: nothing
    travels yet while the first is encoded, and nothing travels any more while the last is decoded.
    """
    step = 3 if num_chunks > 2 else 1
    marks = edge_share(num_chunks) * (1 + step * torch.arange(num_chunks - 1, device=CPU)) * layout.size
    return _cut(layout, marks)


def evenly_cut(layout: Layout, size: int) -> list[Layout]:
    """The layout cut into runs of whole blocks with about `size` coordinates each, in the order of its flat vector."""
    num = max(-(-layout.size // size), 1)
    return _cut(layout, torch.arange(1, num, device=CPU) * layout.size / num)


def edge_share(num_chunks: int) -> float:
    """The share of the coordinates that the first and the last of some chunks have."""
    return 1 / (3 * num_chunks - 4) if num_chunks > 2 else 1 / num_chunks


def largest_share(num_chunks: int) -> float:
    """The share of the coordinates that the largest of some chunks has."""
    return (3 if num_chunks > 2 else 1) * edge_share(num_chunks)


def _cut(layout: Layout, marks: Tensor) -> list[Layout]:
    """The layout cut at the ends of the blocks in which the `marks` are."""
    ends = torch.tensor([0, *accumulate(g.n for g in layout.groups for _ in g.blocks)], device=CPU)
    cuts = {0, layout.size, *ends[torch.searchsorted(ends, marks.to(ends.dtype))].tolist()}
    return [_window(layout, a, b) for a, b in pairwise(sorted(cuts))]


def _window(layout: Layout, begin: int, end: int) -> Layout:
    groups = []
    for g in layout.groups:
        low, high = (min(max(at - g.offset, 0), g.size) // g.n for at in (begin, end))
        if high > low:
            offset = g.offset + low * g.n - begin
            groups.append(g.some(range(low, high), offset))
    pieces = []
    for p in layout.pieces:
        low, high = max(p.offset, begin), min(p.offset + p.length, end)
        if high > low:
            pieces.append(Piece(p.param, p.start + low - p.offset, high - low, low - begin))
    return replace(layout, groups=tuple(groups), pieces=tuple(pieces))


def _shard(protocol: Protocol, mine: Tensor) -> Shard:
    groups, indices, rows, offset = [], [], [], 0
    for index, group in enumerate(protocol.layout.groups):
        own = mine[group.block].nonzero()[:, 0]
        if len(own):
            chosen = own.tolist()
            groups.append(group.some(chosen, offset))
            indices.append(index)
            rows.append(_evenly(chosen) or own)
            offset += group.n * len(chosen)
    layout = replace(protocol.layout, groups=tuple(groups), pieces=())
    return Shard(replace(protocol, layout=layout), tuple(indices), tuple(rows))


def _numbers(rows: RowNumbers) -> NDArray[np.int64]:
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, slice) else rows.numpy()


def _evenly(rows: list[int]) -> slice | None:
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    even = all(b - a == step for a, b in pairwise(rows))
    return slice(rows[0], rows[-1] + 1, step) if even else None


def _take(payload: Payload, rows: RowNumbers) -> Payload:
    return Payload(payload.valid[rows], {name: plane[rows] for name, plane in payload.planes.items()})


def _rows_of(plane: Plane, rows: RowNumbers) -> Plane:
    return Plane(plane.name, plane.dtype, plane.row[..., rows]) if isinstance(plane.row, Tensor) else plane
