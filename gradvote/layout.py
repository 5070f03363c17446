"""Where each coordinate of each parameter stands: blocks, and groups of blocks of equal size.

A flat vector (d,) holds the coordinates in group order, so that each group is a view (B, n) of it: parts see full
rectangles. A block is at most `block_size` consecutive coordinates of one tensor; blocks are numbered in the order of
the parameters, and keep their numbers in a layout of some of the parameters (a bucket, a shard). The blocks of a group
also have units of zeros of one length (`unit_of`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradvote.core import UNITS, Units
from gradvote.ragged import Ragged, numbers, starts_of
from gradvote.staging import CPU


@dataclass(frozen=True)
class Piece:
    """`length` coordinates of parameter `param` from `start` on stand at `offset` of the flat vector."""

    param: int
    start: int
    length: int
    offset: int


@dataclass(frozen=True)
class Group:
    """Blocks of n coordinates each: their numbers, their parameters, and where they begin in the flat vector.

    `unit` is the length of their units of zeros, `phases` how far into one each begins (None: all begin with one).
    """

    n: int
    blocks: tuple[int, ...]
    owners: tuple[int, ...]
    offset: int
    unit: int = UNITS.length
    phases: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Coordinates of the group."""
        return self.n * len(self.blocks)

    @cached_property
    def params(self) -> frozenset[int]:
        """The parameters that have blocks here."""
        return frozenset(self.owners)

    @cached_property
    def block(self) -> Tensor:
        """The numbers of the blocks (B,) int64, on the CPU."""
        return self.block_on(CPU)

    @cached_property
    def units(self) -> Units:
        """The units of zeros of the blocks, on the CPU."""
        return self.units_on(CPU)

    def block_on(self, device: torch.device) -> Tensor:
        """The numbers of the blocks (B,) int64 on a device, where they are copied to once."""
        return self._placed(device)[0]

    def units_on(self, device: torch.device) -> Units:
        """The units of zeros of the blocks, for work on a device."""
        return self._placed(device)[1]

    def _placed(self, device: torch.device) -> tuple[Tensor, Units]:
        if device not in self._places:
            phase = None if self.phases is None else _on(self.phases, device)
            self._places[device] = _on(self.blocks, device), Units(self.unit, phase)
        return self._places[device]

    @cached_property
    def _places(self) -> dict[torch.device, tuple[Tensor, Units]]:
        return {}

    def some(self, rows: Sequence[int], offset: int) -> "Group":
        """The blocks of some rows, beginning at `offset` of another flat vector."""
        blocks, owners = (tuple(of[i] for i in rows) for of in (self.blocks, self.owners))
        phases = None if self.phases is None else tuple(self.phases[i] for i in rows)
        return Group(self.n, blocks, owners, offset, self.unit, phases)


@dataclass(frozen=True)
class Layout:
    """The layout of tensors of `numels` coordinates, in blocks of `block_size` (None: whole tensors).

    `units` are the lengths of their units of zeros.
    """

    numels: tuple[int, ...]
    units: tuple[int, ...]
    block_size: int | None
    params: tuple[int, ...]
    groups: tuple[Group, ...]
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """d, the number of coordinates."""
        return sum(group.size for group in self.groups)

    @cached_property
    def ragged(self) -> Ragged:
        """All blocks as rows of unequal length, in the order of the flat vector."""
        groups = self.groups
        return Ragged(
            numbers([g.n for g in groups for _ in g.blocks]),
            numbers([b for g in groups for b in g.blocks]),
            numbers([o for g in groups for o in g.owners]),
            numbers([g.unit for g in groups for _ in g.blocks]),
            numbers([p for g in groups for p in g.phases or (-1,) * len(g.blocks)]),
            starts_of(numbers([len(g.blocks) for g in groups])),
        )

    def views(self, flat: Tensor) -> list[Tensor]:
        """The groups of a flat vector (..., d) as views (..., B, n)."""
        if len(self.groups) == 1:
            return [flat.view(*flat.shape[:-1], len(self.groups[0].blocks), self.groups[0].n)]
        lead = flat.shape[:-1]
        return [flat[..., g.offset : g.offset + g.size].view(*lead, len(g.blocks), g.n) for g in self.groups]

    def flatten(self, tensors: Sequence[Tensor], out: Tensor) -> Tensor:
        """Copy the tensors of `params`, in their order, into the flat vector `out` (d,)."""
        copy(self.split(out), self.pieces_of([x.detach().reshape(-1) for x in tensors]))
        return out

    def unflatten(self, flat: Tensor, out: Sequence[Tensor]) -> None:
        """Copy the flat vector (d,) into the tensors `out`, one for each of `params`, in whatever memory format."""
        whole = [x if x.is_contiguous() else torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in out]
        copy(self.pieces_of([x.view(-1) for x in whole]), self.split(flat))
        for x, own in zip(out, whole, strict=True):
            if own is not x:
                x.copy_(own)

    def split(self, flat: Tensor) -> Sequence[Tensor]:
        """The pieces in a flat vector (d,), as views: one call of torch for all."""
        views: Sequence[Tensor] = torch.split(flat, [p.length for p in self.pieces])
        return views

    def pieces_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The pieces in the tensors (numel,) of `params`, as views."""
        place = {param: i for i, param in enumerate(self.params)}
        wholes = [(p, tensors[place[p.param]]) for p in self.pieces]
        return [x if p.length == len(x) else x[p.start : p.start + p.length] for p, x in wholes]

    def subset(self, params: Sequence[int]) -> "Layout":
        """The layout of some of the parameters; blocks keep their numbers."""
        return _arrange(self.numels, self.units, self.block_size, tuple(params))


def copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target: on a card in a few launches, not in one for each."""
    if targets:
        torch._foreach_copy_(list(targets), list(sources))


def unit_of(shape: Sequence[int]) -> int:
    """The length of the units of zeros of a tensor: 64 where no row is cut by that, else a row (a slice along axis 0).

    Of a tensor without rows, with at most one axis, they are 64 coordinates.
    """
    row = math.prod(shape[1:]) if len(shape) > 1 else 0
    return row if row % UNITS.length else UNITS.length


def layout_of(numels: Sequence[int], block_size: int | None, units: Sequence[int] | None = None) -> Layout:
    """The layout of tensors with these numbers of elements, and with units of zeros of these lengths (`unit_of`).

    Raises:
        ValueError: `block_size` is not positive.
    """
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, or None for whole tensors; got {block_size}.")
    own = (UNITS.length,) * len(numels) if units is None else tuple(units)
    return _arrange(tuple(numels), own, block_size, tuple(range(len(numels))))


def _on(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.int64, device=device)


def _arrange(
    numels: tuple[int, ...], units: tuple[int, ...], block_size: int | None, params: tuple[int, ...]
) -> Layout:
    runs = _runs_by_kind(numels, units, block_size, params)
    groups, pieces, offset = [], [], 0
    for n, unit in sorted(runs, key=lambda kind: (-kind[0], kind[1])):
        blocks, owners, phases, start_of_group = list[int](), list[int](), list[int](), offset
        for param, start, first_block, count in runs[n, unit]:
            blocks += range(first_block, first_block + count)
            owners += [param] * count
            phases += [(start + n * i) % unit for i in range(count)]
            pieces.append(Piece(param, start, n * count, offset))
            offset += n * count
        cut = block_size is not None and block_size % unit != 0
        groups.append(Group(n, tuple(blocks), tuple(owners), start_of_group, unit, tuple(phases) if cut else None))
    return Layout(numels, units, block_size, params, tuple(groups), tuple(pieces))


def _runs_by_kind(
    numels: tuple[int, ...], units: tuple[int, ...], block_size: int | None, params: tuple[int, ...]
) -> dict[tuple[int, int], list[tuple[int, int, int, int]]]:
    """By block size and unit: (parameter, first coordinate, first block number, number of blocks) of each run."""
    chosen, runs, number = set(params), dict[tuple[int, int], list[tuple[int, int, int, int]]](), 0
    for param, (numel, unit) in enumerate(zip(numels, units, strict=True)):
        size = min(block_size or numel, numel)
        full, tail = divmod(numel, size) if size else (0, 0)
        if param in chosen and full:
            runs.setdefault((size, unit), []).append((param, 0, number, full))
        if param in chosen and tail:
            runs.setdefault((tail, unit), []).append((param, full * size, number + full, 1))
        number += full + bool(tail)
    return runs
